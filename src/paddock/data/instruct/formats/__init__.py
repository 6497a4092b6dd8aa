"""Every format of examples, the most particular first: the first that fits a record names it."""

from __future__ import annotations

from paddock.data.instruct.formats import moss, plainly, preferences, single, transcripts, trees, turns
from paddock.data.instruct.taking import Format

FORMATS: dict[str, Format] = {
    each.name: each
    for some in (
        trees.FORMATS,
        preferences.FORMATS,
        moss.FORMATS,
        transcripts.FORMATS,
        turns.FORMATS,
        single.FORMATS,
        plainly.FORMATS,
        [single.PROMPTS_ONLY],
    )
    for each in some
}
