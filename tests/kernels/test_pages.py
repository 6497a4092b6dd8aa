"""Pages of a mapped file: let go of once they were copied, kept where they are no longer the file's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from paddock.checkpoint.mapped import MappedFile
from paddock.kernels import pages
from paddock.kernels.pages import give_back

pytestmark = pytest.mark.skipif(not pages.PAGEMAP.exists(), reason="only Linux tells which pages are a file's")
ROWS, COLUMNS = 1024, 1024


@pytest.fixture
def matrix(tmp_path: Path) -> torch.Tensor:
    """A matrix of a mapped file, all of it read."""
    numbers = torch.arange(ROWS * COLUMNS, dtype=torch.float32)
    path = tmp_path / "weights"
    path.write_bytes(bytes(64) + numbers.numpy().tobytes())
    found = MappedFile(path).tensor(64, torch.float32, (ROWS, COLUMNS), "a matrix")
    assert found.sum() > 0
    return found


def resident(matrix: torch.Tensor) -> int:
    """Bytes of the mapping with the matrix that are in memory."""
    place, here, size = matrix.data_ptr(), False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            first, last = (int(part, 16) for part in head.split("-"))
            here = first <= place < last
        elif here and line.startswith("Rss:"):
            size = int(line.split()[1]) * 1024
    return size


def test_pages_go_and_the_numbers_stay(matrix: torch.Tensor) -> None:
    assert resident(matrix) >= matrix.nbytes
    assert give_back(matrix)
    assert resident(matrix) < matrix.nbytes // 50
    assert torch.equal(matrix.flatten(), torch.arange(ROWS * COLUMNS, dtype=torch.float32))


@pytest.mark.parametrize("written", [1, ROWS // 2, ROWS - 2])
def test_what_was_written_to_is_kept(matrix: torch.Tensor, written: int) -> None:
    matrix.numpy()[written, COLUMNS // 2] = -7.0  # PyTorch's own count of changes does not see this
    before = matrix.clone()
    assert not give_back(matrix)
    assert torch.equal(matrix, before)


def test_memory_that_is_no_files_is_left_alone() -> None:
    own = torch.randn(ROWS, COLUMNS)
    before = own.clone()
    assert not give_back(own)
    assert torch.equal(own, before)


def test_small_ones_and_systems_that_do_not_tell(matrix: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not give_back(matrix[:8])
    monkeypatch.setattr(pages, "PAGEMAP", Path("/nowhere/pagemap"))
    assert not give_back(matrix)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not give_back(matrix)
    assert resident(matrix) >= matrix.nbytes
