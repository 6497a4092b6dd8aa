"""Adapters beside a model that lies in shards: what several processes learn and write is what one does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from ranks import Group
from test_parallel import DDP, FSDP, TP, apart, ran, seen

from paddock.checkpoint import safetensors

LORA = {"name": "lora", "rank": 4}
FAST = {"steps": 4, "optimizer": {"name": "sgd", "learning_rate": 0.5, "momentum": 0.9}}
PIECES = {"micro_batch": 2, "recompute": True}
QLORA = {**LORA, "name": "qlora"}
FEW = {**FAST, "steps": 2}
EQUAL = [
    Group("ddp lora", sharing=DDP, method=LORA, recipe=FAST),
    Group("fsdp lora", sharing=FSDP, method=LORA, recipe=FAST),
    Group("fsdp dora", sharing=FSDP, method={**LORA, "dora": True, "rslora": True}, recipe=FAST),
    Group("fsdp fused", sharing=FSDP, model="bloom", method=LORA, recipe={**FAST, **PIECES}),
    Group("fsdp qlora", sharing=FSDP, method=QLORA, recipe=FAST),
    Group(
        "fsdp qlora single", sharing=FSDP, method={**QLORA, "double": False, "roles": "q,v"}, recipe={**FAST, **PIECES}
    ),
    Group("fsdp narrow", sharing=FSDP, dtype="bfloat16", method=LORA, recipe={**FEW, "precision": "bfloat16"}),
    Group("fsdp ia3", sharing=FSDP, method={"name": "ia3"}, recipe=FAST),
    Group("fsdp bitfit", sharing=FSDP, model="gpt2", method={"name": "bitfit"}, recipe=FAST),
    Group("fsdp top layer", sharing=FSDP, method={"name": "full", "layers": 1}, recipe=FAST),
    Group("fsdp v1", sharing=FSDP, method={"name": "adapter-v1", "prompts": 3}, recipe=FAST),
    Group("fsdp v2", sharing=FSDP, method={"name": "adapter-v2", "prompts": 3}, recipe=FAST),
    Group("fsdp pairs", sharing=FSDP, model="t5", method=LORA, recipe=FAST),
    Group("fsdp prefix", sharing=FSDP, method={"name": "prefix", "tokens": 3}, recipe=FAST),
    Group("tp lora", sharing=TP, method=LORA, recipe={**FAST, **PIECES}),
    Group("tp fused", sharing=TP, model="bloom", method={**LORA, "dropout": 0.3}, recipe=FAST),
    Group("tp pairs", sharing=TP, model="t5", method=LORA, recipe=FAST),
    Group(
        "tp experts", sharing=TP, model="mixtral", method={**LORA, "roles": "all,router"}, recipe={**FAST, "steps": 2}
    ),
    Group("tp bitfit", sharing=TP, model="gpt2", method={"name": "bitfit"}, recipe=FAST),
    Group("tp top layer", sharing=TP, method={"name": "full", "layers": 1}, recipe=FAST),
]


def alone(group: Group) -> Group:
    """The same on one process, all rows at once."""
    recipe = {**group.recipe, "micro_batch": 0, "recompute": False}
    return dataclasses.replace(group, name=f"{group.name} alone", processes=1, sharing={}, recipe=recipe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All groups, run once."""
    folder = tmp_path_factory.mktemp("adapters")
    groups = [*map(alone, EQUAL), *EQUAL]
    codes = {name: [code for code, *_ in each] for name, each in ran(groups, folder).items()}
    assert codes == {group.name: [0] * group.processes for group in groups}
    return folder


@pytest.mark.parametrize("group", EQUAL, ids=lambda group: group.name)
def test_processes_learn_and_write_what_one_does(folder: Path, group: Group) -> None:
    held_to_one(folder, group, 1e-3 if group.dtype == "bfloat16" else 1e-6)


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
