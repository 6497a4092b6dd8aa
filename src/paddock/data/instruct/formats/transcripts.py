"""Formats that write a whole conversation into one text, with marks for who speaks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice, pairwise

from paddock.data.instruct.formats.turns import in_turn
from paddock.data.instruct.records import Conversation, Example, Message
from paddock.data.instruct.taking import (
    MAX_MESSAGES,
    Format,
    Record,
    Taking,
    asked_and_answered,
    filled,
    maybe,
    text,
)
from paddock.data.reading.options import Broken

BELLE = re.compile(r"^(Human|Assistant)[:：][ \t]*", re.MULTILINE)  # at the start of a line only: texts speak of humans
GUANACO = re.compile(r"###[ ]?(Human|Assistant):[ ]?")
BAIZE = re.compile(r"\[\|(Human|AI)\|\][ \t]*")
INSTRUCTION, INPUT, RESPONSE = "### Instruction:\n", "\n\n### Input:\n", "### Response:"
PREFACE = 1000  # characters before the first mark
BAIZE_BEGINS = "The conversation between human and AI assistant."
WHO = {"Human": "user", "Assistant": "assistant", "AI": "assistant"}


def split(marked: str, mark: re.Pattern[str], who: Mapping[str, str] = WHO) -> tuple[str, list[Message]]:
    """What stands before the first mark, and what stands behind each, without the blanks around it."""
    found = list(islice(mark.finditer(marked), MAX_MESSAGES + 1))
    if len(found) > MAX_MESSAGES:
        raise Broken("too many turns", f"more than {MAX_MESSAGES:,} turns")
    if not found:
        return marked.strip(), []
    ends = [*(after.start() for _, after in pairwise(found)), len(marked)]
    turns = [Message(who[each[1]], marked[each.end() : end].strip()) for each, end in zip(found, ends, strict=True)]
    return marked[: found[0].start()].strip(), turns


def _open(turns: list[Message], name: str) -> list[Message]:
    """The turns before a last mark that nothing stands behind, which asks for an answer."""
    if not turns or turns[-1].role != "assistant" or turns[-1].content:
        raise Broken(
            f"{name!r} asks for no answer", f"field {name!r} does not end with the mark of an assistant's turn"
        )
    return turns[:-1]


def _no_preface(before: str, name: str) -> None:
    if before:
        raise Broken("text before the first turn", f"field {name!r} has text before its first mark: {before[:40]!r}")


def _belle(record: Record, taking: Taking) -> Iterable[Example]:
    before, turns = split(text(record, "instruction"), BELLE)
    _no_preface(before, "instruction")
    answer = Message("assistant", filled(text(record, "output"), "output"))
    used = ("instruction", "output", *(["input"] if not maybe(record, "input").strip() else []))
    yield Conversation(in_turn([*_open(turns, "instruction"), answer], taking), origin=taking.origin(record, used))


def _is_belle(record: Record) -> bool:
    asked = record.get("instruction")
    if not isinstance(asked, str) or "output" not in record:
        return False
    return bool(BELLE.match(asked)) and bool(re.search(r"^Assistant[:：]\s*\Z", asked, re.MULTILINE))


def _guanaco(record: Record, taking: Taking) -> Iterable[Example]:
    """Input and output, or all in one text. The answer in a field of its own is not searched for marks."""
    if "output" not in record:
        before, turns = split(text(record, "text"), GUANACO)
        _no_preface(before, "text")
        yield Conversation(in_turn(turns, taking), origin=taking.origin(record, ("text",)))
        return
    before, turns = split(text(record, "input"), GUANACO)
    _no_preface(before, "input")
    turns = [*_open(turns, "input"), Message("assistant", filled(text(record, "output"), "output").strip())]
    again = [key for key in ("prompt", "text") if str(record.get(key)).endswith(record["input"])]
    origin = taking.origin(record, ("input", "output", "message_id", *again), record.get("message_id"))
    yield Conversation(in_turn(turns, taking), origin=origin)


def _is_guanaco(record: Record) -> bool:
    name = "input" if "output" in record else "text"
    said = record.get(name)
    return isinstance(said, str) and bool(GUANACO.match(said.lstrip()))


def _baize(record: Record, taking: Taking) -> Iterable[Example]:
    before, turns = split(text(record, "input"), BAIZE)
    if not turns:
        raise Broken("no turns", "field 'input' has no marks [|Human|] and [|AI|]")
    if turns[-1].role == "user" and not turns[-1].content:
        turns.pop()  # every transcript ends with an open mark
    origin = taking.origin(record, ("input",), preface=before if before != BAIZE_BEGINS else "")
    yield Conversation(in_turn(turns, taking), origin=origin)


def _wrapped(record: Record, taking: Taking) -> Iterable[Example]:
    """A prompt that Alpaca's template has made already, taken out of it, so that any template may be put around it."""
    name = _answer(record)
    prompt = text(record, "prompt").rstrip()
    begun = prompt.find(INSTRUCTION, 0, PREFACE)
    if begun < 0 or not prompt.endswith(RESPONSE):
        raise Broken(
            "no Alpaca prompt",
            "field 'prompt' is not Alpaca's: ### Instruction: ... ### Response:",
            f"--format prompt-{name} takes prompts as they are",
        )
    asked = prompt[begun + len(INSTRUCTION) : -len(RESPONSE)]
    instruction, _, given = asked.removesuffix("\n\n").partition(INPUT)
    messages = asked_and_answered(instruction, given, text(record, name), taking)
    yield Conversation(messages, origin=taking.origin(record, ("prompt", name)))


def _answer(record: Record) -> str:
    return "completion" if "completion" in record else "response"


def _is_wrapped(record: Record) -> bool:
    prompt = record.get("prompt")
    if not isinstance(prompt, str) or not record.keys() & {"completion", "response"}:
        return False
    return prompt.lstrip().startswith("Below is an instruction") and INSTRUCTION in prompt[:PREFACE]


FORMATS = [
    Format(
        "belle-turns", 'BELLE\'s turns in "instruction", after Human: and Assistant:, and an output', _is_belle, _belle
    ),
    Format("guanaco", "OASST1 of Guanaco: ### Human: and ### Assistant:", _is_guanaco, _guanaco),
    Format(
        "baize",
        "Baize: turns in input, after [|Human|] and [|AI|]",
        lambda record: isinstance(record.get("input"), str) and "[|Human|]" in record["input"],
        _baize,
    ),
    Format("alpaca-prompts", "prompts in Alpaca's template, and their answers", _is_wrapped, _wrapped),
]
