from __future__ import annotations

import math
from typing import Any

import pytest

from paddock.engine.defaults import heeded, ids_of, published_defaults, resolve
from paddock.errors import CheckpointError, UnsupportedError, UsageError


def test_the_request_wins_then_the_model_then_neutral() -> None:
    found = resolve({"temperature": 0.3}, {"temperature": 0.6, "top_p": 0.9, "do_sample": True})
    assert (found.sampling.temperature, found.sampling.top_p, found.sampling.top_k) == (0.3, 0.9, 0)
    values = found.values()
    assert values["temperature"] == (0.3, "request")
    assert values["top_p"] == (0.9, "model")
    assert values["min_p"] == (0.0, "default")


def test_nothing_said_is_the_models_own_distribution() -> None:
    assert resolve({}, {}).sampling.temperature == 1.0


def test_do_sample_false_is_greedy_unless_the_request_samples() -> None:
    model = {"do_sample": False, "temperature": 0.6, "top_p": 0.9}
    assert resolve({}, model).sampling.greedy
    assert resolve({"seed": 3, "repetition_penalty": 1.1}, model).sampling.greedy
    assert resolve({"temperature": 0.5}, model).sampling.temperature == 0.5
    assert resolve({"top_k": 5}, model).sampling.temperature == 0.6


def test_none_counts_as_absent() -> None:
    found = resolve({"temperature": None}, {"temperature": 0.6, "top_k": None})
    assert found.sampling.temperature == 0.6
    assert found.sampling.top_k == 0


@pytest.mark.parametrize(
    ("name", "hint"), [("temprature", "temperature"), ("do_sample", "temperature=0"), ("max_tokens", "max_new_tokens")]
)
def test_unknown_settings_are_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=name) as refusal:
        resolve({name: 1}, {})
    assert hint in str(refusal.value.fix)


WRONG: list[tuple[str, Any]] = [
    ("temperature", "hot"),
    ("top_k", 40.5),
    ("top_p", math.nan),
    ("num_beams", 0),
    ("num_beams", True),
    ("early_stopping", "sometimes"),
    ("bad_words_ids", [[]]),
    ("bad_words_ids", [1, 2]),
    ("suppress_tokens", [-1]),
    ("no_repeat_ngram_size", -2),
    ("min_new_tokens", 1.0),
]
WRONG_STOPS: list[Any] = [5, [5], [""], ["x" * 1025], [str(i) for i in range(17)], {"a": 1}]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_values_blame_whoever_gave_them(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        resolve({name: value}, {})
    with pytest.raises(CheckpointError, match=rf"generation_config.json: {name}"):
        resolve({}, {name: value})


@pytest.mark.parametrize("value", WRONG_STOPS, ids=lambda value: str(value)[:20])
def test_wrong_stop_strings_blame_the_file(value: Any) -> None:
    with pytest.raises(CheckpointError, match=r"generation_config.json: stop_strings"):
        resolve({}, {"stop_strings": value})
    resolve({}, {"stop_strings": "END"})


@pytest.mark.parametrize(
    "published",
    [
        {"guidance_scale": 1.5},
        {"num_return_sequences": 3},
        {"penalty_alpha": 0.6},
        {"chat_format": "raw"},
        {"top_h": 0.4},
    ],
    ids=str,
)
def test_what_paddock_does_not_do_stops_generation_unless_ignored(published: dict[str, Any]) -> None:
    name = next(iter(published))
    with pytest.raises(UnsupportedError, match=name) as refusal:
        resolve({}, published).check()
    assert "ignore_config" in str(refusal.value.fix)
    resolve({}, heeded({key: value for key, value in published.items() if key != name})).check()


def test_keys_that_change_nothing_pass() -> None:
    quiet = {
        "use_cache": True,
        "transformers_version": "5.0",
        "guidance_scale": 1.0,
        "num_beam_groups": 1,
        "top_h": None,
    }
    resolve({}, quiet).check()


def test_constraints_come_from_the_model_too() -> None:
    found = resolve(
        {"min_new_tokens": 2}, {"bad_words_ids": [[5], [1, 2]], "suppress_tokens": [9], "forced_eos_token_id": 0}
    )
    assert found.constraints.bad_words == ((5,), (1, 2))
    assert found.constraints.banned == (9,)
    assert (found.constraints.min_new_tokens, found.constraints.forced_eos_token_id) == (2, 0)
    assert found.values()["suppress_tokens"] == ((9,), "model")


def test_beam_search_does_not_sample() -> None:
    found = resolve({"num_beams": 4, "early_stopping": "never"}, {"temperature": 0.6, "do_sample": True})
    assert found.search.num_beams == 4 and found.search.early_stopping == "never"
    assert found.sampling.greedy
    resolve({"num_beams": 4, "temperature": 0}, {})
    with pytest.raises(UsageError, match="top_p"):
        resolve({"num_beams": 4, "top_p": 0.9}, {})
    with pytest.raises(UnsupportedError, match="sampling"):
        resolve({}, {"num_beams": 4, "do_sample": True})


def test_older_models_publish_defaults_in_config_json() -> None:
    config = {"num_beams": 6, "hidden_size": 8, "forced_eos_token_id": 0, "use_cache": True}
    assert published_defaults({}, config) == {"num_beams": 6, "forced_eos_token_id": 0}
    assert published_defaults({"top_k": 5}, config) == {"top_k": 5}


def test_end_ids_in_every_spelling() -> None:
    assert ids_of(None, "eos_token_id") == ()
    assert ids_of(2, "eos_token_id") == (2,)
    assert ids_of([2, 7], "eos_token_id") == (2, 7)
    for wrong in ("2", [2, -1], True, {"a": 1}, [[2]]):
        with pytest.raises(CheckpointError, match="eos_token_id"):
            ids_of(wrong, "eos_token_id")
