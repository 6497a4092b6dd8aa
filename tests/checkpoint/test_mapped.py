"""Bounded views of mapped files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from paddock.checkpoint.mapped import PAGE, MappedFile
from paddock.errors import CheckpointError


@pytest.fixture
def file(tmp_path: Path) -> MappedFile:
    path = tmp_path / "numbers"
    path.write_bytes(bytes(range(256)) * 64)
    return MappedFile(path)


def test_ranges_inside_the_file(file: MappedFile) -> None:
    assert file.bytes(0, 3, "x") == b"\x00\x01\x02"
    assert file.bytes(file.size - 1, 1, "x") == b"\xff"
    assert file.bytes(file.size, 0, "x") == b""
    view = file.tensor(1, torch.uint8, (2, 3), "x")
    assert view.tolist() == [[1, 2, 3], [4, 5, 6]]
    odd = file.tensor(1, torch.float32, (3,), "x")
    assert torch.equal(odd, file.tensor(1, torch.uint8, (12,), "x").clone().view(torch.float32)), "no alignment needed"
    assert file.tensor(5, torch.int16, (), "x").item() == 0x0605
    assert file.tensor(file.size, torch.float64, (4, 0), "x").shape == (4, 0)


@pytest.mark.parametrize(
    ("offset", "size"), [(-1, 1), (0, -1), (16384, 1), (16383, 2), (2**64 - 1, 2), (2**63, 2**63), (0, 2**64)]
)
def test_ranges_outside_the_file(file: MappedFile, offset: int, size: int) -> None:
    with pytest.raises(CheckpointError, match="cut short or corrupt: the thing needs bytes"):
        file.bytes(offset, size, "the thing")


@pytest.mark.parametrize(
    "shape",
    [
        (-1,),
        (-1, -1),
        (4097,),
        (2**31, 2**31, 4),
        (2**32, 2**32),
        (2**62, 4, 0),
        (0, 2**62, 2**62),
        (4194305, 4194305, 211106198978564),
    ],
)
def test_impossible_shapes(file: MappedFile, shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError):
        file.tensor(0, torch.float32, shape, "x")


def test_writing_to_a_view_leaves_the_file_alone(file: MappedFile) -> None:
    before = file.path.read_bytes()
    file.tensor(0, torch.uint8, (100,), "x").fill_(7)
    assert file.path.read_bytes() == before
    assert file.bytes(0, 1, "x") == b"\x07"


def test_tensors_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\x01" * 8)
    view = MappedFile(path).tensor(0, torch.uint8, (8,), "x")
    path.unlink()
    assert view.sum() == 8


def test_forgotten_pages_come_back(file: MappedFile) -> None:
    view = file.tensor(0, torch.uint8, (file.size,), "x")
    before = view.clone()
    file.forget(0, file.size)
    file.forget(PAGE - 1, 2)
    assert torch.equal(view, before)


def test_what_is_no_file_of_weights(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name, reason in {
        "empty": "is empty",
        "folder": "is a folder",
        "pipe": "not a regular file",
        "device": "not a regular file",
        "dangling": "missing",
        "absent": "missing",
        "x" * 300: "too long",
    }.items():
        with pytest.raises(CheckpointError, match=reason):
            MappedFile(tmp_path / name)


def test_no_file_handle_is_kept(tmp_path: Path) -> None:
    """A checkpoint of a thousand shards must not run out of them; a map needs one of its own at most."""
    path = tmp_path / "a"
    path.write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(50):
        MappedFile(path)
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after <= before + 1
