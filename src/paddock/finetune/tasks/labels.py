"""Labelled examples as rows: what their labels are called, and how their texts are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from paddock.data.instruct.records import Example, kind_of
from paddock.data.instruct.records import Labelled as LabelledExample
from paddock.data.preparing.labelled import Labelled, LabelledTable, Layout, layout_of
from paddock.errors import DataError, UsageError
from paddock.finetune.tasks.asked import Material
from paddock.finetune.tasks.heads import padding_of
from paddock.model.spec import Architecture, Causal, Full
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.training import objectives

MOST_CLASSES = 10_000
AT_ONCE = 1000  # examples encoded together


def labelled(examples: Sequence[Example]) -> list[LabelledExample]:
    """The examples, which must all have a label and something to read. Raises DataError naming the first other."""
    found = []
    for example in examples:
        if not isinstance(example, LabelledExample):
            kind = kind_of(example)
            raise DataError(
                f"{example.origin.place}: a {kind}",
                expected="one or two texts and their label",
                fix="see data.format (`paddock data inspect` says what a file holds), or use another task",
            )
        if not 1 <= len(example.texts) <= 2 or not all(text.strip() for text in example.texts):
            empty = f"{len(example.texts)} texts" if not 1 <= len(example.texts) <= 2 else "an empty text"
            raise DataError(f"{example.origin.place}: {empty}", expected="one text or two, none of them empty")
        found.append(example)
    return found


def class_of(example: LabelledExample) -> str:
    """The name of an example's class. Raises DataError for a number that is not whole, and for several classes."""
    label = example.label
    if isinstance(label, str):
        return label
    if isinstance(label, tuple):
        raise DataError(
            f"{example.origin.place}: {len(label)} labels",
            expected="one, as classes exclude each other",
            fix="say task.multiple=true where several classes may apply",
        )
    if not float(label).is_integer():
        raise DataError(
            f"{example.origin.place}: the label is {label}", expected="the name or number of a class", fix=REGRESS
        )
    return str(int(label))


def classes_that_apply(example: LabelledExample) -> tuple[str, ...]:
    """The names of all of an example's classes, in the order it has them. Raises DataError for one given twice."""
    if not isinstance(example.label, tuple):
        return (class_of(example),)
    if len(set(example.label)) < len(example.label):
        raise DataError(f"{example.origin.place}: a label is there twice", expected="each class that applies, once")
    return example.label


REGRESS = "use task.name=regress for numbers that are measured, not counted"


def classes_of(examples: Sequence[LabelledExample], multiple: bool = False) -> list[str]:
    """The classes that are there, in order: by number where all are whole numbers, else by name. multiple: whether an
    example may have several.

    Raises DataError for fewer than two, for far too many, and where some labels are text and others numbers.
    """
    first: dict[str, LabelledExample] = {}
    for example in examples:
        for name in classes_that_apply(example) if multiple else (class_of(example),):
            first.setdefault(name, example)
    names = first.keys()
    numbers = [name for name in names if name.removeprefix("-").isdecimal() and name.isascii()]
    if words := sorted(names - set(numbers)) if numbers else []:
        raise DataError(
            f"{first[words[0]].origin.place} has the label {words[0][:40]!r}, and {first[numbers[0]].origin.place} the "
            f"number {numbers[0]}",
            expected="labels that are all words, or all numbers",
            fix="is one of them a line of headings, or of another file? Else spell them alike",
        )
    if len(names) < 2:
        raise DataError(
            f"all {len(examples)} examples have the label {next(iter(names), 'none')[:40]!r}",
            expected="at least two classes to tell apart",
        )
    if len(names) > MOST_CLASSES:
        raise DataError(f"{len(names)} classes", expected=f"at most {MOST_CLASSES}", fix=REGRESS)
    return sorted(names, key=int) if numbers else sorted(names)


def number_of(example: LabelledExample) -> float:
    """An example's number. Raises DataError where its label is none."""
    try:
        number = float(example.label)  # type: ignore[arg-type]  # of several labels: refused below
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(
            f"{example.origin.place}: the label is {str(example.label)[:40]!r}",
            expected="a number",
            fix="use task.name=classify for names",
        )
    return number


