"""The learning rate over the steps."""

from __future__ import annotations

import math

from paddock.training.recipe import Schedule


def share(schedule: Schedule, step: int, steps: int) -> float:
    """What the optimizer's learning rate is multiplied by at `step` (from 0) of `steps`.

    The last of `warmup` steps and the one after it have the whole rate. The floor is met at `steps`, one after the
    last, so that the last step of a floor of 0 still teaches something.
    """
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    down = schedule.decay if schedule.shape == "wsd" else steps - schedule.warmup
    done = min(1.0, max(0.0, (step - (steps - down)) / max(1, down)))
    match schedule.shape:
        case "constant":
            return 1.0
        case "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
    return 1 - (1 - schedule.floor) * done
