"""Whether a grammar compiles at all, found out in a process that can be ended: see `grammar_child`."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import llguidance

from paddock.errors import OverloadError, ResourceError, UsageError

SECONDS = 1.0  # of processor time for one grammar
PATIENCE = 4.5  # seconds of the wall's clock for each of those
QUEUE_SECONDS = 10.0  # that a grammar may wait for those before it
START_SECONDS = 30.0
SCRIPT = Path(__file__).with_name("grammar_child.py")


class Checker:
    """One warm process, started when first needed and again after each grammar that took too long."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()

    def error(self, grammar: str, limits: dict[str, Any]) -> str:
        """What is wrong with `grammar` (llguidance's own form); nothing if it compiles.

        Raises UsageError for one that takes longer than a second, OverloadError where too many of those wait.
        """
        line = json.dumps({"grammar": grammar, "limits": limits, "seconds": SECONDS}).encode("ascii") + b"\n"
        if not self.lock.acquire(timeout=QUEUE_SECONDS):
            raise OverloadError("too many grammars are being compiled", retry_after=5)
        try:
            reply = self._exchange(line)
            if not reply.endswith(b"\n"):
                raise UsageError(
                    f"this grammar takes more than {SECONDS:g} s to compile, or too much memory",
                    fix="use a simpler one: fewer combinations of allOf, anyOf and $ref, shorter repetitions",
                )
            return str(json.loads(reply)["error"])
        except BaseException:  # whatever broke off the wait: its answer must not become the next one's
            self.stop()
            raise
        finally:
            self.lock.release()

    def _exchange(self, line: bytes) -> bytes:
        for attempt in range(2):  # an idle process may have been ended by the system: that is no grammar's fault
            process = self.process or self._start()
            assert process.stdin is not None
            try:
                process.stdin.write(line)
                process.stdin.flush()
                return self._read(process, SECONDS * PATIENCE)
            except OSError:
                self.stop()
                if attempt:
                    break
        return b""

    def _start(self) -> subprocess.Popen[bytes]:
        if not sys.executable:
            raise ResourceError("grammars are compiled in a process of their own, and there is no Python")
        environment = {"PYTHONPATH": str(Path(str(llguidance.__file__)).parent.parent)}
        if "SYSTEMROOT" in os.environ:  # Windows cannot start Python without it
            environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
        try:
            process = subprocess.Popen(  # noqa: S603  this interpreter and a file of this package
                [sys.executable, "-P", "-S", "-s", str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise ResourceError(f"the process that compiles grammars cannot start: {error.strerror or error}") from None
        self.process = process
        if self._read(process, START_SECONDS) != b"ready\n":
            self.stop()
            raise ResourceError("the process that compiles grammars did not start")
        return process

    def _read(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        """One line, or what there was of it when the process had to be ended."""
        assert process.stdout is not None
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            return process.stdout.readline()
        finally:
            timer.cancel()

    def stop(self) -> None:
        """Ends the process; the next grammar starts another."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        self._close(process)

    def forget(self) -> None:
        """In a forked child: the process and its pipes belong to the parent."""
        self.lock = threading.Lock()
        process, self.process = self.process, None
        if process is not None:
            process.returncode = 0  # not ours to wait for
            self._close(process)

    @staticmethod
    def _close(process: subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # a half-written request, and nobody to read it
                    pipe.close()


CHECKER = Checker()
atexit.register(CHECKER.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CHECKER.forget)
