"""The one place that hears what becomes of requests, and tells the metrics and the access log of it."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

from paddock.engine.request import Event
from paddock.errors import PaddockError
from paddock.serve.accesslog import Entry, entry, escaped
from paddock.serve.feed import Feed
from paddock.serve.metrics import Metrics, Series
from paddock.serve.registry import Registry

prompts = logging.getLogger("paddock.prompts")


class Noted(NamedTuple):
    """What is kept with a request: the numbers it changes, and the log's line that it belongs to."""

    model: str
    series: Series
    line: Entry | None


class Watching:
    """An Observer. `talk`: what was asked and answered is logged too."""

    def __init__(self, metrics: Metrics, models: Registry, talk: bool = False) -> None:
        self.metrics, self.models, self.talk = metrics, models, talk

    def submitted(self, feed: Feed) -> None:
        model = self.metrics.model_of(feed.lane)
        feed.note = Noted(model, self.metrics.of(model), entry())

    def brought(self, feed: Feed, events: list[Event]) -> None:
        now, times, several = time.monotonic(), feed.times, len(events)
        series: Series = feed.note.series
        series.generated.inc(several)
        since = times.last
        if since is None:
            sequence, prompt = feed.task.sequence, len(feed.task.request.prompt)
            series.prompt.inc(prompt)
            series.queried.inc(prompt)
            series.found.inc(sequence.reused or 0)
            series.first.observe(now - times.submitted)
            since, several = now, several - 1
        for _ in range(several):  # those that came together share the time since the last
            series.between.observe((now - since) / several)

    def ended(self, feed: Feed, reason: str) -> None:
        times, (model, series, line) = feed.times, feed.note
        self.metrics.ended.labels(model, reason).inc()
        series.whole.observe(time.monotonic() - times.submitted)
        if times.begun is not None:
            series.queued.observe(times.begun - times.submitted)
            if times.first is not None and times.last is not None:
                series.prefill.observe(times.first - times.begun)
                series.decode.observe(times.last - times.first)
        if line is not None:
            line.count(len(feed.task.request.prompt), len(feed.task.answer.written))
        if self.talk:
            self._quote(feed, line, model)

    def _quote(self, feed: Feed, line: Entry | None, name: str) -> None:
        id = "-" if line is None else line.id
        try:
            tokenizer = self.models.find(name).model.tokenizer
            asked, said = (tokenizer.decode(list(ids)) for ids in (feed.task.request.prompt, feed.task.answer.written))
        except PaddockError:
            return
        prompts.info("%s asked %s", id, escaped(asked))
        prompts.info("%s said %s", id, escaped(said))
