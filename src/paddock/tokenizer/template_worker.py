"""The process that renders templates by strangers: ended when its second is up, and limited in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from paddock.child_process import PATIENCE, ChildProcess

SCRIPT = Path(__file__).with_name("template_child.py")


class Killed(Exception):
    """The process did not answer and is gone."""


class Worker(ChildProcess):
    """One warm process; requests take turns."""

    def __init__(self) -> None:
        fix = "name a bundled template (`paddock template ls`); those render without a process"
        super().__init__(SCRIPT, (jinja2, markupsafe), "renders chat templates", fix)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer to one request (see template_child.answer). Killed if there was none in time.

        It counts its requests, and each answer says which it is for.
        """
        line = json.dumps(request).encode("ascii") + b"\n"
        with self.lock:
            answer = self.exchange(line, request["seconds"] * PATIENCE)
            reply = dict(json.loads(answer)) if answer.endswith(b"\n") else {}
            mine = reply.pop("number", None) == self.sent
            if not mine or reply.get("spent"):
                self.stop()
        if not mine:
            raise Killed
        return reply


WORKER = Worker()
