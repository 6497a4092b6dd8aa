"""Runs a function over files in a process that watches itself: which of them made it act on the outside world?

    python audited.py module:function FILE...

prints a JSON list of [file, outcome, events]. Watched: running code, importing a module, starting a process, opening a
socket, opening a file for writing, changing the file system. The first FILE only warms up: it is read before watching.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# fmt: off
WATCHED = (
    "exec", "compile", "import", "os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "webbrowser.",
    "urllib.", "http.", "ftplib.", "smtplib.", "tempfile.", "code.__new__", "function.__new__", "pickle.", "marshal.",
    "cpython.run", "sqlite3.", "builtins.input",
)
# fmt: on
HARMLESS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk")


class Watch:
    """An audit hook; it cannot be taken out again, only told to look away."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.on = False
        sys.addaudithook(self.see)

    def see(self, event: str, details: tuple[Any, ...]) -> None:
        if not self.on:
            return
        writes = event == "open" and (
            any(letter in str(details[1] or "") for letter in "wax+")
            or int(details[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        )
        if writes or (event.startswith(WATCHED) and event not in HARMLESS):
            self.events.append(f"{event} {details!r}"[:300])


def run(target: str, files: list[str]) -> list[list[Any]]:
    """Calls the function "module:name" with each path."""
    module, name = target.split(":")
    function = getattr(importlib.import_module(module), name)
    watch = Watch()
    results = []
    for number, file in enumerate(files):
        watch.on, watch.events = number > 0, []
        try:
            function(Path(file))
            outcome = "accepted"
        except BaseException as error:
            outcome = ",".join(kind.__name__ for kind in type(error).__mro__)
        watch.on = False
        results.append([file, outcome, watch.events])
    return results


def audit(target: str, files: list[Path]) -> dict[str, tuple[str, list[str]]]:
    """`run` in a process of its own: file name to (outcome, events). An outcome lists the classes of the error."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parent / "checkpoint"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, __file__, target, *map(str, files)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {Path(file).name: (outcome, events) for file, outcome, events in json.loads(done.stdout.splitlines()[-1])}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], sys.argv[2:])))
