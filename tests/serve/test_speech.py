"""Thoughts, answers and calls in one answer's text, wherever its pieces end."""

from __future__ import annotations

import random
from functools import partial

import pytest

from paddock.serve.speech import Plain, Speech, Spoken, Told, new_call_id
from paddock.tokenizer.callreader import CallReader
from paddock.tokenizer.thoughts import KNOWN, ThoughtReader

CALL = '<tool_call>{"name": "f", "arguments": {"a": "é🙂"}}</tool_call>'
TEXTS = [
    f"<think>\nI should call <tool_call>.\n</think>\n\nOf course.\n{CALL}\n{CALL}",
    f"<think>{CALL}</think>",
    f"{CALL} <think>no thought</think>",
    "<think>never ends",
    "plain",
    "",
    f"<think></think>{CALL[:-20]}",
]


def told(opened: bool = False, live: bool = False) -> Told:
    return Told(ThoughtReader(KNOWN[0], opened), CallReader("tagged", ["f"], "<tool_call>", "</tool_call>", live=live))


def heard(speech: Speech, pieces: list[str]) -> tuple[str, str, list[tuple[int, str, str]]]:
    said: list[Spoken] = [*(speech.push(piece) for piece in pieces), speech.finish()]
    calls: dict[int, list[str]] = {}
    for piece in (piece for one in said for piece in one.calls):
        assert (piece.name is None) == (piece.id is None) == (piece.index in calls)
        name, arguments = calls.get(piece.index, [piece.name or "", ""])
        calls[piece.index] = [name, arguments + piece.arguments]
    found = [(index, *call) for index, call in calls.items()]
    return "".join(one.text for one in said), "".join(one.reasoning for one in said), found  # type: ignore[return-value]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("opened", [False, True])
def test_the_same_wherever_the_pieces_end(text: str, opened: bool) -> None:
    for live in (False, True):
        make = partial(told, opened, live)
        whole = heard(make(), [text])
        for place in range(len(text) + 1):
            assert heard(make(), [text[:place], text[place:]]) == whole
        assert heard(make(), list(text)) == whole
        rng = random.Random(text)
        for _ in range(40):
            places = sorted(rng.choices(range(len(text) + 1), k=6))
            pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
            assert heard(make(), pieces) == whole


def test_what_is_heard() -> None:
    call = (0, "f", '{"a": "é🙂"}')
    assert heard(told(), [TEXTS[0]]) == ("Of course.\n", "I should call <tool_call>.", [call, (1, *call[1:])])
    assert heard(told(), [TEXTS[1]]) == ("", CALL, [])  # what is thought is not called
    assert heard(told(), [TEXTS[2]]) == (" <think>no thought</think>", "", [call])
    assert heard(told(), [TEXTS[3]]) == ("", "never ends", [])
    assert heard(told(opened=True), ["a</think>b"]) == ("b", "a", [])
    assert heard(Told(), ["a"]) == heard(Plain(), ["a"]) == ("a", "", [])
    assert heard(Told(ThoughtReader(KNOWN[0])), ["<thin"]) == ("<thin", "", [])


def test_ids_are_never_twice_the_same() -> None:
    assert len({new_call_id() for _ in range(1000)}) == 1000 and new_call_id().startswith("call_")
