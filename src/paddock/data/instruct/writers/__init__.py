"""A writer for every format that is read. Start with `writer.py`."""

from __future__ import annotations

from paddock.data.instruct.writers import preferences, single, transcripts, turns
from paddock.data.instruct.writers.writer import Unwritable, Writer

__all__ = ["WRITERS", "Unwritable", "Writer"]

WRITERS: dict[str, Writer] = {
    each.name: each
    for some in (turns.WRITERS, single.WRITERS, transcripts.WRITERS, preferences.WRITERS)
    for each in some
}
