"""Pages of a model file that are in memory only because a matrix was read from them once."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

import numpy as np
from torch import Tensor

from paddock.kernels.memory import of_libc

PAGEMAP = Path("/proc/self/pagemap")  # Linux, Documentation/admin-guide/mm/pagemap.rst: 8 bytes for each page
PRESENT, SWAPPED, OF_FILE = (np.uint64(1 << bit) for bit in (63, 62, 61))
LEAST = 1 << 20  # bytes below which it is not worth asking


def give_back(matrix: Tensor) -> bool:
    """Lets go of the pages of a matrix that lies in a mapped file, once it was copied into another layout.

    Without it a model takes its memory twice until the system runs short. The matrix stays as it is: what is read again
    comes from the file. Nothing is done, and False returned, where any page was written to since (it is then no longer
    the file's, and its numbers would be lost), or where the system does not tell.
    """
    size = matrix.numel() * matrix.element_size()
    if not sys.platform.startswith("linux") or matrix.device.type != "cpu" or size < LEAST:
        return False
    first = -(-matrix.data_ptr() // mmap.PAGESIZE)
    count = (matrix.data_ptr() + size) // mmap.PAGESIZE - first
    try:
        with PAGEMAP.open("rb") as file:
            file.seek(8 * first)
            pages = np.frombuffer(file.read(8 * count), np.uint64)
    except OSError:
        return False
    theirs = (pages & PRESENT == 0) | (pages & OF_FILE != 0)
    if len(pages) < count or not theirs.all() or (pages & SWAPPED).any():
        return False
    place, length = ctypes.c_void_p(first * mmap.PAGESIZE), ctypes.c_size_t(count * mmap.PAGESIZE)
    advise = of_libc("madvise")
    return advise is not None and advise(place, length, mmap.MADV_DONTNEED) == 0
