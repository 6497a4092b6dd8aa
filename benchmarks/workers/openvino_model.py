"""A Hugging Face LLaMA folder as a stateful OpenVINO model.

The PyTorch model below computes what transformers' does, with the same operations, so that OpenVINO's own fusions
(RMSNorm, rotation, attention with its cache as a state) find what they look for; the logits are those of the last
position only, as OpenVINO GenAI arranges it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino
import torch
from openvino import opset13 as op
from openvino._offline_transformations import apply_make_stateful_transformation
from safetensors.torch import load_file
from torch import Tensor, nn


class Norm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class Attention(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        width = c["hidden_size"]
        self.heads, self.kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        self.dim = width // self.heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, self.kv_heads * self.dim, bias=False)
        self.v_proj = nn.Linear(width, self.kv_heads * self.dim, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, rows: Tensor, past: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens = x.shape[0], x.shape[1]
        q = self.q_proj(x).view(batch, tokens, self.heads, self.dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, tokens, self.kv_heads, self.dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, tokens, self.kv_heads, self.dim).transpose(1, 2)
        q, k = turned(q, cos, sin), turned(k, cos, sin)
        k = torch.cat((past[0].index_select(0, rows), k), 2)
        v = torch.cat((past[1].index_select(0, rows), v), 2)
        result = nn.functional.scaled_dot_product_attention(q, self._shared(k), self._shared(v), attn_mask=mask)
        return self.o_proj(result.transpose(1, 2).reshape(batch, tokens, self.heads * self.dim)), k, v

    def _shared(self, x: Tensor) -> Tensor:
        """Each key-value head once for every query head that shares it."""
        batch, heads, length, dim = x.shape
        times = self.heads // self.kv_heads
        if times == 1:
            return x
        return x[:, :, None].expand(batch, heads, times, length, dim).reshape(batch, heads * times, length, dim)


class MLP(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=False)
        self.up_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=False)
        self.down_proj = nn.Linear(c["intermediate_size"], c["hidden_size"], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.input_layernorm = Norm(c["hidden_size"], c["rms_norm_eps"])
        self.self_attn = Attention(c)
        self.post_attention_layernorm = Norm(c["hidden_size"], c["rms_norm_eps"])
        self.mlp = MLP(c)


class Body(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = Norm(c["hidden_size"], c["rms_norm_eps"])


class Llama(nn.Module):
    """Ids (batch, tokens), positions, rows (batch,), then past keys and values by layer (batch, heads, past, dim);
    gives logits (batch, 1, vocabulary), then the keys and values with the new ones."""

    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.model = Body(c)
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        dim = c["hidden_size"] // c["num_attention_heads"]
        turns = c["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
        self.register_buffer("turns", turns, persistent=False)

    def forward(self, ids: Tensor, positions: Tensor, rows: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        x = self.model.embed_tokens(ids)
        angles = positions[:, :, None].float() * self.turns
        angles = torch.cat((angles, angles), -1)[:, None]
        cos, sin = angles.cos(), angles.sin()
        length = past[0].shape[2] + ids.shape[1]
        mask = torch.arange(length)[None, None, None] <= positions[:, None, :, None]
        present: list[Tensor] = []
        for i, layer in enumerate(self.model.layers):
            kept = past[2 * i], past[2 * i + 1]
            result, k, v = layer.self_attn(layer.input_layernorm(x), cos, sin, mask, rows, kept)
            x = x + result
            x = x + layer.mlp(layer.post_attention_layernorm(x))
            present += (k, v)
        return self.lm_head(self.model.norm(x[:, -1:])), *present


def convert(source: Path, target: Path, weights: str) -> None:
    """Writes `target` (model.xml) with float16, int8 or int4 weights (groups of 64, the head and embedding in int8)."""
    part = target.parent.with_name(target.parent.name + ".part")
    if weights == "f16":
        model = traced(source)
    else:
        half = target.parent.parent / f"{source.name}-openvino-f16" / "model.xml"
        if not half.exists():
            convert(source, half, "f16")
        model = openvino.Core().read_model(half)
        if weights == "int8":
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
        else:
            model = nncf.compress_weights(
                model, mode=nncf.CompressWeightsMode.INT4_SYM, ratio=1.0, group_size=64, all_layers=False
            )
    shutil.rmtree(part, ignore_errors=True)
    openvino.save_model(model, part / target.name, compress_to_fp16=True)
    part.rename(target.parent)


def traced(source: Path) -> openvino.Model:
    c = json.loads((source / "config.json").read_text())
    c.setdefault("num_key_value_heads", c["num_attention_heads"])
    c.setdefault("rope_theta", (c.get("rope_parameters") or {}).get("rope_theta", 10000.0))
    module = Llama(c).eval()
    weights = {k: v.float() for k, v in load_file(source / "model.safetensors").items()}
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    module.load_state_dict(weights)
    layers, heads = c["num_hidden_layers"], c["num_key_value_heads"]
    dim = c["hidden_size"] // c["num_attention_heads"]
    past = [torch.zeros(2, heads, 3, dim) for _ in range(2 * layers)]
    example = (torch.ones(2, 2, dtype=torch.long), torch.tensor([[3, 4], [3, 4]]), torch.tensor([0, 1]).int(), *past)
    with torch.no_grad():
        model = openvino.convert_model(module, example_input=example)
    names = [f"{kind}.{i}" for i in range(layers) for kind in ("key", "value")]
    inputs = ["input_ids", "position_ids", "beam_idx", *(f"past.{name}" for name in names)]
    for port, name in zip(model.inputs, inputs, strict=True):
        port.get_tensor().set_names({name})
    for port, name in zip(model.outputs, ["logits", *(f"present.{name}" for name in names)], strict=True):
        port.get_tensor().set_names({name})
    shapes: dict[str, list[int]] = {"input_ids": [-1, -1], "position_ids": [-1, -1], "beam_idx": [-1]}
    model.reshape(shapes | {f"past.{name}": [-1, heads, -1, dim] for name in names})
    apply_make_stateful_transformation(model, {f"past.{name}": f"present.{name}" for name in names})
    _begin_empty(model)
    return model


def _begin_empty(model: openvino.Model) -> None:
    """A state begins with as many rows as there are texts, and no slots."""
    shape = op.shape_of(model.input("input_ids"), output_type="i64")
    batch = op.gather(shape, op.constant([0]), op.constant(0))
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":
            sizes = [dimension.min_length for dimension in node.get_output_partial_shape(0)]
            rest = op.constant(np.array(sizes[1:], np.int64))
            node.set_arguments([op.broadcast(op.constant(np.float32(0)), op.concat([batch, rest], 0))])
    model.validate_nodes_and_infer_types()
