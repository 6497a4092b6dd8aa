"""PyTorch's own `.bin` files: a zip archive of one pickle, which describes tensors, and their numbers as plain members.

Neither half is given to code that could run it: `zipped` finds the members, `pickled` reads the description, and the
tensors are views of the file's memory map. Layout: pytorch/caffe2/serialize/inline_container.h.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import Tensor

from paddock.checkpoint import pickled, zipped
from paddock.checkpoint.mapped import MappedFile
from paddock.checkpoint.stored import Stored
from paddock.errors import CheckpointError, UnsupportedError

PICKLE_LIMIT = 16 * 2**20


def read(path: str | Path) -> dict[str, Stored]:
    """Every tensor of a state dictionary, described and checked but not yet read.

    Raises CheckpointError; UnsupportedError for the format before PyTorch 1.6, for big-endian files and for pickles of
    anything but named tensors.
    """
    file = MappedFile(path)
    if file.size >= 4 and file.bytes(0, 4, "its first bytes")[:2] != b"PK":
        raise UnsupportedError(
            f"{file.name} is not a zip archive of tensors",
            fix="if PyTorch before 1.6 wrote it, save it again with a newer one, or use its safetensors files",
        )
    members = zipped.members(file)
    folders = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise CheckpointError(f"{file.name} has {len(folders)} members named data.pkl", expected="one, in a folder")
    order = members.get(folders[0] + "byteorder")
    if order and file.bytes(*order, "the byte order") != b"little":
        raise UnsupportedError(f"{file.name} was written on a big-endian machine", expected="little-endian numbers")
    at, size = members[folders[0] + "data.pkl"]
    if size > PICKLE_LIMIT:
        raise CheckpointError(f"{file.name} describes its tensors in {size} bytes", expected=f"at most {PICKLE_LIMIT}")
    views = pickled.tensors(file.bytes(at, size, "data.pkl"), file.name)
    return {name: _stored(file, members, folders[0], name, view) for name, view in views.items()}


def _stored(
    file: MappedFile, members: dict[str, tuple[int, int]], folder: str, name: str, view: pickled.View
) -> Stored:
    storage = view.storage
    at, size = members.get(f"{folder}data/{storage.key}", (0, -1))
    if size != storage.nbytes:
        found = "missing" if size < 0 else f"{size} bytes"
        raise CheckpointError(
            f"{file.name}: the numbers of tensor {name[:80]!r} are {found}", expected=f"{storage.nbytes} bytes"
        )
    return Stored(
        view.shape,
        view.dtype,
        load=partial(_load, file, at, name, view),
        release=partial(file.forget, at, size),
        viewed=True,
    )


def _load(file: MappedFile, at: int, name: str, view: pickled.View) -> Tensor:
    count = view.storage.nbytes // view.dtype.itemsize
    return file.tensor(at, view.dtype, (count,), name).as_strided(view.shape, view.stride, view.offset)
