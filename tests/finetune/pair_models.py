"""Tiny models for pairs of texts, as folders that transformers opens too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paddock.checkpoint import folder
from paddock.checkpoint.weights import sketch
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.training.plan import Plan
from paddock.tokenizer.training.training import train

PAIRS = [
    ("a red house", "ein rotes Haus"),
    ("a blue car", "ein blaues Auto"),
    ("two dogs run", "zwei Hunde laufen"),
    ("the old man sleeps", "der alte Mann schläft"),
    ("a girl reads a book", "ein Mädchen liest ein Buch"),
    ("three birds", "drei Vögel"),
    ("the cat drinks milk", "die Katze trinkt Milch"),
    ("a small child plays", "ein kleines Kind spielt"),
    ("men work outside", "Männer arbeiten draußen"),
    ("it rains", "es regnet"),
    ("a woman sings", "eine Frau singt"),
    ("the sun is warm", "die Sonne ist warm"),
    ("five green apples", "fünf grüne Äpfel"),
    ("a train arrives", "ein Zug kommt an"),
    ("the boy throws a ball", "der Junge wirft einen Ball"),
    ("we eat bread", "wir essen Brot"),
    ("snow falls", "Schnee fällt"),
    ("a long road", "eine lange Straße"),
    ("the door is open", "die Tür ist offen"),
    ("many people dance", "viele Menschen tanzen"),
]
SIZES = {"d_model": 48, "d_kv": 12, "d_ff": 96, "num_layers": 2, "num_heads": 4, "feed_forward_proj": "gated-gelu"}
LAYERS = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
CONFIGS: dict[str, dict[str, Any]] = {
    "t5": {"model_type": "t5", **SIZES, "tie_word_embeddings": True, "is_encoder_decoder": True},
    "marian": {
        "model_type": "marian",
        "d_model": 48,
        **LAYERS,
        **HEADS,
        "max_position_embeddings": 64,
        "scale_embedding": True,
        "activation_function": "relu",
        "is_encoder_decoder": True,
    },
    "llama": {
        "model_type": "llama",
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    },
    "gpt2": {"model_type": "gpt2", "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64},
}


def vocabulary(kind: str = "unigram", size: int = 130, *special: str, add_eos: bool = False) -> Tokenizer:
    texts = [text for pair in PAIRS for text in pair] * 3
    return train(texts, Plan(kind, size, special or ("pad=<pad>",), byte_fallback=False, add_eos=add_eos))


def write(path: Path, family: str, tokenizer: Tokenizer, **changed: Any) -> Path:
    """A model of random weights with this tokenizer beside it."""
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_ids[0] if tokenizer.eos_ids else None}
    ids |= {"pad_token_id": tokenizer.pad_id}
    if family in ("t5", "marian"):  # transformers computes no gradient of Marian's padding token
        ids["decoder_start_token_id"] = tokenizer.pad_id if family == "t5" else tokenizer.bos_id
    known = {name: id for name, id in ids.items() if id is not None}
    config = {**CONFIGS[family], "vocab_size": len(tokenizer), **known, **changed}
    folder.write(path, initialise(blank(sketch(describe(config))), 1, config), config, {})
    tokenizer.save(path)
    return path
