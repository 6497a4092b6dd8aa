"""A server without its network: models, the thread that computes, and what is counted. Routes reach it as `Here`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from paddock.engine.language_model import LanguageModel
from paddock.engine.loading import load
from paddock.engine.runners import engine_for
from paddock.serve.access import Access, keys_of
from paddock.serve.registry import Registry, Served
from paddock.serve.settings import Named, Settings
from paddock.serve.worker import Worker


class Server:
    """Opened once, before the first request; closed after the last."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.access = Access(keys_of(settings.api_keys, settings.api_key_file, settings.admin_keys))
        self.registry = Registry()
        self.worker = Worker(settings.waiting)

    def open(self) -> None:
        """Loads the models that `settings` name and starts to compute. Raises what `load` does."""
        for named in self.settings.models:
            self.load(named)
        self.worker.start()

    def close(self) -> None:
        self.worker.stop()

    def load(self, named: Named) -> Served:
        """One more model by name. Raises what `paddock.load` does, UsageError for a name that is taken."""
        chosen = self.settings
        model = load(
            named.path, dtype=chosen.dtype, device=chosen.device, quantize=chosen.quantize, template=chosen.template
        )
        return self.serve(named.name, model)

    def serve(self, name: str, model: LanguageModel, parent: str | None = None) -> Served:
        engine = engine_for(model.model, sequences=self.settings.parallel) if model.architecture.generates else None
        served = Served(name, model, engine, Path(model.checkpoint.path), parent)
        self.registry.add(served)
        return served


def _server_of(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


Here = Annotated[Server, Depends(_server_of)]
