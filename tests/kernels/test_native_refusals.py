"""What the module must refuse before it touches memory: wrong types, shapes, layouts, ranges and empty arrays."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

X = np.ones((3, 64), np.float32)
ONES = np.ones(64, np.float32)
TABLE = np.arange(4, dtype=np.int32)
Q = np.ones((2, 4, 32), np.float32)
KEYS = np.ones((2, 2, 32), np.float32)


def wide() -> np.ndarray:
    return np.ones((3, 128), np.float32)[:, ::2]


def packed(m: ModuleType) -> object:
    return m.Weight.pack("f32", 5, 64, np.zeros(5 * 64 * 4, np.uint8))


def cache(m: ModuleType) -> object:
    return m.CacheLayer("f32", 4, 2, 32)


REFUSED: dict[str, Callable[[ModuleType], object]] = {
    "columns": lambda m: m.linear(X[:, :32].copy(), packed(m)),
    "type": lambda m: m.linear(X.astype(np.float64), packed(m)),
    "one axis": lambda m: m.linear(ONES, packed(m)),
    "three axes": lambda m: m.linear(X[None], packed(m)),
    "no rows": lambda m: m.linear(X[:0], packed(m)),
    "stride": lambda m: m.linear(wide(), packed(m)),
    "transposed": lambda m: m.linear(np.ones((64, 3), np.float32).T, packed(m)),
    "bias length": lambda m: m.linear(X, packed(m), ONES),
    "bias type": lambda m: m.linear(X, packed(m), np.zeros(5, np.int32)),
    "onto": lambda m: m.linear(X, packed(m), None, np.zeros((3, 4), np.float32)),
    "format": lambda m: m.Weight.pack("q9", 1, 32, np.zeros(34, np.uint8)),
    "format in capitals": lambda m: m.Weight.pack("Q8_0", 1, 32, np.zeros(34, np.uint8)),
    "no blocks": lambda m: m.Weight.pack("nf4", 1, 64, np.zeros(64, np.uint8)),
    "half a block": lambda m: m.Weight.pack("q8_0", 1, 48, np.zeros(51, np.uint8)),
    "block of 256": lambda m: m.Weight.pack("q4_k", 1, 128, np.zeros(72, np.uint8)),
    "a byte short": lambda m: m.Weight.pack("q8_0", 1, 32, np.zeros(33, np.uint8)),
    "a byte more": lambda m: m.Weight.pack("q8_0", 1, 32, np.zeros(35, np.uint8)),
    "bytes as a matrix": lambda m: m.Weight.pack("q8_0", 1, 32, np.zeros((1, 34), np.uint8)),
    "signed bytes": lambda m: m.Weight.pack("q8_0", 1, 32, np.zeros(34, np.int8)),
    "bytes apart": lambda m: m.Weight.pack("q8_0", 1, 32, np.zeros(68, np.uint8)[::2]),
    "zero rows": lambda m: m.Weight.pack("f32", 0, 32, np.zeros(0, np.uint8)),
    "negative rows": lambda m: m.Weight.pack("f32", -1, 32, np.zeros(0, np.uint8)),
    "zero columns": lambda m: m.Weight.pack("f32", 1, 0, np.zeros(0, np.uint8)),
    "a product past 2^63": lambda m: m.Weight.pack("f32", 2**62, 2**62, np.zeros(4, np.uint8)),
    "affine format": lambda m: m.Weight.pack_affine(
        "q8_0", np.zeros((1, 32), np.uint8), np.zeros((1, 1), np.uint16), np.zeros((1, 1), np.uint8)
    ),
    "affine scales": lambda m: m.Weight.pack_affine(
        "int4", np.zeros((2, 32), np.uint8), np.zeros((1, 1), np.uint16), np.zeros((2, 1), np.uint8)
    ),
    "affine zeros": lambda m: m.Weight.pack_affine(
        "int4", np.zeros((2, 32), np.uint8), np.zeros((2, 1), np.uint16), np.zeros((2, 2), np.uint8)
    ),
    "affine columns": lambda m: m.Weight.pack_affine(
        "int8", np.zeros((1, 33), np.uint8), np.zeros((1, 1), np.uint16), np.zeros((1, 1), np.uint8)
    ),
    "nf4 columns": lambda m: m.Weight.pack_nf4(np.zeros((1, 32), np.uint8), np.zeros((1, 1), np.float32)),
    "nf4 scales": lambda m: m.Weight.pack_nf4(np.zeros((1, 64), np.uint8), np.zeros((1, 2), np.float32)),
    "id too large": lambda m: packed(m).take(np.array([5])),
    "id below zero": lambda m: packed(m).take(np.array([-1])),
    "ids of int32": lambda m: packed(m).take(np.array([1], np.int32)),
    "empty": lambda m: m.quantise(X[:, :0]),
    "norm weight": lambda m: m.rms_norm(X, ONES[:32].copy(), 1e-5),
    "eps": lambda m: m.rms_norm(X, ONES, -1.0),
    "eps no number": lambda m: m.layer_norm(X, ONES, None, float("nan")),
    "norm bias": lambda m: m.layer_norm(X, ONES, X, 1e-5),
    "activation": lambda m: m.activate("swish2", X),
    "gates": lambda m: m.gate("silu", X, X[:2].copy()),
    "cos and sin": lambda m: m.rotate(Q, X[:2, :8].copy(), X[:2, :4].copy(), False),
    "tokens of cos": lambda m: m.rotate(Q, X[:1, :8].copy(), X[:1, :8].copy(), False),
    "wider than the head": lambda m: m.rotate(Q, X[:2, :17].copy(), X[:2, :17].copy(), False),
    "k of none": lambda m: m.top_k(ONES, 0),
    "k of more": lambda m: m.top_k(ONES, 65),
    "no values": lambda m: m.top_k(ONES[:0], 0),
    "mass of none": lambda m: m.mass(ONES[:0], 1.0, 1.0),
    "temperature of none": lambda m: m.mass(ONES, 1.0, 0.0),
    "top of infinity": lambda m: m.mass(ONES, float("inf"), 1.0),
    "variant": lambda m: m.use("avx1024"),
    "no threads": lambda m: m.set_threads(0),
    "too many threads": lambda m: m.set_threads(10**6),
    "rate": lambda m: m.peak_rate("fp4", 1, 0.01),
    "rate's threads": lambda m: m.peak_rate("f32", 10**6, 0.01),
    "no time": lambda m: m.read_bandwidth(1 << 24, 1, 0.0),
    "no bytes": lambda m: m.read_bandwidth(100, 1, 0.01),
    "cache type": lambda m: m.CacheLayer("f8", 4, 2, 32),
    "cache of none": lambda m: m.CacheLayer("f32", 0, 2, 32),
    "cache of too much": lambda m: m.CacheLayer("f32", 2**29, 2**29, 2**29),
    "heads of k": lambda m: cache(m).store(Q, Q, TABLE, 0),
    "rows of v": lambda m: cache(m).store(KEYS, KEYS[:1].copy(), TABLE, 0),
    "block not there": lambda m: cache(m).store(KEYS, KEYS, TABLE + 1, 0),
    "block below zero": lambda m: cache(m).store(KEYS, KEYS, TABLE - 1, 0),
    "past the table": lambda m: cache(m).store(KEYS, KEYS, TABLE, 63),
    "slot below zero": lambda m: cache(m).store(KEYS, KEYS, TABLE, -1),
    "heads of q": lambda m: cache(m).attend(Q[:, :3].copy(), TABLE, 0, 2, True),
    "features of q": lambda m: cache(m).attend(Q[:, :, :16].copy(), TABLE, 0, 2, True),
    "no queries": lambda m: cache(m).attend(Q[:0], TABLE, 0, 2, True),
    "no keys": lambda m: cache(m).attend(Q, TABLE, 0, 0, False),
    "keys before queries": lambda m: cache(m).attend(Q, TABLE, 5, 6, True),
    "keys past the table": lambda m: cache(m).attend(Q, TABLE, 0, 65, True),
    "prefix": lambda m: cache(m).attend(Q, TABLE, 0, 2, True, 3),
    "window": lambda m: cache(m).attend(Q, TABLE, 0, 2, True, 0, -1),
    "near without a middle": lambda m: cache(m).attend(Q, TABLE, 0, 2, True, near=np.ones((4, 34), np.float32)),
    "near without ends": lambda m: cache(m).attend(Q, TABLE, 0, 2, True, near=np.ones((4, 31), np.float32)),
    "near of other heads": lambda m: cache(m).attend(Q, TABLE, 0, 2, True, near=np.ones((3, 35), np.float32)),
    "near of no numbers": lambda m: cache(m).attend(Q, TABLE, 0, 2, True, near=np.ones((4, 35), np.float64)),
    "slopes": lambda m: cache(m).attend(Q, TABLE, 0, 2, True, 0, 0, 1.0, ONES[:2].copy()),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused(module: ModuleType, call: Callable[[ModuleType], object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        call(module)


def test_what_is_no_array_is_no_argument(module: ModuleType) -> None:
    with pytest.raises(TypeError):
        module.quantise([1.0, 2.0])
    with pytest.raises(TypeError):
        module.linear(X, X)


def test_read_only_arrays_are_read(module: ModuleType) -> None:
    x = X.copy()
    x.flags.writeable = False
    assert module.linear(x, packed(module)).shape == (3, 5)
