"""Linear layers over every format of weights, for every variant: what the published bytes mean, times the inputs."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from paddock.checkpoint.block_types import TYPES
from paddock.checkpoint.blocks import dequantise
from paddock.kernels import reference

BLOCKS = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
# Where a block keeps its float16 scales; any bytes elsewhere are valid codes.
SCALES = {
    "Q4_1": (0, 2),
    "Q5_1": (0, 2),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}
KINDS = {kind.name: kind for kind in TYPES.values()}
SHAPES = ((1, 256), (16, 512), (37, 768), (130, 256))  # outputs, inputs
EXACT = 2e-6  # of the sum of magnitudes: float32 additions in another order


def random_blocks(random: np.random.Generator, name: str, rows: int, columns: int) -> np.ndarray:
    kind = KINDS[name]
    blocks = random.integers(0, 256, (rows * columns // kind.weights, kind.nbytes), dtype=np.uint8)
    for offset in SCALES.get(name, (0,)):
        scales = random.uniform(-0.1, 0.1, len(blocks)).astype(np.float16)
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(-1)


def inputs(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return random.standard_normal((rows, columns)).astype(np.float32)


def as_codes(kernels: ModuleType, x: np.ndarray) -> np.ndarray:
    """The numbers that are left of x once they are int8."""
    codes, scales, _ = kernels.quantise(x)
    return (codes.reshape(len(x), -1, 32) * scales[..., None]).reshape(len(x), -1)[:, : x.shape[1]]


def assert_product(y: np.ndarray, x: np.ndarray, w: np.ndarray, tolerance: float = EXACT) -> None:
    exact = x.astype(np.float64) @ w.T.astype(np.float64)
    allowed = tolerance * (np.abs(x).astype(np.float64) @ np.abs(w.T).astype(np.float64)) + 1e-30
    assert y.shape == exact.shape
    assert (np.abs(y - exact) <= allowed).all(), np.max(np.abs(y - exact) / allowed)


@pytest.mark.parametrize("rows", [1, 2, 5, 17])
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(kernels: ModuleType, random: np.random.Generator, name: str, rows: int) -> None:
    for outputs, columns in SHAPES:
        blocks = random_blocks(random, name, outputs, columns)
        weight = kernels.Weight.pack(name.lower(), outputs, columns, blocks)
        wanted = dequantise(KINDS[name], torch.from_numpy(blocks)).view(outputs, columns).numpy()
        unpacked = weight.unpack()
        np.testing.assert_allclose(unpacked, wanted, rtol=1e-6, atol=1e-7)
        ids = random.integers(0, outputs, 5)
        assert np.array_equal(weight.take(ids), unpacked[ids])
        x = inputs(random, rows, columns)
        # A minimum times many inputs is added apart from the codes; both cancel, hence the room.
        assert_product(kernels.linear(x, weight), as_codes(kernels, x), unpacked, 1e-5)


@pytest.mark.parametrize(("name", "dtype"), [("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("columns", [1, 31, 64, 257])
def test_plain_numbers(
    kernels: ModuleType, random: np.random.Generator, name: str, dtype: torch.dtype, columns: int
) -> None:
    for outputs in (1, 16, 35):
        matrix = torch.from_numpy(inputs(random, outputs, columns)).to(dtype)
        weight = kernels.Weight.pack(name, outputs, columns, matrix.view(torch.uint8).numpy().reshape(-1))
        assert np.array_equal(weight.unpack(), matrix.float().numpy())
        x = torch.from_numpy(inputs(random, 3, columns))
        seen = x.bfloat16().float() if name == "bf16" else x
        assert_product(kernels.linear(x.numpy(), weight), seen.numpy(), matrix.float().numpy())


def test_a_linear_is_the_references(kernels: ModuleType, random: np.random.Generator) -> None:
    matrix, bias, onto = inputs(random, 50, 96), inputs(random, 1, 50)[0], inputs(random, 7, 50)
    x = inputs(random, 7, 96)
    weight = kernels.Weight.pack("f32", 50, 96, matrix.view(np.uint8).reshape(-1))
    wanted = reference.linear(torch.from_numpy(x), torch.from_numpy(matrix), torch.from_numpy(bias)).numpy()
    np.testing.assert_allclose(kernels.linear(x, weight, bias), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(kernels.linear(x, weight, bias, onto), wanted + onto, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "levels"), [("int4", 16), ("int8", 256)])
def test_affine_groups(kernels: ModuleType, random: np.random.Generator, name: str, levels: int) -> None:
    for outputs, columns in ((1, 32), (33, 96), (48, 256)):
        codes = random.integers(0, levels, (outputs, columns), dtype=np.uint8)
        zeros = random.integers(0, levels, (outputs, columns // 32), dtype=np.uint8)
        scales = random.uniform(-0.1, 0.1, zeros.shape).astype(np.float16)
        weight = kernels.Weight.pack_affine(name, codes, scales.view(np.uint16), zeros)
        apart = codes.astype(np.float32).reshape(outputs, -1, 32) - zeros[..., None]
        wanted = (apart * scales.astype(np.float32)[..., None]).reshape(outputs, columns)
        np.testing.assert_allclose(weight.unpack(), wanted, rtol=1e-6)
        x = inputs(random, 3, columns)
        assert_product(kernels.linear(x, weight), as_codes(kernels, x), wanted, 1e-5)


def test_sixteen_levels(kernels: ModuleType, random: np.random.Generator) -> None:
    for outputs, columns in ((1, 64), (40, 192)):
        codes = random.integers(0, 16, (outputs, columns), dtype=np.uint8)
        scales = random.uniform(0.01, 0.1, (outputs, columns // 64)).astype(np.float32)
        weight = kernels.Weight.pack_nf4(codes, scales)
        wanted = weight.unpack()
        ratios = (wanted.reshape(outputs, -1, 64) / scales[..., None]).reshape(-1)
        levels = [np.unique(ratios[codes.reshape(-1) == code].round(5)) for code in range(16)]
        assert all(len(level) <= 1 for level in levels)
        x = inputs(random, 4, columns)
        assert_product(kernels.linear(x, weight), x, wanted)


@pytest.mark.parametrize("name", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k", "q6_k"])
def test_a_row_does_not_depend_on_its_neighbours(kernels: ModuleType, random: np.random.Generator, name: str) -> None:
    outputs, columns = 70, 512
    if name.upper() in BLOCKS:
        blocks = random_blocks(random, name.upper(), outputs, columns)
    else:
        dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[name]
        matrix = torch.from_numpy(inputs(random, outputs, columns)).to(dtype)
        blocks = matrix.view(torch.uint8).numpy().reshape(-1)
    weight = kernels.Weight.pack(name, outputs, columns, blocks)
    x = inputs(random, 33, columns)
    together = kernels.linear(x, weight)
    for first, last in ((0, 1), (5, 7), (32, 33), (3, 20)):
        assert np.array_equal(kernels.linear(x[first:last].copy(), weight), together[first:last])


@pytest.mark.parametrize("rows", [3, 37])
@pytest.mark.parametrize("name", [*(name.lower() for name in BLOCKS), "int8"])
def test_variants_with_a_fused_product_agree_to_the_bit(
    module: ModuleType, random: np.random.Generator, name: str, rows: int
) -> None:
    variants = [variant for variant in module.variants() if variant != "portable"]
    if len(variants) < 2:
        pytest.skip("this processor runs one variant only")
    outputs, columns = 40, 512
    x = inputs(random, rows, columns)
    before, found = module.current(), []
    codes = random.integers(0, 256, (outputs, columns), dtype=np.uint8)
    scales = random.uniform(0.01, 0.1, (outputs, columns // 32)).astype(np.float16).view(np.uint16)
    try:
        for variant in variants:
            module.use(variant)
            if name == "int8":
                weight = module.Weight.pack_affine(name, codes, scales, codes[:, ::32].copy())
            else:
                blocks = random_blocks(np.random.default_rng(1), name.upper(), outputs, columns)
                weight = module.Weight.pack(name, outputs, columns, blocks)
            found.append(module.linear(x, weight))
    finally:
        module.use(before)
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_quantise(kernels: ModuleType, random: np.random.Generator) -> None:
    for columns in (1, 32, 50, 512):
        x = inputs(random, 4, columns)
        x[0] = 0
        padded = (columns + 31) // 32 * 32
        wide = np.zeros((4, padded), np.float32)
        wide[:, :columns] = x
        groups = wide.reshape(4, -1, 32)
        codes, scales, sums = kernels.quantise(x)
        np.testing.assert_allclose(scales, np.abs(groups).max(-1) / 127, rtol=1e-6)
        assert np.abs(groups - codes.reshape(groups.shape) * scales[..., None]).max() <= scales.max() * 0.5001
        assert np.array_equal(sums, codes.reshape(4, -1, 16).astype(np.int32).sum(-1))
        assert not codes[0].any() and not codes[:, columns:].any() and codes.min() >= -127


def test_to_bfloat16(kernels: ModuleType, random: np.random.Generator) -> None:
    x = np.concatenate([inputs(random, 3, 45), np.full((1, 45), 3.0e38, np.float32)])
    bits = kernels.to_bfloat16(x)
    assert bits.shape == (4, 64) and not bits[:, 45:].any()
    assert np.array_equal(bits[:, :45], torch.from_numpy(x).bfloat16().view(torch.uint16).numpy())
