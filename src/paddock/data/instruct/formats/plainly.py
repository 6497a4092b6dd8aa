"""Formats without a conversation: pairs, texts with a class, texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from paddock.data.instruct.records import Example, Labelled, Pair, Text
from paddock.data.instruct.taking import Format, Record, Taking, filled, some_text
from paddock.data.reading.detecting import shape_of
from paddock.data.reading.options import Broken
from paddock.data.reading.records import kind, to_document

TEXTS = (
    ("text",),
    ("sentence",),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("text1", "text2"),
    ("question", "sentence"),
)
LABELS = ("label", "labels", "score")


def _names(record: Record) -> tuple[tuple[str, ...], str] | None:
    """The fields of the texts and of the class. A score is one of two texts only: crawled documents have scores."""
    texts = next((names for names in TEXTS if record.keys() >= set(names)), ())
    labels = LABELS if len(texts) == 2 else LABELS[:2]
    label = next((name for name in labels if _tells(record.get(name))), None)
    return (texts, label) if label and texts else None


def _labelled(record: Record, taking: Taking) -> Iterable[Example]:
    names = _names(record)
    if names is None:
        raise Broken("no text or no label", "no fields of a text and its class", "name them: fields text and label")
    texts = tuple(filled(some_text(record[name], name), name) for name in names[0])
    yield Labelled(texts, label_of(record[names[1]], names[1]), taking.origin(record, (*names[0], names[1])))


def _tells(value: Any) -> bool:
    """Whether it can be a class, a number, or a list of classes."""
    return isinstance(value, str | int | float) or (
        isinstance(value, list) and all(isinstance(each, str | int) for each in value)
    )


def label_of(value: Any, name: str = "label") -> str | float | tuple[str, ...]:
    """A class is text, whatever it is spelt as; a number with a fraction stays one; a list says all that apply."""
    if isinstance(value, float):
        return value
    if isinstance(value, list) and _tells(value):
        return tuple(filled(str(each).strip(), name) for each in value)
    if isinstance(value, str | int):  # true and false among them
        return filled(str(value).strip(), name)
    raise Broken(f"{name!r} is {kind(value)}", f"field {name!r} is {kind(value)}, where a class or a number belongs")


def joined(value: Any, name: str) -> str:
    """A text, or one in sentences."""
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return " ".join(each.strip() for each in value)
    return some_text(value, name)


def _source_target(record: Record, taking: Taking) -> Iterable[Example]:
    source = filled(joined(record.get("source"), "source"), "source")
    target = record.get("target")
    others = []
    if isinstance(target, list) and target and all(isinstance(each, str) for each in target):
        target, *others = target  # several references, one target: the others are known of
    told = filled(some_text(target, "target"), "target")
    yield Pair(source, told, taking.origin(record, ("source", "target"), references=others or None))


def _text(record: Record, taking: Taking) -> Iterable[Example]:
    field = shape_of(record, "text")[1]  # cc_net has another
    document = to_document(record, taking.place, field, taking.options.container)
    origin = taking.origin(document.meta, ())
    yield Text(filled(document.text, "text"), origin)


def _is_pair(record: Record) -> bool:
    return record.keys() >= {"source", "target"} and isinstance(record["source"], str | list)


FORMATS = [
    Format("pairs", "pairs: source, target", _is_pair, _source_target),
    Format("labelled", "a text or two and a label", lambda record: _names(record) is not None, _labelled),
    Format("text", "texts", lambda record: isinstance(record.get(shape_of(record, "text")[1]), str), _text),
]
