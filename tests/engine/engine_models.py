"""Tiny random models saved by transformers, which is the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

VOCABULARY = 97


class Pair(NamedTuple):
    """The same weights twice."""

    ours: Any
    theirs: Any


def save_llama(folder: Path, **changes: Any) -> Any:
    """A random LLaMA with sharp opinions, so that equal choices mean equal logits, saved to disk."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(5)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=VOCABULARY, num_key_value_heads=2, max_position_embeddings=1024, eos_token_id=2, **sizes, **changes
    )
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.data *= 5.0
    model.save_pretrained(folder)
    return model
