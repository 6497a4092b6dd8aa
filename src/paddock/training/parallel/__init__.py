"""The machines a run is spread over. The loop does not know how many there are.

    with from_environment(recipe.parallel) as parallel:
        Trainer(model, batches, loss, recipe.training, parallel).run(after)

`Alone` is one process; `Together` is one of several that torchrun started, with the same methods.
"""

from __future__ import annotations

from paddock.training.parallel.alone import Alone
from paddock.training.parallel.section import Parallel

__all__ = ["Alone", "Parallel"]
