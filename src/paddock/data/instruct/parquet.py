"""Examples as Parquet: text, numbers, lists of messages in columns of their own; what is of no one type as JSON.

Turns become lists of structs, as the Hub's sets have them. The file's own schema says which columns (and which fields
of turns) are JSON in a string and that a null is a field that is not there: so `reading.tables` gives back what was
written.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from paddock.data.reading.tables import JSON_FIELD, OURS
from paddock.data.writing import json_bytes

ROWS = 1000  # of a row group
WORDS, NOTHING, EMPTY, JSON = "words", "nothing", "empty", "json"
PLAIN = {str: "text", bool: "truth", int: "whole", float: "number"}

Kind = str | dict[str, str]  # of a column; of a list of turns, its fields by name


def write(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Writes rows at `path`. They are held on the disk meanwhile: only when all are known is their schema. Equal rows
    make equal bytes."""
    import pyarrow  # takes a second
    from pyarrow import parquet

    kinds: dict[str, Kind] = {}
    with tempfile.TemporaryFile(dir=path.parent) as held:
        for row in rows:
            for name, value in row.items():
                kinds[name] = _merged(kinds.get(name, NOTHING), _kind(value))
            held.write(json_bytes(dict(row)) + b"\n")
        held.seek(0)
        schema = pyarrow.schema([_field(name, kind) for name, kind in kinds.items()], metadata=OURS)
        with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            for some in _pieces(held):
                columns = [
                    pyarrow.array([_cell(row.get(name), kinds[name]) for row in some], schema.field(name).type)
                    for name in kinds
                ]
                writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))


def _kind(value: Any) -> Kind:
    if value is None:
        return NOTHING
    if not isinstance(value, list):
        return _scalar(value)
    if not value:
        return EMPTY
    if all(isinstance(each, str) for each in value):
        return WORDS
    if all(isinstance(each, dict) and each for each in value):
        fields: dict[str, str] = {}
        for each in value:
            for name, said in each.items():
                fields[name] = _merged_scalars(fields.get(name, NOTHING), _scalar(said))
        return fields
    return JSON


def _scalar(value: Any) -> str:
    if value is None:
        return JSON  # a field that is there and says nothing is no field that is missing
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return JSON
    return PLAIN.get(type(value), JSON)


def _merged_scalars(one: str, other: str) -> str:
    return other if one in (NOTHING, other) else one if other == NOTHING else JSON


def _merged(one: Kind, other: Kind) -> Kind:
    if isinstance(one, dict) and isinstance(other, dict):
        names = {**one, **other}
        return {name: _merged_scalars(one.get(name, NOTHING), other.get(name, NOTHING)) for name in names}
    for a, b in ((one, other), (other, one)):
        if a == NOTHING or (a == EMPTY and (isinstance(b, dict) or b == WORDS)):
            return b
    return one if one == other else JSON


def _field(name: str, kind: Kind) -> Any:
    import pyarrow

    if isinstance(kind, dict):
        struct = pyarrow.struct([_field(each, said) for each, said in kind.items()])
        return pyarrow.field(name, pyarrow.large_list(struct))
    types = {
        "truth": pyarrow.bool_(),
        "whole": pyarrow.int64(),
        "number": pyarrow.float64(),
        WORDS: pyarrow.large_list(pyarrow.large_string()),
        EMPTY: pyarrow.large_list(pyarrow.large_string()),
    }
    return pyarrow.field(name, types.get(kind, pyarrow.large_string()), metadata=JSON_FIELD if kind == JSON else None)


def _cell(value: Any, kind: Kind) -> Any:
    """A value as its column holds it; None is a field that is not there, or says nothing."""
    if isinstance(kind, dict) and value is not None:
        return [
            {name: json_bytes(said).decode() if kind[name] == JSON else said for name, said in each.items()}
            for each in value
        ]
    return json_bytes(value).decode("utf-8") if kind == JSON and value is not None else value


def _pieces(held: IO[bytes]) -> Iterator[Sequence[dict[str, Any]]]:
    some: list[dict[str, Any]] = []
    for line in held:
        some.append(json.loads(line))
        if len(some) == ROWS:
            yield some
            some = []
    if some:
        yield some
