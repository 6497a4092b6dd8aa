from __future__ import annotations

from typing import Any

import pytest
import torch

from paddock.engine.request import Request, planned_length, stop_strings, token_ids
from paddock.errors import ContextLengthError, UsageError


def test_what_is_asked_is_kept_or_refused() -> None:
    assert planned_length(10, 5, 15) == 5
    with pytest.raises(ContextLengthError, match="10 tokens and 6 new ones") as refusal:
        planned_length(10, 6, 15)
    assert "15" in str(refusal.value.expected) and "at most 5" in str(refusal.value.fix)


def test_unasked_it_is_what_fits_up_to_a_bound() -> None:
    assert planned_length(10, None, 15) == 5
    assert planned_length(10, None, 5000) == 256
    assert planned_length(10, None, 5000, usual=1000) == 1000
    assert planned_length(10, None, 500, usual=1000) == 490
    assert planned_length(10, None, None) == 256


@pytest.mark.parametrize("prompt", [15, 16, 10**9])
def test_a_prompt_that_fills_the_context_is_refused(prompt: int) -> None:
    with pytest.raises(ContextLengthError, match="shorten the prompt"):
        planned_length(prompt, None, 15)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "5", 2**40, float("nan")])
def test_senseless_lengths_are_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="max_new_tokens"):
        planned_length(1, value, 100)
    with pytest.raises(UsageError, match="max_new_tokens"):
        Request((1,), value)


@pytest.mark.parametrize("value", [-1, 21, True, 2.0, "3"])
def test_senseless_logprobs_are_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="logprobs"):
        Request((1,), 5, logprobs=value)


@pytest.mark.parametrize("ids", [[], "text", b"bytes", 5, [1.0], [True], ["1"], [None], [[1]], [-1], [97], [2**70]])
def test_ids_that_are_none_are_refused(ids: Any) -> None:
    with pytest.raises(UsageError, match="the prompt"):
        token_ids(ids, 97)


def test_ids_in_every_container() -> None:
    for ids in ([1, 2], (1, 2), torch.tensor([1, 2]), list(torch.tensor([1, 2]).numpy())):
        assert token_ids(ids, 97) == (1, 2)


def test_stop_strings() -> None:
    assert stop_strings(None) == ()
    assert stop_strings("a") == ("a",)
    assert stop_strings(["b", "a", "b"]) == ("b", "a")
    for wrong in (5, [5], [""], ["x" * 1025], [str(i) for i in range(17)], {"a": 1}, b"a"):
        with pytest.raises(UsageError, match=r"stop"):
            stop_strings(wrong)  # type: ignore[arg-type]
