"""A warm process for work that strangers wrote, which is ended when it takes too long.

It has an empty environment but for the path of the libraries it may load, no file to read a secret from in its
arguments, and ends when its pipe closes. Being warm, an answer costs well under a millisecond more than a call.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from paddock.errors import ResourceError

START_SECONDS = 30.0  # a loaded machine may take long to start Python; nothing of a stranger's has run by then
PATIENCE = 4.5 if hasattr(signal, "setitimer") else 1.4
"""Seconds of the wall's clock for each second of processor time that a child gives its work: it ends itself by that
where the system counts it, so this is for what neither hears nor computes."""


class ChildProcess:
    """Answers a line with a line; started when first needed, and again after each time it had to be ended.

    script: a file of this package, which says "ready" on a line once it has started. libraries: what it may import.
    does: what it is for, as in "the process that compiles grammars". fix: what a user may do where it cannot start.
    `lock` is for whoever uses it from several threads. sent: lines that this process was given.
    """

    def __init__(self, script: Path, libraries: Sequence[ModuleType], does: str, fix: str | None = None) -> None:
        self.script, self.does, self.fix = script, does, fix
        self.path = os.pathsep.join(sorted({str(Path(str(module.__file__)).parent.parent) for module in libraries}))
        self.process: subprocess.Popen[bytes] | None = None
        self.sent = 0
        self.lock = threading.Lock()
        atexit.register(self.stop)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def exchange(self, line: bytes, seconds: float) -> bytes:
        """The answer to `line`; what has no line feed at its end is all there was when the process had to be ended,
        after `seconds` of the wall's clock.

        Whatever breaks off the wait (Ctrl-C too) ends the process with it: the answer that is still to come must not be
        read as the next one's, which may be another user's. Raises ResourceError where it does not start.
        """
        try:
            for _ in range(2):  # an idle process may have been ended by the system: that is nobody's fault
                process = self.process or self._start()
                assert process.stdin is not None
                try:
                    process.stdin.write(line)
                    process.stdin.flush()
                except OSError:
                    self.stop()
                    continue
                self.sent += 1
                return self._read(process, seconds)
            return b""
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the process; the next line starts another."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            _close(process)

    def _start(self) -> subprocess.Popen[bytes]:
        if not sys.executable:
            raise ResourceError(f"the process that {self.does} cannot start: there is no Python", fix=self.fix)
        environment = {"PYTHONPATH": self.path}
        if "SYSTEMROOT" in os.environ:  # Windows cannot start Python without it
            environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
        try:
            process = subprocess.Popen(  # noqa: S603  this interpreter and a file of this package
                [sys.executable, "-P", "-S", "-s", str(self.script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise ResourceError(
                f"the process that {self.does} cannot start: {error.strerror or error}", fix=self.fix
            ) from None
        self.process, self.sent = process, 0
        if self._read(process, START_SECONDS) != b"ready\n":
            self.stop()
            raise ResourceError(f"the process that {self.does} did not start", fix=self.fix)
        return process

    def _read(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        assert process.stdout is not None
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            return process.stdout.readline()
        finally:
            timer.cancel()

    def _forget(self) -> None:
        """In a forked child: the process and its pipes belong to the parent."""
        self.lock = threading.Lock()
        process, self.process = self.process, None
        if process is not None:
            process.returncode = 0  # not ours to wait for
            _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # a half-written line, and nobody to read it
                pipe.close()
