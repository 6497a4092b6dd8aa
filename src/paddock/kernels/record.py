"""Recording: the one Transformer runs once on values that only note what is done to them.

The result is a program of native operations (`kernels/cpp/program.h`) which is replayed for every forward with no
Python in between. The model stays defined in one place: its modules cannot tell a recording from a run. What has no
native operation raises NotRecordable, and such a model runs on the PyTorch reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paddock.kernels.packed import PLAIN, Packed
from paddock.kernels.pages import give_back

# Names of plain number types in the native module, for tables and caches.
TYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


class NotRecordable(Exception):
    """The model does something that no native operation does. Never reaches a user."""


class Recorded:
    """A value of a recording: (rows, width) floats in a register of `tape`.

    Rows are tokens, and the heads of a token lie side by side, so reshaping into heads and back changes nothing.
    """

    dtype = torch.float32

    def __init__(self, tape: Tape, register: int, head_dim: int = 0) -> None:
        self.tape, self.register, self.head_dim = tape, register, head_dim

    @property
    def width(self) -> int:
        return int(self.tape.program.width(self.register))

    def __add__(self, other: Any) -> Recorded:
        if isinstance(other, Row):
            return self._new("add_vector", other.values)
        if not isinstance(other, Recorded):
            raise NotRecordable(f"a sum with {type(other).__name__}")
        return self._new("add", other.register)

    def __mul__(self, factor: Any) -> Recorded:
        if isinstance(factor, Recorded):
            return self._new("multiply", factor.register)
        if not isinstance(factor, int | float):
            raise NotRecordable(f"a product with {type(factor).__name__}")
        return self._new("scale", float(factor))

    __rmul__ = __mul__

    def clamp(self, low: float, high: float) -> Recorded:
        return self._new("clamp", low, high)

    def unflatten(self, dim: int, sizes: tuple[int, int]) -> Recorded:
        return Recorded(self.tape, self.register, sizes[1])

    def transpose(self, first: int, second: int) -> Recorded:
        return self

    def flatten(self, first: int) -> Recorded:
        return Recorded(self.tape, self.register)

    def to(self, dtype: torch.dtype) -> Recorded:
        return self

    def _new(self, operation: str, *arguments: Any) -> Recorded:
        make = getattr(self.tape.program, operation)
        return Recorded(self.tape, make(self.register, *arguments), self.head_dim)

    def __getattr__(self, name: str) -> Any:
        raise NotRecordable(name)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotRecordable(getattr(function, "__name__", str(function)))


@dataclass(frozen=True)
class Ids:
    """The tokens' ids, or their positions, which are known only when the program runs."""

    tape: Tape
    by_position: bool = False


@dataclass(frozen=True)
class Zeros:
    """An index that is 0 for every token."""

    tape: Tape


@dataclass(frozen=True, eq=False)
class Row:
    """The same vector (width,) for every token."""

    values: np.ndarray


@dataclass(frozen=True)
class Angles:
    """By which every token's heads turn: a table of the program's, made from its position."""

    number: int


@dataclass(frozen=True, eq=False)
class Sight:
    """What a layer's queries see: the executor's stand-in for a bias. slopes: (heads,) float32, ALiBi's; if `rounded`
    they meet the key's position in bfloat16, and `factor` their product. near: (heads, 2 * farthest + 1) float32, what
    is added by distance, key less query, from -farthest to farthest and beyond."""

    causal: bool = False
    window: int = 0
    slopes: np.ndarray | None = None
    rounded: bool = False
    factor: float = 1.0
    near: np.ndarray | None = None


@dataclass(frozen=True)
class Remembered:
    """All keys or values of a layer so far: they lie in the program's cache, or if `crossed` in each text's source."""

    layer: int
    crossed: bool = False


Kept = MutableMapping[
    int, tuple[Tensor, int, Packed]
]  # by address: the matrix, how often it was written to, its packed form


