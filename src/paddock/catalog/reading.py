"""One file of the catalogue, read with every refusal in words: the file, the entry, the field, and what to do."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from paddock.catalog.schema import Application, Dataset, File, Licence, Model, Score, Size, Source, Tokenizer
from paddock.errors import DataError, did_you_mean

MAX_BYTES = 2 << 20
MOST = 5000  # entries of a kind in one file
DEEPEST_KEY = 16  # parts of a dotted key: what reads them takes time with their square
GUIDE = "docs/catalogue.md says what a field may hold"

TABLES: dict[str, type[BaseModel]] = {
    "source": Source,
    "model": Model,
    "dataset": Dataset,
    "application": Application,
    "sizes": Size,
    "scores": Score,
    "licence": Licence,
    "licence_code": Licence,
    "tokenizer": Tokenizer,
}
_STRINGS = re.compile(r"'[^'\n]*'|\"(?:[^\"\\\n]|\\.)*\"")
_LONG_KEY = re.compile(rf"(?<![\w \t-])(?:[ \t]*+[\w-]*+[ \t]*+\.){{{DEEPEST_KEY}}}")


def read(path: Path) -> File:
    """One file. Raises DataError for what is not TOML of bounded size in the schema."""
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES >> 20} MiB", expected="a file of the catalogue")
    values = _values(path, data)
    for kind, entries in values.items():
        if kind not in File.model_fields:
            fix = did_you_mean(kind, File.model_fields) or GUIDE
            raise DataError(
                f"{path}: {kind[:80]}: there is no such table", expected=", ".join(File.model_fields), fix=fix
            )
        if isinstance(entries, list | dict) and len(entries) > MOST:
            raise DataError(f"{path}: {len(entries):,} tables {kind}", expected=f"at most {MOST:,} in one file")
    try:
        return File.model_validate(values)
    except ValidationError as error:
        raise _refusal(path, data.decode("utf-8-sig"), values, error) from None
    except RecursionError:
        raise DataError(f"{path}: its tables are nested too deeply", fix=GUIDE) from None


def _values(path: Path, data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line} is not UTF-8 (byte {error.start})", fix="save it as UTF-8") from None
    if match := _LONG_KEY.search(_STRINGS.sub("", text)):
        raise DataError(f"{path}: a key of {DEEPEST_KEY} parts or more, {match.group().strip()[:60]!r}", fix=GUIDE)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is not TOML: {error}", fix="mend that line") from None
    except RecursionError:
        raise DataError(f"{path}: its values are nested too deeply", fix=GUIDE) from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path} is not TOML: {error}") from None


def _refusal(path: Path, text: str, values: Mapping[str, Any], error: ValidationError) -> DataError:
    """The first thing that is wrong, by the names a reader knows it by, and its line; how much else there is."""
    found = error.errors(include_url=False)
    first = found[0]
    where = _where(first["loc"], values)
    what, expected, fix = _complaint(first)
    given = first.get("input")
    if first["loc"][:1] == ("source",) and isinstance(given, dict) and any(isinstance(v, dict) for v in given.values()):
        fix = f'a key with dots stands in quotes: [source."{first["loc"][1]}.{next(iter(given))}"]'
    line = _line(text, first["loc"])
    at = f" (in the table of line {line})" if line else ""
    more = f" (and {len(found) - 1} more in this file)" if len(found) > 1 else ""
    return DataError(f"{path}: {where}{what}{at}{more}", expected=expected, fix=fix or GUIDE)


def _line(text: str, loc: Sequence[int | str]) -> int | None:
    """The line of the innermost table that a place is in, as files are usually written: under a header of its own."""
    found, name = None, ""
    start, end = 0, len(text)
    for step, after in zip(loc, (*loc[1:], None), strict=True):
        if not isinstance(step, str):
            continue
        name = f"{name}.{step}" if name else step
        header = re.compile(rf"^[ \t]*\[\[?[ \t]*{re.escape(name)}[ \t]*\]", re.MULTILINE)
        places = [*itertools.islice(header.finditer(text, start, end), MOST)]
        number = after if isinstance(after, int) else 0
        if number < len(places):
            end = places[number + 1].start() if number + 1 < len(places) else end
            start = places[number].end()
            found = text.count("\n", 0, start) + 1
    return found


def _where(loc: Sequence[int | str], values: Any) -> str:
    """The place of an error: model 'llama-1', size '7b', field parameters. Entries by their ids, or counted from 1."""
    words: list[str] = []
    here, kind = values, ""
    for step in loc:
        if isinstance(step, int):
            here = here[step] if isinstance(here, Sequence) and step < len(here) else None
            name = here.get("id", here.get("name", here.get("benchmark"))) if isinstance(here, Mapping) else None
            words[-1:] = [f"{kind} {name!r}" if isinstance(name, str) else f"{kind} number {step + 1}"]
            continue
        here = here.get(step) if isinstance(here, Mapping) else None
        if words == ["source"]:
            words = [f"source {step!r}"]
            continue
        kind = {"sizes": "size", "scores": "score"}.get(step, step)
        words.append(kind)
    return ", ".join(words) + ": " if words else ""


def _complaint(error: Any) -> tuple[str, str | None, str | None]:
    """What is wrong, what was expected, and the fix, of one error of pydantic's."""
    kind, given, context = error["type"], error.get("input"), error.get("ctx", {})
    if kind == "extra_forbidden":
        return "there is no such field", None, did_you_mean(str(error["loc"][-1]), _fields(error["loc"]))
    if kind == "missing":
        return "is missing", None, None
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        return f"{_quoted(given)} is none of those known", ", ".join(known), did_you_mean(str(given), known)
    if kind == "value_error":
        return str(context["error"]), None, None
    if kind == "string_pattern_mismatch":
        return f"{_quoted(given)} is not of the form asked for", context["pattern"], None
    if kind in ("tuple_type", "list_type"):
        return f"{_quoted(given)} is no list", "values in square brackets", None
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{_quoted(given)} is no table", "a table, or several", None
    message = str(error["msg"])
    return f"{_quoted(given)}: {message[:1].lower()}{message[1:]}", None, None


def _fields(loc: Sequence[int | str]) -> list[str]:
    """The names of the fields that the table at a place may have."""
    tables = [TABLES[step] for step in loc[:-1] if isinstance(step, str) and step in TABLES]
    return list((tables[-1] if tables else File).model_fields)


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
