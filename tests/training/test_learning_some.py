"""The loop where only some parameters learn: the rest stay as they are, in their type, through saves and resumes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_runs import CPU, recipe, trainer

from paddock.checkpoint import safetensors
from paddock.errors import CheckpointError, Interrupted
from paddock.model.transformer import Transformer
from paddock.training.conduct import Origin, conduct
from paddock.training.loop import StepReport, Trainer
from paddock.training.losses import token_loss
from paddock.training.recipe import Training
from paddock.training.run import RunFolder

LEARNED = frozenset({"blocks.0.attention.q.weight", "norm.weight"})


def some(asked: Training, names: frozenset[str] = LEARNED, rates: Mapping[str, float] | None = None) -> Trainer:
    whole = trainer(asked)
    model = whole.model.to(torch.bfloat16)
    return Trainer(model, whole.batches, token_loss, asked, CPU, learns=names, rates=rates)


def weights(model: Transformer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def publish(folder: Path, model: Transformer) -> None:
    safetensors.save(folder / "some.safetensors", {n: p.detach() for n, p in model.named_parameters() if n in LEARNED})


def read(folder: Path) -> dict[str, Tensor]:
    return {name: stored.load() for name, stored in safetensors.read(folder / "some.safetensors").items()}


def go(path: Path, asked: Training, stop_at: int = 0) -> Trainer:
    one = some(asked)

    def stopping(report: StepReport) -> None:
        if report.step == stop_at:
            raise Interrupted("killed here")

    conduct(one, RunFolder(path), publish, Origin("r", "d"), read=read, hooks=[stopping])
    return one


def test_only_what_learns_moves_and_only_it_is_widened() -> None:
    one = some(recipe(steps=3, precision="bfloat16"))
    before = weights(one.model)
    one.run()
    after = weights(one.model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == LEARNED
    assert {name for name, weight in after.items() if weight.dtype == torch.float32} == LEARNED
    assert {id(p) for group in one.optimizer.param_groups for p in group["params"]} == {
        id(p) for name, p in one.model.named_parameters() if name in LEARNED
    }


def test_a_rate_multiplies_the_learning_rate() -> None:
    asked = recipe(steps=1, clip=0, optimizer={"name": "sgd", "learning_rate": 1.0}, precision="bfloat16")
    plain, faster = some(asked), some(asked, rates={"norm.weight": 4.0})
    before = weights(plain.model)
    plain.run()
    faster.run()
    moved, more = (weights(each.model)["norm.weight"] - before["norm.weight"] for each in (plain, faster))
    assert torch.allclose(more, 4 * moved, rtol=1e-4, atol=1e-7)
    assert moved.abs().max() > 0
    name = "blocks.0.attention.q.weight"
    assert torch.equal(weights(plain.model)[name], weights(faster.model)[name])


def test_a_parameter_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"blocks\.9"):
        some(recipe(), frozenset({"blocks.9.attention.q.weight"}))


def test_a_killed_run_of_some_parameters_goes_on_bit_for_bit(tmp_path: Path) -> None:
    asked = recipe(steps=8, checkpoints="every:2", precision="bfloat16")
    unbroken = go(tmp_path / "unbroken", asked)
    with pytest.raises(Interrupted):
        go(tmp_path / "broken", asked, stop_at=5)
    resumed = go(tmp_path / "broken", asked)
    assert resumed.step == unbroken.step == 8
    there, here = weights(unbroken.model), weights(resumed.model)
    assert all(torch.equal(there[name], here[name]) for name in there)
    assert [p.name for p in (tmp_path / "broken/step-000008").iterdir() if p.suffix == ".safetensors"] == [
        "some.safetensors"
    ]


def test_a_step_of_other_parameters_is_refused(tmp_path: Path) -> None:
    asked = recipe(steps=2, checkpoints="every:1", precision="bfloat16")
    go(tmp_path / "run", asked)
    longer = recipe(steps=2, checkpoints="every:1", precision="bfloat16")
    other = some(longer, LEARNED | {"blocks.1.attention.q.weight"})
    with pytest.raises(CheckpointError, match="lack"):
        conduct(other, RunFolder(tmp_path / "run"), publish, Origin("r", "d"), read=read)
