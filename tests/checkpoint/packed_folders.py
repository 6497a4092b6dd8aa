"""Quantised model folders, packed number by number from the formats' descriptions: the tests' second implementation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tiny_folder as tiny
import torch
from torch import Tensor

# Wide enough for groups of 32 and 64 (96 inputs are one and a half of the latter) and a head that stays plain.
CONFIG = tiny.CONFIG | {
    "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 16,
    "num_hidden_layers": 1,
}  # fmt: skip
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def matrices(weights: dict[str, Tensor]) -> list[str]:
    return [name for name in weights if name.endswith("_proj.weight")]


@dataclass
class Affine:
    """Random codes, scales and zero points of one matrix (outputs, inputs), and what they mean in float64."""

    outputs: int
    inputs: int
    bits: int
    group: int
    lowest_zero: int = 0
    scattered: bool = False
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self) -> None:
        size = self.group if self.group > 0 else self.inputs
        groups = -(-self.inputs // size)
        self.codes = self.rng.integers(0, 2**self.bits, (self.outputs, self.inputs))
        self.zeros = self.rng.integers(self.lowest_zero, 2**self.bits, (groups, self.outputs))
        self.scales = (self.rng.random((groups, self.outputs)) * 0.2 / 2**self.bits).astype(np.float16)
        self.order = np.array([i // size for i in range(self.inputs)])
        if self.scattered:
            self.order = self.rng.permutation(self.order)

    def meaning(self) -> np.ndarray:
        weight = np.zeros((self.outputs, self.inputs))
        for o in range(self.outputs):
            for i in range(self.inputs):
                g = self.order[i]
                weight[o, i] = (int(self.codes[o, i]) - int(self.zeros[g, o])) * float(self.scales[g, o])
        return weight


def number(fields: list[int], bits: int) -> int:
    """Several codes in one signed 32-bit number, the first in its lowest bits."""
    value = 0
    for place, code in enumerate(fields):
        value += int(code) << (place * bits)
    return value - 2**32 if value >= 2**31 else value


def gptq(module: str, part: Affine, less_one: bool = True, g_idx: bool = True) -> dict[str, Tensor]:
    each = 32 // part.bits
    codes, zeros = part.codes, part.zeros - (1 if less_one else 0)
    qweight = [
        [number(list(codes[o, r * each : (r + 1) * each]), part.bits) for o in range(part.outputs)]
        for r in range(part.inputs // each)
    ]
    qzeros = [
        [number(list(row[c * each : (c + 1) * each]), part.bits) for c in range(part.outputs // each)] for row in zeros
    ]
    found = {
        f"{module}.qweight": torch.tensor(qweight, dtype=torch.int32),
        f"{module}.qzeros": torch.tensor(qzeros, dtype=torch.int32),
        f"{module}.scales": torch.from_numpy(part.scales.copy()),
    }
    return found | ({f"{module}.g_idx": torch.tensor(part.order, dtype=torch.int32)} if g_idx else {})


def awq(module: str, part: Affine) -> dict[str, Tensor]:
    def shuffled(row: np.ndarray) -> list[int]:
        return [number([row[c * 8 + output] for output in AWQ_ORDER], 4) for c in range(len(row) // 8)]

    return {
        f"{module}.qweight": torch.tensor([shuffled(row) for row in part.codes.T], dtype=torch.int32),
        f"{module}.qzeros": torch.tensor([shuffled(row) for row in part.zeros], dtype=torch.int32),
        f"{module}.scales": torch.from_numpy(part.scales.copy()),
    }


@dataclass
class Folder:
    """What was written, and the plain float32 weights that it means."""

    path: Path
    tensors: dict[str, Tensor]
    plain: dict[str, Tensor]
    settings: dict[str, Any]


def affine_folder(
    path: Path,
    method: str,
    bits: int = 4,
    group: int = 32,
    scattered: bool = False,
    less_one: bool = True,
    **settings: Any,
) -> Folder:
    """A llama of which every matrix of a block is GPTQ or AWQ."""
    plain, tensors = tiny.tensors(CONFIG), {}
    rng = np.random.default_rng(7)
    for name in matrices(plain):
        outputs, inputs = plain[name].shape
        part = Affine(outputs, inputs, bits, group, int(method == "gptq" and less_one), scattered, rng)
        module = name.removesuffix(".weight")
        tensors |= gptq(module, part, less_one) if method == "gptq" else awq(module, part)
        plain[name] = torch.from_numpy(part.meaning()).float()
    tensors |= {name: tensor for name, tensor in plain.items() if not name.endswith("_proj.weight")}
    base: dict[str, Any] = {"quant_method": method, "bits": bits, "group_size": group}
    if method == "gptq":
        base |= {"desc_act": scattered, "sym": False, "checkpoint_format": "gptq" if less_one else "gptq_v2"}
    else:
        base |= {"version": "gemm", "zero_point": True}
    return written(Folder(path, tensors, plain, base | settings))


def written(folder: Folder, **config: Any) -> Folder:
    values = CONFIG | {"quantization_config": folder.settings} | config
    tiny.folder(folder.path, "safetensors", folder.tensors, **values)
    return folder


def text(value: dict[str, Any]) -> Tensor:
    """JSON as a tensor of bytes."""
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)


def four_bit(name: str, shape: tuple[int, int], kind: str, block: int, double: bool, levels: list[float]) -> Any:
    """Random 4-bit codes and scales of one matrix as bitsandbytes stores them, and what they mean."""
    rng = np.random.default_rng(len(name))
    count = shape[0] * shape[1]
    codes, blocks = rng.integers(0, 16, count), -(-count // block)
    packed = [(int(codes[i]) << 4) + int(codes[i + 1]) for i in range(0, count, 2)]
    state: dict[str, Any] = {"quant_type": kind, "blocksize": block, "dtype": "float16", "shape": list(shape)}
    tensors = {name: torch.tensor(packed, dtype=torch.uint8)[:, None]}
    tensors[f"{name}.quant_map"] = torch.tensor(levels, dtype=torch.float32)
    if double:
        table = np.sort(rng.uniform(-1, 1, 256)).astype(np.float32)
        inner, outer = rng.integers(0, 256, blocks), rng.random(-(-blocks // 256)).astype(np.float32) * 0.02
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.125}
        scales = [np.float32(np.float32(table[inner[b]] * outer[b // 256]) + np.float32(0.125)) for b in range(blocks)]
        tensors[f"{name}.absmax"] = torch.tensor(inner, dtype=torch.uint8)
        tensors[f"{name}.nested_absmax"] = torch.from_numpy(outer)
        tensors[f"{name}.nested_quant_map"] = torch.from_numpy(table)
    else:
        scales = list((rng.random(blocks) * 0.2).astype(np.float32))
        tensors[f"{name}.absmax"] = torch.tensor(np.array(scales))
    tensors[f"{name}.quant_state.bitsandbytes__{kind}"] = text(state)
    weight = [np.float32(tensors[f"{name}.quant_map"][codes[i]].item()) * scales[i // block] for i in range(count)]
    return tensors, torch.tensor(np.array(weight, dtype=np.float32)).view(shape)


def bitsandbytes_folder(path: Path, kind: str, block: int, double: bool, levels: list[float]) -> Folder:
    plain, tensors = tiny.tensors(CONFIG), {}
    for name in matrices(plain):
        outputs, inputs = plain[name].shape
        found, plain[name] = four_bit(name, (outputs, inputs), kind, block, double, levels)
        tensors |= found
    tensors |= {name: tensor for name, tensor in plain.items() if not name.endswith("_proj.weight")}
    settings = {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": kind,
        "bnb_4bit_use_double_quant": double, "bnb_4bit_compute_dtype": "float16", "bnb_4bit_quant_storage": "uint8",
        "llm_int8_threshold": 6.0, "llm_int8_skip_modules": ["lm_head"],
    }  # fmt: skip
    return written(Folder(path, tensors, plain, settings))


def int8_folder(path: Path) -> Folder:
    plain, tensors = tiny.tensors(CONFIG), {}
    for name in matrices(plain):
        most = plain[name].abs().amax(1)
        codes = (plain[name] * (127 / most)[:, None]).round().to(torch.int8)
        module = name.removesuffix(".weight")
        tensors |= {name: codes, f"{module}.SCB": most, f"{module}.weight_format": torch.tensor(0, dtype=torch.uint8)}
        plain[name] = codes.float() * (most / 127)[:, None]
    tensors |= {name: tensor for name, tensor in plain.items() if not name.endswith("_proj.weight")}
    settings = {"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_threshold": 6.0}
    return written(Folder(path, tensors, plain, settings))
