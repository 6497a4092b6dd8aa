"""What adapters of a program, and products of low ranks for training, refuse before they touch memory; what their
numbers are is tested without Python (tests/kernels/cpp/test_adapt.cpp, test_products.cpp)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

WIDTH, OUT, RANK, ROWS = 32, 5, 3, 4
TABLE = np.arange(ROWS * WIDTH, dtype=np.float32).reshape(ROWS, WIDTH) / 64


def packed(module: ModuleType, rows: int, columns: int, format: str = "f32") -> Any:
    if format == "f32":
        return module.Weight.pack("f32", rows, columns, np.ones(rows * columns, np.float32).view(np.uint8))
    return module.Weight.pack(format, rows, columns, np.zeros(rows * columns // 32 * 34, np.uint8))


def adapted(module: ModuleType, *ranks: tuple[int, Any, Any, float], finish: bool = True) -> Any:
    """A program of one linear with these adapters."""
    program = module.Program(None)
    x = program.embed_plain("float32", ROWS, WIDTH, TABLE.ctypes.data, False, TABLE)
    y = program.linear(x, packed(module, OUT, WIDTH), None)
    program.adapt(y, x, list(ranks))
    if finish:
        program.finish(y)
    return program


def rank(module: ModuleType, number: int = 1) -> tuple[int, Any, Any, float]:
    return number, packed(module, RANK, WIDTH), packed(module, OUT, RANK), 2.0


def run(program: Any, adapters: Any) -> np.ndarray:
    ids, out = np.arange(ROWS, dtype=np.int32), np.empty((ROWS, OUT), np.float32)
    spans, tables = np.array([(0, ROWS, 0, 0)], np.int64), np.zeros((1, 1), np.int32)
    program.run(ids, ids, spans, tables, ids, out, (), None, adapters)
    return out


def test_adapters_that_fit_are_taken(module: ModuleType) -> None:
    found = run(adapted(module, rank(module), rank(module, 7)), np.array([0, 1, 7, 2], np.int32))
    sums = TABLE.sum(1, keepdims=True)
    expected = np.where(np.array([[0], [1], [1], [0]]), sums * (1 + 2.0 * RANK), sums)
    np.testing.assert_allclose(found, np.repeat(expected, OUT, 1), rtol=1e-6)


def test_adapters_that_do_not_fit_are_refused(module: ModuleType) -> None:
    number, a, b, scale = rank(module)
    wrong = {
        "number 0": (0, a, b, scale),
        "a number below 0": (-1, a, b, scale),
        "another width": (number, packed(module, RANK, WIDTH + 1), b, scale),
        "another rank": (number, a, packed(module, OUT, RANK + 1), scale),
        "another height": (number, a, packed(module, OUT + 1, RANK), scale),
        "codes down": (number, packed(module, WIDTH, WIDTH, "q8_0"), packed(module, OUT, WIDTH), scale),
        "codes up": (number, packed(module, 32, WIDTH), packed(module, OUT, 32, "q8_0"), scale),
    }
    for what, given in wrong.items():
        with pytest.raises(ValueError, match="adapter of"):
            adapted(module, given)
            pytest.fail(what)
    with pytest.raises(ValueError, match="two adapters of one number"):
        adapted(module, rank(module), rank(module))


def test_what_is_no_linear_is_not_adapted(module: ModuleType) -> None:
    program = module.Program(None)
    x = program.embed_plain("float32", ROWS, WIDTH, TABLE.ctypes.data, False, TABLE)
    y = program.linear(x, packed(module, WIDTH, WIDTH), None)
    z = program.scale(y, 2.0)
    given = [(1, packed(module, RANK, WIDTH), packed(module, WIDTH, RANK), 1.0)]
    for out, of in ((z, y), (y, x), (y, y), (x, x)):
        with pytest.raises(ValueError, match="no linear"):
            program.adapt(out, of, given)


def test_rows_name_adapters_that_there_are(module: ModuleType) -> None:
    program = adapted(module, rank(module, 3))
    for numbers in ([0, 0, 0, 4], [-1, 0, 0, 0]):
        with pytest.raises(ValueError, match="an adapter that the program does not have"):
            run(program, np.array(numbers, np.int32))
    with pytest.raises(ValueError, match="as many adapters as ids"):
        run(program, np.zeros(ROWS - 1, np.int32))
    assert np.array_equal(run(program, np.zeros(ROWS, np.int32)), run(program, None))


def test_products_for_training_refuse_odd_shapes(module: ModuleType) -> None:
    """Before any address is read: here they lead nowhere."""
    if not module.train_pairs():
        pytest.skip("this processor multiplies no pairs of bfloat16")
    part = (0, 16, 0, 0, 16, -1, 0, 0)
    refused: list[tuple[int, int, list[Any], list[Any], str]] = [
        (0, 16, [], [part], "whole vectors"),
        (1, 0, [], [part], "whole vectors"),
        (1, 24, [], [part], "whole vectors"),
        (1, 16, [], [], "too many linears of one input, or none"),
        (1, 16, [], [part] * 15, "too many linears"),
        (1, 16, [(0, 0, 0)], [part], "a rank below 1"),
        (1, 16, [], [(0, 24, 0, 0, 24, -1, 0, 0)], "whole vectors"),
        (1, 16, [], [(0, 16, 0, 0, 16, 0, 0, 0)], "whole vectors"),
    ]
    for rows, width, lows, parts, why in refused:
        with pytest.raises(ValueError, match=why):
            module.train_adapted(rows, width, 0, lows, parts, 1.0, 0)
        with pytest.raises(ValueError, match=why):
            module.train_adapted_back(rows, width, 0, lows, parts, 1.0, 0, 0)
