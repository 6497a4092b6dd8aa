"""The C++ tests of the kernels: what each is made of, and how several are compiled and run at once."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS, SOURCES = ROOT / "tests" / "kernels" / "cpp", ROOT / "src" / "paddock" / "kernels" / "cpp"
# What each test of a variant is linked with.
VARIANT_TESTS = {
    "test_quantised": ("pack.cpp",),
    "test_training": ("training_variant.cpp",),
    "test_floats": ("pack_dense.cpp", "attention.cpp"),
    "test_attention": ("attention.cpp",),
    "test_products": ("training_variant.cpp",),
    "test_adapt": (
        "adapt.cpp", "program.cpp", "plan.cpp", "program_attention.cpp", "angles.cpp", "cache.cpp", "weight.cpp",
        "pack.cpp", "pack_dense.cpp", "attention.cpp", "pool.cpp", "cores.cpp", "forked.cpp", "variant.cpp",
    ),
}  # fmt: skip
# Of the matrix unit's variants, which replace the linears alone.
TILED_TESTS = {"test_tiled": ("pack.cpp", "pack_dense.cpp", "tiled_proof.cpp")}
POOL = ("pool.cpp", "cores.cpp")
COMMON = ("-std=c++17", "-ffp-contract=off", f"-I{SOURCES}", "-pthread")


@dataclass(frozen=True)
class Program:
    """A test compiled by `compiler` with `options`. runner: what runs it, nothing for this machine."""

    test: str
    linked: Sequence[str]
    label: str
    compiler: str
    options: Sequence[str]
    runner: Sequence[str] = ()


def run_all(programs: Iterable[Program], folder: Path) -> bool:
    """Compiles and runs every program, as many at a time as there are processors; True where all of them passed."""
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        return all(list(workers.map(lambda program: _run(program, folder), programs)))


def _run(program: Program, folder: Path) -> bool:
    made = folder / f"{program.test}-{program.label}".replace(" ", "-")
    sources = [TESTS / f"{program.test}.cpp", *(SOURCES / source for source in program.linked)]
    begun = time.monotonic()
    built = _said([program.compiler, *COMMON, *program.options, *map(str, sources), "-o", str(made)])
    compiled = time.monotonic()
    ended = _said([*program.runner, str(made)]) if built.returncode == 0 else built
    times = f"compiled in {compiled - begun:.0f} s, ran {time.monotonic() - compiled:.0f} s"
    good = ended.returncode == 0
    print(
        f"{program.test} {program.label}: {'passed' if good else f'FAILED ({ended.returncode})'}, {times}", flush=True
    )
    if not good or built.stdout:
        print(built.stdout, ended.stdout if ended is not built else "", flush=True)
    return good


def _said(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # The thread sanitizer would end a forked child that starts threads, which the pool's does.
    environment = os.environ | {"TSAN_OPTIONS": "die_after_fork=0"}
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=environment
    )
