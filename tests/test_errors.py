"""The tree of refusals: what a message says, and how much of a hostile file it may repeat."""

from __future__ import annotations

import pytest

from paddock import errors


def every(kind: type[errors.PaddockError]) -> list[type[errors.PaddockError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in every(child))]


def test_what_expected_and_fix_are_all_said() -> None:
    error = errors.CheckpointError("found this", expected="that", fix="do so")
    assert str(error) == "found this; expected that\n  fix: do so"
    assert str(errors.UsageError("no")) == "no"


@pytest.mark.parametrize("kind", every(errors.PaddockError))
def test_exit_codes_follow_the_tree(kind: type[errors.PaddockError]) -> None:
    families = {errors.UsageError: 2, errors.InputError: 3, errors.ResourceError: 4, errors.Interrupted: 75}
    assert kind.exit_code == next((code for base, code in families.items() if issubclass(kind, base)), 1)


def test_a_message_does_not_repeat_megabytes() -> None:
    error = errors.CheckpointError("config.json: x is " + "a" * 10**6 + " and wrong", expected="b" * 10**6)
    assert len(str(error)) < 3000
    assert str(error).startswith("config.json: x is aaa") and "and wrong; expected bbb" in str(error)


def test_the_nearest_word_is_offered_only_if_it_is_near() -> None:
    assert errors.did_you_mean("temprature", ["temperature", "top_k"]) == "did you mean 'temperature'?"
    assert errors.did_you_mean("zzz", ["temperature", "top_k"]) is None
