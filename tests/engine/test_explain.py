from __future__ import annotations

from typing import Any

import pytest

from paddock.engine.explain import explain

SETTINGS = {"temperature": 0.9, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.2, "seed": 4}


def test_rows_tell_every_stage_of_every_step(bundled: Any) -> None:
    completion = bundled.generate("Once upon a time", 8, trace=True, **SETTINGS)
    rows = explain(completion.traces, bundled.tokenizer, top=4)
    assert [row.step for row in rows] == list(range(1, 9))
    assert tuple(row.chosen.token for row in rows) == completion.ids
    for row in rows:
        assert [stage.name for stage in row.stages] == ["raw", "penalties", "temperature", "top_k", "top_p"]
        assert row.stages[0].survivors == 512 and row.stages[0].removed == 0
        assert row.stages[3].survivors == 20 and row.stages[3].removed == 492
        assert all(len(stage.top) <= 4 for stage in row.stages)
        assert row.draw is not None and row.interval[0] <= row.draw <= row.interval[1] + 1e-9
        assert row.chosen.piece == bundled.tokenizer.piece(row.chosen.token)
        assert sum(option.probability for option in row.stages[-1].top) <= 1 + 1e-9


def test_raw_probabilities_are_the_models(bundled: Any) -> None:
    completion = bundled.generate("Once upon a time", 3, trace=True, **SETTINGS)
    ids = [*bundled.tokenizer.encode("Once upon a time"), *completion.ids]
    whole = bundled.logits(ids).softmax(1)
    for place, row in enumerate(explain(completion.traces, bundled.tokenizer)):
        distribution = whole[len(ids) - len(completion.ids) + place - 1]
        assert row.raw_probability == pytest.approx(float(distribution[row.chosen.token]), abs=1e-5)
        values, tokens = distribution.topk(5)
        assert [option.token for option in row.stages[0].top] == tokens.tolist()
        assert [option.probability for option in row.stages[0].top] == pytest.approx(values.tolist(), abs=1e-5)


def test_a_greedy_step_draws_nothing(bundled: Any) -> None:
    (row,) = explain(bundled.generate("Once", 1, temperature=0, trace=True).traces, top=1)
    assert row.draw is None and row.interval == (0.0, 1.0)
    assert row.stages[0].top[0].token == row.chosen.token and row.chosen.piece == ""


def test_no_trace_unless_asked(bundled: Any) -> None:
    assert bundled.generate("Once", 2, temperature=0).traces == ()
