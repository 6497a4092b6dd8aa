"""A run that is stopped, wherever and however, goes on as if nothing had been: records, batches and weights."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import CONFIG, go, publish, recipe, records, trainer, weights

from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.errors import CheckpointError, DivergedError, Interrupted, PaddockError, ResourceError, UsageError
from paddock.training import conduct as conducting
from paddock.training import manifest, policies, saving
from paddock.training.conduct import Origin, Wishes
from paddock.training.loop import StepReport, Trainer
from paddock.training.run import RunFolder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    go(path, recipe())
    return path


class Killed(BaseException):
    """Nothing of ours catches it, as nothing hears of SIGKILL."""


def dying(step: int) -> Callable[[StepReport], None]:
    def each(report: StepReport) -> None:
        if report.step == step:
            raise Killed

    return each


def killed_at(path: Path, step: int, **changed: Any) -> None:
    with pytest.raises(Killed):
        go(path, recipe(**changed), each=dying(step))


def signalled(number: signal.Signals, step: int) -> Callable[[StepReport], None]:
    return lambda report: os.kill(os.getpid(), number) if report.step == step else None


# Exactness

RUNS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    "micro-batches": {"micro_batch": 3, "dropout": 0.1},
    "over an epoch": {"steps": 31, "checkpoints": "every:7"},
    "log2": {"checkpoints": "log2+every:5", "optimizer": {"name": "muon"}},
    "none but the last": {"checkpoints": "every:100", "recompute": True, "dropout": 0.2},
}


@pytest.mark.parametrize("name", RUNS)
def test_killed_three_times_and_still_the_same(tmp_path: Path, name: str) -> None:
    changed = RUNS[name]
    last = recipe(**changed).steps
    go(tmp_path / "whole", recipe(**changed))
    for step in (2, last // 2, last):
        killed_at(tmp_path / "broken", step, **changed)
    go(tmp_path / "broken", recipe(**changed))
    whole, broken = records(tmp_path / "whole"), records(tmp_path / "broken")
    assert [record["loss"].hex() for record in broken] == [record["loss"].hex() for record in whole]
    assert broken == whole and len(whole) == last
    assert weights(tmp_path / "broken/final") == weights(tmp_path / "whole/final")
    newest = RunFolder(tmp_path / "whole").newest()
    assert newest is not None and RunFolder(tmp_path / "broken").newest() == newest
    one, other = (RunFolder(tmp_path / run).check(newest) for run in ("whole", "broken"))
    assert one == other  # the optimizer and the state, too


def test_the_loss_depends_on_what_is_restored(tmp_path: Path, whole: Path) -> None:
    """The comparison above can fail: without the moments it does."""
    killed_at(tmp_path / "broken", 8)
    one = trainer(recipe())
    state = saving.restore(tmp_path / "broken/step-000006", one.model, one.optimizer, one.parallel)
    one.restore(state.trainer)
    one.optimizer.state.clear()
    heard: list[StepReport] = []
    one.run(heard.append)
    assert heard[0].loss == records(whole)[6]["loss"] and heard[1].loss != records(whole)[7]["loss"]


def test_a_run_that_is_done_is_left_as_it_is(tmp_path: Path) -> None:
    go(tmp_path / "run", recipe())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.name != "lock"}
    assert go(tmp_path / "run", recipe()) == ["going on from step 12 of 12"]
    assert {path: path.stat().st_mtime_ns for path in before if path.is_file()} == {
        path: when for path, when in before.items() if path.is_file()
    }
    shutil.rmtree(tmp_path / "run/final")
    go(tmp_path / "run", recipe())
    assert open_checkpoint(tmp_path / "run/final").architecture.vocabulary == CONFIG["vocab_size"]


@pytest.mark.parametrize(
    ("asked", "there"),
    [("every:3", [9, 12]), ("every:5", [10, 12]), ("log2+every:5", [0, 1, 2, 4, 5, 10, 12]), ("none", [])],
)
def test_the_steps_that_stay(tmp_path: Path, asked: str, there: list[int]) -> None:
    go(tmp_path / "run", recipe(checkpoints=asked))
    assert RunFolder(tmp_path / "run").steps() == there
    assert RunFolder(tmp_path / "run").finished()


def test_a_run_without_saved_steps_begins_anew(tmp_path: Path, whole: Path) -> None:
    killed_at(tmp_path / "run", 2)
    assert len(records(tmp_path / "run")) == 1  # the hook died before the second record
    assert go(tmp_path / "run", recipe()) == []
    assert records(tmp_path / "run") == records(whole)


def test_hooks_add_to_the_record_and_plots_are_drawn_at_saves(tmp_path: Path) -> None:
    drawn: list[int] = []
    run = RunFolder(tmp_path / "run")
    conducting.conduct(
        trainer(recipe()),
        run,
        publish,
        Origin("x", "data"),
        hooks=[lambda report: {"double": report.step * 2}, lambda report: None],
        draw=lambda run: drawn.append(len(records(run.path))),
    )
    assert [record["double"] for record in records(run.path)] == [2 * step for step in range(1, 13)]
    assert drawn == [3, 6, 9, 12, 12]


# Damage


def test_a_damaged_newest_step_falls_back_and_the_run_ends_the_same(tmp_path: Path, whole: Path) -> None:
    killed_at(tmp_path / "run", 8)
    path = tmp_path / "run/step-000006/training/optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="is not what was written"):
        go(tmp_path / "run", recipe(), Wishes(strict=True))
    told = go(tmp_path / "run", recipe())
    assert "step 6 is damaged and passed over" in told[0] and "step-000006.broken-1" in told[1]
    assert told[2] == "going on from step 3 of 12"
    assert records(tmp_path / "run") == records(whole)
    assert weights(tmp_path / "run/final") == weights(whole / "final")


def test_where_no_step_holds_nothing_is_trained(tmp_path: Path) -> None:
    killed_at(tmp_path / "run", 5)
    (tmp_path / "run/step-000003/manifest.json").unlink()
    with pytest.raises(CheckpointError, match="none of the 1 saved steps") as refused:
        go(tmp_path / "run", recipe())
    assert refused.value.exit_code == 3


def test_a_log_that_is_lost_does_not_stop_a_run(tmp_path: Path) -> None:
    killed_at(tmp_path / "run", 5)
    (tmp_path / "run/metrics.jsonl").unlink()
    go(tmp_path / "run", recipe())
    assert [record["step"] for record in records(tmp_path / "run")] == list(range(4, 13))


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_the_next_step_and_says_how_to_go_on(
    tmp_path: Path, whole: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"stopped by {number.name}; step 5 is saved") as stopped:
        go(tmp_path / "run", recipe(), Wishes(command="paddock pretrain x"), signalled(number, 5))
    assert stopped.value.exit_code == 75 and stopped.value.fix == "to go on: paddock pretrain x"
    assert signal.getsignal(number) is before
    assert RunFolder(tmp_path / "run").newest() == 5
    assert go(tmp_path / "run", recipe())[0] == "going on from step 5 of 12"
    assert records(tmp_path / "run") == records(whole)
    assert weights(tmp_path / "run/final") == weights(whole / "final")
    assert RunFolder(tmp_path / "run").steps() == [9, 12]  # the step of the signal was one more, for a while


def test_a_signal_is_heeded_where_nothing_else_is_saved(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        go(tmp_path / "run", recipe(checkpoints="none"), each=signalled(signal.SIGTERM, 5))
    assert RunFolder(tmp_path / "run").steps() == [5]


def test_a_signal_in_the_last_step_stops_nothing(tmp_path: Path) -> None:
    go(tmp_path / "run", recipe(), each=signalled(signal.SIGTERM, 12))
    assert RunFolder(tmp_path / "run").finished()


def test_a_second_ctrl_c_leaves_the_step_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first asks for a save of step 5, and the second comes in the midst of it."""
    fsync, calls = os.fsync, 0

    def interrupted(handle: int) -> None:
        nonlocal calls
        calls += 1
        fsync(handle)
        if calls > before + 3:
            os.kill(os.getpid(), signal.SIGINT)

    def each(report: StepReport) -> None:
        nonlocal before
        if report.step == 5:
            before = calls
            os.kill(os.getpid(), signal.SIGINT)

    before = 10**9
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run", recipe(), each=each)
    assert RunFolder(tmp_path / "run").newest() == 3
    assert [path.name for path in (tmp_path / "run").glob("*.tmp")] == []


