"""Pairs as a model reads them: token ids, what does not fit, and what is left out, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paddock.data.instruct.records import Example, Pair, kind_of
from paddock.errors import DataError, TokenizerError, UsageError
from paddock.tokenizer.tokenizer import Tokenizer

DROPPED_EMPTY, DROPPED_LONG, CUT = "empty side", "too long", "source cut"
AT_ONCE = 1000  # texts encoded together


@dataclass(frozen=True)
class Spelling:
    """How a pair is spelt: exactly as `paddock generate` spells a prompt, so that a model is asked what it learned.

    prefix stands before a source and `between` behind it, where no encoder keeps the two apart. ends: ids that end a
    text, of which a prompt that is to be continued has none behind it; the first is written behind each target.
    """

    tokenizer: Tokenizer
    encodes: bool
    ends: tuple[int, ...]
    prefix: str = ""
    between: str = ""

    def prompt(self, source: str) -> str:
        return f"{self.prefix}{source}{self.between}"

    def prompts(self, sources: Sequence[str]) -> list[list[int]]:
        before, after = self.tokenizer.before, self.tokenizer.after
        if not self.encodes:
            after = tuple(id for id in after if id not in self.ends)
        return [[*before, *ids, *after] for ids in self.tokenizer.encode_many(map(self.prompt, sources))]

    @property
    def closes(self) -> bool:
        """Whether a prompt has an end of text of its own, as T5's has."""
        return self.encodes and self.tokenizer.after[-1:] == self.ends[:1]


@dataclass(frozen=True, eq=False)
class Row:
    """prompt, target: ids, (tokens,) int64 each; the target's end is not among them."""

    pair: Pair
    prompt: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class Room:
    """How many tokens there are for a prompt and its target: `each` for either, or `both` together with an end.

    policy: `refuse`, `drop` or `cut` (the source at its end, never a target: a model learns from its end to stop).
    """

    policy: str
    each: int | None = None
    both: int | None = None

    def most(self, target: int) -> int:
        """The most tokens of a prompt whose target has so many; below 1 where the target alone does not fit."""
        if self.both is not None:
            return self.both - 1 - target
        assert self.each is not None, "one of the two is given"
        return self.each if target <= self.each else 0


def rows(
    examples: Sequence[Example],
    spelling: Spelling,
    room: Room,
    counts: Counter[str],
    count: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """The pairs that fit. Counts what is left out, and why. count: hears how many of how many are encoded.

    Raises DataError for examples of another kind, for texts that the vocabulary cannot spell, and for too long ones
    where those are refused.
    """
    pairs = [_pair(example) for example in examples]
    whole = [pair for pair in pairs if pair.source.strip() and pair.target.strip()]
    counts[DROPPED_EMPTY] += len(pairs) - len(whole)
    found: list[Row] = []
    long: list[Row] = []
    for row in _encoded(whole, spelling, count):
        if len(row.prompt) and len(row.target) and len(row.prompt) <= room.most(len(row.target)):
            found.append(row)
        elif not len(row.target) or not len(row.prompt):
            counts[DROPPED_EMPTY] += 1
        elif room.policy == "cut" and (cut := _cut(row, spelling, room.most(len(row.target)))) is not None:
            counts[CUT] += 1
            found.append(cut)
        else:
            long.append(row)
    if long and room.policy == "refuse":
        raise _refused(long, len(pairs), room)
    counts[DROPPED_LONG] += len(long)
    return found


def _pair(example: Example) -> Pair:
    if isinstance(example, Pair):
        return example
    kind = kind_of(example)
    raise DataError(
        f"{example.origin.place}: a {kind}",
        expected="a pair: a text and what is to be written after it",
        fix='give records of {"source": ..., "target": ...}, or two files of lines (data.format: parallel), or use '
        "another task",
    )


def _encoded(pairs: Sequence[Pair], spelling: Spelling, count: Callable[[int, int], None]) -> list[Row]:
    found: list[Row] = []
    for start in range(0, len(pairs), AT_ONCE):
        some = pairs[start : start + AT_ONCE]
        count(start, len(pairs))
        try:
            prompts = spelling.prompts([pair.source for pair in some])
            targets = spelling.tokenizer.encode_many(pair.target for pair in some)
        except TokenizerError as error:
            if len(some) == 1:
                place = some[0].origin.place
                raise DataError(f"{place}: {error.what}", expected=error.expected, fix=error.fix) from None
            found += [_encoded([pair], spelling, lambda done, total: None)[0] for pair in some]  # which one?
            continue
        found += [
            Row(pair, np.array(prompt, np.int64), np.array(target, np.int64))
            for pair, prompt, target in zip(some, prompts, targets, strict=True)
        ]
    return found


def _cut(row: Row, spelling: Spelling, most: int) -> Row | None:
    """The pair with as much of its source, from the beginning, as `most` tokens hold; None where none of it fits."""
    low, high = 0, len(row.pair.source)  # so many characters fit, and so many do not
    best = None
    while high - low > 1:
        middle = (low + high) // 2
        source = row.pair.source[:middle].rstrip()
        prompt = spelling.prompts([source])[0] if source else []
        if len(prompt) <= most:
            low = middle
            best = (source, prompt) if source else None
        else:
            high = middle
    if best is None:
        return None
    return Row(replace(row.pair, source=best[0]), np.array(best[1], np.int64), row.target)


def _refused(long: Sequence[Row], count: int, room: Room) -> DataError:
    worst = max(long, key=lambda row: len(row.prompt) + len(row.target))
    prompt, target = len(worst.prompt), len(worst.target)
    if room.both is None:
        needed, expected = max(prompt, target) + 1, f"at most {room.each} of either"
    else:
        needed, expected = prompt + target, f"at most {room.both} with the end"
    return DataError(
        f"{len(long):,} of {count:,} pairs are too long; the longest, {worst.pair.origin.place}, has {prompt} and "
        f"{target} tokens",
        expected=expected,
        fix=f"set data.length={needed} if the model has so many positions, or data.too_long=drop, or cut (the source)",
    )


@dataclass(frozen=True)
class Sides:
    """Rows as a table of (prompt, target)."""

    held: Sequence[Row]

    def __len__(self) -> int:
        return len(self.held)

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        row = self.held[number]
        return row.prompt, row.target


def check_some(held: Sequence[Row], counts: Counter[str]) -> None:
    """Raises DataError where nothing is left to train on."""
    if not held:
        lost = ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)
        raise DataError(f"no pair is left to train on ({lost or 'there was none'})", expected="at least one")


def check_end(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids that end a text. Raises UsageError for a model that could never learn to stop."""
    if not tokenizer.eos_ids:
        raise UsageError(
            f"{tokenizer!r} has no token that ends a text, so a model could not learn to stop",
            fix="use a model whose tokenizer has one (</s>), or train a tokenizer with eos=</s>",
        )
    return tokenizer.eos_ids
