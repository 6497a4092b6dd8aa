"""How much memory this process may have, inside a container and outside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paddock.engine.memory import free_memory
from paddock.kernels import system_memory

MB = 10**6


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files say what the system would: 900 MB free, no control group yet."""
    (tmp_path / "meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable:  900000 kB\n")
    (tmp_path / "cgroup").write_text("")
    monkeypatch.setattr(system_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(system_memory, "CGROUP", tmp_path / "fs")
    monkeypatch.setattr(system_memory, "PROCESS_CGROUP", tmp_path / "cgroup")
    return tmp_path


def group(folder: Path, names: tuple[str, str, str], limit: str, used: int, dropped: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(limit + "\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {dropped}\n")


SECOND = ("memory.max", "memory.current", "inactive_file")
FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def test_without_a_group_it_is_the_machines(system: Path) -> None:
    assert system_memory.available() == 900_000 * 1024
    assert system_memory.total() == system_memory._machine()


def test_the_tightest_group_on_the_way_up_bounds_both(system: Path) -> None:
    (system / "cgroup").write_text("0::/a/b\n")
    group(system / "fs" / "a" / "b", SECOND, "max", 10, 5)
    group(system / "fs" / "a", SECOND, str(300 * MB), 100 * MB, 10 * MB)
    assert system_memory.available() == free_memory(torch.device("cpu")) == 210 * MB
    assert system_memory.total() == 300 * MB


def test_the_first_version_of_groups_and_one_that_is_full(system: Path) -> None:
    (system / "cgroup").write_text("7:cpu:/x\n4:memory:/x\n")
    group(system / "fs" / "memory" / "x", FIRST, str(200 * MB), 250 * MB, 0)
    group(system / "fs" / "memory", FIRST, str(2**63 - 4096), 0, 0)
    assert (system_memory.available(), system_memory.total()) == (0, 200 * MB)


@pytest.mark.parametrize("said", ["nonsense\n", "0::/../../..\n", "0::\n", "\xff"])
def test_what_cannot_be_read_bounds_nothing(system: Path, said: str) -> None:
    (system / "cgroup").write_text(said, encoding="latin-1")
    group(system / "fs", SECOND, "much", 1, 1)
    (system / "meminfo").write_text("MemAvailable: lots\n")
    assert system_memory.available() == system_memory.total() == system_memory._machine()
