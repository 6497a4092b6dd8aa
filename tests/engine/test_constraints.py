from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    ForcedBOSTokenLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from paddock.engine.constraints import Constraints

SIZE = 12
ENDS = (2,)


def ours(constraints: Constraints, prompt: list[int], written: list[int], left: int = 99) -> torch.Tensor:
    scores = torch.arange(SIZE, dtype=torch.float32) + 1
    constraints.apply(scores, prompt, written, ENDS, left)
    return scores


def theirs(processor: Any, text: list[int]) -> torch.Tensor:
    return processor(torch.tensor([text]), torch.arange(SIZE, dtype=torch.float32)[None] + 1)[0]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_no_repeat_ngram_equals_transformers(size: int) -> None:
    for seed in range(30):
        text = torch.randint(0, 4, (seed + 1,), generator=torch.Generator().manual_seed(seed)).tolist()
        reference = theirs(NoRepeatNGramLogitsProcessor(size), text)
        for cut in (0, len(text) // 2, len(text)):
            mine = ours(Constraints(no_repeat_ngram_size=size), text[:cut], text[cut:])
            assert torch.equal(mine, reference), text


def test_bad_words_equal_transformers() -> None:
    words = [[4], [1, 3], [3, 3, 5], [0, 1, 2, 6]]
    rules = Constraints(bad_words=tuple(map(tuple, words)))
    for text in ([1], [3, 3], [0, 1, 2], [1, 3, 3], [2, 0, 1, 2], [5]):
        reference = theirs(NoBadWordsLogitsProcessor(words, eos_token_id=None), text)
        assert torch.equal(ours(rules, text[:1], text[1:]), reference), text


def test_suppressed_and_minimum_equal_transformers() -> None:
    assert torch.equal(ours(Constraints(banned=(3, 5)), [1], []), theirs(SuppressTokensLogitsProcessor([3, 5]), [1]))
    begin = SuppressTokensAtBeginLogitsProcessor([6, 7], begin_index=1)
    rules = Constraints(begin_suppress_tokens=(6, 7))
    assert torch.equal(ours(rules, [1], []), theirs(begin, [1]))
    assert torch.equal(ours(rules, [1], [4]), theirs(begin, [1, 4]))
    minimum = MinNewTokensLengthLogitsProcessor(1, 2, 2, device="cpu")
    for written in ([], [4], [4, 4]):
        assert torch.equal(ours(Constraints(min_new_tokens=2), [1], written), theirs(minimum, [1, *written]))


def test_forced_tokens_are_certain() -> None:
    first = ours(Constraints(forced_bos_token_id=9), [1], [])
    assert torch.equal(first, theirs(ForcedBOSTokenLogitsProcessor(9), [1]))
    assert ours(Constraints(forced_bos_token_id=9), [1], [4])[0] == 1
    last = ours(Constraints(forced_eos_token_id=2, banned=(2,)), [1], [4], left=1)
    assert last[2] == 0 and last.isinf().sum() == SIZE - 1
    assert not ours(Constraints(forced_eos_token_id=2), [1], [4], left=2).isinf().any()


def test_rows_without_a_token_are_never_written() -> None:
    assert ours(Constraints(vocabulary=10), [1], []).isinf().tolist() == [False] * 10 + [True] * 2
    assert not ours(Constraints(vocabulary=50), [1], []).isinf().any()
    assert ours(Constraints(holes=(4, 7)), [1], []).isinf().nonzero().flatten().tolist() == [4, 7]
