from __future__ import annotations

import math
from typing import Any

import pytest

from paddock.engine.sampling import BOUNDS, MAX_BIASES, Sampling
from paddock.errors import UsageError

WRONG: dict[str, list[Any]] = {
    "temperature": [-0.1, 1e-9, 101, math.nan, math.inf, True, "1", None, 1e400],
    "top_k": [-1, 1.5, True, 2**31 + 1, "40"],
    "top_p": [0, -0.5, 1.0001, math.nan, False],
    "min_p": [-0.1, 1.1, math.nan],
    "typical_p": [0, 1.5, math.inf],
    "repetition_penalty": [0, -1, 1000, math.nan],
    "presence_penalty": [-2.1, 2.1, math.nan],
    "frequency_penalty": [-3, 3, "0"],
    "seed": [-1, 2**64, 1.0, True],
    "logit_bias": [[], {"5": 1.0}, {-1: 1.0}, {True: 1.0}, {1: 101}, {1: math.nan}, {1: "x"}, 3],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_senseless_values_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        Sampling(**{name: value})


def test_every_field_has_a_bound_and_a_refusal() -> None:
    fields = set(Sampling.__dataclass_fields__)
    assert fields == set(BOUNDS) | {"logit_bias"} == set(WRONG)


def test_limits_themselves_are_allowed() -> None:
    Sampling(temperature=0, top_p=1, min_p=1, repetition_penalty=100, presence_penalty=-2, seed=2**64 - 1)
    Sampling(temperature=1e-4, top_k=2**31, typical_p=1e-9, logit_bias=dict.fromkeys(range(MAX_BIASES), -100))
    with pytest.raises(UsageError, match="1025"):
        Sampling(logit_bias=dict.fromkeys(range(MAX_BIASES + 1), 1.0))


def test_long_values_are_shortened_in_messages() -> None:
    with pytest.raises(UsageError) as refusal:
        Sampling(temperature="9" * 100_000)  # type: ignore[arg-type]
    assert len(str(refusal.value)) < 200
