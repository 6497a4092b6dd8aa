"""The program that `template_worker` starts: renders templates by strangers, one JSON line in, one out.

It loads `template_sandbox` and no other part of Paddock (nor torch): it starts in 0.1 s and takes 25 MB.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

try:
    import resource
except ImportError:  # Windows has no such limits; the parent's clock and the sandbox's own limits remain
    resource = None  # type: ignore[assignment]


GRACE = 0.2  # seconds between asking a template to stop and ending the process


def load_sandbox() -> ModuleType:
    """`template_sandbox`, with empty packages around it: their own files would import the tokenizers, and torch."""
    folder = Path(__file__).parent
    for name, path in (("paddock", folder.parent), ("paddock.tokenizer", folder)):
        package = ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package
    return importlib.import_module("paddock.tokenizer.template_sandbox")


ALONE = __name__ == "__main__"
box: Any = load_sandbox() if ALONE else importlib.import_module("paddock.tokenizer.template_sandbox")


def confine() -> None:
    """Limits on this process where the system has them: no writing of files, no children, no core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it closes the pipe
    if resource is None:
        return
    for name in ("RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_CORE"):
        with contextlib.suppress(OSError, ValueError):
            if hasattr(resource, name):
                resource.setrlimit(getattr(resource, name), (0, 0))


def address_space() -> int:
    """Bytes of address space in use, or 0 where the system does not tell (then memory is not limited here)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if resource else 0
    except (OSError, ValueError):
        return 0


@contextlib.contextmanager
def memory_limit(used: int, size: int) -> Iterator[None]:
    """Bounds the memory that a request of `size` bytes may take, beyond the `used` bytes of an idle worker."""
    if resource is None or not used:
        yield
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + box.HEADROOM + 24 * size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Ends what takes more than `seconds` of processor time: a busy machine is no fault of the template.

    First an exception in the template's own code, so that its line is known. It repeats, as Jinja swallows exceptions
    in one place (an attribute's name made from an object). A single operation in C never gets to that exception: GRACE
    later the system ends the process.
    """
    if not hasattr(signal, "setitimer"):  # Windows: the parent's clock is all there is
        yield
        return

    def ring(_signal: int, _frame: object) -> None:
        raise box.DeadlineError(f"{seconds:g}")

    signal.signal(signal.SIGPROF, ring)
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds + GRACE)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.02)
    try:
        yield
    finally:
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def answer(line: bytes) -> dict[str, Any]:
    """One request of the worker: {source, variables, limit, seconds, now} to {text} or {error, line, spent}."""
    try:
        request = json.loads(line)
        now = datetime.fromisoformat(request["now"]) if request["now"] else None
        with deadline(request["seconds"]):
            return {"text": box.render(request["source"], request["variables"], request["limit"], now)}
    except Exception as error:
        spent = isinstance(error, box.DeadlineError | MemoryError)  # what is left of the process is not to be trusted
        return {"error": box.describe(error), "line": box.line_of(error), "spent": spent}


def serve() -> None:
    """Answers one JSON line with another until the pipe closes."""
    confine()
    box.sandbox()
    used = address_space()
    out = sys.stdout.buffer
    out.write(b"ready\n")
    out.flush()
    for number, line in enumerate(sys.stdin.buffer, 1):
        with memory_limit(used, len(line)):
            reply = answer(line)
        reply["number"] = number
        out.write(json.dumps(reply).encode("ascii") + b"\n")
        out.flush()
        if reply.get("spent"):
            return


if ALONE:
    serve()
