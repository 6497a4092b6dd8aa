"""Two runs of one recipe beside each other: what surrounded them, and where they first differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.checkpoint.jsonfile import read as read_json
from paddock.errors import CheckpointError, DataError
from paddock.training import journal, manifest
from paddock.training.run import FINAL, RunFolder, folder_name

# What of a step's record must be equal, causes before effects: the first that differs is named.
COMPARED = ("event", "batch", "digest", "targets", "loss", "norm", "learning_rate", "updated")


@dataclass(frozen=True)
class Difference:
    """What two runs first differ in. before, now: numbers as hex floats, None for what only one run has."""

    step: int
    what: str
    before: str | None
    now: str | None


@dataclass(frozen=True)
class Comparison:
    """steps: how many were compared. weights: saved models of both runs by name, and whether they are equal."""

    steps: int
    first: Difference | None
    weights: Mapping[str, bool]

    @property
    def identical(self) -> bool:
        return self.first is None


def compare(before: RunFolder, now: RunFolder, steps: int) -> Comparison:
    """Records up to `steps`, and every model saved in both runs up to there. Raises DataError where there are none."""
    compared, first = 0, None
    pairs = itertools.zip_longest(_records(before, steps), _records(now, steps), fillvalue=None)
    for one, other in pairs:
        first = _difference(one, other)
        if first is not None:
            break
        compared = one["step"] if one else compared
    weights = dict(_weights(before, now, steps))
    if first is None:
        wrong = next((name for name, same in weights.items() if not same), None)
        if wrong is not None:
            first = Difference(_number(wrong, steps), f"weights of {wrong}", None, None)
    if not compared and first is None:
        raise DataError(f"{before.path} has no records to compare")
    return Comparison(compared, first, weights)


def surroundings(before: RunFolder, now: Mapping[str, str]) -> list[str]:
    """What is not as it was when a run began: versions, machine, number of processes."""
    if not before.origin.is_file():
        return [f"{before.origin.name} is missing: what surrounded the run is not known"]
    noted = read_json(before.origin)
    then = noted.get("versions")
    if not isinstance(then, dict):
        raise CheckpointError(f"{before.origin} does not say what surrounded the run")
    told = [f"{name} was {then.get(name)}, now {now.get(name)}" for name in now if then.get(name) != now.get(name)]
    if noted.get("ranks", 1) != 1:
        told.append(f"{noted['ranks']} processes shared the rows, now 1")
    return told


def other_data(before: RunFolder, now: RunFolder) -> bool:
    """Whether two runs noted that their data differ."""
    known = [read_json(run.origin).get("data") for run in (before, now) if run.origin.is_file()]
    return len(set(map(str, known))) > 1


def changed_on_its_way(run: RunFolder) -> list[Path]:
    """Recipes that a run followed before the one it ended with."""
    return sorted(run.path.glob("recipe.until-*.yaml"))


def last_step(run: RunFolder) -> int:
    """The last step of a run's log, 0 of an empty one. Raises DataError where there is none."""
    return max((record["step"] for record in _log(run)), default=0)


def _records(run: RunFolder, steps: int) -> Iterator[dict[str, Any]]:
    return (record for record in _log(run) if record["step"] <= steps)


def _log(run: RunFolder) -> Iterable[dict[str, Any]]:
    if not run.metrics.is_file():
        raise DataError(f"{run.metrics} is missing", expected="the log of a run")
    return journal.read(run.metrics)


def _difference(one: dict[str, Any] | None, other: dict[str, Any] | None) -> Difference | None:
    if one is None or other is None:
        there = one or other
        assert there is not None
        return Difference(there["step"], "length of the log", _said(one and "there"), _said(other and "there"))
    if one["step"] != other["step"]:
        return Difference(min(one["step"], other["step"]), "step", _said(one["step"]), _said(other["step"]))
    for name in COMPARED:
        before, now = _said(one.get(name)), _said(other.get(name))
        if before != now:
            return Difference(one["step"], name, before, now)
    return None


def _said(value: Any) -> str | None:
    if value is None:
        return None
    return value.hex() if isinstance(value, float) else str(value)


def _weights(before: RunFolder, now: RunFolder, steps: int) -> Iterator[tuple[str, bool]]:
    both = [step for step in before.steps() if step <= steps and step in now.steps()]
    for name in [folder_name(step) for step in both]:
        yield name, _digests(before.path / name) == _digests(now.path / name)
    if before.final.exists() and now.final.exists():
        yield FINAL, _digests(before.final) == _digests(now.final)


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of weights, or of an adapter's."""
    return {path.name: manifest.sha256(path) for path in sorted(folder.glob("*.safetensors"))}


def _number(name: str, steps: int) -> int:
    return steps if name == FINAL else int(name.removeprefix("step-"))
