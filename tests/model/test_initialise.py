"""First weights: each role's spread by its family's rule, and a seed's numbers always the same."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from paddock.checkpoint.weights import sketch
from paddock.errors import CheckpointError
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise

D, FF, LAYERS = 64, 256, 8
SIZES: dict[str, Any] = {
    "vocab_size": 500,
    "hidden_size": D,
    "intermediate_size": FF,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GPT2 = {"model_type": "gpt2", "vocab_size": 500, "n_embd": D, "n_layer": LAYERS, "n_head": 4, "n_positions": 64}
MPT = {"model_type": "mpt", "vocab_size": 500, "d_model": D, "n_layers": LAYERS, "n_heads": 4}
T5 = {"model_type": "t5", "vocab_size": 500, "d_model": D, "d_kv": 16, "d_ff": FF, "num_layers": LAYERS, "num_heads": 4}
GLM = {
    "model_type": "chatglm",
    "vocab_size": 500,
    "hidden_size": D,
    "inner_hidden_size": FF,
    "num_layers": LAYERS,
    "num_attention_heads": 4,
    "position_encoding_2d": True,
}
TRANSFORMER = {
    "model_type": "transformer",
    "vocab_size": 500,
    "d_model": D,
    "d_ff": FF,
    "encoder_layers": 2,
    "decoder_layers": LAYERS,
    "num_heads": 4,
}
RESIDUAL = 1 / math.sqrt(2 * LAYERS)


def weights(config: dict[str, Any], seed: int = 1, **how: Any) -> dict[str, Tensor]:
    model = initialise(blank(sketch(describe(config))), seed, config, **how)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


Q, OUT, UP, DOWN, TOKENS = (
    "blocks.1.attention.q.weight",
    "blocks.1.attention.out.weight",
    "blocks.1.feedforward.up.weight",
    "blocks.1.feedforward.down.weight",
    "embedding.tokens.weight",
)


@pytest.mark.parametrize(
    "config, expected",
    [
        (GPT2, {Q: 0.02, UP: 0.02, OUT: 0.02 * RESIDUAL, DOWN: 0.02 * RESIDUAL, TOKENS: 0.02}),
        ({**GPT2, "initializer_range": 0.1}, {Q: 0.1, DOWN: 0.1 * RESIDUAL}),
        ({"model_type": "llama", **SIZES}, {Q: 0.02, OUT: 0.02 * RESIDUAL, TOKENS: 0.02, "head.weight": 0.02}),
        (
            {"model_type": "gpt_neox", **SIZES, "initializer_range": 0.5},
            {Q: math.sqrt(0.4 / D), TOKENS: math.sqrt(0.4 / D), OUT: 2 / LAYERS / 8, DOWN: 2 / LAYERS / 8},
        ),
        (MPT, {Q: math.sqrt(2 / D), UP: math.sqrt(2 / D), DOWN: math.sqrt(2 / FF) * RESIDUAL}),
        (GLM, {Q: 1 / 8, OUT: RESIDUAL / 8, "blocks.1.attention.v.weight": RESIDUAL / 8, TOKENS: 0.02}),
        (T5, {Q: 1 / math.sqrt(D * 16), OUT: 1 / 8, UP: 1 / 8, DOWN: 1 / 16, TOKENS: 1.0}),
        ({**T5, "initializer_factor": 0.5}, {Q: 0.5 / math.sqrt(D * 16), "encoder." + DOWN: 0.5 / 16, TOKENS: 0.5}),
        (TRANSFORMER, {Q: 1 / 8, UP: math.sqrt(2 / (D + FF)), TOKENS: 1 / 8, "encoder." + OUT: 1 / 8}),
    ],
    ids=["gpt2", "gpt2's range", "llama", "neox", "mpt", "glm", "t5", "t5's factor", "transformer"],
)
def test_spreads(config: dict[str, Any], expected: dict[str, float]) -> None:
    found = weights(config)
    for name, spread in expected.items():
        assert float(found[name].std()) == pytest.approx(spread, rel=0.05), name
        assert abs(float(found[name].mean())) < 0.1 * spread, name


def test_bert_s_are_cut_at_two_deviations() -> None:
    found = weights({"model_type": "bert", **SIZES, "initializer_range": 0.1})
    for name in (Q, OUT, DOWN, TOKENS):
        assert 0.199 < float(found[name].abs().max()) <= 0.2 * (1 + 1e-5)
        assert float(found[name].std()) == pytest.approx(0.088, rel=0.03)  # a normal of 0.1 cut so


def test_norms_are_ones_and_biases_zeros() -> None:
    for name, weight in weights(GPT2).items():
        if name.endswith(".bias"):
            assert not weight.any(), name
        elif "norm" in name:
            assert bool((weight == 1).all()), name


def test_a_seed_is_the_same_numbers_and_a_part_more_changes_no_other() -> None:
    once, again, other = weights(GPT2), weights(GPT2), weights(GPT2, seed=2)
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once[Q], other[Q]) and not torch.equal(once[Q], once["blocks.2.attention.q.weight"])
    untied = weights({**GPT2, "tie_word_embeddings": False})
    assert all(torch.equal(once[name], untied[name]) for name in once)


def test_one_deviation_for_all() -> None:
    assert float(weights(T5, deviation=0.3)[Q].std()) == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize("said", [0, -0.02, "0.02", True, 1e6, [0.02]], ids=str)
def test_ranges_that_are_none(said: Any) -> None:
    with pytest.raises(CheckpointError, match="initializer_range"):
        weights({**GPT2, "initializer_range": said})
