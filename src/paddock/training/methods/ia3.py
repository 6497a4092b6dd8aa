"""(IA)^3 (arXiv 2205.05638): keys, values and the inside of feed-forwards, each number of them scaled."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from paddock.checkpoint.ia3_folders import read_ia3, write_ia3
from paddock.checkpoint.matrices import Matrix, matrices
from paddock.data.section import Section
from paddock.model.families import family
from paddock.model.lora import adaptable
from paddock.model.scaling import Scales, with_scales
from paddock.model.transformer import Transformer
from paddock.training.methods import roles as by_role
from paddock.training.methods.tuned import Base, Tuned

USUAL = {"k", "v", "down"}


class IA3(Section):
    """A vector of ones for each matrix that is meant: it multiplies what goes into `down`, or comes out of others.

    roles: as of lora; by default k, v and down with whatever the family publishes in one matrix with them, as PEFT
    does. layers: counted from 0, of a part of them only.
    """

    name: Literal["ia3"] = "ia3"
    roles: by_role.Roles | None = None
    layers: list[Annotated[int, Field(ge=0)]] | None = None

    def attach(self, base: Base, seed: int) -> Tuned:
        """Raises UsageError for roles and layers that the model does not have. `seed` draws nothing here."""
        rules = family(dict(base.config)).RULES
        roles = self.roles
        if roles is None:
            every = matrices(base.model, [rule for rule in rules if rule.when(base.model.architecture)])
            usual = {_role(path) for matrix in every for path in matrix.paths if USUAL & _roles(matrix)}
            roles = sorted(usual)
        chosen = by_role.chosen(base.model, rules, roles, self.layers)
        linears = adaptable(base.model)
        put: dict[str, Scales] = {}
        like = base.model.embedding.tokens.weight.device
        for matrix in chosen:
            for path in matrix.paths:
                out, into = linears[path]
                inward = _roles(matrix) == {"down"}
                ones = torch.ones(into if inward else out, device=like)
                put[path] = Scales(scale_in=ones) if inward else Scales(scale_out=ones)
        model = with_scales(base.model, put)
        learns = {f"{path}.{'scale_out' if each.scale_in is None else 'scale_in'}" for path, each in put.items()}
        write, read = functools.partial(_write, base), functools.partial(_read, base)
        return Tuned(model, frozenset(learns | base.fresh), write, read)


def _role(path: str) -> str:
    return path.rpartition(".")[2]


def _roles(matrix: Matrix) -> set[str]:
    return {_role(path) for path in matrix.paths}


def _write(base: Base, folder: Path, model: Transformer) -> None:
    write_ia3(folder, model, base.config, base.name, base.fresh)


def _read(base: Base, folder: Path) -> dict[str, Tensor]:
    """What `_write` wrote, by the names of parameters."""
    scales, found = read_ia3(folder, base.model, base.config)
    for path, each in scales.items():
        for part in ("scale_in", "scale_out"):
            vector = getattr(each, part)
            if vector is not None:
                found[f"{path}.{part}"] = vector
    return found
