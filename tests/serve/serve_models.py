"""Servers of small models that read, for the tests of their routes."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from fastapi.testclient import TestClient
from safetensors.torch import save_file

from paddock import tokenizer
from paddock.checkpoint import folder
from paddock.engine.locate import bundled
from paddock.model.families import describe
from paddock.model.transformer import Transformer
from paddock.serve.app import make_app
from paddock.serve.server import Server
from paddock.serve.settings import Named, Settings

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "sat", "on", "mat", "a", "ran", "."]
BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
T5: dict[str, Any] = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "vocab_size": 512,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
    "is_encoder_decoder": True,
    "decoder_start_token_id": 0,
    "eos_token_id": 2,
    "layer_norm_epsilon": 1e-6,
}


def write_bert(path: Path, **changes: Any) -> Path:
    """A BERT of random weights and 14 words."""
    path = _write(path, {**BERT, **changes})
    (path / "vocab.txt").write_text("\n".join(WORDS))
    return path


def write_t5(path: Path) -> Path:
    """An encoder-decoder of random weights with the bundled model's vocabulary."""
    path = _write(path, T5)
    tokenizer.load(bundled()).save(path)
    return path


def write_t5_adapter(path: Path) -> Path:
    """A LoRA adapter for it, as PEFT publishes one."""
    tensors, rank, name = {}, 2, "base_model.model.decoder.block.0.layer.0.SelfAttention.q"
    tensors[f"{name}.lora_A.weight"] = torch.ones(rank, T5["d_model"])
    tensors[f"{name}.lora_B.weight"] = torch.ones(T5["num_heads"] * T5["d_kv"], rank)
    path.mkdir()
    save_file(tensors, path / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": rank, "lora_alpha": 2, "target_modules": ["q"], "bias": "none"}
    (path / "adapter_config.json").write_text(json.dumps(about))
    return path


def copy_bundled(path: Path) -> Path:
    """The bundled model elsewhere."""
    shutil.copytree(bundled(), path)
    return path


def _write(path: Path, config: dict[str, Any]) -> Path:
    torch.manual_seed(0)
    model = Transformer(describe(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    folder.write(path, model, config)
    return path


@contextlib.contextmanager
def serving(**models: str | Path | None) -> Iterator[tuple[Server, TestClient]]:
    """A server of these models by name, without a socket."""
    with opened(Settings(models=tuple(Named(name, path and str(path)) for name, path in models.items()))) as found:
        yield found


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[tuple[Server, TestClient]]:
    """A server of these settings, without a socket."""
    server = Server(settings)
    server.open()
    try:
        yield server, TestClient(make_app(server), base_url="http://127.0.0.1", raise_server_exceptions=False)
    finally:
        server.close()
