"""What the documentation shows is run, and says the same in both languages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_HERE = ("make ", "source ")  # they make and enter the environment that this test already runs in


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def commands(page: Path) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_run(page: Path, tmp_path: Path) -> None:
    """In order, in one empty folder, as a reader would type them."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
    for command in commands(page):
        if command.startswith(NOT_HERE):
            continue
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.returncode == 0, f"{command}\n{run.stdout[-1000:]}\n{run.stderr[-1000:]}"
        assert run.stdout.strip(), f"{command} printed nothing"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_runs(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "python"):
        run = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, f"{block}\n{run.stderr[-2000:]}"


def test_both_readmes_show_the_same_commands() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh-CN.md"
    assert commands(english) == commands(chinese)
    assert blocks(english, "python") == blocks(chinese, "python")


def test_the_map_names_files_that_exist() -> None:
    (tree,) = blocks(ROOT / "README.md", "text")
    named = re.findall(r"[\w/-]+\.py", tree)
    package = ROOT / "src" / "paddock"
    assert not [name for name in named if not list(package.rglob(name)) and not (ROOT / name).exists()]
