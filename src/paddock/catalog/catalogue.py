"""The catalogue as a value: every entry that ships and every one of the user's, checked against one another.

Raises DataError with the file and the entry for what a file must not hold: unknown keys, names used twice, edges to
entries that are not there, models that descend from themselves.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from paddock.catalog.schema import Application, Asset, Dataset, File, Model, Size, Source
from paddock.engine.locate import home
from paddock.errors import DataError, UsageError, nearest

MAX_BYTES = 8 << 20
SHIPPED = Path(__file__).resolve().parent / "entries"
# The fields that name other entries: an edge goes from what was there first to what was made of it.
EDGES = ("base", "teachers", "data", "made_with", "made_from", "uses")


@dataclass(frozen=True)
class Found:
    """What a name means: an entry, and one of its sizes where the name says which or there is only one."""

    asset: Asset
    size: Size | None

    @property
    def name(self) -> str:
        """The name that means exactly this."""
        several = isinstance(self.asset, Model) and len(self.asset.sizes) > 1
        return f"{self.asset.id}-{self.size.name}" if self.size is not None and several else self.asset.id


@dataclass(frozen=True)
class Catalogue:
    """Entries and sources by their names. A source's key is unique in the whole catalogue."""

    assets: Mapping[str, Asset]
    sources: Mapping[str, Source]
    names: Mapping[str, Found]  # every spelling, folded: ids, sizes, aliases, names on the hub

    @property
    def models(self) -> tuple[Model, ...]:
        return tuple(asset for asset in self.assets.values() if isinstance(asset, Model))

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        return tuple(asset for asset in self.assets.values() if isinstance(asset, Dataset))

    @property
    def applications(self) -> tuple[Application, ...]:
        return tuple(asset for asset in self.assets.values() if isinstance(asset, Application))

    def find(self, name: str) -> Found:
        """The entry of a name. Raises UsageError with the nearest names."""
        found = self.names.get(folded(name))
        if found is not None:
            return found
        near = nearest(folded(name), self.names)
        meant = f"; the nearest known is {self.names[near].name!r}" if near else ""
        raise UsageError(f"the catalogue has no {name[:100]!r}{meant}", fix="`paddock catalog ls` lists what it has")

    def source(self, asset: Asset, field: str) -> Source:
        """Where a field of an entry comes from."""
        return self.sources[asset.sources.get(field, asset.sources["default"])]


def folded(name: str) -> str:
    """A name as it is compared: without case, blanks and underscores as dashes."""
    return "-".join(name.strip().lower().replace("_", " ").split())


def edges(asset: Asset) -> Iterator[tuple[str, str]]:
    """What an entry was made of: (kind of edge, id)."""
    for kind in EDGES:
        for other in getattr(asset, kind, ()):
            yield kind, other


@functools.cache
def catalogue() -> Catalogue:
    """What ships, and what lies in PADDOCK_HOME/catalogue."""
    own = home() / "catalogue"
    return assemble([*sorted(SHIPPED.glob("*.toml")), *(sorted(own.glob("*.toml")) if own.is_dir() else [])])


def assemble(paths: Iterable[Path]) -> Catalogue:
    """A catalogue of files, checked as a whole."""
    assets: dict[str, Asset] = {}
    sources: dict[str, Source] = {}
    places: dict[str, Path] = {}
    for path in paths:
        file = read(path)
        for key, source in file.source.items():
            if key in sources and sources[key] != source:
                raise DataError(f"{path}: the source {key!r} is another one than in {places['source ' + key]}")
            sources[key], places["source " + key] = source, path
        for asset in (*file.model, *file.dataset, *file.application):
            if asset.id in assets:
                raise DataError(f"{path}: {asset.id!r} is in {places[asset.id]} already", fix="give it another id")
            assets[asset.id], places[asset.id] = asset, path
    for asset in assets.values():
        _check(asset, assets, sources, places[asset.id])
    check_descent(assets)
    return Catalogue(assets, sources, _names(assets, places))


def read(path: Path) -> File:
    """One file. Raises DataError for what is not TOML of bounded size in the schema."""
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES >> 20} MiB", expected="a file of the catalogue")
        return File.model_validate(tomllib.loads(data.decode("utf-8")))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start})", fix="save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{path}: {where}: {first['msg']}", fix="docs/catalogue.md says what a field may hold"
        ) from None


def _check(asset: Asset, assets: Mapping[str, Asset], sources: Mapping[str, Source], path: Path) -> None:
    """What an entry names must be there, and be what such a field names."""
    scores = [score.source for size in getattr(asset, "sizes", ()) for score in size.scores]
    for key in (*asset.sources.values(), *scores):
        if key not in sources:
            raise DataError(f"{path}: {asset.id}: there is no source {key!r}", expected=f"a table [source.{key}]")
    for kind, other in edges(asset):
        if other not in assets:
            near = nearest(other, assets)
            hint = f"; the nearest known is {near!r}" if near else ""
            raise DataError(f"{path}: {asset.id}: {kind} names {other!r}, which is nowhere{hint}")


def check_descent(assets: Mapping[str, Asset]) -> None:
    """Raises DataError, with the circle, where an entry was made of itself."""
    done: set[str] = set()
    for start in assets:
        trail: dict[str, None] = {}
        waiting = [(start, False)]
        while waiting:
            here, leaving = waiting.pop()
            if leaving:
                trail.pop(here)
                done.add(here)
            elif here in trail:
                circle = [*list(trail)[list(trail).index(here) :], here]
                raise DataError(f"the catalogue goes in a circle: {' <- '.join(circle)}")
            elif here not in done:
                trail[here] = None
                waiting.append((here, True))
                waiting += [(other, False) for _, other in edges(assets[here])]


def _names(assets: Mapping[str, Asset], places: Mapping[str, Path]) -> dict[str, Found]:
    names: dict[str, Found] = {}
    exact = {asset.id for asset in assets.values()}
    for asset in assets.values():
        sizes = asset.sizes if isinstance(asset, Model) else ()
        only = sizes[0] if len(sizes) == 1 else None
        spelt = [(asset.id, only), (asset.name, only), *((alias, only) for alias in asset.aliases)]
        spelt += [(f"{asset.id}-{size.name}", size) for size in sizes]
        spelt += [(size.hub, size) for size in sizes if size.hub]
        for text, size in spelt:
            key, found = folded(text), Found(asset, size)
            before = names.get(key)
            if before is not None and before.asset is not asset:
                if key in exact:  # an id means its entry, whatever else is called so
                    names[key] = found if asset.id == key else before
                    continue
                raise DataError(f"{places[asset.id]}: {text!r} means {asset.id} and {before.asset.id}")
            names[key] = found
    return names
