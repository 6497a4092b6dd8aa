"""Small models of random weights that read, as folders, and recipes over a few examples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddock import tokenizer
from paddock.checkpoint import folder
from paddock.checkpoint.weights import sketch
from paddock.engine.locate import bundled
from paddock.finetune.recipe import FineTuning
from paddock.finetune.stage import Prepared, prepare
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 48}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {**_SIZES, "vocab_size": 16, "intermediate_size": 40, "architectures": ["BertForPreTraining"]},
    "llama": {**_SIZES, "vocab_size": 512, "intermediate_size": 40, "num_key_value_heads": 2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 48, "vocab_size": 512},
    "gpt_neox": {**_SIZES, "vocab_size": 512, "intermediate_size": 40},
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "sat", ".", "a", "good", "bad", "film"]
QUIET = dict.fromkeys(
    ("hidden_dropout_prob", "attention_probs_dropout_prob", "attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0
)  # what transformers would drop in training


def write_reader(path: Path, name: str, **changed: Any) -> Path:
    """A model of a family with a vocabulary, saved at `path`."""
    config = {"model_type": name, **CONFIGS[name], **QUIET, **changed}
    model = initialise(blank(sketch(describe(config))), 5, deviation=0.2)
    folder.write(path, model, config)
    if name == "bert":
        (path / "vocab.txt").write_text("\n".join(WORDS))
    else:
        tokenizer.load(bundled()).save(path)
    return path


def write_examples(path: Path, examples: Sequence[Any]) -> Path:
    """(text, label) or (text, text, label) as JSON lines."""
    with path.open("w") as file:
        for *texts, label in examples:
            fields = {"text": texts[0]} if len(texts) == 1 else {"sentence1": texts[0], "sentence2": texts[1]}
            file.write(json.dumps({**fields, "label": label}) + "\n")
    return path


def asked(model: Path, examples: Path, task: dict[str, Any], **changed: Any) -> FineTuning:
    """A recipe with float32 and no shuffling; changed: sections, key by key."""
    values: dict[str, Any] = {
        "model": str(model),
        "task": task,
        "data": {"files": [str(examples)], "validation": 0, "length": 32, "shuffle": False, "format": "labelled"},
        "training": {"batch": 8, "steps": 1, "precision": "float32", "checkpoints": "every:100"},
    }
    for section, settings in changed.items():
        values[section] = {**values.get(section, {}), **settings}
    return FineTuning.model_validate(values)


def prepared(model: Path, examples: Path, task: dict[str, Any], **changed: Any) -> Prepared:
    return prepare(asked(model, examples, task, **changed), Path())
