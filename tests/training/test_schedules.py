"""Learning rates at the ends and between, against closed forms; what cannot be a schedule."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from paddock.training.recipe import Schedule, Training
from paddock.training.schedules import share


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        (Schedule(shape="cosine", warmup=10), 0, 0.1),
        (Schedule(shape="cosine", warmup=10), 4, 0.5),
        (Schedule(shape="cosine", warmup=10), 9, 1.0),
        (Schedule(shape="cosine", warmup=10), 10, 1.0),
        (Schedule(shape="cosine", warmup=10), 55, 0.55),  # half way down to a tenth
        (Schedule(shape="cosine", warmup=10), 100, 0.1),
        (Schedule(shape="cosine", floor=0), 25, (1 + math.cos(math.pi / 4)) / 2),
        (Schedule(shape="linear", floor=0), 0, 1.0),
        (Schedule(shape="linear", floor=0), 99, 0.01),  # the last step still teaches
        (Schedule(shape="linear", floor=0.5), 50, 0.75),
        (Schedule(shape="wsd", warmup=10, decay=20, floor=0), 10, 1.0),
        (Schedule(shape="wsd", warmup=10, decay=20, floor=0), 80, 1.0),
        (Schedule(shape="wsd", warmup=10, decay=20, floor=0), 90, 0.5),
        (Schedule(shape="wsd", warmup=10, decay=20, floor=0), 99, 0.05),
        (Schedule(shape="constant", warmup=4), 1, 0.5),
        (Schedule(shape="constant", warmup=4), 99, 1.0),
    ],
    ids=str,
)
def test_golden_values(schedule: Schedule, step: int, expected: float) -> None:
    assert share(schedule, step, 100) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", ["cosine", "linear", "wsd", "constant"])
def test_up_then_never_up_again(shape: str) -> None:
    schedule = Schedule(shape=shape, warmup=7, decay=9 if shape == "wsd" else 0)  # type: ignore[arg-type]
    values = [share(schedule, step, 50) for step in range(51)]
    assert values[:7] == sorted(values[:7]) and max(values) == 1.0
    assert values[7:] == sorted(values[7:], reverse=True)
    assert values[-1] == pytest.approx(schedule.floor)


@pytest.mark.parametrize(
    "given",
    [
        {"shape": "wsd"},
        {"shape": "cosine", "decay": 5},
        {"shape": "constant", "floor": 0.1},
        {"shape": "triangle"},
        {"warmup": -1},
        {"floor": 1.5},
        {"floor": float("nan")},
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Schedule(**given)


def test_a_schedule_fits_its_run() -> None:
    with pytest.raises(ValidationError, match="take 30 steps, and steps is 20"):
        Training(steps=20, schedule=Schedule(warmup=30))
    with pytest.raises(ValidationError, match="take 21 steps"):
        Training(steps=20, schedule=Schedule(shape="wsd", warmup=11, decay=10))
    recipe = Training(steps=20, schedule=Schedule(shape="constant", warmup=20))
    assert Training(**recipe.model_dump()) == recipe
