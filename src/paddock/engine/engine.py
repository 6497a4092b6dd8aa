"""The engine: many requests, one model, one step at a time.

    submit ──> arrived ──> scheduler ──plan──> rows ──> runner ──logits──> answers ──> events
                               ^                                              │
                               └───────────── computed tokens, new tokens ────┘

Nothing runs in the background. Whoever waits for a token drives: one thread takes the step for all, the others wait
for it to end and take what it brought them; so threads that read their own answers are computed together. A server
may call `step` in a loop of its own instead. A request whose events nobody takes pauses once AHEAD of them lie ready.

A step that fails fails the requests it was for, and only those; a row that is not numbers fails its own. One that is
broken off (Ctrl-C) begins again from empty blocks: nobody else's answer changes.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from paddock.engine import scheduler
from paddock.engine.answer import Answer, Decoder
from paddock.engine.blocks import BLOCK, BlockManager, blocks_for
from paddock.engine.carrying import Adapter, Adapters
from paddock.engine.memory import check_fits, check_source_fits
from paddock.engine.request import Event, Request
from paddock.engine.runner import Rows, Runner, scales_with_length
from paddock.engine.scheduler import Scheduler, Slice
from paddock.engine.speculative import Speculator
from paddock.engine.stats import Stats
from paddock.errors import ContextLengthError, PaddockError, UsageError
from paddock.model.spec import Architecture, Learned, Prefix
from paddock.model.step import blank_positions

AHEAD = 16  # events that may lie ready before a request pauses


class Task:
    """One request in the engine. events: written, not yet taken. seconds: of the steps that read its prompt, and of
    those after its first token was known."""

    __slots__ = (
        "accepted", "adapter", "answer", "ended", "events", "failure", "proposed", "request", "seconds", "sequence",
        "speculator",
    )  # fmt: skip

    def __init__(
        self, sequence: scheduler.Sequence, answer: Answer, speculator: Speculator | None, adapter: Adapter | None
    ) -> None:
        self.sequence, self.answer, self.speculator = sequence, answer, speculator
        self.adapter = adapter  # held until the task has left
        self.request = answer.request
        self.events: deque[Event] = deque()
        self.seconds = [0.0, 0.0]
        self.proposed = self.accepted = 0
        self.ended = False
        self.failure: Exception | None = None

    @property
    def ready(self) -> bool:
        """Whether there is something to take: an event, or the end."""
        return bool(self.events) or self.ended


class Taken(NamedTuple):
    """What a step brought one task."""

    task: Task
    events: list[Event]
    reading: bool


class Engine:
    """Answers requests with one model, through `runner`.

    budget: tokens of a step. sequences: requests running at once; more wait. prefix_cache: keep the beginnings of
    prompts for later requests; share_written: and what was written, for a conversation that goes on, which needs a
    runner that computes a token to the same bits decoded and read. Results depend on none of these where the runner's
    do not depend on the batch.
    """

    def __init__(
        self,
        runner: Runner,
        architecture: Architecture,
        *,
        budget: int = 512,
        sequences: int = 64,
        prefix_cache: bool = True,
        share_written: bool = False,
    ) -> None:
        self.runner, self.architecture = runner, architecture
        self.shares = prefix_cache and architecture.can_share_prefix
        self._scaled = scales_with_length(architecture)
        cut = architecture.can_cut_prompt
        self.adapters = Adapters(runner)
        sources = runner.source_blocks
        self.scheduler = Scheduler(self._blocks(), budget, sequences, cut, runner.chunk, share_written, sources)
        self._tasks: dict[int, Task] = {}
        self._speculating: dict[int, Task] = {}
        self._arrived: deque[Task] = deque()
        self._dropped: deque[Task] = deque()
        self._resumed: deque[Task] = deque()
        self._brought: deque[Taken] = deque()  # what this step brought and nobody was given yet
        self._taking: Task | None = None  # whose state is being changed
        self._turn = threading.Condition()
        self._driver: int | None = None  # the thread that runs a step
        self._serial = 0
        self._computed = self._steps = self._proposed = self._accepted = 0

    def task(
        self,
        request: Request,
        decoder: Decoder | None = None,
        speculator: Speculator | None = None,
        adapter: Adapter | None = None,
    ) -> Task:
        """A request made ready, not yet begun: `submit` lets it in. `adapter`: one of `adapters`.

        Raises ResourceError or ContextLengthError for what can never fit, UsageError for what the model cannot read.
        """
        if adapter is not None and adapter not in self.adapters:
            raise UsageError("this adapter is in another engine", fix="put it on the model that is asked")
        read = request.start or request.prompt
        limit = len(read) + request.max_new_tokens
        check_fits(limit, self.runner.blocks, self.runner.block_bytes)
        source = 0 if self.architecture.encoder is None else len(request.prompt)
        check_source_fits(source, self.runner.source_blocks, self.runner.source_block_bytes)
        table = self.architecture.embedding.positions
        if isinstance(table, Learned) and limit > table.count:
            raise ContextLengthError(f"{limit} tokens, but this model has learned {table.count} positions")
        if isinstance(self.architecture.mask, Prefix):
            blank_positions(self.architecture.mask, torch.tensor([read]))  # refuses a prompt without its mask tokens
        salt = None
        if self.shares and request.salt is not None:
            salt = (request.salt, limit if self._scaled else 0, 0 if adapter is None else adapter.number)
        with self._turn:
            self._serial += 1
            sequence = scheduler.Sequence(self._serial, read, limit - 1, salt, blocks_for(source))
        return Task(sequence, Answer(request, decoder), speculator, adapter)

    def submit(self, task: Task) -> None:
        """Lets it in; it begins with the next step."""
        self._arrived.append(task)

    def drop(self, task: Task) -> None:
        """Ends a task with the next step, or the one that runs now. Takes no lock: a finaliser may call it anywhere."""
        self._dropped.append(task)

    def cancel(self, task: Task) -> None:
        """Ends a task. Its blocks are free at once, or when the step that runs now has ended."""
        self.drop(task)
        with self._turn:
            if self._driver is None:
                self._let_in_and_out()

    def step(self) -> bool:
        """One step for everybody; False if there was nothing to do. Waits for another thread's step to end first."""
        return self._drive(None)

    def wait(self, task: Task) -> None:
        """Returns once the task has an event or has ended; takes steps until then, or waits for who takes them."""
        while not task.ready:
            done = self._drive(task)
            assert done or task.ready, "a task that was let in has something to do"

    def take(self, task: Task) -> list[Event]:
        """The events that lie ready; a request that paused because nobody took them goes on. For whoever calls `step`
        in a loop, between two steps."""
        events = list(task.events)
        task.events.clear()
        if task.sequence.paused:
            self._resumed.append(task)
        return events

    def clear(self) -> None:
        """Forgets the beginnings of prompts, as after a change of the weights. Running requests keep what they have."""
        with self._turn:
            self._turn.wait_for(lambda: self._driver is None)
            self.scheduler.blocks.clear()

    @property
    def capacity(self) -> int:
        """Tokens that the cache can hold, of one request or of all together."""
        return self.scheduler.blocks.total * BLOCK

    @property
    def stats(self) -> Stats:
        with self._turn:
            if self._driver is None:
                self._let_in_and_out()
        plan, blocks = self.scheduler, self.scheduler.blocks
        return Stats(
            steps=self._steps,
            computed=self._computed,
            reused=plan.reused,
            preemptions=plan.preemptions,
            proposed=self._proposed,
            accepted=self._accepted,
            running=len(plan.running),
            waiting=len(plan.waiting) + len(plan.parked) + len(self._arrived),
            blocks=blocks.total,
            free=blocks.free,
            used=blocks.used,
            cached=blocks.cached,
            source_blocks=plan.source_blocks,
            source_used=plan.source_used,
            adapters=len(self.adapters),
            adapter_bytes=self.adapters.nbytes,
        )

    def _drive(self, task: Task | None) -> bool:
        """Takes a step, unless another thread's brings `task` what it waits for."""
        me = threading.get_ident()
        try:
            with self._turn:
                while self._driver not in (None, me) and not (task is not None and task.ready):
                    self._turn.wait()
                if task is not None and task.ready:
                    return True
                self._driver = me
            if task is not None and task.sequence.paused:
                self._resumed.append(task)
            return self._step()
        finally:
            if self._driver == me:
                with self._turn:
                    self._driver = None
                    self._turn.notify_all()

    def _step(self) -> bool:
        try:
            self._let_in_and_out()
            started = time.perf_counter()
            if self._speculating:
                self._propose()
            parts = self.scheduler.plan()
            self._forget()
            if not parts:
                return False
            batch = [self._rows(part) for part in parts]
            try:
                logits = self.runner.run(batch)
            except Exception as error:
                for part in parts:
                    self._fail(self._tasks[part.sequence.key], error)
            else:
                self._take(parts, batch, logits)
                self._publish(time.perf_counter() - started)
            self._let_in_and_out()
            return True
        except BaseException:
            self._begin_again()
            raise

    def _rows(self, part: Slice) -> Rows:
        sequence = part.sequence
        tokens, start = sequence.tokens, sequence.computed
        stop = start + part.size
        ids = tokens[start:stop]
        if part.proposed:
            ids += sequence.proposed[: part.proposed]
        logits = 1 + part.proposed if stop == len(tokens) else 0
        assert sequence.table is not None, "what is planned has blocks"
        task = self._tasks[sequence.key]
        source = () if self.architecture.encoder is None else task.request.prompt
        adapter = 0 if task.adapter is None else task.adapter.number
        table = sequence.table.blocks
        return Rows(sequence.key, ids, start, table, sequence.prompt, logits, sequence.limit + 1, source, adapter)

    @torch.inference_mode()
    def _take(self, parts: list[Slice], batch: list[Rows], logits: Tensor) -> None:
        """Every task's tokens from its logits."""
        place, all_rows = 0, logits.cpu().unbind(0)
        self._steps += 1
        for part, rows in zip(parts, batch, strict=True):
            self._computed += len(rows.ids)
            task = self._taking = self._tasks[rows.key]
            reading, events = not task.answer.written, list[Event]()
            try:
                if rows.logits:
                    events = self._written(task, part, all_rows[place : place + rows.logits])
                else:
                    self.scheduler.commit(part.sequence, part.size)
                self._brought.append(Taken(task, events, reading))
            except Exception as error:
                self._fail(task, error)
            place += rows.logits
        self._taking = None

    def _written(self, task: Task, part: Slice, logits: Sequence[Tensor]) -> list[Event]:
        """The tokens chosen after one slice. A guess holds where the choice is equal to it: then the next row is the
        one that plain decoding would have computed, and the sampler goes on with it."""
        sequence, proposed = part.sequence, part.sequence.proposed[: part.proposed]
        events: list[Event] = []
        for place, row in enumerate(logits):
            event = task.answer.take(row)
            events.append(event)
            if event.finish_reason is not None or place == len(proposed) or proposed[place] != event.token:
                break
        sequence.tokens += [event.token for event in events]
        self.scheduler.commit(sequence, part.size + len(events) - 1)
        if proposed:
            right = sum(event.token == guess for event, guess in zip(events, proposed, strict=False))
            task.proposed += len(proposed)
            task.accepted += right
            self._proposed += len(proposed)
            self._accepted += right
        sequence.proposed = ()
        return events

    def _publish(self, seconds: float) -> None:
        """Hands the events over. A step's seconds are those of everybody in it."""
        while self._brought:
            task, events, reading = self._brought[0]
            self._taking = task
            self._brought.popleft()
            task.seconds[0 if reading else 1] += seconds
            if events and events[-1].finish_reason is not None:
                self._leave(task)
                task.events.extend(events)
                task.ended = True
            else:
                task.events.extend(events)
                task.sequence.paused = len(task.events) >= AHEAD
        self._taking = None

    def _propose(self) -> None:
        for task in tuple(self._speculating.values()):
            sequence, speculator = task.sequence, task.speculator
            most = sequence.limit - len(sequence.tokens)
            idle = sequence.wanted != 1 or sequence.paused or sequence.table is None or not task.answer.written
            if idle or most < 1 or speculator is None:
                continue
            try:
                sequence.proposed = speculator.propose(sequence.key, sequence.tokens, most)
            except Exception as error:
                self._fail(task, error)

    def _let_in_and_out(self) -> None:
        """New tasks, those asked for again, and those that were dropped meanwhile."""
        while self._arrived:
            task = self._arrived.popleft()
            self._tasks[task.sequence.key] = task
            if task.speculator is not None:
                self._speculating[task.sequence.key] = task
            self.scheduler.submit(task.sequence, task.request.priority)
        while self._resumed:
            self.scheduler.resume(self._resumed.popleft().sequence)
        while self._dropped:
            task = self._dropped.popleft()
            if not task.ended:
                self._leave(task)
                task.ended = True
        self._forget()
        self.adapters.sweep()

    def _leave(self, task: Task, keep: bool = True) -> None:
        if self._tasks.pop(task.sequence.key, None) is None:
            return
        self.scheduler.remove(task.sequence, keep)
        task.adapter = None
        if self._speculating.pop(task.sequence.key, None) is not None and task.speculator is not None:
            task.speculator.forget(task.sequence.key)

    def _fail(self, task: Task, error: Exception) -> None:
        """Nothing that a failed request computed is kept for others."""
        if task.ended:
            return
        self._leave(task, keep=False)
        try:
            task.failure = copy.copy(error)  # each caller's own: raising one collects its traceback in it
        except Exception:
            task.failure = error
        task.ended = True

    def _forget(self) -> None:
        while self.scheduler.evicted:
            self.runner.forget(self.scheduler.evicted.pop())

    def _begin_again(self) -> None:
        """After a step that broke off anywhere: nothing is known of the blocks, all is known of the tokens."""
        self.scheduler.reset(self._blocks(), [task.sequence for task in self._tasks.values()])
        if self._taking is not None:
            self._fail(self._taking, PaddockError("the generation was broken off before its end", fix="start it again"))
        self._publish(0.0)

    def _blocks(self) -> BlockManager:
        return BlockManager(self.runner.blocks, self.runner.chunk or BLOCK)
