"""Paddock keeps open language models on your own ground. Start with `paddock.load()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddock.engine.language_model import LanguageModel
    from paddock.engine.loading import load

__version__ = "0.1.0"
__all__ = ["LanguageModel", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `LanguageModel` bring PyTorch with them, so they are imported when first used."""
    if name in ("LanguageModel", "load"):
        from paddock.engine import language_model, loading

        return loading.load if name == "load" else language_model.LanguageModel
    raise AttributeError(f"module 'paddock' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
