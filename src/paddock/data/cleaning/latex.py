r"""LaTeX sources of papers, in the spirit of RedPajama's ArXiv: comments out, macros without arguments written out, cut
off what stands before the first section and from the bibliography or appendix on. Time is linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import replace

from paddock.data.cleaning.latexmacros import Refused, expanded
from paddock.data.cleaning.stage import Item, Outcome, Stage, removed

# What is not read as TeX, and comments: from a % that no backslash takes; with its line, if that is all of it.
_COMMENT = re.compile(
    r"\\begin\{(?P<kept>verbatim\*?|Verbatim|lstlisting|minted|comment)\}"
    r"|\\verb\*?(?P<mark>[^\sA-Za-z*])"
    r"|\\."
    r"|(?P<whole>^[ \t]*%[^\n]*(?:\n|\Z))"
    r"|(?P<part>%[^\n]*)",
    re.MULTILINE | re.DOTALL,
)
_SECTION = re.compile(r"\\(?:part|chapter|section|subsection|subsubsection|paragraph)\*?[ \t]*[\[{]")
_TAIL = re.compile(
    r"\\(?:(?:appendix|appendices|printbibliography)(?![A-Za-z])|bibliography[ \t]*\{"
    r"|begin\{(?:thebibliography|references|REFERENCES|appendix|appendices)\}|end\{document\})"
)
_VERB = 500  # characters within which \verb's second mark is looked for


def without_comments(text: str) -> tuple[str, int]:
    r"""LaTeX less its comments and `comment` environments, and how many those were; verbatim text stays as it is.

    What is looked for and not there is looked for once, so that a text of nothing but beginnings costs no more.
    """
    parts, at, count = list[str](), 0, 0
    missing: set[str] = set()
    while (match := _COMMENT.search(text, at)) is not None:
        parts.append(text[at : match.start()])
        at = match.end()
        if name := match["kept"]:
            end = f"\\end{{{name}}}"
            close = -1 if name in missing else text.find(end, at)
            if close < 0:
                missing.add(name)
                parts.append(match[0])
                continue
            begin, at = match.start(), close + len(end)
            if name == "comment":
                count += 1
            else:
                parts.append(text[begin:at])
        elif mark := match["mark"]:
            line = text[at : at + _VERB].partition("\n")[0]
            stop = line.find(mark)
            at += stop + 1  # from the mark itself on where there is no second one
            parts.append(text[match.start() : at])
        elif match["whole"] is not None or match["part"] is not None:
            count += 1
        else:
            parts.append(match[0])
    return "".join(parts) + text[at:], count


class Latex(Stage):
    """Keeps the body of a paper. What has no section is removed: a plain TeX or HTML file, a cover, a style."""

    def __init__(self, comments: bool, macros: bool, head: bool, tail: bool, characters: int) -> None:
        self.comments, self.macros, self.head, self.tail = comments, macros, head, tail
        self.characters = characters

    def apply(self, item: Item) -> Outcome:
        text, changes = item.document.text, dict[str, int]()
        if self.comments:
            text, changes["comments"] = without_comments(text)
        if _SECTION.search(text) is None:
            return removed("no section")
        if self.macros:
            try:
                text, changes["macros"] = expanded(text)
            except Refused as refusal:
                return removed(refusal.reason, refusal.detail)
        section = _SECTION.search(text)
        if section is None:
            return removed("no section", "but in a macro")
        start = section.start()
        end = _TAIL.search(text, start) if self.tail else None
        if end is not None:
            changes["bibliography or appendix"] = int(bool(text[end.start() :].strip()))
            text = text[: end.start()].rstrip() + "\n"
        if self.head and start:
            changes["before the first section"] = 1
            text = text[start:]
        if len(text) < self.characters:
            return removed("too little left", f"{len(text)} characters, least {self.characters}")
        if text == item.document.text:
            return Outcome(item.document)
        return Outcome(
            replace(item.document, text=text), changes={name: count for name, count in changes.items() if count}
        )
