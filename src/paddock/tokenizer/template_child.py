"""The program that `template_worker` starts: renders templates by strangers, one JSON line in, one out.

It loads `template_sandbox` by its path, so that no other part of Paddock (nor torch) is imported: it starts in 0.1 s
and takes 25 MB.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any


def load_sandbox() -> Any:
    """`template_sandbox` as a module of its own, outside the package."""
    path = Path(__file__).with_name("template_sandbox.py")
    spec = importlib.util.spec_from_file_location("template_sandbox", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


box = load_sandbox()


def confine() -> None:
    """Limits on this process where the system has them: memory, and no writing of files, no children, no core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it closes the pipe
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (box.MEMORY, box.MEMORY))
        for name in ("RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_CORE"):
            if hasattr(resource, name):
                resource.setrlimit(getattr(resource, name), (0, 0))


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises DeadlineError in the template's own code, so that its line is known; the parent kills what will not hear.

    The signal repeats, as Jinja swallows exceptions in one place (an attribute's name made from an object).
    """
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(_signal: int, _frame: object) -> None:
        raise box.DeadlineError(f"{seconds:g}")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.02)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """One request of the worker: {source, variables, limit, seconds, now} to {text} or {error, line, spent}."""
    now = datetime.fromisoformat(request["now"]) if request["now"] else None
    try:
        with deadline(request["seconds"]):
            return {"text": box.render(request["source"], request["variables"], request["limit"], now)}
    except Exception as error:
        spent = isinstance(error, box.DeadlineError | MemoryError)  # what is left of the process is not to be trusted
        return {"error": box.describe(error), "line": box.line_of(error), "spent": spent}


def serve() -> None:
    """Answers one JSON line with another until the pipe closes."""
    confine()
    box.sandbox()
    out = sys.stdout.buffer
    out.write(b"ready\n")
    out.flush()
    for line in sys.stdin.buffer:
        reply = answer(json.loads(line))
        out.write(json.dumps(reply).encode("ascii") + b"\n")
        out.flush()
        if reply.get("spent"):
            return


if __name__ == "__main__":
    serve()
