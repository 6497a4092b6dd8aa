"""GPTQ's container: codes packed along the inputs, zero points along the outputs.

    X.qweight (inputs × bits / 32, outputs) int32    number r of a column holds inputs r × 32 / bits and on
    X.qzeros  (groups, outputs × bits / 32) int32    format "gptq" stores each minus one, "gptq_v2" as it is
    X.scales  (groups, outputs)
    X.g_idx   (inputs,) int32                        the group of each input

The lowest bits of a number come first.
Method: arXiv 2210.17323. Container: AutoGPTQ and GPTQModel, `quantization_config` of quant_method "gptq".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paddock.checkpoint.groups import Grouped, pack, unpack
from paddock.checkpoint.pieces import FLOATS, Pieces, Settings
from paddock.checkpoint.stored import Stored
from paddock.errors import CheckpointError, UnsupportedError

FORMATS = {"gptq": True, "gptq_v2": False}  # whether zero points are stored minus one
# What quantising was told, and which kernels are to be used: nothing about what the tensors mean.
# fmt: off
NOTES = (
    "quant_method", "method", "version", "damp_percent", "damp_auto_increment", "true_sequential", "static_groups",
    "dataset", "tokenizer", "batch_size", "block_name_to_quantize", "module_name_preceding_first_block",
    "modules_in_block_to_quantize", "pad_token_id", "use_cuda_fp16", "use_exllama", "disable_exllama",
    "exllama_config", "max_input_length", "model_seqlen", "cache_block_outputs", "lm_head", "meta", "backend",
    "model_name_or_path", "model_file_base_name", "mse", "desc_act", "hessian", "act_group_aware", "quant_meta",
    "_load_in_4bit", "_load_in_8bit", "offload_to_disk", "offload_to_disk_path", "gptaq",
    "gptaq_alpha",
)
# fmt: on


@dataclass(frozen=True)
class Layout:
    """What quantization_config says about all matrices. `group` 0 stands for all inputs of a matrix."""

    bits: int
    group: int
    less_one: bool
    ordered: bool

    @property
    def fields(self) -> int:
        """Codes in one int32."""
        return 32 // self.bits


def read(settings: Settings, pieces: Pieces) -> dict[str, Stored]:
    """Every quantised matrix under its plain name; its pieces are taken out of `pieces`."""
    layout = _layout(settings)
    kept_plain = settings.modules("modules_to_not_convert")
    settings.finish()
    return {f"{module}.weight": _matrix(module, layout, pieces) for module in pieces.modules(".qweight", kept_plain)}


def _layout(settings: Settings) -> Layout:
    bits = settings.integer("bits", "w_bit", high=64)
    if bits not in (4, 8):
        raise UnsupportedError(f"{settings.where}: bits is {bits}", expected="4 or 8, of GPTQ")
    group = settings.integer("group_size", "q_group_size", default=128, low=-1)
    if group in (0, -1):
        group = 0
    settings.insist("is_marlin_format", False, "Marlin's packing is made for one GPU kernel")
    settings.insist("pack_dtype", "int32", "other packings are not known here")
    for key in ("dynamic", "adapter", "rotation"):
        if settings.get(key, default=None):
            raise UnsupportedError(
                f"{settings.where}: {key} is {str(settings.values[key])[:80]}: not every matrix is packed alike",
                expected="nothing",
            )
    settings.flag("sym", default=True)  # a symmetric matrix stores its zero points all the same
    ordered = settings.flag("desc_act", default=False)
    less_one = settings.choice("checkpoint_format", "format", options=FORMATS, default="gptq")
    settings.ignore(*NOTES)
    return Layout(bits, group, less_one, ordered)


def _matrix(module: str, layout: Layout, pieces: Pieces) -> Stored:
    weight = pieces.take_matrix(f"{module}.qweight", [torch.int32])
    inputs, outputs = weight.shape[0] * layout.fields, weight.shape[1]
    group = layout.group or inputs
    groups = -(-inputs // group)
    if outputs % layout.fields:
        expected = f"a multiple of {layout.fields} in {layout.bits} bits"
        raise CheckpointError(f"tensor {module[:120]!r} has {outputs} outputs", expected=expected)
    scales = pieces.take(f"{module}.scales", FLOATS, (groups, outputs))
    zeros = pieces.take(f"{module}.qzeros", [torch.int32], (groups, outputs // layout.fields))
    order = _order(module, pieces, layout, inputs, group, groups)

    def codes(first: int, last: int) -> Tensor:
        return unpack(weight.load()[:, first:last].T, layout.bits)

    def zero_points() -> Tensor:
        return _zero_points(module, unpack(zeros.load(), layout.bits), layout)

    name, sources = f"{module}.weight", (weight, scales, zeros)
    grouped = Grouped(name, inputs, outputs, layout.bits, group, scales, codes, zero_points, sources, order)
    return grouped.stored(pieces.transposed(name))


def _zero_points(module: str, stored: Tensor, layout: Layout) -> Tensor:
    """Stored minus one, 0 wraps to the largest number and spoils its neighbours in some writers: nobody can tell it
    from the largest plus one, so both are refused."""
    if not layout.less_one:
        return stored
    most = 2**layout.bits - 1
    if (stored == most).any():
        raise CheckpointError(
            f"tensor {f'{module}.qzeros'[:120]!r} holds the zero point {most + 1}, out of range",
            expected=f"1 to {most}, as {layout.bits} bits of format 'gptq' can hold",
            fix="quantise the model again, symmetric or in format 'gptq_v2'",
        )
    return stored + 1


def _order(module: str, pieces: Pieces, layout: Layout, inputs: int, group: int, groups: int) -> Tensor | None:
    """(inputs,) groups, or None where they follow each other. Read at once, as what kernels can do hangs on it."""
    name = f"{module}.g_idx"
    if name not in pieces.left:
        if layout.ordered and groups > 1:
            raise CheckpointError(f"the weights lack {name[:160]!r}", expected="it, as desc_act is true")
        return None
    stored = pieces.take(name, [torch.int32, torch.int64], (inputs,))
    order = stored.load().long()
    if not 0 <= int(order.min()) <= int(order.max()) < groups:
        raise CheckpointError(f"tensor {name[:120]!r} names groups that are not there", expected=f"0 to {groups - 1}")
    return None if torch.equal(order, torch.arange(inputs) // group) else order


def pieces_of(module: str, codes: Tensor, scales: Tensor, bits: int) -> dict[str, Tensor]:
    """A matrix in format "gptq": codes (outputs, inputs) uint8 around 2^(bits - 1), scales (outputs, groups)."""
    inputs, groups = codes.shape[1], scales.shape[1]
    zero = codes.new_full((groups, len(codes)), 2 ** (bits - 1) - 1)
    return {
        f"{module}.qweight": pack(codes, bits).T.contiguous(),
        f"{module}.qzeros": pack(zero, bits),
        f"{module}.scales": scales.T.contiguous(),
        f"{module}.g_idx": (torch.arange(inputs) // (inputs // groups)).int(),
    }
