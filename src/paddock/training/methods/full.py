"""Fine-tuning of a model's own weights: all of them, or some layers and parts."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable
from typing import Annotated, Literal

from pydantic import Field

from paddock.data.section import Section
from paddock.errors import UsageError, did_you_mean
from paddock.training.methods.roles import KNOWN as ROLES
from paddock.training.methods.tuned import Base, Tuned, whole

RANGE = re.compile(r"(?P<before>(?:encoder\.)?blocks)\.(?P<first>\d{1,4})-(?P<last>\d{1,4})(?P<after>(?:\..+)?)")


class Full(Section):
    """Every weight is trained, or some stay as they are.

    layers: train so many of the highest layers, and what comes after them; the layers below and the embedding stay.
    freeze: what stays besides: parts by their names (`embedding`, `blocks.0-3`, `blocks.5.attention`, `norm`, `head`),
    or roles (`q k v out gate up down router`), or `norms` or `biases`.
    """

    name: Literal["full"] = "full"
    layers: Annotated[int, Field(ge=1)] | None = None
    freeze: list[str] = Field(default_factory=list)

    def attach(self, base: Base, seed: int) -> Tuned:
        """The model itself. `seed` draws nothing here. Raises UsageError for a part that the model does not have, and
        where nothing is left to train."""
        write = functools.partial(whole, base)
        if self.layers is None and not self.freeze:
            return Tuned(base.model, None, write, adapter=False)
        names = [name for name, _ in base.model.named_parameters()]
        frozen = self._below(base.model.architecture.blocks, names)
        for part in self.freeze:
            frozen |= _meant(part, names)
        learns = (frozenset(names) - frozen) | base.fresh
        if not learns:
            raise UsageError("the whole model is frozen: nothing is left to train", fix="freeze less of it")
        return Tuned(base.model, learns, write, adapter=False)

    def _below(self, blocks: int, names: Iterable[str]) -> set[str]:
        """The parameters below the layers that are trained."""
        if self.layers is None:
            return set()
        if self.layers > blocks:
            raise UsageError(f"{self.layers} layers of a model that has {blocks}", expected=f"at most {blocks}")
        low = tuple(f"blocks.{layer}." for layer in range(blocks - self.layers))
        return {name for name in names if name.startswith(("embedding.", "encoder.", "relative_bias.", *low))}


def _meant(part: str, names: Collection[str]) -> set[str]:
    """The parameters that a word of `freeze` means."""
    if part == "norms":
        found = {name for name in names if name.rpartition(".")[0].rpartition(".")[2].endswith("norm")}
    elif part == "biases":
        found = {name for name in names if name.endswith(".bias")}
    elif part in ROLES:
        found = {name for name in names if name.rpartition(".")[0].rpartition(".")[2] == part}
    else:
        each = [{name for name in names if name == path or name.startswith(path + ".")} for path in _paths(part)]
        found = set().union(*each) if all(each) else set()
    if not found:
        known = dict.fromkeys([*_tops(names), "norms", "biases", *ROLES])
        raise UsageError(
            f"freeze: this model has no part {part[:80]!r}",
            expected=f"{', '.join(_tops(names))} (blocks.0-3, blocks.2.attention), a role, norms or biases",
            fix=did_you_mean(part, list(known)),
        )
    return found


def _paths(part: str) -> list[str]:
    """`blocks.0-3.attention` means four parts."""
    match = RANGE.fullmatch(part)
    if match is None:
        return [part]
    first, last = int(match["first"]), int(match["last"])
    return [f"{match['before']}.{layer}{match['after']}" for layer in range(first, last + 1)]


def _tops(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in names))
