"""Characters put in order: one spelling of the same character, one kind of line end, none that nobody sees."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from paddock.data.cleaning.stage import Item, Outcome, Stage

# Control characters but tab and line feed; marks of byte order; zero width spaces; half characters; not: joiners, which
# Persian, Indic scripts and emoji need.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff\ufffe\uffff\ud800-\udfff]")
_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")


class Forms(Stage):
    """Composes characters (`form`: NFC, NFKC, or none), makes line ends line feeds, drops what is not to be seen."""

    def __init__(self, form: str, line_ends: bool, unseen: bool) -> None:
        self.form, self.line_ends, self.unseen = form, line_ends, unseen

    def apply(self, item: Item) -> Outcome:
        text = item.document.text
        changes: dict[str, int] = {}
        if self.line_ends and (text.isascii() is False or "\r" in text):
            text, changes["line ends"] = _ENDS.subn("\n", text)
        if self.unseen:
            text, changes["unseen characters"] = _UNSEEN.subn("", text)
        if self.form != "none" and not text.isascii() and not unicodedata.is_normalized(self.form, text):  # type: ignore[arg-type]
            text, changes["composed"] = unicodedata.normalize(self.form, text), 1  # type: ignore[arg-type]
        if text == item.document.text:
            return Outcome(item.document)
        return Outcome(
            replace(item.document, text=text), changes={name: count for name, count in changes.items() if count}
        )
