"""What an operator chooses: every flag of `paddock serve`. Nothing heavy is imported here."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paddock.errors import UsageError

LONGEST_NAME = 128
_PART = r"[A-Za-z0-9][A-Za-z0-9._:-]*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_PREFIX = re.compile(r"[a-zA-Z_][a-zA-Z0-9_:]*")


@dataclass(frozen=True)
class Named:
    """A model or adapter to serve: the name that requests choose it by, and where it lies (None: the bundled model).

    base: the name of the model that an adapter goes on; None is the first one.
    """

    name: str
    path: str | None
    base: str | None = None


@dataclass(frozen=True)
class Settings:
    """parallel: requests of one model that run at once. queue: requests that may wait, over all models; None is four
    times `parallel`. ctx_size: tokens of prompt and answer that one request may have; None is the model's own limit.
    api_keys, api_key_file, admin_keys: secrets, never shown. models_dirs: the folders that models may be loaded from
    while the server runs; none means any. drain_seconds: what running requests are given when the server is told to
    stop. body_bytes: of a request's body, at most. per_key_in_flight, per_key_per_minute: requests of one key at once
    and in any minute, None for no limit; a key file may say otherwise of a key. strict: refuse fields that
    would be ignored. access_log: a line for each request. log_prompts: write prompts and answers into the log.
    """

    models: tuple[Named, ...] = (Named("stories260K", None),)
    adapters: tuple[Named, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    api_key_file: Path | None = None
    admin_keys: tuple[str, ...] = field(default=(), repr=False)
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    body_bytes: int = 8 * 2**20
    per_key_in_flight: int | None = 16
    per_key_per_minute: int | None = None
    insecure: bool = False
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    parallel: int = 64
    queue: int | None = None
    ctx_size: int | None = None
    quantize: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    template: str | None = None
    models_dirs: tuple[Path, ...] = ()
    strict: bool = False
    web: bool = True
    metrics: bool = True
    metrics_prefix: str = "paddock:"
    drain_seconds: float = 30.0
    access_log: bool = True
    log_prompts: bool = False

    @property
    def waiting(self) -> int:
        return 4 * self.parallel if self.queue is None else self.queue

    @property
    def keyed(self) -> bool:
        """Whether requests need a key."""
        return bool(self.api_keys or self.api_key_file or self.admin_keys)

    def check(self) -> None:
        """Raises UsageError for what contradicts itself or lays the server open."""
        check_names(self.models, self.adapters)
        if not is_loopback(self.host) and not self.keyed and not self.insecure:
            raise UsageError(
                f"--host {self.host} can be reached from other machines, and there is no key",
                fix="give --api-key or --api-key-file, or leave out --host (--insecure serves everybody)",
            )
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise UsageError("--ssl-keyfile without --ssl-certfile", fix="give both, or leave both out")
        if not _PREFIX.fullmatch(self.metrics_prefix):
            raise UsageError(
                f"--metrics-prefix {self.metrics_prefix!r}", expected="letters, digits, _ and :, no digit first"
            )


def check_name(name: str) -> str:
    """`name` as a model may be called: never a path, though an organisation may stand before it. Raises UsageError."""
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a model",
            expected=f"at most {LONGEST_NAME} letters, digits and . _ : - (and / between such words)",
            fix="name it with --served-model-name",
        )
    return name


def check_names(models: Sequence[Named], adapters: Sequence[Named]) -> None:
    """Every name well-formed and there once, and what adapters go on among the models."""
    seen: set[str] = set()
    for named in (*models, *adapters):
        if check_name(named.name) in seen:
            raise UsageError(f"two models are called {named.name!r}", fix="name them with --served-model-name")
        seen.add(named.name)
    for adapter in adapters:
        if adapter.base is not None and adapter.base not in {model.name for model in models}:
            raise UsageError(
                f"the adapter {adapter.name!r} goes on {adapter.base!r}, which is not served",
                expected=", ".join(model.name for model in models),
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens at `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
