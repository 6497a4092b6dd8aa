"""Quantised weights to the bit: what a packed matrix means, and that no variant or neighbour changes a row."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from paddock.checkpoint.block_types import TYPES
from paddock.checkpoint.blocks import dequantise

# Where a block keeps its float16 numbers; any bytes elsewhere are valid codes.
HALVES = {
    "Q8_0": (0,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "IQ4_NL": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}
KINDS = {kind.name: kind for kind in TYPES.values()}
EDGES = (0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF)  # zeros, denormals, the smallest and the largest normal number


def blocks_of(random: np.random.Generator, name: str, rows: int, columns: int, largest: int) -> np.ndarray:
    """Blocks whose float16 numbers are any up to `largest` (as bits), of either sign."""
    kind = KINDS[name]
    blocks = random.integers(0, 256, (rows * columns // kind.weights, kind.nbytes), dtype=np.uint8)
    for at in HALVES[name]:
        halves = random.integers(0, largest + 1, len(blocks)) | random.integers(0, 2, len(blocks)) << 15
        halves[: len(EDGES)] = [edge if edge & 0x7FFF <= largest else 0 for edge in EDGES]
        blocks[:, at : at + 2] = halves.astype(np.uint16).view(np.uint8).reshape(-1, 2)
    return blocks.reshape(-1)


@pytest.mark.parametrize("name", HALVES)
def test_packed_blocks_mean_what_the_file_says(kernels: ModuleType, random: np.random.Generator, name: str) -> None:
    for rows, columns in ((35, 768), (6, KINDS[name].weights), (16, KINDS[name].weights * 9)):
        blocks = blocks_of(random, name, rows, columns, largest=0x7BFF)
        wanted = dequantise(KINDS[name], torch.from_numpy(blocks)).view(rows, columns).numpy()
        found = kernels.Weight.pack(name.lower(), rows, columns, blocks).unpack()
        assert np.array_equal(found.view(np.uint32), wanted.view(np.uint32))


def packed(module: ModuleType, name: str, rows: int, columns: int) -> object:
    random = np.random.default_rng(5)
    if name in HALVES:
        return module.Weight.pack(name.lower(), rows, columns, blocks_of(random, name, rows, columns, largest=0x3800))
    codes = random.integers(0, 256 if name == "INT8" else 16, (rows, columns), dtype=np.uint8)
    if name == "NF4":
        return module.Weight.pack_nf4(codes, random.random((rows, columns // 64), dtype=np.float32))
    scales = random.random((rows, columns // 32)).astype(np.float16).view(np.uint16)
    return module.Weight.pack_affine(name.lower(), codes, scales, codes[:, ::32].copy())


@pytest.mark.parametrize("name", [*HALVES, "INT4", "INT8", "NF4"])
def test_every_row_is_the_same_alone_and_in_every_fused_variant(module: ModuleType, name: str) -> None:
    rows, columns = 37, 3328  # more inputs than are taken at a time
    weight = packed(module, name, rows, columns)
    x = np.random.default_rng(6).standard_normal((27, columns), dtype=np.float32)
    before, seen = module.current(), {}
    try:
        for variant in module.variants():
            module.use(variant)
            together = module.linear(x, weight)
            for first, last in ((0, 1), (1, 3), (3, 6), (6, 10), (10, 16), (16, 27)):
                assert np.array_equal(module.linear(x[first:last].copy(), weight), together[first:last]), variant
            seen[variant] = together
    finally:
        module.use(before)
    fused = [variant for variant in seen if variant != "portable"]
    for variant in fused:
        assert np.array_equal(seen[variant], seen[fused[0]]), variant
