"""The pool of threads: any number of them, calls from several Python threads, forks, and the end of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from paddock.kernels import native


@pytest.fixture
def pool(module: ModuleType) -> Iterator[ModuleType]:
    before = module.threads()
    yield module
    module.set_threads(before)


@pytest.fixture
def product(pool: ModuleType, random: np.random.Generator) -> tuple[np.ndarray, object, np.ndarray]:
    matrix = random.standard_normal((400, 64)).astype(np.float32)
    weight = pool.Weight.pack("f32", 400, 64, matrix.view(np.uint8).reshape(-1))
    x = random.standard_normal((3, 64)).astype(np.float32)
    pool.set_threads(1)
    return x, weight, pool.linear(x, weight)


def test_any_number_of_threads_gives_the_same_bits(pool: ModuleType, product: tuple) -> None:
    x, weight, wanted = product
    for count in (1, 2, 3, 7, 64, 2):
        pool.set_threads(count)
        assert pool.threads() == count
        for _ in range(20):
            assert np.array_equal(pool.linear(x, weight), wanted)


def test_calls_from_several_threads_take_turns(pool: ModuleType, product: tuple) -> None:
    x, weight, wanted = product
    pool.set_threads(3)
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(1 for _ in range(200) if not np.array_equal(pool.linear(x, weight), wanted))

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for count in (2, 4, 3):
        time.sleep(0.01)
        pool.set_threads(count)
    for caller in callers:
        caller.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own(pool: ModuleType, product: tuple) -> None:
    x, weight, wanted = product
    pool.set_threads(3)
    assert np.array_equal(pool.linear(x, weight), wanted)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that waits for threads it does not have must not wait for ever
        os._exit(0 if np.array_equal(pool.linear(x, weight), wanted) and pool.threads() == 3 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(pool.linear(x, weight), wanted)


INSIDE = """
import os, signal, threading, time, numpy as np
from paddock.kernels import native
module = native.library()
table = np.ones((4, 512), np.float32)
weight = module.Weight.pack("f32", 512, 512, np.zeros(512 * 512 * 4, np.uint8))
def program():
    made = module.Program(None)
    x = made.embed_plain("float32", 4, 512, table.ctypes.data, False, table)
    for _ in range(16):
        x = made.linear(x, weight, None)
    made.finish(x)
    return made
def run(program, rows):
    ids, spans = np.zeros(rows, np.int32), np.array([[0, rows, 0, 0]], np.int64)
    out = np.empty((rows, 512), np.float32)
    program.run(ids, ids, spans, np.zeros((1, 1), np.int32), np.arange(rows, dtype=np.int32), out)
def in_child(program):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            run(program, 2)
        except RuntimeError as error:
            os._exit(7 if "forked" in str(error) else 8)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
busy, idle = program(), program()
run(busy, 2)
codes = [in_child(busy), in_child(busy)]
threading.Thread(target=lambda: run(busy, 1 << 15), daemon=True).start()
time.sleep(0.2)
codes += [in_child(busy), in_child(idle)]
module.Weight.pack("f32", 512, 512, np.zeros(512 * 512 * 4, np.uint8))
print(codes, flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_forked_while_a_program_runs_is_refused_that_program(module: ModuleType) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", INSIDE]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (run.stdout, run.stderr) == ("[0, 0, 7, 0]\n", "")


def test_sleeping_threads_cost_nothing(pool: ModuleType, product: tuple) -> None:
    x, weight, _ = product
    pool.set_threads(4)
    pool.linear(x, weight)
    spent = []
    for _ in range(10):  # where cores are busy, a thread may need long until it is asleep
        before = time.process_time()
        time.sleep(0.3)
        spent.append(time.process_time() - before)
        if spent[-1] < 0.05:
            return
    pytest.fail(f"{spent} seconds of the processor in 0.3 s each")


SLEEPING = """
import threading, numpy as np
from paddock.kernels import native
module = native.library()
module.set_threads(4)
x, weight = np.ones((2, 64), np.float32), module.Weight.pack("f32", 400, 64, np.zeros(400 * 256, np.uint8))
module.linear(x, weight)
"""
WORKING = """
def forever():
    while True: module.linear(x, weight)
for _ in range(2): threading.Thread(target=forever, daemon=True).start()
import time; time.sleep(0.05)
"""


@pytest.mark.parametrize("script", [SLEEPING, SLEEPING + WORKING], ids=["asleep", "at work"])
def test_a_process_ends_whatever_its_threads_do(module: ModuleType, script: str) -> None:
    code = script + "print('done')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")


@pytest.mark.parametrize(
    ("own", "shared", "count"),
    [
        ("3", "", 3),
        ("3", "7", 3),
        ("", "5", 5),
        ("", "6,2", 6),
        ("", "no number", None),
        ("", "0", None),
        ("", "", None),
    ],
)
def test_threads_of_the_environment(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, own: str, shared: str, count: int | None
) -> None:
    before = module.threads()
    monkeypatch.setenv(native.THREADS, own)
    monkeypatch.setenv(native.SHARED_THREADS, shared)
    try:
        assert native.library() is module
        assert module.threads() == (count or module.default_threads())
    finally:
        monkeypatch.undo()
        native.library()
        module.set_threads(before)


def test_default_threads_are_cores_of_this_process(module: ModuleType) -> None:
    assert 1 <= module.default_threads() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity to set")
def test_default_threads_heed_affinity(module: ModuleType) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert module.default_threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)
