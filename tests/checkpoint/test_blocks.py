"""Every block type dequantises bit for bit as the gguf library does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from paddock.checkpoint import blocks
from paddock.checkpoint.block_types import TYPES
from paddock.checkpoint.blocks import DEQUANTISERS, dequantise

BLOCKS = 10_000
READ = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"}
NUMBERS = {name: number for number, kind in TYPES.items() if (name := kind.name) in READ}
# Where in a block the float16 scales and minima lie.
SCALES = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2)}
SCALES |= {"Q6_K": (208,)}
EXTREMES = np.array([0.0, -0.0, 1.0, -1.0, 65504, -65504, 6e-8, -6e-8, 6.1e-5, 0.1, np.inf, -np.inf], np.float16)


def reference(data: np.ndarray, number: int) -> np.ndarray:
    with np.errstate(all="ignore"):
        return dequantize(data, GGMLQuantizationType(number)).reshape(-1)


def with_scales(data: np.ndarray, name: str, scales: np.ndarray) -> np.ndarray:
    """The blocks with (blocks, scales per block) float16 put where this type keeps them."""
    for column, at in enumerate(SCALES.get(name, (0,))):
        data[:, at : at + 2] = scales[:, column : column + 1].view(np.uint8)
    return data


def same_bits(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Element by element; which of its many bit patterns a NaN has is left open by IEEE 754."""
    return (ours.view(np.int32) == theirs.view(np.int32)) | (np.isnan(ours) & np.isnan(theirs))


@pytest.mark.parametrize("name", sorted(READ))
def test_random_blocks(name: str) -> None:
    kind, rng = TYPES[NUMBERS[name]], np.random.default_rng(NUMBERS[name])
    data = rng.integers(0, 256, (BLOCKS, kind.nbytes), dtype=np.uint8)
    finite = (
        rng.integers(0, 0x7C00, (BLOCKS, 2), dtype=np.uint16) | rng.integers(0, 2, (BLOCKS, 2), dtype=np.uint16) << 15
    )
    data = with_scales(data, name, finite.view(np.float16))
    ours, theirs = dequantise(kind, torch.from_numpy(data).view(-1)).numpy(), reference(data, NUMBERS[name])
    assert np.isfinite(theirs).all()
    equal = same_bits(ours, theirs)
    print(f"{name}: {equal.reshape(BLOCKS, -1).all(1).sum()} of {BLOCKS} blocks equal")
    assert equal.all()


@pytest.mark.parametrize("name", sorted(READ))
def test_extreme_blocks(name: str) -> None:
    """All bits clear, all set, each byte alone; every pair of the extreme scales."""
    kind = TYPES[NUMBERS[name]]
    patterns = np.concatenate([np.zeros((1, kind.nbytes)), np.full((1, kind.nbytes), 255), 255 * np.eye(kind.nbytes)])
    pairs = np.stack(np.meshgrid(EXTREMES, EXTREMES), -1).reshape(-1, 2)
    data = np.repeat(patterns.astype(np.uint8), len(pairs), axis=0)
    data = with_scales(data, name, np.tile(pairs, (len(patterns), 1)))
    ours, theirs = dequantise(kind, torch.from_numpy(data).view(-1)).numpy(), reference(data, NUMBERS[name])
    assert same_bits(ours, theirs).all()


def test_sizes_are_those_of_the_library() -> None:
    assert {number: kind.name for number, kind in TYPES.items()} == {
        kind.value: kind.name for kind in GGMLQuantizationType
    }
    for number, kind in TYPES.items():
        if kind.name != "Q8_1":  # two float16 and 32 int8 are 36 bytes; the library's table still says 40
            assert (kind.weights, kind.nbytes) == GGML_QUANT_SIZES[GGMLQuantizationType(number)], kind.name
    assert set(DEQUANTISERS) == READ


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_chunks_and_types(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """Chunks of any size give the same, rounded to the type that is asked for."""
    kind = TYPES[NUMBERS["Q4_K"]]
    data = torch.randint(0, 256, (7 * kind.nbytes,), dtype=torch.uint8)
    whole = dequantise(kind, data)
    for chunk in (1, 256, 700, 1 << 20):
        monkeypatch.setattr(blocks, "CHUNK", chunk)
        assert torch.equal(dequantise(kind, data, dtype).nan_to_num(), whole.to(dtype).nan_to_num())
