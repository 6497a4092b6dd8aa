"""Matrices that stay, or become, quantised in memory: published codes as they are, numbers rounded on the way in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paddock.checkpoint.block_types import TYPES, TensorType
from paddock.checkpoint.encoding import ENCODERS, encode
from paddock.checkpoint.stored import Codes, Stored
from paddock.errors import CheckpointError, UsageError, did_you_mean
from paddock.kernels.packed import Packed
from paddock.model.linear import Linear, Table
from paddock.model.rules import Rename, Row, Rule
from paddock.model.spec import Attention
from paddock.model.transformer import Head, Transformer

KINDS = {kind.name.lower(): kind for kind in TYPES.values() if kind.name in ENCODERS}
ENDS = TYPES[8]  # Q8_0: at least this for the vocabulary's matrices, whose errors every token sees


@dataclass(frozen=True)
class Packing:
    """What `build` gives the native kernels instead of parameters.

    Matrices published quantised stay so. With `kind` every other matrix is rounded to that type of ggml's; token table
    and head, and matrices whose columns are no whole blocks of it, to 8 bits. Where these do not fit either, and
    without `kind`, it keeps its own numbers.
    """

    kind: TensorType | None = None

    @property
    def rest(self) -> torch.dtype:
        """The type of what is not packed."""
        return torch.float32

    @staticmethod
    def named(name: str) -> Packing:
        """Raises UsageError for a kind there is none of."""
        kind = KINDS.get(name.lower()) if isinstance(name, str) else None
        if kind is None:
            near = did_you_mean(str(name)[:40], KINDS)
            raise UsageError(f"unknown kind of quantisation {str(name)[:40]!r}", expected=", ".join(KINDS), fix=near)
        return Packing(kind)

    def takes(self, model: Transformer, names: Sequence[str], rule: Rule) -> bool:
        """Whether these parameters are matrices that the model uses through kernels alone, and stored row by row."""
        by_rows = not getattr(rule, "transpose", False) and not isinstance(rule, Row)
        return by_rows and all(_is_matrix(model, name) for name in names)

    def published(
        self, name: str, codes: Codes, rule: Rule, attention: Attention | None, columns: Mapping[str, int]
    ) -> dict[str, Packed]:
        """The packed matrices that the published tensor `name` holds: parameter name to columns in `columns`."""
        begun = codes.packed() if codes.packed is not None and type(rule) is Rename else None
        if begun is not None:
            return {own: Packed(begun) for own in columns}
        parts = codes.load()
        if not Packed.finite(codes.format, parts):
            raise CheckpointError(
                f"tensor {name[:120]!r} holds scales that are not numbers (NaN or infinite)",
                fix="the file is corrupt or its training diverged; get another copy",
            )
        split = zip(*(rule.split(part, attention) for part in parts), strict=True)
        return {
            own: Packed.of(codes.format, mine, width) for (own, width), mine in zip(columns.items(), split, strict=True)
        }

    def whole(self, model: Transformer, name: str, stored: Stored, rule: Rule) -> Packed | None:
        """A published matrix, the parameter `name`, all of it in a form of its own; None where it has none here."""
        return None

    def numbers(self, model: Transformer, name: str, matrix: Tensor) -> Packed | None:
        """A matrix (rows, columns) of numbers, packed where there is a reason to: `kind`, or a 16-bit type to keep."""
        if not _is_matrix(model, name) or matrix.dim() != 2:
            return None
        kind = self.kind
        coarse = kind is not None and kind.nbytes * ENDS.weights < ENDS.nbytes * kind.weights
        if (
            kind is not None
            and coarse
            and (isinstance(_module(model, name), Table | Head) or matrix.shape[1] % kind.weights)
        ):
            kind = ENDS
        if kind is not None and matrix.shape[1] % kind.weights == 0:
            return Packed.of(kind.name, (encode(kind, matrix),), matrix.shape[1])
        return Packed.plain(matrix) if matrix.dtype in (torch.float16, torch.bfloat16) else None


def _is_matrix(model: Transformer, name: str) -> bool:
    leaf, module = name.rpartition(".")[2], _module(model, name)
    return leaf == "weight" and module is not None and isinstance(module, Linear | Table | Head)


def _module(model: Transformer, name: str) -> torch.nn.Module | None:
    """The module that has the parameter; None for the table of distances, which is looked into."""
    path = name.rpartition(".")[0]
    return None if path.endswith("relative_bias") else model.get_submodule(path)
