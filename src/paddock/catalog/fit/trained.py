"""Which numbers a method trains, counted from the architecture: as many as it attaches, and none is made."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from paddock.checkpoint.matrices import Matrix, matrices
from paddock.checkpoint.weights import sketch
from paddock.errors import UsageError
from paddock.model.families import module_of
from paddock.model.lora import adaptable
from paddock.model.prompts import top_layers
from paddock.model.rules import Rule
from paddock.model.scaling import norms
from paddock.model.spec import Architecture
from paddock.model.transformer import Transformer
from paddock.training.methods import roles as by_role
from paddock.training.methods.ia3 import USUAL

WHOLE, LOW = ("pretrain", "full"), ("lora", "qlora")
METHODS = (*WHOLE, *LOW, "adapter-v1", "adapter-v2", "ia3", "bitfit", "prefix", "prompt")
VIRTUAL = {"adapter-v1": 10, "adapter-v2": 10, "prefix": 20, "prompt": 20}  # as the methods have it


@dataclass(frozen=True)
class Tensor:
    """A trained tensor. looked_up: a table, whose numbers are rows that tokens name."""

    name: str
    shape: tuple[int, ...]
    looked_up: bool = False

    @property
    def numbers(self) -> int:
        found = 1
        for side in self.shape:
            found *= side
        return found


@dataclass(frozen=True)
class Trained:
    """What a method trains. ranks: of the A's beside a role; scaled: roles with a vector beside them."""

    tensors: tuple[Tensor, ...]
    ranks: dict[str, int]
    scaled: frozenset[str] = frozenset()

    @property
    def numbers(self) -> int:
        return sum(tensor.numbers for tensor in self.tensors)


@functools.lru_cache(maxsize=64)
def trained(
    architecture: Architecture, task: str, rank: int = 8, roles: str = "all", tokens: int | None = None
) -> Trained:
    """Of `task`, one of METHODS. tokens: virtual ones, or prompts, the method's own number if None.

    Raises UsageError for roles that the model does not have, and a model without biases where those are meant.
    """
    model = sketch(architecture)
    rules: list[Rule] = module_of(architecture.family).RULES
    named = [Tensor(name, tuple(p.shape), _looked_up(name)) for name, p in model.named_parameters()]
    count = VIRTUAL.get(task, 0) if tokens is None else tokens
    layer = architecture.layer(0).attention
    if task in WHOLE:
        return Trained(tuple(named), {})
    if task in LOW:
        return _low(by_role.chosen(model, rules, roles, None), adaptable(model), rank)
    if task == "bitfit":
        biases = tuple(each for each in named if each.name.endswith(".bias"))
        if not biases:
            raise UsageError(f"this {architecture.family} model has no biases to train", fix="take lora or ia3")
        return Trained(biases, {})
    if task == "ia3":
        return _ia3(model, rules)
    if task == "prefix":
        wide = sum(2 * block.attention.kv_heads * block.attention.head_dim for block in architecture.layers)
        return Trained((Tensor("ahead.embedding", (count, wide)),), {})
    if task == "prompt":
        return Trained((Tensor("ahead.vectors", (count, architecture.width)),), {})
    prompts = []
    for number in top_layers(model, None) if count else ():
        prompts += [Tensor(f"{number}.vectors", (count, architecture.width)), Tensor(f"{number}.gate", (layer.heads,))]
    if task == "adapter-v1":
        return Trained(tuple(prompts), {})
    linears = {path: shape for path, shape in adaptable(model).items() if "blocks" in path.split(".")}
    beside = [Tensor(f"{path}.{part}", (out,)) for path, (out, _) in linears.items() for part in ("scale_out", "shift")]
    free = norms(model)
    kept = [each for each in named if each.name in free]
    roles_of = frozenset(path.rpartition(".")[2] for path in linears)
    return Trained((*prompts, *beside, *kept), {}, roles_of)


def _looked_up(name: str) -> bool:
    return "embedding." in name and name.endswith(".weight") and "norm" not in name


def _low(chosen: Sequence[Matrix], linears: dict[str, tuple[int, int]], rank: int) -> Trained:
    """Published matrices have one A each, and a B for every matrix of ours in them."""
    tensors, ranks = [], {}
    for matrix in chosen:
        tensors.append(Tensor(f"{matrix.paths[0]}.a", (rank, linears[matrix.paths[0]][1])))
        for path in matrix.paths:
            tensors.append(Tensor(f"{path}.b", (linears[path][0], rank)))
            ranks[path.rpartition(".")[2]] = rank if path == matrix.paths[0] else 0
    return Trained(tuple(tensors), ranks)


def _ia3(model: Transformer, rules: list[Rule]) -> Trained:
    every = matrices(model, [rule for rule in rules if rule.when(model.architecture)])
    own = [{path.rpartition(".")[2] for path in matrix.paths} for matrix in every]
    usual = sorted(set().union(*(roles for roles in own if roles & USUAL)))
    linears, tensors = adaptable(model), []
    for matrix in by_role.chosen(model, rules, usual, None):
        inward = {path.rpartition(".")[2] for path in matrix.paths} == {"down"}
        tensors += [Tensor(path, (linears[path][1 if inward else 0],)) for path in matrix.paths]
    return Trained(tuple(tensors), {}, frozenset(usual))
