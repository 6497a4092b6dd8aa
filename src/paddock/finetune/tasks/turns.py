"""Examples of every kind that can be talked about, as messages of which some are learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import model_validator

from paddock.data.instruct.records import Conversation, Example, Feedback, Message, Preference, kind_of
from paddock.data.section import Section
from paddock.errors import DataError

Learn = Literal["answers", "last", "all"] | list[Literal["system", "user", "assistant", "tool"]]
NONE = "None"  # as MOSS spells that there is no thought, command or result
Systems = Literal["keep", "drop", "question"]


class Markers(Section):
    """Conditional tuning, as Koala's: answers begin with a word that says whether people liked them, which is not
    learned. The trained model's chat template writes the good one, so that it is asked for good answers."""

    good: str = "[good]"
    bad: str = "[bad]"

    @model_validator(mode="after")
    def _apart(self) -> Markers:
        stripped = (self.good.strip(), self.bad.strip())
        if not all(stripped) or stripped != (self.good, self.bad) or self.good.startswith(self.bad):
            raise ValueError("the markers are two texts without blanks around them")
        if self.bad.startswith(self.good):
            raise ValueError("one marker begins like the other")
        return self


class Unfit(DataError):
    """An example that cannot be learned. reason: the kind, for counting."""

    def __init__(self, reason: str, what: str, *, expected: str | None = None, fix: str | None = None) -> None:
        super().__init__(what, expected=expected, fix=fix)
        self.reason = reason


@dataclass(frozen=True)
class Turns:
    """Messages, the numbers of those that are learned, and what can be called. good: which marker is asked for."""

    messages: tuple[Message, ...]
    learned: tuple[int, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    good: bool = True

    def window(self, start: int, stop: int) -> Turns:
        """Messages from `start` to `stop`, behind the system message if there is one before them."""
        head = self.messages[:1] if start and self.messages[0].role == "system" else ()
        learned = tuple(each - start + len(head) for each in self.learned if start <= each < stop)
        return replace(self, messages=(*head, *self.messages[start:stop]), learned=learned)


@dataclass(frozen=True)
class Reading:
    """How examples become turns: `ChatTask`'s settings of the same names. apart: whether the template reads a
    question's `input` (Alpaca's) apart; elsewhere it follows the question on a line of its own."""

    learn: Learn
    system: str | None
    systems: Systems
    markers: Markers | None
    apart: bool = True
    commands: bool = False

    def turns(self, example: Example) -> Iterator[Turns]:
        """Raises DataError, less its place, for an example that has nothing to learn or is none of a conversation."""
        if isinstance(example, Conversation):
            found = [(example.messages, example.tools, True, self.learn)]
        elif isinstance(example, Preference) and self.markers:
            both = ((example.chosen, True), (example.rejected, False))
            found = [((*example.prompt, *answer), (), good, "last") for answer, good in both]
        elif isinstance(example, Feedback) and self.markers:
            found = [(example.messages, (), example.good, "last")]
        else:
            raise _stranger(example)
        for messages, tools, good, learn in found:
            yield from self._marked(self._one(messages, tools, good, learn))

    def _one(
        self, messages: tuple[Message, ...], tools: tuple[Mapping[str, Any], ...], good: bool, learn: Learn
    ) -> Turns:
        messages = self._instructed(tuple(map(self._joined, messages)))
        if self.commands:
            messages = tuple(_stated(messages))
        learned = tuple(_learned(messages, learn))
        if not learned:
            raise Unfit("nothing to learn", "no message of it is to be learned", fix="see task.learn")
        for number in learned:
            message = messages[number]
            if not message.says:
                raise Unfit("an empty answer", f"message {number + 1} ({message.role}) is to be learned and empty")
        return Turns(messages, learned, tools, good)

    def joins(self, messages: Sequence[Message]) -> bool:
        """Whether a question among these is joined with its input."""
        return not self.apart and any(message.more.get("input") for message in messages)

    def _joined(self, message: Message) -> Message:
        if not self.joins([message]):
            return message
        rest = {key: value for key, value in message.more.items() if key != "input"}
        return replace(message, content=f"{message.content}\n{message.more['input']}", more=rest)

    def _instructed(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """With the system message that is wanted, where it is wanted."""
        first = messages[0] if messages and messages[0].role == "system" else None
        rest = messages[1:] if first else messages
        text = self.system if first is None or self.systems == "drop" else first.content
        if text is None or self.systems == "question":
            asked = next((number for number, message in enumerate(rest) if message.role == "user"), None)
            if text is None or asked is None:
                return rest
            question = replace(rest[asked], content=f"{text}\n\n{rest[asked].content}")
            return (*rest[:asked], question, *rest[asked + 1 :])
        return (replace(first, content=text) if first else Message("system", text), *rest)

    def _marked(self, turns: Turns) -> Iterator[Turns]:
        """One of each answer, which alone bears its marker: earlier ones come back from a user without."""
        if self.markers is None:
            yield turns
            return
        marker = self.markers.good if turns.good else self.markers.bad
        for message in turns.messages:
            if any(each in message.content for each in (self.markers.good, self.markers.bad)):
                what = f"a message ({message.role}) contains a marker"
                raise Unfit("a marker inside", what, fix="choose other task.markers")
        for number in turns.learned:
            answer = turns.messages[number]
            answer = replace(answer, content=f"{marker} {answer.content.strip()}")
            yield replace(turns, messages=(*turns.messages[:number], answer), learned=(number,))


def _learned(messages: Sequence[Message], learn: Learn) -> list[int]:
    if isinstance(learn, list):
        return [n for n, message in enumerate(messages) if message.role in learn and message.learn is not False]
    found = [number for number, message in enumerate(messages) if message.learned]
    return found[-1:] if learn == "last" else found


def _stated(messages: Sequence[Message]) -> Iterator[Message]:
    """An answer without a command states that there is none and gets no results: two texts that a model writes."""
    before = ""
    for message in messages:
        if message.role == "assistant" and before != "tool" and not message.more.get("commands"):
            thoughts = message.more.get("inner_thoughts") or NONE
            yield replace(message, content="", more={"inner_thoughts": thoughts, "commands": NONE})
            yield Message("tool", NONE, learn=False)
            yield replace(message, more={})
        else:
            yield message
        before = message.role


def _stranger(example: Example) -> Unfit:
    kind = kind_of(example)
    if isinstance(example, Preference | Feedback):
        return Unfit(
            kind,
            f"a {kind}, which says what people liked",
            fix="set task.markers (conditional tuning), or align a model with it",
        )
    fix = "use the task for it, or data.format if it was taken for another"
    return Unfit(kind, f"a {kind}", expected="a conversation or a pair", fix=fix)
