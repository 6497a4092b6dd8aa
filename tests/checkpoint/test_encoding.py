"""Block types written: read back bit for bit by the gguf library, and no worse than its and llama.cpp's own."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from paddock.checkpoint import encoding
from paddock.checkpoint.block_types import TYPES
from paddock.checkpoint.blocks import dequantise
from paddock.checkpoint.encoding import ENCODERS, encode
from paddock.checkpoint.gguf_write import NUMBERS
from paddock.errors import CheckpointError

# What llama.cpp's own quantiser leaves of the norm of normal weights (`ggml_quantize_chunk`, no importances).
THEIRS = {"Q8_0": 0.00536, "Q6_K": 0.01777, "Q5_K": 0.03613, "Q4_K": 0.07142}
THEIRS |= {"Q5_1": 0.03786, "Q5_0": 0.04274, "Q4_1": 0.07832, "Q4_0": 0.08606}
SLACK = 1.01  # between one sample of weights and another


def kind(name: str) -> object:
    return TYPES[NUMBERS[name]]


def back(name: str, encoded: Tensor) -> Tensor:
    return dequantise(kind(name), encoded.reshape(-1)).view(len(encoded), -1)


def error(found: Tensor, wanted: Tensor, weights: Tensor | float = 1.0) -> float:
    return ((weights * (found - wanted) ** 2).sum() / (weights * wanted**2).sum()).sqrt().item()


def importances(columns: int) -> Tensor:
    return torch.rand(columns).pow(4) * 3 + 0.01


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_the_library_reads_the_same_numbers(name: str) -> None:
    x = torch.randn(64, 512) * torch.logspace(-6, 3, 64)[:, None]
    encoded = encode(kind(name), x)
    theirs = gguf.quants.dequantize(encoded.numpy(), Kind(NUMBERS[name]))
    assert np.array_equal(theirs.view(np.int32), back(name, encoded).numpy().view(np.int32))


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_error_is_no_larger_than_llama_cpps(name: str) -> None:
    x = torch.randn(256, 1024) * 0.02
    found = error(back(name, encode(kind(name), x)), x)
    print(f"{name}: {found:.5f}, llama.cpp {THEIRS[name]:.5f}")
    assert found < THEIRS[name] * SLACK


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_error_is_no_larger_than_the_librarys(name: str) -> None:
    x = torch.distributions.StudentT(4.0).sample((128, 512))
    theirs = torch.from_numpy(
        gguf.quants.dequantize(gguf.quants.quantize(x.numpy(), Kind(NUMBERS[name])), Kind(NUMBERS[name]))
    )
    assert error(back(name, encode(kind(name), x)), x) <= error(theirs, x)


@pytest.mark.parametrize("name", sorted(set(ENCODERS) - {"Q8_0"}))
def test_importances_move_the_error_to_where_it_matters_less(name: str) -> None:
    x, weights = torch.randn(128, 512), importances(512)
    plain, weighed = back(name, encode(kind(name), x)), back(name, encode(kind(name), x, weights))
    assert error(weighed, x, weights) < 0.97 * error(plain, x, weights)
    assert error(weighed, x) > error(plain, x)


@pytest.mark.parametrize("name", sorted(ENCODERS))
@pytest.mark.parametrize("weigh", [False, True])
def test_blocks_of_every_shape(name: str, weigh: bool) -> None:
    """All zero, all equal, of one sign, one large among zeros, tiny, huge: finite, and near where near is possible."""
    rows = [
        torch.zeros(256),
        torch.full((256,), 0.3),
        torch.full((256,), -0.3),
        torch.rand(256) + 5,
        -torch.rand(256) - 5,
    ]
    rows += [torch.eye(256)[17] * 4, torch.randn(256) * 1e-9, torch.randn(256) * 1e4]
    x = torch.stack(rows)
    weights = torch.zeros(256) if weigh else None  # inputs that are always 0
    found = back(name, encode(kind(name), x, weights))
    assert found.isfinite().all()
    assert torch.equal(found[0], torch.zeros(256))
    if not weigh:
        assert error(found[1], x[1]) < 0.07 and error(found[2], x[2]) < 0.07 and error(found[5], x[5]) < 0.07
        assert error(found[7], x[7]) < 0.11


@pytest.mark.parametrize("name", ["Q4_K", "Q6_K", "Q5_1", "F16"])
def test_chunks_and_threads_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weights, threads = torch.randn(37, 512), importances(512), torch.get_num_threads()
    whole = encode(kind(name), x, weights)
    monkeypatch.setattr(encoding, "CHUNK", 1024)
    assert torch.equal(encode(kind(name), x, weights), whole)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["Q4_0", "Q4_K", "Q6_K", "Q8_0", "F16"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rows_of_any_type_and_layout(name: str, dtype: torch.dtype) -> None:
    x = torch.randn(512, 64).to(dtype).T
    assert torch.equal(encode(kind(name), x), encode(kind(name), x.float().contiguous()))


@pytest.mark.parametrize(("name", "dtype"), [("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)])
def test_plain_numbers_are_rounded_and_nothing_else(name: str, dtype: torch.dtype) -> None:
    x = torch.randn(5, 7)
    assert torch.equal(encode(kind(name), x).view(dtype), x.to(dtype))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["Q4_K", "Q8_0", "F16", "F32"])
def test_what_is_no_number_is_refused(name: str, value: float) -> None:
    x = torch.randn(8, 256)
    x[5, 99] = value
    with pytest.raises(CheckpointError, match="not numbers"):
        encode(kind(name), x)


@pytest.mark.parametrize("name", ["Q4_0", "Q6_K", "F16"])
def test_too_large_numbers_are_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="too large"):
        encode(kind(name), torch.full((1, 256), 1e6))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
@pytest.mark.parametrize("name", sorted(ENCODERS))
@pytest.mark.parametrize("weigh", [False, True])
@pytest.mark.parametrize("spread", ["normal", "heavy"])
def test_beside_llama_cpp_on_the_same_matrix(name: str, weigh: bool, spread: str) -> None:
    package = importlib.util.find_spec("llama_cpp")
    assert package is not None and package.origin is not None
    library = ctypes.CDLL(str(Path(package.origin).with_name("lib") / "libggml-base.so"))
    x = torch.randn(256, 2048) if spread == "normal" else torch.distributions.StudentT(4.0).sample((256, 2048))
    weights, types = importances(2048) if weigh else None, TYPES[NUMBERS[name]]
    out = torch.empty(x.numel() // types.weights * types.nbytes, dtype=torch.uint8)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (x, out)]
    counts = [ctypes.c_int64(number) for number in (0, *x.shape)]
    weighing = ctypes.c_void_p(weights.data_ptr()) if weights is not None else None
    library.ggml_quantize_chunk(NUMBERS[name], *pointers, *counts, weighing)
    theirs = dequantise(types, out).view(x.shape)
    measure = 1.0 if weights is None else weights
    found = error(back(name, encode(types, x, weights)), x, measure), error(theirs, x, measure)
    print(f"{name} {spread} {'weighed' if weigh else 'plain'}: {found[0]:.5f}, llama.cpp {found[1]:.5f}")
    assert found[0] < 1.02 * found[1]
