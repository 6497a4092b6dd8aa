"""The bundled model as a GGUF file, written with the gguf library as llama.cpp's converter writes a LLaMA."""

from __future__ import annotations

from pathlib import Path

import gguf

from paddock import tokenizer
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.rows import interleaved_rotation
from paddock.engine.locate import bundled

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write(path: Path, licence: str = "mit", template: str | None = None) -> Path:
    """float32 weights, and the vocabulary with scores that fall with the ids, as the original's do."""
    checkpoint = open_checkpoint(bundled())
    config = checkpoint.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_license(licence)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_vocab_size(config["vocab_size"])
    _vocabulary(writer)
    if template is not None:
        writer.add_chat_template(template)
    heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"]}
    for name, stored in checkpoint.tensors.items():
        tensor = stored.load()
        for letter, count in heads.items():
            if f"self_attn.{letter}_proj" in name:
                tensor = interleaved_rotation(tensor, count)
        writer.add_tensor(_name(name), tensor.contiguous().numpy())
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


def _name(name: str) -> str:
    base = name.removesuffix(".weight")
    if base.startswith("model.layers."):
        _, _, layer, rest = base.split(".", 3)
        return f"blk.{layer}.{NAMES[rest]}.weight"
    return f"{NAMES[base]}.weight"


def _vocabulary(writer: gguf.GGUFWriter) -> None:
    words = tokenizer.load(bundled())
    pieces = [words.piece(id) for id in range(len(words))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * (len(pieces) - 259)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores([0.0] * 259 + [-float(rank) for rank in range(len(pieces) - 259)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
