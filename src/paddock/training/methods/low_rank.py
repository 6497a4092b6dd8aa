"""LoRA and its kin: low-rank matrices beside those of a base that stays as it is.

As PEFT does it: on published matrices (where q, k and v are published as one, they share A), A drawn as Kaiming
uniform with a = sqrt(5), B zero, dropout on what A sees.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from paddock.checkpoint.adapter_writing import Settings, write_adapter
from paddock.checkpoint.adapters import MAX_RANK, deltas, read_adapter, replaced
from paddock.checkpoint.matrices import Matrix
from paddock.data.section import Section
from paddock.kernels.packed import Packed
from paddock.model.families import family
from paddock.model.initialise import drawn
from paddock.model.lora import LowRank, adapt, plain_weights
from paddock.model.transformer import Transformer
from paddock.training.methods import roles as by_role
from paddock.training.methods.tuned import Base, Tuned


class LowRankMethod(Section):
    """What LoRA and QLoRA share: W + alpha / rank * B A, of which A and B are trained.

    roles: on which matrices: of `q k v out gate up down router`, or `attention`, `feedforward`, `all` (all but the
    router), or names that the model's family publishes (`q_proj`). layers: counted from 0, of a part of them only.
    rslora: alpha / sqrt(rank) (arXiv 2312.03732). dora: rows are trained in length and direction apart (arXiv
    2402.09353). plus: by what B's learning rate is A's multiplied (LoRA+, arXiv 2402.12354; it suggests 16). init: how
    A is drawn.
    """

    rank: Annotated[int, Field(ge=1, le=MAX_RANK)] = 8
    alpha: Annotated[float, Field(gt=0, le=10**4)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    roles: by_role.Roles = "all"
    layers: list[Annotated[int, Field(ge=0)]] | None = None
    rslora: bool = False
    dora: bool = False
    plus: Annotated[float, Field(gt=0, le=1000)] = 1.0
    init: Literal["kaiming", "gaussian"] = "kaiming"

    def attach(self, base: Base, seed: int) -> Tuned:
        """Puts it on the base. Raises UsageError for roles and layers that it does not have."""
        rules = family(dict(base.config)).RULES
        chosen = by_role.chosen(base.model, rules, self.roles, self.layers)
        put: dict[str, LowRank] = {}
        weights = plain_weights(base.model)
        for matrix in chosen:
            put |= self._begun(matrix, weights, seed)
        model = adapt(base.model, put, dtype=torch.float32, dropout=self.dropout)
        ends = (".a", ".b", ".magnitude")
        names = [name for name, _ in model.named_parameters()]
        new = {name for name in names if name.endswith(ends) and name.rpartition(".")[0] in put}
        rates = {name: self.plus for name in new if name.endswith(".b")} if self.plus != 1.0 else {}
        return Tuned(
            model,
            frozenset(new | base.fresh),
            functools.partial(self._write, base),
            functools.partial(_read, base),
            rates,
        )

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def _begun(self, matrix: Matrix, weights: Mapping[str, Tensor | Packed], seed: int) -> dict[str, LowRank]:
        """What is put on the parts of one published matrix before the first step."""
        own = [weights[path + ".weight"] for path in matrix.paths]
        a = torch.empty(self.rank, own[0].shape[1])
        random = drawn(seed, matrix.paths[0] + ".a")
        if self.init == "gaussian":
            a.normal_(0.0, 1 / self.rank, generator=random)
        else:
            edge = 1 / math.sqrt(a.shape[1])  # Kaiming's, with a = sqrt(5)
            a.uniform_(-edge, edge, generator=random)
        return {
            path: LowRank(a, torch.zeros(weight.shape[0], self.rank), self.scale, self._lengths(weight))
            for path, weight in zip(matrix.paths, own, strict=True)
        }

    def _lengths(self, weight: Tensor | Packed) -> Tensor | None:
        if not self.dora:
            return None
        plain = weight.dequantise() if isinstance(weight, Packed) else weight.detach()
        return torch.linalg.vector_norm(plain.float(), dim=1)

    def _write(self, base: Base, folder: Path, model: Transformer) -> None:
        layers = None if self.layers is None else tuple(sorted(set(self.layers)))
        settings = Settings(base.name, self.rank, self.alpha, self.dropout, self.rslora, self.dora, layers)
        write_adapter(folder, model, base.config, settings, base.fresh)


class LoRA(LowRankMethod):
    """LoRA (arXiv 2106.09685), on a base as it is."""

    name: Literal["lora"] = "lora"


class QLoRA(LowRankMethod):
    """QLoRA (arXiv 2305.14314): LoRA on a base whose matrices are held in NF4, 4 bits a weight.

    double: the scales are quantised too, which takes 4.127 bits a weight instead of 4.5. vocabulary: the token table
    and the head over the vocabulary in 8 bits, 8.5 a weight, or `plain`, in the type that is computed in.
    """

    name: Literal["qlora"] = "qlora"
    double: bool = True
    vocabulary: Literal["8bit", "plain"] = "8bit"


def _read(base: Base, folder: Path) -> dict[str, Tensor]:
    """What `_write` wrote, by the names of parameters in the adapted model."""
    adapter, rules = read_adapter(folder), family(dict(base.config)).RULES
    found: dict[str, Tensor] = {}
    shared: set[int] = set()
    for path, delta in deltas(adapter, base.model, rules).items():
        if id(delta.a) not in shared:  # a parameter has one name, that of the first matrix that holds it
            found[path + ".a"] = delta.a
        shared.add(id(delta.a))
        found[path + ".b"] = delta.b
        if delta.magnitude is not None:
            found[path + ".magnitude"] = delta.magnitude
    return found | replaced(adapter, base.model, rules)
