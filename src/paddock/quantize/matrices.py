"""Which tensors of a model are quantised in a folder: the matrices of its blocks, as far as they fit the container."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from paddock.checkpoint.weights import Published
from paddock.errors import UsageError
from paddock.model.rules import attention_at

GROUPS = (128, 64, 32)  # preferred first; the kernels need whole groups of 32
_ROLES = re.compile(r"(encoder\.)?blocks\.\d+\.(attention|cross|feedforward)\.(.*\.)?(q|k|v|out|gate|up|down)\.weight")


@dataclass(frozen=True)
class Matrix:
    """A published matrix of linear layers: one, or several that a family stores as one (`ours`)."""

    tensor: Published

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def module(self) -> str:
        return self.name.removesuffix(".weight")

    @property
    def ours(self) -> tuple[str, ...]:
        return self.tensor.ours

    @property
    def outputs(self) -> int:
        return self.tensor.shape[1 if self._turned else 0]

    @property
    def inputs(self) -> int:
        return self.tensor.shape[0 if self._turned else 1]

    @property
    def weights(self) -> int:
        return math.prod(self.tensor.shape)

    @property
    def _turned(self) -> bool:
        """Whether the family stores it (inputs, outputs); quantised containers never do."""
        return bool(getattr(self.tensor.rule, "transpose", False))

    def load(self) -> Tensor:
        """(outputs, inputs), in the model's type."""
        return self.joined([part.detach() for part in self.tensor.parts])  # type: ignore[union-attr]

    def joined(self, parts: list[Tensor]) -> Tensor:
        """(outputs, inputs) from the canonical matrices."""
        whole = self.tensor.rule.join(parts, attention_at(self.tensor.model.architecture, self.ours[0]))
        return whole.T if self._turned else whole

    def split(self, weight: Tensor) -> tuple[Tensor, ...]:
        """The inverse of `joined`."""
        whole = weight.T if self._turned else weight
        return self.tensor.rule.split(whole, attention_at(self.tensor.model.architecture, self.ours[0]))

    def fits(self, group: int, bits: int) -> bool:
        return self.inputs % group == 0 and self.outputs % (32 // bits) == 0


def matrices(tensors: Iterable[Published]) -> list[Matrix]:
    """Those of a model's tensors that are matrices of its blocks."""
    return [Matrix(tensor) for tensor in tensors if _is_matrix(tensor)]


def _is_matrix(tensor: Published) -> bool:
    inside = all(_ROLES.fullmatch(own) for own in tensor.ours)
    return inside and len(tensor.shape) == 2 and tensor.name.endswith(".weight")


def group_for(found: list[Matrix], bits: int) -> int:
    """How many inputs are to share a scale: the size that most weights fit. Raises UsageError where none fits."""

    def fitting(group: int) -> int:
        return sum(matrix.weights for matrix in found if matrix.fits(group, bits))

    best = max(GROUPS, key=fitting)
    if not fitting(best):
        widths = sorted({matrix.inputs for matrix in found})
        raise UsageError(
            f"no matrix of this model fits int{bits}: their rows have {', '.join(map(str, widths[:6]))} weights",
            expected=f"whole groups of {GROUPS[-1]}, and outputs in multiples of {32 // bits}",
            fix="quantise to nf4, which takes any width",
        )
    return best