def test_what_ignored_a_signal_goes_on_ignoring_it(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        go(tmp_path / "run", recipe(), each=signalled(signal.SIGINT, 5))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_in_another_thread_trains_without_signals(tmp_path: Path) -> None:
    thread = threading.Thread(target=go, args=(tmp_path / "run", recipe()))
    thread.start()
    thread.join()
    assert RunFolder(tmp_path / "run").finished()


# Another recipe, other data, another folder


def test_a_changed_recipe_is_refused_with_what_changed(tmp_path: Path) -> None:
    killed_at(tmp_path / "run", 8)
    other = recipe(optimizer={"learning_rate": 0.5})
    with pytest.raises(UsageError, match=r"the recipe of .* changed since step 6") as refused:
        go(tmp_path / "run", other)
    assert '- "learning_rate": 0.001' in str(refused.value) and '+ "learning_rate": 0.5' in str(refused.value)
    told = go(tmp_path / "run", other, Wishes(changed=True))
    assert told[0] == "the recipe changed; steps from 7 on are made of the new"
    assert "0.5" in (tmp_path / "run/recipe.yaml").read_text()
    assert "0.001" in (tmp_path / "run/recipe.until-step-000006.yaml").read_text()
    assert go(tmp_path / "run", other) == ["going on from step 12 of 12"]


def test_changed_data_are_refused(tmp_path: Path) -> None:
    killed_at(tmp_path / "run", 8)
    same = recipe().model_dump_json(indent=1)
    with pytest.raises(UsageError, match=r"the data of .* changed"):
        go(tmp_path / "run", recipe(), origin=Origin(same, "other data"))
    with pytest.raises(UsageError, match=r"the recipe and the data of .* changed"):
        go(tmp_path / "run", recipe(), origin=Origin("new", "other data"))


def test_a_shorter_recipe_than_what_is_there_is_refused(tmp_path: Path) -> None:
    go(tmp_path / "run", recipe())
    with pytest.raises(UsageError, match="is at step 12"):
        go(tmp_path / "run", recipe(steps=5), Wishes(changed=True))


def test_a_longer_recipe_goes_on_if_that_is_meant(tmp_path: Path) -> None:
    go(tmp_path / "run", recipe())
    first = weights(tmp_path / "run/final")
    go(tmp_path / "run", recipe(steps=15), Wishes(changed=True))
    assert weights(tmp_path / "run/final") != first and RunFolder(tmp_path / "run").steps() == [12, 15]


def test_never_means_never(tmp_path: Path) -> None:
    go(tmp_path / "run", recipe(), Wishes(resume="never"))
    with pytest.raises(UsageError, match="holds a run already"):
        go(tmp_path / "run", recipe(), Wishes(resume="never"))


def test_other_versions_and_other_numbers_of_processes_are_told(tmp_path: Path) -> None:
    killed_at(tmp_path / "run", 8)
    run = RunFolder(tmp_path / "run")
    table = json.loads((run.step(6) / "training/state.json").read_text())
    table["versions"]["torch"], table["ranks"] = "1.0", 4
    (run.step(6) / "training/state.json").write_text(json.dumps(table))
    (run.step(6) / "manifest.json").unlink()
    manifest.seal(run.step(6), "step-000006")
    told = go(tmp_path / "run", recipe())
    assert told[0].startswith("4 processes shared the rows, now 1")
    assert told[1] == f"torch was 1.0, now {torch.__version__}: losses may differ in last bits"


def refusing_all(*_: object, **__: object) -> int:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("kind", ["a file", "not ours"])
def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "a file":
        (tmp_path / "run").write_text("")
    else:
        monkeypatch.setattr(
            os, "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )
    with pytest.raises(PaddockError, match=r"is a file|cannot be read or written") as refused:
        go(tmp_path / "run", recipe())
    assert refused.value.exit_code == (2 if kind == "a file" else 1)


# No room

Usage = namedtuple("Usage", "total used free")


def test_a_disk_without_room_for_the_run_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[StepReport] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 50_000))
    with pytest.raises(ResourceError, match=r"GB free; expected .* GB for 3 saved steps") as refused:
        go(tmp_path / "run", recipe(), each=heard.append)
    assert refused.value.exit_code == 4 and heard == [] and RunFolder(tmp_path / "run").steps() == []
    with pytest.raises(ResourceError, match="for 16 saved steps"):
        go(tmp_path / "run", recipe(steps=4096, checkpoints="log2"), each=heard.append)


