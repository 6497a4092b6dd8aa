"""What one process does for all of a run: whatever it comes to, all hear of it, and none hangs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from paddock.errors import PaddockError
from paddock.training.parallel import Alone
from paddock.training.run import refusing

Result = TypeVar("Result")


def together(parallel: Alone, work: Callable[[], Result]) -> Result | None:
    """What the main process does while the others wait; where it fails, all fail alike, and none hangs."""
    failure: PaddockError | None = None
    result = None
    try:
        if parallel.main:
            with refusing(Path("the run's folder")):
                result = work()
    except PaddockError as error:
        failure = error
    if parallel.agreed(failure is not None):
        raise failure or PaddockError("the main process could not go on; its message says why")
    return result


def told(parallel: Alone, number: int) -> int:
    """The main process's number, on all of them."""
    shifted = number + 1 if parallel.main else 0
    return sum(parallel.agreed(bool(shifted >> bit & 1)) << bit for bit in range(40)) - 1
