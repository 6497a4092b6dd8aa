"""Compiles the kernels for 64-bit ARM and runs their C++ tests under emulation: `make test-neon`.

The NEON variant and the portable one, which on ARM is NEON without the dot product. Every other source of the module
that needs no Python is compiled for ARM too, and no warning is let through. Needs a cross compiler and QEMU's user
emulation (Debian: g++-aarch64-linux-gnu, qemu-user-static); without them it says so, and exits with MISSING.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from programs import SOURCES, VARIANT_TESTS, Program, run_all

MISSING = 77  # what test programs of the GNU system say for "skipped"
FLAGS = {"portable": [], "neon": ["-march=armv8.2-a+dotprod"]}  # as CMakeLists.txt has them
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
# GCC's own intrinsics start from variables they never set.
QUIET = ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
OF_VARIANTS = ("variant.cpp", "training_variant.cpp")
DEFINED = [f"-DPADDOCK_HAS_{variant}" for variant in FLAGS]


def tools() -> tuple[str, str]:
    """The compiler and the emulator."""
    compiler = shutil.which(os.environ.get("CXX_ARM64", "aarch64-linux-gnu-g++"))
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if platform.machine() in ("aarch64", "arm64"):
        print("this machine is ARM itself: `make test-kernels` and `make test-sanitizers` run its kernels")
    elif compiler is None:
        print("no C++ compiler for 64-bit ARM (Debian: g++-aarch64-linux-gnu)")
    elif emulator is None:
        print("no emulator of 64-bit ARM (Debian: qemu-user-static)")
    else:
        return compiler, emulator
    sys.exit(MISSING)


def programs(compiler: str, emulator: str) -> Iterator[Program]:
    for test, linked in VARIANT_TESTS.items():
        for variant, flags in FLAGS.items():
            options = ["-O1", *WARNINGS, *QUIET, "-static", f"-DPADDOCK_VARIANT={variant}", *flags]
            yield Program(test, linked, f"{variant} arm64", compiler, options, [emulator])


def _binds(source: Path) -> bool:
    """Whether it is compiled with Python's headers."""
    return source.name.startswith("bind") or "nanobind" in source.read_text(encoding="utf-8")


def compiles(compiler: str, folder: Path) -> bool:
    """Whether every source without Python compiles as the build would compile it."""
    jobs: list[list[str]] = []
    for source in sorted(SOURCES.glob("*.cpp")):
        if source.name in OF_VARIANTS:
            jobs += [[str(source), *QUIET, f"-DPADDOCK_VARIANT={name}", *flags] for name, flags in FLAGS.items()]
        elif not source.name.endswith("variant.cpp") and not _binds(source):
            jobs.append([str(source), *DEFINED])
    common = ["-std=c++17", "-O3", "-ffp-contract=off", "-fPIC", "-fvisibility=hidden", *WARNINGS]

    def good(number: int) -> bool:
        command = [compiler, *common, *jobs[number], "-c", "-o", str(folder / f"{number}.o")]
        return subprocess.run(command, check=False).returncode == 0

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        result = all(list(workers.map(good, range(len(jobs)))))
    print(f"{len(jobs)} objects for arm64: {'no warning' if result else 'FAILED'}", flush=True)
    return result


def main() -> None:
    compiler, emulator = tools()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = run_all(programs(compiler, emulator), folder)
        sys.exit(0 if compiles(compiler, folder) and good else 1)


if __name__ == "__main__":
    main()
