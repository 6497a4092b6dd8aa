"""What an answer cost and what computed it, as OpenAI's and llama.cpp's clients read it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from paddock import __version__
from paddock.serve.answering import Dropped, Ending, Usage
from paddock.serve.registry import Served

TRUNCATED = "X-Paddock-Truncated"
WEIGHTS = (".safetensors", ".bin", ".gguf")

_fingerprints: WeakKeyDictionary[Served, str] = WeakKeyDictionary()


def usage_body(usage: Usage, dropped: Dropped | None = None) -> dict[str, Any]:
    """OpenAI's `usage`. `truncated` is there where a prompt was cut, as was asked."""
    body: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
    if dropped is not None:
        body["truncated"] = {"messages": dropped.messages, "tokens": dropped.tokens}
    return body


def timings(usage: Usage, endings: Sequence[Ending]) -> dict[str, Any]:
    """llama.cpp's `timings`. Choices are computed together, so the slowest one's times are those of all."""
    computed = usage.prompt - usage.cached
    prompt = 1000 * max((ending.prefill_seconds for ending in endings), default=0.0)
    predicted = 1000 * max((ending.decode_seconds for ending in endings), default=0.0)
    return {
        "cache_n": usage.cached,
        "prompt_n": computed,
        "prompt_ms": prompt,
        "prompt_per_second": _rate(computed, prompt),
        "predicted_n": usage.completion,
        "predicted_ms": predicted,
        "predicted_per_second": _rate(usage.completion, predicted),
    }


def _rate(count: int, milliseconds: float) -> float:
    return 1000 * count / milliseconds if milliseconds > 0 else 0.0


def fingerprint(served: Served) -> str:
    """OpenAI's `system_fingerprint`: another one means that seeds may give other texts."""
    found = _fingerprints.get(served)
    if found is None:
        parts = [__version__, served.name, *_weights(served.root)]
        found = _fingerprints[served] = "fp_" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return found


def _weights(root: Path) -> list[str]:
    """Names and sizes of the files of weights, as far as they are there: a model goes on without its files."""
    paths = [root] if root.is_file() else sorted(path for path in root.glob("*") if path.suffix in WEIGHTS)
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            found.append(f"{path.name}:{path.stat().st_size}")
    return found
