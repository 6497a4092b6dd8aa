"""config.json files as published (bookkeeping keys included), and the exact sizes of the models they describe.

Each entry: name, configuration, parameters (tied tensors counted once), KV-cache values per token where known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Config = dict[str, Any]


class Size(NamedTuple):
    name: str
    config: Config
    parameters: int
    cached: int | None = None  # bytes per token in 16 bits


_LLAMA: Config = {
    "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "initializer_range": 0.02, "max_position_embeddings": 2048, "model_type": "llama", "pad_token_id": 0,
    "rms_norm_eps": 1e-06, "tie_word_embeddings": False, "torch_dtype": "float16",
    "transformers_version": "4.28.0.dev0", "use_cache": True, "vocab_size": 32000,
}  # fmt: skip


def _llama(width: int, layers: int, heads: int, hidden: int, **rest: Any) -> Config:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {**_LLAMA, **sizes, "intermediate_size": hidden, **rest}


_LLAMA2: Config = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "pretraining_tp": 1, "rope_scaling": None}
_CODE: Config = {**_LLAMA2, "max_position_embeddings": 16384, "rope_theta": 1000000, "vocab_size": 32016}
_DECAPODA: Config = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": -1, "max_sequence_length": 2048}
_MISTRAL: Config = {
    "architectures": ["MistralForCausalLM"], "model_type": "mistral", "max_position_embeddings": 32768,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
}  # fmt: skip
_MIXTRAL: Config = {
    **_MISTRAL, "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "attention_dropout": 0.0,
    "num_experts_per_tok": 2, "num_local_experts": 8, "output_router_logits": False, "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02, "sliding_window": None,
}  # fmt: skip
_LLAMA31: Config = {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000, "eos_token_id": [128001, 128008],
    "max_position_embeddings": 131072, "mlp_bias": False, "num_key_value_heads": 8, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "vocab_size": 128256,
    "rope_scaling": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}  # fmt: skip
_R1_QWEN: Config = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
    "hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 131072, "model_type": "qwen2",
    "rms_norm_eps": 1e-06, "rope_theta": 10000, "sliding_window": 4096, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.44.0", "use_cache": True, "use_mrope": False,
    "use_sliding_window": False,
}  # fmt: skip

_GPT2: Config = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256,
    "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2", "n_ctx": 1024, "n_positions": 1024, "n_special": 0, "output_past": True,
    "predict_special_tokens": True, "resid_pdrop": 0.1, "summary_activation": None, "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "vocab_size": 50257,
}  # fmt: skip


def _gpt2(width: int, layers: int, heads: int, **rest: Any) -> Config:
    return {**_GPT2, "n_embd": width, "n_layer": layers, "n_head": heads, **rest}


_BERT: Config = {
    "architectures": ["BertModel"], "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": False,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512, "model_type": "bert", "pad_token_id": 0, "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0", "type_vocab_size": 2, "use_cache": True, "vocab_size": 30522,
}  # fmt: skip


def _bert(width: int, layers: int, heads: int) -> Config:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {**_BERT, **sizes, "intermediate_size": 4 * width}


_PYTHIA: Config = {
    "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu",
    "initializer_range": 0.02, "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox",
    "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False, "torch_dtype": "float16",
    "transformers_version": "4.24.0", "use_cache": True, "use_parallel_residual": True,
}  # fmt: skip


def _pythia(layers: int, width: int, heads: int, vocabulary: int = 50304, **rest: Any) -> Config:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {**_PYTHIA, **sizes, "intermediate_size": 4 * width, "vocab_size": vocabulary, **rest}


_NEOX_20B: Config = {"hidden_act": "gelu_fast", "attention_probs_dropout_prob": 0, "hidden_dropout_prob": 0}

_BLOOM: Config = {
    "apply_residual_connection_post_layernorm": False, "architectures": ["BloomForCausalLM"],
    "attention_dropout": 0.0, "attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_dropout": 0.0, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
    "masked_softmax_fusion": True, "model_type": "bloom", "n_inner": None, "offset_alibi": 100, "pad_token_id": 3,
    "pretraining_tp": 4, "seq_length": 2048, "skip_bias_add": True, "skip_bias_add_qkv": False,
    "slow_but_exact": False, "transformers_version": "4.20.0", "unk_token_id": 0, "use_cache": True,
    "vocab_size": 250880,
}  # fmt: skip


def _bloom(width: int, layers: int, heads: int, *, first: bool = False) -> Config:
    """`first`: the spelling of the earliest files."""
    names = ("n_embed", "n_layer", "num_attention_heads") if first else ("hidden_size", "n_layer", "n_head")
    return {**_BLOOM, **dict(zip(names, (width, layers, heads), strict=True))}


_MPT: Config = {
    "architectures": ["MPTForCausalLM"], "auto_map": {"AutoConfig": "configuration_mpt.MPTConfig"}, "emb_pdrop": 0,
    "attn_config": {
        "alibi": True, "alibi_bias_max": 8, "attn_impl": "torch", "attn_pdrop": 0, "attn_type": "multihead_attention",
        "attn_uses_sequence_id": False, "clip_qkv": None, "prefix_lm": False, "qk_ln": False, "softmax_scale": None,
    },
    "embedding_fraction": 1.0, "expansion_ratio": 4, "init_config": {"init_std": 0.02, "name": "kaiming_normal_"},
    "init_device": "cpu", "learned_pos_emb": True, "logit_scale": None, "max_seq_len": 2048, "model_type": "mpt",
    "no_bias": True, "norm_type": "low_precision_layernorm", "resid_pdrop": 0,
    "tokenizer_name": "EleutherAI/gpt-neox-20b", "torch_dtype": "bfloat16", "transformers_version": "4.28.1",
    "use_cache": False, "verbose": 0, "vocab_size": 50432,
}  # fmt: skip

_FALCON: Config = {
    "alibi": False, "apply_residual_connection_post_layernorm": False, "architectures": ["FalconForCausalLM"],
    "attention_dropout": 0.0, "auto_map": {"AutoConfig": "configuration_falcon.FalconConfig"}, "bias": False,
    "bos_token_id": 11, "eos_token_id": 11, "hidden_dropout": 0.0, "hidden_size": 4544, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05, "model_type": "falcon", "multi_query": True, "new_decoder_architecture": False,
    "num_attention_heads": 71, "num_hidden_layers": 32, "parallel_attn": True, "torch_dtype": "bfloat16",
    "transformers_version": "4.27.4", "use_cache": True, "vocab_size": 65024,
}  # fmt: skip
_REFINED_WEB: Config = {
    "alibi": False, "apply_residual_connection_post_layernorm": False, "architectures": ["RWForCausalLM"],
    "attention_dropout": 0.0, "bias": False, "bos_token_id": 11, "eos_token_id": 11, "hidden_dropout": 0.0,
    "hidden_size": 8192, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "RefinedWeb",
    "n_head": 128, "n_head_kv": 8, "n_layer": 60, "parallel_attn": True, "torch_dtype": "bfloat16",
    "transformers_version": "4.27.4", "use_cache": True, "vocab_size": 65024,
}  # fmt: skip
_FALCON_7B_FIRST: Config = {
    **{k: v for k, v in _REFINED_WEB.items() if k != "n_head_kv"}, "hidden_size": 4544, "n_head": 71, "n_layer": 32,
    "model_type": "RefinedWebModel", "multi_query": True,
}  # fmt: skip
_FALCON_180B: Config = {
    **_FALCON, "hidden_size": 14848, "new_decoder_architecture": True, "num_attention_heads": 232,
    "num_hidden_layers": 80, "num_kv_heads": 8,
}  # fmt: skip

_CHATGLM: Config = {
    "_name_or_path": "THUDM/chatglm-6b", "architectures": ["ChatGLMModel"], "bos_token_id": 130004,
    "eos_token_id": 130005, "gmask_token_id": 130001, "hidden_size": 4096, "inner_hidden_size": 16384,
    "layernorm_epsilon": 1e-05, "mask_token_id": 130000, "max_sequence_length": 2048, "model_type": "chatglm",
    "num_attention_heads": 32, "num_layers": 28, "pad_token_id": 3, "position_encoding_2d": True, "pre_seq_len": None,
    "prefix_projection": False, "quantization_bit": 0, "torch_dtype": "float16", "use_cache": True,
    "vocab_size": 130528,
}  # fmt: skip
_CHATGLM2: Config = {
    "add_bias_linear": False, "add_qkv_bias": True, "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False, "architectures": ["ChatGLMModel"], "attention_dropout": 0.0,
    "attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "eos_token_id": 2, "ffn_hidden_size": 13696,
    "fp32_residual_connection": False, "hidden_dropout": 0.0, "hidden_size": 4096, "kv_channels": 128,
    "layernorm_epsilon": 1e-05, "model_type": "chatglm", "multi_query_attention": True, "multi_query_group_num": 2,
    "num_attention_heads": 32, "num_layers": 28, "original_rope": True, "pad_token_id": 0,
    "padded_vocab_size": 65024, "post_layer_norm": True, "rmsnorm": True, "seq_length": 32768,
    "tie_word_embeddings": False, "torch_dtype": "float16", "transformers_version": "4.27.1", "use_cache": True,
}  # fmt: skip
_MOSS: Config = {
    "activation_function": "gelu_new", "architectures": ["MossForCausalLM"], "attn_pdrop": 0.0,
    "bos_token_id": 106028, "embd_pdrop": 0.0, "eos_token_id": 106068, "gradient_checkpointing": False,
    "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "moss", "n_ctx": 2048, "n_embd": 6144,
    "n_head": 24, "n_inner": None, "n_layer": 34, "n_positions": 2048, "resid_pdrop": 0.0, "rotary_dim": 64,
    "scale_attn_weights": True, "summary_activation": None, "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
    "tie_word_embeddings": False, "tokenizer_class": "GPT2Tokenizer", "use_cache": True, "vocab_size": 107008,
}  # fmt: skip

_CODE_34B = _llama(8192, 48, 64, 22016, **{**_CODE, "num_key_value_heads": 8, "vocab_size": 32000})
_MPT_7B: Config = {**_MPT, "d_model": 4096, "n_heads": 32, "n_layers": 32}
_MPT_30B: Config = {**_MPT, "d_model": 7168, "n_heads": 64, "n_layers": 48, "max_seq_len": 8192}
_FIRST_CHATGLM: Config = {
    **_CHATGLM, "vocab_size": 150528, "bos_token_id": 150004, "eos_token_id": 150005, "gmask_token_id": 150001,
    "mask_token_id": 150000, "pad_token_id": 20003,
}  # fmt: skip

SIZES = [
    Size("GPT-2 124M", _gpt2(768, 12, 12), 124_439_808),
    Size("GPT-2 medium", _gpt2(1024, 24, 16), 354_823_168),
    Size("GPT-2 large", _gpt2(1280, 36, 20), 774_030_080),
    Size("GPT-2 XL", _gpt2(1600, 48, 25), 1_557_611_200),
    Size("GPT-3's shape", _gpt2(12288, 96, 96, n_positions=2048, n_ctx=2048), 174_604_259_328),
    Size("BERT base", _bert(768, 12, 12), 109_482_240),
    Size("BERT large", _bert(1024, 24, 16), 335_141_888),
    Size("Pythia 14m", _pythia(6, 128, 4), 14_067_712),
    Size("Pythia 31m", _pythia(6, 256, 8), 30_494_720),
    Size("Pythia 70m", _pythia(6, 512, 8), 70_426_624),
    Size("Pythia 160m", _pythia(12, 768, 12), 162_322_944),
    Size("Pythia 410m", _pythia(24, 1024, 16), 405_334_016),
    Size("Pythia 1b", _pythia(16, 2048, 8), 1_011_781_632),
    Size("Pythia 1.4b", _pythia(24, 2048, 16), 1_414_647_808),
    Size("Pythia 2.8b", _pythia(32, 2560, 32), 2_775_208_960),
    Size("Pythia 6.9b", _pythia(32, 4096, 32, 50432), 6_857_302_016),
    Size("Pythia 12b", _pythia(36, 5120, 40, 50688), 11_846_072_320),
    Size("GPT-NeoX-20B", _pythia(44, 6144, 64, 50432, **_NEOX_20B), 20_554_567_680),
    Size("BLOOM 560m", _bloom(1024, 24, 16, first=True), 559_214_592),
    Size("BLOOM 1b1", _bloom(1536, 24, 16), 1_065_314_304),
    Size("BLOOM 1b7", _bloom(2048, 24, 16, first=True), 1_722_408_960),
    Size("BLOOM 3b", _bloom(2560, 30, 32), 3_002_557_440),
    Size("BLOOM 7b1", _bloom(4096, 30, 32, first=True), 7_069_016_064),
    Size("BLOOM 176b", _bloom(14336, 70, 112), 176_247_271_424, 4_014_080),
    Size("MOSS-003 16B", _MOSS, 16_717_980_160),
    Size("LLaMA 7B", _llama(4096, 32, 32, 11008, **_DECAPODA), 6_738_415_616, 524_288),
    Size("LLaMA 13B", _llama(5120, 40, 40, 13824), 13_015_864_320),
    Size("LLaMA 33B", _llama(6656, 60, 52, 17920), 32_528_943_616),
    Size("LLaMA 65B", _llama(8192, 80, 64, 22016, rms_norm_eps=1e-5), 65_285_660_672),
    Size("Llama-2 70B", _llama(8192, 80, 64, 28672, num_key_value_heads=8, **_LLAMA2), 68_976_648_192, 327_680),
    Size("Code Llama 7B", _llama(4096, 32, 32, 11008, **_CODE), 6_738_546_688),
    Size("Code Llama 13B", _llama(5120, 40, 40, 13824, **_CODE), 13_016_028_160),
    Size("Code Llama 34B", _CODE_34B, 33_743_970_304),
    Size("R1-Distill-Llama 8B", _llama(4096, 32, 32, 14336, **_LLAMA31), 8_030_261_248),
    Size("Mistral-7B v0.1", _llama(4096, 32, 32, 14336, **_MISTRAL), 7_241_732_096, 131_072),
    Size("Mixtral-8x7B", _llama(4096, 32, 32, 14336, **_MIXTRAL), 46_702_792_704),
    Size(
        "R1-Distill-Qwen 7B",
        {**_R1_QWEN, "hidden_size": 3584, "intermediate_size": 18944, "max_window_layers": 28, "vocab_size": 152064,
         "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4},
        7_615_616_512,
    ),
    Size("MPT-7B", _MPT_7B, 6_649_286_656, 524_288),
    Size("MPT-30B", _MPT_30B, 29_957_200_896),
    Size("Falcon-7B", _FALCON, 6_921_720_704, 8_192),
    Size("Falcon-7B, first spelling", _FALCON_7B_FIRST, 6_921_720_704, 8_192),
    Size("Falcon-40B, first spelling", _REFINED_WEB, 41_303_293_952, 122_880),
    Size("Falcon-180B", _FALCON_180B, 178_557_088_768, 163_840),
    Size("Falcon-180B, head counted", {**_FALCON_180B, "tie_word_embeddings": False}, 179_522_565_120),
    Size("ChatGLM-6B", _CHATGLM, 6_173_286_400, 458_752),
    Size("ChatGLM-6B untied", {**_CHATGLM, "tie_word_embeddings": False}, 6_707_929_088),
    Size("ChatGLM-6B, first release", _FIRST_CHATGLM, 6_255_206_400),
    Size("ChatGLM2-6B", _CHATGLM2, 6_243_584_000, 28_672),
]  # fmt: skip
