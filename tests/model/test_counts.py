"""Published sizes, from their configurations alone: parameters, cache, bytes on disk."""

from __future__ import annotations

import math

import pytest
import torch
from published import SIZES, Size

from paddock.model.families import describe
from paddock.model.spec import Alibi, Architecture, Llama3Scaling, Rope
from paddock.model.transformer import Transformer

BY_NAME = {size.name: size for size in SIZES}


def sketch(architecture: Architecture) -> Transformer:
    with torch.device("meta"):
        return Transformer(architecture)


def parameters(model: Transformer) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_a_published_configuration_gives_the_published_size(size: Size) -> None:
    architecture = describe(size.config)
    assert parameters(sketch(architecture)) == size.parameters
    if size.cached is not None:
        assert 2 * architecture.cache_values_per_token() == size.cached


def test_mixtral_uses_27_6_percent_of_itself_per_token() -> None:
    architecture = describe(BY_NAME["Mixtral-8x7B"].config)
    weights = dict(sketch(architecture).named_parameters())
    total = sum(p.numel() for p in weights.values())
    experts = sum(p.numel() for name, p in weights.items() if ".experts." in name)
    active = total - experts * 6 // 8
    assert active == 12_879_925_248
    assert round(100 * active / total, 1) == 27.6


@pytest.mark.parametrize(
    ("name", "total", "tables"),
    [("ChatGLM-6B, first release", 13_744_473_856, 28 * 32), ("ChatGLM2-6B", 12_487_168_064, 32)],
)
def test_chatglm_files_have_the_published_number_of_bytes(name: str, total: int, tables: int) -> None:
    """16 bits each, but the first release's norms in 32; its head is stored beside the embedding; rotary tables too."""
    config = {**BY_NAME[name].config, "tie_word_embeddings": False}
    wide = 4 if "first" in name else 2
    weights = sketch(describe(config)).named_parameters()
    assert 2 * tables + sum(p.numel() * (wide if "norm" in n else 2) for n, p in weights) == total


def test_what_published_files_leave_unsaid_is_filled_in_as_published() -> None:
    falcon, mpt = describe(BY_NAME["Falcon-7B"].config), describe(BY_NAME["MPT-7B"].config)
    assert falcon.layer(0).attention.kv_heads == 1  # from multi_query
    assert falcon.layer(0).shared_norm and not describe(BY_NAME["Falcon-180B"].config).layer(0).shared_norm
    assert mpt.embedding.positions is None  # learned_pos_emb is shipped true beside ALiBi
    assert mpt.layer(0).attention.position == Alibi(8.0)
    glm = describe({k: v for k, v in BY_NAME["ChatGLM-6B"].config.items() if "mask" not in k})
    assert glm.mask == describe(BY_NAME["ChatGLM-6B"].config).mask
    distill = describe(BY_NAME["R1-Distill-Qwen 7B"].config)
    assert set(distill.windows) == {None}  # sliding_window is set, use_sliding_window is not
    llama3 = describe(BY_NAME["R1-Distill-Llama 8B"].config).layer(0).attention.position
    assert isinstance(llama3, Rope) and llama3.scaling == Llama3Scaling(8.0, 1.0, 4.0, 8192)


def test_emptied_mpt_attention_means_alibi_8_without_a_clamp() -> None:
    config = {**BY_NAME["MPT-7B"].config, "attn_config": {}}
    assert describe(config).layer(0).attention == describe(BY_NAME["MPT-7B"].config).layer(0).attention


def test_storywriter_has_steeper_slopes_and_a_clamp() -> None:
    table = {**BY_NAME["MPT-7B"].config["attn_config"], "alibi_bias_max": 16, "clip_qkv": 6}
    attention = describe({**BY_NAME["MPT-7B"].config, "attn_config": table}).layer(0).attention
    assert attention.position == Alibi(16.0) and attention.clip == 6.0


@pytest.mark.parametrize(
    ("changes", "context"),
    [
        ({}, 4096),
        ({"rope_scaling": {"type": "linear", "factor": 8.0}}, 32768),  # Giraffe v2 70B
        ({"rope_scaling": {"type": "linear", "factor": 4.0}, "max_sequence_length": 16384}, 16384),  # Vicuna 16k
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 8192),
        ({"rope_scaling": {"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096}}, 65536),
        (
            {"rope_scaling": {"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096,
                              "finetuned": True}, "max_position_embeddings": 65536},
            65536,
        ),
    ],
)  # fmt: skip
def test_scaling_stretches_the_context(changes: dict[str, object], context: int) -> None:
    assert describe({**BY_NAME["Llama-2 70B"].config, **changes}).context == context


def test_mixtral_drops_only_the_stale_window() -> None:
    config = BY_NAME["Mixtral-8x7B"].config
    assert describe({**config, "sliding_window": 4096}).windows[0] is None
    assert describe({**config, "sliding_window": 1024}).windows[0] == 1024


@pytest.mark.parametrize(
    ("width", "multiplier", "multiple", "hidden"), [(4096, 1.0, 256, 11008), (8192, 1.3, 4096, 28672)]
)
def test_llama_feed_forward_width_follows_its_formula(
    width: int, multiplier: float, multiple: int, hidden: int
) -> None:
    name = {11008: "LLaMA 7B", 28672: "Llama-2 70B"}[hidden]
    assert multiple * math.ceil(int(multiplier * int(8 * width / 3)) / multiple) == hidden
    assert describe(BY_NAME[name].config).layer(0).feedforward.hidden == hidden  # type: ignore[union-attr]
