"""LitGPT's model as its pre-training runs it: compiled whole, cross-entropy by its own function."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from litgpt.model import GPT, Config
from litgpt.utils import chunked_cross_entropy
from protocol import serve
from safetensors.torch import load_file
from training_loop import Plain, Worker


def make(path: str, precision: str, compiled: bool = True, **rest: Any) -> tuple[Plain, str]:
    facts = json.loads((Path(path) / "config.json").read_text())
    model = GPT(described(facts))
    model.load_state_dict(renamed(load_file(Path(path) / "model.safetensors"), facts["num_hidden_layers"]))
    run = torch.compile(model) if compiled else model

    def loss(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return chunked_cross_entropy(run(ids), targets, chunk_size=0)

    return Plain(model, loss, precision), f"litgpt {version('litgpt')}"


def described(facts: dict[str, Any]) -> Config:
    return Config(
        name="random",
        block_size=facts["max_position_embeddings"],
        n_layer=facts["num_hidden_layers"],
        n_embd=facts["hidden_size"],
        vocab_size=facts["vocab_size"],
        padded_vocab_size=facts["vocab_size"],
        n_head=facts["num_attention_heads"],
        n_query_groups=facts["num_key_value_heads"],
        intermediate_size=facts["intermediate_size"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=facts["rms_norm_eps"],
        mlp_class_name="LLaMAMLP",
        rope_base=int(facts["rope_theta"]),
    )


def renamed(tensors: dict[str, torch.Tensor], layers: int, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Hugging Face's names to LitGPT's, which keeps q, k and v in one matrix."""
    at = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    found = {
        "lm_head.weight": at["lm_head.weight"],
        "transformer.wte.weight": at["model.embed_tokens.weight"],
        "transformer.ln_f.weight": at["model.norm.weight"],
    }
    for layer in range(layers):
        old, new = f"model.layers.{layer}", f"transformer.h.{layer}"
        found[f"{new}.norm_1.weight"] = at[f"{old}.input_layernorm.weight"]
        found[f"{new}.norm_2.weight"] = at[f"{old}.post_attention_layernorm.weight"]
        found[f"{new}.attn.qkv.weight"] = torch.cat([at[f"{old}.self_attn.{role}_proj.weight"] for role in "qkv"])
        found[f"{new}.attn.proj.weight"] = at[f"{old}.self_attn.o_proj.weight"]
        for role, own in (("gate", "fc_1"), ("up", "fc_2"), ("down", "proj")):
            found[f"{new}.mlp.{own}.weight"] = at[f"{old}.mlp.{role}_proj.weight"]
    return found


if __name__ == "__main__":
    serve(lambda: Worker(make))  # type: ignore[arg-type, return-value]
