"""The one place that hears what becomes of requests, and tells the metrics and the access log of it."""

from __future__ import annotations

import logging
import time

from paddock.engine.request import Event
from paddock.errors import PaddockError
from paddock.serve.accesslog import Entry, entry, escaped
from paddock.serve.feed import Feed
from paddock.serve.metrics import Metrics
from paddock.serve.registry import Registry

prompts = logging.getLogger("paddock.prompts")


class Watching:
    """An Observer. `talk`: what was asked and answered is logged too."""

    def __init__(self, metrics: Metrics, models: Registry, talk: bool = False) -> None:
        self.metrics, self.models, self.talk = metrics, models, talk

    def submitted(self, feed: Feed) -> None:
        feed.note = entry()

    def brought(self, feed: Feed, events: list[Event]) -> None:
        now, times, metrics, model = time.monotonic(), feed.times, self.metrics, self.metrics.model_of(feed.engine)
        metrics.generated.labels(model).inc(len(events))
        several = len(events)
        since = times.last
        if since is None:
            sequence, prompt = feed.task.sequence, len(feed.task.request.prompt)
            metrics.prompt.labels(model).inc(prompt)
            metrics.queried.labels(model).inc(prompt)
            metrics.found.labels(model).inc(sequence.reused or 0)
            metrics.first.labels(model).observe(now - times.submitted)
            since, several = now, several - 1
        for _ in range(several):  # those that came together share the time since the last
            metrics.between.labels(model).observe((now - since) / several)

    def ended(self, feed: Feed, reason: str) -> None:
        times, metrics, model = feed.times, self.metrics, self.metrics.model_of(feed.engine)
        metrics.ended.labels(model, reason).inc()
        metrics.whole.labels(model).observe(time.monotonic() - times.submitted)
        if times.begun is not None:
            metrics.queued.labels(model).observe(times.begun - times.submitted)
            if times.first is not None and times.last is not None:
                metrics.prefill.labels(model).observe(times.first - times.begun)
                metrics.decode.labels(model).observe(times.last - times.first)
        written = feed.task.answer.written
        if isinstance(feed.note, Entry):
            feed.note.count(len(feed.task.request.prompt), len(written))
        if self.talk:
            self._quote(feed, model)

    def _quote(self, feed: Feed, name: str) -> None:
        id = feed.note.id if isinstance(feed.note, Entry) else "-"
        try:
            tokenizer = self.models.find(name).model.tokenizer
            asked, said = (tokenizer.decode(list(ids)) for ids in (feed.task.request.prompt, feed.task.answer.written))
        except PaddockError:
            return
        prompts.info("%s asked %s", id, escaped(asked))
        prompts.info("%s said %s", id, escaped(said))
