"""Random programs of native operations against the same operations in NumPy: no value may be overwritten too early."""

from __future__ import annotations

import weakref
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from paddock.kernels.native import library

WIDTHS, VOCABULARY, OPERATIONS = (32, 64), 20, 24


@pytest.fixture
def native() -> ModuleType:
    module = library()
    if module is None:
        pytest.skip("no native kernels in this build")
    return module


class Random:
    """A program being recorded at random, and what each of its registers must hold."""

    def __init__(self, native: ModuleType, seed: int, ids: np.ndarray) -> None:
        self.rng, self.native, self.ids = np.random.default_rng(seed), native, ids
        self.program = native.Program(None)
        self.frequencies = np.linspace(0.1, 1.0, 8, dtype=np.float32)
        self.angles = self.program.angles(self.frequencies, 1.0)
        self.values: dict[int, np.ndarray] = {}
        self.tables: list[np.ndarray] = []
        for width in WIDTHS:
            table = self.numbers(VOCABULARY, width)
            self.tables.append(table)
            register = self.program.embed_plain("float32", VOCABULARY, width, table.ctypes.data, False, table)
            self.values[register] = table[ids]

    def numbers(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def pick(self, width: int | None = None) -> int:
        """A register so far, mostly a late one, as models use them."""
        known = [number for number, value in self.values.items() if width in (None, value.shape[1])]
        return known[-1 - min(int(self.rng.geometric(0.4)) - 1, len(known) - 1)]

    def grow(self) -> None:
        a = self.pick()
        x, program = self.values[a], self.program
        width = x.shape[1]
        kind = self.rng.integers(8)
        if kind <= 1:
            for _ in range(self.rng.integers(1, 4)):  # several of one input are computed together
                self.linear(a)
        elif kind == 2:
            b = self.pick(width)
            self.values[program.add(a, b)] = x + self.values[b]
        elif kind == 3:  # a linear onto a sum, as residuals are
            b, y = self.pick(width), self.linear(a, width)
            self.values[program.add(b, y)] = self.values[b] + self.values[y]
        elif kind == 4:
            b = self.pick(width)
            self.values[program.gate("relu", a, b)] = np.maximum(x, 0) * self.values[b]
        elif kind == 5:
            self.values[program.rotate(a, self.angles, width // 16, 16, False)] = self.turned(x)
        elif kind == 6:
            ones = np.ones(width, np.float32)
            self.values[program.norm(a, ones, None, 1e-3, True)] = x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-3)
        else:
            self.values[program.scale(a, 0.5)] = x * np.float32(0.5)

    def linear(self, a: int, width: int | None = None) -> int:
        x = self.values[a]
        matrix = self.numbers(width or int(self.rng.choice(WIDTHS)), x.shape[1]) / np.float32(8)
        weight = self.native.Weight.pack("f32", *matrix.shape, matrix.view(np.uint8).reshape(-1))
        register = int(self.program.linear(a, weight, None))
        self.values[register] = x @ matrix.T
        return register

    def turned(self, x: np.ndarray) -> np.ndarray:
        heads = x.reshape(len(x), -1, 16)
        angle = (np.arange(len(x), dtype=np.float32)[:, None] * self.frequencies)[:, None]
        first, second = heads[..., :8], heads[..., 8:]
        cos, sin = np.cos(angle), np.sin(angle)
        return np.concatenate((first * cos - second * sin, second * cos + first * sin), -1).reshape(x.shape)


def run(program: Any, ids: np.ndarray, width: int, wanted: np.ndarray | None = None) -> np.ndarray:
    rows = np.arange(len(ids), dtype=np.int32)
    out = np.full((len(ids if wanted is None else wanted), width), np.nan, np.float32)
    spans = np.array([(0, len(ids), 0, 0)], np.int64)
    program.run(ids, rows, spans, np.zeros((1, 1), np.int32), rows if wanted is None else wanted, out)
    return out


def check(native: ModuleType, seed: int) -> None:
    ids = np.random.default_rng(seed).integers(0, VOCABULARY, 5).astype(np.int32)
    made = Random(native, seed, ids)
    for _ in range(OPERATIONS):
        made.grow()
    output = made.pick()
    expected = made.values[output]
    made.program.finish(output)
    for _ in range(2):  # the second time in memory that holds old values
        found = run(made.program, ids, expected.shape[1])
        scale = max(1.0, float(np.abs(expected).max()))
        assert np.abs(found - expected).max() <= 1e-4 * scale, f"seed {seed}"


def test_random_programs_compute_what_numpy_does(native: ModuleType) -> None:
    for seed in range(300):
        check(native, seed)


@pytest.mark.slow
def test_many_random_programs_compute_what_numpy_does(native: ModuleType) -> None:
    for seed in range(300, 5000):
        check(native, seed)


def test_a_row_may_be_wanted_more_often_than_there_are_rows(native: ModuleType) -> None:
    made = Random(native, 0, np.array([3], np.int32))
    program, table = made.program, made.tables[0]
    program.finish(program.scale(program.scale(program.select(0), 2.0), 0.25))
    wanted = np.zeros(5000, np.int32)
    found = run(program, made.ids, WIDTHS[0], wanted)
    assert np.array_equal(found, np.repeat(table[3:4] * np.float32(0.5), 5000, 0))


def test_a_program_keeps_the_tables_it_reads(native: ModuleType) -> None:

    class Owner:
        pass

    owner, table = Owner(), np.ones((2, 32), np.float32)
    seen = weakref.ref(owner)
    program = native.Program(None)
    program.embed_plain("float32", 2, 32, table.ctypes.data, False, owner)
    del owner
    assert seen() is not None
    del program
    assert seen() is None


def test_sizes_that_no_memory_has_are_refused(native: ModuleType) -> None:
    for blocks, shapes in ((1, [(2**40, 2**40)]), (2**30, [(2**11, 2**11)] * 4)):
        with pytest.raises(ValueError):
            native.Cache("float32", blocks, shapes)


def test_what_no_operation_gives_is_no_output(native: ModuleType) -> None:
    program = native.Program(None)
    entered = program.enter(32)
    program.scale(entered, 2.0)
    with pytest.raises(ValueError, match="no operation gives"):
        program.finish(entered)