def test_a_model_that_cannot_be_published_is_known_before_the_first_step(tmp_path: Path) -> None:
    def cannot(folder: Path, model: Any) -> None:
        raise PaddockError("no tokenizer here")

    with pytest.raises(PaddockError, match="no tokenizer here"):
        conducting.conduct(trainer(recipe()), RunFolder(tmp_path / "run"), cannot, Origin("x", "data"))
    assert not (tmp_path / "run/metrics.jsonl").read_text()


# Rollback


def spiking(one: Any, at: int, once: list[int]) -> None:
    """Batch `at` of a trainer's stream is noise, to a model that has learned to count."""
    inner = one.batches

    class Spoiled:
        def at(self, step: int, rank: int = 0, ranks: int = 1) -> Any:
            once.append(step)
            batch = inner.at(step, rank, ranks)
            return batch if step != at else dataclasses.replace(batch, targets=batch.targets.roll(7, 0) % 7)

    one.batches = Spoiled()


ROLLING = {"steps": 45, "checkpoints": "every:10", "keep": 8, "on_spike": "rollback",
           "optimizer": {"learning_rate": 3e-2}, "schedule": {"shape": "constant", "floor": 1}}  # fmt: skip


@pytest.fixture
def quick_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "HISTORY", 12)
    monkeypatch.setattr(policies, "BACK", 8)


