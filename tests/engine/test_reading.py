"""Texts read whole by native programs: after a failure, and after the weights changed."""

from __future__ import annotations

import pytest
import torch

import paddock
from paddock.engine import reading
from paddock.engine.reading import Reader, packed_weights
from paddock.errors import ResourceError
from paddock.kernels.native import KERNELS, library
from paddock.kernels.packed import Packed
from paddock.model.step import Step

IDS = list(range(1, 9))


@pytest.fixture
def reader() -> Reader:
    made = Reader(paddock.load().model)
    if not made.native:
        pytest.skip("no native kernels in this build")
    return made


def test_after_a_cache_that_found_no_memory_the_next_text_is_read(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(reading, "recorded", refuse)
        with pytest.raises(ResourceError):
            reader.logits(IDS)
    assert torch.isfinite(reader.logits(IDS)).all()


def test_programs_recorded_after_the_weights_changed_use_the_new_ones(reader: Reader) -> None:
    before = reader.logits(IDS)
    with torch.no_grad():
        reader.model.blocks[0].feedforward.down.weight.mul_(2.0)
    after = Reader(reader.model).logits(IDS)
    assert not torch.equal(before, after)
    ids = torch.tensor([IDS])
    with torch.no_grad():
        expected = reader.model(ids, Step.begin(reader.model.architecture, ids))[0]
    assert (after - expected).abs().max() < 1e-2 * expected.abs().max()


def test_a_matrix_that_is_packed_is_kept(reader: Reader) -> None:
    """Else another could come to lie at its address, and be taken for it."""
    reader.logits(IDS)
    kept = packed_weights(reader.model)
    assert kept and all(address == matrix.data_ptr() for address, (matrix, _, _) in kept.items())


def test_packed_matrices_are_computed_with_wherever_the_reference_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    if library() is None:
        pytest.skip("no native kernels in this build")
    packed, x = Packed.plain(torch.eye(32)), torch.ones(1, 32)
    monkeypatch.setenv(KERNELS, "reference")
    assert torch.equal(packed.linear(x, None), x)
