"""A file appears whole under its final name, or not at all."""

from __future__ import annotations

import errno
import mmap
from pathlib import Path

import pytest

from paddock.checkpoint.writing import atomic_write, write_bytes, write_text
from paddock.errors import PaddockError, ResourceError


def test_the_file_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.bin"
    with atomic_write(target) as partial:
        partial.write_bytes(b"whole")
        assert partial.parent == target.parent
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(type(failure)), atomic_write(target) as partial:
        partial.write_text("half")
        raise failure
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_a_resource_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no space"), atomic_write(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_other_refusals_of_the_file_system_are_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PaddockError, match="cannot be written"):
        write_text(tmp_path / "file" / "below", "a file is no folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(PaddockError, match="cannot be written"):
        write_text(tmp_path / "folder", "a folder is no file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_map_of_the_old_file_stays_valid(tmp_path: Path) -> None:
    target = tmp_path / "weights"
    target.write_bytes(b"a" * 8192)
    with target.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        write_bytes(target, b"b" * 10)
        assert view[:] == b"a" * 8192
    assert target.read_bytes() == b"b" * 10


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    blob, link = tmp_path / "blob", tmp_path / "link"
    blob.write_text("shared")
    link.symlink_to(blob)
    write_text(link, "mine")
    assert blob.read_text() == "shared"
    assert link.read_text() == "mine"
