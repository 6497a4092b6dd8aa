"""Compiles the kernels' C++ tests with sanitizers and runs them: `make test-sanitizers`.

Every variant that this machine can run, with the flags that its build used, under the address and undefined-behaviour
sanitizers; the pool under the thread sanitizer too.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from paddock.kernels import native

ROOT = Path(__file__).resolve().parents[2]
TESTS, SOURCES = ROOT / "tests" / "kernels" / "cpp", ROOT / "src" / "paddock" / "kernels" / "cpp"
COMMANDS = ROOT / "build" / f"editable-{sys.implementation.cache_tag}" / "compile_commands.json"
# What each test is linked with; those without variants hold no vector code.
LINKED = {
    "test_quantised": ("pack.cpp",),
    "test_floats": ("pack_dense.cpp", "attention.cpp"),
    "test_attention": ("attention.cpp",),
}
TILED = {"test_tiled": ("pack.cpp", "pack_dense.cpp", "tiled_proof.cpp")}  # of the matrix unit's variants
POOL = ("pool.cpp", "cores.cpp")
MEMORY, THREADS = "-fsanitize=address,undefined", "-fsanitize=thread"


def flags() -> dict[str, list[str]]:
    """Instruction-set flags of each built variant."""
    if not COMMANDS.is_file():
        sys.exit(f"{COMMANDS.relative_to(ROOT)} is not there: `make native` first, which needs a C++ compiler")
    found = {}
    for entry in json.loads(COMMANDS.read_text(encoding="utf-8")):
        words = shlex.split(entry["command"])
        names = [word.removeprefix("-DPADDOCK_VARIANT=") for word in words if word.startswith("-DPADDOCK_VARIANT=")]
        if names:
            found[names[0]] = [word for word in words if word.startswith("-m")]
    return found


def run(folder: Path, name: str, linked: tuple[str, ...], options: list[str]) -> bool:
    program = folder / name
    compiler = os.environ.get("CXX", "c++")
    sources = [str(TESTS / f"{name}.cpp"), *(str(SOURCES / source) for source in linked)]
    common = ["-std=c++17", "-O1", "-g", "-ffp-contract=off", "-fno-sanitize-recover=all", f"-I{SOURCES}", "-pthread"]
    print(f"{name} {' '.join(options)}", flush=True)
    built = subprocess.run([compiler, *common, *options, *sources, "-o", str(program)], check=False)
    # The thread sanitizer would end a forked child that starts threads, which the pool's does.
    environment = os.environ | {"TSAN_OPTIONS": "die_after_fork=0"}
    return built.returncode == 0 and subprocess.run([str(program)], check=False, env=environment).returncode == 0


def main() -> None:
    known = flags()
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for sanitizer in (MEMORY, THREADS):
            good &= run(folder, "test_pool", POOL, [sanitizer])
        for variant in [name for each in native.available() if (name := each.replace("-", "_")) in known]:
            for test, linked in (TILED if variant.startswith("amx") else LINKED).items():
                good &= run(folder, test, linked, [MEMORY, f"-DPADDOCK_VARIANT={variant}", *known[variant]])
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
