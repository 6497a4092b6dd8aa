"""bitsandbytes' containers: 4-bit levels with a scale per block (NF4, FP4), and int8 with a scale per row.

    X.weight (n / 2, 1) uint8      two codes a byte, the first in the high half; blocks run over the flattened matrix
    X.weight.absmax (blocks,)      float32, or uint8 where doubly quantised:
        absmax = nested_quant_map[code] × nested_absmax[block of 256] + nested_offset
    X.weight.quant_map (16,)       the levels
    X.weight.quant_state.bitsandbytes__nf4   JSON as bytes: shape, blocksize, type, nested_offset

    X.weight (outputs, inputs) int8, X.SCB (outputs,) float32: weight × SCB / 127

Method: arXiv 2305.14314 (QLoRA) and 2208.07339 (LLM.int8). Container: bitsandbytes, `QuantState`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint.bits import fields
from paddock.checkpoint.groups import CHUNK, KERNEL_GROUP
from paddock.checkpoint.jsonfile import parse
from paddock.checkpoint.pieces import FLOATS, Pieces, Settings
from paddock.checkpoint.stored import Codes, Stored
from paddock.errors import CheckpointError, UnsupportedError
from paddock.kernels.nf4 import NESTED_BLOCK, NF4_LEVELS, Nf4, Scales

# fmt: off
NOTES = (
    "quant_method", "load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit", "bnb_4bit_compute_dtype",
    "bnb_4bit_use_double_quant", "llm_int8_threshold", "llm_int8_enable_fp32_cpu_offload",
    "llm_int8_has_fp16_weight",
)
# fmt: on
STATE = ".weight.quant_state.bitsandbytes__"
KINDS = ("nf4", "fp4")
KERNEL_BLOCK = 64  # weights that share a scale in the kernels' NF4
STATE_BYTES = 2**16
INT8_MOST = 127


def read(settings: Settings, pieces: Pieces) -> dict[str, Stored]:
    """Every quantised matrix under its plain name; its pieces are taken out of `pieces`."""
    kept_plain = settings.modules("llm_int8_skip_modules", "modules_to_not_convert")
    named = settings.get("bnb_4bit_quant_type", default=None)
    settings.ignore("bnb_4bit_quant_storage", *NOTES)
    settings.finish()
    result: dict[str, Stored] = {}
    for kind in KINDS:
        for module in pieces.modules(STATE + kind, kept_plain):
            result[f"{module}.weight"] = _levelled(module, kind, pieces)
            if settings.values.get("load_in_4bit") and named not in (None, kind):
                raise CheckpointError(
                    f"{module[:120]!r} is stored as {kind}, but quantization_config says {str(named)[:40]!r}",
                    fix="config.json and the weights may come from different models",
                )
    for ending in (".SCB", ".weight.SCB"):
        for module in pieces.modules(ending, kept_plain):
            module = module.removesuffix(".weight")
            result[f"{module}.weight"] = _int8(module, ending, pieces)
    return result


@dataclass(frozen=True)
class Nested:
    """Scales of scales: how the 8-bit `absmax` becomes float32."""

    absmax: Stored
    levels: Stored
    block: int
    offset: float

    def scales(self, codes: Tensor) -> Tensor:
        coarse = self.absmax.load().repeat_interleave(self.block)[: len(codes)]
        return self.levels.load()[codes.int()] * coarse + self.offset


@dataclass(frozen=True)
class Levelled:
    """A matrix of 16 levels times a scale per block."""

    name: str
    shape: tuple[int, int]
    block: int
    weight: Stored
    absmax: Stored
    levels: Tensor
    nested: Nested | None

    def stored(self, kind: str, transposed: bool) -> Stored:
        if transposed:
            return Stored(self.shape[::-1], torch.float32, lambda: self.load().T)
        standard = kind == "nf4" and torch.allclose(self.levels, torch.tensor(NF4_LEVELS), rtol=0, atol=1e-6)
        fits = standard and self.block % KERNEL_BLOCK == 0 and self.shape[1] % self.block == 0
        codes = Codes("NF4", self.parts) if fits else None
        return Stored(self.shape, torch.float32, self.load, codes=codes, whole=self.whole if standard else None)

    def whole(self) -> Nf4:
        """Codes and scales as they were published, nothing rounded again."""
        codes = self.weight.load().contiguous().view(torch.uint8).view(-1).clone()
        self.weight.release()
        nested, scales = self.nested, self.finite_scales()
        if nested is None or nested.block != NESTED_BLOCK:
            return Nf4(codes, scales.clone(), self.shape, self.block)
        stored = [each.load().clone() for each in (self.absmax, nested.absmax, nested.levels)]
        return Nf4(codes, Scales(stored[0], stored[1], stored[2], nested.offset), self.shape, self.block)

    def scales(self) -> Tensor:
        """(blocks,) float32."""
        stored = self.absmax.load()
        return stored.float() if self.nested is None else self.nested.scales(stored)

    def finite_scales(self) -> Tensor:
        """Raises CheckpointError where one is no number."""
        scales = self.scales()
        if not scales.isfinite().all():
            raise CheckpointError(
                f"tensor {self.name[:120]!r} has scales that are not numbers (NaN or infinite)",
                fix="the file is corrupt; get another copy",
            )
        return scales

    def codes(self, first: int, last: int) -> Tensor:
        """Codes of weights [first, last), both even, of the flattened matrix."""
        packed = self.weight.load().contiguous().view(torch.uint8).view(-1)[first // 2 : -(-last // 2)]
        return fields(packed.view(-1, 1), bits=4, run=1).flip(1).reshape(-1)[: last - first]

    def load(self) -> Tensor:
        scales, count = self.scales(), math.prod(self.shape)
        result = torch.empty(count)
        step = max(1, CHUNK // self.block) * self.block
        for first in range(0, count, step):
            last = min(first + step, count)
            mine = scales[first // self.block : -(-last // self.block)].repeat_interleave(self.block)[: last - first]
            torch.mul(self.levels[self.codes(first, last).int()], mine, out=result[first:last])
        self.weight.release()
        return result.view(self.shape)

    def parts(self) -> tuple[Tensor, Tensor]:
        """Codes (rows, columns) uint8, scales (rows, columns / 64) float32."""
        scales = self.finite_scales().repeat_interleave(self.block // KERNEL_BLOCK)
        codes = self.codes(0, math.prod(self.shape)).view(self.shape)
        self.weight.release()
        return codes, scales.view(self.shape[0], -1)


def _levelled(module: str, kind: str, pieces: Pieces) -> Stored:
    name = f"{module}.weight"
    state = _state(pieces.take(module + STATE + kind, [torch.uint8]), f"{module[:120]}{STATE}{kind}")
    shape, block = _shape(state, name), _block(state, "blocksize", name)
    count = math.prod(shape)
    blocks = -(-count // block)
    weight = pieces.take(name, [torch.uint8, torch.int8, *FLOATS])
    size = -(-count // 2)
    if math.prod(weight.shape) * weight.dtype.itemsize != size:
        raise CheckpointError(
            f"tensor {name[:120]!r} has the shape {list(weight.shape)}", expected=f"{size} bytes for {list(shape)}"
        )
    levels = pieces.take(f"{name}.quant_map", [torch.float32], (16,)).load()
    if state.get("quant_type") != kind or not levels.isfinite().all():
        raise CheckpointError(f"tensor {name[:120]!r} is described wrongly", expected=f"16 finite levels of {kind}")
    nested = None
    if f"{name}.nested_absmax" in pieces.left:
        nested = _nested(name, state, blocks, pieces)
    absmax = pieces.take(f"{name}.absmax", [torch.float32] if nested is None else [torch.uint8], (blocks,))
    return Levelled(name, shape, block, weight, absmax, levels, nested).stored(kind, pieces.transposed(name))


def _nested(name: str, state: dict[str, Any], blocks: int, pieces: Pieces) -> Nested:
    block, offset = _block(state, "nested_blocksize", name), state.get("nested_offset")
    if isinstance(offset, bool) or not isinstance(offset, int | float):
        raise CheckpointError(f"tensor {name[:120]!r} has the nested_offset {str(offset)[:40]!r}", expected="a number")
    absmax = pieces.take(f"{name}.nested_absmax", [torch.float32], (-(-blocks // block),))
    levels = pieces.take(f"{name}.nested_quant_map", [torch.float32], (256,))
    return Nested(absmax, levels, block, float(offset))


def _state(stored: Stored, name: str) -> dict[str, Any]:
    if len(stored.shape) != 1 or stored.shape[0] > STATE_BYTES:
        raise CheckpointError(f"tensor {name!r} has the shape {list(stored.shape)}", expected="a short JSON text")
    return parse(stored.load().numpy().tobytes(), f"tensor {name!r}")


def _shape(state: dict[str, Any], name: str) -> tuple[int, int]:
    shape = state.get("shape")
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(n) is int and 0 < n < 2**31 for n in shape):
        raise CheckpointError(f"tensor {name[:120]!r} says its shape is {str(shape)[:80]}", expected="rows and columns")
    return shape[0], shape[1]


def _block(state: dict[str, Any], key: str, name: str) -> int:
    block = state.get(key)
    if type(block) is not int or not 32 <= block <= 4096 or block & (block - 1):
        raise CheckpointError(
            f"tensor {name[:120]!r} has the {key} {str(block)[:40]!r}", expected="a power of two from 32 to 4096"
        )
    return block


def _int8(module: str, ending: str, pieces: Pieces) -> Stored:
    name = f"{module}.weight"
    scale = pieces.take(module + ending, [torch.float32])
    weight = pieces.take_matrix(name, [torch.int8])
    if scale.shape != weight.shape[:1]:
        raise CheckpointError(f"the scales of {name[:120]!r} have the shape {list(scale.shape)}", expected="one a row")
    for note in (f"{module}.weight_format", f"{name}.weight_format"):
        if note in pieces.left:
            layout = pieces.take(note, [torch.uint8], ())
            if layout.load().item() != 0:
                raise UnsupportedError(f"tensor {name[:120]!r} is laid out for one GPU kernel", expected="row by row")
    rows = scale.load() / INT8_MOST

    def load() -> Tensor:
        result = weight.load().float().mul_(rows[:, None])
        weight.release()
        return result

    def parts() -> tuple[Tensor, ...]:
        codes = weight.load().view(torch.uint8) ^ 128
        groups = codes.shape[1] // KERNEL_GROUP
        weight.release()
        return codes, rows.half()[:, None].repeat(1, groups), torch.full((len(codes), groups), 128, dtype=torch.uint8)

    if pieces.transposed(name):
        return Stored(weight.shape[::-1], torch.float32, lambda: load().T)
    half = torch.finfo(torch.float16)  # rounding a row's scale to it costs no more than rounding the row's weights
    normal = ((rows == 0) | (rows.abs() >= half.tiny) & (rows.abs() <= half.max)).all()
    fits = bool(normal) and weight.shape[1] % KERNEL_GROUP == 0
    return Stored(weight.shape, torch.float32, load, codes=Codes("INT8", parts) if fits else None)
