"""Texts as words with their counts: what every trainer starts from."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import tokenizers
from tokenizers import pre_tokenizers

from paddock.errors import DataError
from paddock.tokenizer.files import guarded
from paddock.tokenizer.pretokenizers import PreTokenizer

AT_ONCE = 2**16  # characters cut into words at once
_BREAK = re.compile(r"(?<=\S)\n(?=\S)")  # here no way of cutting words looks across

Progress = Callable[[str, int, int], None]


def quiet(what: str, done: int, total: int) -> None:
    """No progress told."""


def count_words(texts: Iterable[str], way: PreTokenizer, specials: Iterable[str] = ()) -> Counter[str]:
    """How often each word of byte-level BPE stands in `texts`, which are cut at `specials` first."""
    pattern = re.compile("|".join(map(re.escape, sorted(specials, key=len, reverse=True))) or r"(?!)")
    splits = [
        pre_tokenizers.Split(tokenizers.Regex(regex), behavior="isolated", invert=False) for regex in way.patterns
    ]
    cut = splits[0] if len(splits) == 1 else pre_tokenizers.Sequence(splits)
    counts: Counter[str] = Counter()
    for text in texts:
        for part in pattern.split(unicodedata.normalize("NFC", text) if way.nfc else text):
            for piece in short(part):
                with guarded("a text cannot be cut into words"):
                    counts.update(word for word, _ in cut.pre_tokenize_str(piece))
    return counts


def count_bert_words(
    texts: Iterable[str], lowercase: bool, split_chinese: bool, specials: Iterable[str]
) -> Counter[str]:
    """How often each of BERT's words stands in `texts`: at blanks and punctuation, each ideograph one."""
    pattern = re.compile("|".join(map(re.escape, sorted(specials, key=len, reverse=True))) or r"(?!)")
    rewrite = tokenizers.normalizers.BertNormalizer(True, split_chinese, None, lowercase)
    cut = pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        for part in pattern.split(text):
            for piece in short(part):
                with guarded("a text cannot be cut into words"):
                    counts.update(word for word, _ in cut.pre_tokenize_str(rewrite.normalize_str(piece)))
    return counts


def short(text: str) -> Iterator[str]:
    """A long text in parts, cut at line breaks where that changes no word."""
    start = 0
    while len(text) - start > AT_ONCE:
        match = _BREAK.search(text, start + AT_ONCE)
        if match is None:
            break
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]


def common_characters(words: Counter[str], coverage: float) -> list[str]:
    """The characters that make up `coverage` of the words' text, the most frequent first (of equals the lower)."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    total, seen, kept = sum(counts.values()), 0, []
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if seen >= coverage * total:
            break
        kept.append(character)
        seen += count
    return kept


def some_text(words: Counter[str]) -> Counter[str]:
    """`words`, refused where there are none."""
    if not words:
        raise DataError("there is no text to learn a vocabulary from", fix="name files that hold some")
    return words