def rolled(path: Path, each: Callable[[StepReport], Any] = lambda report: None) -> tuple[list[int], list[str]]:
    read: list[int] = []
    told: list[str] = []
    one = trainer(recipe(**ROLLING))
    spiking(one, 35, read)
    hooks = [lambda report: each(report)]
    conducting.conduct(one, RunFolder(path), publish, Origin("x", "data"), hooks=hooks, tell=told.append)
    return read, told


@pytest.mark.usefixtures("quick_to_judge")
def test_a_spike_goes_back_and_past_its_batch_and_exactly_so_when_killed(tmp_path: Path) -> None:
    read, told = rolled(tmp_path / "whole")
    assert read == [*range(36), *range(36, 36 + 25)]
    assert len(told) == 1 and told[0].endswith("back to step 20, and past batch 35")
    whole = records(tmp_path / "whole")
    assert [record["step"] for record in whole] == [*range(1, 21), 20, *range(21, 46)]
    assert whole[20]["event"] == "rollback" and whole[20]["from"] == 35 and whole[21]["batch"] == 36
    for step in (25, 37):
        with pytest.raises(Killed):
            rolled(tmp_path / "broken", dying(step))
    rolled(tmp_path / "broken")
    assert records(tmp_path / "broken") == whole
    assert weights(tmp_path / "broken/final") == weights(tmp_path / "whole/final")


@pytest.mark.usefixtures("quick_to_judge")
def test_after_a_rollback_nothing_of_the_bad_step_is_left(tmp_path: Path) -> None:
    """The step after it is that of a process that began at the saved step: no gradient of the bad batch adds up."""
    rolled(tmp_path / "run")
    one = trainer(recipe(**(ROLLING | {"steps": 21})))
    one.restore(saving.restore(tmp_path / "run/step-000020", one.model, one.optimizer, one.parallel).trainer)
    one.pass_over(35)
    heard: list[StepReport] = []
    one.run(heard.append)
    assert [heard[0].loss, heard[0].norm] == [records(tmp_path / "run")[21][name] for name in ("loss", "norm")]


@pytest.mark.usefixtures("quick_to_judge")
def test_a_spike_with_nowhere_to_go_back_to_ends_the_run(tmp_path: Path) -> None:
    one = trainer(recipe(**(ROLLING | {"checkpoints": "every:30"})))
    spiking(one, 35, [])
    with pytest.raises(DivergedError, match="no saved step"):
        conducting.conduct(one, RunFolder(tmp_path / "run"), publish, Origin("x", "data"))
    assert RunFolder(tmp_path / "run").newest() == 35


# Numbers that are none


def failing_at(one: Trainer, step: int) -> Trainer:
    """The loss of the step after `step` is not a number."""
    inner = one.loss

    def loss(model: Any, batch: Any, coordinates: Any) -> Any:
        sums = inner(model, batch, coordinates)
        return dataclasses.replace(sums, total=sums.total * (float("nan") if one.step == step else 1.0))

    one.loss = loss
    return one


def test_a_step_that_is_no_number_ends_the_run_and_what_was_good_is_kept(tmp_path: Path) -> None:
    run, asked = RunFolder(tmp_path / "run"), recipe()
    for _ in range(2):  # it comes to the same when it goes on
        with pytest.raises(DivergedError, match="the loss is nan at step 8"):
            conducting.conduct(failing_at(trainer(asked), 7), run, publish, Origin("x", "data"))
        assert run.newest() == 7
    skipping = failing_at(trainer(recipe(on_nonfinite="skip")), 7)
    conducting.conduct(skipping, run, publish, Origin("y", "data"), Wishes(changed=True))
    record = records(run.path)[7]
    assert record["loss"] == "nan" and not record["updated"] and record["events"][0]["kind"] == "nonfinite"
    assert run.finished() and len(records(run.path)) == 12


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    one = trainer(recipe())

    def spoil(report: StepReport) -> None:
        if report.step == 7:
            with torch.no_grad():
                one.model.embedding.tokens.weight[0, 0] = float("nan")

    with pytest.raises(DivergedError):
        conducting.conduct(one, RunFolder(tmp_path / "run"), publish, Origin("x", "data"), hooks=[spoil])
    assert RunFolder(tmp_path / "run").newest() == 6
