"""One of two processes of a small run: `two_ranks_child.py FOLDER STEP`. After that step the second gets a SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from training_runs import publish, recipe, trainer

from paddock.errors import Interrupted
from paddock.training.conduct import Origin, conduct
from paddock.training.parallel import Parallel, from_environment
from paddock.training.run import RunFolder


def main(folder: Path, step: int) -> int:
    with from_environment(Parallel(timeout=120)) as parallel:

        def stopped(report: Any) -> None:
            if report.step == step and not parallel.main:
                os.kill(os.getpid(), signal.SIGTERM)

        one = trainer(recipe(steps=8), parallel=parallel)
        try:
            conduct(one, RunFolder(folder), publish, Origin("x", "data"), hooks=[stopped])
        except Interrupted as error:
            print(error.what if parallel.main else "", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
