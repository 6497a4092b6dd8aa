"""The model that is fine-tuned, opened with what lies beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.held_nf4 import HeldNf4
from paddock.checkpoint.weights import sketch
from paddock.engine.defaults import also_ending
from paddock.engine.locate import BUNDLED, locate
from paddock.engine.opening import Beside
from paddock.errors import TokenizerError
from paddock.tokenizer.chat import stops
from paddock.tokenizer.template import Template
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.training import precision
from paddock.training.methods import Base, Full, Method
from paddock.training.methods.low_rank import QLoRA


@dataclass(frozen=True)
class Opened:
    """A base with its tokenizer, and the chat template that is meant: the one named, else its own, if any.

    path: the folder or file of the base.
    """

    base: Base
    tokenizer: Tokenizer
    template: Template | None
    path: Path

    def answering(self, template: Template | None) -> Opened:
        """With the template that answers are learned in; its end tokens are published with the model from then on."""
        if template is None:
            return self
        ends = stops(self.tokenizer, template).ids
        generation = also_ending(self.base.generation, self.base.config, ends)
        return replace(self, base=replace(self.base, generation=generation), template=template)


def open_base(name: str, template: str | None, asked: str, method: Method, numbers: bool = True) -> Opened:
    """Opens a model as it is to be trained: weights that stay are in the type that is computed in, others in float32.
    For QLoRA matrices are rounded to NF4, and token table and head to 8 bits, one by one, as they are read.

    asked: `training.precision`. numbers: whether they are read; one of several processes is sent its share of them by
    the main one, and begins with names and shapes on the meta device. Raises UsageError, CheckpointError,
    TokenizerError and TemplateError.
    """
    checkpoint = open_checkpoint(locate(name or None))
    beside = Beside.of(checkpoint)
    tokenizer = beside.tokenizer(None)
    if isinstance(tokenizer, TokenizerError):
        raise tokenizer
    computed = precision.choose(asked, torch.device("cpu"), checkpoint.architecture).type
    dtype = torch.float32 if isinstance(method, Full) else computed
    held = None
    if isinstance(method, QLoRA):
        held = HeldNf4(type=computed, double=method.double, ends=method.vocabulary == "8bit")
    if numbers or held is not None:  # what is rounded as it is read has no shape before
        model = checkpoint.model(dtype, packing=held)
    else:
        model = sketch(checkpoint.architecture).to(dtype).eval()
    base = Base(model, checkpoint.config, checkpoint.generation, name or BUNDLED, tokenizer=tokenizer)
    return Opened(base, tokenizer, beside.template(template), checkpoint.path)
