"""What one process does for all of a run: whatever it comes to, all hear of it, and none hangs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from paddock.errors import PaddockError
from paddock.training.parallel import Alone
from paddock.training.parallel.alone import Fetch
from paddock.training.run import refusing

Result = TypeVar("Result")


def together(parallel: Alone, work: Callable[[], Result]) -> Result | None:
    """What the main process does while the others wait; where it fails, all fail alike, and none hangs."""
    return lending(parallel, {}, lambda fetch: work())


def lending(parallel: Alone, tensors: Mapping[str, Tensor], work: Callable[[Fetch], Result]) -> Result | None:
    """`together`, where the work is given tensors that lie in parts, one whole at a time (`Alone.lending`)."""
    failure: PaddockError | None = None
    result = None
    try:
        with parallel.lending(tensors) as fetch:
            if parallel.main:
                with refusing(Path("the run's folder")):
                    result = work(fetch)
    except PaddockError as error:
        failure = error
    if parallel.agreed(failure is not None):
        raise failure or PaddockError("the main process could not go on; its message says why")
    return result


def told(parallel: Alone, number: int) -> int:
    """The main process's number, on all of them."""
    shifted = number + 1 if parallel.main else 0
    return sum(parallel.agreed(bool(shifted >> bit & 1)) << bit for bit in range(40)) - 1
