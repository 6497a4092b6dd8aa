"""Formats of one question and its answer, each in a field of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from paddock.data.instruct.records import Conversation, Example, Message, Pair
from paddock.data.instruct.taking import (
    Dropped,
    Format,
    Record,
    Taking,
    asked_and_answered,
    filled,
    listed_records,
    maybe,
    text,
)
from paddock.data.reading.options import Broken
from paddock.data.reading.records import kind

ALPACA = ("instruction", "input", "output", "system", "history")
CITATION = re.compile(r"(?<=\S)\[\d{1,3}\]")  # Wikipedia's footnotes, which Dolly's contexts are full of
ANSWERS = ("answer", "response", "std_answer", "output", "completion")
PROMPTS = ("prompt", "user_prompt", "question", "instruction")
LONGEST_STATUS = 60


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


def _alpaca_libre(record: Record, taking: Taking) -> Iterable[Example]:
    """What its filters let through; the rest is dropped for the reason that they gave."""
    status = text(record, "status")
    if status != "ok":
        raise Dropped(f"status: {status[:LONGEST_STATUS]}")
    return _alpaca({name: value for name, value in record.items() if name != "status"}, taking)


def _dolly(record: Record, taking: Taking) -> Iterable[Example]:
    context, marks = CITATION.subn("", maybe(record, "context"))
    if marks:
        taking.mended["citation marks in the context"] += 1
    messages = asked_and_answered(text(record, "instruction"), context, text(record, "response"), taking)
    yield Conversation(messages, origin=taking.origin(record, ("instruction", "context", "response")))


def _seeds(record: Record, taking: Taking) -> Iterable[Example]:
    """An instruction and some instances of it, which are examples of one group."""
    instruction = text(record, "instruction")
    instances = listed_records(record, "instances")
    if not instances:
        raise Dropped("no instances")
    for instance in instances:
        messages = asked_and_answered(instruction, maybe(instance, "input"), text(instance, "output"), taking)
        yield Conversation(messages, origin=taking.origin(record, ("instruction", "instances")))


def _instances(record: Record, taking: Taking) -> Iterable[Example]:
    """What a model wrote when it was asked for instances: "Input: ... Output: ...", or "Class label: ..."."""
    instruction, raw = text(record, "instruction"), text(record, "raw_instances")
    classes = str(record.get("is_classification", "")).strip().lower() in ("yes", "true") or "Class label:" in raw
    found = _by_class(raw) if classes else _by_output(raw)
    if not found:
        raise Dropped("no instances")
    for given, answer in found:
        try:
            messages = asked_and_answered(instruction, given, answer, taking)
        except Dropped as dropped:  # the last one is often cut short
            taking.dropped[dropped.reason] += 1
            continue
        yield Conversation(messages, origin=taking.origin(record, ("instruction", "raw_instances")))


def _by_class(raw: str) -> list[tuple[str, str]]:
    found = []
    for part in raw.split("Class label:")[1:]:
        label, _, given = part.strip().partition("\n")
        found.append((given.strip().removeprefix("Input:").strip(), label.strip()))
    return found


def _by_output(raw: str) -> list[tuple[str, str]]:
    parts = re.split(r"^(?:Output|输出)\s*\d*\s*[:：]", raw, flags=re.MULTILINE)
    if len(parts) == 1:
        return [("", raw.strip())]
    found = []
    for before, behind in pairwise(parts):
        given = re.split(r"^(?:Input|输入)\s*\d*\s*[:：]", before, flags=re.MULTILINE)[-1] if "Input" in before else ""
        answer = re.split(r"^(?:Input|Example)\s*\d*\s*[:：.]?", behind, flags=re.MULTILINE)[0]
        found.append((given.strip(), answer.strip()))
    return found


def _question(record: Record, taking: Taking) -> Iterable[Example]:
    answer = next((name for name in ANSWERS if name in record), ANSWERS[0])
    yield from _turn(record, "question", answer, taking)


def _turn(record: Record, first: str, second: str, taking: Taking) -> Iterable[Example]:
    """One turn each."""
    answer = text(record, second)
    asked = Message("user", filled(text(record, first), first))
    origin = taking.origin(record, (first, second))
    yield Conversation((asked, Message("assistant", filled(answer, second))), origin=origin)


def _turns(name: str, title: str, first: str, second: str, *others: str) -> Format:
    """others: fields, one of which tells the format from others."""
    return Format(
        name,
        title,
        lambda record: record.keys() >= {first, second} and (not others or bool(record.keys() & set(others))),
        lambda record, taking: _turn(record, first, second, taking),
    )


def _pairs(first: str, second: str) -> Format:
    """A prompt and how it goes on, without a template."""

    def read(record: Record, taking: Taking) -> Iterable[Example]:
        prompt, answer = text(record, first), text(record, second)
        yield Pair(filled(prompt, first), filled(answer, second), taking.origin(record, (first, second)))

    def fits(record: Record) -> bool:
        return isinstance(record.get(first), str) and second in record

    return Format(f"{first}-{second}", f"{first}, {second}", fits, read)


def _steps(record: Record, taking: Taking) -> Iterable[Example]:
    """An input and its label; the rationales stay beside them, in meta."""
    pair = filled(text(record, "input"), "input"), filled(text(record, "label"), "label")
    yield Pair(*pair, taking.origin(record, ("input", "label")))


def _prompts(record: Record, taking: Taking) -> Iterable[Example]:
    name = next((name for name in PROMPTS if name in record), PROMPTS[0])
    asked = Message("user", filled(text(record, name), name))
    yield Conversation((asked,), origin=taking.origin(record, (name,)))


FORMATS = [
    Format(
        "alpaca-libre",
        "Alpaca-Libre's work: instruction, input, output, status",
        lambda record: record.keys() >= {"instruction", "output", "status"},
        _alpaca_libre,
    ),
    Format(
        "alpaca",
        "Alpaca: instruction, input, output",
        lambda record: record.keys() >= {"instruction", "output"},
        _alpaca,
    ),
    Format(
        "dolly",
        "Dolly: instruction, context, response, category",
        lambda record: record.keys() >= {"instruction", "response"},
        _dolly,
    ),
    Format(
        "self-instruct",
        "Self-Instruct: instruction, instances of input and output",
        lambda record: "instruction" in record and isinstance(record.get("instances"), list),
        _seeds,
    ),
    Format(
        "self-instruct-instances",
        "Self-Instruct's generations: instruction, raw_instances",
        lambda record: record.keys() >= {"instruction", "raw_instances"},
        _instances,
    ),
    Format(
        "step-by-step",
        "Distilling step-by-step: input, label, rationale",
        lambda record: record.keys() >= {"input", "label", "rationale"},
        _steps,
    ),
    _turns("longform", "LongForm: input, output, source, subset", "input", "output", "source", "subset"),
    _turns("input-output", "input, output", "input", "output"),
    _turns("input-target", "BELLE's first dumps: input, target", "input", "target"),
    _pairs("prompt", "completion"),
    _pairs("prompt", "response"),
    Format(
        "question-answer",
        "question and an answer",
        lambda record: "question" in record and bool(record.keys() & set(ANSWERS)),
        _question,
    ),
]
PROMPTS_ONLY = Format(
    "prompts",
    "prompts without answers",
    lambda record: any(isinstance(record.get(name), str) for name in PROMPTS),
    _prompts,
)
