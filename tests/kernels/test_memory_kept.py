"""What training frees stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Page faults of the second of two equal rounds, in which four blocks of 24 MiB are filled and freed.
PROGRAM = """
import ctypes, resource, sys
from paddock.kernels import memory
if sys.argv[1] == "kept":
    assert memory.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [libc.malloc(24 << 20) for _ in range(4)]
    for block in blocks:
        ctypes.memset(block, 1, 24 << 20)
    for block in blocks:
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_pages_are_not_cleared_anew_at_every_step() -> None:
    def faults(way: str) -> int:
        done = subprocess.run([sys.executable, "-c", PROGRAM, way], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("kept") < 100 < faults("left") / 10
