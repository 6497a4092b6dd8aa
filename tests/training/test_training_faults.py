"""Power that fails and disks that refuse, at every operation of a save: the old step or the new one, no mixture."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from crashing import WAYS, Recorder, each_call
from training_runs import go, publish, recipe, records, trainer, weights

from paddock.errors import PaddockError, ResourceError
from paddock.training import saving
from paddock.training.conduct import Wishes
from paddock.training.journal import Journal, read
from paddock.training.loop import Trainer
from paddock.training.run import RunFolder
from paddock.training.saving import State


def fill(one: Trainer) -> Any:
    moments = one.parallel.moments(one.model, one.optimizer)
    state = State(step=one.step, trainer=one.state(), recipe="r", data="d", seed=0, ranks=1)
    return lambda folder: saving.write(folder, publish, one.model, moments, state)


def advanced(one: Trainer, journal: Journal) -> None:
    """One step, and its record."""
    if one.step < 3:
        one.recipe = one.recipe.model_copy(update={"steps": one.step + 1})
        one.run(lambda report: journal.add({"step": report.step, "loss": report.loss}))


@contextlib.contextmanager
def two_steps(path: Path) -> Iterator[tuple[RunFolder, Trainer, Journal]]:
    """A run with steps 1 and 2 saved that stands at step 3."""
    run, one = RunFolder(path), trainer(recipe(steps=3))
    path.mkdir()
    with run.journal() as journal:
        for step in (1, 2, 3):
            if step == 3:
                journal.settle()
            advanced(one, journal)
            if step < 3:
                run.save(step, fill(one))
        yield run, one, journal


def small(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def test_whenever_the_power_fails_the_old_step_or_the_new_one_is_there(tmp_path: Path) -> None:
    with two_steps(tmp_path / "run") as (run, one, journal):
        recorder = Recorder(run.path)
        with recorder.noting():
            journal.settle()
            run.save(3, fill(one))
            saved = len(recorder.ops)
            run.retire(1, lambda step: step == 1, 3)
    known = {step: weights(tmp_path / "run" / f"step-{step:06d}") for step in (1, 3)}
    found, states = set(), 0
    for done, how, lay in recorder.states():
        states += 1
        again = RunFolder(tmp_path / "again")
        lay(again.path)
        told: list[str] = []
        with again.hold(), again.journal() as log:
            newest = again.newest(tell=told.append)
            assert told == [], (done, how, recorder.ops[:done][-3:])
            assert newest == 3 if done >= saved else newest in (2, 3), (done, how)
            assert newest is not None
            log.cut(newest)
            assert [record["step"] for record in read(again.metrics)] == list(range(1, newest + 1)), (done, how)
            assert 1 in again.steps()
            again.check(1)
            if newest in known:
                assert weights(again.step(newest)) == known[newest]
            again.save(newest + 1, small)
            again.retire(1, lambda step: False, newest + 1)
            assert again.steps() == [newest + 1] == [again.newest()]
        found.add((newest, how))
        shutil.rmtree(again.path)
    assert states >= 150 and {(newest, how) for newest in (2, 3) for how in WAYS} == found


def test_whenever_the_power_fails_a_final_model_is_whole_or_made_again(tmp_path: Path) -> None:
    with two_steps(tmp_path / "run") as (run, one, _):
        run.finish(lambda folder: publish(folder, one.model))
        recorder = Recorder(run.path)
        with recorder.noting():
            run.finish(lambda folder: publish(folder, one.model))
    for done, how, lay in recorder.states():
        again = RunFolder(tmp_path / "again")
        lay(again.path)
        with again.hold():
            assert again.newest() == 2, (done, how)
            assert again.finished() or not again.final.exists(), (done, how)
            if not again.finished():
                again.finish(lambda folder: publish(folder, one.model))
            assert weights(again.final) == weights(run.final)
        shutil.rmtree(again.path)


def test_the_power_may_fail_while_steps_are_removed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for step in (1, 2, 3, 4):
        run.save(step, small)
    recorder = Recorder(run.path)
    with recorder.noting():
        run.forget_after(2)
    for done, how, lay in recorder.states():
        again = RunFolder(tmp_path / "again")
        lay(again.path)
        with again.hold():
            told: list[str] = []
            assert again.newest(tell=told.append) in (2, 3, 4) and told == [], (done, how)
            again.forget_after(2)
            assert again.steps() == [1, 2]
        shutil.rmtree(again.path)


def test_the_comparison_sees_a_save_that_waits_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no fsync at all, some of these states hold a damaged step: the states are worth something."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.save(1, small)
    recorder = Recorder(run.path)
    with recorder.noting(), monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        run.save(2, small)
    damaged = []
    for _, _, lay in recorder.states():
        lay(tmp_path / "again")
        RunFolder(tmp_path / "again").newest(tell=damaged.append)
        shutil.rmtree(tmp_path / "again")
    assert damaged


REFUSALS = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE]


def failing_at(root: Path, number: int, code: int) -> contextlib.AbstractContextManager[None]:
    """The operation of that number, and all that follow, are refused."""
    seen = 0

    def hear(name: str, place: str, goal: str | None) -> None:
        nonlocal seen
        seen += 1
        if seen > number:
            raise OSError(code, os.strerror(code), place)

    return each_call(root, hear)


def test_a_save_that_is_refused_anywhere_harms_nothing(tmp_path: Path) -> None:
    with two_steps(tmp_path / "run") as (run, one, _):
        writes = fill(one)
        counted: list[str] = []
        with each_call(run.path, lambda name, place, goal: counted.append(name)):
            run.rehearse(writes)
        before = {name: weight.clone() for name, weight in one.model.named_parameters()}
        for number in range(len(counted)):
            code = REFUSALS[number % len(REFUSALS)]
            with failing_at(run.path, number, code), pytest.raises(PaddockError) as refused:
                run.save(3, writes)
            full = code in (errno.ENOSPC, errno.EDQUOT)
            assert isinstance(refused.value, ResourceError) == full, (number, counted[number])
            assert run.newest() == 2, (number, counted[number])
        run.save(3, writes)  # over whatever was left
        assert run.newest() == 3
    assert len(counted) > 30
    assert all(torch.equal(before[name], weight) for name, weight in one.model.named_parameters())


@pytest.mark.parametrize("limit", [0, 100, 3000, 12_000])
def test_a_write_that_does_not_fit_is_a_full_disk(tmp_path: Path, limit: int) -> None:
    with two_steps(tmp_path / "run") as (run, one, _):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(ResourceError, match="no space left"):
                run.save(3, fill(one))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert run.newest() == 2 and list(run.path.glob("*.tmp")) == []


@contextlib.contextmanager
def full_while(root: Path, full: list[bool]) -> Iterator[None]:
    def hear(name: str, place: str, goal: str | None) -> None:
        if full[0] and name not in ("unlink", "rmdir", "ftruncate") and place != "lock":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)

    with each_call(root, hear):
        yield


def test_a_full_disk_ends_the_run_with_the_step_before(tmp_path: Path) -> None:
    full = [False]

    def each(report: Any) -> None:
        full[0] = report.step == 6

    with full_while(tmp_path / "run", full), pytest.raises(ResourceError) as refused:
        go(tmp_path / "run", recipe(), Wishes(command="paddock pretrain x"), each)
    assert refused.value.exit_code == 4
    assert "then go on (step 3 is the newest saved one): paddock pretrain x" in str(refused.value)
    assert go(tmp_path / "run", recipe()) == ["going on from step 3 of 12"]


def test_a_full_disk_that_is_to_be_borne_changes_nothing(tmp_path: Path) -> None:
    full = [False]

    def each(report: Any) -> None:
        full[0] = 5 <= report.step <= 7

    go(tmp_path / "whole", recipe())
    with full_while(tmp_path / "run", full):
        told = go(tmp_path / "run", recipe(), Wishes(on_save_error="continue"), each)
    assert [line.split(" could not")[0] for line in told] == ["the log", "the log", "step 6", "the log"]
    assert records(tmp_path / "run") == records(tmp_path / "whole")
    assert weights(tmp_path / "run/final") == weights(tmp_path / "whole/final")
