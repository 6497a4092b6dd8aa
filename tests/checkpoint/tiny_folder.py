"""Model folders small enough to be written, damaged and read hundreds of times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint import folder as hf
from paddock.checkpoint import safetensors
from paddock.model.families import describe
from paddock.model.transformer import Transformer

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "intermediate_size": 12,
    "vocab_size": 11,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
GENERATION = {"temperature": 0.5, "eos_token_id": [2, 3]}


def model(config: dict[str, Any] = CONFIG, dtype: torch.dtype = torch.float32) -> Transformer:
    """Random weights of ordinary size."""
    made = Transformer(describe(config)).requires_grad_(False)
    for parameter in made.parameters():
        parameter.normal_(0.0 if parameter.dim() > 1 else 1.0, 0.1)
    return made.to(dtype).eval()


def tensors(config: dict[str, Any] = CONFIG, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The same, under published names."""
    made = hf.published(model(config, dtype), hf.family(config).RULES)
    return {tensor.name: tensor.tensor().contiguous() for tensor in made}


def folder(path: Path, kind: str = "safetensors", weights: dict[str, Tensor] | None = None, **config: Any) -> Path:
    """Writes a model folder: "safetensors", "sharded" (two of them), "bin" or "sharded bin"."""
    path.mkdir(parents=True, exist_ok=True)
    values = CONFIG | config
    weights = tensors(values) if weights is None else weights
    (path / "config.json").write_text(json.dumps(values))
    (path / "generation_config.json").write_text(json.dumps(GENERATION))
    stem, write = ("pytorch_model.bin", torch_save) if "bin" in kind else ("model.safetensors", safetensors.write)
    if "sharded" not in kind:
        write(path / stem, weights)
        return path
    names, where = sorted(weights), {}
    base, suffix = stem.rsplit(".", 1)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"{base}-{number:05d}-of-00002.{suffix}"
        write(path / shard, {name: weights[name] for name in part})
        where |= dict.fromkeys(part, shard)
    (path / f"{stem}.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    return path


def torch_save(path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, path)
