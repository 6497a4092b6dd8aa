"""Adapters beside a model that lies in shards: what several processes learn and write is what one does."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ranks
from ranks import Group
from test_parallel import DDP, FSDP, TP, apart, ran, seen
from test_parallel_runs import ended, started, steps, until, workers

from paddock.checkpoint import safetensors
from paddock.errors import UsageError

LORA = {"name": "lora", "rank": 4}
FAST = {"steps": 4, "optimizer": {"name": "sgd", "learning_rate": 0.5, "momentum": 0.9}}
PIECES = {"micro_batch": 2, "recompute": True}
QLORA = {**LORA, "name": "qlora"}
FEW = {**FAST, "steps": 2}
EQUAL = [
    Group("fsdp lora", sharing=FSDP, method=LORA, recipe=FAST),
    Group("fsdp qlora", sharing=FSDP, method=QLORA, recipe=FAST),
    Group("tp lora", sharing=TP, method=LORA, recipe={**FAST, **PIECES}),
]
# The same, run by the slow tests.
MORE = [
    Group("fsdp fused", sharing=FSDP, model="bloom", method=LORA, recipe={**FEW, **PIECES}),
    Group("tp fused", sharing=TP, model="bloom", method={**LORA, "dropout": 0.3}, recipe=FEW),
    Group("ddp lora", sharing=DDP, method=LORA, recipe=FAST),
    Group("fsdp narrow", sharing=FSDP, dtype="bfloat16", method=LORA, recipe={**FEW, "precision": "bfloat16"}),
    Group("fsdp dora", sharing=FSDP, method={**LORA, "dora": True, "rslora": True}, recipe=FAST),
    Group(
        "fsdp qlora plain", sharing=FSDP, method={**QLORA, "double": False, "roles": "q,v"}, recipe={**FAST, **PIECES}
    ),
    Group("fsdp ia3", sharing=FSDP, method={"name": "ia3"}, recipe=FAST),
    Group("fsdp bitfit", sharing=FSDP, model="gpt2", method={"name": "bitfit"}, recipe=FAST),
    Group("fsdp top layer", sharing=FSDP, method={"name": "full", "layers": 1}, recipe=FAST),
    Group("fsdp v1", sharing=FSDP, method={"name": "adapter-v1", "prompts": 3}, recipe=FAST),
    Group("fsdp v2", sharing=FSDP, method={"name": "adapter-v2", "prompts": 3}, recipe=FAST),
    Group("fsdp prefix", sharing=FSDP, method={"name": "prefix", "tokens": 3}, recipe=FAST),
    Group("fsdp pairs", sharing=FSDP, model="t5", method=LORA, recipe=FAST),
    Group("tp dropout", sharing=TP, method={**LORA, "dropout": 0.3}, recipe=FAST),
    Group("tp pairs", sharing=TP, model="t5", method=LORA, recipe=FAST),
    Group("tp experts", sharing=TP, model="mixtral", method={**LORA, "roles": "all,router"}, recipe=FEW),
    Group("tp bitfit", sharing=TP, model="gpt2", method={"name": "bitfit"}, recipe=FAST),
    Group("tp top layer", sharing=TP, method={"name": "full", "layers": 1}, recipe=FAST),
    Group("ddp x tp", processes=4, sharing={**DDP, "tensor": 2}, method=LORA, recipe=FAST),
    Group("fsdp x tp", processes=4, sharing={**FSDP, "tensor": 2}, method=LORA, recipe=FAST),
]
ADAMW = {"optimizer": {"name": "adamw", "learning_rate": 1e-2}, "steps": 6}
# One run of six steps, each third of it by other processes.
CHAIN = [
    Group("two in shards", sharing=FSDP, method=LORA, recipe=ADAMW, until=2),
    Group("one", processes=1, method=LORA, recipe=ADAMW, start="two in shards", until=4),
    Group("two in parts", sharing=TP, method=LORA, recipe=ADAMW, start="one", until=6),
]
UNBROKEN = Group("unbroken", processes=1, method=LORA, recipe=ADAMW)
# A run that is stopped after three steps and gone on with, by as many processes.
DROPPING = {**LORA, "dropout": 0.2}
SAVED = [
    Group("saved whole", "conduct", sharing=FSDP, method=DROPPING, recipe=ADAMW),
    Group("saved", "conduct", sharing=FSDP, method=DROPPING, recipe=ADAMW, until=3),
    Group("gone on with", "conduct", sharing=FSDP, method=DROPPING, recipe=ADAMW, start="saved"),
]
# What is refused, and the words that say so.
REFUSED = {
    "fsdp prompt": (
        Group("fsdp prompt", sharing=FSDP, method={"name": "prompt", "tokens": 3}),
        "passes each block twice",
    ),
    "tp dora": (Group("tp dora", sharing=TP, method={**LORA, "dora": True}), "does not take DoRA"),
    "tp qlora": (Group("tp qlora", sharing=TP, method=QLORA), "this base holds codes"),
    "tp prefix": (Group("tp prefix", sharing=TP, method={"name": "prefix", "tokens": 3}), "virtual tokens"),
    "tp v1": (Group("tp v1", sharing=TP, method={"name": "adapter-v1", "prompts": 3}), "does not take Prompts"),
    "tp ia3": (Group("tp ia3", sharing=TP, method={"name": "ia3"}), "does not take Scaled"),
    "codes": (Group("codes", sharing={**FSDP, "gather": "bfloat16"}, method=QLORA), "take codes for numbers"),
}


def alone(group: Group) -> Group:
    """The same on one process, all rows at once."""
    recipe = {**group.recipe, "micro_batch": 0, "recompute": False}
    return dataclasses.replace(group, name=f"{group.name} alone", processes=1, sharing={}, recipe=recipe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All groups that go to their end, run once."""
    folder = tmp_path_factory.mktemp("adapters")
    groups = [*map(alone, EQUAL), *EQUAL, UNBROKEN, *CHAIN, *SAVED]
    codes = {name: [code for code, *_ in each] for name, each in ran(groups, folder).items()}
    assert codes == {group.name: [0] * group.processes for group in groups}
    return folder


