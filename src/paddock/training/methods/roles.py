"""Which matrices of a model a method means, by their roles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paddock.checkpoint.matrices import Matrix, matrices
from paddock.errors import UsageError, did_you_mean
from paddock.model.linear import ATTENTION_ROLES as ATTENTION
from paddock.model.linear import FEEDFORWARD_ROLES as FEEDFORWARD
from paddock.model.rules import Rule
from paddock.model.transformer import Transformer

ALIASES: dict[str, tuple[str, ...]] = {
    "all": (*ATTENTION, *FEEDFORWARD),
    "all-linear": (*ATTENTION, *FEEDFORWARD),
    "attention": ATTENTION,
    "feedforward": FEEDFORWARD,
    "mlp": FEEDFORWARD,
}
KNOWN = (*ATTENTION, *FEEDFORWARD, "router")
Roles = str | list[str]  # one or several, with commas between them or in a list


def chosen(model: Transformer, rules: Iterable[Rule], roles: Roles, layers: Sequence[int] | None) -> list[Matrix]:
    """The published matrices of these roles in these layers (all if None), of encoder and decoder.

    Raises UsageError for a role or a layer that the model does not have, and where a role is asked for that is
    published in one matrix with others that are not.
    """
    every = [matrix for matrix in matrices(model, rules) if _layer(matrix) is not None]
    wanted = _meant(every, [word.strip() for text in ([roles] if isinstance(roles, str) else roles)
                            for word in text.split(",")])  # fmt: skip
    there = {_layer(matrix) for matrix in every}
    if layers is not None and (missing := sorted(set(layers) - there)):
        raise UsageError(f"this model has no layer {missing[0]}", expected=f"layers from 0 to {len(there) - 1}")
    found = []
    for matrix in every:
        own = {_role(path) for path in matrix.paths}
        if not own & wanted or (layers is not None and _layer(matrix) not in layers):
            continue
        if not own <= wanted:
            names = ", ".join(_role(path) for path in matrix.paths)
            raise UsageError(
                f"{matrix.module} holds {names} in one matrix, and an adapter can only be put on the whole of it",
                fix=f"name all of {names}, or none",
            )
        found.append(matrix)
    if not found:
        raise UsageError("no matrix of this model is meant", expected=f"some of {', '.join(_roles_of(every))}")
    return found


def _meant(every: Sequence[Matrix], words: Sequence[str]) -> set[str]:
    """Roles, from words that may also be aliases or published names."""
    here = _roles_of(every)
    published: dict[str, set[str]] = {}
    for matrix in every:
        published.setdefault(matrix.module.rpartition(".")[2], set()).update(_role(path) for path in matrix.paths)
    wanted: set[str] = set()
    for word in words:
        if word in ALIASES:
            wanted |= set(ALIASES[word]) & set(here)
        elif word in here:
            wanted.add(word)
        elif word in published:
            wanted |= published[word]
        else:
            told = [*ALIASES, *here, *published]
            raise UsageError(
                f"this model has no matrices of the role {word[:80]!r}",
                expected=f"{', '.join(here)}, or {', '.join(ALIASES)}, or {', '.join(sorted(published))}",
                fix=did_you_mean(word, told),
            )
    return wanted


def _roles_of(every: Iterable[Matrix]) -> list[str]:
    own = {_role(path) for matrix in every for path in matrix.paths}
    return [role for role in KNOWN if role in own]


def _role(path: str) -> str:
    return path.rpartition(".")[2]


def _layer(matrix: Matrix) -> int | None:
    """The layer it is in; None for heads and poolers, which are not in any."""
    parts = matrix.paths[0].split(".")
    return int(parts[parts.index("blocks") + 1]) if "blocks" in parts else None
