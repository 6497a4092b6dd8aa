"""A run's folder: which steps hold, which are kept, who may write, what the log says."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from hypothesis.strategies import integers, sampled_from

from paddock.errors import CheckpointError, DataError, PaddockError, UsageError
from paddock.training import lock, save_schedule
from paddock.training.journal import Journal, read
from paddock.training.run import RunFolder


def filled(folder: Path) -> None:
    (folder / "training").mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "training/optimizer.safetensors").write_bytes(bytes(reversed(range(256))) * 40)


def small(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def with_steps(path: Path, *steps: int) -> RunFolder:
    run = RunFolder(path)
    path.mkdir(exist_ok=True)
    for step in steps:
        run.save(step, filled)
    return run


# Which steps are saved


@pytest.mark.parametrize(
    ("text", "last", "steps"),
    [
        ("none", 100, []),
        ("every:30", 100, [30, 60, 90]),
        ("log2", 40, [0, 1, 2, 4, 8, 16, 32]),
        ("log2+every:1000", 3500, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000]),
        ("every:10+log2", 35, [0, 1, 2, 4, 8, 10, 20, 30]),
        ("log2+every:16", 35, [0, 1, 2, 4, 8, 16, 32]),
    ],
)
def test_a_schedule_is_due_at_its_steps_alone(text: str, last: int, steps: list[int]) -> None:
    schedule = save_schedule.parse(text)
    assert list(schedule.steps(last)) == steps
    assert [step for step in range(last + 1) if schedule.due(step)] == steps
    assert schedule.stays == ("log2" in text)


def test_pythia_has_154_checkpoints() -> None:
    assert len(list(save_schedule.parse("log2+every:1000").steps(143_000))) == 154


@pytest.mark.parametrize(
    "text", ["", "every", "every:", "every:0", "every:-1", "every:1e3", "every:5 ", "log2+log2", "every:1+every:2",
             "LOG2", "none+log2", "+", "every:99999999999", "every:٣"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="checkpoints are asked for by") as refused:
        save_schedule.parse(text)
    assert "log2+every:1000" in str(refused.value)


# Which steps hold


def test_a_step_is_there_whole_and_is_never_written_over(tmp_path: Path) -> None:
    run = with_steps(tmp_path / "run", 5)
    assert run.newest() == 5
    with pytest.raises(PaddockError, match="never written over"):
        run.save(5, filled)
    with pytest.raises(ZeroDivisionError):
        run.save(6, lambda folder: (filled(folder), 1 / 0)[0])
    assert sorted(path.name for path in run.path.iterdir()) == ["step-000005"]


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_every_bit_that_turns_is_found(tmp_path: Path) -> None:
    run, chance = with_steps(tmp_path / "run", 1, 2), random.Random(1)
    for path in files_of(run.step(2)):
        good = path.read_bytes()
        for _ in range(40):
            flip(path, chance)
            told: list[str] = []
            assert run.newest(tell=told.append) == 1 and "step 2 is damaged" in told[0]
            path.write_bytes(good)
    assert run.newest() == 2


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: path.rename(path.with_name(".kept")) and path.mkdir(),
    "a link": lambda path: path.symlink_to(path.rename(path.with_name(".kept"))),
}
FILES = ["manifest.json", "config.json", "model.safetensors", "training/optimizer.safetensors"]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "file", ["manifest.json", "config.json", "model.safetensors", "training/optimizer.safetensors"]
)
def test_every_damage_falls_back_to_the_step_before(tmp_path: Path, file: str, damage: str) -> None:
    run = with_steps(tmp_path / "run", 1, 2)
    DAMAGE[damage](run.step(2) / file)
    told: list[str] = []
    assert run.newest(tell=told.append) == 1
    assert len(told) == 1 and "passed over" in told[0]
    with pytest.raises(CheckpointError):
        run.newest(strict=True)


def test_files_that_changed_places_are_found(tmp_path: Path) -> None:
    run = with_steps(tmp_path / "run", 1, 2)
    first, second = run.step(2) / "model.safetensors", run.step(2) / "training/optimizer.safetensors"
    first.rename(run.path / "aside")
    second.rename(first)
    (run.path / "aside").rename(second)
    assert run.newest() == 1


def test_a_whole_step_under_another_number_is_found(tmp_path: Path) -> None:
    run = with_steps(tmp_path / "run", 1, 2)
    shutil.rmtree(run.step(2))
    shutil.copytree(run.step(1), run.step(2))
    told: list[str] = []
    assert run.newest(tell=told.append) == 1 and "is that of 'step-000001'" in told[0]


def test_a_file_that_nobody_listed_is_found_and_a_hidden_one_is_not_minded(tmp_path: Path) -> None:
    run = with_steps(tmp_path / "run", 1)
    (run.step(1) / ".DS_Store").write_bytes(b"x")
    assert run.newest() == 1
    (run.step(1) / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="none of the 1 saved steps"):
        run.newest()


def test_two_bad_steps_in_a_row_and_then_none(tmp_path: Path) -> None:
    run = with_steps(tmp_path / "run", 1, 2, 3)
    (run.step(3) / "config.json").unlink()
    (run.step(2) / "manifest.json").write_text("{")
    assert run.newest() == 1
    (run.step(1) / "config.json").write_text("")
    with pytest.raises(CheckpointError, match="none of the 3 saved steps"):
        run.newest()
    assert RunFolder(tmp_path / "nothing").newest() is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 1, "folder": "step-000001", "files": 3}', '{"format": 2, "folder": "x", "files": []}',
     '{"format": 1, "folder": "step-000001", "files": [{"name": "../../etc/passwd", "bytes": 1, "sha256": ""}]}',
     "[" * 10**5, "\udcff", '{"format": 1e999}'],
)  # fmt: skip
def test_hostile_manifests_are_refused(tmp_path: Path, text: str) -> None:
    run = with_steps(tmp_path / "run", 1)
    (run.step(1) / "manifest.json").write_text(text, errors="surrogateescape")
    with pytest.raises(CheckpointError):
        run.check(1)


def test_a_name_that_no_manifest_can_hold_is_refused_when_it_is_written(tmp_path: Path) -> None:
    def odd(folder: Path) -> None:
        filled(folder)
        (folder / "with space").write_bytes(b"")

    with pytest.raises(PaddockError, match="with space"):
        with_steps(tmp_path / "run").save(1, odd)
    assert RunFolder(tmp_path / "run").steps() == []


def test_folders_that_only_look_like_steps_are_not_steps(tmp_path: Path) -> None:
    run = with_steps(tmp_path / "run", 7)
    for name in ("step-7", "step-0000007", "step-000008.tmp", "step-000009.broken-1", "step-abcdef", "final"):
        (run.path / name).mkdir()
    assert run.steps() == [7]


def test_a_million_steps_are_in_order(tmp_path: Path) -> None:
    run = with_steps(tmp_path / "run", 999_999, 1_000_000, 2)
    assert run.steps() == [2, 999_999, 1_000_000]


# Which steps are kept


class Retention(RuleBasedStateMachine):
    """Whatever is saved, damaged, retired and resumed in whatever order: the newest step that held, holds."""

    place: str
    keep: int
    run: RunFolder
    schedule: save_schedule.SaveSchedule

    @initialize(keep=integers(1, 3), text=sampled_from(["every:2", "log2+every:4"]))
    def begin(self, keep: int, text: str) -> None:
        self.keep, self.schedule = keep, save_schedule.parse(text)
        self.damaged: set[int] = set()
        self.step = 0
        self.run = with_steps(Path(tempfile.mkdtemp(dir=self.place)))

    @rule(more=integers(1, 3))
    def save(self, more: int) -> None:
        self.step += more
        self.run.save(self.step, small)
        self.run.retire(self.keep, lambda step: self.schedule.stays and self.schedule.due(step), self.step)

    @rule()
    def retire_without_a_save(self) -> None:
        if self.step and self.step not in self.damaged:  # what is retired for has just been saved, so it holds
            self.run.retire(self.keep, lambda step: False, self.step)

    @rule()
    def damage_the_newest_of_several(self) -> None:
        good = [step for step in self.run.steps() if step not in self.damaged]
        if len(good) > 1:
            (self.run.step(good[-1]) / "config.json").write_text("[]")
            self.damaged.add(good[-1])

    @rule()
    def resume(self) -> None:
        newest = self.run.newest()
        for step in self.run.steps():
            if newest is not None and step > newest:
                self.run.set_aside(step)
        self.step = newest or 0
        self.damaged = {step for step in self.damaged if step <= self.step}

    @rule()
    def go_back(self) -> None:
        good = [step for step in self.run.steps() if step not in self.damaged]
        if good:
            self.run.forget_after(good[0])
            self.step = good[0]
            self.damaged = {step for step in self.damaged if step <= self.step}

    @invariant()
    def something_holds(self) -> None:
        if getattr(self, "step", 0):
            good = [step for step in self.run.steps() if step not in self.damaged]
            assert good and self.run.newest() == good[-1]


def test_retention_never_loses_the_newest_step_that_holds(tmp_path: Path) -> None:
    machine = type("Here", (Retention,), {"place": str(tmp_path)})
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=20, deadline=None))


def test_an_older_run_with_higher_numbers_does_not_cost_the_new_step(tmp_path: Path) -> None:
    run = with_steps(tmp_path / "run", 900, 1000, 10)
    run.retire(1, lambda step: False, 10)
    assert 10 in run.steps()


# Who may write


def test_the_second_run_in_a_folder_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.hold(), pytest.raises(UsageError, match=f"in use by process {os.getpid()}") as refused, run.hold():
        pass
    assert refused.value.exit_code == 2
    with run.hold():
        pass


HOLDS = """
import sys, time
from pathlib import Path
from paddock.training.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    child = subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"process {child.pid}"), lock.held(path):
            pass
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert json.loads(path.read_text())["pid"] == child.pid
    with lock.held(path):
        pass


