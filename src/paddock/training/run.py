"""A run as a folder: its recipe, its log, its saved steps, its result.

    recipe.yaml     what was asked, resolved
    origin.json     digests of recipe and data, versions and machine as the run began
    metrics.jsonl   a record for each step (`journal.py`)
    step-000500/    a model as a Hugging Face folder, with what is needed to go on from there under training/
    final/          the model after the last step
    plots/          loss and learning rate
    lock            who is at it (`lock.py`)

A step is written as `step-000500.tmp` and renamed when all of it is on the disk, so that it is there whole or not at
all; it counts only while every byte agrees with its manifest. Which step is the newest is found out, and noted nowhere.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from paddock.checkpoint.writing import FULL, flush, write_text
from paddock.errors import CheckpointError, PaddockError, ResourceError, UsageError
from paddock.training import lock, manifest
from paddock.training.journal import Journal

RECIPE, ORIGIN, METRICS = "recipe.yaml", "origin.json", "metrics.jsonl"
FINAL, PLOTS, LOCK = "final", "plots", "lock"
TEMPORARY, BROKEN = ".tmp", ".broken"
_STEP = re.compile(r"step-([0-9]{6,12})")
Tell = Callable[[str], None]


def folder_name(step: int) -> str:
    return f"step-{step:06d}"


class RunFolder:
    """The folder of one run. Reading it needs nothing; writing it needs `hold`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe, self.origin, self.metrics = self.path / RECIPE, self.path / ORIGIN, self.path / METRICS
        self.final, self.plots = self.path / FINAL, self.path / PLOTS

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Makes the folder ours while the body runs, and removes what a run that was killed left half done.

        Raises UsageError where another run is at it, ResourceError or PaddockError where it cannot be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file", expected="a folder for the run", fix="name another --output")
        with refusing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            with refusing(self.path):
                stack.enter_context(lock.held(self.path / LOCK))
                for leftover in self.path.glob(f"*{TEMPORARY}"):
                    _remove(leftover)
            yield

    def note_recipe(self, text: str) -> None:
        write_text(self.recipe, text)

    @contextlib.contextmanager
    def journal(self) -> Iterator[Journal]:
        with refusing(self.metrics):
            journal = Journal(self.metrics)
        try:
            yield journal
        finally:
            journal.close()

    def steps(self) -> list[int]:
        """Steps there are folders of, in order; whether they hold is another question."""
        if not self.path.is_dir():
            return []
        found = (_STEP.fullmatch(entry.name) for entry in self.path.iterdir())
        return sorted(step for match in found if match and match[0] == folder_name(step := int(match[1])))

    def step(self, step: int) -> Path:
        return self.path / folder_name(step)

    def check(self, step: int) -> dict[str, str]:
        """Reads every byte of a step: its files and their SHA-256. Raises CheckpointError."""
        with refusing(self.step(step)):
            return manifest.verify(self.step(step), folder_name(step))

    def newest(self, *, strict: bool = False, tell: Tell = lambda text: None) -> int | None:
        """The newest step that holds, None where there is none; of those that do not, `tell` hears.

        strict: the newest folder must hold. Raises CheckpointError then, and where there are steps but none holds.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                self.check(step)
            except CheckpointError as error:
                if strict:
                    raise
                tell(f"step {step} is damaged and passed over: {error}")
            else:
                return step
        if steps:
            raise CheckpointError(
                f"none of the {len(steps)} saved steps in {self.path} holds", fix="start anew in another folder"
            )
        return None

    def save(self, step: int, fill: Callable[[Path], None]) -> Path:
        """Step `step` as `fill` writes it into the folder it is given: there whole, or not at all.

        Raises ResourceError where the disk is full, PaddockError where it refuses otherwise or the step is there.
        """
        return self._put(folder_name(step), fill)

    def finish(self, fill: Callable[[Path], None]) -> Path:
        """The final model, in the place of an earlier one, as `save` writes a step."""
        return self._put(FINAL, fill, replace=True)

    def finished(self) -> bool:
        """Whether the final model is there and holds."""
        try:
            manifest.verify(self.final, FINAL)
        except CheckpointError:
            return False
        return True

    def rehearse(self, fill: Callable[[Path], None]) -> int:
        """Writes a step in earnest and throws it away: its size in bytes, or the refusal that a save would meet."""
        part = self.path / f"rehearsal{TEMPORARY}"
        with refusing(part):
            try:
                part.mkdir()
                fill(part)
                manifest.seal(part, part.name)
                return sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
            finally:
                if part.exists():
                    _remove(part)

    def _put(self, name: str, fill: Callable[[Path], None], replace: bool = False) -> Path:
        goal, part = self.path / name, self.path / f"{name}{TEMPORARY}"
        with refusing(goal):
            if goal.exists() and not replace:
                raise PaddockError(f"{goal} is there already, and a saved step is never written over")
            if part.exists():
                _remove(part)
            try:
                part.mkdir()
                fill(part)
                manifest.seal(part, name)
                if goal.exists():
                    _discard(goal)
                part.rename(goal)
            except BaseException:
                with contextlib.suppress(OSError):  # what hinders here hindered before; the next save tries again
                    _remove(part)
                raise
            flush(self.path)
        return goal

    def set_aside(self, step: int) -> Path:
        """Renames the folder of a step that does not hold, so that the step can be saved again; nothing is lost."""
        folder = self.step(step)
        with refusing(folder):
            for number in range(1, 1000):
                aside = self.path / f"{folder.name}{BROKEN}-{number}"
                if not aside.exists():
                    folder.rename(aside)
                    flush(self.path)
                    return aside
        raise PaddockError(f"{self.path} holds a thousand broken copies of {folder.name}")

    def retire(self, keep: int, stays: Callable[[int], bool], newest: int) -> None:
        """Removes saved steps but the `keep` newest up to `newest`, which was just saved, and those that stay."""
        old = [step for step in self.steps() if step <= newest]
        with refusing(self.path):
            for step in old[: -max(1, keep)]:
                if not stays(step):
                    _discard(self.step(step))

    def forget_after(self, step: int) -> None:
        """Removes the steps after `step`, newest first: a run that goes back does not go where they went."""
        with refusing(self.path):
            for later in reversed([saved for saved in self.steps() if saved > step]):
                _discard(self.step(later))

    def free_bytes(self) -> int:
        with refusing(self.path):
            return shutil.disk_usage(self.path).free


def _discard(folder: Path) -> None:
    """Removes a sealed folder; it loses its name first, as one that is half removed would look damaged."""
    doomed = folder.with_name(f"{folder.name}.old{TEMPORARY}")
    if doomed.exists():
        _remove(doomed)
    folder.rename(doomed)
    flush(folder.parent)
    _remove(doomed)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """What the file system refuses, as ours."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise ResourceError(f"no space left to write {path}", fix="free some space, or write elsewhere") from error
        reason = error.strerror or error
        raise PaddockError(f"{path} cannot be read or written: {reason}") from error
