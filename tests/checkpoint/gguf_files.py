"""GGUF files for tests: tiny random models of every family, converted as llama.cpp's converter does.

Written from the facts about the format with the gguf library, apart from Paddock's own reader, so that the two can
disagree. `test_gguf_llama_cpp.py` checks that llama.cpp itself computes the right logits from these files.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file
from torch import Tensor

VOCAB = 96
LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FALCON = {"vocab_size": VOCAB, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "bias": False}
T5 = {
    "vocab_size": VOCAB,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 96,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
}
T5 |= {"decoder_start_token_id": 0}


@dataclass(frozen=True)
class Case:
    """One tiny model: its Hugging Face class, what differs from that class's defaults, its name in llama.cpp."""

    model: str
    config: dict[str, Any]
    architecture: str
    one_tensor_per_expert: bool = False
    drop: tuple[str, ...] = field(default=())
    untie: bool = False  # a head of its own, which transformers 5 does not make for T5 however it is asked


CASES = {
    "llama": Case("Llama", LLAMA, "llama"),
    "llama-tied-mha": Case("Llama", LLAMA | {"num_key_value_heads": 4, "tie_word_embeddings": True}, "llama"),
    "llama-wide-heads": Case("Llama", LLAMA | {"head_dim": 32}, "llama"),
    "llama-linear": Case(
        "Llama", LLAMA | {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}, "llama"
    ),
    "llama3": Case("Llama", LLAMA | {"rope_parameters": LLAMA3}, "llama"),
    "mixtral": Case("Mixtral", LLAMA | {"num_local_experts": 4, "sliding_window": None}, "llama"),
    "mixtral-per-expert": Case("Mixtral", LLAMA | {"num_local_experts": 4, "sliding_window": None}, "llama", True),
    "qwen2": Case("Qwen2", LLAMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, "qwen2"),
    "falcon-7b": Case("Falcon", FALCON | {"multi_query": True, "new_decoder_architecture": False}, "falcon"),
    "falcon-40b": Case("Falcon", FALCON | {"num_kv_heads": 2, "new_decoder_architecture": True}, "falcon"),
    "falcon-11b": Case(
        "Falcon", FALCON | {"num_kv_heads": 2, "new_decoder_architecture": True, "num_ln_in_parallel_attn": 1}, "falcon"
    ),
    "mpt": Case("Mpt", {"vocab_size": VOCAB, "d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 128}, "mpt"),
    "mpt-clip": Case(
        "Mpt",
        {"vocab_size": VOCAB, "d_model": 48, "n_heads": 3, "n_layers": 2, "max_seq_len": 128}
        | {"attn_config": {"clip_qkv": 0.5}},
        "mpt",
    ),
    "bloom": Case("Bloom", {"vocab_size": VOCAB, "hidden_size": 64, "n_layer": 2, "n_head": 4}, "bloom"),
    "gpt-neox": Case(
        "GPTNeoX",
        {key: value for key, value in LLAMA.items() if key not in ("rms_norm_eps", "num_key_value_heads")},
        "gptneox",
    ),
    "gpt-neox-sequential": Case(
        "GPTNeoX",
        {key: value for key, value in LLAMA.items() if key not in ("rms_norm_eps", "num_key_value_heads")}
        | {"use_parallel_residual": False, "rotary_pct": 0.5},
        "gptneox",
    ),
    "gpt2": Case("GPT2", {"vocab_size": VOCAB, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}, "gpt2"),
    "bert": Case(
        "Bert",
        {key: value for key, value in LLAMA.items() if key not in ("rms_norm_eps", "num_key_value_heads")}
        | {"layer_norm_eps": 1e-12},
        "bert",
        drop=("pooler.dense.weight", "pooler.dense.bias"),
    ),
    "chatglm": Case(
        "Glm", LLAMA | {"head_dim": 16, "attention_bias": True, "pad_token_id": 0, "eos_token_id": 2}, "chatglm"
    ),
    "t5": Case("T5", T5 | {"tie_word_embeddings": True}, "t5"),
    "t5-gated": Case("T5", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, "t5", untie=True),
}
_CLASSES = {"Bert": "BertModel", "GPT2": "GPT2LMHeadModel", "T5": "T5ForConditionalGeneration"}


def make(case: Case, folder: Path) -> tuple[Any, dict[str, Tensor]]:
    """A random model of this case, and its tensors as transformers saves them."""
    model_class = getattr(transformers, _CLASSES.get(case.model, f"{case.model}ForCausalLM"))
    config = model_class.config_class(**case.config)
    model = model_class(config).eval()
    if case.untie:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases start as ones and zeros, which hide mistakes
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.dim() > 1 else 0.05))
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    return model, {name: tensor for name, tensor in tensors.items() if name not in case.drop}


