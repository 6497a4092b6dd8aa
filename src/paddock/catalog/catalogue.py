"""The catalogue as a value: every entry that ships and every one of the user's, checked against one another.

Raises DataError with the file and the entry for what a file must not hold: unknown keys, names used twice, edges to
entries that are not there, models that descend from themselves. A file of the user's like that is left out, with a
warning that says why: the rest of the catalogue is there without it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from paddock.catalog.reading import read
from paddock.catalog.schema import Application, Asset, Dataset, File, Model, Size, Source
from paddock.engine.locate import home
from paddock.errors import DataError, PaddockError, UnsupportedError, UsageError, did_you_mean, nearest

log = logging.getLogger("paddock.catalog")  # to standard error, where nobody says otherwise

SHIPPED = Path(__file__).resolve().parent / "entries"
# The fields that name other entries: an edge goes from what was there first to what was made of it.
EDGES = ("base", "teachers", "data", "made_with", "made_from", "uses")
# What a field that names entries may name.
NAMED: dict[str, type[Asset]] = {
    "base": Model,
    "teachers": Model,
    "made_with": Model,
    "data": Dataset,
    "made_from": Dataset,
    "uses": Asset,
}


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

    def source(self, asset: Asset, field: str, size: Size | None = None) -> Source:
        """Where a field of an entry, or of one of its sizes, comes from."""
        return self.sources[source_key(asset, field, size)]


def source_key(asset: Asset, field: str, size: Size | None = None) -> str:
    """The key of the source of a field: the size's own, the entry's, the one of all its sizes, the entry's default."""
    own = size.sources if size is not None else {}
    sizes = asset.sources.get("sizes") if size is not None else None
    return own.get(field) or asset.sources.get(field) or sizes or asset.sources["default"]


def folded(name: str) -> str:
    """A name as it is compared: without case, blanks and underscores as dashes."""
    return "-".join(name.strip().lower().replace("_", " ").split())


def edges(asset: Asset) -> Iterator[tuple[str, str]]:
    """What an entry was made of: (kind of edge, id)."""
    for kind in EDGES:
        for other in getattr(asset, kind, ()):
            yield kind, other


def catalogue() -> Catalogue:
    """What ships, and what lies in PADDOCK_HOME/catalogue; read anew when a file there has changed. Of the latter a
    file that must not be so is left out, and a warning names it."""
    own = home() / "catalogue"
    files = sorted(own.glob("*.toml")) if own.is_dir() else []
    return _catalogue(tuple((path, *_state(path)) for path in files))


def _state(path: Path) -> tuple[int, int]:
    try:
        return path.stat().st_mtime_ns, path.stat().st_size
    except OSError:  # a link to nowhere: reading it says so
        return 0, 0


@functools.lru_cache(maxsize=4)
def _catalogue(own: tuple[tuple[Path, int, int], ...]) -> Catalogue:
    files = {path: read(path) for path in sorted(SHIPPED.glob("*.toml"))}
    for path, _, _ in own:
        try:
            files[path] = read(path)
        except DataError as error:
            _left_out(error)
    mine = [path for path, _, _ in own if path in files]
    while True:
        try:
            return _joined(files)
        except DataError as error:
            wrong = next((path for path in mine if error.what.startswith(f"{path}: ")), None)
            if wrong is None:
                raise
            _left_out(error)
            mine.remove(wrong)
            del files[wrong]


def _left_out(error: DataError) -> None:
    log.warning("left out of the catalogue, the rest is there: %s", error)


def assemble(paths: Iterable[Path]) -> Catalogue:
    """A catalogue of files, checked as a whole."""
    return _joined({path: read(path) for path in paths})


def _joined(files: Mapping[Path, File]) -> Catalogue:
    assets: dict[str, Asset] = {}
    sources: dict[str, Source] = {}
    places: dict[str, Path] = {}
    of_sources: dict[str, Path] = {}
    for path, file in files.items():
        for key, source in file.source.items():
            if sources.setdefault(key, source) != source:
                raise DataError(
                    f"{path}: source {key!r}: {of_sources[key]} says something else of it", fix="give it another key"
                )
            of_sources.setdefault(key, path)
        for asset in (*file.model, *file.dataset, *file.application):
            if asset.id in assets:
                raise DataError(f"{path}: {asset.id!r} is in {places[asset.id]} already", fix="give it another id")
            assets[asset.id], places[asset.id] = asset, path
    for asset in assets.values():
        _check(asset, assets, sources, places[asset.id])
        if isinstance(asset, Model) and places[asset.id].parent != SHIPPED:
            _check_counts(asset, places[asset.id])
    check_descent(assets, places)
    return Catalogue(assets, sources, _names(assets, places))


