"""Which entries somebody means: what `paddock catalog ls` can be asked for, and in what order they come."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import get_args

from paddock.catalog import languages
from paddock.catalog.catalogue import Catalogue, folded
from paddock.catalog.comparing import UNITS, about, architecture, runnable
from paddock.catalog.lineage import commercial
from paddock.catalog.schema import Access, Asset, Dataset, Model, Size, Task
from paddock.errors import UsageError, nearest
from paddock.training.scale import parameters

KINDS = ("model", "dataset", "application")
SORTS = ("name", "date", "size", "family", "organisation", "context")
COUNT = re.compile(r"(\d{1,16}(?:\.\d{1,9})?(?:e\d{1,2})?)\s*([kmbt]?)", re.ASCII)
DAY = re.compile(r"\d{4}(?:-\d{2}(?:-\d{2})?)?", re.ASCII)


@dataclass(frozen=True)
class Row:
    """An entry that was asked for, and those of its sizes that were: all of them where nothing was said about sizes."""

    asset: Asset
    sizes: tuple[Size, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What entries must be like.

    words: all of them occur in what is said of it. least, most: parameters, about so many by its name where the number
    is not known. commercial: the licence is known to allow
    commercial use, and no licence of what it was made from forbids it. exact: sizes whose count somebody published, and
    it is the one that the architecture gives. runs: says of a size whether it runs here.
    """

    words: tuple[str, ...] = ()
    kind: str | None = None
    family: str | None = None
    organisation: str | None = None
    language: str | None = None
    task: str | None = None
    access: str | None = None
    commercial: bool = False
    least: int | None = None
    most: int | None = None
    since: str | None = None
    before: str | None = None
    runnable: bool = False
    exact: bool = False
    runs: Callable[[Model, Size], bool] | None = None

    def __post_init__(self) -> None:
        for field, known in (("kind", KINDS), ("task", get_args(Task)), ("access", get_args(Access))):
            one_of(field, getattr(self, field), known)
        for field in ("since", "before"):
            check_day(field, getattr(self, field))
        if self.least is not None and self.most is not None and self.least > self.most:
            raise UsageError(f"no size is at least {self.least:,} and at most {self.most:,} parameters")

    @property
    def of_sizes(self) -> bool:
        """Whether something is asked of sizes, so that entries without one are not meant."""
        return self.least is not None or self.most is not None or self.runnable or self.exact or self.runs is not None


def parse_count(text: str, option: str) -> int:
    """A number of parameters as people put it: "7B", "1.5e9", "350M". Raises UsageError."""
    match = COUNT.fullmatch(text.strip().lower().replace(",", "").replace("_", ""))
    value = float(match[1]) * (UNITS[match[2]] if match[2] else 1) if match else 0
    if not 1 <= value <= 1e16:
        raise UsageError(f"{option} is {text[:60]!r}", expected="a number of parameters, such as 7B, 350M or 1.5e9")
    return int(value)


def one_of(option: str, value: str | None, known: Iterable[str]) -> None:
    """Raises UsageError, with the nearest, for a word that is not among those known."""
    known = list(known)
    if value is not None and value not in known:
        near = nearest(value, known)
        hint = f"; the nearest is {near!r}" if near else ""
        raise UsageError(f"--{option} is {value[:60]!r}{hint}", expected=", ".join(known))


def check_day(option: str, text: str | None) -> None:
    """Raises UsageError for what is no year, month or day."""
    if text is not None and not DAY.fullmatch(text):
        raise UsageError(f"--{option} is {text[:60]!r}", expected="a year, a month or a day: 2024, 2024-05, 2024-05-31")


def select(known: Catalogue, asked: Asked) -> list[Row]:
    """The entries that are as asked, in the order of the files. Raises UsageError, with the nearest, for a family, an
    organisation or a language that the catalogue does not have."""
    asked = _spelt(known, asked)
    rows = []
    for asset in known.assets.values():
        if _is_meant(known, asset, asked):
            sizes = asset.sizes if isinstance(asset, Model) else ()
            meant = tuple(size for size in sizes if isinstance(asset, Model) and _size_is_meant(asset, size, asked))
            if meant or not asked.of_sizes:
                rows.append(Row(asset, meant))
    return rows


