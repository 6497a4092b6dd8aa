"""Configurations of every family, and small folders of some: what is asked how much memory it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import understand
from paddock.checkpoint.weights import sketch
from paddock.model.initialise import blank, initialise

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "llama tied": {**LLAMA, "tie_word_embeddings": True, "attention_bias": True},
    "llama dynamic": {**LLAMA, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "llama classes": {**LLAMA, "architectures": ["LlamaForSequenceClassification"], "num_labels": 3},
    "qwen2": {**LLAMA, "model_type": "qwen2"},
    "mixtral": {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_neox": {
        "model_type": "gpt_neox", "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "rotary_pct": 0.25, "max_position_embeddings": 128,
    },
    "falcon": {"model_type": "falcon", "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2,
               "num_attention_heads": 4},
    "falcon rw": {"model_type": "falcon", "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2,
                  "num_attention_heads": 4, "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
    "mpt": {"model_type": "mpt", "vocab_size": 97, "d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 128},
    "bloom": {"model_type": "bloom", "vocab_size": 97, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    "gpt2": {"model_type": "gpt2", "vocab_size": 97, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "codegen": {"model_type": "codegen", "vocab_size": 97, "n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8,
                "n_positions": 128},
    "chatglm": {"model_type": "chatglm", "vocab_size": 130528, "hidden_size": 32, "inner_hidden_size": 64,
                "num_layers": 2, "num_attention_heads": 2, "max_sequence_length": 128, "position_encoding_2d": True},
    "chatglm2": {
        "model_type": "chatglm", "padded_vocab_size": 97, "hidden_size": 64, "ffn_hidden_size": 96, "kv_channels": 16,
        "num_layers": 2, "num_attention_heads": 4, "multi_query_attention": True, "multi_query_group_num": 2,
        "add_qkv_bias": True, "add_bias_linear": False, "seq_length": 128, "layernorm_epsilon": 1e-5,
    },
    "bert": {
        "model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 97, "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64,
    },
    "t5": {"model_type": "t5", "vocab_size": 97, "d_model": 64, "d_ff": 96, "d_kv": 16, "num_layers": 2,
           "num_heads": 4, "relative_attention_num_buckets": 32, "feed_forward_proj": "relu"},
}  # fmt: skip


def write_folder(path: Path, config: dict[str, Any], dtype: torch.dtype) -> Path:
    """A folder of random weights."""
    config = {**config, "torch_dtype": str(dtype).removeprefix("torch.")}
    model = initialise(blank(sketch(understand(config)).to(dtype)), 0, config, deviation=0.02)
    folder.write(path, model, config, {})
    return path


def write_config(path: Path, config: dict[str, Any]) -> Path:
    """A folder that holds nothing but a config.json."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    return path