@pytest.mark.parametrize("group", EQUAL, ids=lambda group: group.name)
def test_processes_learn_and_write_what_one_does(folder: Path, group: Group) -> None:
    held_to_one(folder, group, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("group", MORE, ids=lambda group: group.name)
def test_other_methods_and_both_axes_equal_one(tmp_path: Path, group: Group) -> None:
    assert {code for each in ran([alone(group), group], tmp_path).values() for code, *_ in each} == {0}
    held_to_one(tmp_path, group, 1e-3 if group.dtype == "bfloat16" else 1e-6)


def test_each_process_holds_half_of_the_base_and_of_codes_two_weights_in_a_byte(folder: Path) -> None:
    whole, half, coded = (seen(folder, name).said["held"] for name in ("fsdp lora alone", "fsdp lora", "fsdp qlora"))
    assert half < 0.51 * whole and coded < 0.52 * half


def test_a_run_goes_on_at_another_number_of_processes_and_in_another_mode(folder: Path) -> None:
    parts = [loss for group in CHAIN for loss in seen(folder, group.name).said["losses"]]
    assert apart(seen(folder, "unbroken").said["losses"], parts) < 1e-6


def test_a_run_that_was_stopped_goes_on_bit_for_bit(folder: Path) -> None:
    parts = [loss for group in SAVED[1:] for loss in seen(folder, group.name).said["losses"]]
    assert parts == seen(folder, "saved whole").said["losses"] and len(parts) == 6
    final = [folder / f"{name} here/final/adapter_model.safetensors" for name in ("saved whole", "saved")]
    assert final[0].read_bytes() == final[1].read_bytes()


def held_to_one(folder: Path, group: Group, bound: float) -> None:
    one, several = seen(folder, alone(group).name), seen(folder, group.name)
    assert one.said["targets"] == several.said["targets"]
    assert apart(one.said["losses"], several.said["losses"]) < bound
    assert apart(one.said["norms"], several.said["norms"]) < bound
    assert abs(one.said["losses"][0] - one.said["losses"][-1]) > 5e-3
    folders = [folder / f"{name} written" for name in (alone(group).name, group.name)]
    one_wrote, several_wrote = (
        {path.name: {name: stored.load() for name, stored in safetensors.read(path).items()}
         for path in each.glob("*.safetensors")} for each in folders
    )  # fmt: skip
    assert one_wrote.keys() == several_wrote.keys() and one_wrote
    for file, tensors in one_wrote.items():
        assert tensors.keys() == several_wrote[file].keys()
        for name, tensor in tensors.items():
            apart_by = float((tensor - several_wrote[file][name]).norm())
            assert apart_by < bound * max(float(tensor.norm()), 1e-2), name


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_cut_is_refused(tmp_path: Path, name: str) -> None:
    group, words = REFUSED[name]
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps([dataclasses.asdict(group)]))
    child = Path(ranks.__file__)
    done = subprocess.run([sys.executable, str(child), str(plan)], capture_output=True, text=True, timeout=120)
    assert words in done.stderr
    assert json.loads((tmp_path / "codes.json").read_text())[name][0][0] == UsageError.exit_code


TUNING = """\
stage: finetune
task: {name: chat}
method: {name: METHOD, rank: 4, dropout: 0.1}
data: {files: [pairs.jsonl], validation: 0, length: 96}
training:
  steps: 40
  batch: 4
  optimizer: {learning_rate: 1e-3}
  checkpoints: every:5
  precision: float32
parallel: {mode: fsdp, timeout: 30}
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_worker_that_is_killed_is_restarted_and_the_adapter_is_the_same(tmp_path: Path, method: str) -> None:
    pairs = ({"prompt": f"Say {word} {n}", "completion": word} for n, word in enumerate(["sun", "moon", "tree"] * 20))
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (tmp_path / "run.yaml").write_text(TUNING.replace("METHOD", method))
    ended(started(tmp_path, "whole", verb="finetune"))
    process = started(tmp_path, "broken", "--max-restarts", "1", verb="finetune")
    until(lambda: len(steps(tmp_path / "broken/metrics.jsonl")) >= 8, process)
    os.kill(workers(process)[1], signal.SIGKILL)
    said = ended(process)
    assert process.returncode == 0, said[-3000:]
    assert "going on from step" in said
    assert steps(tmp_path / "broken/metrics.jsonl") == steps(tmp_path / "whole/metrics.jsonl")
    whole, broken = (tmp_path / name / "final/adapter_model.safetensors" for name in ("whole", "broken"))
    assert len(steps(tmp_path / "whole/metrics.jsonl")) == 40 and whole.read_bytes() == broken.read_bytes()
