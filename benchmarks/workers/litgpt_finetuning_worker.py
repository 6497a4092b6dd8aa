"""LitGPT's LoRA in its default precision ("bf16-true": adapters in bfloat16 too), cross-entropy by its own function."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from finetuning_loop import ALPHA, RANK, first_low
from litgpt.lora import GPT, Config, mark_only_lora_as_trainable
from litgpt.utils import chunked_cross_entropy
from litgpt_training_worker import described, renamed
from protocol import serve
from safetensors.torch import load_file
from training_loop import Plain, Worker

PARTS = {"attn.proj": "out", "mlp.fc_1": "gate", "mlp.fc_2": "up", "mlp.proj": "down"}


def make(path: str, precision: str, compiled: bool = False, **rest: Any) -> tuple[Plain, str]:
    facts = json.loads((Path(path) / "config.json").read_text())
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    kinds = ("query", "key", "value", "projection", "mlp")
    config = Config(
        **_plain(described(facts)),
        lora_r=RANK,
        lora_alpha=int(ALPHA),
        lora_dropout=0.0,
        **{f"lora_{kind}": True for kind in kinds},
    )
    with torch.device("meta"):
        model = GPT(config)
    tensors = renamed(load_file(Path(path) / "model.safetensors"), facts["num_hidden_layers"], dtype)
    model.to_empty(device="cpu").to(dtype)
    model.load_state_dict(_placed(tensors, facts["num_hidden_layers"]), strict=False)
    del tensors
    with torch.no_grad():
        model.cos, model.sin = model.rope_cache(torch.device("cpu"))
        _begin(model)
    mark_only_lora_as_trainable(model)
    run = torch.compile(model) if compiled else model

    def loss(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return chunked_cross_entropy(run(ids), targets, chunk_size=0)

    return Plain(model, loss, "float32"), f"litgpt {version('litgpt')}"  # no autocast: all is in one type


def _plain(config: Any) -> dict[str, Any]:
    """What made a configuration, to make one of another class."""
    return {each.name: getattr(config, each.name) for each in dataclasses.fields(config) if each.init}


def _placed(tensors: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """LoRA's modules hold the matrix that they adapt as `linear`; the head is one of them, and not adapted."""
    found = {}
    for name, tensor in tensors.items():
        adaptable = ".attn." in name or ".mlp." in name or name.startswith("lm_head")
        found[name.replace(".weight", ".linear.weight") if adaptable else name] = tensor
    return found


def _begin(model: GPT) -> None:
    for number, block in enumerate(model.transformer.h):
        qkv = block.attn.qkv
        qkv.lora_A.copy_(torch.cat([first_low(number, role, qkv.lora_A.shape[1]) for role in "qkv"]))
        qkv.lora_B.zero_()
        for path, role in PARTS.items():
            part = block.get_submodule(path)
            part.lora_A.copy_(first_low(number, role, part.lora_A.shape[1]))
            part.lora_B.zero_()


if __name__ == "__main__":
    serve(lambda: Worker(make))  # type: ignore[arg-type, return-value]
