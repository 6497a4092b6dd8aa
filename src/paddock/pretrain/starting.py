"""What a run begins with: a new model from a configuration, or one to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint, understand
from paddock.checkpoint.weights import sketch
from paddock.engine.locate import locate
from paddock.errors import CheckpointError, UsageError
from paddock.model.initialise import First, first_weights
from paddock.model.spec import Architecture
from paddock.model.transformer import Transformer
from paddock.pretrain.growing import grown
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.training.objectives import decoder_start

FROM, GROW = "from", "grow"
ENCODER_DECODERS = ("t5", "marian", "transformer")


@dataclass(frozen=True)
class Start:
    """A model in float32 with the configuration and generation defaults it is published with.

    model: its names and shapes, on the meta device. first: what a new model's parameters begin with; None for a model
    that is trained further, whose weights are read from `source`.
    """

    model: Transformer
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    first: First | None = None
    source: Checkpoint | None = None

    def begun(self, main: bool) -> Transformer:
        """The model for a trainer, together with `first`: on the meta device, or read, by the main process for all."""
        return self.source.model(torch.float32) if self.source is not None and main else self.model

    def publish(self, target: Path, model: Transformer, tokenizer: Tokenizer) -> None:
        """Writes a Hugging Face folder: configuration, weights, tokenizer."""
        folder.write(target, model, dict(self.config), dict(self.generation))
        tokenizer.save(target)

    def described(self) -> str:
        """The model in a few words."""
        count = sum(parameter.numel() for parameter in self.model.parameters())
        return f"{self.model.architecture.family} of {count:,} parameters"

    def checkpoint(self, path: Path) -> Checkpoint:
        """The model's description as if it lay at `path`: what the engine wants to know of it."""
        return Checkpoint(path, "folder", self.config, {}, self.model.architecture, self.generation)


def start(description: Mapping[str, Any], tokenizer: Tokenizer, seed: int) -> Start:
    """A new model of a Hugging Face configuration, or `{"from": MODEL}`: that model, to be trained further.

    With `grow` beside `from` it begins larger (`growing`).

    The vocabulary's size and special ids come from the tokenizer where the configuration does not give them. Raises
    UsageError where the two contradict each other, CheckpointError for a configuration that is no model.
    """
    if FROM in description:
        return _go_on(description, tokenizer, seed)
    ids = _special_ids(tokenizer) | _family_ids(description, tokenizer)
    config = {"vocab_size": len(tokenizer), **ids, **description}
    if not isinstance(config["vocab_size"], int) or config["vocab_size"] < len(tokenizer):
        raise UsageError(
            f"model.vocab_size is {config['vocab_size']}, but the tokenizer has {len(tokenizer)} tokens",
            fix="leave vocab_size out, or make it larger",
        )
    model = sketch(_architecture(config))
    generation = {name: config[name] for name in _special_ids(tokenizer) if name in config}
    return Start(model, config, generation, first_weights(model, seed, config))


def _architecture(config: Mapping[str, Any]) -> Architecture:
    """What the recipe's configuration describes, refused in the recipe's own words."""
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads and "head_dim" not in config:
        raise UsageError(
            f"model.hidden_size is {width}, which {heads} heads cannot share evenly",
            fix="make it a multiple of model.num_attention_heads, or give model.head_dim",
        )
    try:
        return understand(config)
    except CheckpointError as error:
        what = error.what.removeprefix("config.json: ").replace("config.json", "the recipe's model")
        hint = None if error.fix is None or "--ignore-config" in error.fix else error.fix
        raise UsageError(what, expected=error.expected, fix=hint) from None


def _special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids that a configuration repeats from the tokenizer."""
    ids = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
    ids["eos_token_id"] = tokenizer.eos_ids[0] if tokenizer.eos_ids else None
    return {name: id for name, id in ids.items() if id is not None}


def _family_ids(description: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, int]:
    """The ids that only some families' configurations have: ChatGLM's kinds of blank, a decoder's first token."""
    ids: dict[str, int | None] = {}
    if description.get("model_type") == "chatglm":
        ids = {"gmask_token_id": tokenizer.id_of("[gMASK]"), "mask_token_id": tokenizer.specials.get("mask")}
        ids["smask_token_id"] = tokenizer.id_of("[sMASK]")
    elif description.get("model_type") in ENCODER_DECODERS:
        ids = {"decoder_start_token_id": decoder_start(tokenizer)}
    return {name: id for name, id in ids.items() if id is not None}


def _go_on(description: Mapping[str, Any], tokenizer: Tokenizer, seed: int) -> Start:
    if others := [key for key in description if key not in (FROM, GROW)]:
        raise UsageError(
            f"model has {FROM!r} and {others[0]!r}",
            fix=f"leave {others[0]} out: the folder says what the model is, and {GROW} what it becomes",
        )
    checkpoint = open_checkpoint(locate(str(description[FROM])))
    if checkpoint.architecture.vocabulary < len(tokenizer):
        raise UsageError(
            f"the model has {checkpoint.architecture.vocabulary} tokens and the tokenizer {len(tokenizer)}",
            fix="use the model's own tokenizer, or extend the model: `paddock tokenizer extend`",
        )
    if GROW in description:
        return Start(*grown(checkpoint, description[GROW], seed), checkpoint.generation)
    return Start(sketch(checkpoint.architecture), checkpoint.config, checkpoint.generation, source=checkpoint)
