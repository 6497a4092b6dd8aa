"""Paddock keeps open language models on your own ground. Start with `paddock.load()`, or `paddock.Client()` for a
server that runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# PyTorch's threads spin while they wait for work, and so keep a core from our own kernels' threads and from everything
# else: beside one other busy program a training step took ten times as long (docs/notes/2026-11-22-training-speed.md).
# Read when PyTorch is loaded, so it is said before that; what a user says counts.
if "GOMP_SPINCOUNT" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from paddock.engine.language_model import LanguageModel
    from paddock.engine.loading import load
    from paddock.serve.client import Client

__version__ = "0.1.0"
__all__ = ["Client", "LanguageModel", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """`LanguageModel` brings PyTorch with it, and a call of `load` does, so all are imported when first used."""
    if name == "Client":
        from paddock.serve import client

        return client.Client
    if name == "load":
        from paddock.engine import loading

        return loading.load
    if name == "LanguageModel":
        from paddock.engine import language_model

        return language_model.LanguageModel
    raise AttributeError(f"module 'paddock' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
