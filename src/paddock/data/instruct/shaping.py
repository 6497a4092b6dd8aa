"""Examples of one kind made into another, where nothing is lost by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from paddock.data.instruct.records import Conversation, Example, Feedback, Message, Origin, Pair, Preference, Ranked
from paddock.data.instruct.writers.writer import without_input


def shaped(example: Example, kinds: Sequence[type]) -> Iterator[Example]:
    """The example as one of `kinds`, or as several of them; nothing where that cannot be.

    A pair is a conversation of one turn each. A ranking is a preference for each two of its answers, and a preference
    is feedback on each of its two.
    """
    if isinstance(example, tuple(kinds)):
        yield example
    elif isinstance(example, Pair) and Conversation in kinds:
        yield Conversation((Message("user", example.source), Message("assistant", example.target)), (), example.origin)
    elif isinstance(example, Ranked) and {Preference, Feedback} & set(kinds):
        for better, worse in _ranked(example):
            yield from shaped(_preference(example, better, worse), kinds)
    elif isinstance(example, Preference) and Feedback in kinds:
        for answer, good in ((example.chosen, True), (example.rejected, False)):
            yield Feedback((*example.prompt, *answer), good, _renamed(example, "chosen" if good else "rejected"))


def with_inputs_joined(example: Example, lost: Counter[str]) -> Example:
    """The example with the inputs of its instructions, a field that few tools know, in what the user says; counted."""
    match example:
        case Conversation() | Feedback():
            return replace(example, messages=tuple(without_input(example.messages, lost)))
        case Preference() | Ranked():
            return replace(example, prompt=tuple(without_input(example.prompt, lost)))
    return example


def _ranked(example: Ranked) -> Iterator[tuple[int, int]]:
    return combinations(range(len(example.responses)), 2)


def _preference(example: Ranked, better: int, worse: int) -> Preference:
    chosen, rejected = (Message("assistant", example.responses[place]) for place in (better, worse))
    return Preference(example.prompt, (chosen,), (rejected,), _renamed(example, f"{better}-{worse}"))


def _renamed(example: Ranked | Preference, part: str) -> Origin:
    """Where one of several examples is from, with an id of its own."""
    origin = example.origin
    return replace(origin, id=f"{origin.id}/{part}") if origin.id is not None else origin
