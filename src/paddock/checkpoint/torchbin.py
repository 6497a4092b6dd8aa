"""PyTorch's own `.bin` files: zip archives of pickles, opened only by PyTorch's restricted unpickler."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint.stored import Stored
from paddock.errors import CheckpointError, UnsupportedError

PICKLE_LIMIT = 64 * 2**20


def read(path: str | Path) -> dict[str, Stored]:
    """Every tensor of a state dictionary, mapped from the file. Raises CheckpointError."""
    path = Path(path)
    _check_archive(path)
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except MemoryError:
        raise CheckpointError(f"{path.name} asks for more memory than there is") from None
    except Exception as error:  # the restricted unpickler raises anything a pickle can make it raise
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path.name} cannot be opened safely: {reason}", fix="use the model's safetensors files instead"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in state.items()):
        raise CheckpointError(f"{path.name} is not a dictionary of named tensors", expected="a saved state_dict")
    return {
        name: Stored(tuple(t.shape), t.dtype, load=partial(_plain, path.name, name, t)) for name, t in state.items()
    }


def _plain(file: str, name: str, tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        raise CheckpointError(f"{file}: tensor {name[:80]!r} is {tensor.layout} on {tensor.device}, not plain numbers")
    return tensor.detach()


def _check_archive(path: Path) -> None:
    """A zip whose members are stored, not compressed, and fit the file: nothing can expand when it is opened."""
    if not path.is_file():
        raise CheckpointError(f"{path} is {'not a regular file' if path.exists() else 'missing'}")
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, OverflowError, UnicodeDecodeError, NotImplementedError) as error:
        raise UnsupportedError(
            f"{path.name} is not a zip archive of tensors ({str(error)[:80]})",
            fix="if PyTorch before 1.6 wrote it, save it again with a newer one, or use its safetensors files",
        ) from None
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > size:
        raise CheckpointError(f"{path.name} holds compressed or overlapping members", expected="plainly stored ones")
    if sum(m.file_size for m in members if m.filename.endswith(".pkl")) > PICKLE_LIMIT:
        raise CheckpointError(f"{path.name} describes its tensors in more than {PICKLE_LIMIT} bytes")
