"""HTML back into Markdown: chats copied from a page hold the page's own markup, its buttons and labels too."""

from __future__ import annotations

import re
from typing import Any

from markdownify import MarkdownConverter

TAG = re.compile(r"</?(?:p|div|pre|code|ol|ul|li|br|h[1-6]|table|t[hrd]|blockquote|strong|em|span|a)\b[^<>]{0,500}/?>")
MAX_DEPTH = 200  # of open elements; the parser below recurses
OPENING, CLOSING = re.compile(r"<[a-zA-Z][^<>]{0,500}(?<!/)>"), re.compile(r"</[a-zA-Z]")


def is_html(text: str) -> bool:
    """Whether a text has markup of a page outside of Markdown's code."""
    outside = re.sub(r"```.*?(?:```|\Z)|`[^`\n]*`", "", text, flags=re.DOTALL)
    return TAG.search(outside) is not None


def markdown(text: str) -> str | None:
    """The text as Markdown; as it is where it holds no HTML, None where it is nested too deeply to be a chat."""
    if not is_html(text):
        return text
    if _depth(text) > MAX_DEPTH:
        return None
    made = _Converter(heading_style="ATX", bullets="-", escape_asterisks=False, escape_underscores=False).convert(text)
    return re.sub(r"\n{3,}", "\n\n", made).strip()


def _depth(text: str) -> int:
    """How deep elements may lie, taken from above: those that are never closed count to the end."""
    marks = [(m.start(), 1) for m in OPENING.finditer(text)] + [(m.start(), -1) for m in CLOSING.finditer(text)]
    depth = most = 0
    for _, step in sorted(marks):
        depth = max(0, depth + step)
        most = max(most, depth)
    return most


class _Converter(MarkdownConverter):
    """What chat pages put around code, a label and a button, does not come along; its language does."""

    def convert_button(self, element: Any, text: str, *rest: Any, **more: Any) -> str:
        return ""

    def convert_pre(self, element: Any, text: str, *rest: Any, **more: Any) -> str:
        code = element.find("code")
        inside = (element if code is None else code).get_text()
        language = re.search(r"\blanguage-([\w+#-]+)", " ".join(code.get("class") or ()) if code is not None else "")
        marks = "`" * max(3, 1 + max(map(len, re.findall(r"`+", inside)), default=0))
        return f"\n\n{marks}{language[1] if language else ''}\n{inside.strip(chr(10))}\n{marks}\n\n"
