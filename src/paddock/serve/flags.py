"""The flags of `paddock serve` as variables of the environment: PADDOCK_<FLAG> for each. Imports nothing heavy.

A flag counts before a variable, a variable before the default. One that is empty counts as not set; where a key
belongs into it that is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from paddock.errors import UsageError, nearest

PREFIX = "PADDOCK_"
OTHERS = frozenset({"PADDOCK_HOME", "PADDOCK_KERNELS"})  # variables that are no flags of `serve`
SECRETS = frozenset({"api_key", "api_key_file", "admin_key"})  # an empty one is a secret that went missing
YES, NO = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
_WHOLE = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class Flag:
    """One flag. `kind`: what a value is; "keys" are separated by blanks in a variable, other "list"s by commas.

    low, high: bounds of a number, both included.
    """

    name: str
    kind: Literal["text", "list", "keys", "count", "seconds", "switch"] = "text"
    low: int = 0
    high: int = 0

    @property
    def option(self) -> str:
        return "MODEL" if self.name == "model" else "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    def read(self, text: str) -> Any:
        """The value that a variable spells. Raises UsageError, which names the variable and never a key."""
        if self.kind == "text":
            return text
        if self.kind == "keys":
            return text.split()
        if self.kind == "list":
            return [part.strip() for part in text.split(",") if part.strip()]
        if self.kind == "switch":
            word = text.strip().lower()
            if word not in YES | NO:
                raise UsageError(f"{self.variable}={text}", expected="1 or 0")
            return word in YES
        if self.kind == "count" and not _WHOLE.fullmatch(text.strip()):
            raise UsageError(f"{self.variable}={text}", expected="a whole number")
        try:
            value = float(text) if self.kind == "seconds" else int(text)
        except ValueError:
            raise UsageError(f"{self.variable}={text}", expected="a number") from None
        self.check(value, self.variable)
        return value

    def check(self, value: Any, where: str) -> None:
        """Raises UsageError for a number out of bounds; `where` names the flag or the variable it came from."""
        if self.kind in ("count", "seconds") and not self.low <= value <= self.high:
            raise UsageError(f"{where} {value}", expected=f"{self.low} to {self.high}")


FLAGS = (
    Flag("model", "list"),
    Flag("served_model_name", "list"),
    Flag("lora_modules", "list"),
    Flag("models_dir", "list"),
    Flag("chat_template"),
    Flag("dtype"),
    Flag("device"),
    Flag("quantize"),
    Flag("threads", "count", 1, 512),
    Flag("host"),
    Flag("port", "count", 0, 65535),
    Flag("ssl_certfile"),
    Flag("ssl_keyfile"),
    Flag("web", "switch"),
    Flag("api_key", "keys"),
    Flag("api_key_file"),
    Flag("admin_key", "keys"),
    Flag("per_key_in_flight", "count", 1, 10**6),
    Flag("per_key_per_minute", "count", 1, 10**6),
    Flag("allowed_host", "list"),
    Flag("cors_origin", "list"),
    Flag("insecure", "switch"),
    Flag("ctx_size", "count", 1, 2**31),
    Flag("parallel", "count", 1, 511),
    Flag("queue", "count", 0, 10**6),
    Flag("body_bytes", "count", 1024, 2**30),
    Flag("drain_seconds", "seconds", 0, 86400),
    Flag("strict", "switch"),
    Flag("metrics", "switch"),
    Flag("metrics_prefix"),
    Flag("access_log", "switch"),
    Flag("log_prompts", "switch"),
)
BY_NAME = {flag.name: flag for flag in FLAGS}


def merged(given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Every flag that was given, on the command line or else by a variable. Raises UsageError for what cannot be."""
    found: dict[str, Any] = {}
    for flag in FLAGS:
        value = given.get(flag.name)
        if value is not None and value != [] and value != ():  # how the command line says that a list was not given
            flag.check(value, flag.option)
            found[flag.name] = value
        elif text := environment.get(flag.variable):
            found[flag.name] = flag.read(text)
        if flag.name in SECRETS and flag.variable in environment and not found.get(flag.name):
            raise UsageError(f"{flag.variable} is set and empty", fix="put a key into it, or unset it")
    return found


def misspelt(environment: Mapping[str, str]) -> list[str]:
    """A line for each variable that is none of ours, but looks like one that is."""
    ours = {flag.variable for flag in FLAGS} | OTHERS
    lines = []
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in ours:
            near = nearest(name.removeprefix(PREFIX), [known.removeprefix(PREFIX) for known in sorted(ours)])
            if near is not None:
                lines.append(f"{name} is not a variable that is read; did you mean {PREFIX}{near}?")
    return lines
