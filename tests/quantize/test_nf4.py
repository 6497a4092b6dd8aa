"""NF4: the published levels and layout, the exact nearest level, 4.127 bits a weight, and its advantage over int4."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paddock.checkpoint.quantised_folder import read
from paddock.checkpoint.stored import Stored
from paddock.kernels import levels as level_tables
from paddock.kernels.nf4 import NF4_LEVELS
from paddock.quantize import nf4

GOLDEN = json.loads((Path(__file__).parent.parent / "checkpoint" / "bitsandbytes.json").read_text())["nf4 double"]
STATE = "a.weight.quant_state.bitsandbytes__nf4"


def reread(tensors: dict[str, Tensor]) -> Tensor:
    stored = {name: Stored(tuple(t.shape), t.dtype, lambda t=t: t) for name, t in tensors.items()}  # type: ignore[misc]
    return read({"quant_method": "bitsandbytes", "load_in_4bit": True}, stored, [])["a.weight"].load()


def golden(key: str, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(GOLDEN[key])), dtype=dtype)


def golden_weights() -> Tensor:
    n = torch.arange(3 * 192, dtype=torch.float64)
    weight = torch.sin(n * 12.9898) * torch.cos(n * 0.37 + 1) * (1 + (n // 64) % 7) * 0.03
    weight = weight.float().view(3, 192)
    weight[1, 64:128] = 0
    return weight


def test_bitsandbytes_packs_the_same_weights_into_the_same_bytes() -> None:
    found = nf4.pack("a.weight", golden_weights())
    assert torch.equal(found["a.weight"].flatten(), golden("weight", torch.uint8))
    assert torch.equal(found["a.weight.absmax"], golden("absmax", torch.uint8))
    assert torch.equal(found["a.weight.quant_map"], golden("quant_map", torch.float32))
    assert torch.allclose(found["a.weight.nested_absmax"], golden("nested_absmax", torch.float32), rtol=1e-6)
    assert torch.allclose(found["a.weight.nested_quant_map"], golden("nested_quant_map", torch.float32), atol=1e-7)
    mine, theirs = (
        json.loads(bytes(t.tolist())) for t in (found[STATE], golden(STATE.removeprefix("a.weight."), torch.uint8))
    )
    assert mine.pop("nested_offset") == pytest.approx(theirs.pop("nested_offset"), rel=1e-6)
    assert mine == theirs
    assert torch.allclose(reread(found), golden("dequantised", torch.float32).view(3, 192), rtol=1e-5)


def test_the_levels_are_the_papers_normal_quantiles() -> None:
    """Eight quantiles of the upper half and seven of the lower, and an exact zero, over the largest."""
    end = 0.9677083
    normal = torch.distributions.Normal(0.0, 1.0)
    upper = normal.icdf(torch.linspace(end, 0.5, 9, dtype=torch.float64)[:-1])
    lower = -normal.icdf(torch.linspace(end, 0.5, 8, dtype=torch.float64)[:-1])
    levels = torch.cat((upper, lower, torch.zeros(1))).sort().values
    assert torch.allclose(levels / levels.max(), torch.tensor(NF4_LEVELS).double(), atol=1e-6)


def test_bits_per_weight() -> None:
    pieces = nf4.pack("a.weight", torch.randn(256, 4096))
    size = sum(pieces[f"a.weight{part}"].nbytes for part in ("", ".absmax", ".nested_absmax"))
    assert round(8 * size / (256 * 4096), 3) == 4.127


def test_error_is_below_that_of_int4_with_equal_blocks() -> None:
    weight = torch.randn(256, 1024)
    blocks = weight.view(-1, 64)
    scales = blocks.abs().amax(1, keepdim=True) / 7
    int4 = ((blocks / scales).round() * scales).view_as(weight)
    error, plain = ((x - weight).square().mean().sqrt().item() for x in (reread(nf4.pack("a.weight", weight)), int4))
    assert error < 0.9 * plain and error < 0.095


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50))
def test_the_nearest_level_is_the_nearest(values: list[float]) -> None:
    for levels in (torch.tensor(NF4_LEVELS), level_tables.dynamic_levels()):
        distances = (torch.tensor(values).double()[:, None] - levels.double()).abs()
        found = level_tables.nearest_level(torch.tensor(values), levels)
        assert torch.equal(distances.gather(1, found.long()[:, None])[:, 0], distances.amin(1))


def test_dynamic_levels() -> None:
    levels = level_tables.dynamic_levels()
    assert len(levels) == 256 and levels.unique().numel() == 256 and levels.diff().gt(0).all()
    assert levels[127] == 0 and levels[-1] == 1 and levels[128] == pytest.approx(5.5e-7)
    assert torch.equal(levels[:127], -levels[128:255].flip(0))


@pytest.mark.parametrize("shape", [(5, 33), (1, 1), (1, 63), (3, 64), (7, 129)])
def test_blocks_that_are_not_full(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape)
    found = reread(nf4.pack("a.weight", weight))
    scales = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % 64)).view(-1, 64).abs().amax(1)
    most = scales.repeat_interleave(64)[: weight.numel()].view(shape)
    assert ((found - weight).abs() <= 0.16 * most + 0.01 * scales.max()).all()


def test_zeros_stay_zeros() -> None:
    assert reread(nf4.pack("a.weight", torch.zeros(4, 64))).eq(0).all()
    weight = torch.randn(4, 64)
    weight[2] = 0
    assert reread(nf4.pack("a.weight", weight))[2].eq(0).all()
