"""What lies beside the weights: a GGUF file carries its tokenizer and its template inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest
from torch import Tensor

import paddock
from paddock.engine.opening import Beside
from paddock.errors import TokenizerError

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
TEMPLATE = "{% for m in messages %}{{ m.content }} {% endfor %}"


def interleaved(rows: Tensor, heads: int) -> Tensor:
    """Hugging Face's half-rotation row order to llama.cpp's pairs."""
    return rows.view(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def gguf_name(name: str) -> str:
    name = name.removesuffix(".weight")
    if name in WHOLE:
        return WHOLE[name] + ".weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.weight"


def write_gguf(path: Path, model: Any, template: str | None = None, vocabulary: bool = True) -> Path:
    """The bundled model as llama.cpp's converter writes it."""
    config = model.checkpoint.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    if vocabulary:
        add_vocabulary(writer, model.tokenizer)
    if template is not None:
        writer.add_chat_template(template)
    for name, stored in model.checkpoint.tensors.items():
        tensor = stored.load()
        for role, heads in (("q_proj", config["num_attention_heads"]), ("k_proj", config["num_key_value_heads"])):
            tensor = interleaved(tensor, heads) if role in name else tensor
        writer.add_tensor(gguf_name(name), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Any) -> None:
    pieces = [tokenizer.piece(id).replace(" ", "\u2581") for id in range(len(tokenizer))]
    kinds = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.BYTE] * 256
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([-float(id) for id in range(len(pieces))])
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * (len(pieces) - len(kinds)))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def test_a_gguf_file_is_a_whole_model(bundled: Any, tmp_path: Path) -> None:
    model = paddock.load(write_gguf(tmp_path / "stories.gguf", bundled, TEMPLATE))
    assert model.checkpoint.kind == "gguf"
    assert model.generate([1], 60, temperature=0).text == bundled.generate([1], 60, temperature=0).text
    assert model.tokenizer.encode("Once upon a time") == bundled.tokenizer.encode("Once upon a time")
    prompt = model.stream_chat([{"role": "user", "content": "Once upon"}], 3, temperature=0).request.prompt
    assert model.tokenizer.decode(prompt) == "Once upon "
    assert paddock.load(tmp_path / "stories.gguf", template="vicuna").template.name == "vicuna"


def test_a_gguf_file_without_a_vocabulary_runs_on_ids(bundled: Any, tmp_path: Path) -> None:
    model = paddock.load(write_gguf(tmp_path / "bare.gguf", bundled, vocabulary=False))
    assert model.generate([1], 9, temperature=0).ids == bundled.generate([1], 9, temperature=0).ids
    with pytest.raises(TokenizerError, match="ggml"):
        _ = model.tokenizer


def test_a_gguf_vocabulary_that_is_broken_is_refused(bundled: Any, tmp_path: Path) -> None:
    metadata = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": []}
    beside = Beside.of(bundled.checkpoint)
    beside.metadata = metadata
    with pytest.raises(TokenizerError):
        beside.tokenizer(None)
