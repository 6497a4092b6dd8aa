"""AWQ's container, version "gemm": codes and zero points packed along the outputs, in an order of its own.

    X.qweight (inputs, outputs / 8) int32    X.qzeros (groups, outputs / 8) int32    X.scales (groups, outputs)

The eight codes of a number are, from its low bits up, those of outputs 0 2 4 6 1 3 5 7.
Method: arXiv 2306.00978. Container: AutoAWQ, `quantization_config` of quant_method "awq".
"""

from __future__ import annotations

import torch
from torch import Tensor

from paddock.checkpoint.groups import Grouped, unpack
from paddock.checkpoint.pieces import FLOATS, Pieces, Settings
from paddock.checkpoint.stored import Stored
from paddock.errors import CheckpointError, UnsupportedError

BITS, FIELDS = 4, 8
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_PLACES = [ORDER.index(output) for output in range(FIELDS)]  # where each output's code lies
NOTES = (
    "quant_method", "backend", "do_fuse", "fuse_max_seq_len", "modules_to_fuse", "exllama_config", "desc_act", "sym",
    "_load_in_4bit", "_load_in_8bit", "act_scale", "provider", "lm_head",
)  # fmt: skip


def read(settings: Settings, pieces: Pieces) -> dict[str, Stored]:
    """Every quantised matrix under its plain name; its pieces are taken out of `pieces`."""
    group = _group(settings)
    kept_plain = settings.modules("modules_to_not_convert")
    settings.finish()
    return {f"{module}.weight": _matrix(module, group, pieces) for module in pieces.modules(".qweight", kept_plain)}


def _group(settings: Settings) -> int:
    """Inputs per group, 0 for all of a matrix. Raises UnsupportedError for another packing."""
    bits = settings.integer("bits", "w_bit", default=BITS, high=64)
    if bits != BITS:
        raise UnsupportedError(f"{settings.where}: bits is {bits}", expected="4, of AWQ")
    version = settings.get("version", "format", "checkpoint_format", default="gemm")
    if not isinstance(version, str) or version.lower() != "gemm":
        raise UnsupportedError(
            f"{settings.where}: version is {str(version)[:40]!r}: this packing is made for one GPU kernel",
            expected="'gemm'",
            fix="use the model's gemm version, or a GGUF file of it",
        )
    settings.ignore("version", "format", "checkpoint_format", *NOTES)
    settings.insist("zero_point", True, "without zero points the codes mean something else")
    group = settings.integer("group_size", "q_group_size", default=128, low=-1)
    return 0 if group == -1 else group


def _matrix(module: str, group: int, pieces: Pieces) -> Stored:
    weight = pieces.take_matrix(f"{module}.qweight", [torch.int32])
    inputs, outputs = weight.shape[0], weight.shape[1] * FIELDS
    group = group or inputs
    if inputs % group:
        raise CheckpointError(f"tensor {module[:120]!r} has {inputs} inputs", expected=f"whole groups of {group}")
    scales = pieces.take(f"{module}.scales", FLOATS, (inputs // group, outputs))
    zeros = pieces.take(f"{module}.qzeros", [torch.int32], (inputs // group, outputs // FIELDS))

    def codes(first: int, last: int) -> Tensor:
        return _unpack(weight.load()[:, first // FIELDS : -(-last // FIELDS)]).T

    name, sources = f"{module}.weight", (weight, scales, zeros)
    grouped = Grouped(name, inputs, outputs, BITS, group, scales, codes, lambda: _unpack(zeros.load()), sources)
    return grouped.stored(pieces.transposed(name))


def _unpack(packed: Tensor) -> Tensor:
    """(n, m) int32 to (n, 8 m) uint8, outputs in their plain order."""
    return unpack(packed, BITS).unflatten(1, (-1, FIELDS))[:, :, _PLACES].flatten(1)
