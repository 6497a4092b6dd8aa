"""How like its references a generated text is: BLEU, chrF and ROUGE.

BLEU (Papineni et al. 2002, corpus level, up to 4 words, exponential smoothing as NIST's mteval-v13a) and chrF (Popovic
2015, characters 1 to 6, beta 2) are counted as sacrebleu counts them, ROUGE (Lin 2004) as the rouge-score package does
on ASCII. ROUGE's words are those of any script: writing without spaces counts by characters, so that Chinese does not
come to 0. No stemming anywhere.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from paddock.errors import DataError, UsageError

LONGEST = 100_000  # characters of a text: what is counted of one stays within seconds and a few hundred MiB
ORDER, CHARACTERS, BETA = 4, 6, 2.0
IDEOGRAPHIC = 0.3  # the share of texts' signs from which on they are taken for Chinese or Japanese

Tokenization = Literal["13a", "zh", "none"]
References = Sequence[Sequence[str]]  # the references of each output, one or more


@dataclass(frozen=True)
class Bleu:
    """score: 0 to 100. precisions: of 1 to 4 words, in percent, smoothed. brevity: 1, or less for outputs too short
    together. words, reference_words: how many there are."""

    score: float
    precisions: tuple[float, ...]
    brevity: float
    words: int
    reference_words: int


@dataclass(frozen=True)
class Rouge:
    """F1 in percent, the mean over texts: of words, of pairs of words, of the longest common subsequence."""

    rouge1: float
    rouge2: float
    rouge_l: float


def bleu(outputs: Sequence[str], references: References, tokenization: Tokenization = "13a") -> Bleu:
    """Corpus BLEU. tokenization: `13a` for texts with spaces; `zh` puts them around each ideograph first; `none`: the
    texts are words with spaces between them already. With several references the length next to the output's counts.

    Raises UsageError where outputs and references do not go together, DataError for a text over LONGEST characters.
    """
    _check(outputs, references)
    words_of = TOKENIZATIONS[tokenization]
    words = reference_words = 0
    right, all_ = [0] * ORDER, [0] * ORDER
    for output, some in zip(outputs, references, strict=True):
        said, meant = words_of(output), [words_of(text) for text in some]
        words += len(said)
        reference_words += min((len(text) for text in meant), key=lambda n: (abs(n - len(said)), n))
        for n in range(ORDER):
            found, most = _grams(said, n + 1), Counter[Hashable]()
            for text in meant:
                most |= _grams(text, n + 1)
            all_[n] += sum(found.values())
            right[n] += _common(found, most)
    brevity = 1.0 if words >= reference_words else math.exp(1 - reference_words / words) if words else 0.0
    precisions = _smoothed(right, all_)
    product = math.prod(share / 100 for share in precisions)
    score = 100 * brevity * product ** (1 / ORDER) if any(right) else 0.0
    return Bleu(score, precisions, brevity, words, reference_words)


def chrf(outputs: Sequence[str], references: References) -> float:
    """Corpus chrF, 0 to 100: n-grams of characters without white space, counted over all texts together. Of several
    references the one that fits an output best counts. Raises what `bleu` raises."""
    _check(outputs, references)
    totals = [(0, 0, 0)] * CHARACTERS
    for output, some in zip(outputs, references, strict=True):
        counts = [_matches(output, text) for text in some]
        best = max(counts, key=_f_score)
        totals = [(a + x, b + y, c + z) for (a, b, c), (x, y, z) in zip(totals, best, strict=True)]
    return _f_score(totals)


def rouge(outputs: Sequence[str], references: References) -> Rouge:
    """ROUGE-1, ROUGE-2 and ROUGE-L; of several references each takes its best. Raises what `bleu` raises."""
    _check(outputs, references)
    sums = [0.0, 0.0, 0.0]
    for output, some in zip(outputs, references, strict=True):
        said = words(output)
        each = [_rouge(said, words(text)) for text in some]
        sums = [total + max(scores) for total, scores in zip(sums, zip(*each, strict=True), strict=True)]
    count = max(1, len(outputs))
    return Rouge(*(100 * total / count for total in sums))


def words(text: str) -> list[str]:
    """A text's words in lower case: letters, digits and their marks; of scripts without spaces each character."""
    return text.lower().translate(_SPACED).split()


