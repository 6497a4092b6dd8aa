"""What is told after an answer: settings with their origins, times with their rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from paddock.cli import output


class Times(Protocol):
    """Seconds."""

    @property
    def prompt(self) -> float: ...

    @property
    def decode(self) -> float: ...


class Done(Protocol):
    """An answer that has ended, wherever it was written."""

    @property
    def finish_reason(self) -> str: ...

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def completion_tokens(self) -> int: ...

    @property
    def timings(self) -> Times: ...


def settings_table(values: Mapping[str, tuple[Any, str]]) -> str:
    """Every setting, its value, and who said so."""
    rows = [[name, _value(value), origin] for name, (value, origin) in values.items()]
    return output.table(rows, ("setting", "value", "from"))


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if value in ((), {}, []):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def rates(done: Done, load_seconds: float | None = None, guesses: tuple[int, int] | None = None) -> str:
    """Times, a line each: loading, reading the prompt, writing; `guesses`: how many there were, how many were right."""
    prompt, decode = done.timings.prompt, done.timings.decode
    written = max(done.completion_tokens - 1, 0)  # the first token comes with the prompt
    rows = [["load", f"{load_seconds:.2f} s", ""]] if load_seconds is not None else []
    rows += [
        ["prompt", f"{prompt:.2f} s", _rate(done.prompt_tokens, prompt)],
        ["decode", f"{decode:.2f} s", _rate(written, decode)],
    ]
    if guesses is not None:
        rows.append(["guesses", f"{guesses[0]}", f"{guesses[1]} of them right"])
    return output.table(rows, right=(1,))


def _rate(tokens: int, seconds: float) -> str:
    return f"{tokens} tokens, {tokens / seconds:,.1f} tokens/s" if seconds > 0 else f"{tokens} tokens"