def as_chatglm2(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """GLM-4 as transformers names it, under the names and in the fused layout of ChatGLM2's own files."""
    renamed = {"model.embed_tokens.": "transformer.embedding.word_embeddings.", "lm_head.": "transformer.output_layer."}
    renamed |= {"model.norm.": "transformer.encoder.final_layernorm.", "self_attn.o_proj.": "self_attention.dense."}
    renamed |= {"mlp.gate_up_proj.": "mlp.dense_h_to_4h.", "mlp.down_proj.": "mlp.dense_4h_to_h."}
    renamed |= {"model.layers.": "transformer.encoder.layers."}
    result = {}
    for name, tensor in tensors.items():
        if re.search(r"self_attn\.[kv]_proj", name):
            continue
        if ".q_proj." in name:
            tensor = torch.cat([tensors[name.replace("q_proj", f"{role}_proj")] for role in "qkv"])
            name = name.replace("self_attn.q_proj", "self_attention.query_key_value")
        for old, new in renamed.items():
            name = name.replace(old, new)
        result[name] = tensor
    return result


def convert(case: Case, model: Any, tensors: dict[str, Tensor], path: Path, kind: Kind = Kind.F32) -> None:
    """Writes `tensors` as llama.cpp's converter would, matrices in `kind` and vectors in float32."""
    config = model.config
    writer = gguf.GGUFWriter(path, case.architecture)
    layers = _metadata(writer, case, config, set(tensors))
    _vocabulary(writer)
    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == case.architecture)
    names = gguf.get_tensor_name_map(architecture, layers)
    for name, tensor in _merged(case, tensors).items():
        tensor = _converted(case, config, name, tensor)
        short = name.removeprefix("transformer.") if case.architecture in ("bloom", "chatglm") else name
        found = names.get_name(short, try_suffixes=(".weight", ".bias")) or _own_name(short)
        assert found, name
        _add(writer, found, tensor, kind)
    if case.config.get("rope_parameters", {}).get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config.rope_parameters, 16).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama3_factors(rope: dict[str, Any], head_dim: int) -> Tensor:
    """What Llama 3 divides each frequency by: 1 above the trained waves, `factor` below, a ramp between."""
    context, factor, low, high = (
        rope[key] for key in ("original_max_position_embeddings", "factor", "low_freq_factor", "high_freq_factor")
    )
    frequencies = rope["rope_theta"] ** -(torch.arange(0, head_dim, 2).double() / head_dim)
    waves_in_context = context * frequencies / (2 * math.pi)
    ramp = ((waves_in_context - low) / (high - low)).clamp(0, 1)
    return (1 / ((1 - ramp) / factor + ramp)).float()


def _add(writer: Any, name: str, tensor: Tensor, kind: Kind) -> None:
    array = tensor.float().contiguous().numpy()
    block = gguf.GGML_QUANT_SIZES[kind][0]
    if array.ndim < 2 or array.shape[-1] % block or kind == Kind.F32 or "_norm" in name or "position_embd" in name:
        writer.add_tensor(name, array)
    else:
        data = gguf.quants.quantize(array, kind)
        writer.add_tensor(name, data, raw_dtype=kind)


