"""Every format of examples, the most particular first: the first that fits a record names it."""

from __future__ import annotations

from paddock.data.instruct.formats import plainly, single, turns
from paddock.data.instruct.taking import Format

FORMATS: dict[str, Format] = {each.name: each for module in (turns, single, plainly) for each in module.FORMATS}
