"""A model as a quantised Hugging Face folder that transformers and vLLM read as well: int8, int4 (GPTQ) or nf4.

The matrices of the blocks are quantised; embeddings, norms, routers and heads stay as they are. Where a matrix does not
fit the container, it stays plain too, and the result says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint import folder, gptq
from paddock.checkpoint.checkpoint import Checkpoint
from paddock.checkpoint.safetensors import Planned
from paddock.checkpoint.weights import Published, published
from paddock.engine.language_model import LanguageModel
from paddock.engine.opening import Beside
from paddock.engine.saving import write_side_files
from paddock.errors import UsageError, did_you_mean
from paddock.model.families import family
from paddock.model.transformer import Transformer
from paddock.quantize import nf4
from paddock.quantize.calibration import calibrated
from paddock.quantize.gptq import DAMPING, nearest
from paddock.quantize.matrices import Matrix, group_for, matrices

BITS = {"int8": 8, "int4": 4}
KINDS = (*BITS, "nf4")
Progress = Callable[[str, int, int], None]  # a matrix's name, weights quantised before it, weights in all


@dataclass(frozen=True)
class Written:
    """`weights` of `matrices` matrices were quantised and take `bytes`. `plain` are matrices that did not fit.

    `group`: how many weights share a scale.
    """

    matrices: int
    weights: int
    bytes: int
    group: int
    plain: tuple[str, ...]

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.bytes / self.weights


@dataclass(frozen=True)
class Plan:
    """What becomes of a model's tensors: `fitting` matrices are quantised, `plain` ones would have been."""

    kind: str
    group: int
    tensors: list[Published]
    fitting: list[Matrix]
    plain: list[Matrix]
    calibration: Sequence[Sequence[int]] | None

    @classmethod
    def of(cls, kind: str, tensors: list[Published], calibration: Sequence[Sequence[int]] | None) -> Plan:
        found = matrices(tensors)
        if kind == "nf4":
            return cls(kind, nf4.BLOCK, tensors, found, [], None)
        group = group_for(found, BITS[kind])
        fitting = [matrix for matrix in found if matrix.fits(group, BITS[kind])]
        plain = [matrix for matrix in found if not matrix.fits(group, BITS[kind])]
        return cls(kind, group, tensors, fitting, plain, calibration)

    def kept(self) -> list[Published]:
        taken = {matrix.name for matrix in self.fitting}
        return [tensor for tensor in self.tensors if tensor.name not in taken]


def write(
    checkpoint: Checkpoint,
    out: str | Path,
    kind: str,
    calibration: Sequence[Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> Written:
    """Writes the model at `out` as "int8", "int4" or "nf4", with the tokenizer and all else that lay beside it.

    `calibration`: texts as token ids, for int4 only: GPTQ then rounds so that the model's answers to them change least.
    Without, each weight goes to the nearest code. Everything is on disk before the first file takes its place.

    Raises UsageError for another kind, calibration that cannot be meant, or a model of which no matrix fits;
    ResourceError when the disk is full.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no kind {kind[:40]!r}", expected=", ".join(KINDS), fix=did_you_mean(kind, KINDS))
    if calibration is not None and kind != "int4":
        raise UsageError(f"{kind} is not calibrated", fix="leave the calibration out, or choose int4")
    model, beside = checkpoint.model(), Beside.of(checkpoint)
    files = LanguageModel(checkpoint, model, beside.tokenizer(None), beside.template(None)).side_files()
    plan = Plan.of(kind, published(model, family(checkpoint.config).RULES), calibration)
    packed = _all_packed(plan, model, progress)
    tensors = {t.name: Planned(t.shape, t.dtype, t.tensor) for t in plan.kept()}
    tensors |= {name: Planned(tuple(t.shape), t.dtype, lambda t=t: t) for name, t in packed.items()}  # type: ignore[misc]
    config = dict(checkpoint.config)
    config["dtype" if "dtype" in config else "torch_dtype"] = str(checkpoint.dtype).removeprefix("torch.")
    config["quantization_config"] = _four_bit(plan, checkpoint.dtype) if kind == "nf4" else _grouped(plan)
    folder.write_tensors(out, config, tensors, dict(checkpoint.generation))
    write_side_files(Path(out), files)
    weights, size = sum(matrix.weights for matrix in plan.fitting), sum(tensor.nbytes for tensor in packed.values())
    return Written(len(plan.fitting), weights, size, plan.group, tuple(matrix.name for matrix in plan.plain))


def _all_packed(plan: Plan, model: Transformer, progress: Progress | None) -> dict[str, Tensor]:
    """The pieces of all matrices, in memory: a quarter of a bfloat16 model at 4 bits."""
    result: dict[str, Tensor] = {}
    total, done = sum(matrix.weights for matrix in plan.fitting), 0
    for matrix, pieces in _packed(plan, model):
        result |= pieces
        done += matrix.weights
        if progress is not None:
            progress(matrix.name, done, total)
    return result


def _packed(plan: Plan, model: Transformer) -> Iterator[tuple[Matrix, dict[str, Tensor]]]:
    if plan.kind == "nf4":
        for matrix in plan.fitting:
            yield matrix, nf4.pack(matrix.name, matrix.load())
        return
    bits = BITS[plan.kind]
    if plan.calibration is None:
        results = ((matrix, nearest(matrix.load(), bits, plan.group)) for matrix in plan.fitting)
    else:
        results = calibrated(model, plan.fitting, plan.calibration, bits, plan.group)  # type: ignore[assignment]
    for matrix, rounded in results:
        yield matrix, gptq.pieces_of(matrix.module, rounded.codes, rounded.scales, bits)


def _grouped(plan: Plan) -> dict[str, Any]:
    """quantization_config of the GPTQ container. Where some matrices of a block stay plain it lists the others."""
    settings: dict[str, Any] = {
        "quant_method": "gptq",
        "checkpoint_format": "gptq",
        "bits": BITS[plan.kind],
        "group_size": plan.group,
        "sym": True,
        "desc_act": False,
        "static_groups": True,
        "true_sequential": False,
        "damp_percent": DAMPING,
        "lm_head": False,
    }
    if plan.plain:
        inside = {re.sub(r"^.*?\.\d+\.", "", matrix.module) for matrix in plan.fitting}
        settings["modules_in_block_to_quantize"] = [[name] for name in sorted(inside)]
    return settings


def _four_bit(plan: Plan, dtype: torch.dtype) -> dict[str, Any]:
    """quantization_config of bitsandbytes. It lists what stays plain, as transformers takes all else to be quantised.

    "lm_head" is always there: what transformers calls a head, wherever its matrix lies and whatever it is published as.
    """
    plain = [tensor.name for tensor in plan.kept() if len(tensor.shape) == 2]
    modules = sorted({"lm_head"} | {name.removesuffix(".weight") for name in plain if name.endswith(".weight")})
    return {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": str(dtype).removeprefix("torch."),
        "bnb_4bit_quant_storage": "uint8",
        "llm_int8_threshold": 6.0,
        "llm_int8_skip_modules": modules,
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
    }
