"""Quantised matrices in memory: as published, or rounded while a model is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import paddock
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.packing import KINDS, Packing
from paddock.errors import CheckpointError, UsageError
from paddock.kernels.native import library
from paddock.kernels.packed import Packed

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels in this build")
IDS = [1, 403, 407, 261, 378, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110]


@pytest.fixture(scope="module")
def plain() -> torch.Tensor:
    return paddock.load().logits(IDS)


@pytest.mark.parametrize("kind", ["q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "q6_k"])
def test_a_model_rounded_while_it_is_read_is_nearly_itself(kind: str, plain: torch.Tensor) -> None:
    model = paddock.load(quantize=kind)
    assert isinstance(model.model.blocks[0].attention.q.weight, Packed)
    assert isinstance(model.model.blocks[0].attention_norm.weight, torch.nn.Parameter)
    found = model.logits(IDS)
    error = float((found - plain).norm() / plain.norm())
    # The bundled model's columns are no whole super-blocks of 256: q6_k means 8 bits there.
    assert 1e-4 < error < {"q8_0": 0.02, "q6_k": 0.02, "q5_1": 0.1, "q5_0": 0.1}.get(kind, 0.2)


def test_token_table_and_head_have_8_bits_at_least() -> None:
    assert paddock.load(quantize="q4_0").model.embedding.tokens.weight.native.format == "q8_0"
    assert paddock.load(quantize="q8_0").model.embedding.tokens.weight.native.format == "q8_0"


def test_what_was_rounded_is_saved_as_the_numbers_it_stands_for(tmp_path: Path) -> None:
    rounded = paddock.load(quantize="q4_0")
    rounded.save(tmp_path / "saved")
    saved = open_checkpoint(tmp_path / "saved").model()
    expected = rounded.model.blocks[1].feedforward.up.weight
    assert torch.equal(saved.blocks[1].feedforward.up.weight, expected.dequantise())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "q4_9"}, "q4_9.*q4_0"),
        ({"quantize": 4}, "unknown kind"),
        ({"quantize": "q4_0", "dtype": "float32"}, "different things"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        paddock.load(**options)  # type: ignore[arg-type]


def test_rounding_needs_the_native_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_KERNELS", "reference")
    with pytest.raises(UsageError, match="native kernels"):
        paddock.load(quantize="q8_0")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scales_that_are_not_numbers_are_refused(value: float) -> None:
    blocks = torch.zeros(16, 18, dtype=torch.uint8)
    blocks[7, :2] = torch.tensor([value], dtype=torch.float16).view(torch.uint8)
    assert not Packed.finite("Q4_0", (blocks,))
    assert Packed.finite("Q4_0", (blocks[:7],))


def test_rounding_refuses_numbers_that_are_none(tmp_path: Path) -> None:
    model = paddock.load()
    weight = model.model.blocks[0].attention.q.weight
    weight.data = weight.data.clone()
    weight.data[3, 5] = float("nan")
    model.save(tmp_path / "broken")
    with pytest.raises(CheckpointError, match="not numbers"):
        open_checkpoint(tmp_path / "broken").model(packing=Packing(KINDS["q8_0"]))
