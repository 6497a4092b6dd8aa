"""Several processes do what one does: gloo on this machine, small models, one start of Python for all groups."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ranks import Group, Seen

from paddock.checkpoint import safetensors

DDP, FSDP, TP = ({"mode": mode} for mode in ("ddp", "fsdp", "tp"))
FEW = {"steps": 2}
PIECES = {"steps": 3, "micro_batch": 2, "recompute": True}
ADAMW = {"optimizer": {"name": "adamw", "learning_rate": 1e-2}}
SLOW = {"optimizer": {"name": "adamw", "learning_rate": 1e-4}, "steps": 3}  # decay shows where no gradient came
LONG = {**ADAMW, "steps": 12}

# Groups that must equal one process with the same recipe.
EQUAL = [
    Group("ddp", sharing=DDP),
    Group("fsdp", sharing=FSDP),
    Group("tp", sharing=TP),
    Group("ddp pieces", sharing=DDP, model="tied", recipe=PIECES),
    Group("fsdp pieces", sharing=FSDP, model="tied", recipe=PIECES),
    Group("ddp rare experts", sharing=DDP, model="rare", recipe=SLOW),
    Group("fsdp experts", sharing=FSDP, model="mixtral", recipe=FEW),
    Group("tp experts", sharing=TP, model="mixtral", recipe=FEW),
    Group("fsdp pairs", sharing=FSDP, model="t5", recipe=FEW),
    Group("tp pairs", sharing=TP, model="t5", recipe=FEW),
    Group("tp biases", sharing=TP, model="gpt2", recipe=FEW),
    Group("tp slopes", sharing=TP, model="bloom", recipe=FEW),
]
# One run of twelve steps, each third of it by other processes.
CHAIN = [
    Group("two", sharing=DDP, recipe=LONG, until=3),
    Group("two in shards", sharing=FSDP, recipe=LONG, start="two", until=6),
    Group("one", processes=1, recipe=LONG, start="two in shards", until=9),
    Group("two in parts", sharing=TP, recipe=LONG, start="one", until=12),
]
UNBROKEN = Group("unbroken", processes=1, recipe=LONG)
# What goes wrong at the third step in the second process, and the exit codes of both.
FAULTS = {"read": [3, 3], "forward": [3, 3], "save": [3, 3], "kill": [1, -9], "stop": [1, 1]}
FAULTY = [
    Group(fault, sharing={**FSDP, "timeout": 3 if fault == "stop" else 20}, recipe={"steps": 4}, fail=fault)
    for fault in FAULTS
]


def alone(group: Group) -> Group:
    """The same on one process, all rows at once."""
    recipe = {**group.recipe, "micro_batch": 0, "recompute": False}
    name = f"{group.model} alone, {group.training.steps} steps"
    return Group(name, processes=1, model=group.model, recipe=recipe)


def ran(groups: list[Group], folder: Path) -> dict[str, Any]:
    """Runs the groups; gives their exit codes."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps([dataclasses.asdict(group) for group in groups]))
    command = [sys.executable, str(Path(__file__).with_name("ranks.py")), str(plan)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=sum(group.limit for group in groups))
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "codes.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All groups that go to their end, run once."""
    folder = tmp_path_factory.mktemp("ranks")
    groups = [*{alone(group).name: alone(group) for group in EQUAL}.values(), *EQUAL, UNBROKEN, *CHAIN]
    codes = {name: [code for code, *_ in each] for name, each in ran([*groups, *FAULTY], folder).items()}
    assert {group.name: codes[group.name] for group in groups} == {g.name: [0] * g.processes for g in groups}
    return folder


def seen(folder: Path, name: str) -> Seen:
    said = json.loads((folder / f"{name}.json").read_text())
    stored = safetensors.read(folder / f"{name}.safetensors")
    return Seen(said, {name: tensor.load() for name, tensor in stored.items() if "/" not in name})


def apart(one: list[float], other: list[float]) -> float:
    """The largest relative difference."""
    assert len(one) == len(other) > 0
    return max(abs(a - b) / abs(a) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("group", EQUAL, ids=lambda group: group.name)
def test_processes_equal_one(folder: Path, group: Group) -> None:
    one, several = seen(folder, alone(group).name), seen(folder, group.name)
    assert one.said["targets"] == several.said["targets"]
    assert apart(one.said["losses"], several.said["losses"]) < 1e-6
    assert apart(one.said["norms"], several.said["norms"]) < 1e-6
    assert one.tensors.keys() == several.tensors.keys()
    for name, weight in one.tensors.items():
        # A key's bias has no gradient but rounding errors: softmax does not see it.
        scale = max(float(weight.norm()), 1e-2)
        assert float((weight - several.tensors[name]).norm()) < 1e-6 * scale, name


def test_a_run_goes_on_at_another_number_of_processes_and_in_another_mode(folder: Path) -> None:
    parts = [loss for group in CHAIN for loss in seen(folder, group.name).said["losses"]]
    assert apart(seen(folder, "unbroken").said["losses"], parts) < 1e-6


@pytest.mark.parametrize("fault", FAULTS)
def test_all_processes_end_alike(folder: Path, fault: str) -> None:
    """A fault in one process ends the other too, with the same exit code; one that is killed or stopped is missed."""
    ends = json.loads((folder / "codes.json").read_text())[fault]
    assert [code for code, *_ in ends] == FAULTS[fault]
    assert max(seconds for _, seconds, _ in ends) < 30
