"""Paddock, through the same door as its users."""

from __future__ import annotations

from typing import Any

from protocol import Clock, serve

import paddock
from paddock import kernels
from paddock.engine.generate import Generation
from paddock.engine.request import Request
from paddock.engine.sampling import Sampling


class Paddock:
    def load(self, path: str, threads: int, **options: Any) -> dict[str, Any]:
        import torch

        torch.set_num_threads(threads)
        self.model = paddock.load(path)
        return {"version": f"paddock {paddock.__version__}", "built": kernels.chosen()}

    def complete(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
        clock = Clock()
        greedy = Sampling(temperature=0)
        running = [Generation(self.model.model, Request(tuple(ids), new, greedy)) for ids in prompts]
        written = [[next(one).token] for one in running]
        clock.first()
        for _ in range(new - 1):
            for one, ids in zip(running, written, strict=True):
                ids.append(next(one).token)
        return clock.answer(written)


if __name__ == "__main__":
    serve(Paddock)
