"""A run's numbers in TensorBoard's files, where they are asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddock.errors import UsageError

SHOWN = ("loss", "norm", "learning_rate", "tokens_per_second", "mfu", "memory")


class TensorBoard:
    """A sink of `metrics.Metrics`. Raises UsageError where the tensorboard package is not installed."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise UsageError(
                "training.tensorboard is on, and the package is not installed",
                fix="pip install tensorboard, or leave it out: metrics.jsonl and the plots say the same",
            )
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def __call__(self, record: Mapping[str, Any]) -> None:
        step = record["step"]
        numbers = {name: record[name] for name in SHOWN if name in record}
        numbers |= {f"parts/{name}": value for name, value in (record.get("parts") or {}).items()}
        numbers |= {f"validation/{name}": value for name, value in (record.get("validation") or {}).items()}
        for name, value in numbers.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)
        for number, text in enumerate(record.get("samples", ())):
            self._writer.add_text(f"sample {number}", text, step)

    def close(self) -> None:
        self._writer.close()
