"""Records as documents: which field is the text, and what of the rest is said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from paddock.data.document import Document
from paddock.data.reading.options import Broken, Options
from paddock.data.reading.parsing import parse_meta


def to_document(record: Any, place: str, text_field: str, options: Options) -> Document:
    """A record as a document; its other fields are the document's `meta`, those inside a field "meta" among them.

    A `meta` in a string (RedPajama on the Hub) is parsed. Where a record and its `meta` both have a field, the one in
    `meta` is called "meta.NAME". Raises Broken for a record that has no text.
    """
    if isinstance(record, str):
        return Document(checked(record, options), place)
    if not isinstance(record, Mapping):
        raise Broken("no record", f"the record is {kind(record)}, where an object or a text belongs")
    if text_field not in record:
        raise Broken(f"no field {text_field!r}", f"no field {text_field!r}", _which(record))
    text = record[text_field]
    if not isinstance(text, str):
        raise Broken(f"{text_field!r} is {kind(text)}", f"field {text_field!r} is {kind(text)}, where text belongs")
    meta = {str(key): plain(value) for key, value in record.items() if key not in (text_field, "meta")}
    inner = record.get("meta")
    if isinstance(inner, str):
        inner = parse_meta(inner)
    if isinstance(inner, Mapping):
        for key, value in inner.items():
            meta[f"meta.{key}" if str(key) in meta else str(key)] = plain(value)
    elif inner is not None:
        meta["meta"] = plain(inner)
    return Document(checked(text, options), place, meta)


def plain(value: Any, depth: int = 0) -> Any:
    """A value in JSON's types: dates, bytes and other things of Parquet and Python literals as their text.

    What JSON has no number for (NaN) becomes null.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth > 100:
        raise Broken("nested too deeply", "nested too deeply")
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item, depth + 1) for item in value]
    return value.hex() if isinstance(value, bytes) else str(value)


def checked(text: str, options: Options) -> str:
    """Text that UTF-8 can write: JSON may spell half a character (a lone surrogate)."""
    if len(text) > options.limit:
        raise Broken(
            "too long", f"{len(text)} characters, where {options.limit} are allowed", "allow more with --limit"
        )
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        if options.errors == "strict":
            half = f"U+{ord(text[error.start]):04X}"
            raise Broken("half a character", f"character {error.start} of the text is {half}, half of one") from None
        return text.encode("utf-8", options.errors).decode("utf-8")
    return text


def _which(record: Mapping[str, Any]) -> str:
    if "quality_signals" in record:
        return "these are RedPajama v2's quality signals: read the documents beside them"
    texts = [key for key, value in record.items() if isinstance(value, str)]
    if not texts:
        return "the record has no text at all; its fields are " + (", ".join(map(str, record)) or "none")
    return f"name the field with --text-field: {', '.join(map(repr, texts[:8]))}"


def kind(value: Any) -> str:
    """A JSON value's kind, in words."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", bytes: "bytes"}
    return names.get(type(value), "an object" if isinstance(value, Mapping) else type(value).__name__)
