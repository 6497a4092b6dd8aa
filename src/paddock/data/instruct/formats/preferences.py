"""Formats of what somebody liked: a better and a worse answer, or one and whether it was good."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paddock.data.instruct.formats.transcripts import split
from paddock.data.instruct.formats.turns import alternating, speakers_of, spoken, turns_of
from paddock.data.instruct.records import Example, Feedback, Message, Preference
from paddock.data.instruct.taking import Dropped, Format, Record, Taking, maybe, text
from paddock.data.reading.options import Broken
from paddock.data.reading.records import kind

HH = re.compile(r"\n\n(Human|Assistant):[ ]?")
BOTH = ("chosen", "rejected")
PROMPTS = ("prompt", "conversations", "context", "instruction", "question", "messages")


def _hh(record: Record, taking: Taking) -> Iterable[Example]:
    """What both dialogues begin with is the prompt."""
    sides = []
    for name in BOTH:
        before, turns = split("\n\n" + text(record, name).lstrip("\n"), HH)
        if before or not turns:
            raise Broken("no dialogue", f"field {name!r} does not begin with Human: or Assistant:")
        sides.append(_joined(turns, taking))
    yield _parted(sides[0], sides[1], record, BOTH, taking)


def _joined(turns: Sequence[Message], taking: Taking) -> list[Message]:
    """Turns of one speaker after another as one: people send two messages, too."""
    joined: list[Message] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            both = "\n\n".join(filter(None, (joined[-1].content, turn.content)))
            joined[-1] = Message(turn.role, both)
            taking.mended["two turns of one speaker joined"] += 1
        else:
            joined.append(turn)
    return joined


def _parted(
    chosen: Sequence[Message], rejected: Sequence[Message], record: Record, used: Sequence[str], taking: Taking
) -> Preference:
    """Two whole conversations as their common beginning, up to a user's turn, and how each goes on."""
    if list(chosen) == list(rejected):
        raise Dropped("both answers are the same")
    common = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        common += 1
    while common and chosen[common - 1].role not in ("user", "tool"):
        common -= 1
    if not common:
        raise Dropped("the two have no prompt in common")
    return _preference(chosen[:common], chosen[common:], rejected[common:], record, used, taking)


def _preference(
    prompt: Sequence[Message],
    chosen: Sequence[Message],
    rejected: Sequence[Message],
    record: Record,
    used: Sequence[str],
    taking: Taking,
) -> Preference:
    if not prompt or prompt[-1].role not in ("user", "tool"):
        raise Broken("the prompt asks nothing", "the prompt does not end with a user's turn")
    for name, answer in zip(BOTH, (chosen, rejected), strict=True):
        if not answer or not any(turn.says for turn in answer):
            raise Dropped(f"empty {name} answer")
        if answer[-1].role != "assistant":
            raise Broken(f"{name!r} is no answer", f"field {name!r} does not end with an assistant's turn")
        if taking.options.alternate:
            alternating([*prompt, *answer])
    if tuple(chosen) == tuple(rejected):
        raise Dropped("both answers are the same")
    origin = taking.origin(record, used)
    return Preference(tuple(prompt), tuple(chosen), tuple(rejected), origin)


def _dpo(record: Record, taking: Taking) -> Iterable[Example]:
    sides = [_answer(record, name) for name in BOTH]
    if all(side and side[0].role != "assistant" for side in sides):  # whole conversations, the prompt in both
        yield _parted(sides[0], sides[1], record, (*BOTH, "prompt"), taking)
        return
    name = next((each for each in PROMPTS if each in record), None)
    if name is None:
        raise Broken("no prompt", f"no field of the prompt; expected one of {', '.join(PROMPTS)}")
    used = [*BOTH, name, "system", *(["input"] if name == "instruction" else [])]
    prompt = _prompt(record, name)
    system = maybe(record, "system")
    if system.strip() and prompt[0].role != "system":
        prompt.insert(0, Message("system", system))
    yield _preference(prompt, sides[0], sides[1], record, used, taking)


def _prompt(record: Record, name: str) -> list[Message]:
    if isinstance(record[name], list):
        turns = turns_of(record, name)
        if not turns:
            raise Dropped("empty prompt")
        return turns
    asked = text(record, name)
    if not asked.strip():
        raise Dropped("empty prompt")
    given = maybe(record, "input") if name == "instruction" else ""
    return [Message("user", asked, more={"input": given} if given.strip() else {})]


def _answer(record: Record, name: str) -> list[Message]:
    """A text, a turn, or some."""
    value = record.get(name)
    if isinstance(value, str):
        return [Message("assistant", value)]
    if isinstance(value, Mapping):
        return spoken([value], name)
    if isinstance(value, list):
        return turns_of(record, name)
    raise Broken(f"{name!r} is {kind(value)}", f"field {name!r} is {kind(value)}, where an answer belongs")


def _kto(record: Record, taking: Taking) -> Iterable[Example]:
    label = "kto_tag" if "kto_tag" in record else "label"
    good = record.get(label)
    if not isinstance(good, bool):
        raise Broken(f"{label!r} is {kind(good)}", f"field {label!r} is {kind(good)}, where true or false belongs")
    turns: list[Message]
    used: tuple[str, ...]
    if "completion" in record:
        prompt: Any = record.get("prompt")
        used = ("prompt", "completion", label)
        turns = [*_prompt({"prompt": prompt}, "prompt"), *_answer(record, "completion")]
    else:
        name = "messages" if "messages" in record else "conversations"
        used = (name, label)
        turns = turns_of(record, name)
    if not turns or turns[-1].role != "assistant":
        raise Broken("no answer to judge", "the conversation does not end with an assistant's turn")
    if not turns[-1].says:
        raise Dropped("empty answer")
    if taking.options.alternate:
        alternating(turns)
    yield Feedback(tuple(turns), good, taking.origin(record, used))


def _is_kto(record: Record) -> bool:
    if isinstance(record.get("kto_tag"), bool):
        return True
    talks = speakers_of(record, "messages") or speakers_of(record, "conversations")
    return isinstance(record.get("label"), bool) and bool(talks or record.keys() >= {"prompt", "completion"})


def _is_hh(record: Record) -> bool:
    return all(isinstance(record.get(name), str) and bool(HH.match(record[name])) for name in BOTH)


FORMATS = [
    Format("hh", "HH-RLHF: whole dialogues, chosen and rejected", _is_hh, _hh),
    Format("dpo", "preferences: a prompt, chosen, rejected", lambda record: record.keys() >= set(BOTH), _dpo),
    Format("kto", "feedback: messages (or prompt, completion) and a label, true or false", _is_kto, _kto),
]
