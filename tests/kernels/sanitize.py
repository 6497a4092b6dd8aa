"""Compiles the kernels' C++ tests with sanitizers and runs them: `make test-sanitizers`.

Every variant that this machine can run, with the flags that its build used, under the address and undefined-behaviour
sanitizers; the pool, and what packs ahead, under the thread sanitizer too.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from programs import AHEAD, POOL, ROOT, TILED_TESTS, VARIANT_TESTS, Program, run_all

from paddock.kernels import native

COMMANDS = ROOT / "build" / f"editable-{sys.implementation.cache_tag}" / "compile_commands.json"
MEMORY, THREADS = "-fsanitize=address,undefined", "-fsanitize=thread"


def flags(commands: Path) -> dict[str, list[str]]:
    """Instruction-set flags of each built variant."""
    if not commands.is_file():
        sys.exit(f"{commands} is not there: `make native` first, which needs a C++ compiler")
    found = {}
    for entry in json.loads(commands.read_text(encoding="utf-8")):
        words = shlex.split(entry["command"])
        names = [word.removeprefix("-DPADDOCK_VARIANT=") for word in words if word.startswith("-DPADDOCK_VARIANT=")]
        if names:
            found[names[0]] = [word for word in words if word.startswith("-m")]
    return found


def programs(known: dict[str, list[str]]) -> Iterator[Program]:
    # Optimised, the checks of unrolled loops take GCC minutes a program; what they check is the same.
    compiler, common = os.environ.get("CXX", "c++"), ["-O0", "-g", "-fno-sanitize-recover=all"]
    for variant in [name for each in native.available() if (name := each.replace("-", "_")) in known]:
        for test, linked in (TILED_TESTS if variant.startswith("amx") else VARIANT_TESTS).items():
            options = [*common, MEMORY, f"-DPADDOCK_VARIANT={variant}", *known[variant]]
            yield Program(test, linked, variant, compiler, options)
    for label, sanitizer in (("memory", MEMORY), ("threads", THREADS)):
        yield Program("test_pool", POOL, label, compiler, [*common, sanitizer])
        yield Program("test_ahead", AHEAD, label, compiler, [*common, sanitizer])


def main() -> None:
    known = flags(Path(sys.argv[1]) if len(sys.argv) > 1 else COMMANDS)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if run_all(programs(known), Path(folder)) else 1)


if __name__ == "__main__":
    main()
