"""Who sees whom, as small tables: rows are queries, columns are keys, # is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from paddock.model.cache import Cache
from paddock.model.spec import (
    Alibi,
    Architecture,
    Attention,
    Block,
    Causal,
    FeedForward,
    Full,
    Head,
    LayerNorm,
    Mask,
    Prefix,
)
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.model.visibility import Visibility, self_visibility

PLAIN = Attention(2, 2, 4)
WINDOW = replace(PLAIN, window=2)
BLOCK = Block(PLAIN, FeedForward(8, "relu", gated=False), LayerNorm(1e-5))
MADE = Architecture("x", 11, 8, 2, BLOCK, None, final_norm=LayerNorm(1e-5), head=Head(tied=True))


def seen(mask: Mask, attention: Attention, ids: Tensor, padding: Tensor | None = None, cached: int = 0) -> Visibility:
    a = replace(MADE, mask=mask)
    cache = Cache(a, len(ids), 16, torch.float32, "cpu")
    cache.length = cached
    step = Step.begin(a, ids, cache=cache, padding=padding)
    return self_visibility(mask, attention, step, torch.float32)


def drawn(visibility: Visibility, row: int = 0) -> list[str]:
    assert visibility.bias is not None and visibility.bias.dtype == torch.bool
    return ["".join(".#"[int(one)] for one in line) for line in visibility.bias[row % len(visibility.bias), 0]]


FOUR = torch.zeros(2, 4, dtype=torch.long)
LEFT = torch.tensor([[True] * 4, [False, False, True, True]])


@pytest.mark.parametrize(("mask", "causal"), [(Causal(), True), (Full(), False)])
def test_the_plain_cases_need_no_table(mask: Mask, causal: bool) -> None:
    assert seen(mask, PLAIN, FOUR) == Visibility(None, causal)
    assert seen(mask, replace(PLAIN, window=4), FOUR) == Visibility(None, causal)


def test_one_new_token_sees_all_there_is_without_a_table() -> None:
    assert seen(Causal(), PLAIN, FOUR[:, :1], cached=5) == Visibility(None, causal=False)


def test_a_later_piece_of_a_prompt_sees_the_earlier_ones() -> None:
    assert drawn(seen(Causal(), PLAIN, FOUR[:, :3], cached=2)) == ["###..", "####.", "#####"]


def test_a_window_counts_the_query_itself() -> None:
    assert drawn(seen(Causal(), WINDOW, FOUR)) == ["#...", "##..", ".##.", "..##"]
    assert drawn(seen(Causal(), WINDOW, FOUR[:, :1], cached=3)) == ["..##"]


def test_padding_is_seen_by_nobody_but_itself() -> None:
    """A row of nothing would be a softmax over nothing: not-a-number, which could spread."""
    assert drawn(seen(Causal(), PLAIN, FOUR, LEFT), 0) == ["#...", "##..", "###.", "####"]
    assert drawn(seen(Causal(), PLAIN, FOUR, LEFT), 1) == ["#...", ".#..", "..#.", "..##"]
    assert drawn(seen(Full(), PLAIN, FOUR, LEFT), 1) == ["#.##", ".###", "..##", "..##"]


def test_a_window_is_measured_in_tokens_not_in_padding() -> None:
    gap = torch.tensor([[True, True, False, True], [True] * 4])
    assert drawn(seen(Causal(), WINDOW, FOUR, gap), 0)[3] == ".#.#"
    assert drawn(seen(Causal(), WINDOW, FOUR, gap), 1)[3] == "..##"


def test_a_prefix_sees_itself_and_what_follows_is_causal() -> None:
    ids = torch.tensor([[5, 9, 10, 5]])
    assert drawn(seen(Prefix((9,), 10), PLAIN, ids)) == ["##..", "##..", "###.", "####"]


def test_penalties_carry_the_mask_as_the_least_number() -> None:
    """Anything milder would let a large enough score through."""
    visibility = seen(Causal(), replace(PLAIN, position=Alibi()), FOUR)
    assert visibility.bias is not None and not visibility.causal
    least = torch.finfo(torch.float32).min
    above = torch.ones(4, 4, dtype=torch.bool).triu(1)
    assert bool((visibility.bias[0, 0][above] == least).all())
    assert bool((visibility.bias[0, 0][~above] > -1).all())


def test_an_encoders_keys_and_values_are_computed_once() -> None:
    torch.manual_seed(0)
    encoder = replace(MADE, mask=Full(), head=None)
    model = Transformer(replace(MADE, block=replace(BLOCK, cross=PLAIN), encoder=encoder)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    a = model.architecture
    with torch.inference_mode():
        memory = model.encode(FOUR[:1])
        text = torch.tensor([[3, 4]])
        cache = Cache(a, 1, 8, torch.float32, "cpu")
        first = Step.begin(a, text[:, :1], cache=cache, memory=memory)
        model(text[:, :1], first)
        later = model(text[:, 1:], replace(first.next(a), memory=None))
        whole = model(text, Step.begin(a, text, memory=memory))
    assert torch.allclose(later[0, 0], whole[0, 1], atol=1e-6)
