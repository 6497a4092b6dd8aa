"""BLEU and chrF as sacrebleu counts them, ROUGE as rouge-score does; any script, any length."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from paddock.errors import DataError, UsageError
from paddock.training.scores import texts
from paddock.training.scores.texts import LONGEST, bleu, chrf, first_sentence, rouge, words

ODD = [
    "", "  ", "....", "- - -", ",1,2,,3", "&quot;a&amp;b&lt;c&gt; &amp;lt;", "1,000.5 - 3-4 x.y", "a-\nb c",
    "<skipped>x", "“quotes” — dash…", "中文 text, 3.5%!", "𠀀𠀁好", "Ａｂｃ１２", "don't stop.", "€5.00 £3 #tag @u $5",
    "\u2028 x \x85 y",
]  # fmt: skip


def equal(outputs: list[str], *references: list[str]) -> float:
    """Against sacrebleu, in every tokenization; gives BLEU."""
    each = [list(some) for some in zip(*references, strict=True)]
    for name in ("none", "zh", "13a"):
        ours = bleu(outputs, each, name)  # type: ignore[arg-type]
        theirs = sacrebleu.corpus_bleu(outputs, list(references), tokenize=name)
        assert ours.score == pytest.approx(theirs.score, abs=1e-9), name
        assert ours.precisions == pytest.approx(theirs.precisions, abs=1e-9)
        assert (ours.words, ours.reference_words) == (theirs.sys_len, theirs.ref_len)
    assert chrf(outputs, each) == pytest.approx(sacrebleu.corpus_chrf(outputs, list(references)).score, abs=1e-9)
    return ours.score


def test_bleu_and_chrf_of_odd_texts() -> None:
    for one in ODD:
        for other in ODD:
            equal([one], [other])
    equal(ODD, ODD[::-1])
    equal(ODD, ODD[1:] + ODD[:1], ODD[2:] + ODD[:2])
    assert bleu([], []).score == chrf([], []) == 0


def test_bleu_and_chrf_of_real_translations(shared_data: Path) -> None:
    german = (shared_data / "text/multi30k/val.de").read_text(encoding="utf-8").splitlines()[:80]
    english = (shared_data / "text/multi30k/val.en").read_text(encoding="utf-8").splitlines()[:80]
    chance = random.Random(1)
    near = [" ".join(word for word in line.split() if chance.random() < 0.9) for line in german]
    assert 60 < equal(near, german) < 95
    assert equal(near, german) > equal(near, english)
    equal(near, german, english)  # two references
    chinese = (shared_data / "text/zh_xiyouji.txt").read_text(encoding="utf-8").splitlines()[100:115]
    equal(chinese[1:], chinese[:-1])
    assert bleu([line[:-1] for line in chinese], [[line] for line in chinese], "zh").score > 50


def test_rouge_of_ascii(shared_data: Path) -> None:
    english = (shared_data / "text/multi30k/val.en").read_text(encoding="utf-8").splitlines()
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    pairs = [*pairwise(english[:100]), ("a_b c-d 1.5", "a b d 1 5"), ("", "x"), ("B A", "a b")]
    for output, reference in pairs:
        if output.isascii() and reference.isascii():
            ours, theirs = rouge([output], [[reference]]), scorer.score(reference, output)
            found = [theirs[name].fmeasure * 100 for name in ("rouge1", "rouge2", "rougeL")]
            assert [ours.rouge1, ours.rouge2, ours.rouge_l] == pytest.approx(found, abs=1e-9)
    best = scorer.score_multi(["a b c", "c b"], "c b a")
    ours = rouge(["c b a", "c b a"], [["a b c", "c b"]] * 2)
    assert [ours.rouge1, ours.rouge2, ours.rouge_l] == pytest.approx(
        [best[name].fmeasure * 100 for name in ("rouge1", "rouge2", "rougeL")]
    )


def test_rouge_of_any_script() -> None:
    """The tokenizer of rouge-score drops all that is no ASCII, and comes to 0."""
    assert RougeScorer(["rouge1"]).score("我喜欢狗", "我喜欢猫")["rouge1"].fmeasure == 0
    found = rouge(["我喜欢猫"], [["我喜欢狗"]])
    assert (found.rouge1, found.rouge2, found.rouge_l) == pytest.approx((75, 200 / 3, 75))
    assert words("Grüße, नमस्ते — 中国A1 ไทย Ёлка") == ["grüße", "नमस्ते", "中", "国", "a1", "ไ", "ท", "ย", "ёлка"]
    assert rouge([], []).rouge1 == 0


def test_the_longest_common_subsequence_by_bits() -> None:
    chance = random.Random(3)
    for _ in range(60):
        one, other = ([chance.randrange(4) for _ in range(chance.randrange(80))] for _ in range(2))
        table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
        for i, a in enumerate(one):
            for j, b in enumerate(other):
                table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
        assert texts.common_subsequence(one, other) == table[-1][-1]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("J. Smith et al. (2016) did it. Then x.", "J. Smith et al. (2016) did it."),
        ("It is 3.5 i.e. more. So", "It is 3.5 i.e. more."),
        ("A cat? No.", "A cat?"),
        ("他说：“好。”然后走了。", "他说：“好。”"),
        ("no end", "no end"),
        (" ... ", "..."),
        ("", ""),
    ],
)
def test_the_first_sentence(text: str, first: str) -> None:
    assert first_sentence(text) == first


@pytest.mark.parametrize(
    ("count", "sign"),
    [
        (lambda text: rouge([text], [[text[::-1]]]), "中国"),
        (lambda text: bleu([text], [[text[::-1]]]), "."),
        (lambda text: chrf([text], [[text[::-1]]]), "ab"),
        *((first_sentence, sign) for sign in (".", ". ", " ", '."', ". a")),
    ],
)
def test_hostile_texts_take_seconds_at_most(count: Callable[[str], object], sign: str) -> None:
    started = time.process_time()
    count((sign * LONGEST)[: LONGEST // 2] + "x")
    assert time.process_time() - started < 5


def test_what_cannot_be_scored() -> None:
    with pytest.raises(UsageError, match="2 outputs and references of 1"):
        bleu(["a", "b"], [["a"]])
    with pytest.raises(UsageError, match="output 2 has no reference"):
        chrf(["a", "b"], [["a"], []])
    with pytest.raises(DataError, match="100,001 characters"):
        rouge(["a"], [["a" * (LONGEST + 1)]])