def _merged(case: Case, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mixtral's experts as one tensor per role, as the converter writes them since 2024."""
    if case.one_tensor_per_expert or not any("experts.0." in name for name in tensors):
        return tensors
    result = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    for name in tensors:
        if ".experts.0." in name:
            each = [
                tensors[name.replace(".experts.0.", f".experts.{e}.")] for e in range(case.config["num_local_experts"])
            ]
            layer, role = re.findall(r"\d+|w\d", name)[0], name.split(".")[-2]
            result[f"layers.{layer}.feed_forward.experts.{role}.weight"] = torch.stack(each)
    return result


def _own_name(name: str) -> str | None:
    """Before 2024 every expert had a tensor of its own, which the library's table no longer names."""
    match = re.fullmatch(r"model\.layers\.(\d+)\.block_sparse_moe\.experts\.(\d+)\.(w\d)\.weight", name)
    if not match:
        return None
    role = {"w1": "ffn_gate", "w2": "ffn_down", "w3": "ffn_up"}[match[3]]
    return f"blk.{match[1]}.{role}.{match[2]}.weight"


def _converted(case: Case, config: Any, name: str, tensor: Tensor) -> Tensor:
    heads = getattr(config, "num_attention_heads", None) or getattr(config, "n_head", None)
    if case.architecture == "llama" and re.search(r"[qk]_proj", name):
        count = heads if "q_proj" in name else config.num_key_value_heads
        rows, rest = tensor.shape[0], tensor.shape[1:]
        return tensor.reshape(count, 2, rows // count // 2, *rest).swapaxes(1, 2).reshape(tensor.shape)
    if case.architecture in ("bloom", "gptneox") and "query_key_value" in name:
        parts = tensor.reshape(heads, 3, -1, *tensor.shape[1:])
        return torch.cat([parts[:, at].reshape(-1, *tensor.shape[1:]) for at in range(3)])
    if case.architecture == "falcon" and "query_key_value" in name:
        groups = config.num_kv_heads if config.new_decoder_architecture else 1
        parts = tensor.reshape(groups, heads // groups + 2, -1, tensor.shape[1])
        cut = (parts[:, :-2], parts[:, -2], parts[:, -1])
        return torch.cat([part.reshape(-1, tensor.shape[1]) for part in cut])
    if case.architecture == "gpt2" and re.search(r"c_(attn|proj|fc)\.weight", name):
        return tensor.T
    return tensor


def _metadata(writer: Any, case: Case, config: Any, names: set[str]) -> int:
    """Writes the keys that the converter writes for this architecture; gives the number of layers."""
    if case.architecture == "t5":
        return _t5_metadata(writer, config)

    def get(*keys: str) -> Any:
        return next((value for key in keys if (value := getattr(config, key, None)) is not None), None)

    width, heads = get("hidden_size", "d_model", "n_embd"), get("num_attention_heads", "n_heads", "n_head")
    layers = get("num_hidden_layers", "n_layers", "n_layer")
    writer.add_context_length(get("max_position_embeddings", "max_seq_len", "n_positions") or width)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(get("intermediate_size") or 4 * width)
    writer.add_head_count(heads)
    if case.architecture in ("llama", "qwen2"):
        writer.add_vocab_size(config.vocab_size)
        head_dim = get("head_dim") or width // heads
        writer.add_rope_dimension_count(head_dim)
        if "head_dim" in case.config:
            writer.add_key_length(head_dim)
            writer.add_value_length(head_dim)
    if case.architecture in ("llama", "qwen2", "chatglm"):
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        if config.rope_parameters.get("rope_type") == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(config.rope_parameters["factor"])
    else:
        writer.add_layer_norm_eps(get("layer_norm_epsilon", "layer_norm_eps"))
    _special_metadata(writer, case, config, heads, width)
    return layers


def _special_metadata(writer: Any, case: Case, config: Any, heads: int, width: int) -> None:
    match case.architecture:
        case "llama" if case.model == "Mixtral":
            writer.add_expert_count(config.num_local_experts)
            writer.add_expert_used_count(config.num_experts_per_tok)
        case "chatglm":
            writer.add_rope_dimension_count(config.head_dim // 2)
            writer.add_add_bos_token(False)
        case "falcon":
            writer.add_tensor_data_layout("jploski")
            writer.add_head_count_kv(config.num_kv_heads if config.new_decoder_architecture else 1)
        case "mpt":
            writer.add_max_alibi_bias(config.attn_config.alibi_bias_max)
            if config.attn_config.clip_qkv:
                writer.add_clamp_kqv(config.attn_config.clip_qkv)
        case "bloom":
            writer.add_head_count_kv(heads)
        case "gptneox":
            writer.add_rope_dimension_count(int(config.rope_parameters["partial_rotary_factor"] * (width // heads)))
            writer.add_parallel_residual(config.use_parallel_residual)
        case "bert":
            writer.add_causal_attention(False)
            writer.add_token_type_count(config.type_vocab_size)


def _t5_metadata(writer: Any, config: Any) -> int:
    writer.add_context_length(512)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_block_count(config.num_layers)
    writer.add_decoder_block_count(config.num_decoder_layers)
    writer.add_head_count(config.num_heads)
    writer.add_key_length(config.d_kv)
    writer.add_value_length(config.d_kv)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    writer.add_relative_attn_buckets_count(config.relative_attention_num_buckets)
    writer.add_decoder_start_token_id(config.decoder_start_token_id)
    return max(config.num_layers, config.num_decoder_layers)


def _vocabulary(writer: Any) -> None:
    """A vocabulary of the SentencePiece kind, the least that llama.cpp loads."""
    tokens = ["<unk>", "<s>", "</s>", "<0x0A>"] + [f"t{n}" for n in range(4, VOCAB)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, gguf.TokenType.BYTE]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * VOCAB)
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * (VOCAB - 4))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


def simple(path: Path, tensors: dict[str, np.ndarray], **metadata: Any) -> Path:
    """A small valid file of any metadata: text, floats, integers, lists; array types are kept as given."""
    writer = gguf.GGUFWriter(path, metadata.pop("architecture", "llama"))
    if "general__alignment" in metadata:
        writer.add_custom_alignment(metadata.pop("general__alignment"))
    for key, value in metadata.items():
        key = key.replace("__", ".")
        adders = {str: writer.add_string, float: writer.add_float32, bool: writer.add_bool, int: writer.add_uint32}
        adders.get(type(value), writer.add_array)(key, value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
