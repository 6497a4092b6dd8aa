"""Examples of two kinds in one run: each trains what is its own, and moves no bit of the other's."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from paddock.errors import DataError, UsageError
from paddock.finetune import stage
from paddock.finetune.recipe import FineTuning
from paddock.finetune.stage import Prepared, finetune, prepare
from paddock.training import recipe_files
from paddock.training.parallel import Alone

METHOD = {"name": "adapter-v2", "prompts": 3, "layers": 4, "early": 2}


def recipe(folder: Path, **changes: Any) -> FineTuning:
    for name, verb in (("instructions", "Tell of"), ("captions", "A picture of")):
        lines = [{"prompt": f"{verb} a dog {n}", "completion": f"Once there was a {name} {n}."} for n in range(6)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = {"files": "instructions.jsonl", "joint": "captions.jsonl", "validation": 0, "length": 64}
    values: dict[str, Any] = {
        "task": {"name": "chat", "packing": "single"},
        "template": "alpaca",
        "method": METHOD,
        "data": {**data, **changes.pop("data", {})},
        "training": {
            "batch": 1,
            "steps": 12,
            "optimizer": {"learning_rate": 0.01, "decay": "all", "weight_decay": 0.1},
        },
    }
    return recipe_files.validated(FineTuning, {**values, **changes}, "recipe")


def digests(prepared: Prepared) -> dict[str, str]:
    named = prepared.tuned.model.named_parameters()
    return {name: hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for name, p in named}


@pytest.mark.parametrize("batch", [1, 4])
def test_a_row_moves_its_own_group_alone(tmp_path: Path, batch: int) -> None:
    decay = {"learning_rate": 0.01, "decay": "all", "weight_decay": 0.1}  # moves all that has a gradient, if it is 0
    asked = recipe(tmp_path, training={"batch": batch, "steps": 12, "optimizer": decay})
    told: list[str] = []
    prepared = prepare(asked, tmp_path, told.append)
    assert any("6 rows of data.files train" in line and "6 rows of data.joint 4 others" in line for line in told)
    tuned = prepared.tuned
    assert tuned.learns is not None
    assert tuned.joint == {f"blocks.{n}.attention.prompts.{part}" for n in (1, 2) for part in ("vectors", "gate")}
    groups = {"captions": tuned.joint, "instructions": tuned.learns - tuned.joint}
    trainer, seen = prepared.trainer(Alone(torch.device("cpu"))), [digests(prepared)]
    trainer.run(lambda report: seen.append(digests(prepared)))
    kinds = set()
    for step, (before, after) in enumerate(itertools.pairwise(seen)):
        texts = [prepared.opened.tokenizer.decode(row) for row in prepared.train.at(step).ids.tolist()]
        here = {name for name in groups for text in texts if name in text}
        kinds.add(frozenset(here))
        moved = {name for name in after if after[name] != before[name]}
        assert moved <= frozenset[str]().union(*(groups[name] for name in here))
        assert all(moved & groups[name] for name in here)
    assert len(seen) == 13 and len(kinds) > 1 and {name for each in kinds for name in each} == set(groups)


def test_a_run_ends_and_goes_on(tmp_path: Path) -> None:
    """The recipe is kept with the run; what is trained next is what would have been."""
    folder = finetune(recipe(tmp_path), tmp_path, tmp_path / "run", Alone(torch.device("cpu")))
    assert (folder / "adapter_model.safetensors").is_file()
    again = stage.reopen(tmp_path / "run")
    assert again.recipe.data.joint == ["captions.jsonl"] and len(again.train.table) == 12
    assert again.data == prepare(recipe(tmp_path), tmp_path).data
    assert again.data != prepare(recipe(tmp_path, data={"joint": "instructions.jsonl"}), tmp_path).data


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": {**METHOD, "early": 0}}, "go together"),
        ({"method": {"name": "lora"}}, "go together"),
        ({"data": {"joint": []}}, "go together"),
        ({"task": {"name": "classify"}}, "chat and text"),
        ({"training": {"batch": 1, "steps": 2, "recompute": True}}, "recompute"),
        ({"method": {**METHOD, "prompts": 0}}, "no prompts"),
        ({"method": {**METHOD, "early": -1}}, "early"),
    ],
    ids=["no early", "lora", "no joint", "classify", "recompute", "no prompts", "negative"],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        recipe(tmp_path, **changes)


def test_more_early_layers_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="early is 5"):
        prepare(recipe(tmp_path, method={**METHOD, "early": 5}), tmp_path)


def test_files_that_hold_nothing_or_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    for name, error in (("empty.jsonl", DataError), ("nothing.jsonl", UsageError)):
        with pytest.raises(error):
            prepare(recipe(tmp_path, data={"joint": name}), tmp_path)


def test_several_processes_are_refused(tmp_path: Path) -> None:
    two = Alone(torch.device("cpu"))
    two.data_ranks = 2
    with pytest.raises(UsageError, match=r"data\.joint in several processes"):
        finetune(recipe(tmp_path), tmp_path, tmp_path / "run", two)
