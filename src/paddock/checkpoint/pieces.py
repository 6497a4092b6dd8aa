"""The tensors of a folder whose matrices lie in several pieces each, taken out as their matrices are put together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch

from paddock.checkpoint.stored import Stored
from paddock.errors import CheckpointError
from paddock.model.config import Config

FLOATS = (torch.float16, torch.bfloat16, torch.float32)
DEEPEST = 32  # modules inside each other: a name of more is no model's


class Settings(Config):
    """A `quantization_config`."""

    where = "config.json: quantization_config"
    owner = "its method"
    way_out = "if they change nothing about the weights, remove them from quantization_config"

    def modules(self, *names: str) -> tuple[str, ...]:
        """A list of module names, empty where there is none."""
        value = self.get(*names, default=[])
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise CheckpointError(f"{self.where}: {names[0]} is {str(value)[:80]!r}", expected="a list of names")
        return tuple(value)


class Pieces:
    """What is left of a folder's tensors. `transposed(name)` says whether a family stores a weight (in, out)."""

    def __init__(self, tensors: Mapping[str, Stored], transposed: Callable[[str], bool]) -> None:
        self.left = dict(tensors)
        self.transposed = transposed

    def modules(self, ending: str, kept_plain: Collection[str] = ()) -> list[str]:
        """The modules that have a tensor of this ending. Raises CheckpointError for one that was to stay plain."""
        found = [name.removesuffix(ending) for name in self.left if name.endswith(ending)]
        plain = {name.strip(".") for name in kept_plain}
        for name in found if plain else ():
            if said := plain & _paths(name):
                raise CheckpointError(
                    f"{name[:120]!r} is quantised, but quantization_config says that {said.pop()[:80]!r} is not",
                    fix="config.json and the weights may come from different models",
                )
        return found

    def take(self, name: str, dtypes: Collection[torch.dtype], shape: tuple[int, ...] | None = None) -> Stored:
        """Removes a tensor and hands it over. Raises CheckpointError where it is missing or not as described."""
        if name not in self.left:
            raise CheckpointError(f"the weights lack {name[:160]!r}", fix="download or copy the model's files again")
        stored = self.left.pop(name)
        if stored.dtype not in dtypes:
            expected = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            raise CheckpointError(f"tensor {name[:120]!r} is stored as {stored.dtype}", expected=expected)
        if shape is not None and stored.shape != shape:
            found = list(stored.shape)
            raise CheckpointError(f"tensor {name[:120]!r} has the shape {found}", expected=f"{list(shape)}")
        return stored

    def take_matrix(self, name: str, dtypes: Collection[torch.dtype]) -> Stored:
        """`take` of a matrix that has rows and columns, whatever their number."""
        stored = self.take(name, dtypes)
        if len(stored.shape) != 2 or 0 in stored.shape:
            raise CheckpointError(f"tensor {name[:120]!r} has the shape {list(stored.shape)}", expected="a matrix")
        return stored


def _paths(name: str) -> set[str]:
    """What may name a module: its path from the root or from any module on, those it lies in, and their own names."""
    parts = name.split(".")
    if len(parts) > DEEPEST:
        return {name}
    ends = range(1, len(parts) + 1)
    return {*parts, *(".".join(parts[:end]) for end in ends), *(".".join(parts[-end:]) for end in ends)}
