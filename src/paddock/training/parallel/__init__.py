"""The machines a run is spread over. The loop does not know how many there are.

    with from_environment(recipe.parallel, device) as parallel:
        Trainer(model, batches, loss, recipe.training, parallel).run(after)

`Alone` is one process; `Together` (together.py) is one of several that torchrun started, with the same methods.
"""

from __future__ import annotations

from paddock.training.parallel.alone import Alone
from paddock.training.parallel.environment import from_environment
from paddock.training.parallel.section import Parallel

__all__ = ["Alone", "Parallel", "from_environment"]
