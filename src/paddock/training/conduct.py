"""A run from its first step, or the newest saved one, to its last: saved, logged, stopped, rolled back.

What the trainer does to the weights depends on the recipe and the step alone; everything here is about being able to go
on. All processes of a run come through here together, and only the main one writes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from paddock.checkpoint.safetensors import Planned
from paddock.checkpoint.writing import write_text
from paddock.errors import CheckpointError, DivergedError, Interrupted, PaddockError, ResourceError, UsageError
from paddock.training import save_schedule, saving, signals
from paddock.training.journal import Journal
from paddock.training.loop import StepReport, Trainer
from paddock.training.main_process import Result, lending, together, told
from paddock.training.parallel.alone import Fetch
from paddock.training.parallel.state import local
from paddock.training.policies import Rollback
from paddock.training.run import RunFolder, Tell, folder_name, refusing
from paddock.training.saving import Publish, Read, State
from paddock.training.signals import Stop

Hook = Callable[[StepReport], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Origin:
    """What a run is made of.

    recipe: the resolved recipe's text. data: a SHA-256, or whatever else tells data apart. deciding: the part of the
    recipe that decides the weights, which a resume compares; all of it if None.
    """

    recipe: str
    data: str
    deciding: str | None = None

    @property
    def digest(self) -> str:
        return hashlib.sha256((self.recipe if self.deciding is None else self.deciding).encode()).hexdigest()


@dataclass(frozen=True)
class Wishes:
    """How a run is to be conducted; none of it changes a weight.

    resume: `auto` goes on from the newest step that holds, `never` refuses a folder with a run in it. strict: a damaged
    newest step is refused rather than passed over. changed: go on though recipe or data are not what they were.
    on_save_error: what a save that fails does to the run. command: what goes on with it, for messages.
    """

    resume: Literal["auto", "never"] = "auto"
    strict: bool = False
    changed: bool = False
    on_save_error: Literal["stop", "continue"] = "stop"
    command: str = "the same command again"


def conduct(
    trainer: Trainer,
    run: RunFolder,
    publish: Publish,
    origin: Origin,
    wishes: Wishes = Wishes(),
    *,
    read: Read = saving.read_weights,
    hooks: Sequence[Hook] = (),
    draw: Callable[[RunFolder], None] = lambda run: None,
    tell: Tell = lambda text: None,
) -> None:
    """Trains to the recipe's last step and leaves the model in `run.final`.

    publish: writes a model, or what was trained of it, as a folder; `read` gives that back. hooks: called after every
    step on every process (validation, samples, a live line); what they give goes into the step's record. draw: called
    by the main process after saves and at the end. tell: what a user should hear.

    Raises Interrupted after SIGINT or SIGTERM, once the run is saved; UsageError where the folder holds another run, is
    in use, or recipe or data changed; CheckpointError where no saved step holds; ResourceError where there is no room;
    DivergedError as the trainer's policies say.
    """
    main = trainer.parallel.main
    with contextlib.ExitStack() as stack:
        together(trainer.parallel, lambda: stack.enter_context(run.hold()))
        journal = together(trainer.parallel, lambda: stack.enter_context(run.journal()))
        stop = stack.enter_context(signals.heeding())
        say = tell if main else lambda text: None
        _Conductor(trainer, run, publish, read, origin, wishes, journal, stop, hooks, draw, say).go()


@dataclass
class _Conductor:
    trainer: Trainer
    run: RunFolder
    publish: Publish
    read: Read
    origin: Origin
    wishes: Wishes
    journal: Journal | None  # of the main process
    stop: Stop
    hooks: Sequence[Hook]
    draw: Callable[[RunFolder], None]
    tell: Tell

    def __post_init__(self) -> None:
        self.recipe, self.parallel = self.trainer.recipe, self.trainer.parallel
        self.schedule = save_schedule.parse(self.recipe.checkpoints)
        self.saved: int | None = None

    def go(self) -> None:
        self._begin()
        done = self.trainer.step
        self._rehearse()
        if self.trainer.step == 0 and self.saved is None and self.schedule.due(0):
            self._save()
        try:
            self._train()
        except DivergedError:
            self._keep_what_is_good()
            raise
        self._finish(trained=self.trainer.step > done)

    def _train(self) -> None:
        while True:
            try:
                self.trainer.run(self._after)
                return
            except Rollback as wanted:
                self._roll_back(wanted)

    # Where to begin

    def _begin(self) -> None:
        step = together(self.parallel, self._newest)
        step = told(self.parallel, -1 if step is None else step)
        if step < 0:
            self._on_main(self._note_origin)
            self._on_main(lambda: self._journal().cut(-1))
            return
        self._on_main(lambda: self._check_same(step))
        self._go_to(step)
        self._on_main(lambda: self._journal().cut(step))
        self.tell(f"going on from step {step} of {self.recipe.steps}")

    def _note_origin(self) -> None:
        noted = {"recipe": self.origin.digest, "data": self.origin.data, "ranks": self.parallel.data_ranks}
        self.run.note_recipe(self.origin.recipe)
        write_text(self.run.origin, json.dumps(noted | {"versions": saving.versions()}, indent=1) + "\n")

    def _newest(self) -> int | None:
        """The step to go on from; what is damaged after it is put out of the way."""
        if self.wishes.resume == "never" and (self.run.steps() or self.run.final.exists()):
            raise UsageError(
                f"{self.run.path} holds a run already", fix="write elsewhere, or let it go on from where it is"
            )
        step = self.run.newest(strict=self.wishes.strict, tell=self.tell)
        for later in self.run.steps():
            if step is not None and later > step:
                self.tell(f"the damaged step {later} is kept as {self.run.set_aside(later).name}")
        return step

    def _check_same(self, step: int) -> None:
        state = saving.read_state(self.run.step(step))
        if step > self.recipe.steps:
            raise UsageError(f"{self.run.path} is at step {step}", expected=f"at most the recipe's {self.recipe.steps}")
        differing = [what for what, same in self._compared(state).items() if not same]
        if differing and not self.wishes.changed:
            raise UsageError(
                f"the {' and the '.join(differing)} of {self.run.path} changed since step {step}"
                + (self._difference() if "recipe" in differing else ""),
                fix="put back what it was, write elsewhere, or say that the change is meant (--changed)",
            )
        if differing:
            self.tell(f"the {' and the '.join(differing)} changed; steps from {step + 1} on are made of the new")
            self._keep_recipe(step)
        if state.ranks != self.parallel.data_ranks:
            self.tell(f"{state.ranks} processes shared the rows, now {self.parallel.data_ranks}: sums round otherwise")
        now = saving.versions()
        for name in sorted(now.keys() | state.versions.keys()):
            if now.get(name) != state.versions.get(name):
                self.tell(f"{name} was {state.versions.get(name)}, now {now.get(name)}: losses may differ in last bits")

    def _compared(self, state: State) -> dict[str, bool]:
        return {"recipe": state.recipe == self.origin.digest, "data": state.data == self.origin.data}

    def _difference(self) -> str:
        """The first lines in which the recipe noted with the run and the one asked for now differ."""
        try:
            before = self.run.recipe.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""
        lines = difflib.unified_diff(before.splitlines(), self.origin.recipe.splitlines(), n=0, lineterm="")
        changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        return " (" + "; ".join(f"{line[0]} {line[1:].strip()}" for line in changed[:4]) + ")" if changed else ""

    def _keep_recipe(self, step: int) -> None:
        """The new recipe in its place, and the old one beside it."""
        if self.run.recipe.exists():
            self.run.recipe.replace(self.run.recipe.with_name(f"recipe.until-{folder_name(step)}.yaml"))
        self.run.note_recipe(self.origin.recipe)

    def _go_to(self, step: int) -> None:
        model, optimizer, learns = self.trainer.model, self.trainer.optimizer, self.trainer.learns
        state = saving.restore(self.run.step(step), model, optimizer, self.parallel, self.read, learns)
        if state.step != step:
            raise CheckpointError(f"{self.run.step(step)} holds step {state.step}")
        self.trainer.restore(state.trainer)
        self.trainer.optimizer.zero_grad(set_to_none=True)  # a step that was judged and left has its gradients still
        self.saved = step

    # Room

    def _rehearse(self) -> None:
        """A save that is thrown away, before the first step: what it would fail of at the end, it fails of now."""
        if self.trainer.step >= self.recipe.steps:
            return
        moments = bool(self.trainer.optimizer.state)
        learns = self.trainer.learns
        weights = sum(p.numel() * 4 for name, p in self.trainer.model.named_parameters() if name in learns)
        size = self._from_parts(self.run.rehearse)
        self._on_main(lambda: self._check_room((size or 0) + (0 if moments else 2 * weights), weights))

    def _check_room(self, size: int, weights: int) -> None:
        """size: bytes of a step, with two moments for each weight where the optimizer has none yet."""
        there, last = self.run.steps(), self.recipe.steps
        if self.schedule.stays:
            more = sum(step not in there for step in self.schedule.steps(last)) + 2
        else:
            more = max(1, self.recipe.keep + 1 - len(there))
        needed, free = more * size + weights, self.run.free_bytes()
        if needed > free:
            raise ResourceError(
                f"{self.run.path} has {free / 1e9:.3g} GB free",
                expected=f"{needed / 1e9:.3g} GB for {more} saved steps of {size / 1e9:.3g} GB and the final model",
                fix="free some space, keep fewer steps (training.keep, training.checkpoints), or write elsewhere",
            )

    # Each step

    def _after(self, report: StepReport) -> None:
        record = {name: value for name, value in dataclasses.asdict(report).items() if value not in ({}, ())}
        for hook in self.hooks:
            record.update(hook(report) or {})
        failure = self._logged(record)
        step, asked = self.trainer.step, self.parallel.agreed(self.stop.asked is not None or failure is not None)
        if asked and self.parallel.agreed(failure is not None):
            raise failure or PaddockError("the main process could not go on; its message says why")
        last = step == self.recipe.steps
        if asked or self.schedule.due(step) or (last and self.schedule != save_schedule.SaveSchedule()):
            self._save(must=asked)
        if asked and not last:
            raise Interrupted(
                f"stopped by {self.stop.asked or 'another process'}; step {step} is saved in {self.run.path}",
                fix=f"to go on: {self.wishes.command}",
            )

    def _logged(self, record: Mapping[str, Any]) -> PaddockError | None:
        """Adds to the log of the main process; gives what ends the run, where the disk refuses and the policy is so."""
        if self.parallel.main:
            try:
                with self._failing("the log"), refusing(self.run.metrics):
                    self._journal().add(record)
            except PaddockError as failure:
                return failure
        return None

    def _keep_what_is_good(self) -> None:
        """Saves a run that cannot go on, unless a weight of it is no finite number."""
        held = self.parallel.held(self.trainer.model)
        bad = any(not bool(local(held[name]).isfinite().all()) for name in self.trainer.learns)
        if not self.parallel.agreed(bad):
            with contextlib.suppress(PaddockError):  # why it cannot go on is what the user must hear
                self._save()

    def _save(self, must: bool = False) -> None:
        step = self.trainer.step
        if self.saved == step:
            return
        with self._failing(f"step {step}", must):
            self._on_main(lambda: self._journal().settle())
            self._from_parts(lambda fill: self.run.save(step, fill))
            self.saved = step
            self._on_main(lambda: self.run.retire(self.recipe.keep, self._stays, step))
            self._on_main(lambda: self.draw(self.run))

    def _stays(self, step: int) -> bool:
        return self.schedule.stays and self.schedule.due(step)

    @contextlib.contextmanager
    def _failing(self, what: str, must: bool = False) -> Iterator[None]:
        """What becomes of a save that fails: by the policy, the end of the run or a remark."""
        try:
            yield
        except PaddockError as error:
            if self.wishes.on_save_error == "stop" or must:
                known = "none is saved" if self.saved is None else f"step {self.saved} is the newest saved one"
                error.fix = f"{error.fix or 'mend that'}; then go on ({known}): {self.wishes.command}"
                raise
            self.tell(f"{what} could not be saved, training goes on: {error.what}")

    def _from_parts(self, work: Callable[[Callable[[Path], None]], Result]) -> Result | None:
        """What the main process does with that which fills a step's folder, to which every process gives its parts."""
        parts = self.parallel.held(self.trainer.model, self.trainer.optimizer)
        return lending(self.parallel, parts, lambda fetch: work(lambda folder: self._fill(folder, fetch)))

    def _fill(self, folder: Path, fetch: Fetch) -> None:
        trainer = self.trainer
        model = self.parallel.whole(trainer.model, fetch, trainer.written)
        moments = {
            name: {
                key: Planned(tuple(value.shape), value.dtype, partial(fetch, f"{name}/{key}"))
                if isinstance(value, Tensor)
                else value
                for key, value in items.items()
            }
            for name, items in self.parallel.moments(trainer.model, trainer.optimizer).items()
        }
        state = State(
            step=trainer.step,
            trainer=trainer.state(),
            recipe=self.origin.digest,
            data=self.origin.data,
            seed=self.recipe.seed,
            ranks=self.parallel.data_ranks,
        )
        saving.write(folder, self.publish, model, moments, state)

    def _roll_back(self, wanted: Rollback) -> None:
        """To the newest saved step that is far enough back, and on from there past the batch that went wrong."""
        before = self._on_main(lambda: self._before(wanted.newest))
        step = told(self.parallel, -1 if before is None else before)
        if step < 0:
            raise wanted
        jumps = [jump for jump in self.trainer.watch.jumps if jump[0] <= step]
        self._on_main(lambda: self.run.forget_after(step))
        self._go_to(step)
        self.trainer.watch.jumps = jumps  # a step saved before an earlier rollback knows nothing of it
        self.trainer.pass_over(wanted.batch)
        self._on_main(lambda: self._journal().cut(step))
        event = {"step": step, "event": "rollback", "from": wanted.step, "batch": wanted.batch, "why": wanted.what}
        self._on_main(lambda: self._journal().add(event))
        self.tell(f"{wanted.what}: back to step {step}, and past batch {wanted.batch}")

    def _before(self, newest: int) -> int | None:
        for step in reversed([saved for saved in self.run.steps() if saved <= newest]):
            with contextlib.suppress(CheckpointError):
                self.run.check(step)
                return step
        return None

    # The end

    def _finish(self, trained: bool) -> None:
        trainer = self.trainer

        def put(fetch: Fetch) -> None:
            if trained or not self.run.finished():
                model = self.parallel.whole(trainer.model, fetch, trainer.written)
                self.run.finish(lambda folder: self.publish(folder, model))
            self._journal().settle()
            self.draw(self.run)

        with self._failing("the final model", must=True):
            lending(self.parallel, self.parallel.held(trainer.model), put)

    def _journal(self) -> Journal:
        assert self.journal is not None, "only the main process writes"
        return self.journal

    def _on_main(self, work: Callable[[], Result]) -> Result | None:
        return together(self.parallel, work)
