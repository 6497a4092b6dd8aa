"""Formats of one question and its answer."""

from __future__ import annotations

from collections.abc import Iterable

from paddock.data.instruct.records import Conversation, Example, Message, Pair
from paddock.data.instruct.taking import Format, Record, Taking, asked_and_answered, filled, maybe, text
from paddock.data.reading.options import Broken
from paddock.data.reading.records import kind

ALPACA = ("instruction", "input", "output", "system", "history")


def _alpaca(record: Record, taking: Taking) -> Iterable[Example]:
    messages = asked_and_answered(text(record, "instruction"), maybe(record, "input"), text(record, "output"), taking)
    system = maybe(record, "system")
    first = (Message("system", system),) if system.strip() else ()
    yield Conversation((*first, *_history(record), *messages), origin=taking.origin(record, ALPACA))


def _history(record: Record) -> Iterable[Message]:
    """Earlier turns as pairs, which LLaMA-Factory's form of Alpaca may have."""
    before = record.get("history") or []
    if not isinstance(before, list):
        raise Broken("'history' is no list", f"field 'history' is {kind(before)}, where a list of pairs belongs")
    for place, pair in enumerate(before):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(each, str) for each in pair)):
            raise Broken("'history' is no list of pairs", f"field 'history[{place}]' is no pair of texts")
        yield Message("user", pair[0])
        yield Message("assistant", pair[1])


def _pairs(first: str, second: str) -> Format:
    """A prompt and how it goes on, without a template."""

    def read(record: Record, taking: Taking) -> Iterable[Example]:
        prompt, answer = text(record, first), text(record, second)
        yield Pair(filled(prompt, first), filled(answer, second), taking.origin(record, (first, second)))

    def fits(record: Record) -> bool:
        return isinstance(record.get(first), str) and second in record

    return Format(f"{first}-{second}", f"{first}, {second}", fits, read)


FORMATS = [
    Format(
        "alpaca",
        "Alpaca: instruction, input, output",
        lambda record: record.keys() >= {"instruction", "output"},
        _alpaca,
    ),
    _pairs("prompt", "completion"),
    _pairs("prompt", "response"),
]
