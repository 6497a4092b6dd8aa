"""Faults in runs that PyTorch's elastic agent (torchrun's own) starts: `python elastic_child.py PLAN`.

Not a test. Starting Python and PyTorch costs torchrun ten seconds a time, so this process starts once, and forks for
each case an agent, which forks its workers: `paddock pretrain`, called as the command line calls it. PLAN is a JSON
list of cases; what became of each goes, a line each, to outcomes.jsonl beside it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
from crashing import each_call
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from paddock import cli
from paddock.cli import pretraining as _  # noqa: F401 - here once rather than in each worker, like Dynamo
from paddock.data.stream import BatchStream
from paddock.errors import DataError
from paddock.training import conduct, plots, saving
from paddock.training.loop import Trainer
from paddock.training.parallel import meeting, state
from paddock.training.parallel.together import Together
from paddock.training.parallel.watch import leave

# Where a fault strikes: what is called there, and which call of it.
PLACES: dict[str, tuple[Any, str, int]] = {
    "start": (meeting, "meet", 1),  # before the processes know of each other
    "spread": (Together, "spread", 1),
    "share": (state, "fill", 4),  # in the midst of the first weights
    "read": (BatchStream, "at", 7),
    "forward": (Trainer, "sums", 6),
    "backward": (Trainer, "sums", 9),
    "norm": (Together, "gradient_norm", 10),
    "update": (torch.optim.AdamW, "step", 11),
    "log": (conduct._Conductor, "_after", 8),
    "gather": (Together, "moments", 3),
    "save": (conduct._Conductor, "_on_main", 12),  # the main process's file operations, the other's waiting
    "restore": (saving, "restore", 1),  # of a run that is started anew
    "finish": (conduct._Conductor, "_finish", 1),
    "leave": (Together, "barrier", 2),
}
FAULTS = ("kill", "stop", "term", "raise", "agent")
WORKERS = 2
PR_SET_PDEATHSIG = 1  # of Linux's prctl
BEAT = 10.0  # parallel.timeout of the recipe
GRACE = 3  # seconds between an agent's SIGTERM and its SIGKILL


@dataclass(frozen=True)
class Case:
    """One run: what goes wrong where, in which process, at which of the attempts (-1: at each of them)."""

    name: str
    place: str = ""
    fault: str = ""
    rank: int = 0
    attempt: int = 0
    restarts: int = 3
    limit: float = 150


def fault(case: Case) -> None:
    """What goes wrong."""
    Path("struck" if case.fault != "first" else "struck first").touch()
    match case.fault:
        case "kill" | "first":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "term":
            os.kill(os.getpid(), signal.SIGTERM)
        case "agent":
            os.kill(os.getppid(), signal.SIGKILL)
        case "raise":
            raise DataError("a planted fault")


@contextlib.contextmanager
def planted(case: Case) -> Iterator[None]:
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if case.place == "restore" and attempt == 0:  # there must be something to go on from
        case = replace(case, place="forward", fault="first", attempt=0)
    if not case.place or int(os.environ["RANK"]) != case.rank or case.attempt not in (attempt, -1):
        yield
        return
    if case.place == "save" and case.rank == 0:
        operations = itertools.count(1)

        def operated(name: str, place: str, goal: str | None) -> None:
            if place.startswith("step-") and next(operations) == 20:
                fault(case)

        with each_call(Path("run").resolve(), operated):
            yield
        return
    owner, name, number = PLACES[case.place]
    plain, calls = getattr(owner, name), itertools.count(1)

    def wrapper(*given: Any, **named: Any) -> Any:
        now = next(calls) == number
        if now and case.place != "backward":
            fault(case)
        result = plain(*given, **named)
        if now and case.place == "backward":
            result.total.register_hook(lambda gradient: fault(case))
        return result

    setattr(owner, name, wrapper)
    yield


def work(case: Case) -> None:
    """One process of a run, to its exit code."""
    agent = os.getppid()
    as_a_command_starts()
    with open("attempts", "a") as noted:
        noted.write(f"{os.getpid()}\n")
    torch.set_num_threads(1)
    with planted(case):
        sys.argv = ["paddock", "pretrain", "run.yaml", "-o", "run"]
        try:
            code = cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    if code:
        atexit._run_exitfuncs()
        leave(int(code))
    threading.Thread(target=leave_after, args=(agent,), daemon=True).start()


def as_a_command_starts() -> None:
    """Undoes what an agent gives to forks only, not to commands: its handlers, a signal when it dies, and its sockets,
    which would still take calls in its name."""
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if number > 2 and os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                os.close(number)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def leave_after(agent: int) -> None:
    """A fork that is done waits for its agent to hear its result, a command does not."""
    while os.getppid() == agent:
        time.sleep(0.1)
    leave(0)


def agent(case: Case, folder: Path) -> int:
    os.chdir(folder)
    specs = DefaultLogsSpecs(log_dir=str(folder / "said"), redirects=Std.ALL)
    config = LaunchConfig(
        1, 1, WORKERS, run_id=case.name.replace(" ", "-"), rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0",
        max_restarts=case.restarts, start_method="fork", logs_specs=specs, shutdown_timeout=GRACE,
    )  # fmt: skip
    try:
        elastic_launch(config, work)(case)
    except ChildFailedError as error:
        return max(failure.exitcode for failure in error.failures.values())
    return 0


def forked(run: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = run()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return pid


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ended(pid: int, folder: Path, until: float) -> tuple[int | None, list[int]]:
    """The exit code of an agent, None if it had to be ended, and those of its workers that had to be ended after it."""
    code: int | None = None
    while code is None and time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
        time.sleep(0.05)
    if code is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    started = folder / "attempts"
    pids = [int(line) for line in started.read_text().split()] if started.exists() else []
    patience = time.monotonic() + 60  # an agent that was killed leaves its workers to themselves
    while (left := [each for each in pids if lives(each)]) and code == -signal.SIGKILL and time.monotonic() < patience:
        time.sleep(0.05)
    for each in left:
        os.kill(each, signal.SIGKILL)
    return code, left


def started(case: Case, folder: Path) -> tuple[int | None, list[int]]:
    """One agent and what it starts, to the end of them all."""
    with contextlib.suppress(FileNotFoundError):
        (folder / "attempts").rename(folder / "attempts before")
    return ended(forked(lambda: agent(case, folder)), folder, time.monotonic() + case.limit)


def main(plan: Path) -> int:
    torch.set_num_threads(1)
    for given in json.loads(plan.read_text()):
        case = Case(**given)
        folder = plan.parent / case.name
        folder.mkdir()
        for name in ("text.txt", "run.yaml"):
            os.link(plan.parent / name, folder / name)
        codes, left, began = [], [], time.monotonic()
        for each in (case, Case(case.name))[: 2 if case.fault == "agent" else 1]:  # whoever sees it starts it again
            code, more = started(each, folder)
            codes.append(code)
            left += more
        attempts = len((folder / "attempts").read_text().split()) // WORKERS
        outcome = {"codes": codes, "left": left, "attempts": attempts, "struck": (folder / "struck").exists()}
        outcome["seconds"] = round(time.monotonic() - began, 2)
        with open(plan.with_name("outcomes.jsonl"), "a") as file:
            file.write(json.dumps(asdict(case) | outcome) + "\n")
    return 0


if __name__ == "__main__":
    plots.draw = lambda *given, **named: None
    sys.exit(main(Path(sys.argv[1])))
