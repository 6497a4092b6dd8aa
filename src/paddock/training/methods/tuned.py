"""What every method of fine-tuning comes to: a model, and which of its parameters learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddock.checkpoint import folder as folders
from paddock.model.linear import weights_of
from paddock.model.transformer import Transformer
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.training.saving import Publish, Read, read_weights


@dataclass(frozen=True)
class Base:
    """The model that is fine-tuned: its weights, the configuration it was published with, and what it is called.

    name: as a user named it, written into adapters as `base_model_name_or_path`. fresh: parameters that the task added
    (a head over classes): every method trains and saves them. tokenizer: what its texts are spelt with, where known.
    """

    model: Transformer
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    name: str
    fresh: frozenset[str] = frozenset()
    tokenizer: Tokenizer | None = None


@dataclass(frozen=True)
class Tuned:
    """A model prepared to be fine-tuned.

    learns: names of the parameters that are trained, all of them if None. write: puts what was trained into a folder;
    `read` gives it back by the names of parameters, every float32 bit. rates: `training.loop.Trainer`.
    adapter: whether a folder holds an adapter to the base, rather than a model. joint: those of `learns` that learn of
    a second kind of examples only (`data.joint`), and all others of the first.
    """

    model: Transformer
    learns: frozenset[str] | None
    write: Publish
    read: Read = read_weights
    rates: Mapping[str, float] = field(default_factory=dict)
    adapter: bool = True
    joint: frozenset[str] = frozenset()

    @property
    def trainable(self) -> int:
        """How many numbers are trained."""
        named = self.model.named_parameters()
        return sum(p.numel() for name, p in named if self.learns is None or name in self.learns)

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in weights_of(self.model).values())


def whole(base: Base, folder: Path, model: Transformer) -> None:
    """Writes `model` as the Hugging Face folder that the base was."""
    folders.write(folder, model, dict(base.config), dict(base.generation))
