"""Licences, and what a file of source code must look like (RedPajama's GitHub rules)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from paddock.data.cleaning.stage import Item, Outcome, Stage, removed

ALLOWED = ("MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0")
# fmt: off
EXTENSIONS = (
    "asm", "bat", "c", "cc", "clj", "cmake", "cpp", "cs", "css", "cu", "cxx", "dart", "dockerfile", "el", "elm", "erl",
    "ex", "exs", "f90", "fs", "go", "gradle", "groovy", "h", "hh", "hpp", "hs", "html", "hxx", "java", "jl", "js",
    "json", "jsx", "kt", "kts", "less", "lisp", "lua", "m", "makefile", "md", "ml", "mli", "nim", "nix", "pas", "php",
    "pl", "pm", "proto", "ps1", "py", "pyi", "r", "rb", "rkt", "rs", "rst", "sass", "scala", "scm", "scss", "sh", "sol",
    "sql", "svelte", "swift", "tex", "tf", "toml", "ts", "tsx", "txt", "v", "vb", "vhdl", "vim", "vue", "xml", "yaml",
    "yml", "zig", "zsh",
)
# fmt: on
_TOKEN = re.compile(r"\w+|[^\w\s]")
_COMMENT = ("//", "#", "--")


def licences_of(meta: Mapping[str, Any]) -> list[str]:
    """What a document's meta says of its licence: under license, licence, or a list licenses."""
    for key in ("license", "licence", "licenses", "licences", "max_stars_repo_licenses"):
        found = meta.get(key)
        if isinstance(found, str) and found.strip():
            return [found.strip()]
        if isinstance(found, list | tuple) and found:
            return [str(each).strip() for each in found]
    return []


def _plain(licence: str) -> str:
    """A licence's name as it is compared: lower case, "license" and punctuation aside."""
    return re.sub(r"[^a-z0-9.]+", "-", licence.lower().replace("license", "").replace("licence", "")).strip("-")


class Licence(Stage):
    """Keeps a document all of whose licences are allowed; one without a licence only where `unknown` says so."""

    def __init__(self, allow: tuple[str, ...], unknown: bool) -> None:
        self.allow, self.unknown = frozenset(map(_plain, allow)), unknown

    def apply(self, item: Item) -> Outcome:
        found = licences_of(item.document.meta)
        if not found:
            return Outcome(item.document) if self.unknown else removed("no licence")
        if wrong := [name for name in found if _plain(name) not in self.allow]:
            return removed("licence not allowed", wrong[0][:80])
        return Outcome(item.document)


def without_header(text: str) -> str:
    """Source code less the comment it begins with: a C comment if it speaks of copyright, else whole comment lines.

    A first line that names the interpreter ("#!") stays.
    """
    first, _, rest = text.partition("\n")
    shebang = f"{first}\n" if first.startswith("#!") and rest else ""
    body = text[len(shebang) :]
    opened = body.lstrip()
    if opened.startswith("/*"):
        comment, closed, after = opened.partition("*/")
        if closed and "copyright" in comment.lower():
            return shebang + after.lstrip()
        return text
    lines = body.splitlines(keepends=True)
    skip = 0
    while skip < len(lines) and (lines[skip].lstrip().startswith(_COMMENT) or (not skip and not lines[skip].strip())):
        skip += 1
    return shebang + "".join(lines[skip:]).lstrip("\n") if skip else text


class Code(Stage):
    """Drops what is no source code worth reading, and takes off the header.

    The path is meta's `path`; a document without one has no extension to be judged by. RedPajama's limit on letters per
    token is on words and punctuation marks here, as no tokenizer is asked for.
    """

    def __init__(
        self,
        extensions: tuple[str, ...],
        longest_line: int,
        mean_line: float,
        alphanumeric: float,
        letters_per_token: float,
        strip_header: bool,
    ) -> None:
        self.extensions = frozenset(extension.lower().lstrip(".") for extension in extensions)
        self.longest_line, self.mean_line, self.alphanumeric = longest_line, mean_line, alphanumeric
        self.letters_per_token, self.strip_header = letters_per_token, strip_header

    def apply(self, item: Item) -> Outcome:
        document = item.document
        if outcome := self._by_path(document.meta.get("path")):
            return outcome
        text = without_header(document.text) if self.strip_header else document.text
        if not text.strip():
            return removed("nothing but a header")
        lines = text.splitlines()
        longest = max(map(len, lines))
        if longest > self.longest_line:
            return removed("line too long", f"{longest} characters, most {self.longest_line}")
        mean = sum(map(len, lines)) / len(lines)
        if mean > self.mean_line:
            return removed("lines too long", f"{mean:.1f} characters, most {self.mean_line:g}")
        share = sum(map(str.isalnum, text)) / len(text)
        if share < self.alphanumeric:
            return removed("too few letters", f"{share:.1%} alphanumeric, least {self.alphanumeric:.1%}")
        per_token = sum(map(str.isalpha, text)) / max(1, sum(1 for _ in _TOKEN.finditer(text)))
        if per_token < self.letters_per_token:
            return removed("too few letters a token", f"{per_token:.2f}, least {self.letters_per_token:g}")
        if len(text) == len(document.text):
            return Outcome(document)
        return Outcome(replace(document, text=text), changes={"header": 1})

    def _by_path(self, path: Any) -> Outcome | None:
        if not isinstance(path, str) or not path:
            return None
        name = PurePosixPath(path.replace("\\", "/")).name.lower()
        stem, _, extension = name.rpartition(".")
        if name.startswith(("license", "licence", "copying")):
            return removed("a licence text")
        if (extension if stem else name) not in self.extensions:  # "Makefile" and "Dockerfile" are their own extension
            return removed("extension not listed", name[-80:])
        return None
