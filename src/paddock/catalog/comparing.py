"""What is known of an entry, fact by fact with the source of each, and several entries side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddock.catalog import languages
from paddock.catalog.catalogue import EDGES, Catalogue, Found, source_key
from paddock.catalog.schema import Licence, Model, Score, Size, Tokenizer
from paddock.errors import UnsupportedError

if TYPE_CHECKING:
    from paddock.model.spec import Architecture

UNITS = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
STATED = re.compile(r"^(?:about |~)?(\d{1,6}(?:\.\d{1,3})?)\s?([kmbt])(?=$|,| \()", re.IGNORECASE | re.ASCII)
STATED_ACTIVE = re.compile(r"\b(\d{1,6}(?:\.\d{1,3})?)\s?([kmbt]) active\b", re.IGNORECASE | re.ASCII)
# Bits that a parameter takes: a bf16 number; codes of 8 and 4 bits with a 16-bit scale for each 32 (Q8_0, Q4_0).
BITS = {"bf16": 16.0, "8 bits": 8.5, "4 bits": 4.5}
MOST = 6  # entries side by side
LABELS = {
    "organisation": "organisation", "released": "released", "family": "family", "branch": "branch", "kind": "kind",
    "tasks": "for", "method": "method", "base": "made from", "teachers": "taught by", "data": "trained on",
    "made_with": "written by", "made_from": "made from", "uses": "uses", "languages": "languages", "access": "access",
    "licence": "licence", "licence_code": "licence of code", "context": "context", "tokenizer": "tokenizer",
    "training_tokens": "training tokens", "size": "size", "records": "records", "tokens": "tokens",
    "hardware": "hardware", "cost": "cost", "parameters": "parameters", "active": "active for a token",
    "stated": "called", "published": "published count", "hub": "on the hub", "url": "address",
}  # fmt: skip
OF_SIZE = ("parameters", "active", "stated", "published", "hub")
TOKENS = ("training_tokens", "tokens")
COUNTS = (*TOKENS, "records", "parameters", "active", "published", "context")


@dataclass(frozen=True)
class Fact:
    """One thing that is known. value: as it lies in the file; text: for people; source: a source's key, None for what
    is worked out here."""

    field: str
    label: str
    value: Any
    text: str
    source: str | None


def facts(found: Found) -> list[Fact]:
    """What is known of an entry, in a fixed order; of a size too where the name says which. What is not known is left
    out."""
    asset, size = found.asset, found.size
    told = []
    for field, label in LABELS.items():
        own = getattr(size, field, None) if size is not None else None
        value = own if own is not None else getattr(asset, field, None)
        if value not in (None, (), ""):
            key = source_key(asset, field, size if own is not None else None)
            told.append(Fact(field, label, value, _text(field, value), key))
    if size is not None:
        told += worked_out(size)
        told += [_score(score) for score in size.scores]
    return told


def worked_out(size: Size) -> list[Fact]:
    """What follows from a size's description: what its weights and a token's keys and values take."""
    told = []
    for name, count in weights(size).items():
        told.append(Fact(f"weights_{name.replace(' ', '_')}", f"weights, {name}", count, _bytes(count), None))
    if (each := cache_per_token(size)) is not None:
        told.append(Fact("cache_per_token", "cache, per token", each, _bytes(each), None))
    runs = runnable(size)
    return [*told, Fact("runnable", "Paddock runs it", runs, "yes" if runs else "no", None)]


def about(size: Size) -> int | None:
    """Its parameters, or about how many it has by what it is called: "7B", "30.5B, 3.3B active"."""
    return size.parameters or _called(STATED, size)


def about_active(size: Size) -> int | None:
    """Those that a token passes, by what a mixture of experts is called where nothing better is known."""
    return size.active or _called(STATED_ACTIVE, size)


def _called(pattern: re.Pattern[str], size: Size) -> int | None:
    match = pattern.search(size.stated or "")
    return round(float(match[1]) * UNITS[match[2].lower()]) if match else None


def weights(size: Size) -> dict[str, int]:
    """Bytes of all weights at each of BITS, of about as many as it has where its parameters are not known."""
    if (count := about(size)) is None:
        return {}
    return {name: round(count * bits / 8) for name, bits in BITS.items()}


def architecture(size: Size) -> Architecture | None:
    """What the size's config describes, None where there is none or Paddock does not run such a model. Raises
    CheckpointError for a config that cannot be one."""
    if size.config is None:
        return None
    from paddock.model.families import describe

    try:
        return describe(size.config)
    except UnsupportedError:
        return None


def runnable(size: Size) -> bool:
    """Whether its architecture is known, and one that Paddock runs."""
    return architecture(size) is not None


def cache_per_token(size: Size) -> int | None:
    """Bytes of the keys and values of one token in 16 bits, None where the architecture is not known or keeps none."""
    shape = architecture(size)
    return 2 * shape.cache_values_per_token() if shape is not None and shape.generates else None


@dataclass(frozen=True)
class Line:
    """One property of several entries: a text for each, "" where it is not known."""

    label: str
    texts: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.texts)) > 1


def compare(several: Sequence[Found]) -> list[Line]:
    """Properties side by side, in the order of LABELS, then what is worked out, then scores by benchmark."""
    tables: list[dict[str, str]] = []
    for found in several:
        told: dict[str, str] = {}
        for fact in facts(found):
            if fact.field not in ("url", "hub"):
                told[fact.label] = f"{told[fact.label]}; {fact.text}" if fact.label in told else fact.text
        if isinstance(found.asset, Model) and found.size is None and found.asset.sizes:
            told["sizes"] = ", ".join(size.name for size in found.asset.sizes)
        tables.append(told)
    labels = _merged([list(table) for table in tables])
    return [Line(label, tuple(table.get(label, "") for table in tables)) for label in labels]


def _merged(orders: Sequence[Sequence[str]]) -> list[str]:
    """All labels: those with a fixed place first, scores by their names after them."""
    every = {label for order in orders for label in order}
    fixed = [label for label in dict.fromkeys(LABELS.values()) if label in every]
    worked = [label for order in orders for label in order if label not in fixed and not label.startswith("score: ")]
    return [*fixed, *dict.fromkeys(worked), *sorted(label for label in every if label.startswith("score: "))]


def record(known: Catalogue, found: Found) -> dict[str, Any]:
    """All of an entry for JSON: the fields as they lie in the file, what is worked out, and its sources in full."""
    asset = found.asset
    told = {"kind_of_entry": type(asset).__name__.lower(), **asset.model_dump(exclude_none=True)}
    if isinstance(asset, Model):
        sizes = [found.size] if found.size is not None else list(asset.sizes)
        told["sizes"] = [_size_record(size) for size in sizes]
    told["sources_in_full"] = {key: known.sources[key].model_dump(exclude_none=True) for key in used_sources(found)}
    return told


def _size_record(size: Size) -> dict[str, Any]:
    return {
        **size.model_dump(exclude_none=True),
        "weights_bytes": weights(size),
        "cache_bytes_per_token": cache_per_token(size),
    }


def used_sources(found: Found) -> list[str]:
    """The keys of all sources of an entry and of the sizes meant, in the order of its facts."""
    asset = found.asset
    keys = [fact.source for fact in facts(found) if fact.source is not None]
    for size in asset.sizes if isinstance(asset, Model) and found.size is None else ():
        fields = [field for field in type(size).model_fields if getattr(size, field) not in (None, ())]
        keys += [source_key(asset, field, size) for field in fields]
        keys += [score.source for score in size.scores]
    return list(dict.fromkeys([*keys, *asset.sources.values()]))


def _score(score: Score) -> Fact:
    setting = f", {score.setting}" if score.setting else ""
    unit = "" if score.metric == "accuracy, %" else f" ({score.metric})"
    return Fact("score", f"score: {score.benchmark}{unit}{setting}", score.value, f"{score.value:g}", score.source)


def _text(field: str, value: Any) -> str:
    if isinstance(value, Licence):
        return licence_text(value)
    if isinstance(value, Tokenizer):
        return value.kind + (f", {value.vocabulary:,} pieces" if value.vocabulary else "")
    if field == "languages":
        return ", ".join(map(languages.called, value))
    if field in TOKENS and value >= 10**9:
        return f"{value / 10**12:g} T" if value >= 10**12 else f"{value / 10**9:g} B"
    if field in COUNTS:
        return f"{value:,}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def licence_text(licence: Licence) -> str:
    """A licence in a line: its name, whether commercial use is allowed, what it asks."""
    use = {True: "commercial use allowed", False: "no commercial use", None: "commercial use not stated"}
    return "; ".join([licence.name, use[licence.commercial], *([licence.conditions] if licence.conditions else [])])


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} B"


def neighbours(known: Catalogue, found: Found) -> tuple[Mapping[str, list[str]], Mapping[str, list[str]]]:
    """One step up and one down: what an entry was made of and what was made of it, by the kind of edge, as ids."""
    up: dict[str, list[str]] = {}
    down: dict[str, list[str]] = {}
    for kind in EDGES:
        for other in getattr(found.asset, kind, ()):
            up.setdefault(kind, []).append(other)
        for asset in known.assets.values():
            if found.asset.id in getattr(asset, kind, ()):
                down.setdefault(kind, []).append(asset.id)
    return up, down
