"""Whether what lies beside the weights goes with them: vocabulary, special ids, chat template, licence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.checkpoint.checkpoint import Checkpoint
from paddock.engine.defaults import ids_of
from paddock.errors import PaddockError
from paddock.model.spec import Architecture
from paddock.tokenizer import Tokenizer
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_check import Finding, check

FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.S | re.M)
LICENCE_LINE = re.compile(r"^license\s*:\s*[\"']?([^\"'\n#]+)", re.M)
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
MAX_README = 2**20


@dataclass(frozen=True)
class Licence:
    """name: as stated. source: where it was read; both None where nothing is stated."""

    name: str | None = None
    source: str | None = None


def tokenizer_health(tokenizer: Tokenizer, architecture: Architecture, config: dict[str, Any]) -> list[Finding]:
    """Whether every id the tokenizer can give has a row in the model, and both agree about special ids."""
    reader = architecture.encoder or architecture
    rows, size = reader.vocabulary, len(tokenizer)
    found = []
    if size > rows:
        fix = "take the tokenizer that belongs to these weights"
        found.append(Finding("fail", "vocabulary", f"{size} pieces, but the model has {rows} rows", fix))
    else:
        spare = f", {rows - size} rows are padding" if rows > size else ""
        found.append(Finding("ok", "vocabulary", f"{size} pieces for {rows} rows{spare}"))
    outside = {name: id for name, id in tokenizer.specials.items() if id >= rows}
    if outside:
        name, id = next(iter(outside.items()))
        fix = "take the tokenizer that belongs to these weights"
        found.append(Finding("fail", "special ids", f"{name} is {id}, beyond the model's {rows} rows", fix))
    else:
        found.append(Finding("ok", "special ids", f"{len(tokenizer.specials)} control tokens, all inside"))
    found += [finding for role in ("bos", "eos") if (finding := _agreement(role, tokenizer, config)) is not None]
    return found


def _agreement(role: str, tokenizer: Tokenizer, config: dict[str, Any]) -> Finding | None:
    """Whether config.json and the tokenizer mean the same token by `role`."""
    stated = ids_of(config.get(f"{role}_token_id"), f"{role}_token_id")
    own = tokenizer.specials.get(role)
    if not stated or own is None or own in stated:
        return None
    fix = "the tokenizer's is used before a text; both end one"
    text = f"config.json says {', '.join(map(str, stated))}, the tokenizer {own}"
    return Finding("warn", role.upper(), text, fix)


def template_health(template: Template, tokenizer: Tokenizer | None) -> list[Finding]:
    """What the template check finds; a refusal of it as a finding."""
    try:
        return check(template, tokenizer)
    except PaddockError as error:
        return [Finding("fail", "template", error.what, error.fix)]


def licence(checkpoint: Checkpoint, metadata: dict[str, Any] | None) -> Licence:
    """As the model's own files state it: README front matter, a licence file, GGUF metadata."""
    if metadata is not None:
        name = metadata.get("general.license")
        return Licence(name, "general.license") if isinstance(name, str) and name else Licence()
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    stated = _front_matter(folder / "README.md") if checkpoint.path.is_dir() else None
    file = next((name for name in LICENCE_FILES if (folder / name).is_file()), None)
    if stated:
        return Licence(stated, "README.md" + (f" and {file}" if file else ""))
    return Licence(f"see {file}", file) if file and checkpoint.path.is_dir() else Licence()


def _front_matter(readme: Path) -> str | None:
    try:
        with readme.open("rb") as file:
            text = file.read(MAX_README).decode("utf-8", "replace")
    except OSError:
        return None
    head = FRONT_MATTER.match(text)
    line = LICENCE_LINE.search(head.group(1)) if head else None
    return line.group(1).strip() if line else None
