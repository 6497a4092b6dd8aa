"""Rows of a Parquet file, a few at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from paddock.errors import DataError

ROWS = 64  # at once
MAX_GROUP = 2**33  # bytes of one row group, unpacked
THRIFT = 2**26  # bytes or entries in the file's own description
# What a schema of our own examples says: that nulls are fields that are not there, and which strings are JSON.
OURS = {"paddock": "examples"}
JSON_FIELD = {"paddock": "json"}


def rows(path: Path, text_field: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row from 1, record), whatever the columns are. Raises DataError for what is corrupt, truncated or oversized."""
    limits = {"thrift_string_size_limit": THRIFT, "thrift_container_size_limit": THRIFT, "pre_buffer": False}
    try:
        with parquet.ParquetFile(path, **limits) as file:
            known = text_field in file.schema_arrow.names
        repeated = [text_field] if known else None  # a text repeated a million times is held once
        with parquet.ParquetFile(path, read_dictionary=repeated, **limits) as file:
            about = file.metadata
            own = _says(file.schema_arrow.metadata, OURS)
            given = {field.name: _as_it_was(field) for field in file.schema_arrow} if own else {}
            for group in range(about.num_row_groups):
                if about.row_group(group).total_byte_size > MAX_GROUP:
                    raise DataError(f"{path}: row group {group} unpacks to more than {MAX_GROUP >> 30} GiB")
            number = 0
            for batch in file.iter_batches(batch_size=ROWS, use_threads=False):
                columns = [
                    (field.name, column, given.get(field.name))
                    for field, column in zip(batch.schema, batch.columns, strict=True)
                ]
                for row in range(batch.num_rows):  # one by one: a long text is not copied for each of its rows at once
                    number += 1
                    record = {name: _read(column[row].as_py(), as_it_was) for name, column, as_it_was in columns}
                    yield (
                        number,
                        {name: value for name, value in record.items() if value is not None} if own else record,
                    )
            if number != about.num_rows:
                raise DataError(f"{path} says it has {about.num_rows} rows, and has {number}")
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        why = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise DataError(f"{path} cannot be read as Parquet: {why}", fix="copy or download it again") from None


Change = Callable[[Any], Any]


def _says(metadata: dict[bytes, bytes] | None, expected: dict[str, str]) -> bool:
    return all((metadata or {}).get(name.encode()) == said.encode() for name, said in expected.items())


def _as_it_was(field: pyarrow.Field) -> Change | None:
    """What makes a column's values what they were before they were written."""
    if _says(field.metadata, JSON_FIELD):
        return _parsed
    turns = getattr(field.type, "value_type", None)
    if turns is None or not pyarrow.types.is_struct(turns):
        return None
    parsed = {each.name for each in turns if _says(each.metadata, JSON_FIELD)}

    def turn(each: dict[str, Any] | None) -> dict[str, Any]:
        return {
            name: _parsed(said) if name in parsed else said for name, said in (each or {}).items() if said is not None
        }

    return lambda value: [turn(each) for each in value]


def _parsed(text: Any) -> Any:
    """A JSON value; a string that is none stays as it is."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return text


def _read(value: Any, change: Change | None) -> Any:
    return value if change is None or value is None else change(value)
