"""Recipes as files: YAML that names only what differs from typed defaults, and `key.sub=value` on top of it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, Event

from paddock.errors import DataError, UsageError, nearest

MAX_BYTES = 1 << 20
MAX_DEPTH = 16  # of nested mappings and lists
SHIPPED = Path(__file__).resolve().parent.parent / "recipes"

Recipe = TypeVar("Recipe", bound=BaseModel)


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def find(name: str) -> Path:
    """A recipe file, or a shipped one by its name. Raises UsageError with the nearest name."""
    known = shipped()
    path = Path(name)
    if name in known and not path.is_file():
        return known[name]
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml") or "/" in name:
        raise UsageError(f"there is no recipe file {name}", fix="`paddock recipe ls` shows those that are shipped")
    hint = nearest(name, known)
    raise UsageError(
        f"there is no recipe {name!r}",
        fix=f"did you mean {hint!r}?" if hint else f"one of {', '.join(known)}, or the path of a .yaml file",
    )


def read(path: Path) -> dict[str, Any]:
    """The mapping a recipe file holds, unchecked. Raises DataError for what is not plain YAML 1.2 of bounded size."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES >> 10} KiB", expected="a recipe")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start})", fix="save it as UTF-8") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> dict[str, Any]:
    """YAML text as a mapping: no key twice, no aliases, no tags, `1e-4` a number. `source` is for messages."""
    value = strict_yaml(text, source, "a recipe in YAML")
    if not isinstance(value, dict):
        raise DataError(f"{source} holds {type(value).__name__}", expected="a mapping of keys to values")
    return value


def strict_yaml(text: str, source: str, expected: str) -> Any:
    """YAML text as whatever it holds, read as strictly as a recipe. `source` and `expected` are for messages."""
    reader = YAML(typ="safe", pure=True)
    reader.allow_duplicate_keys = False
    try:
        _check_events(YAML(typ="safe", pure=True).parse(io.StringIO(text)), source)
        return reader.load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{source}: {_complaint(error)}", expected=expected) from None


def _check_events(events: Iterable[Event], source: str) -> None:
    """Refuses what makes YAML dangerous or surprising: anchors that multiply, tags, bottomless nesting."""
    depth = 0
    for event in events:
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            raise DataError(f"{source}: line {event.start_mark.line + 1} has an anchor or alias", fix="write it out")
        if (tag := getattr(event, "tag", None)) is not None:
            raise DataError(f"{source}: line {event.start_mark.line + 1} has the tag {str(tag)[:40]!r}")
        name = type(event).__name__
        depth += name.endswith(("MappingStartEvent", "SequenceStartEvent"))
        depth -= name.endswith(("MappingEndEvent", "SequenceEndEvent"))
        if depth > MAX_DEPTH:
            raise DataError(f"{source} is nested more than {MAX_DEPTH} deep")


def _complaint(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {what}" if mark is not None else str(what)[:200]


def write(values: Mapping[str, Any]) -> str:
    """A recipe as YAML text, which `parse` reads back to an equal mapping."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    out = io.StringIO()
    yaml.dump(dict(values), out)
    return out.getvalue()


def override(values: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """`values` with each `key.sub=value` put in; values are read as YAML. Raises UsageError."""
    result = _copied(values)
    for change in changes:
        path, equals, value = change.partition("=")
        if not equals or not path:
            raise UsageError(f"{change!r} is no setting", expected="key.sub=value")
        _put(result, path.split("."), parse(f"value: {value}" if value else "value: ''", change)["value"], change)
    return result


def _put(table: dict[str, Any], path: list[str], value: Any, change: str) -> None:
    for key in path[:-1]:
        inner = table.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"{change!r}: {key} is {inner!r}, which has no keys")
        table = inner
    table[path[-1]] = value


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def validated(kind: type[Recipe], values: Mapping[str, Any], source: str) -> Recipe:
    """The typed recipe. Raises UsageError naming the first wrong key, what was found, and the nearest known key."""
    try:
        return kind.model_validate(values, strict=False)
    except ValidationError as error:
        complaints = error.errors(include_url=False, include_context=False)
        # A key nobody knows is often why another is missing: it is told first.
        first = next((each for each in complaints if each["type"] == "extra_forbidden"), complaints[0])
        where = ".".join(str(part) for part in first["loc"]) or "the recipe"
        more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
        if first["type"] == "extra_forbidden":
            key = str(first["loc"][-1])
            hint = nearest(key, _keys(kind, first["loc"][:-1]))
            raise UsageError(
                f"{source}: there is no key {where}{more}", fix=f"did you mean {hint!r}?" if hint else None
            ) from None
        if first["type"] == "missing":
            raise UsageError(f"{source}: {where} is missing{more}") from None
        if first["type"] == "value_error":  # of several keys together: the message names them
            raise UsageError(f"{source}: {where}: {_expected(first['msg'])}{more}") from None
        found = str(first.get("input"))[:80]
        expected = _KINDS.get(first["type"]) or _expected(first["msg"])
        raise UsageError(f"{source}: {where} is {found}{more}", expected=expected) from None


_KINDS = {  # where pydantic's words tell of its parser
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "too_short": "a longer list",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
}


def _expected(message: str) -> str:
    text = message.removeprefix("Input should be ").removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _keys(kind: Any, path: Iterable[str | int]) -> list[str]:
    """The keys that a section of a recipe knows, found by walking the path from its top."""
    for part in path:
        fields = getattr(kind, "model_fields", None)
        if not fields or part not in fields:
            return []
        kind = _section(fields[part].annotation)
    return list(getattr(kind, "model_fields", {}))


def _section(annotation: Any) -> Any:
    """The pydantic model inside an annotation such as `Section | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section(inner)) is not None), None)
