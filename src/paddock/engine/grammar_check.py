"""Whether a grammar compiles at all, found out in a process that can be ended: see `grammar_child`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import llguidance

from paddock.child_process import PATIENCE, ChildProcess
from paddock.errors import OverloadError, UsageError

SECONDS = 1.0  # of processor time for one grammar
QUEUE_SECONDS = 10.0  # that a grammar may wait for those before it
SCRIPT = Path(__file__).with_name("grammar_child.py")


class Checker(ChildProcess):
    """One warm process; grammars take turns."""

    def __init__(self) -> None:
        super().__init__(SCRIPT, (llguidance,), "compiles grammars")

    def error(self, grammar: str, limits: dict[str, Any]) -> str:
        """What is wrong with `grammar` (llguidance's own form); nothing if it compiles.

        Raises UsageError for one that takes longer than a second, OverloadError where too many of those wait.
        """
        line = json.dumps({"grammar": grammar, "limits": limits, "seconds": SECONDS}).encode("ascii") + b"\n"
        if not self.lock.acquire(timeout=QUEUE_SECONDS):
            raise OverloadError("too many grammars are being compiled", retry_after=5)
        try:
            reply = self.exchange(line, SECONDS * PATIENCE)
            if not reply.endswith(b"\n"):
                self.stop()
                raise UsageError(
                    f"this grammar takes more than {SECONDS:g} s to compile, or too much memory",
                    fix="use a simpler one: fewer combinations of allOf, anyOf and $ref, shorter repetitions",
                )
            return str(json.loads(reply)["error"])
        finally:
            self.lock.release()


CHECKER = Checker()
