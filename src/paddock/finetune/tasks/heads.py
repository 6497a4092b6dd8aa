"""A head over classes, put on a model that is to be fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from paddock.engine.encoders import class_names
from paddock.errors import UsageError
from paddock.model import spec
from paddock.model.initialise import initialise
from paddock.model.transformer import Pooler, Transformer, pooler
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.training.methods import Base

# What transformers calls its classifiers, by family: its folder is read by that name.
CLASSIFIERS = {
    "bert": "Bert",
    "llama": "Llama",
    "mistral": "Mistral",
    "mixtral": "Mixtral",
    "qwen2": "Qwen2",
    "gpt2": "GPT2",
    "gpt_neox": "GPTNeoX",
    "falcon": "Falcon",
    "bloom": "Bloom",
    "mpt": "Mpt",
}
ABOUT_CLASSES = ("num_labels", "_num_labels", "problem_type", "id2label", "label2id", "auto_map")
SUFFIX = "ForSequenceClassification"
HEAD = ("pooler.classes.weight", "pooler.classes.bias")


def with_classes(base: Base, names: Sequence[str], problem: str, seed: int) -> Base:
    """The base with scores for classes of these names in place of its head over the vocabulary, if it had one.

    Where it has classes of just these names, they stay as they are, in their own order; else the head is drawn from the
    seed. problem: config.json's `problem_type`. Raises UsageError for a family that has no such models.
    """
    model, architecture = base.model, base.model.architecture
    if architecture.family not in CLASSIFIERS:
        raise UsageError(
            f"how a {architecture.family} is published that tells classes is not known",
            expected="one of " + ", ".join(CLASSIFIERS),
            fix="fine-tune another model, or let this one write the class (task: chat)",
        )
    known = class_names(base.config) if model.pooler is not None and model.pooler.classes is not None else []
    stays = sorted(known) == sorted(names)
    names = known if stays else list(names)
    fresh = set(HEAD) & set(dict(model.named_parameters()))
    if not stays:
        fresh = _put(model, _part(architecture, len(names)), seed, base.config)
    return replace(base, model=model, config=_config(base, names, problem), generation={}, fresh=frozenset(fresh))


def without_heads(base: Base) -> Base:
    """An encoder without what stands on its token vectors, but for a bare pooler; a decoder as it is."""
    model, architecture = base.model, base.model.architecture
    if not isinstance(architecture.mask, spec.Full) or architecture.family not in CLASSIFIERS:
        return base
    if model.pooler is not None:
        model.pooler.classes = model.pooler.next_sentence = None
        architecture = replace(architecture, pooler=spec.Pooler())
    model.architecture, model.head = replace(architecture, head=None), None
    config = {key: value for key, value in base.config.items() if key not in ABOUT_CLASSES}
    return replace(base, config={**config, "architectures": [CLASSIFIERS[architecture.family] + "Model"]})


def _part(architecture: spec.Architecture, labels: int) -> spec.Pooler | spec.LastToken:
    return spec.Pooler(labels) if isinstance(architecture.mask, spec.Full) else spec.LastToken(labels)


def _put(model: Transformer, part: spec.Pooler | spec.LastToken, seed: int, config: Mapping[str, Any]) -> set[str]:
    """Gives the model the part; gives the names of the parameters that are new. A pooler that is there stays."""
    architecture = replace(model.architecture, head=None, pooler=part)
    kept, made = model.pooler, pooler(part, architecture.width)
    if isinstance(kept, Pooler) and isinstance(made, Pooler):
        made.dense = kept.dense
    model.architecture, model.head, model.pooler = architecture, None, made
    stays = set() if kept is None else {f"pooler.{name}" for name, _ in kept.named_parameters()} - set(HEAD)
    fresh = {f"pooler.{name}" for name, _ in made.named_parameters()} - stays
    initialise(model, seed, config, only=fresh)
    for parameter in made.parameters():
        parameter.requires_grad_(False)
    return fresh


def _config(base: Base, names: Sequence[str], problem: str) -> dict[str, Any]:
    """config.json, as transformers writes that of a model with classes."""
    config = {key: value for key, value in base.config.items() if key not in ABOUT_CLASSES}
    return {
        **config,
        "architectures": [CLASSIFIERS[base.model.architecture.family] + SUFFIX],
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": problem,
        **({} if base.tokenizer is None else {"pad_token_id": padding_of(base.tokenizer)}),
    }


def padding_of(tokenizer: Tokenizer) -> int:
    """What stands behind a row's end: an id that no text ends in.

    transformers takes a text's last token to be the last that is not `pad_token_id`: where padding and end of text are
    one id, and a text is given its end, that would be another token than ours.
    """
    ends = set(tokenizer.after)
    candidates = [tokenizer.pad_id, *tokenizer.eos_ids, tokenizer.unk_id, tokenizer.bos_id]
    return next((id for id in candidates if id is not None and id not in ends), 0)