def _spelt(known: Catalogue, asked: Asked) -> Asked:
    """What was asked, families, organisations and languages as the catalogue spells them."""
    families = {folded(model.family): model.family for model in known.models}
    language = languages.code(asked.language) if asked.language is not None else None
    family = asked.family
    if family is not None:
        if folded(family) not in families:
            near = nearest(folded(family), families)
            hint = f"; the nearest is {families[near]!r}" if near else ""
            raise UsageError(f"no model is of the family {family[:60]!r}{hint}", expected=", ".join(_sorted(families)))
        family = families[folded(family)]
    if asked.organisation is not None:
        names = {asset.organisation for asset in known.assets.values()}
        if not any(folded(asked.organisation) in folded(name) for name in names):
            near = nearest(asked.organisation, names)
            hint = f"; the nearest is {near!r}" if near else ""
            raise UsageError(f"nothing comes from {asked.organisation[:60]!r}{hint}")
    return replace(asked, family=family, language=language)


def _sorted(families: dict[str, str]) -> list[str]:
    return [families[key] for key in sorted(families)]


def _is_meant(known: Catalogue, asset: Asset, asked: Asked) -> bool:
    if asked.kind is not None and type(asset).__name__.lower() != asked.kind:
        return False
    if (asked.family or asked.task or asked.of_sizes) and not isinstance(asset, Model):
        return False
    if isinstance(asset, Model) and not (
        asked.family in (None, asset.family) and (asked.task is None or asked.task in asset.tasks)
    ):
        return False
    text = folded(" ".join(_said(asset))) if asked.words else ""
    return (
        all(folded(word) in text for word in asked.words)
        and (asked.organisation is None or folded(asked.organisation) in folded(asset.organisation))
        and (asked.language is None or asked.language in asset.languages)
        and asked.access in (None, asset.access)
        and (not asked.commercial or commercial(asset, known.assets) == "yes")
        and (asked.since is None or (asset.released is not None and latest(asset.released) >= earliest(asked.since)))
        and (asked.before is None or (asset.released is not None and earliest(asset.released) < earliest(asked.before)))
    )


def _said(asset: Asset) -> Iterable[str]:
    yield from (asset.id, asset.name, *asset.aliases, asset.organisation, asset.about)
    if isinstance(asset, Model):
        yield from (asset.family, asset.branch, *asset.tasks, *asset.method)
        yield from (size.hub for size in asset.sizes if size.hub)
    if isinstance(asset, Dataset):
        yield asset.kind


def _size_is_meant(model: Model, size: Size, asked: Asked) -> bool:
    count = about(size)
    return (
        (asked.least is None or (count is not None and count >= asked.least))
        and (asked.most is None or (count is not None and count <= asked.most))
        and (not asked.runnable or runnable(size))
        and (not asked.exact or is_exact(size))
        and (asked.runs is None or asked.runs(model, size))
    )


def is_exact(size: Size) -> bool:
    """Whether a published exact count is the one that the architecture gives, which is worked out here."""
    shape = architecture(size) if size.published is not None else None
    return shape is not None and parameters(shape) == size.published


def earliest(date: str) -> str:
    """The first day that a date may mean."""
    return date + "-01-01"[len(date) - 4 :]


def latest(date: str) -> str:
    """The last day that a date may mean, or one after it."""
    return date + "-12-31"[len(date) - 4 :]


def ordered(rows: list[Row], by: str) -> list[Row]:
    """Rows in an order; what lacks the field comes last, and ties keep the order of the catalogue."""
    one_of("sort", by, SORTS)
    if by in ("date", "size", "context"):
        return sorted(rows, key=lambda row: _value(row, by), reverse=by == "date")
    if by == "family":
        return sorted(rows, key=lambda row: (getattr(row.asset, "family", "￿").lower(), _value(row, "size")))
    return sorted(rows, key=lambda row: row.asset.id if by == "name" else row.asset.organisation.lower())


def _value(row: Row, by: str) -> tuple[bool, str | int]:
    """What to sort by; first whether it is there (dates come newest first, so theirs is turned round)."""
    if by == "date":
        return row.asset.released is not None, row.asset.released or ""
    if by == "size":
        counts = [count for size in row.sizes if (count := about(size))]
        return not counts, min(counts, default=0)
    context = getattr(row.asset, "context", None)
    return context is None, context or 0
