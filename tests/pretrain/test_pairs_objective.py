"""Pre-training on pairs: what a model learned to write comes back from a plain prompt, and stops by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import paddock
from paddock.pretrain.recipe import Pretraining
from paddock.pretrain.stage import pretrain
from paddock.training.parallel import Alone

CPU = Alone(torch.device("cpu"))
PAIRS = [
    ("a red house", "ein rotes Haus"),
    ("two dogs run", "zwei Hunde laufen"),
    ("the old man sleeps in the sun", "der alte Mann schläft in der Sonne"),
    ("three birds", "drei Vögel"),
    ("it rains", "es regnet"),
    ("a woman sings and the boy throws a ball", "eine Frau singt und der Junge wirft einen Ball"),
]
T5 = {
    "model_type": "t5", "d_model": 48, "d_kv": 12, "d_ff": 96, "num_layers": 1, "num_heads": 4,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": True, "is_encoder_decoder": True,
}  # fmt: skip
MARIAN = {
    "model_type": "marian", "d_model": 48, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "max_position_embeddings": 64,
    "is_encoder_decoder": True, "scale_embedding": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "kind", "special"),
    [
        (T5, "unigram", ["pad=<pad>", "bos="]),
        (MARIAN, "unigram", ["pad=<pad>", "bos="]),
        (T5, "sentencepiece-bpe", ["pad=<pad>"]),
    ],
    ids=["t5", "marian", "t5-bos"],
)
def test_a_decoder_learns_to_stop(model: dict[str, object], kind: str, special: list[str], tmp_path: Path) -> None:
    for name, side in (("a.txt", 0), ("b.txt", 1)):
        (tmp_path / name).write_text("".join(pair[side] + "\n" for pair in PAIRS))
    recipe = Pretraining.model_validate(
        {
            "model": model,
            "tokenizer": {"train": kind, "size": 320, "special": special},
            "data": {
                "sources": [{"files": ["a.txt"], "second": ["b.txt"], "separator": "\n"}],
                "length": 48,
                "packing": "single",
                "validation": 0.0,
            },
            "objective": {"name": "pairs"},
            "training": {
                "steps": 160,
                "batch": 6,
                "precision": "float32",
                "optimizer": {"learning_rate": 1e-2, "weight_decay": 0.0},
                "schedule": {"shape": "linear", "warmup": 10, "floor": 0.1},
            },
        }
    )
    final = pretrain(recipe, tmp_path, tmp_path / "run", CPU)
    learned = paddock.load(final)
    for source, target in PAIRS:
        told = learned.generate(source, 60, temperature=0)
        assert (told.text.strip(), told.finish_reason) == (target, "stop")