def sentences(text: str) -> list[str]:
    """The text in sentences, blanks between them left out; none where there is nothing but blanks.

    A full stop ends one where white space and no lower-case letter follows, but not behind a single letter
    ("J. Smith"), "al" or "vs".
    """
    ends = [found.end() for found in _STOP.finditer(text)]
    cut = [text[start:end].strip() for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [sentence for sentence in cut if sentence]


def first_sentence(text: str) -> str:
    """The text to the end of its first sentence: the baseline of summaries."""
    return next(iter(sentences(text)), "")


def tokenization_of(references: Sequence[str]) -> Tokenization:
    """How BLEU is to find words in such texts: `zh` where many of their signs are ideographs or kana, else `13a`."""
    signs = ideographs = 0
    for text in references:
        written = "".join(text.split())
        signs += len(written)
        ideographs += sum("\u3040" <= sign <= "\u30ff" or "\u3400" <= sign <= "\u9fff" for sign in written)
    return "zh" if signs and ideographs / signs > IDEOGRAPHIC else "13a"


def common_subsequence(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """The length of the longest common subsequence, exactly.

    A row of the usual table differs from the row before in steps of 0 and 1: as bits of one integer a row is four
    operations (Hyyro 2004), 64 columns at a time, so that 10,000 words by 10,000 take a part of a second.
    """
    places: dict[Hashable, int] = {}
    for at, item in enumerate(one):
        places[item] = places.get(item, 0) | 1 << at
    full = (1 << len(one)) - 1
    row = full
    for item in other:
        met = row & places.get(item, 0)
        row = (row + met) | (row - met)
        row &= full
    return len(one) - row.bit_count()


def words_13a(text: str) -> list[str]:
    """NIST's mteval-v13a: marks apart from words, stops and commas too but for those between digits."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, sign in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
        text = text.replace(entity, sign)
    return _apart(f" {text} ")


def words_zh(text: str) -> list[str]:
    """The same, with spaces around every character of Chinese writing first."""
    return _apart("".join(f" {sign} " if _ideographic(sign) else sign for sign in text.strip()))


TOKENIZATIONS: dict[str, Callable[[str], list[str]]] = {"13a": words_13a, "zh": words_zh, "none": str.split}

_STOP = re.compile(
    r"(?<![.!?])(?<![\s.]\w)(?<!\A\w)(?<!\bal)(?<!\bvs)[.!?]++[\"')\]”’]*+(?=\s++(?![a-z])|\s*+\Z)"
    r"|[。！？]++[”’」』）]*+"
)
_RULES = (
    (re.compile(r'([\x20-\x26"()*+/:;<=>?@\[\\\]^_`{|}~])'), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
# What the `zh` tokenization takes for Chinese writing. The first range is wider than it should be (arrows, dashes and
# quotation marks are in it) and ideographs beyond U+FFFF are in none: so counts the reference, and so must we.
_IDEOGRAPHS = (
    (0x2001, 0x2A6D), (0x2E80, 0x2FDF), (0x2FF0, 0x303F), (0x3100, 0x312F), (0x31A0, 0x31BF), (0x31C0, 0x31EF),
    (0x3200, 0x33FF), (0x3400, 0x4DB5), (0x4E00, 0x9FBB), (0xF900, 0xFA2D), (0xFA30, 0xFA6A), (0xFA70, 0xFAD9),
    (0xFE10, 0xFE1F), (0xFE30, 0xFE4F), (0xFF00, 0xFFEF),
)  # fmt: skip
# Writing without spaces between words: Thai to Khmer, kana, ideographs.
_UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3040, 0x30FF),
    (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x3FFFF),
)  # fmt: skip


class _Spaced(dict[int, str]):
    """For str.translate: what is of a word stays, characters of writing without spaces stand alone, else a space."""

    def __missing__(self, point: int) -> str:
        sign = chr(point)
        if unicodedata.category(sign)[0] not in "LNM":
            found = " "
        elif any(first <= point <= last for first, last in _UNSPACED):
            found = f" {sign} "
        else:
            found = sign
        self[point] = found
        return found


_SPACED = _Spaced()


def _apart(text: str) -> list[str]:
    for pattern, spaced in _RULES:
        text = pattern.sub(spaced, text)
    return text.split()


def _ideographic(sign: str) -> bool:
    return any(first <= ord(sign) <= last for first, last in _IDEOGRAPHS)


def _smoothed(right: Sequence[int], all_: Sequence[int]) -> tuple[float, ...]:
    """Precisions in percent; each that is 0 counts as half of one match, the next as a quarter, and so on. 0 from the
    first order on that no output is long enough for."""
    found, half = [0.0] * ORDER, 1.0
    for n, (matched, total) in enumerate(zip(right, all_, strict=True)):
        if not any(right) or not total:
            break
        if not matched:
            half /= 2
        found[n] = 100 * (matched or half) / total
    return tuple(found)


def _grams(items: Sequence[Hashable], n: int) -> Counter[Hashable]:
    return Counter(zip(*(items[at:] for at in range(n)), strict=False))


def _common(one: Counter[Hashable], other: Counter[Hashable]) -> int:
    return sum(min(count, other[gram]) for gram, count in one.items() if gram in other)


def _matches(output: str, reference: str) -> list[tuple[int, int, int]]:
    """For each length of n-grams: how many the output has, the reference, and both."""
    said, meant = ("".join(text.split()) for text in (output, reference))
    found = []
    for n in range(1, CHARACTERS + 1):
        ours, theirs = (
            Counter[Hashable](text[at : at + n] for at in range(len(text) - n + 1)) for text in (said, meant)
        )
        # n-grams of an output count for nothing where its reference is too short to have any
        found.append((ours.total() if theirs else 0, theirs.total(), _common(ours, theirs)))
    return found


def _f_score(counts: Sequence[tuple[int, int, int]]) -> float:
    """Precision and recall, each the mean over the lengths that both sides have, as one number in percent."""
    shares = [(both / said, both / meant) for said, meant, both in counts if said and meant]
    if not shares:
        return 0.0
    precision, recall = (sum(each) / len(shares) for each in zip(*shares, strict=True))
    weight = BETA**2
    return 100 * (1 + weight) * precision * recall / (weight * precision + recall) if precision + recall else 0.0


def _rouge(said: Sequence[str], meant: Sequence[str]) -> Iterator[float]:
    """F1 of words, of pairs of words, of the longest common subsequence."""
    for n in (1, 2):
        ours, theirs = _grams(said, n), _grams(meant, n)
        yield _f1(_common(ours, theirs), ours.total(), theirs.total())
    yield _f1(common_subsequence(said, meant), len(said), len(meant))


def _f1(both: int, said: int, meant: int) -> float:
    return 2 * both / (said + meant) if both else 0.0


def _check(outputs: Sequence[str], references: References) -> None:
    if len(outputs) != len(references):
        raise UsageError(f"{len(outputs)} outputs and references of {len(references)}", expected="as many of both")
    for number, (output, some) in enumerate(zip(outputs, references, strict=True), 1):
        if not some:
            raise UsageError(f"output {number} has no reference", expected="one or more")
        for text in (output, *some):
            if len(text) > LONGEST:
                raise DataError(
                    f"text {number} has {len(text):,} characters",
                    expected=f"at most {LONGEST:,}",
                    fix="score parts of it",
                )
