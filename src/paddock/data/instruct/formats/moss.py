"""MOSS's conversations: turns by number, each in five steps with marks and end tokens in the text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from paddock.data.instruct.formats.turns import in_turn
from paddock.data.instruct.records import Conversation, Example, Message
from paddock.data.instruct.taking import MAX_MESSAGES, Format, Record, Taking, maybe
from paddock.data.reading.options import Broken
from paddock.data.reading.records import kind

STEPS = {  # field: its mark, its end
    "Human": ("<|Human|>:", "<eoh>"),
    "Inner Thoughts": ("<|Inner Thoughts|>:", "<eot>"),
    "Commands": ("<|Commands|>:", "<eoc>"),
    "Tool Responses": ("<|Results|>:", "<eor>"),
    "MOSS": ("<|MOSS|>:", "<eom>"),
}
TURN = re.compile(r"turn_(\d{1,5})")
USED = ("conversation_id", "meta_instruction", "num_turns", "chat", "source_group")


def _moss(record: Record, taking: Taking) -> Iterable[Example]:
    """Commands and results are messages, with the thoughts before them, as the template `moss-plugins` reads them."""
    chat = record.get("chat")
    if not isinstance(chat, Mapping):
        raise Broken(f"'chat' is {kind(chat)}", f"field 'chat' is {kind(chat)}, where an object of turns belongs")
    system = maybe(record, "meta_instruction")  # with its line break, which the template puts nothing behind
    messages = [Message("system", system)] if system.strip() else []
    for name, turn in _ordered(chat):
        messages += _turn(turn, f"chat.{name}")
    count = record.get("num_turns")
    if isinstance(count, int) and count != len(chat):
        raise Broken("'num_turns' is wrong", f"field 'num_turns' says {count}, and there are {len(chat)} turns")
    origin = taking.origin({"source": record.get("source_group"), **record}, USED, record.get("conversation_id"))
    yield Conversation(in_turn(messages, taking), origin=origin)


def _ordered(chat: Mapping[str, object]) -> list[tuple[str, Record]]:
    """The turns by their numbers: an object has no order, and turn_10 is not behind turn_1."""
    if len(chat) > MAX_MESSAGES:
        raise Broken("too many turns", f"{len(chat):,} turns; {MAX_MESSAGES:,} may be")
    turns = []
    for name, turn in chat.items():
        number = TURN.fullmatch(name)
        if number is None or not isinstance(turn, Mapping):
            raise Broken("no turn", f"field 'chat.{name}' is {kind(turn)}; expected turns called turn_1, turn_2 ...")
        turns.append((int(number[1]), name, turn))
    return [(name, turn) for _, name, turn in sorted(turns, key=lambda each: each[0])]


def _turn(turn: Record, where: str) -> list[Message]:
    step = {name: _bare(turn, name, where) for name in STEPS}
    thoughts, commands, results = (
        "" if step[name].strip() in ("None", "") else step[name]
        for name in ("Inner Thoughts", "Commands", "Tool Responses")
    )
    thinking = {"inner_thoughts": thoughts} if thoughts else {}
    asked, answer = Message("user", step["Human"]), step["MOSS"].strip()
    if not commands:
        if results:
            raise Broken("results without a command", f"field '{where}.Tool Responses' answers no command")
        return [asked, Message("assistant", answer, more=thinking)]
    return [
        asked,
        Message("assistant", "", more={"commands": commands, **thinking}),
        Message("tool", results or "None"),
        Message("assistant", answer),
    ]


def _bare(turn: Record, name: str, where: str) -> str:
    """A step without its mark and its end. Raises Broken for one that has a mark of another step."""
    if turn.get(name) is None:
        if name in ("Human", "MOSS"):
            raise Broken(f"no field {name!r}", f"no field '{where}.{name}'")
        return ""
    value = turn[name]
    if not isinstance(value, str):
        raise Broken(f"{name!r} is {kind(value)}", f"field '{where}.{name}' is {kind(value)}, where text belongs")
    mark, end = STEPS[name]
    said = value.strip().removeprefix(mark)
    said = said[: -len(end)] if said.endswith(end) else said
    return said.removeprefix(" ") if name == "Tool Responses" else said.strip()


FORMATS = [Format("moss", "MOSS: chat of turn_1, turn_2 ...", lambda record: "chat" in record, _moss)]
