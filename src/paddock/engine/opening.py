"""What lies beside a model's weights: its tokenizer and its chat template, wherever they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paddock import tokenizer as text
from paddock.checkpoint.checkpoint import Checkpoint
from paddock.checkpoint.gguf import GGUFFile
from paddock.errors import TokenizerError
from paddock.tokenizer import Tokenizer
from paddock.tokenizer.gguf import from_gguf
from paddock.tokenizer.load import IN_ORDER
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_registry import find_template


class SideFiles:
    """Reads what a checkpoint keeps beside its weights; a GGUF file's metadata is parsed once for both."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.metadata: dict[str, Any] | None = None
        if checkpoint.kind == "gguf":
            self.metadata = dict(GGUFFile(checkpoint.path).metadata)

    @property
    def folder(self) -> Path:
        path = self.checkpoint.path
        return path if path.is_dir() else path.parent

    def tokenizer(self, given: str | Path | None) -> Tokenizer | TokenizerError:
        """The tokenizer `given` by the user or kept with the model.

        A model that came without one can still be run on ids, so its absence is handed back as the error for whoever
        asks later; a tokenizer that is there but broken is refused at once.
        """
        if given is not None:
            return text.load(given)
        if self.metadata is not None:
            return from_gguf(self.metadata)
        try:
            return text.load(self.folder)
        except TokenizerError as error:
            if any((self.folder / name).exists() for name in IN_ORDER):
                raise
            return error

    def template(self, given: str | Path | None) -> Template | None:
        """The chat template named by the user (a bundled name or a file), or the model's own, or None."""
        if given is not None:
            return find_template(template=given)
        if self.metadata is not None:
            return find_template({"chat_template": self.metadata.get("tokenizer.chat_template")})
        return find_template(self.folder) if self.checkpoint.kind == "folder" else None
