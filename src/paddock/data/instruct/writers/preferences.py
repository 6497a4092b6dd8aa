"""Writers of what somebody liked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from paddock.data.instruct.formats.preferences import HH
from paddock.data.instruct.records import Conversation, Feedback, Message, Preference
from paddock.data.instruct.writers.transcripts import bare
from paddock.data.instruct.writers.turns import message_row
from paddock.data.instruct.writers.writer import Row, Writer, about, plain_roles


def _dpo(example: Preference, lost: Counter[str]) -> list[Row]:
    sides = {"prompt": example.prompt, "chosen": example.chosen, "rejected": example.rejected}
    row: Row = {name: [message_row(each) for each in turns] for name, turns in sides.items()}
    return [{**row, **about(example.origin, row)}]


def _hh(example: Preference, lost: Counter[str]) -> list[Row]:
    row = {}
    for name, answer in (("chosen", example.chosen), ("rejected", example.rejected)):
        both = (*example.prompt, *answer)
        plain_roles(Conversation(both), ("user", "assistant"))
        row[name] = _dialogue(both, lost)
    return [{**row, **about(example.origin, row)}]


def _dialogue(messages: Sequence[Message], lost: Counter[str]) -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[role]}: {said}" for role, said in bare(messages, HH, lost))


def _kto(example: Feedback, lost: Counter[str]) -> list[Row]:
    row: Row = {"messages": [message_row(each) for each in example.messages], "label": example.good}
    return [{**row, **about(example.origin, row)}]


WRITERS = [
    Writer("dpo", (Preference,), _dpo),
    Writer("hh", (Preference,), _hh),
    Writer("kto", (Feedback,), _kto),
]
