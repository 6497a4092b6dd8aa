"""What readers of all formats share: fields of a record, checked, and where an example is from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from paddock.data.instruct.options import Options
from paddock.data.instruct.records import Example, Message, Origin
from paddock.data.reading.options import Broken
from paddock.data.reading.parsing import parse_meta
from paddock.data.reading.reader import SKIP
from paddock.data.reading.records import checked, kind, plain
from paddock.errors import DataError

MAX_DEPTH = 200  # levels of a record; a tree of messages takes two for each reply
MAX_MESSAGES = 10_000  # of one example
MAX_NAME = 200  # characters of an id, a language, a licence
NO_INPUT = {"<noinput>", "noinput", "<no input>", "no input", "<无输入>", "无输入"}
KNOWN_OF_ORIGIN = {"language": ("language", "lang"), "licence": ("licence", "license"), "source": ("dataset", "source")}

Record = Mapping[str, Any]


class Dropped(Exception):
    """A record that is sound and of no use, and the reason it is counted under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Taking:
    """One record being read: its place, and where it is counted what is mended in it."""

    options: Options
    place: str
    file: str
    mended: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def refuse(self, place: str, broken: Broken) -> None:
        """Counts what is wrong with a record, or raises it as a DataError, as `on_error` says."""
        if self.options.on_error != "skip":
            raise DataError(f"{place}: {broken.what}", fix=broken.fix or SKIP)
        self.dropped[broken.reason] += 1

    def origin(self, record: Record, used: Iterable[str], id: Any = None, **more: Any) -> Origin:
        """Where it is from; what `used` does not name becomes meta. `more` goes into meta too."""
        options, known = self.options, set(used)
        inner = record.get("meta") if "meta" not in known else None
        inner = parse_meta(inner) if isinstance(inner, str) else inner
        group = record.get("group") if "group" not in known and _short(record.get("group")) else None
        known |= ({"meta"} if isinstance(inner, Mapping) else set()) | ({"group"} if group else set())
        said: dict[str, str | None] = {}
        for name, spellings in KNOWN_OF_ORIGIN.items():
            where = next((key for key in spellings if key not in known and _short(record.get(key))), None)
            said[name] = getattr(options, name)
            if where is not None:
                said[name] = str(record[where])
                known.add(where)
        if id is None and "id" not in known and isinstance(record.get("id"), int | str):
            id = record["id"]
            known.add("id")
        meta = {str(key): plain(value) for key, value in record.items() if key not in known and value is not None}
        for key, value in inner.items() if isinstance(inner, Mapping) else ():
            meta[f"meta.{key}" if str(key) in meta else str(key)] = plain(value)
        meta |= {key: plain(value) for key, value in more.items() if value not in (None, "")}
        short = str(id)[:MAX_NAME] if id is not None else None
        return Origin(self.place, short, said["source"] or self.file, said["language"], said["licence"], meta, group)


def _short(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME


@dataclass(frozen=True)
class Format:
    """One way to write examples down.

    title: in words, with its fields. fits: whether a record looks like it, by its fields and what is in them.
    read: its examples; raises Broken where the record is wrong, Dropped where it is of no use.
    gathered: `read` takes all records of a file at once, as messages of one tree lie in many of them.
    """

    name: str
    title: str
    fits: Callable[[Record], bool]
    read: Callable[[Record, Taking], Iterable[Example]]
    gathered: Callable[[Iterator[tuple[str, Record]], Taking], Iterator[Example]] | None = None


def text(record: Record, name: str) -> str:
    """A field that has to be there and be text."""
    if name not in record:
        fields = ", ".join(repr(str(key)) for key in list(record)[:12])
        raise Broken(f"no field {name!r}", f"no field {name!r}; its fields are {fields or 'none'}")
    return some_text(record[name], name)


def some_text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Broken(f"{name!r} is {kind(value)}", f"field {name!r} is {kind(value)}, where text belongs")
    return value


def maybe(record: Record, name: str) -> str:
    """A field that may be missing or null, which count as empty."""
    return "" if record.get(name) is None else some_text(record[name], name)


def filled(value: str, name: str) -> str:
    """Text that is more than blanks. Raises Dropped."""
    if not value.strip():
        raise Dropped(f"empty {name}")
    return value


def listed_records(record: Record, name: str) -> list[Record]:
    """A field that is a list of objects."""
    value = record.get(name)
    if not isinstance(value, list):
        raise Broken(f"{name!r} is {kind(value)}", f"field {name!r} is {kind(value)}, where a list belongs")
    if len(value) > MAX_MESSAGES:
        raise Broken(f"{name!r} is too long", f"field {name!r} has {len(value):,} entries; {MAX_MESSAGES:,} may be")
    for place, each in enumerate(value):
        if not isinstance(each, Mapping):
            raise Broken(
                f"{name!r} holds {kind(each)}", f"field '{name}[{place}]' is {kind(each)}, where an object belongs"
            )
    return value


def asked_and_answered(instruction: str, given: str, answer: str, taking: Taking) -> tuple[Message, ...]:
    """One turn each. The input of an instruction is the message's `input`, which Alpaca's template reads."""
    if given.strip().lower() in NO_INPUT:
        taking.mended["input says that there is none"] += 1
        given = ""
    if not instruction.strip() and given.strip():
        taking.mended["input without an instruction"] += 1
        instruction, given = given, ""
    user = Message("user", filled(instruction, "instruction"), more={"input": given} if given.strip() else {})
    return user, Message("assistant", filled(answer, "output"))


def sound(value: Any, options: Options, where: str = "", depth: int = 0) -> Any:
    """The value, every text of which UTF-8 can write, not nested too deeply. Raises Broken naming the field."""
    if isinstance(value, str):
        if value.isascii() and len(value) <= options.record_bytes:
            return value
        try:
            return checked(value, options.container)
        except Broken as broken:
            raise Broken(broken.reason, f"field {where!r}: {broken.what}", broken.fix) from None
    if isinstance(value, Mapping):
        if depth >= MAX_DEPTH:
            raise Broken("nested too deeply", f"nested more than {MAX_DEPTH} deep")
        inside = f"{where}." if where else ""
        return {
            sound(str(key), options, where): sound(item, options, f"{inside}{key}", depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        if depth >= MAX_DEPTH:
            raise Broken("nested too deeply", f"nested more than {MAX_DEPTH} deep")
        return [sound(item, options, f"{where}[{place}]", depth + 1) for place, item in enumerate(value)]
    return value
