"""Sets of examples put together in exact proportions, each example once, and each saying where it is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice

from paddock.data.instruct.overlap import Protected, texts_of
from paddock.data.instruct.records import Example
from paddock.data.order import Order
from paddock.errors import DataError, UsageError


@dataclass(frozen=True)
class Combined:
    """examples: in an order drawn from the seed. counts: of each source. left_out: how many were not taken, by source
    and reason (`twice`, `protected`, `not needed`)."""

    examples: tuple[Example, ...]
    counts: Mapping[str, int]
    left_out: Mapping[str, Mapping[str, int]]


def combine(
    sources: Mapping[str, Sequence[Example]],
    weights: Mapping[str, float],
    *,
    total: int | None = None,
    seed: int = 0,
    protected: Protected | None = None,
) -> Combined:
    """Examples of several sources in proportion to `weights`, to one example exactly.

    An example that an earlier source (or the same) has already, word for word, is not taken, nor one that shares a run
    of words with what is `protected`. total: how many in all; None: as many as the proportions allow without taking one
    twice. Raises UsageError for weights that mean nothing, DataError where a source has too few.
    """
    if not sources or any(not 0 < weights[name] < 1e9 for name in sources):
        raise UsageError("a source without a weight above 0", fix="leave out what is not wanted")
    left_out: dict[str, dict[str, int]] = {name: {} for name in sources}
    usable = _usable(sources, protected, left_out)
    counts = _counts({name: len(found) for name, found in usable.items()}, weights, total)
    taken: list[Example] = []
    for name, found in usable.items():
        some = [found[place] for place in _order(len(found), _seed(seed, name))[: counts[name]]]
        taken += [replace(each, origin=replace(each.origin, source=each.origin.source or name)) for each in some]
        if rest := len(found) - counts[name]:
            left_out[name]["not needed"] = rest
    return Combined(tuple(taken[place] for place in _order(len(taken), seed)), counts, left_out)


def _order(count: int, seed: int) -> list[int]:
    """The places of `count` things, shuffled."""
    order = Order(count, seed) if count else None
    return [order[place] for place in range(count)] if order else []


def _usable(
    sources: Mapping[str, Sequence[Example]], protected: Protected | None, left_out: dict[str, dict[str, int]]
) -> dict[str, list[Example]]:
    seen: set[bytes] = set()
    usable: dict[str, list[Example]] = {}
    for name, examples in sources.items():
        usable[name] = []
        for example in examples:
            content = sha256("\0".join(texts_of(example)).encode("utf-8", "surrogatepass")).digest()
            reason = "twice" if content in seen else None
            if reason is None and protected is not None and protected.shared(example)[0]:
                reason = "protected"
            if reason is None:
                seen.add(content)
                usable[name].append(example)
            else:
                left_out[name][reason] = left_out[name].get(reason, 0) + 1
    return usable


def _counts(there: Mapping[str, int], weights: Mapping[str, float], total: int | None) -> dict[str, int]:
    """How many of each source: the nearest whole numbers to the proportions whose sum is the total."""
    whole = sum(weights[name] for name in there)
    most = min(int(count * whole / weights[name] + 1e-9) for name, count in there.items())
    wanted = most if total is None else total
    exact = {name: wanted * weights[name] / whole for name in there}
    counts = {name: int(share + 1e-9) for name, share in exact.items()}
    by_rest = sorted(there, key=lambda name: counts[name] - exact[name])
    for name in islice(by_rest, max(0, wanted - sum(counts.values()))):
        counts[name] += 1
    for name, count in counts.items():
        if count > there[name]:
            if total is None:  # rounding asked for one more than there is
                counts[name] = there[name]
                continue
            raise DataError(
                f"{name} has {there[name]} examples, and {count} of it are asked for",
                fix=f"ask for at most {most} in all, or give it less weight",
            )
    return counts


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(sha256(f"{seed}:{name}".encode()).digest()[:7], "little")
