"""A process that trains and kills itself as SIGKILL does: `killed_child.py FOLDER RECIPE save|step NUMBER`.

save N: before the N-th operation on the files of steps that it saves. step N: after its N-th step, in the midst of
whatever comes then.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from crashing import each_call
from training_runs import go, recipe


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, asked: dict[str, Any], where: str, number: int) -> None:
    operations = steps = 0

    def operated(name: str, place: str, goal: str | None) -> None:
        nonlocal operations
        operations += place.startswith("step-")
        if where == "save" and operations == number:
            die()

    def stepped(report: Any) -> None:
        nonlocal steps
        steps += 1
        if where == "step" and steps == number:
            threading.Timer(number / 1000, die).start()

    with each_call(folder, operated):
        go(folder, recipe(**asked), each=stepped)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
