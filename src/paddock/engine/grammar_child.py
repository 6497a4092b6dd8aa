"""The program that `grammar_check` starts: compiles grammars by strangers, one JSON line in, one out.

Most work of the grammar library is counted and limited by itself, but combining the branches of a schema is not: two
kilobytes can take hours. So a grammar is compiled here first, and a process that needs too long ends.
It loads llguidance and nothing else.
"""

from __future__ import annotations

import json
import signal
import sys

from llguidance import LLMatcher, LLParserLimits

try:
    import resource
except ImportError:  # Windows: the parent's clock is all there is
    resource = None  # type: ignore[assignment]

MEMORY = 1 << 30  # bytes of address space beyond those of an idle process


def confine() -> None:
    """Limits on this process where the system has them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it closes the pipe
    if resource is None:
        return
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def serve() -> None:
    """Answers {grammar, limits, seconds} with {error}, until the pipe closes or a grammar takes too long."""
    confine()
    out = sys.stdout.buffer
    out.write(b"ready\n")
    out.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if hasattr(signal, "setitimer"):  # processor time: a busy machine is no fault of the grammar
            signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        error = LLMatcher.validate_grammar(request["grammar"], None, limits=LLParserLimits(**request["limits"]))
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, 0)
        out.write(json.dumps({"error": error}).encode("ascii") + b"\n")
        out.flush()


if __name__ == "__main__":
    serve()
