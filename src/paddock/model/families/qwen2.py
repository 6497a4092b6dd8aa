"""Qwen 2 and 2.5, and the DeepSeek-R1 distills made from them: LLaMA with biases on q, k and v."""

from __future__ import annotations

from dataclasses import replace

from paddock.errors import CheckpointError
from paddock.model.config import Config
from paddock.model.families import llama
from paddock.model.spec import Architecture, Block

MODEL_TYPES = ("qwen2",)
RULES = llama.RULES


def architecture(config: Config) -> Architecture:
    """`sliding_window` counts only where `use_sliding_window` is true, and then from layer `max_window_layers` on."""
    base = llama.architecture(config)
    window = config.integer("sliding_window", default=4096)
    first = config.integer("max_window_layers", default=28, low=0)
    slides = config.flag("use_sliding_window", default=False)
    assert isinstance(base.block, Block)
    full = replace(base.block, attention=replace(base.block.attention, qkv_bias=True, out_bias=False))
    windowed = replace(full, attention=replace(full.attention, window=window))
    usual = ["sliding_attention" if slides and i >= first else "full_attention" for i in range(base.blocks)]
    kinds = config.get("layer_types", default=usual)
    known = {"full_attention": full, "sliding_attention": windowed}
    if not isinstance(kinds, list) or len(kinds) != base.blocks or any(str(kind) not in known for kind in kinds):
        raise CheckpointError(f"config.json: layer_types is {str(kinds)[:80]}", expected=f"{base.blocks} known kinds")
    layers = tuple(known[kind] for kind in kinds)
    return replace(base, family="qwen2", block=layers[0] if len(set(layers)) == 1 else layers)
