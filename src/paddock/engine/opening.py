"""What lies beside a model's weights: its tokenizer and its chat template, wherever they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddock import tokenizer as text
from paddock.checkpoint.checkpoint import Checkpoint
from paddock.checkpoint.gguf_header import Header
from paddock.errors import TokenizerError
from paddock.tokenizer import Tokenizer
from paddock.tokenizer.gguf import from_gguf
from paddock.tokenizer.load import IN_ORDER
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_registry import find_template, recognised

CHAT_TEMPLATE = "tokenizer.chat_template"


class Beside:
    """Reads what a model keeps beside its weights; a GGUF file's metadata is parsed once for both.

    `kind` is that of a Checkpoint; `vocabulary`, of a llama2.c file, how many tokens it has; `metadata`, of a GGUF
    file, where it was parsed before.
    """

    def __init__(self, path: Path, kind: str, vocabulary: int = 0, metadata: Mapping[str, Any] | None = None) -> None:
        self.path, self.kind, self.vocabulary = path, kind, vocabulary
        self.metadata = None if kind != "gguf" else dict(Header(path).metadata if metadata is None else metadata)

    @classmethod
    def of(cls, checkpoint: Checkpoint, metadata: Mapping[str, Any] | None = None) -> Beside:
        return cls(checkpoint.path, checkpoint.kind, checkpoint.architecture.vocabulary, metadata)

    def tokenizer(self, given: str | Path | None) -> Tokenizer | TokenizerError:
        """The tokenizer `given` by the user or kept with the model.

        A model that came without one can still be run on ids, so its absence is handed back as the error for whoever
        asks later; a tokenizer that is there but broken is refused at once.
        """
        if given is not None:
            return text.load(given)
        if self.metadata is not None:
            return _inside(self.metadata)
        if self.kind == "llama2.c":
            return _beside(self.path, self.vocabulary)
        try:
            return text.load(self.path)
        except TokenizerError as error:
            if any(True for name in IN_ORDER for _ in self.path.glob(name)):
                raise
            return error

    def template(self, given: str | Path | None) -> Template | None:
        """The chat template named by the user (a bundled name or a file), or the model's own, or None."""
        if given is not None:
            return find_template(template=given)
        if self.metadata is not None:
            source = self.metadata.get(CHAT_TEMPLATE)
            return None if source is None else recognised(Template(source, f"{self.path.name}: {CHAT_TEMPLATE}"))
        return find_template(self.path) if self.kind == "folder" else None


def _inside(metadata: dict[str, Any]) -> Tokenizer | TokenizerError:
    """The tokenizer in a GGUF file's metadata; some files are weights only, and say so or say nothing."""
    try:
        return from_gguf(metadata)
    except TokenizerError as error:
        if metadata.get("tokenizer.ggml.model") in (None, "no_vocab"):
            return error
        raise


def _beside(path: Path, vocabulary: int) -> Tokenizer | TokenizerError:
    """The tokenizer of a llama2.c file, which does not name it: `tokenizer.bin` or a vocabulary of the same name.

    Several models may share a folder; only a vocabulary of exactly the model's size can be its own.
    """
    for place in (path.with_suffix(".vocab"), path.parent / "tokenizer.bin", path.parent / "tokenizer.model"):
        if place.is_file() and len(found := text.load(place)) == vocabulary:
            return found
    return TokenizerError(
        f"{path.name} has no tokenizer of its {vocabulary} tokens beside it",
        expected=f"tokenizer.bin or {path.stem}.vocab",
        fix="name it with tokenizer=... (--tokenizer on the command line)",
    )
