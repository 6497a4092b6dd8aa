"""transformers' LLaMA in a plain loop, its loss its own; eager, or through torch.compile."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from protocol import serve
from training_loop import Plain, Worker


def make(path: str, precision: str, compiled: bool = False, **rest: Any) -> tuple[Plain, str]:
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    run = torch.compile(model) if compiled else model

    def loss(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return run(input_ids=ids, labels=targets, shift_labels=targets, use_cache=False).loss

    return Plain(model, loss, precision), f"transformers {transformers.__version__}"


if __name__ == "__main__":
    serve(lambda: Worker(make))  # type: ignore[arg-type, return-value]
