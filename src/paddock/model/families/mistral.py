"""Mistral-7B and its descendants: LLaMA whose queries may see only a window of the latest keys."""

from __future__ import annotations

from dataclasses import replace

from paddock.model.config import Config
from paddock.model.families import llama
from paddock.model.spec import Architecture, Block

MODEL_TYPES = ("mistral",)
RULES = llama.RULES


def architecture(config: Config, eps: float = 1e-6, theta: float = 10000.0) -> Architecture:
    """`sliding_window` counts the query itself: key j is seen by query i where i - window < j <= i. Null means none."""
    base = llama.architecture(config, eps, theta)
    window = config.integer("sliding_window", default=None)
    assert isinstance(base.block, Block)
    attention = replace(base.block.attention, window=window)
    return replace(base, family="mistral", block=replace(base.block, attention=attention))
