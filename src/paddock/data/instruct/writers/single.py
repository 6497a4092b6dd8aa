"""Writers of one question and its answer, of pairs, of texts with a class, of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from paddock.data.instruct.records import Conversation, Labelled, Message, Pair, Text
from paddock.data.instruct.writers.writer import Row, Unwritable, Writer, about, joined, one_turn, plain_roles

Write = Callable[[Any, Counter[str]], list[Row]]

TASK = "Below is an instruction that describes a task"
WITH_INPUT = ", paired with an input that provides further context"
REQUEST = "Write a response that appropriately completes the request."


def _alpaca(example: Conversation, lost: Counter[str]) -> list[Row]:
    """With `system` and `history` where there are any, as LLaMA-Factory reads them."""
    plain_roles(example, ("system", "user", "assistant"))
    messages = list(example.messages)
    system = messages.pop(0).content if messages and messages[0].role == "system" else ""
    *before, asked, answer = [*messages] if len(messages) > 1 else [*messages, *[Message("", "")] * 2]
    roles = [message.role for message in (*before, asked, answer)]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise Unwritable("turns that are not question and answer")
    if any(message.more.get("input") for message in before):
        raise Unwritable("an input of an earlier turn")
    row: Row = {"instruction": asked.content, "input": str(asked.more.get("input") or ""), "output": answer.content}
    if system:
        row["system"] = system
    if before:
        row["history"] = [[one.content, other.content] for one, other in zip(before[::2], before[1::2], strict=True)]
    return [{**row, **about(example.origin, row)}]


def _alpaca_libre(example: Conversation, lost: Counter[str]) -> list[Row]:
    return [{**_of_three(example, ("instruction", "input", "output")), "status": "ok"}]


def _of_three(example: Conversation, names: tuple[str, str, str], lifted: Sequence[str] = ()) -> Row:
    row = dict(zip(names, one_turn(example), strict=True))
    return {**row, **about(example.origin, names, lifted)}


def _dolly(example: Conversation, lost: Counter[str]) -> list[Row]:
    return [_of_three(example, ("instruction", "context", "response"), ("category",))]


def _seeds(example: Conversation, lost: Counter[str]) -> list[Row]:
    instruction, given, answer = one_turn(example)
    row = {"instruction": instruction, "instances": [{"input": given, "output": answer}]}
    return [{**about(example.origin, row, ("name", "is_classification", "motivation_app")), **row}]


def _instances(example: Conversation, lost: Counter[str]) -> list[Row]:
    instruction, given, answer = one_turn(example)
    raw = f"Input: {given}\nOutput: {answer}" if given else answer
    row = {"instruction": instruction, "raw_instances": raw}
    if any(f"\n{mark}" in f"\n{part}" for mark in ("Input", "Output", "Example") for part in (given, answer)):
        raise Unwritable("a mark of the format in the text")
    if "Class label:" in raw:
        raise Unwritable("a mark of the format in the text")
    lost["blanks at the ends of turns"] += (given, answer) != (given.strip(), answer.strip())
    return [{**row, **about(example.origin, row)}]


def _wrapped(example: Conversation, lost: Counter[str]) -> list[Row]:
    """The prompt in Alpaca's template."""
    instruction, given, answer = one_turn(example)
    prompt = f"{TASK}{WITH_INPUT if given else ''}. {REQUEST}\n\n### Instruction:\n{instruction}\n\n"
    prompt += f"### Input:\n{given}\n\n" if given else ""
    if "\n\n### Input:\n" in instruction:
        raise Unwritable("a mark of the format in the text")
    row = {"prompt": f"{prompt}### Response:\n", "response": answer}
    return [{**row, **about(example.origin, row)}]


def _two(
    first: str, second: str, lifted: Sequence[str] = (), must: str = ""
) -> Callable[[Any, Counter[str]], list[Row]]:
    """A question and its answer, or a pair, in two fields."""

    def write(example: Conversation | Pair, lost: Counter[str]) -> list[Row]:
        if isinstance(example, Conversation):
            one_turn(example)
            asked = example.messages[0]
            lost["input joined to its instruction"] += bool(asked.more.get("input"))
            both = joined(asked), example.messages[1].content
        else:
            both = example.source, example.target
        if must and must not in example.origin.meta:
            raise Unwritable(f"no {must}")
        row = {first: both[0], second: both[1]}
        taken = (*row, *(() if lifted else ("source",)))  # a source beside an input and an output is LongForm's
        return [{**row, **about(example.origin, taken, lifted)}]

    return write


def _longform(example: Conversation, lost: Counter[str]) -> list[Row]:
    """The corpus is its `source`."""
    return [{"source": "", **row} for row in _two("input", "output", ("subset",))(example, lost)]


def _prompts(example: Conversation, lost: Counter[str]) -> list[Row]:
    plain_roles(example, ("user",))
    if len(example.messages) != 1:
        raise Unwritable("more than a question")
    lost["input joined to its instruction"] += bool(example.messages[0].more.get("input"))
    row = {"prompt": joined(example.messages[0])}
    return [{**row, **about(example.origin, row)}]


def _labelled(example: Labelled, lost: Counter[str]) -> list[Row]:
    names = ("text",) if len(example.texts) == 1 else ("sentence1", "sentence2")
    row: Row = {**dict(zip(names, example.texts, strict=True)), _label_field(example): example.label}
    return [{**row, **about(example.origin, row)}]


def _label_field(example: Labelled) -> str:
    return "labels" if isinstance(example.label, tuple) else "label"


def _text(example: Text, lost: Counter[str]) -> list[Row]:
    return [{"text": example.text, **about(example.origin, ("text",))}]


ONE_TURN = (Conversation,)
WRITERS = [
    Writer("alpaca", ONE_TURN, _alpaca),
    Writer("alpaca-libre", ONE_TURN, _alpaca_libre),
    Writer("alpaca-prompts", ONE_TURN, _wrapped),
    Writer("dolly", ONE_TURN, _dolly),
    Writer("self-instruct", ONE_TURN, _seeds),
    Writer("self-instruct-instances", ONE_TURN, _instances),
    Writer("longform", ONE_TURN, _longform),
    Writer("input-output", ONE_TURN, _two("input", "output")),
    Writer("input-target", ONE_TURN, _two("input", "target")),
    Writer("question-answer", ONE_TURN, _two("question", "answer")),
    Writer("prompts", ONE_TURN, _prompts),
    Writer("prompt-completion", (Pair, Conversation), _two("prompt", "completion")),
    Writer("prompt-response", (Pair, Conversation), _two("prompt", "response")),
    Writer("step-by-step", (Pair,), _two("input", "label", ("rationale", "llm_label", "llm_rationale"), "rationale")),
    Writer("pairs", (Pair,), _two("source", "target")),
    Writer("labelled", (Labelled,), _labelled),
    Writer("text", (Text,), _text),
]
