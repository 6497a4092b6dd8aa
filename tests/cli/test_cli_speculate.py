"""`paddock generate --speculate`: another speed, the same text."""

from __future__ import annotations

from collections.abc import Callable

STORY = ("generate", "Once upon a time", "-n", 60, "--temp", 0)


def test_the_text_is_the_same(paddock: Callable) -> None:
    plain = paddock(*STORY, "--json").json
    assert plain["speculation"] == {"proposed": 0, "accepted": 0}
    for guesser in ("lookup", "stories260K"):
        guessed = paddock(*STORY, "--json", "--speculate", guesser, "--speculate-tokens", 3).json
        assert guessed["ids"] == plain["ids"]
        assert guessed["speculation"]["proposed"] >= guessed["speculation"]["accepted"]
    assert guessed["speculation"]["accepted"] > 30
    shown = paddock(*STORY, "--speculate", "stories260K", "-v")
    assert shown.out.strip() == plain["text"].strip()
    assert "of them right" in shown.err


def test_guesses_without_a_guesser_and_guessers_that_are_none(paddock: Callable) -> None:
    for options, code, words in (
        (("--speculate-tokens", 3), 2, "--speculate lookup"),
        (("--speculate", "nothing.gguf"), 3, "nothing.gguf"),
        (("--speculate", "lookup", "--speculate-tokens", 0), 2, "speculate_tokens"),
    ):
        run = paddock(*STORY, *options)
        assert run.code == code and words in run.err