class Tape:
    """A program being recorded. `cache` is the native paged cache its attention reads and writes. crossed: key-value
    heads and their width, layer by layer, of the sources that cross-attention reads or an encoder fills."""

    def __init__(self, cache: Any = None, weights: Kept | None = None, crossed: Sequence[tuple[int, int]] = ()) -> None:
        self.program = self._program(cache, list(crossed))
        self.ids, self.positions = Ids(self), Ids(self, by_position=True)
        self._weights: Kept = {} if weights is None else weights

    def _program(self, cache: Any, crossed: list[tuple[int, int]]) -> Any:
        from paddock.kernels.native import library

        module = library()
        assert module is not None, "recording needs the native kernels"
        return module.Program(cache, crossed)

    def packed(self, matrix: Tensor) -> Packed:
        """A matrix in the kernels' layout, packed once for all tapes that share `weights`."""
        key = matrix.data_ptr()  # a tied head is the embedding's matrix again
        changes = 0 if matrix.is_inference() else matrix._version
        held = self._weights.get(key)
        if held is None or held[0].shape != matrix.shape or held[0].dtype != matrix.dtype or held[1] != changes:
            # The matrix is kept with it: while it lives nothing else can come to lie at its address.
            held = self._weights[key] = _plain(matrix), changes, Packed.plain(_plain(matrix))
            give_back(matrix)
        return held[2]

    def embed(self, ids: Ids | Zeros, table: Tensor | Packed) -> Recorded | Row:
        if isinstance(ids, Zeros):
            return Row(vector(table.dequantise()[0] if isinstance(table, Packed) else table[0]))
        if isinstance(table, Packed):
            return Recorded(self, self.program.embed_packed(table.native, ids.by_position))
        table = _plain(table)
        rows, columns = table.shape
        register = self.program.embed_plain(
            TYPES[table.dtype], rows, columns, table.data_ptr(), ids.by_position, table
        )  # read where it lies, and kept alive by the program
        return Recorded(self, register)

    def linear(self, x: Recorded, weight: Tensor | Packed, bias: Tensor | None) -> Recorded:
        if not isinstance(weight, Packed):
            weight = self.packed(weight)
        return Recorded(self, self.program.linear(x.register, weight.native, None if bias is None else vector(bias)))

    def adapt(self, y: Recorded, x: Recorded, ranks: Mapping[int, Any]) -> Recorded:
        """Onto y, which a linear has made of x: what the adapter of each row adds. ranks: by the adapters' numbers,
        of packed `a` and `b` and a `scale`."""
        added = [(number, rank.a.native, rank.b.native, rank.scale) for number, rank in ranks.items()]
        self.program.adapt(y.register, x.register, added)
        return y

    def norm(self, x: Recorded, weight: Tensor, bias: Tensor | None, eps: float, rms: bool) -> Recorded:
        bias_vector = None if bias is None else vector(bias)
        return Recorded(self, self.program.norm(x.register, vector(weight), bias_vector, eps, rms))

    def activate(self, kind: str, x: Recorded) -> Recorded:
        return Recorded(self, self.program.activate(kind, x.register))

    def gate(self, kind: str, gate: Recorded, up: Recorded) -> Recorded:
        return Recorded(self, self.program.gate(kind, gate.register, up.register))

    def angles(
        self, frequencies: Tensor, gain: float = 1.0, stream: int = 0, narrow: bool = False, own: bool = False
    ) -> Angles:
        """stream: which of a token's two positions counts. narrow: computed in float16. own: whoever runs the program
        gives each sequence's frequencies; these only say how many."""
        return Angles(self.program.angles(vector(frequencies), gain, 0, stream, narrow, own))

    def waves(self, frequencies: Tensor, start: int, interleaved: bool) -> Recorded:
        """Sines and cosines of every token's position, counted from `start`: a half each, or in turns."""
        angles = self.program.angles(vector(frequencies), 1.0, start)
        return Recorded(self, self.program.waves(angles, interleaved))

    def rotate(self, x: Recorded, angles: Angles, interleaved: bool, first: int) -> Recorded:
        heads = x.width // x.head_dim
        register = self.program.rotate(x.register, angles.number, heads, x.head_dim, interleaved, first)
        return Recorded(self, register, x.head_dim)

    def remember(self, layer: int, k: Recorded, v: Recorded, crossed: bool = False) -> tuple[Remembered, Remembered]:
        self.program.store(k.register, v.register, layer, crossed)
        return Remembered(layer, crossed), Remembered(layer, crossed)

    def attend(self, q: Recorded, k: Remembered, sight: Sight | None, scale: float) -> Recorded:
        """`sight` None: everything there is, as in a source."""
        if not isinstance(k, Remembered) or not isinstance(sight, Sight | None):
            raise NotRecordable("attention over anything but the cache")
        seen, heads = sight or Sight(), q.width // q.head_dim
        register = self.program.attend(
            q.register,
            k.layer,
            heads,
            scale,
            seen.causal,
            seen.window,
            seen.slopes,
            seen.near,
            seen.rounded,
            seen.factor,
            k.crossed,
        )
        return Recorded(self, register, q.head_dim)

    def mixture(self, x: Recorded, scores: Recorded, active: int, experts: Sequence[Callable[[Any], Any]]) -> Recorded:
        programs = []
        for expert in experts:
            tape = type(self)(weights=self._weights)
            result = expert(Recorded(tape, tape.program.enter(x.width)))
            programs.append(tape.finish(result))
        return Recorded(self, self.program.mixture(x.register, scores.register, active, programs))

    def select(self, x: Recorded) -> Recorded:
        """Only the rows that are wanted; what follows runs on those alone."""
        return Recorded(self, self.program.select(x.register))

    def finish(self, result: Recorded) -> Any:
        """The program that gives `result`."""
        self.program.finish(result.register)
        return self.program


class Rehearsal(Tape):
    """Records nothing and packs nothing: tells whether a model could be recorded."""

    def _program(self, cache: Any, crossed: list[tuple[int, int]]) -> Any:
        return _Anything()

    def packed(self, matrix: Tensor) -> Packed:
        _plain(matrix)
        return Packed(None)


class _Anything:
    """A program whose every operation gives register 0."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: 0


def vector(values: Tensor) -> np.ndarray:
    """Numbers of a model as float32, one row or several."""
    return np.ascontiguousarray(values.detach().float().cpu().numpy())


def _plain(matrix: Tensor) -> Tensor:
    if matrix.dtype not in PLAIN or matrix.device.type != "cpu" or not matrix.is_contiguous():
        raise NotRecordable(f"a matrix of {matrix.dtype} on {matrix.device}")
    return matrix.detach()
