"""What the compiler made of each source: wide instructions stay in the objects of the variants that need them.

An inline function that a variant shared with the rest would be merged by the linker, and the wide copy of it run on
processors that lack the instruction. So a variant's object defines names of its own namespace only.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / f"editable-{sys.implementation.cache_tag}" / "CMakeFiles"
VARIANTS = sorted(path.name.removesuffix(".dir").removeprefix("variant_") for path in BUILD.glob("variant_*.dir"))
PLAIN = sorted((BUILD / "_native.dir").rglob("*.o"))


def tool(name: str, *arguments: str) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"{name} (binutils) is not installed")
    return subprocess.run([name, *arguments], capture_output=True, text=True, check=True).stdout


def objects_of(variant: str) -> list[Path]:
    return sorted((BUILD / f"variant_{variant}.dir").rglob("*.o"))


@pytest.mark.skipif(not PLAIN, reason="the kernels were not compiled in this checkout (make native)")
def test_every_object_was_found() -> None:
    assert "portable" in VARIANTS
    assert all(objects_of(variant) for variant in VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_defines_names_of_its_own_only(variant: str) -> None:
    own = f"paddock::{variant}::"
    for path in objects_of(variant):
        for line in tool("nm", "--demangle", "--defined-only", str(path)).splitlines():
            kind, name = line.split(maxsplit=2)[1:]
            local = kind in "tdbr" and not name.startswith("paddock::")  # the compiler's own constants and jump tables
            assert local or own in name, f"{path.name}: {kind} {name}"


@pytest.mark.skipif(sys.platform != "linux", reason="names of registers as GNU objdump writes them")
@pytest.mark.parametrize("path", [*PLAIN, *objects_of("portable")], ids=lambda path: path.name)
def test_what_runs_everywhere_holds_no_wide_instruction(path: Path) -> None:
    code = tool("objdump", "--disassemble", "--no-show-raw-insn", str(path))
    assert re.search(r"%[yz]mm\d", code) is None, path.name


@pytest.mark.skipif("avx2" not in VARIANTS, reason="no wide variant in this build")
def test_the_search_for_wide_instructions_is_not_blind() -> None:
    code = "".join(tool("objdump", "--disassemble", "--no-show-raw-insn", str(path)) for path in objects_of("avx2"))
    assert "%ymm" in code and "%zmm" not in code
