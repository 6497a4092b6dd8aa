"""What an operator chooses: every flag of `paddock serve`, with its PADDOCK_ variable."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Named:
    """A model or adapter to serve: the name that requests choose it by, and where it lies."""

    name: str
    path: str | None


@dataclass(frozen=True)
class Settings:
    """parallel: requests of one model that run at once. queue: requests that may wait, over all models; None is four
    times `parallel`. ctx_size: tokens the cache of a model holds at least for one request; None is as many as fit.
    strict: refuse fields that would be ignored.
    """

    models: tuple[Named, ...] = (Named("stories260K", None),)
    adapters: tuple[Named, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    parallel: int = 64
    queue: int | None = None
    ctx_size: int | None = None
    quantize: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    template: str | None = None
    strict: bool = False

    @property
    def waiting(self) -> int:
        return 4 * self.parallel if self.queue is None else self.queue
