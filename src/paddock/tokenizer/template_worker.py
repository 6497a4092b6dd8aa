"""The process that renders templates by strangers: ended when its second is up, and limited in memory.

One process is kept warm, so a render costs well under a millisecond more than in this process. It has an empty
environment, no file to read a secret from in its arguments, and exits when its pipe closes.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from paddock.errors import ResourceError

START_SECONDS = 30.0  # a loaded machine may take long to start Python; no template has run by then
PATIENCE = 4.5 if hasattr(signal, "setitimer") else 1.4
"""Seconds of the wall's clock for each second of the template's: the worker ends itself by processor time where the
system counts that, so this is for what neither hears nor computes."""
SCRIPT = Path(__file__).with_name("template_child.py")


class Killed(Exception):
    """The process did not answer and is gone."""


class Worker:
    """One warm process, started when first needed and again after each time it had to be killed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.asked = 0  # requests sent to this process; it counts them too, and each answer says which it is for
        self.lock = threading.Lock()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer to one request (see template_child.answer). Killed if there was none in time.

        Whatever ends the wait (Ctrl-C too) ends the process with it: the answer that is still to come must not be read
        as the next request's, which may be another user's.
        """
        line = json.dumps(request).encode("ascii") + b"\n"
        with self.lock:
            try:
                reply = self._exchange(line, request["seconds"] * PATIENCE)
            except BaseException:
                self.stop()
                raise
            if reply.get("spent"):
                self.stop()
        return reply

    def _exchange(self, line: bytes, seconds: float) -> dict[str, Any]:
        for attempt in range(2):  # an idle worker may have been ended by the system: that is no template's fault
            process = self.process or self._start()
            try:
                assert process.stdin is not None
                process.stdin.write(line)
                process.stdin.flush()
                self.asked += 1
                break
            except OSError:
                self.stop()
                if attempt:
                    raise Killed from None
        answer = self._read(process, seconds)
        if not answer.endswith(b"\n"):
            raise Killed
        reply = dict(json.loads(answer))
        if reply.pop("number") != self.asked:
            raise Killed
        return reply

    def _start(self) -> subprocess.Popen[bytes]:
        if not sys.executable:
            raise ResourceError(
                "templates that come with a model run in a process of their own, and there is no Python"
            )
        places = {str(Path(str(module.__file__)).parent.parent) for module in (jinja2, markupsafe)}
        environment = {"PYTHONPATH": os.pathsep.join(sorted(places))}
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
            raise ResourceError(
                f"the process that renders chat templates cannot be started: {error.strerror or error}",
                fix="name a bundled template (`paddock template ls`); those render without a process",
            ) from None
        self.process, self.asked = process, 0
        if self._read(process, START_SECONDS) != b"ready\n":
            self.stop()
            raise ResourceError("the process that renders chat templates did not start")
        return process

    def _read(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        """One line, or what there was of it when the process had to be killed."""
        assert process.stdout is not None
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            return process.stdout.readline()
        finally:
            timer.cancel()

    def stop(self) -> None:
        """Ends the process; the next request starts another."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # a half-written request, and nobody to read it
                    continue

    def forget(self) -> None:
        """In a forked child: the process and its pipes belong to the parent."""
        self.lock = threading.Lock()
        process, self.process = self.process, None
        if process is not None:
            process.returncode = 0  # not ours to wait for
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


WORKER = Worker()
atexit.register(WORKER.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WORKER.forget)
