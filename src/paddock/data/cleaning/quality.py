"""The quality stage: signals within limits, or written beside the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from paddock.data.cleaning.signals import SIGNALS, Limits, Page, signals
from paddock.data.cleaning.stage import Item, Outcome, Stage, removed


class Quality(Stage):
    """Removes a document at the first signal outside its limits.

    `annotate`: removes nothing, but writes all signals into meta.quality_signals, as RedPajama v2 does.
    """

    def __init__(self, limits: Limits, stop_words: frozenset[str], annotate: bool) -> None:
        self.limits, self.stop_words, self.annotate = limits, stop_words, annotate

    def apply(self, item: Item) -> Outcome:
        document = item.document
        if self.annotate:
            found = {
                name: round(value, 6) for name, value in signals(document.text, stop_words=self.stop_words).items()
            }
            return Outcome(replace(document, meta={**document.meta, "quality_signals": found}))
        page = Page(document.text, self.stop_words)
        for name, (least, most) in self.limits.items():
            value = SIGNALS[name](page)
            if least is not None and value < least:
                return removed(f"{name} too low", f"{value:.4g}, least {least:g}")
            if most is not None and value > most:
                return removed(f"{name} too high", f"{value:.4g}, most {most:g}")
        return Outcome(document)


def merged(preset: Limits, own: Mapping[str, tuple[float | None, float | None] | None]) -> Limits:
    """A preset with limits of one's own over it; None takes a limit away."""
    limits = {**preset, **own}
    return {name: limit for name, limit in limits.items() if limit is not None}
