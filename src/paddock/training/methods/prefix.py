"""Virtual tokens before every text: prefix tuning (arXiv 2101.00190) and prompt tuning (arXiv 2104.08691).

The model begins as one that has read something: unlike with the other methods, its first step's logits are not the
base's.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from paddock.checkpoint.prompt_folders import columns, read_virtual, write_virtual
from paddock.data.section import Section
from paddock.errors import UsageError
from paddock.model.ahead import Prefix, Prompt, Virtual, check_virtual, with_virtual
from paddock.model.initialise import drawn
from paddock.model.transformer import Transformer
from paddock.training.methods.tuned import Base, Tuned

Count = Annotated[int, Field(ge=1, le=1024)]


class PrefixTuning(Section):
    """Keys and values of `tokens` virtual tokens in every layer are learned.

    projection: they come out of a small network over learned vectors (a layer of `hidden` with tanh, then one), which
    is left behind when training ends. init: `random`, standard normal as PEFT's, or `zero`.
    """

    name: Literal["prefix"] = "prefix"
    tokens: Count = 20
    projection: bool = False
    hidden: Annotated[int, Field(ge=1, le=2**16)] | None = None
    init: Literal["random", "zero"] = "random"

    @model_validator(mode="after")
    def _sense(self) -> PrefixTuning:
        if self.hidden is not None and not self.projection:
            raise ValueError("hidden is the size of projection's layer, and projection is off")
        return self

    def attach(self, base: Base, seed: int) -> Tuned:
        """Raises UnsupportedError for a model where virtual tokens would mean something else, UsageError where its
        context is too short."""
        check_virtual(base.model.architecture, self.tokens)
        part, wide = base.model.architecture.layer(0).attention, columns(base.model)
        network = None
        narrow = part.kv_heads * part.head_dim
        if self.projection:
            hidden = self.hidden or narrow
            network = _linear(narrow, hidden, seed, "ahead.inner"), _linear(hidden, wide, seed, "ahead.outer")
        shape = (self.tokens, narrow if self.projection else wide)
        embedding = torch.randn(shape, generator=drawn(seed, "ahead.embedding"))
        if self.init == "zero":
            for part_of in [embedding] if network is None else [network[1].weight, network[1].bias]:
                nn.init.zeros_(part_of)
        return _tuned(base, Prefix(embedding, network))


class PromptTuning(Section):
    """Vectors of `tokens` virtual tokens, in place of the token table's, are learned.

    init: `vocabulary`, those of tokens drawn from it; `random`, standard normal; `text`: those of `text`, cut or
    repeated until there are as many.
    """

    name: Literal["prompt"] = "prompt"
    tokens: Count = 20
    init: Literal["vocabulary", "random", "text"] = "vocabulary"
    text: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _sense(self) -> PromptTuning:
        if (self.text is not None) != (self.init == "text"):
            raise ValueError("text goes with init: text, and only with it")
        return self

    def attach(self, base: Base, seed: int) -> Tuned:
        """Raises UnsupportedError for a model where virtual tokens would mean something else, UsageError where its
        context is too short or it has no tokenizer to read `text` with."""
        check_virtual(base.model.architecture, self.tokens)
        random = drawn(seed, "ahead.vectors")
        if self.init == "random":
            return _tuned(base, Prompt(torch.randn(self.tokens, base.model.architecture.width, generator=random)))
        ids = torch.randint(base.model.architecture.vocabulary, (self.tokens,), generator=random)
        if self.text is not None:
            ids = torch.tensor(self._of_text(self.text, base))
        scale = base.model.architecture.embedding.scale
        table = base.model.embedding.tokens
        return _tuned(base, Prompt(table(ids.to(table.weight.device)).detach().float() * scale))

    def _of_text(self, text: str, base: Base) -> list[int]:
        if base.tokenizer is None:
            raise UsageError("init: text needs the model's tokenizer", fix="use init: vocabulary")
        ids = list(base.tokenizer.encode(text))
        return (ids * math.ceil(self.tokens / len(ids)))[: self.tokens]


def _linear(into: int, out: int, seed: int, name: str) -> nn.Linear:
    """As PyTorch begins a linear, from random numbers of its own."""
    made, edge = nn.Linear(into, out), 1 / math.sqrt(into)
    with torch.no_grad():
        made.weight.uniform_(-edge, edge, generator=drawn(seed, f"{name}.weight"))
        made.bias.uniform_(-edge, edge, generator=drawn(seed, f"{name}.bias"))
    return made


def _tuned(base: Base, virtual: Virtual) -> Tuned:
    model = with_virtual(base.model, virtual.to(base.model.embedding.tokens.weight.device))
    learns = {f"ahead.{name}" for name, _ in virtual.named_parameters()}
    write, read = functools.partial(_write, base), functools.partial(_read, base)
    return Tuned(model, frozenset(learns | base.fresh), write, read)


def _write(base: Base, folder: Path, model: Transformer) -> None:
    write_virtual(folder, model, base.config, base.name, base.fresh)


def _read(base: Base, folder: Path) -> dict[str, Tensor]:
    return read_virtual(folder, base.model, base.config)