def _check(asset: Asset, assets: Mapping[str, Asset], sources: Mapping[str, Source], path: Path) -> None:
    """What an entry names must be there, and be what such a field names."""
    place = f"{path}: {type(asset).__name__.lower()} {asset.id!r}"
    for key in _source_keys(asset):
        if key not in sources:
            raise DataError(
                f"{place}: there is no source {key!r}",
                expected=f"a table [source.{key}]",
                fix=did_you_mean(key, sources),
            )
    for kind, other in edges(asset):
        if other not in assets:
            fix = did_you_mean(other, assets) or "add an entry of that id, or leave it out"
            raise DataError(f"{place}: {kind} names {other!r}, which is nowhere", fix=fix)
        named = NAMED[kind]
        if not isinstance(assets[other], named):
            found = type(assets[other]).__name__.lower()
            raise DataError(f"{place}: {kind} names {other!r}, a {found}", expected=f"a {named.__name__.lower()}")


def _check_counts(model: Model, path: Path) -> None:
    """A config must be one, and give the parameters stated. What ships is checked by tests, which saves time."""
    from paddock.model.families import describe
    from paddock.training.scale import parameters

    for size in model.sizes:
        place = f"{path}: model {model.id!r}, size {size.name!r}"
        try:
            counted = parameters(describe(size.config)) if size.config is not None else None
        except UnsupportedError:  # of a kind that Paddock does not run
            continue
        except PaddockError as error:
            raise DataError(f"{place}: its config: {error.what}", expected=error.expected, fix=error.fix) from None
        if counted is not None and size.parameters not in (None, counted):
            raise DataError(f"{place}: parameters is {size.parameters}; its config gives {counted}", fix="mend one")


def _source_keys(asset: Asset) -> Iterator[str]:
    yield from asset.sources.values()
    for size in asset.sizes if isinstance(asset, Model) else ():
        yield from size.sources.values()
        yield from (score.source for score in size.scores)


def check_descent(assets: Mapping[str, Asset], places: Mapping[str, Path] | None = None) -> None:
    """Raises DataError, with the circle and the file it begins in, where an entry was made of itself."""
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
                file = f"{places[here]}: " if places and here in places else ""
                raise DataError(
                    f"{file}{here!r} is made of itself: {' <- '.join(circle[:20])}", fix="one of these edges is wrong"
                )
            elif here not in done:
                trail[here] = None
                waiting.append((here, True))
                waiting += [(other, False) for _, other in edges(assets[here])]


def _names(assets: Mapping[str, Asset], places: Mapping[str, Path]) -> dict[str, Found]:
    names: dict[str, Found] = {}
    called: dict[str, Asset] = {}
    exact = {asset.id for asset in assets.values()}
    for asset in assets.values():
        other = called.setdefault(folded(asset.name), asset)
        if other is not asset:
            raise DataError(
                f"{places[asset.id]}: {asset.name!r} is the name of {asset.id!r}, and of {other.id!r} in "
                f"{places[other.id]}",
                fix="give one of them another name",
            )
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
                raise DataError(
                    f"{places[asset.id]}: {text!r} means {asset.id!r}, and {before.asset.id!r} in "
                    f"{places[before.asset.id]} as well",
                    fix="give one of them another name or alias",
                )
            names[key] = found
    return {**_short_names(assets), **names}


def _short_names(assets: Mapping[str, Asset]) -> dict[str, Found]:
    """Names on the hub without their owner, where only one size is called so: "qwen2.5-7b-instruct"."""
    found: dict[str, list[Found]] = {}
    for asset in assets.values():
        for size in asset.sizes if isinstance(asset, Model) else ():
            if size.hub:
                found.setdefault(folded(size.hub.rpartition("/")[2]), []).append(Found(asset, size))
    return {key: ones[0] for key, ones in found.items() if len(ones) == 1}
