"""A base whose matrices are held in NF4 while an adapter to it learns (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paddock.checkpoint.packing import Packing
from paddock.checkpoint.stored import Stored
from paddock.kernels.nf4 import Nf4
from paddock.kernels.packed import Packed
from paddock.kernels.q8 import BITS, Q8
from paddock.model.linear import ATTENTION_ROLES, FEEDFORWARD_ROLES, weights_of
from paddock.model.rules import Rename, Rule
from paddock.model.transformer import Transformer

ROLES = frozenset({*ATTENTION_ROLES, *FEEDFORWARD_ROLES})
ENDS = ("embedding.tokens.weight", "head.weight")  # of decoder and encoder; a head that is tied is its table


@dataclass(frozen=True)
class HeldNf4(Packing):
    """Matrices of the blocks, by role, in NF4; token table and head over the vocabulary in 8 bits; the rest in `type`.

    What was published in NF4 stays as it is, scales included; of what was published quantised in another way the codes
    stay; everything else is rounded here. double: the scales of NF4 too. ends: whether table and head are rounded,
    where their rows are whole blocks (`kernels.q8`); else they are of `type`, as bitsandbytes leaves them.
    """

    type: torch.dtype = torch.bfloat16
    double: bool = True
    ends: bool = True

    @property
    def rest(self) -> torch.dtype:
        return self.type

    def takes(self, model: Transformer, names: Sequence[str], rule: Rule) -> bool:
        return all(by_role(name) for name in names) and super().takes(model, names, rule)

    def whole(self, model: Transformer, name: str, stored: Stored, rule: Rule) -> Packed | None:
        plain = type(rule) is Rename and not rule.transpose
        return stored.whole() if stored.whole is not None and plain and by_role(name) else None

    def numbers(self, model: Transformer, name: str, matrix: Tensor) -> Packed | None:
        if matrix.dim() != 2:
            return None
        if by_role(name):
            return Nf4.rounded(matrix, self.double)
        return Q8.rounded(matrix, self.type) if self.ends and at_end(name) else None


def by_role(name: str) -> bool:
    """Whether a parameter is the matrix of a role that is held so."""
    path, _, leaf = name.rpartition(".")
    return leaf == "weight" and path.rpartition(".")[2] in ROLES and "blocks." in name


def at_end(name: str) -> bool:
    """Whether a parameter is a token table or a head over the vocabulary."""
    return name.removeprefix("encoder.") in ENDS


def told(model: Transformer) -> str:
    """What the weights take, in words, and how much of that is quantised."""
    weights = weights_of(model).values()
    text = f"the weights take {sum(weight.nbytes for weight in weights) / 1e6:,.1f} MB"
    levelled = [weight for weight in weights if isinstance(weight, Nf4)]
    if levelled:
        taken, count = sum(weight.nbytes for weight in levelled), sum(weight.numel() for weight in levelled)
        bits = 8 * taken / count
        text += f", of which {taken / 1e6:,.1f} MB are {len(levelled)} matrices in NF4, {bits:.3f} bits a weight"
    ends = [weight for weight in weights if isinstance(weight, Q8)]
    if ends:
        taken = sum(weight.nbytes for weight in ends)
        text += f", and {taken / 1e6:,.1f} MB the token table and head in 8 bits, {BITS:g} bits a weight"
    return text
