"""GPTQ over a whole model: block by block, each on what the blocks before it, rounded already, make of the texts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from paddock.engine.request import id_rows
from paddock.errors import ContextLengthError, UnsupportedError, UsageError
from paddock.model.spec import Architecture
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.quantize.gptq import Hessian, Rounded, gptq
from paddock.quantize.matrices import Matrix

# Linear layers that read the very input of another one.
_SAME = {"k": "q", "v": "q", "gate": "up"}


def calibrated(
    model: Transformer, matrices: Sequence[Matrix], texts: Sequence[Sequence[int]], bits: int, group: int
) -> Iterator[tuple[Matrix, Rounded]]:
    """Rounds `matrices`, block after block. Beside the model, memory holds one block in float32, its Hessians, and the
    hidden states (tokens, width) of all texts.

    Raises UsageError for texts that the model cannot read, UnsupportedError for a model that is more than one stack.
    """
    rows = _checked(model.architecture, texts)
    if model.encoder is not None or model.relative_bias is not None:
        raise UnsupportedError(
            f"a {model.architecture.family} model is not calibrated", fix="quantise it without calibration"
        )
    hidden = [_embedded(model, row) for row in rows]
    for number, block in enumerate(model.blocks):
        prefix = f"blocks.{number}."
        mine = [matrix for matrix in matrices if matrix.ours[0].startswith(prefix)]
        with torch.no_grad():
            wide = copy.deepcopy(block).float()
            hessians = _hessians(wide, mine, prefix, model.architecture, rows, hidden)
            for matrix in mine:
                source = _source(matrix.ours[0].removeprefix(prefix).removesuffix(".weight"))
                rounded = gptq(matrix.load(), hessians[source].mean(), bits, group)
                for own, part in zip(matrix.ours, matrix.split(rounded.weight()), strict=True):
                    wide.get_parameter(own.removeprefix(prefix)).copy_(part)
                yield matrix, rounded
            hidden = [wide(x, Step.begin(model.architecture, row)) for row, x in zip(rows, hidden, strict=True)]


def _checked(architecture: Architecture, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """Each text as (1, tokens) ids."""
    if not texts or not all(texts):
        raise UsageError("the calibration holds no text, or an empty one", expected="token ids of some texts")
    longest = max(map(len, texts))
    if architecture.context is not None and longest > architecture.context:
        raise ContextLengthError(
            f"a calibration text of {longest} tokens does not fit",
            expected=f"at most {architecture.context}, this model's context",
        )
    return [torch.tensor(id_rows(list(text), architecture.vocabulary)) for text in texts]


@torch.no_grad()
def _embedded(model: Transformer, row: Tensor) -> Tensor:
    return model.embedding(row, Step.begin(model.architecture, row)).float()


def _source(module: str) -> str:
    """The layer whose input this one reads too: "attention.v" reads that of "attention.q"."""
    path, _, role = module.rpartition(".")
    return f"{path}.{_SAME.get(role, role)}"


def _hessians(
    block: nn.Module,
    matrices: Sequence[Matrix],
    prefix: str,
    architecture: Architecture,
    rows: Sequence[Tensor],
    hidden: Sequence[Tensor],
) -> dict[str, Hessian]:
    """What the block's linear layers read while it runs over all texts, by the name of the first that reads it."""
    found: dict[str, Hessian] = {}
    hooks = []
    for module in {_source(m.ours[0].removeprefix(prefix).removesuffix(".weight")) for m in matrices}:
        layer = block.get_submodule(module)
        hessian = found[module] = Hessian(block.get_parameter(f"{module}.weight").shape[1])

        def see(_: nn.Module, inputs: tuple[Tensor, ...], hessian: Hessian = hessian) -> None:
            hessian.add(inputs[0])

        hooks.append(layer.register_forward_pre_hook(see))
    for row, x in zip(rows, hidden, strict=True):
        block(x, Step.begin(architecture, row))
    for hook in hooks:
        hook.remove()
    return found
