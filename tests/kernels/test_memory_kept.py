"""What training frees stays with the process, until it is given back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from paddock.kernels.native import library

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


# Resident bytes with 40 blocks of about 4 MiB, with every second one freed, and when what is free was given back.
HOLES = """
import ctypes
from paddock.kernels import memory
memory.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
blocks = []
for number in range(40):
    size = (4 << 20) + 4096 * (number % 7)
    blocks.append((libc.malloc(size), size))
    ctypes.memset(blocks[-1][0], number, size)
held = resident()
for block, _ in blocks[::2]:
    libc.free(block)
freed = resident()
given = memory.give_back_freed_memory()
after = resident()
sound = all(ctypes.string_at(block, size) == bytes([n]) * size for n, (block, size) in list(enumerate(blocks))[1::2])
print(held, freed, after, int(given), int(sound))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_holes_between_blocks_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    held, freed, after, given, sound = map(int, done.stdout.split())
    assert given and sound
    assert held - freed < 20e6, "it was not kept"
    assert freed - after > 60e6, "the holes of 20 blocks are still there"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_blocks_that_are_mapped_by_themselves_leave_no_holes() -> None:
    program = HOLES.replace("memory.keep_freed_memory()", "assert memory.map_large_blocks()")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    held, freed, _, _, sound = map(int, done.stdout.split())
    assert sound
    assert held - freed > 60e6, "what was freed is still held"


# Resident bytes of a program that read one long text, then 50 short ones, then as many again and more.
LONG = """
import numpy as np
from paddock.kernels import native
module = native.library()
table = np.ones((4, 64), np.float32)
weight = module.Weight.pack("f32", 2048, 64, np.zeros(2048 * 64 * 4, np.uint8))
program = module.Program(None)
x = program.embed_plain("float32", 4, 64, table.ctypes.data, False, table)
program.finish(program.scale(program.linear(x, weight, None), 2.0))
whole = np.zeros((1 << 14, 2048), np.float32)
whole[:] = 1
def resident(rows, times):
    ids, spans = np.zeros(rows, np.int32), np.array([[0, rows, 0, 0]], np.int64)
    for _ in range(times):
        program.run(ids, ids, spans, np.zeros((1, 1), np.int32), np.arange(0, dtype=np.int32), whole[:rows])
    return int(open("/proc/self/statm").read().split()[1]) * 4096
print(resident(1, 1), resident(1 << 14, 1), resident(1, 50), resident(1, 60))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_what_one_long_text_took_is_given_back_after_many_short_ones() -> None:
    if library() is None:
        pytest.skip("no native kernels in this build")
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    before, after, soon, later = (int(word) / 2**20 for word in done.stdout.split())
    assert after - before > 100 and soon - before > 100
    assert later - before < 20
