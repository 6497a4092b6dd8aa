"""GGUF files and the tensors in them; gguf_header.py knows the container."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from paddock.checkpoint.ahead import Ahead
from paddock.checkpoint.block_types import TYPES
from paddock.checkpoint.blocks import DEQUANTISERS, DTYPES, dequantise
from paddock.checkpoint.gguf_header import Header, TensorInfo
from paddock.checkpoint.stored import Codes, Stored
from paddock.errors import UnsupportedError
from paddock.kernels.native import BLOCKS


class GGUFFile(Header):
    """A GGUF file whose tensors can be had. `header_only`, `metadata`, `tensors` and errors: see Header."""

    ahead: Ahead | None = None

    @classmethod
    def of(cls, ahead: Ahead) -> GGUFFile:
        """A file that was begun with: it is parsed, and some of its matrices are packed or soon will be."""
        file = cls.__new__(cls)
        file.file, file.metadata, file.tensors = ahead.header.file, ahead.header.metadata, ahead.header.tensors
        file.ahead = ahead
        return file

    def tensor(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """The tensor as `dtype`: a view of the file where it is stored so, otherwise a new tensor.

        Block types are dequantised in chunks, so beside the result only a few MB are needed.
        """
        return self._load(self.tensors[name], dtype)

    def stored(self, info: TensorInfo) -> Stored:
        """A tensor of this file, or a part of one, before it is read: in its own number type, float32 for blocks."""
        if info.type.name not in DTYPES and info.type.name not in DEQUANTISERS:
            raise UnsupportedError(
                f"{self.file.name}: tensor {info.name!r} is stored as {info.type.name}, which Paddock does not read",
                expected=", ".join(kind.name for kind in TYPES.values() if kind.name in {*DEQUANTISERS, *DTYPES}),
            )
        dtype, plain = DTYPES.get(info.type.name, torch.float32), info.type.name in DTYPES
        release = partial(self.file.forget, info.offset, info.nbytes)
        codes = None
        if info.type.name in BLOCKS and len(info.shape) == 2:
            packed = None if self.ahead is None else partial(self.ahead.take, info)
            codes = Codes(info.type.name, partial(self._blocks, info), packed)
        return Stored(info.shape, dtype, partial(self._load, info, dtype), release, codes, viewed=plain)

    def _blocks(self, info: TensorInfo) -> tuple[Tensor]:
        shape = (info.shape[0], info.nbytes // info.shape[0])
        return (self.file.tensor(info.offset, torch.uint8, shape, f"tensor {info.name!r}"),)

    def _load(self, info: TensorInfo, dtype: torch.dtype) -> Tensor:
        self.stored(info)
        what = f"tensor {info.name!r}"
        if info.type.name in DTYPES:
            return self.file.tensor(info.offset, DTYPES[info.type.name], info.shape, what).to(dtype)
        data = self.file.tensor(info.offset, torch.uint8, (info.nbytes,), what)
        weights = dequantise(info.type, data, dtype).view(info.shape)
        self.file.forget(info.offset, info.nbytes)
        return weights
