"""Paddock: every request through a model's engine, as a server's loop drives it.

PyTorch is imported by `paddock.load`, as in any program that begins by loading a model.
"""

from __future__ import annotations

from typing import Any

from protocol import Clock, serve

import paddock


class Paddock:
    def load(self, path: str, threads: int, dtype: str = "auto", **options: Any) -> dict[str, Any]:
        self.model = paddock.load(path, dtype)
        import torch

        from paddock import kernels

        torch.set_num_threads(threads)
        return {"version": f"paddock {paddock.__version__}, {kernels.chosen()}"}

    def complete(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
        from paddock.engine.request import Request
        from paddock.engine.sampling import Sampling

        engine, greedy = self.model.engine, Sampling(temperature=0)
        clock = Clock()
        tasks = [engine.task(Request(tuple(ids), new, greedy, salt=None)) for ids in prompts]
        written: list[list[int]] = [[] for _ in tasks]
        for task in tasks:
            engine.submit(task)
        while engine.step():
            for task, ids in zip(tasks, written, strict=True):
                if task.failure is not None:
                    raise task.failure
                while task.events:
                    ids.append(task.events.popleft().token)
            if clock.split is None and all(written):
                clock.first()
        return clock.answer(written)


if __name__ == "__main__":
    serve(Paddock)
