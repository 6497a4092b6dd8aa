"""How many cores one decoded token may wake."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

SMALL_BYTES = 16 * 2**20


@contextlib.contextmanager
def threads_for(weight_bytes: int) -> Iterator[None]:
    """For each decoded token: one thread if the model is smaller than a core's caches, else PyTorch's own choice.

    Below that size every operation ends sooner than its helpers wake, and on a busy machine each waits for a core to
    come free: the bundled model ran 8 to 20 times slower on two threads than on one
    (docs/notes/2026-11-21-threads.md). Prompts are read outside of this.
    """
    before = torch.get_num_threads()
    if weight_bytes > SMALL_BYTES or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
