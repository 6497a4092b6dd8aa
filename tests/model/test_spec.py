"""Architectures as values: what cannot be is refused, equal ones are equal, and they answer the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from published import SIZES

from paddock.errors import PaddockError, UnsupportedError
from paddock.model.families import describe
from paddock.model.spec import (
    Alibi,
    Architecture,
    Attention,
    Block,
    Buckets,
    DynamicScaling,
    Embedding,
    Experts,
    FactorScaling,
    FeedForward,
    Full,
    Head,
    LayerNorm,
    Learned,
    Prefix,
    Rope,
    Rope2D,
    Sinusoidal,
    YarnScaling,
)

BY_NAME = {size.name: size.config for size in SIZES}
FF = FeedForward(8, "silu", gated=True)
BLOCK = Block(Attention(4, 2, 8, Rope(10000.0, 8)), FF, LayerNorm(1e-5))


def made(**fields: Any) -> Architecture:
    return Architecture(
        **{"family": "x", "vocabulary": 9, "width": 32, "blocks": 3, "block": BLOCK, "context": 16} | fields
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Attention(6, 4, 8),
        lambda: Attention(0, 1, 8),
        lambda: Attention(4, 4, 0),
        lambda: Attention(4, 4, 8, Rope(10000.0, 10)),
        lambda: Attention(4, 4, 8, Rope2D(10000.0, 6)),
        lambda: Rope(10000.0, 7),
        lambda: Rope(10000.0, 0),
        lambda: Rope(1.0, 8),
        lambda: Rope(10000.0, 2, scaling=DynamicScaling(2.0, 64)),
        lambda: Rope(10000.0, 8, scaling=FactorScaling((1.0, 2.0))),
        lambda: Rope2D(10000.0, 3),
        lambda: YarnScaling(2.0, 64, beta_slow=0.0),
        lambda: Buckets(1, 20, both_ways=False),
        lambda: Buckets(3, 20, both_ways=True),
        lambda: Buckets(32, 8, both_ways=True),
        lambda: Experts(4, 5, FF),
        lambda: Experts(4, 0, FF),
        lambda: made(block=(BLOCK, BLOCK)),
        lambda: made(encoder=made(vocabulary=8), shared_embedding=True),
        lambda: made(width=33, embedding=Embedding(Sinusoidal())),
        lambda: made(width=2, embedding=Embedding(Sinusoidal(inclusive=True))),
    ],
)  # fmt: skip
def test_impossible_values_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(UnsupportedError, match="expected"):
        make()


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("LLaMA 7B", "hidden_size", 0),
        ("LLaMA 7B", "hidden_size", "4096"),
        ("LLaMA 7B", "hidden_size", True),
        ("LLaMA 7B", "num_attention_heads", 10**9),
        ("LLaMA 7B", "num_attention_heads", 8192),
        ("LLaMA 7B", "num_key_value_heads", 5),
        ("LLaMA 7B", "rms_norm_eps", float("nan")),
        ("LLaMA 7B", "rms_norm_eps", -1e-5),
        ("LLaMA 7B", "hidden_act", "tanh"),
        ("LLaMA 7B", "hidden_act", ["silu"]),
        ("LLaMA 7B", "tie_word_embeddings", "no"),
        ("LLaMA 7B", "rope_theta", 1.0),
        ("LLaMA 7B", "rope_scaling", "linear"),
        ("LLaMA 7B", "rope_scaling", {"type": "linear"}),
        ("LLaMA 7B", "rope_scaling", {"type": "longrope", "factor": 2.0}),
        ("LLaMA 7B", "rope_scaling", {"type": "linear", "factor": 0}),
        ("LLaMA 7B", "rope_scaling", {"type": "linear", "factor": 2.0, "factors": 3}),
        ("LLaMA 7B", "rope_scaling", {"type": "factors", "factors": [1.0] * 63}),
        ("LLaMA 7B", "rope_scaling", {"type": "factors", "factors": "x" * 64}),
        ("LLaMA 7B", "rope_scaling", {"type": "factors", "factors": [0.0] * 64}),
        ("LLaMA 7B", "rope_scaling", {"type": "yarn", "factor": 2.0, "beta_fast": 0}),
        ("LLaMA 7B", "rope_scaling", {"type": "llama3", "factor": 2.0, "low_freq_factor": 4, "high_freq_factor": 4}),
        ("LLaMA 7B", "partial_rotary_factor", 1.5),
        ("Mixtral-8x7B", "num_experts_per_tok", 9),
        ("R1-Distill-Qwen 7B", "layer_types", ["full_attention"]),
        ("R1-Distill-Qwen 7B", "use_mrope", True),
        ("Falcon-7B", "apply_residual_connection_post_layernorm", True),
        ("MPT-7B", "logit_scale", "loud"),
        ("MPT-7B", "attn_config", {"qk_ln": True}),
        ("MPT-7B", "attn_config", {"attn_type": "linear_attention"}),
        ("MPT-7B", "norm_type", "rmsnorm"),
        ("MOSS-003 16B", "n_head", 6),
        ("MOSS-003 16B", "rotary_dim", 63),
        ("ChatGLM-6B", "quantization_bit", 4),
        ("ChatGLM-6B", "pre_seq_len", 128),
        ("BERT base", "is_decoder", True),
        ("BERT base", "position_embedding_type", "relative_key"),
    ],
)  # fmt: skip
def test_configurations_that_cannot_be_run_are_refused_by_name(name: str, key: str, value: object) -> None:
    with pytest.raises(PaddockError):
        describe({**BY_NAME[name], key: value})


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_key_missing_or_null_is_filled_in_or_refused(name: str) -> None:
    for key in BY_NAME[name]:
        for values in ({k: v for k, v in BY_NAME[name].items() if k != key}, {**BY_NAME[name], key: None}):
            with contextlib.suppress(PaddockError):
                assert isinstance(describe(values), Architecture)


def test_equal_values_are_equal_hashable_and_printable() -> None:
    for name, config in BY_NAME.items():
        one, two = describe(config), describe(dict(config))
        assert one == two and hash(one) == hash(two), name
        assert one.family in repr(one) and "\n" not in repr(one)
    assert len({describe(config) for config in BY_NAME.values()}) < len(BY_NAME)  # two spellings, one Falcon
    assert made() != made(width=64)


def test_layers_may_differ() -> None:
    other = replace(BLOCK, attention=replace(BLOCK.attention, window=4))
    mixed = made(block=(BLOCK, other, BLOCK))
    assert mixed.layer(1) is other and mixed.windows == (None, 4, None)
    assert made().layers == (BLOCK,) * 3
    assert mixed.cache_values_per_token() == 3 * 2 * 2 * 8


def test_the_engine_is_told_what_may_be_done_with_a_prompt() -> None:
    causal = made(head=Head(tied=True))
    assert causal.generates and causal.can_cut_prompt and causal.can_share_prefix
    glm = made(head=Head(tied=True), mask=Prefix((1,), 2))
    assert glm.generates and not glm.can_cut_prompt and not glm.can_share_prefix
    encoder = made(mask=Full(), head=Head(tied=True))
    assert not encoder.generates
    both = made(head=Head(tied=True), encoder=encoder)
    assert both.generates and both.can_cut_prompt and not both.can_share_prefix
    assert not made().generates


def test_parts_say_how_they_scale_scores() -> None:
    assert Attention(1, 1, 16).multiplier == 0.25
    assert Attention(1, 1, 16, scale=1.0).multiplier == 1.0
    assert Attention(1, 1, 16, Alibi()).position == Alibi(8.0)
    assert Embedding(Learned(3)).positions == Learned(3)
