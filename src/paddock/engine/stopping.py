"""Stop strings in a text that arrives in pieces: found across borders, never shown in part."""

from __future__ import annotations

from collections.abc import Sequence


class StopScanner:
    """Passes text on until one of `stops` is complete.

    Text is held back exactly as long as it could be the beginning of a stop string. Which stop is found does not
    depend on where the pieces end: it is the one completed first; of several completed by one character, the longest.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """The text that is now certain to be shown. Once `found` is set, everything later is dropped."""
        if self.found is not None:
            return ""
        if not self.stops:
            return text
        text = self.held + text
        match = self._first(text)
        if match is not None:
            start, self.found = match
            self.held = ""
            return text[:start]
        certain = len(text) - self._open(text)
        self.held = text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """What was held, now that no more text comes."""
        held, self.held = self.held, ""
        return held

    def _first(self, text: str) -> tuple[int, str] | None:
        places = [(text.find(stop), stop) for stop in self.stops]
        ends = [(start + len(stop), start, stop) for start, stop in places if start >= 0]
        return min(ends)[1:] if ends else None

    def _open(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = max(len(stop) for stop in self.stops) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self.stops):
                return length
        return 0
