"""The formulas of scale: against models that are built, against sums by hand, and the page made of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scale_page import LENGTH, MODELS, PAGE, filled

from paddock.kernels.reference import LOGITS_AT_ONCE
from paddock.model.families import describe
from paddock.training.scale import (
    LOGITS,
    Piece,
    Sharing,
    active_parameters,
    flops_per_token,
    memory,
    multiplied,
    parameters,
    seconds,
    traffic,
)

sys.path.append(str(Path(__file__).parent.parent / "model"))
from published import SIZES

T5 = {
    "model_type": "t5", "vocab_size": 100, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0, "relative_attention_num_buckets": 8,
}  # fmt: skip


def test_the_page_is_what_the_formulas_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page) == page


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_parameters_are_those_of_the_published_sizes(size: object) -> None:
    assert parameters(describe(size.config)) == size.parameters  # type: ignore[attr-defined]


def test_of_a_mixture_the_experts_that_are_not_asked_are_idle() -> None:
    """Mixtral sends a token to two of eight; a model without experts has none that are idle."""
    (mixtral,) = (describe(size.config) for size in SIZES if size.config["model_type"] == "mixtral")
    assert active_parameters(mixtral) == 12_879_925_248 == parameters(mixtral) - 32 * 6 * 3 * 4096 * 14336
    assert active_parameters(describe(T5)) == parameters(describe(T5))


def test_parameters_of_an_encoder_decoder() -> None:
    attention, feed, norm = 4 * 32 * 32, 2 * 32 * 64, 32
    stack = 2 * (attention + feed + 2 * norm) + norm + 8 * 4
    assert parameters(describe(T5)) == 100 * 32 + 2 * stack + 2 * (attention + norm)


def test_operations_of_a_token_by_hand() -> None:
    """7 B: the matrices are all but table and norms; on average half of the texts' keys are seen."""
    seven = MODELS["7 B"]
    assert multiplied(seven) == 6_738_415_616 - 32000 * 4096 - 65 * 4096
    assert flops_per_token(seven, LENGTH) == 6 * multiplied(seven) + 12 * 32 * 4096 * (LENGTH + 1) / 2


def test_operations_know_windows_experts_and_encoders() -> None:
    mistral = {"model_type": "mistral", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
               "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50, "sliding_window": 4}  # fmt: skip
    matrices = 50 * 32 + 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64
    assert flops_per_token(describe(mistral), 8) == 6 * matrices + 12 * 32 * (1 + 2 + 3 + 4 * 5) / 8
    experts = {**mistral, "model_type": "mixtral", "sliding_window": None, "num_local_experts": 8}
    assert multiplied(describe(experts)) == matrices + 3 * 32 * 64 + 8 * 32  # two of eight, and the router
    one = 6 * (100 * 32 + 2 * (4 * 32 * 32 + 2 * 32 * 64 + 2 * 32 * 32))  # the decoder; keys of the source apart
    seen = 2 * 12 * 32 * 9 / 2 + 2 * (6 * 2 * 32 * 32 * 4 / 8 + 12 * 32 * 4)
    encoder = (6 * 2 * (4 * 32 * 32 + 2 * 32 * 64) + 2 * 12 * 32 * 4) * 4 / 8
    assert flops_per_token(describe(T5), 8, source=4) == one + seen + encoder


def test_memory_and_messages_by_hand() -> None:
    seven, piece = MODELS["7 B"], Piece(1, LENGTH)
    assert memory(seven, Sharing(64), piece).state == 16 * 6_738_415_616 / 64
    assert memory(seven, Sharing(64, shards=False), piece).state == 16 * 6_738_415_616
    assert traffic(seven, Sharing(64, shards=False), piece, 4).data == pytest.approx(2 * 63 / 64 * 4 * 6_738_415_616)
    cut = 6_738_415_616 - 65 * 4096  # all matrices, table and head; not the norms
    held = 6_738_415_616 - cut * 7 / 8
    assert memory(seven, Sharing(8, tensor=8), piece).state == pytest.approx(16 * held)
    sums = traffic(seven, Sharing(8, tensor=8), piece, 3)
    assert sums.data == 0
    assert sums.tensor == pytest.approx(3 * (32 * 6 + 2) * 2 * 7 / 8 * 2 * LENGTH * 4096)
    kept = memory(seven, Sharing(64), Piece(1, LENGTH, recompute=False)).activations
    assert kept > 10 * memory(seven, Sharing(64), piece).activations
    assert LOGITS == 3 * 4 * LOGITS_AT_ONCE


def test_time_is_work_over_speed() -> None:
    seven = MODELS["7 B"]
    assert seconds(seven, LENGTH, 1e6, 8, 1e14, 0.5) == pytest.approx(flops_per_token(seven, LENGTH) * 1e6 / 4e14)
