"""What was made of what: the graph of the catalogue's entries, by depth and direction.

An edge goes from what was there first to what was made of it: from LLaMA to Alpaca, from a dataset to a model that was
trained on it, from a model to an application that uses it. Files of the catalogue are checked for circles when they are
read, so walks along edges end.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from paddock.catalog.catalogue import edges
from paddock.catalog.schema import Asset, Dataset, Licence, Model

# How a kind of edge reads after the name of what was there first, and after the name of what was made of it.
PARENT = {
    "base": "base",
    "teachers": "teacher",
    "data": "training data",
    "made_with": "its writer",
    "made_from": "its source",
    "uses": "a part of it",
}
CHILD = {
    "base": "based on it",
    "teachers": "taught by it",
    "data": "trained on it",
    "made_with": "written by it",
    "made_from": "made from it",
    "uses": "uses it",
}


@dataclass(frozen=True)
class Edge:
    """`child` was made of `parent`; kinds: how, names of fields of the schema."""

    parent: str
    child: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Lineage:
    """Entries and the edges between them; every end of an edge is among the entries.

    terms: of every entry whether it may be used commercially, bases that are not among the entries counted.
    """

    assets: Mapping[str, Asset]
    edges: tuple[Edge, ...]
    terms: Mapping[str, str]

    @functools.cached_property
    def parents(self) -> dict[str, list[Edge]]:
        """What an entry was made of, in the order of its fields."""
        found: dict[str, list[Edge]] = {name: [] for name in self.assets}
        for edge in self.edges:
            found[edge.child].append(edge)
        return found

    @functools.cached_property
    def children(self) -> dict[str, list[Edge]]:
        """What was made of an entry, the oldest first."""
        found: dict[str, list[Edge]] = {name: [] for name in self.assets}
        for edge in sorted(self.edges, key=lambda edge: order(self.assets[edge.child])):
            found[edge.parent].append(edge)
        return found

    def ancestors(self, name: str, depth: int | None = None) -> dict[str, int]:
        """Everything `name` was made of, with the least number of steps to it, at most `depth`."""
        return self._reach(name, depth, {child: [e.parent for e in found] for child, found in self.parents.items()})

    def descendants(self, name: str, depth: int | None = None) -> dict[str, int]:
        """Everything that was made of `name`, with the least number of steps to it, at most `depth`."""
        return self._reach(name, depth, {parent: [e.child for e in found] for parent, found in self.children.items()})

    def _reach(self, name: str, depth: int | None, steps: Mapping[str, list[str]]) -> dict[str, int]:
        reached, waiting = {name: 0}, deque([name])
        while waiting:
            here = waiting.popleft()
            if depth is not None and reached[here] >= depth:
                continue
            for other in steps[here]:
                if other not in reached:
                    reached[other] = reached[here] + 1
                    waiting.append(other)
        del reached[name]
        return reached

    def roots(self) -> list[str]:
        """Entries that were made of nothing here."""
        return [name for name, found in self.parents.items() if not found]

    def only(self, names: Iterable[str]) -> Lineage:
        """The part that has these entries alone, and the edges between them."""
        kept = set(names)
        assets = {name: asset for name, asset in self.assets.items() if name in kept}
        edges = tuple(edge for edge in self.edges if edge.parent in kept and edge.child in kept)
        return Lineage(assets, edges, self.terms)

    def around(self, name: str, up: bool = True, down: bool = True, depth: int | None = None) -> Lineage:
        """`name` with its ancestors, its descendants or both, at most `depth` steps away."""
        kept = {name}
        if up:
            kept |= self.ancestors(name, depth).keys()
        if down:
            kept |= self.descendants(name, depth).keys()
        return self.only(kept)

    def layers(self) -> dict[str, int]:
        """For each entry the longest way to it from a root: an edge always leads to a higher layer."""
        missing = {name: len(found) for name, found in self.parents.items()}
        layer = dict.fromkeys(self.assets, 0)
        waiting = deque(name for name, count in missing.items() if not count)
        while waiting:
            here = waiting.popleft()
            for edge in self.children[here]:
                layer[edge.child] = max(layer[edge.child], layer[here] + 1)
                missing[edge.child] -= 1
                if not missing[edge.child]:
                    waiting.append(edge.child)
        return layer


def lineage(assets: Mapping[str, Asset], data: bool = True) -> Lineage:
    """The graph of these entries, without datasets where `data` is false. Edges to entries outside are left out."""
    kept = {name: asset for name, asset in assets.items() if data or not isinstance(asset, Dataset)}
    kinds: dict[tuple[str, str], list[str]] = {}
    for name, asset in kept.items():
        for kind, other in edges(asset):
            if other in kept:
                kinds.setdefault((other, name), []).append(kind)
    found = tuple(Edge(parent, child, tuple(dict.fromkeys(how))) for (parent, child), how in kinds.items())
    return Lineage(kept, found, {name: commercial(asset, assets) for name, asset in kept.items()})


def released(asset: Asset) -> str | None:
    """When an entry came out, as far as is known: its own date, or its first size's."""
    dates = [size.released for size in asset.sizes if size.released] if isinstance(asset, Model) else []
    return asset.released or min(dates, default=None)


def order(asset: Asset) -> tuple[str, str]:
    """By date, what has none last."""
    return (released(asset) or "9999", asset.id)


def kind_of(asset: Asset) -> str:
    """ "model", "dataset" or "application"."""
    return type(asset).__name__.lower()


def terms(asset: Asset, assets: Mapping[str, Asset]) -> Iterator[tuple[Asset, Licence]]:
    """The licences that bind who uses an entry: its own first, then those of what it was made from among `assets`, and
    so on."""
    waiting, seen = deque([asset]), {asset.id}
    while waiting:
        here = waiting.popleft()
        if here.licence is not None:
            yield here, here.licence
        for name in here.base if isinstance(here, Model) else ():
            if name not in seen and name in assets:
                seen.add(name)
                waiting.append(assets[name])


def commercial(asset: Asset, assets: Mapping[str, Asset]) -> str:
    """Whether it may be used commercially: "yes" (under conditions perhaps), "no" or "unknown", by its licence (a
    model's: of the weights) and, as nobody can allow what they may not do, "no" where one of its `terms` forbids it."""
    if any(licence.commercial is False for _, licence in terms(asset, assets)):
        return "no"
    return "yes" if asset.licence is not None and asset.licence.commercial else "unknown"


def sizes(asset: Asset) -> str:
    """A model's sizes, a dataset's extent, in a few words; "" where nothing is known."""
    if isinstance(asset, Dataset):
        return asset.size or ""
    if not isinstance(asset, Model):
        return ""
    names = [size.name for size in asset.sizes]
    return ", ".join(names) if len(names) <= 4 else f"{names[0]} to {names[-1]}, {len(names)} sizes"
