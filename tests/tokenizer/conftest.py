"""Vocabularies small enough to make on the spot, and the real ones, each loaded once."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tiny import SENTENCES

from paddock.checkpoint.gguf import GGUFFile
from paddock.tokenizer import Tokenizer, from_gguf, load


@pytest.fixture(scope="session")
def real(shared_data: Path) -> Callable[[str], Tokenizer]:
    """Loads a tokenizer by its path under shared/data/tokenizers; a GGUF file by its metadata."""

    @functools.cache
    def loaded(name: str) -> Tokenizer:
        path = shared_data / "tokenizers" / name
        return from_gguf(GGUFFile(path).metadata) if path.suffix == ".gguf" else load(path)

    return loaded


@functools.cache
def _trained(**options: Any) -> bytes:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=out, minloglevel=2, hard_vocab_limit=False, **options
    )
    return out.getvalue()


@pytest.fixture(scope="session")
def trained() -> Callable[..., bytes]:
    """Trains a small SentencePiece model with the given options; gives its bytes."""
    return _trained
