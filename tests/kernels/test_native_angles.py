"""Rotation by a token's two positions, by a sequence's own frequencies and in float16, beside the reference."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from paddock.kernels import reference
from paddock.model.position import rotation
from paddock.model.spec import Rope2D

HEADS, HEAD_DIM = 2, 16
WIDTH = HEADS * HEAD_DIM
TABLE = np.random.default_rng(2).standard_normal((20, WIDTH)).astype(np.float32)
IDS = np.array([4, 4, 7, 1, 0], np.int32)
POSITIONS = np.array([(0, 0), (9, 0), (2047, 3), (6, 1), (6, 2000)], np.int32)


def begun(kernels: ModuleType) -> tuple[Any, int]:
    program = kernels.Program(None)
    return program, program.embed_plain("float32", 20, WIDTH, TABLE.ctypes.data, False, TABLE)


def run(program: Any, positions: np.ndarray, spans: list[tuple[int, int]], rates: np.ndarray | None = None) -> Any:
    out = np.full((len(IDS), WIDTH), np.nan, np.float32)
    rows = np.array([(first, count, 0, 0) for first, count in spans], np.int64)
    tables = np.zeros((len(spans), 1), np.int32)
    program.run(IDS, positions.reshape(-1), rows, tables, np.empty(0, np.int32), out, (), rates)
    return out


def turned(x: np.ndarray, cos: torch.Tensor, sin: torch.Tensor) -> np.ndarray:
    """(tokens, heads, features) by angles (1, 1, tokens, features / 2)."""
    swapped = torch.from_numpy(x).transpose(0, 1)[None]
    return reference.rotate(swapped, cos, sin, False)[0].transpose(0, 1).numpy()


@pytest.mark.parametrize("narrow", [False, True])
def test_halves_of_heads_turn_by_two_positions(kernels: ModuleType, narrow: bool) -> None:
    rope = Rope2D(10000.0, HEAD_DIM // 2, narrow)
    program, x = begun(kernels)
    rates = np.float32(1) / np.float32(10000) ** (np.arange(0, rope.width, 2, dtype=np.float32) / rope.width)
    rates = rates.astype(np.float16).astype(np.float32) if narrow else rates
    one, two = (program.angles(rates, 1.0, 0, stream, narrow) for stream in (0, 1))
    x = program.rotate(x, one, HEADS, HEAD_DIM, False)
    program.finish(program.rotate(x, two, HEADS, HEAD_DIM, False, rope.width))
    found = run(program, POSITIONS, [(0, 5)]).reshape(5, HEADS, HEAD_DIM)
    cos1, sin1, cos2, sin2 = rotation(rope, torch.from_numpy(POSITIONS).long()[None], 0)
    heads = TABLE[IDS].reshape(5, HEADS, HEAD_DIM)
    halves = turned(heads[..., : rope.width].copy(), cos1, sin1), turned(heads[..., rope.width :].copy(), cos2, sin2)
    np.testing.assert_allclose(found, np.concatenate(halves, -1), rtol=0, atol=1e-4)


def test_each_sequence_turns_by_its_own_frequencies(kernels: ModuleType) -> None:
    program, x = begun(kernels)
    own = program.angles(np.ones(HEAD_DIM // 2, np.float32), 2.0, own=True)
    program.finish(program.rotate(x, own, HEADS, HEAD_DIM, False))
    rates = np.random.default_rng(3).random((2, HEAD_DIM // 2)).astype(np.float32)
    positions = np.array([0, 1, 30, 5, 6], np.int32)
    found = run(program, positions, [(0, 3), (3, 2)], rates)
    angles = torch.from_numpy(positions.astype(np.float32)[:, None] * rates[[0, 0, 0, 1, 1]])[None, None]
    wanted = turned(TABLE[IDS].reshape(5, HEADS, HEAD_DIM), 2 * angles.cos(), 2 * angles.sin())
    np.testing.assert_allclose(found, wanted.reshape(5, WIDTH), rtol=0, atol=1e-5)
    again = run(program, positions, [(0, 3), (3, 2)], rates[::-1].copy())
    assert not np.array_equal(again[1:3], found[1:3])


def test_wrong_coordinates_are_refused(kernels: ModuleType) -> None:
    program, x = begun(kernels)
    rates = np.ones(4, np.float32)
    for arguments in ((1.0, 0, 2), (1.0, 0, -1), (1.0, -1, 0)):
        with pytest.raises(ValueError, match="position"):
            program.angles(rates, *arguments)
    two = program.angles(rates, 1.0, 0, 1)
    for first in (-1, 9, 17):
        with pytest.raises(ValueError, match="turn"):
            program.rotate(x, two, HEADS, HEAD_DIM, False, first)
    own = program.angles(rates, 1.0, own=True)
    with pytest.raises(ValueError, match="frequencies"):
        program.angles(np.ones(5, np.float32), 1.0, own=True)
    program.finish(program.rotate(program.rotate(x, two, HEADS, HEAD_DIM, False, 8), own, HEADS, HEAD_DIM, False))
    good = np.ones((1, 4), np.float32)
    assert np.isfinite(run(program, POSITIONS, [(0, 5)], good)).all()
    for wrong in (None, np.ones((2, 4), np.float32), np.ones((1, 3), np.float32)):
        with pytest.raises(ValueError, match="frequencies"):
            run(program, POSITIONS, [(0, 5)], wrong)
    for positions in (POSITIONS[:, :1].copy(), POSITIONS[:4], -POSITIONS, POSITIONS + np.array([0, 2**24], np.int32)):
        with pytest.raises(ValueError, match="position"):
            run(program, positions, [(0, 5)], good)


def test_a_plain_program_takes_no_frequencies(kernels: ModuleType) -> None:
    program, x = begun(kernels)
    program.finish(program.scale(x, 2.0))
    with pytest.raises(ValueError, match="frequencies"):
        run(program, np.zeros(5, np.int32), [(0, 5)], np.ones((1, 4), np.float32))
