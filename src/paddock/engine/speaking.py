"""A model in training as one that speaks: for a moment, between two steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from paddock.checkpoint.checkpoint import Checkpoint
from paddock.engine.language_model import LanguageModel
from paddock.engine.reading import forget_packed
from paddock.model.transformer import Transformer
from paddock.tokenizer.template import Template
from paddock.tokenizer.tokenizer import Tokenizer


@contextmanager
def speaking(
    model: Transformer,
    tokenizer: Tokenizer,
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
    template: Template | None = None,
) -> Iterator[LanguageModel]:
    """The model as it is now, with the description it was published with. It takes no random number from training."""
    state = torch.random.get_rng_state()
    checkpoint = Checkpoint(Path(), "folder", config, {}, model.architecture, generation)
    try:
        with torch.inference_mode():
            yield LanguageModel(checkpoint, model, tokenizer, template)
    finally:
        forget_packed(model)  # its weights move on
        torch.random.set_rng_state(state)