@dataclass
class Rows:
    """Labelled texts on their way to a table, and what became of those that are too long. count: hears how many of how
    many are encoded."""

    tokenizer: Tokenizer
    layout: Layout
    length: int
    too_long: str
    count: Callable[[int, int], None]
    cut: int = 0
    dropped: int = 0
    longest: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def table(self, examples: Sequence[LabelledExample], labels: np.ndarray) -> LabelledTable:
        """labels (examples,). Raises DataError for a text that is too long, where that is not to be mended."""
        encoded = self._encoded(examples)
        ids, seconds, kept = [], [], []
        for number, example in enumerate(examples):
            parts: list[Sequence[int]] = [next(encoded) for _ in example.texts]
            size = sum(map(len, parts)) + self.layout.around(len(parts))
            self.longest = max(self.longest, size)
            if size > self.length:
                if self.too_long == "refuse":
                    raise DataError(
                        f"{example.origin.place}: {size} tokens",
                        expected=f"at most {self.length} (data.length)",
                        fix="raise data.length, or say data.too_long=cut (or drop)",
                    )
                if self.too_long == "drop":
                    self.dropped += 1
                    continue
                self.cut += 1
                parts = self.layout.cut(parts, self.length)
            row, second = self.layout.join(parts)
            ids.append(np.array(row, np.int32))
            seconds.append(second)
            kept.append(number)
        if not ids:
            raise DataError(f"every example has more than {self.length} tokens", fix="raise data.length")
        return LabelledTable(ids, np.array(seconds, np.int64), labels[kept])

    def _encoded(self, examples: Sequence[LabelledExample]) -> Iterator[list[int]]:
        """The ids of every text, in order."""
        for start in range(0, len(examples), AT_ONCE):
            self.count(start, len(examples))
            some = examples[start : start + AT_ONCE]
            yield from self.tokenizer.encode_many(text for example in some for text in example.texts)

    def shown(self, table: LabelledTable, names: Sequence[str] = ()) -> str:
        """The first row as it is read, and what is asked of it."""
        ids, _, label = table.texts(0)
        if label.ndim == 2:
            answer = ", ".join(name for name, applies in zip(names, label[0], strict=True) if applies) or "none"
        else:
            answer = names[int(label[0])] if names else f"{label[0]:g}"
        return f"the first row: {self.tokenizer.decode(ids.tolist(), skip_special=False)[:400]} -> {answer}"

    @property
    def told(self) -> list[str]:
        """What a user should know of the lengths."""
        said = f"texts of up to {self.longest} tokens, rows of at most {self.length}"
        lost = [f"{self.cut:,} were cut" if self.cut else "", f"{self.dropped:,} were left out" if self.dropped else ""]
        return ["; ".join([said, *filter(None, lost)])]


def rows_of(given: Material) -> Rows:
    """How the material's texts become rows. Raises UsageError for a model that does not read such texts."""
    architecture, tokenizer = given.architecture, given.tokenizer
    check_reads(architecture)
    objectives.check_length(architecture, given.length)
    objectives.check_vocabulary(tokenizer, architecture)
    layout = layout_of(tokenizer, architecture.embedding.segments)
    if given.length <= layout.around(2):
        raise UsageError(f"data.length is {given.length}", expected=f"more than the {layout.around(2)} marks of a pair")
    return Rows(tokenizer, layout, given.length, given.too_long, given.count)


def check_reads(architecture: Architecture) -> None:
    """Raises UsageError for a model that makes no one vector of a text."""
    if architecture.encoder is not None or not isinstance(architecture.mask, Full | Causal):
        raise UsageError(
            f"{architecture.family} makes no one vector of a text",
            expected="an encoder such as BERT, or a decoder such as LLaMA",
        )


def prepare_of(given: Material) -> Labelled:
    """How the rows become batches."""
    return Labelled(given.length, padding_of(given.tokenizer), given.architecture.embedding.segments >= 2)


def shares(counts: Mapping[str, int], examples: int) -> str:
    """ "0: 3,310 (47.8 %), 1: 3,610 (52.2 %)", shares of the examples; of many classes the commonest only."""
    most = sorted(counts.items(), key=lambda item: -item[1])[:20]
    said = ", ".join(f"{name}: {count:,} ({count / examples:.1%})" for name, count in most)
    return said + (f" and {len(counts) - 20} more" if len(counts) > 20 else "")
