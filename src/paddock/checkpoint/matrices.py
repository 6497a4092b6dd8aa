"""The matrices of a model as its family publishes them: one may hold several roles' (q, k and v, or gate and up)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from paddock.model.lora import adaptable
from paddock.model.rules import Drop, Rename, Rule, SplitQKV, attention_at
from paddock.model.spec import Architecture
from paddock.model.transformer import Transformer


@dataclass(frozen=True)
class Matrix:
    """One published matrix. module: its name without `.weight`. paths: of the model's own matrices that it holds, in
    the order of its rows. transposed: published (in, out), as GPT-2's are."""

    module: str
    paths: tuple[str, ...]
    rule: Rule

    @property
    def transposed(self) -> bool:
        return isinstance(self.rule, Rename | SplitQKV) and self.rule.transpose

    def joined(self, rows: Sequence[Tensor], architecture: Architecture) -> Tensor:
        """What has a row, or a number, for every output of each of `paths`, as rows of the published matrix."""
        return upright(self.rule).join(list(rows), attention_at(architecture, self.paths[0] + ".weight"))

    def cut(self, rows: Tensor, architecture: Architecture) -> tuple[Tensor, ...]:
        """The inverse of `joined`."""
        return upright(self.rule).split(rows, attention_at(architecture, self.paths[0] + ".weight"))


def upright(rule: Rule) -> Rule:
    """The rule as it cuts rows, also where it is about a matrix that is published the other way round."""
    turned = isinstance(rule, Rename | SplitQKV) and rule.transpose
    return replace(rule, transpose=False) if turned else rule  # type: ignore[call-arg]


def matrices(model: Transformer, rules: Iterable[Rule]) -> list[Matrix]:
    """Every matrix that an adapter may be put on, in the model's order, under the name it is saved by."""
    rules = [rule for rule in rules if rule.when(model.architecture) and not isinstance(rule, Drop)]
    known = adaptable(model)
    found: list[Matrix] = []
    done: set[str] = set()
    for path in known:
        if path in done:
            continue
        answers = ((rule, answer) for rule in rules if (answer := rule.write(path + ".weight")) is not None)
        rule, (theirs, ours) = next(answers)
        paths = tuple(name.removesuffix(".weight") for name in ours)
        found.append(Matrix(theirs.removesuffix(".weight"), paths, rule))
        done.update(paths)
    return found


def suffixes(wanted: Collection[str], others: Collection[str]) -> list[str]:
    """The shortest ends of dotted names that mean all of `wanted` and none of `others`: PEFT's target_modules, where
    a name is meant by its whole or by what follows one of its dots."""
    found: set[str] = set()
    taken = set(others) - set(wanted)
    ends: dict[str, bool] = {}
    for name in sorted(wanted):
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            end = ".".join(parts[-count:])
            if end not in ends:
                ends[end] = not any(other == end or other.endswith("." + end) for other in taken)
            if ends[end] or count == len(parts):
                found.add(end)
                break
    return sorted(found)
