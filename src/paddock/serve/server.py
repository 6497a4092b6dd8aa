"""A server without its network: models, the thread that computes, and what is counted. Routes reach it as `Here`."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Depends, Request

from paddock.checkpoint.adapter_kinds import adds_ranks_only
from paddock.engine.carrying import Adapter
from paddock.engine.engine import Engine
from paddock.engine.language_model import LanguageModel
from paddock.engine.loading import load
from paddock.engine.memory import SHARE, cache_place, free_memory
from paddock.engine.runner import cache_bytes
from paddock.engine.runners import engine_for
from paddock.errors import OverloadError, PaddockError, UsageError
from paddock.serve.access import Access, keys_of, sealed
from paddock.serve.metrics import Metrics, lane_of
from paddock.serve.registry import Registry, Served
from paddock.serve.settings import Named, Settings, check_name, check_names
from paddock.serve.watching import Watching
from paddock.serve.worker import Worker

State = Literal["loading", "ready", "draining", "down"]
RESTART_SECONDS = 60.0  # a thread that dies again within this time is not started again
ENDED_SECONDS = 5.0  # for requests that were cancelled to have left an engine
log = logging.getLogger("paddock.serve")


class Server:
    """Opened once, before the first request; closed after the last.

    draining: no new work, because the server is about to stop. in_flight: requests being answered at present.
    changing: held while a model is loaded for an administrator.
    """

    def __init__(self, settings: Settings) -> None:
        self.access = Access(keys_of(settings.api_keys, settings.api_key_file, settings.admin_keys))
        self.settings = replace(
            settings, api_keys=sealed(settings.api_keys), admin_keys=sealed(settings.admin_keys)
        )  # nothing that serves holds a key itself
        self.registry = Registry()
        self.metrics = Metrics(settings.metrics_prefix, self.registry, lambda: self.worker)
        self.worker = self._new_worker()
        self.draining, self.in_flight = False, 0
        self.changing = asyncio.Lock()
        self._opened = False
        self._restarted = -RESTART_SECONDS
        self._sizing = threading.Lock()

    @property
    def state(self) -> State:
        """What it is doing. "down": its worker died and could not be started again."""
        if self.draining:
            return "draining"
        if not self._opened:
            return "loading"
        return "ready" if self.worker.alive else "down"

    def open(self) -> None:
        """Loads the models that `settings` name and starts to compute. Raises what `load` does."""
        chosen = self.settings
        # All weights before any cache: who takes how much of what is left is then known.
        check_names(chosen.models, chosen.adapters)
        models = {named.name: self._read(named) for named in chosen.models}
        apart = [_apart(named, models.get(named.base or next(iter(models), ""))) for named in chosen.adapters]
        caches = len(models) + sum(apart)  # that are still to come
        for name in tuple(models):
            caches -= 1
            with self.registry.coming(check_name(name)):
                self.serve(name, models.pop(name), more=caches)
        self._check_length()
        for named, own in zip(chosen.adapters, apart, strict=True):
            caches -= own
            self.adapt(named, self.registry.find(named.base), more=max(caches, 0))
        self.worker.start()
        self._opened = True

    def close(self) -> None:
        """Ends the thread that computes; what was still running fails."""
        self.draining = True
        self.worker.stop(ENDED_SECONDS)

    def load(self, named: Named) -> Served:
        """One more model by name; requests that run go on.

        Raises what `paddock.load` does, UsageError for a name that is taken or none.
        """
        with self.registry.coming(check_name(named.name)):
            return self.serve(named.name, self._read(named))

    def _read(self, named: Named) -> LanguageModel:
        chosen = self.settings
        return load(
            named.path, dtype=chosen.dtype, device=chosen.device, quantize=chosen.quantize, template=chosen.template
        )

    def adapt(self, named: Named, parent: Served, more: int = 0) -> Served:
        """An adapter on a model that is served, under a name of its own; the weights are shared. One that only adds low
        ranks shares the model's engine, too: its requests are computed in the same steps.

        Raises what `LanguageModel.with_adapter` does, UsageError for a name that is taken or none, NotFoundError where
        the model has gone.
        """
        if named.path is None:
            raise UsageError(f"the adapter {named.name!r} has no path")
        with self.registry.coming(check_name(named.name), parent.name):
            model = parent.model.with_adapter(named.path)
            return self.serve(named.name, model, parent, Path(named.path), more)

    def serve(
        self, name: str, model: LanguageModel, parent: Served | None = None, root: Path | None = None, more: int = 0
    ) -> Served:
        """A model that is loaded already. `root`: the folder or file it came from, where that is not the model's."""
        model.planner.limit = self.settings.ctx_size
        engine, adapter = self._place(model, parent, more) if model.architecture.generates else (None, None)
        path = root or Path(model.checkpoint.path)
        served = Served(name, model, engine, path, None if parent is None else parent.name, adapter)
        if engine is not None:
            self.metrics.name(lane_of(served), name)
        self.registry.add(served)
        return served

    async def unload(self, name: str) -> None:
        """Takes a model off the list at once; its requests may end within `drain_seconds`, then they are broken off.
        Nothing holds it any more afterwards: its memory is free. Raises NotFoundError, and UsageError while adapters
        are on it."""
        served = self.registry.remove(name)
        engine, adapter = served.engine, served.adapter
        if engine is None:
            return
        lane = lane_of(served)
        del served
        self.worker.close(engine, adapter=adapter)
        await self._emptied(engine, adapter, self.settings.drain_seconds)
        self.worker.close(engine, OverloadError(f"the model {name!r} was unloaded", down=True), adapter)
        await self._emptied(engine, adapter, ENDED_SECONDS)
        if adapter is not None:
            del adapter
            self.metrics.forget(lane)
            engine.adapters.sweep()

    async def _emptied(self, engine: Engine, adapter: Adapter | None, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.worker.busy(engine, adapter) and time.monotonic() < end:
            await asyncio.sleep(0.02)

    def _place(self, model: LanguageModel, parent: Served | None, more: int) -> tuple[Engine, Adapter | None]:
        """Where its requests are computed: in its parent's engine if they can be, else in one of its own."""
        if parent is not None and parent.engine is not None and parent.adapter is None:
            adapter = parent.engine.adapters.put(parent.model.model, model.model)
            if adapter is not None:
                return parent.engine, adapter
        return self._engine(model, more), None

    def _engine(self, model: LanguageModel, more: int) -> Engine:
        """An engine whose cache takes its part of what memory is left; caches grow later than they are sized."""
        device = cache_place(model.model)[1]
        with self._sizing:
            left = int(free_memory(device) * SHARE) - sum(map(_untaken, self._engines()))
            memory = max(left, 0) // (more + 1)
            return engine_for(model.model, sequences=self.settings.parallel, text=self.settings.ctx_size, memory=memory)

    def _engines(self) -> Iterable[Engine]:
        return {served.engine for served in self.registry if served.engine is not None}

    def _check_length(self) -> None:
        """A limit that limits nothing is a misunderstanding."""
        wanted = self.settings.ctx_size
        contexts = [served.model.architecture.context for served in self.registry]
        known = [context for context in contexts if context is not None]
        if wanted is not None and known and len(known) == len(contexts) and wanted > max(known):
            raise UsageError(
                f"--ctx-size {wanted} is more than the model can read",
                expected=f"at most {max(known)}, its context",
                fix="leave --ctx-size out",
            )

    def _new_worker(self) -> Worker:
        watching = Watching(self.metrics, self.registry, self.settings.log_prompts)
        return Worker(self.settings.waiting, self.settings.parallel, watching, self._revive)

    def _revive(self) -> None:
        """After the worker died: another one, with engines that know nothing of the old. What ran has failed."""
        now = time.monotonic()
        if self.draining or now - self._restarted < RESTART_SECONDS:
            log.error("the engine stays down; start the server again")
            return
        self._restarted = now
        worker = self._new_worker()
        writing = [served for served in self.registry if served.engine is not None]
        for served in writing:
            assert served.engine is not None
            worker.close(served.engine)
            self.registry.renew(served, None)  # what the old caches had may be given to the new
        try:
            for place, served in enumerate(writing):  # a parent always stands before what is on it
                parent = None if served.parent is None else self.registry.find(served.parent)
                engine, adapter = self._place(served.model, parent, len(writing) - place - 1)
                self.metrics.name((engine, 0 if adapter is None else adapter.number), served.name)
                self.registry.renew(served, engine, adapter)
        except PaddockError as error:
            log.error("the engine stays down: %s", error)
            return
        worker.start()
        self.worker = worker
        log.error("the engine was started again; requests that ran are lost")


def _apart(named: Named, base: LanguageModel | None) -> bool:
    """Whether an adapter takes an engine of its own: where it does more than add ranks, and on an encoder-decoder."""
    if named.path is None or (base is not None and base.architecture.encoder is not None):
        return True
    return not adds_ranks_only(Path(named.path).expanduser())


def _untaken(engine: Engine) -> int:
    """Bytes of an engine's cache that it may take yet; all of them, as a cache does not tell what it has touched."""
    return cache_bytes(engine.runner)


def _server_of(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


Here = Annotated[Server, Depends(_server_of)]
