"""What the loop does about steps that went wrong: not-a-number, infinity, and spikes.

A step is judged after its gradient is known and before the weights move. All that a judgement rests on is in `Watch`,
whose state is saved with the run: a resumed run judges as the unbroken one did.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paddock.errors import DivergedError
from paddock.training.recipe import Training

HISTORY = 128  # steps that a loss or a norm is compared with
SIGMAS, STEEPER = 6.0, 10.0  # a spike: so far above the mean loss, so many times the median norm
LEAST_RISE = 0.01  # of the mean: where losses hardly differ any more, six sigma are nothing
MOST_IN_A_ROW = 3  # skipped steps
BACK = 100  # steps that a rollback goes back at least
MOST_ROLLBACKS = 10


@dataclass(frozen=True)
class Event:
    """Something about a step that a reader of the log wants to know. kind: `nonfinite` or `spike`."""

    kind: str
    what: str


@dataclass(frozen=True)
class Step:
    """A step that is to be judged. number: from 0, as steps are counted. samples: which ones went bad, or were read."""

    number: int
    loss: float
    norm: float
    samples: str


@dataclass(frozen=True)
class Verdict:
    """Whether the weights may move, and what there is to say."""

    update: bool
    events: tuple[Event, ...] = ()


class Rollback(DivergedError):
    """The run is to go back to a saved step, `newest` or before it, and then to `Watch.pass_over` batch `batch`.

    Whoever saved the run does it; where nobody can, this ends the run with its message.
    """

    def __init__(self, step: int, batch: int, what: str) -> None:
        super().__init__(
            f"{what}; on_spike is rollback, and there is no saved step {BACK} steps before it to go back to",
            fix="save more often (training.checkpoints), or choose on_spike=skip",
        )
        self.step, self.batch, self.newest = step, batch, max(0, step - BACK)


class Watch:
    """What is remembered of past steps, and which batches are passed over."""

    def __init__(self, recipe: Training) -> None:
        self.on_nonfinite, self.on_spike = recipe.on_nonfinite, recipe.on_spike
        self.losses: deque[float] = deque(maxlen=HISTORY)
        self.norms: deque[float] = deque(maxlen=HISTORY)
        self.in_a_row = 0
        self.jumps: list[tuple[int, int]] = []  # from which step on, and how many batches are left out there

    def batch(self, step: int) -> int:
        """The number of the batch that a step reads: its own, and more once batches were passed over."""
        return step + sum(count for start, count in self.jumps if start <= step)

    def pass_over(self, step: int, batch: int) -> None:
        """After a rollback to `step`: what it would read from there up to `batch`, the bad one, is left out."""
        if len(self.jumps) >= MOST_ROLLBACKS:
            raise DivergedError(
                f"the run was rolled back {MOST_ROLLBACKS} times, and the loss spiked again before step {step}",
                fix="lower the learning rate, or look at the data",
            )
        self.jumps.append((step, batch + 1 - self.batch(step)))

    def judge(self, step: Step) -> Verdict:
        """Raises DivergedError (or Rollback) where the policy is not to go on."""
        wrong = _nonfinite(step)
        if wrong:
            event = Event("nonfinite", wrong)
            if self.on_nonfinite == "stop":
                raise DivergedError(
                    f"{wrong}; the weights are as they were before it",
                    fix="lower the learning rate or look at those samples; on_nonfinite=skip passes over them",
                )
            return self._skip(event)
        spike = self._spike(step)
        if spike:
            event = Event("spike", spike)
            if self.on_spike == "rollback":
                raise Rollback(step.number, self.batch(step.number), spike)
            if self.on_spike == "skip":
                return self._skip(event)
        self.in_a_row = 0
        self.losses.append(step.loss)
        self.norms.append(step.norm)
        return Verdict(True, (event,) if spike else ())

    def _skip(self, event: Event) -> Verdict:
        self.in_a_row += 1
        if self.in_a_row > MOST_IN_A_ROW:
            raise DivergedError(
                f"{event.what}; the {MOST_IN_A_ROW} steps before it were skipped already, so the run has diverged",
                fix="go on from an earlier saved step with a lower learning rate",
            )
        return Verdict(False, (event,))

    def _spike(self, step: Step) -> str | None:
        if len(self.losses) < HISTORY:
            return None
        mean = statistics.fmean(self.losses)
        deviation = math.sqrt(statistics.fmean((loss - mean) ** 2 for loss in self.losses))
        most = mean + max(SIGMAS * deviation, LEAST_RISE * abs(mean))
        if step.loss > most:
            return f"loss {step.loss:.6g} at {_where(step)}, above {most:.6g} (mean of {HISTORY} steps and 6 sigma)"
        median = statistics.median(self.norms)
        if step.norm > STEEPER * median:
            return f"gradient norm {step.norm:.6g} at {_where(step)}, above {STEEPER:.0f} times the median {median:.6g}"
        return None

    def state(self) -> dict[str, Any]:
        """All of it in JSON's types; floats survive exactly."""
        return {
            "losses": list(self.losses),
            "norms": list(self.norms),
            "in_a_row": self.in_a_row,
            "jumps": [list(jump) for jump in self.jumps],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.losses = deque((float(loss) for loss in state["losses"]), maxlen=HISTORY)
        self.norms = deque((float(norm) for norm in state["norms"]), maxlen=HISTORY)
        self.in_a_row = int(state["in_a_row"])
        self.jumps = [(int(start), int(count)) for start, count in state["jumps"]]


def spoiled(step: int) -> DivergedError:
    """The update itself made a weight not finite: nothing can be skipped any more."""
    return DivergedError(
        f"a weight is no finite number after the update of step {step}",
        fix="the saved steps before it are good: resume from there with a lower learning rate",
    )


def ranges(numbers: list[int]) -> str:
    """Numbers in order as people write them: "3, 7-9"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _nonfinite(step: Step) -> str | None:
    if not math.isfinite(step.loss):
        return f"the loss is {step.loss} at {_where(step)}"
    if not math.isfinite(step.norm):
        return f"the gradient's norm is {step.norm} at {_where(step)}"
    return None


def _where(step: Step) -> str:
    return f"step {step.number + 1} (samples {step.samples})"
