"""Several processes do what one does: gloo on this machine, small models, one start of Python for all groups."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from ranks import MODELS, Group, Seen, model_of

from paddock.checkpoint import safetensors
from paddock.errors import UsageError
from paddock.model.families import describe
from paddock.training.parallel import Parallel, cutting, from_environment, vocabulary
from paddock.training.scale import STATE, Piece, Sharing, memory

DDP, FSDP, TP = ({"mode": mode} for mode in ("ddp", "fsdp", "tp"))
FEW = {"steps": 2}
PIECES = {"steps": 3, "micro_batch": 2, "recompute": True}
ADAMW = {"optimizer": {"name": "adamw", "learning_rate": 1e-2}}
SLOW = {"optimizer": {"name": "adamw", "learning_rate": 1e-4}, "steps": 3}  # decay shows where no gradient came
LONG = {**ADAMW, "steps": 12}
MEANS = {"optimizer": {"name": "adafactor", "learning_rate": 1e-2}, "steps": 5}

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
    Group("tp tied", sharing=TP, model="tied", recipe=PIECES),
    Group("tp biases", sharing=TP, model="gpt2", recipe=FEW),
    Group("tp slopes", sharing=TP, model="bloom", recipe=FEW),
    Group("fsdp adafactor", sharing=FSDP, model="tied", recipe=MEANS),
    Group("tp adafactor", sharing=TP, model="tied", recipe=MEANS),
]
# One run of twelve steps, each third of it by other processes.
CHAIN = [
    Group("two", sharing=DDP, recipe=LONG, until=3),
    Group("two in shards", sharing=FSDP, recipe=LONG, start="two", until=6),
    Group("one", processes=1, recipe=LONG, start="two in shards", until=9),
    Group("two in parts", sharing=TP, recipe=LONG, start="one", until=12),
]
# The same of Adafactor, whose means of rows and columns are whole everywhere.
MEANS_CHAIN = [
    Group("means in shards", sharing=FSDP, model="tied", recipe=MEANS, until=2),
    Group("means of one", processes=1, model="tied", recipe=MEANS, start="means in shards", until=3),
    Group("means in parts", sharing=TP, model="tied", recipe=MEANS, start="means of one", until=5),
]
# The same, run by the slow tests: both axes at once, and every rule that moves weights in shards.
MORE = [
    Group("ddp x tp", processes=4, sharing={**DDP, "tensor": 2}),
    Group("fsdp x tp", processes=4, sharing={**FSDP, "tensor": 2}),
    *(
        Group(f"fsdp {rule}", sharing=FSDP, recipe={"steps": 3, "optimizer": {"name": rule, "learning_rate": 1e-4}})
        for rule in ("rmsprop", "adam", "adamw", "lion", "muon")
    ),
    Group("fsdp x tp adafactor", processes=4, sharing={**FSDP, "tensor": 2}, recipe=MEANS),
]
DROPPED = [Group(name, sharing=DDP, recipe={"steps": 2, "dropout": 0.2}) for name in ("dropped", "dropped again")]
# A run of six steps that only the main process's machine has the folder of, stopped after three.
SAVED = [
    Group("saved whole", "conduct", sharing=FSDP, recipe={**ADAMW, "steps": 6, "dropout": 0.1}),
    Group("saved", "conduct", sharing=FSDP, recipe={**ADAMW, "steps": 6, "dropout": 0.1}, until=3),
    Group("gone on with", "conduct", sharing=FSDP, recipe={**ADAMW, "steps": 6, "dropout": 0.1}, start="saved"),
]
FULL = Group("full", "conduct", sharing=FSDP, recipe={**ADAMW, "steps": 4, "checkpoints": "every:2"}, fail="full")
BEGUN = [
    Group(f"{name} begun", "begin", model=model, sharing=sharing, processes=processes)
    for name, model, sharing, processes in (
        ("ddp", "gpt2", DDP, 2), ("fsdp", "tied", FSDP, 2), ("fsdp experts", "mixtral", FSDP, 2),
        ("tp", "llama", TP, 2), ("tp tied", "tied", TP, 2), ("tp pairs", "t5", TP, 2), ("alone", "llama", DDP, 1),
    )
]  # fmt: skip
# The vocabulary's 61 rows, of which two processes have 31 and 30; a bias and a transform in front of it (BERT).
VOCABULARY = [
    Group(f"{model} vocabulary{how}", "vocabulary", model=model, sharing=TP, processes=processes)
    for model in ("llama", "tied", "bert")
    for how, processes in ((" alone", 1), ("", 2))
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
    groups = [
        *{alone(group).name: alone(group) for group in EQUAL}.values(),
        *EQUAL,
        UNBROKEN,
        *CHAIN,
        *MEANS_CHAIN,
        *DROPPED,
        *SAVED,
        FULL,
        *BEGUN,
        *VOCABULARY,
    ]
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
    held_to_one(folder, group)


@pytest.mark.slow
@pytest.mark.parametrize("group", MORE, ids=lambda group: group.name)
def test_both_axes_and_every_rule_equal_one(tmp_path: Path, group: Group) -> None:
    one = dataclasses.replace(alone(group), name="alone")
    assert {code for each in ran([one, group], tmp_path).values() for code, *_ in each} == {0}
    held_to_one(tmp_path, group, "alone")


def held_to_one(folder: Path, group: Group, reference: str | None = None) -> None:
    one, several = seen(folder, reference or alone(group).name), seen(folder, group.name)
    assert one.said["targets"] == several.said["targets"]
    assert apart(one.said["losses"], several.said["losses"]) < 1e-6
    assert apart(one.said["norms"], several.said["norms"]) < 1e-6
    assert one.tensors.keys() == several.tensors.keys()
    for name, weight in one.tensors.items():
        # A key's bias has no gradient but rounding errors: softmax does not see it.
        scale = max(float(weight.norm()), 1e-2)
        assert float((weight - several.tensors[name]).norm()) < 1e-6 * scale, name


def test_a_run_goes_on_at_another_number_of_processes_and_in_another_mode(folder: Path) -> None:
    for chain, unbroken in ((CHAIN, "unbroken"), (MEANS_CHAIN, "tied alone, 5 steps")):
        parts = [loss for group in chain for loss in seen(folder, group.name).said["losses"]]
        assert apart(seen(folder, unbroken).said["losses"], parts) < 1e-6


def test_machines_that_do_not_have_the_run_s_folder_go_on_with_it_all_the_same(folder: Path) -> None:
    parts = [loss for group in SAVED[1:] for loss in seen(folder, group.name).said["losses"]]
    assert parts == seen(folder, "saved whole").said["losses"] and len(parts) == 6
    assert (folder / "saved here/step-000003").is_dir() and not (folder / "saved elsewhere").exists()


def test_a_save_that_fails_between_two_tensors_stops_no_process(folder: Path) -> None:
    assert len(seen(folder, "full").said["losses"]) == 4
    there = [path.name for path in (folder / "full here").iterdir() if path.is_dir()]
    assert "step-000004" in there and "step-000002" not in there and not [name for name in there if "tmp" in name]
    saved, final = (
        safetensors.read(folder / "full here" / name / "model.safetensors") for name in ("step-000004", "final")
    )
    assert saved.keys() == final.keys()
    assert all(torch.equal(stored.load(), final[name].load()) for name, stored in saved.items())


@pytest.mark.parametrize("group", BEGUN, ids=lambda group: group.name)
def test_each_process_draws_its_part_of_the_weights_that_one_draws(folder: Path, group: Group) -> None:
    drawn = seen(folder, group.name)
    wanted = dict(model_of(group.model).named_parameters())
    assert drawn.tensors.keys() == wanted.keys()
    assert all(torch.equal(drawn.tensors[name], weight) for name, weight in wanted.items())
    whole = sum(weight.numel() for weight in wanted.values())
    assert drawn.said["held"] < (1.01 if group.sharing == DDP else 0.8) * whole


@pytest.mark.parametrize("model", ["llama", "tied", "bert"])
def test_no_process_has_all_logits_and_the_losses_and_gradients_are_those_of_one_that_has(
    folder: Path, model: str
) -> None:
    one, two = (safetensors.read(folder / f"{model} vocabulary{how}.safetensors") for how in (" alone", ""))
    table = set() if model == "llama" else {"grad/embedding.tokens.weight"}
    assert one.keys() == two.keys() >= {"losses", "log_sums", "mean", "logits", "x"} | table
    for name, tensor in one.items():
        assert torch.allclose(two[name].load(), tensor.load(), rtol=1e-12, atol=1e-12), name
    shapes = json.loads((folder / f"{model} vocabulary.json").read_text())["shapes"]
    logits = [rows for rows, columns in shapes if columns in (61, 31, 30) and rows != 32]  # 32 x 31: the matrix, turned
    assert logits == [5, 7] and [7, 31] in shapes


def test_dropout_differs_between_processes_and_is_drawn_again_alike(folder: Path) -> None:
    one, again = (seen(folder, group.name) for group in DROPPED)
    assert one.said == again.said
    assert all(torch.equal(weight, again.tensors[name]) for name, weight in one.tensors.items())
    mine, theirs = one.said["drawn"]
    assert mine != theirs
    assert one.said["losses"] != seen(folder, "llama alone, 20 steps").said["losses"][:2]


def test_what_a_process_holds_is_what_the_formulas_say(folder: Path) -> None:
    architecture = describe(MODELS["llama"])
    for name, sharing in (("tp", Sharing(2, tensor=2)), ("fsdp", Sharing(2)), ("ddp", Sharing(2, shards=False))):
        counted = memory(architecture, sharing, Piece(1, 32)).state / STATE
        assert seen(folder, name).said["held"] == pytest.approx(counted, rel=5e-3), name  # 61 rows have no half


TWO = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("given", "environment", "said"),
    [
        ({"tensor": 2}, {}, "parallel.tensor is 2, and the number of processes 1"),
        ({"tensor": 3}, TWO, "parallel.tensor is 3, and the number of processes 2"),
        ({"mode": "tp", "tensor": 2}, {**TWO, "WORLD_SIZE": "4"}, "which all 4 processes share"),
        ({}, {**TWO, "WORLD_SIZE": "two"}, "WORLD_SIZE='two'"),
        ({}, {**TWO, "RANK": "-1"}, "RANK='-1'"),
        ({}, {"WORLD_SIZE": "2"}, "RANK=None"),
        ({}, {"WORLD_SIZE": "2", "RANK": "1", "MASTER_PORT": "9" * 40}, "MASTER_PORT='999"),
    ],
)
def test_an_environment_that_cannot_be_meant_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], environment: dict[str, str], said: str
) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=re.escape(said)):
        from_environment(Parallel.model_validate(given))


@pytest.mark.parametrize(
    "given",
    [{"mode": "pp"}, {"tensor": 0}, {"timeout": 0}, {"gather": "bfloat16"}, {"modes": "ddp"}, {"timeout": None}],
)
def test_a_section_that_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Parallel.model_validate(given)


def test_matrices_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(UsageError, match="4 processes cannot share 2 key-value heads"):
        cutting.check(describe(MODELS["llama"]), 4)
    with pytest.raises(UsageError, match="2 processes cannot share 49 hidden features"):
        cutting.check(describe({**MODELS["llama"], "intermediate_size": 49}), 2)
    with pytest.raises(UsageError, match="4 processes cannot share 5 rows of the vocabulary"):
        vocabulary.check(5, 4)
    for rows, parts in ((4, 4), (5, 3), (61, 2), (7, 1)):
        vocabulary.check(rows, parts)


@pytest.mark.parametrize("fault", FAULTS)
def test_all_processes_end_alike(folder: Path, fault: str) -> None:
    """A fault in one process ends the other too, with the same exit code; one that is killed or stopped is missed."""
    ends = json.loads((folder / "codes.json").read_text())[fault]
    assert [code for code, *_ in ends] == FAULTS[fault]
    assert max(seconds for _, seconds, _ in ends) < 30
