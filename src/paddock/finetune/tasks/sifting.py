"""Examples to supervised sequences that fit a row; what does not fit is refused, or dropped, cut and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from paddock.data.instruct.records import Conversation, Example, Pair
from paddock.data.preparing.supervised import coded
from paddock.errors import DataError, PaddockError, TemplateError, TokenizerError
from paddock.finetune import gate
from paddock.finetune.tasks.turns import Reading, Turns, Unfit
from paddock.tokenizer.supervision import End, Supervised, Supervisor, pair
from paddock.tokenizer.tokenizer import Tokenizer


@dataclass
class Sifted:
    """sequences: complement-coded, and the place of the example of each. dropped: examples by reason; changed: what
    was done to others."""

    sequences: list[np.ndarray] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    examples: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    @property
    def counts(self) -> dict[str, int]:
        reasons = {f"dropped: {reason}": count for reason, count in self.dropped.items()}
        return {"examples": self.examples, "sequences": len(self.sequences), **reasons, **self.changed}

    def remarks(self, side: str) -> list[str]:
        """What happened to examples besides that they are learned, a line for each kind."""
        lost = [f"{side}: {count:,} examples dropped: {reason}" for reason, count in sorted(self.dropped.items())]
        return lost + [f"{side}: {count:,} {what}" for what, count in sorted(self.changed.items())]


@dataclass(frozen=True)
class Length:
    """most: tokens of a sequence. too_long: `refuse`, `drop` or `cut`; cut_answers: whether answers may lose their
    end. context: tokens that the model takes, None where it has no limit."""

    most: int
    too_long: str
    cut_answers: bool
    context: int | None = None


class TooLong(Unfit):
    """A sequence of more tokens than a row holds."""

    def __init__(self, tokens: int, most: int) -> None:
        super().__init__("too long", f"{tokens:,} tokens, and a row holds {most:,}")
        self.tokens = tokens


@dataclass(frozen=True)
class Sifter:
    """reading: how examples become messages. good, bad: supervisors for answers that people liked, and others; None
    where there is no template. drop: what cannot be learned is dropped, not refused."""

    reading: Reading
    good: Supervisor | None
    bad: Supervisor | None
    tokenizer: Tokenizer
    end: End
    length: Length
    drop: bool

    def sift(self, examples: Sequence[Example], count: Callable[[int, int], None]) -> Sifted:
        """count: hears how many of how many are done.

        Raises DataError (TemplateError, TokenizerError) naming the first of the examples that cannot be learned."""
        sifted, unfit = Sifted(), list[tuple[str, PaddockError]]()
        for number, example in enumerate(examples):
            count(number, len(examples))
            place = example.origin.place
            try:
                made = [self._checked(each) for each in self._supervised(example, sifted)]
            except (DataError, TemplateError, TokenizerError) as error:
                unfit.append((place, error))
                continue
            sifted.examples += 1
            sifted.sequences += made
            sifted.places += [place] * len(made)
        self._judge(unfit, len(examples), sifted)
        return sifted

    def _judge(self, unfit: list[tuple[str, PaddockError]], examples: int, sifted: Sifted) -> None:
        """Counts what is dropped; raises for what is not to be."""
        long = [(place, error) for place, error in unfit if isinstance(error, TooLong)]
        other = [(place, error) for place, error in unfit if not isinstance(error, TooLong)]
        if other and not (self.drop and sifted.examples):
            place, error = other[0]
            many = "" if len(unfit) == 1 else f" ({len(other):,} of {examples:,} examples cannot be learned; the first)"
            fix = "; ".join(filter(None, [error.fix, "task.unfit: drop leaves such examples out"]))
            kind = DataError if isinstance(error, Unfit) else type(error)
            raise kind(f"{place or 'an example'}: {error.what}{many}", expected=error.expected, fix=fix)
        if long and self.length.too_long != "drop":
            self._refuse_long(long, examples)
        sifted.dropped.update(error.reason if isinstance(error, Unfit) else _reason(error) for _, error in unfit)

    def _refuse_long(self, long: list[tuple[str, TooLong]], examples: int) -> None:
        place, error = max(long, key=lambda each: each[1].tokens)
        cut = self.length.too_long == "cut"
        what = " when only the last question and its answer are left" if cut else ""
        other = "task.cut_answers: true cuts answers, which then have no end" if cut else "or cut"
        needed, context = error.tokens - 1, self.length.context
        longer = (
            f"set data.length: {needed}"
            if context is None or needed <= context
            else f"the model takes {context:,} tokens: give it room first (paddock extend), or leave them out"
        )
        raise DataError(
            f"{len(long):,} of {examples:,} examples have more than {self.length.most:,} tokens{what}; "
            f"the longest, {place}, has {error.tokens:,}",
            fix=f"{longer}; data.too_long: drop; {other}",
        )

    def _checked(self, found: Supervised) -> np.ndarray:
        sequence = coded(found.ids, found.asked)
        fault = gate.fault(sequence, self.reading.learn == "all")
        if fault:
            raise Unfit(fault, fault)
        return sequence

    def _supervised(self, example: Example, sifted: Sifted) -> Iterator[Supervised]:
        if isinstance(example, Pair):
            if not example.target.strip():
                raise Unfit("an empty answer", "the target is empty")
            yield self._fitted(self._whole(pair(self.tokenizer, example.source, example.target, self.end)), sifted)
            return
        if isinstance(example, Conversation) and self.reading.joins(example.messages):
            sifted.changed["questions joined with their input, which the template does not read apart"] += 1
        for turns in self.reading.turns(example):
            self._note_stops(turns, sifted)
            yield from self._conversation(turns, sifted)

    def _note_stops(self, turns: Turns, sifted: Sifted) -> None:
        """A format that ends answers by ordinary text ends them within one, too."""
        if self.good is not None:
            found = filter(None, (self.good.stop_inside(turns.messages[number].content) for number in turns.learned))
            sifted.changed.update(f"answers spell {stop!r}, which will end their generation there" for stop in found)

    # Length

    def _conversation(self, turns: Turns, sifted: Sifted) -> Iterator[Supervised]:
        """Its sequences; where they are to be cut, each answer behind as many of the turns before it as fit."""
        found = self._sequences(turns)
        if self.length.too_long != "cut" or self._fit(found):
            for each in found:
                yield self._fitted(each, sifted)
            return
        pending = turns.learned
        sifted.changed["examples cut: early turns left out before later answers"] += 1
        while pending:
            stop = pending[-1] + 1
            starts = [n for n in range(stop) if turns.messages[n].role == "user"] or [0]
            for start in starts:
                window = replace(turns, learned=pending).window(start, stop)
                found = self._sequences(window)
                if self._fit(found) or start == starts[-1]:
                    break
            for each in found:
                yield self._fitted(each, sifted)
            pending = tuple(number for number in pending if number < start)

    def _fit(self, found: Sequence[Supervised]) -> bool:
        return all(len(each.ids) <= self.length.most for each in found)

    def _fitted(self, found: Supervised, sifted: Sifted) -> Supervised:
        """Raises TooLong for a sequence that may not be cut, or has nothing to learn then."""
        most = self.length.most
        if len(found.ids) <= most:
            return found
        asked = tuple((start, min(stop, most)) for start, stop in found.asked if start < most)
        if self.length.too_long != "cut" or not self.length.cut_answers or not asked:
            raise TooLong(len(found.ids), most)
        sifted.changed["answers cut: their end is not learned"] += 1
        return Supervised(found.ids[:most], asked)

    def _sequences(self, turns: Turns) -> list[Supervised]:
        supervisor = self.good if turns.good else self.bad
        assert supervisor is not None, "no template for a conversation"
        messages = [message.plain() for message in turns.messages]
        tools = [dict(tool) for tool in turns.tools] or None
        return [self._whole(each) for each in supervisor.sequences(messages, turns.learned, tools)]

    def _whole(self, found: Supervised) -> Supervised:
        return Supervised(found.ids, ((0, len(found.ids)),)) if self.reading.learn == "all" else found


def _reason(error: PaddockError) -> str:
    what = "vocabulary cannot spell" if isinstance(error, TokenizerError) else "template does not take"
    return f"the {what} them"
