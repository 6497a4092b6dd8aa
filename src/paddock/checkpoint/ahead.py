"""Packing that begins before PyTorch is there.

Importing PyTorch takes one core as long as packing a model of a billion parameters takes another. So whoever is about
to load a file says so first (`start`): a thread of the native kernels packs the matrices that are parameters as they
lie, and the loader takes them up (`claim`). Nothing is refused here, and nothing comes out otherwise: a matrix that is
not there when it is asked for is packed as ever, and what is wrong with the file is said by whoever loads it.
"""

from __future__ import annotations

import atexit
import os
import resource
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from paddock.checkpoint.gguf_header import Header, TensorInfo
from paddock.checkpoint.mapped import identity
from paddock.errors import PaddockError
from paddock.kernels import system_memory
from paddock.kernels.native import BLOCKS, library

# Architectures whose matrices are one parameter each, as they lie; and the matrices whose rows are put in order first.
REORDERED = {"llama": ("attn_q", "attn_k"), "qwen2": ()}
SPARE = 1 << 30  # bytes beside the matrices: PyTorch, and what else it takes to load
GPU = ("/dev/nvidiactl", "/dev/dxg")  # where one of these is, only PyTorch knows where a model will go

_begun: list[Ahead] = []  # one at most, until it is claimed


class Ahead:
    """The matrices of a file, packed by a thread from now on. A fork of this process finds none of them."""

    def __init__(self, header: Header, native: ModuleType) -> None:
        self.header = header
        infos = _as_they_lie(header)
        self._numbers = {info.offset: number for number, info in enumerate(infos)}
        places = [(info.type.name.lower(), *info.shape, info.offset) for info in infos]
        self._native = native.Ahead(np.frombuffer(header.file.map, np.uint8), places) if places else None

    def take(self, info: TensorInfo) -> Any:
        """The kernels' Weight of that matrix, waited for, once; None where it is to be packed as ever."""
        number = self._numbers.pop(info.offset, None)
        return None if number is None or self._native is None else self._native.take(number)

    def close(self) -> None:
        """Packs no more, and lets go of what nobody took. Waits for the matrix in hand."""
        self._native = None


def start(path: Path) -> None:
    """Begins with this file, where it is one for it and PyTorch is still to be imported. Raises nothing."""
    if "torch" in sys.modules or any(map(os.path.exists, GPU)):
        return
    try:
        native = library()
        if native is None:
            return
        header = Header(path)
        if header.metadata.get("general.architecture") not in REORDERED or not _has_room(header.file.size):
            return
        _stop()
        _begun.append(Ahead(header, native))
    except (PaddockError, MemoryError):
        return  # loading finds the same, and says it


def claim(path: Path) -> Ahead | None:
    """What was begun with this file, if it is still that file; it is the caller's to close."""
    try:
        found = _begun.pop()
    except IndexError:
        return None
    try:
        same = found.header.file.identity == identity(os.stat(path))
    except OSError:
        same = False
    if same:
        return found
    found.close()
    return None


@atexit.register
def _stop() -> None:
    """The thread ends before the process does, where nobody ever claimed it."""
    while _begun:
        _begun.pop().close()


def _has_room(size: int) -> bool:
    """Whether memory is plenty. Where it is not, it must not be PyTorch's import that is left without: that could not
    say what is wrong."""
    free = resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    return free and system_memory.available() > size + SPARE


def _as_they_lie(header: Header) -> list[TensorInfo]:
    reordered = REORDERED[str(header.metadata["general.architecture"])]
    return [
        info
        for name, info in header.tensors.items()
        if info.type.name in BLOCKS
        and len(info.shape) == 2
        and name.endswith(".weight")
        and name.split(".")[-2] not in reordered
    ]