def noted(**changed: object) -> str:
    return json.dumps(lock.ourselves() | changed)


@pytest.mark.parametrize(
    "stale",
    ["", "free\n", "{", "[" * 4000, '{"pid": 1}', noted(pid=2**22 - 1), noted(started=1), noted(pid=-1), noted(pid=0),
     noted(boot="another"), noted(pid=True)],
    ids=range(11),
)  # fmt: skip
def test_a_stale_lock_is_broken(tmp_path: Path, stale: str) -> None:
    (tmp_path / "lock").write_text(stale)
    with lock.held(tmp_path / "lock"):
        assert json.loads((tmp_path / "lock").read_text()) == lock.ourselves()
    assert (tmp_path / "lock").read_text() == "free\n"


def test_where_the_kernel_does_not_lock_the_note_still_counts(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for holder in (noted(), noted(boot="another", host="elsewhere")):
        path.write_text(holder)
        with pytest.raises(UsageError, match="in use by process"), lock.held(path):
            pass
        assert path.read_text() == holder


def test_what_a_killed_run_left_half_done_is_removed(tmp_path: Path) -> None:
    run = with_steps(tmp_path / "run", 3)
    (run.path / "step-000006.tmp/training").mkdir(parents=True)
    (run.path / "final.tmp").write_text("a file where a folder was meant")
    with run.hold():
        assert sorted(path.name for path in run.path.iterdir()) == ["lock", "step-000003"]


# What the log says


def logged(path: Path, *lines: str) -> Path:
    path.write_text("".join(lines))
    return path


def line(step: int) -> str:
    return json.dumps({"step": step, "loss": step / 7}) + "\n"


@pytest.mark.parametrize("torn", ["", '{"step": 4, "lo', '{"step": 4}', "\x00\x00", "{"])
@pytest.mark.parametrize("cut", [-1, 0, 2, 3, 99])
def test_a_log_is_cut_to_a_step(tmp_path: Path, torn: str, cut: int) -> None:
    path = logged(tmp_path / "metrics.jsonl", line(1), line(2), line(2), line(3), torn)
    journal = Journal(path)
    journal.cut(cut)
    journal.add({"step": 100, "loss": 1.0})
    journal.close()
    assert [record["step"] for record in read(path)] == [step for step in (1, 2, 2, 3) if step <= cut] + [100]


def test_numbers_come_back_bit_for_bit_and_others_by_name(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    values = [0.1 + 0.2, 1e-310, -0.0, float("nan"), float("inf")]
    journal.add({"step": 1, "loss": values})
    journal.settle()
    journal.close()
    (record,) = read(tmp_path / "metrics.jsonl")
    assert [value.hex() for value in record["loss"][:3]] == [value.hex() for value in values[:3]]
    assert record["loss"][3:] == ["nan", "inf"]


@pytest.mark.parametrize("bad", ["3\n", "{}\n", '{"step": "1"}\n', "{\n", "[" * 10**5 + "\n", "\n", "x" * 2**21])
def test_a_line_in_the_middle_that_is_no_record_is_named(tmp_path: Path, bad: str) -> None:
    path = logged(tmp_path / "metrics.jsonl", line(1), bad, line(2))
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2"):
        list(read(path))


def test_a_record_without_room_waits_and_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, written = Journal(tmp_path / "metrics.jsonl"), os.write
    journal.add({"step": 1})

    def full(handle: int, data: bytes) -> int:
        if len(data) > 3:
            return written(handle, data[:3])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for step in (2, 3):
            with pytest.raises(OSError, match="No space"):
                journal.add({"step": step})
        assert [record["step"] for record in read(journal.path)] == [1]
    journal.add({"step": 4})
    journal.close()
    assert [record["step"] for record in read(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]
