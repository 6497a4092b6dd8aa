"""Paddock: every request through a model's engine, as a server's loop drives it."""

from __future__ import annotations

from typing import Any

import torch
from protocol import Clock, serve

import paddock
from paddock import kernels
from paddock.engine.request import Request
from paddock.engine.sampling import Sampling


class Paddock:
    def load(self, path: str, threads: int, dtype: str = "auto", **options: Any) -> dict[str, Any]:
        torch.set_num_threads(threads)
        self.model = paddock.load(path, dtype)
        return {"version": f"paddock {paddock.__version__}, {kernels.chosen()}"}

    def complete(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
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
