"""LLaMA-Adapter: learned prompts behind gates that begin shut (V1, arXiv 2303.16199), and vectors beside every linear
with the norms set free (V2, arXiv 2304.15010)."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from paddock.checkpoint.own_adapters import Own, read_numbers, write_own
from paddock.data.section import Section
from paddock.errors import UsageError
from paddock.model import scaling
from paddock.model.lora import adaptable
from paddock.model.prompts import fresh_prompts, prompts_at, top_layers, with_prompts
from paddock.model.scaling import Scales, with_copies, with_scales
from paddock.model.transformer import Transformer
from paddock.training.methods.tuned import Base, Tuned

Count = Annotated[int, Field(ge=1, le=1024)]


class AdapterV1(Section):
    """Prompts in the top layers, and a gate for each head; the model's own weights stay as they are.

    prompts: vectors per layer. layers: how many of the highest layers have them; by default all but the lowest two.
    """

    name: Literal["adapter-v1"] = "adapter-v1"
    prompts: Count = 10
    layers: Count | None = None

    def attach(self, base: Base, seed: int) -> Tuned:
        """Raises UsageError for more layers than there are."""
        model, learns = _prompted(base.model, self.prompts, self.layers, seed)
        return _tuned(base, model, learns, 1)


class AdapterV2(Section):
    """A scale and a shift beside every linear of the blocks, the norms, and V1's prompts.

    prompts: as of adapter-v1; 0 leaves them out. convention: where the scale is: `output` is s * (W x + b + shift), a
    number for each output (LitGPT's); `input` is W (s * x) + b + shift, one for each input (the authors' 65B chat
    code). norms: whether their weights are trained. early: in how many of the lowest layers with prompts these, and
    their gates, learn of `data.joint`'s examples only, and all else of `data.files`'.
    """

    name: Literal["adapter-v2"] = "adapter-v2"
    prompts: Annotated[int, Field(ge=0, le=1024)] = 10
    layers: Count | None = None
    convention: Literal["output", "input"] = "output"
    norms: bool = True
    early: Annotated[int, Field(ge=0, le=1024)] = 0

    @model_validator(mode="after")
    def _has_early_prompts(self) -> AdapterV2:
        if self.early and not self.prompts:
            raise ValueError("early: there are no prompts")
        return self

    def attach(self, base: Base, seed: int) -> Tuned:
        """Raises UsageError for more layers than there are."""
        model, learns = base.model, frozenset[str]()
        layers = top_layers(model, self.layers)
        if self.early > len(layers):
            raise UsageError(
                f"method.early is {self.early}", expected=f"at most {len(layers)}, the layers with prompts"
            )
        if self.prompts:
            model, learns = _prompted(model, self.prompts, self.layers, seed)
        linears = {path: shape for path, shape in adaptable(base.model).items() if "blocks" in path.split(".")}
        free = scaling.norms(base.model) if self.norms else set()
        like = base.model.embedding.tokens.weight.device
        scale = "scale_out" if self.convention == "output" else "scale_in"
        beside = {
            path: Scales(**{scale: torch.ones(out if scale == "scale_out" else into, device=like)},
                         shift=torch.zeros(out, device=like))
            for path, (out, into) in linears.items()
        }  # fmt: skip
        model = with_scales(with_copies(model, free), beside)
        new = {f"{path}.{part}" for path in beside for part in (scale, "shift")}
        joint = frozenset(name for layer in layers[: self.early] for name in _prompt_names(layer))
        return replace(_tuned(base, model, learns | new | free, 2), joint=joint)


def _prompted(model: Transformer, count: int, top: int | None, seed: int) -> tuple[Transformer, frozenset[str]]:
    """The model with fresh prompts, and their parameters' names."""
    layers = top_layers(model, top)
    names = frozenset(name for layer in layers for name in _prompt_names(layer))
    return with_prompts(model, fresh_prompts(model, count, layers, seed)), names


def _prompt_names(layer: int) -> tuple[str, str]:
    return f"{prompts_at(layer)}.vectors", f"{prompts_at(layer)}.gate"


def _tuned(base: Base, model: Transformer, learns: frozenset[str], version: int) -> Tuned:
    own = Own("LLAMA_ADAPTER", base.name, {"version": version, "bounded": True}, learns | base.fresh)
    return Tuned(model, own.names, functools.partial(write_own, own), read_numbers)
