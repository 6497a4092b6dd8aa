"""Reading a config.json: every wrong value of every key ends in a refusal that names the key."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.checkpoint.checkpoint import understand
from paddock.checkpoint.jsonfile import parse
from paddock.errors import CheckpointError, PaddockError, UnsupportedError
from paddock.model.config import HARMLESS, Config
from paddock.model.families import describe, model_types

sys.path.append(str(Path(__file__).parent.parent / "checkpoint"))
import damage

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64,
    "num_hidden_layers": 2, "intermediate_size": 24, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "hidden_act": "silu", "rope_theta": 1e4, "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False,
    "head_dim": 4, "torch_dtype": "float32",
}  # fmt: skip
HUGGED = {"hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 64}
ROPE3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 32, "beta_slow": 1}
GLM = {"hidden_size": 16, "num_attention_heads": 4, "num_layers": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "linear": LLAMA | {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "llama3": LLAMA | {"rope_parameters": ROPE3},
    "yarn": LLAMA | {"rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 0.8}},
    "dynamic": LLAMA | {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
    "factors": LLAMA | {"rope_scaling": {"rope_type": "factors", "factors": [1.0, 2.0]}},
    "mistral": LLAMA | {"model_type": "mistral", "sliding_window": 8},
    "mixtral": LLAMA | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2": LLAMA | {
        "model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "gpt_neox": HUGGED | {
        "model_type": "gpt_neox", "intermediate_size": 24, "max_position_embeddings": 64, "rotary_pct": 0.5,
        "rotary_emb_base": 10000, "use_parallel_residual": True, "layer_norm_eps": 1e-5,
    },
    "falcon": HUGGED | {"model_type": "falcon", "multi_query": True, "alibi": False, "bias": False},
    "falcon 40b": HUGGED | {"model_type": "falcon", "num_kv_heads": 2, "new_decoder_architecture": True},
    "mpt": {
        "model_type": "mpt", "d_model": 16, "n_heads": 4, "n_layers": 2, "expansion_ratio": 4, "max_seq_len": 64,
        "vocab_size": 64, "no_bias": True, "learned_pos_emb": True, "logit_scale": "inv_sqrt_d_model",
        "attn_config": {"alibi": True, "alibi_bias_max": 8, "clip_qkv": 6.0, "attn_type": "multihead_attention"},
        "ffn_config": {"ffn_type": "mptmlp"},
    },
    "bloom": {"model_type": "bloom", "hidden_size": 16, "n_head": 4, "n_layer": 2, "vocab_size": 64},
    "gpt2": {
        "model_type": "gpt2", "n_embd": 16, "n_head": 4, "n_layer": 2, "n_positions": 64, "vocab_size": 64,
        "activation_function": "gelu_new", "scale_attn_by_inverse_layer_idx": True,
    },
    "codegen": {
        "model_type": "codegen", "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64, "rotary_dim": 4,
        "vocab_size": 64,
    },
    "chatglm": GLM | {
        "model_type": "chatglm", "inner_hidden_size": 24, "position_encoding_2d": True, "gmask_token_id": 60,
        "mask_token_id": 61, "bos_token_id": 62, "max_sequence_length": 64, "vocab_size": 64,
    },
    "chatglm2": GLM | {
        "model_type": "chatglm", "padded_vocab_size": 64, "ffn_hidden_size": 24, "kv_channels": 4, "seq_length": 64,
        "multi_query_attention": True, "multi_query_group_num": 2, "rmsnorm": True, "rope_ratio": 2.0,
    },
    "bert": HUGGED | {
        "model_type": "bert", "intermediate_size": 24, "hidden_act": "gelu", "max_position_embeddings": 64,
        "type_vocab_size": 2, "architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"},
    },
    "t5": {
        "model_type": "t5", "d_model": 16, "num_heads": 4, "d_kv": 4, "d_ff": 24, "num_layers": 2, "vocab_size": 64,
        "num_decoder_layers": 2, "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 8,
    },
    "marian": {
        "model_type": "marian", "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 64,
        "activation_function": "swish", "scale_embedding": True, "max_position_embeddings": 64,
    },
    "transformer": {
        "model_type": "transformer", "d_model": 16, "num_heads": 4, "d_ff": 24, "encoder_layers": 2, "vocab_size": 64,
        "decoder_layers": 2, "norm_first": True, "source_vocab_size": 60, "activation": "relu",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_the_sound_configurations_are_understood(name: str) -> None:
    assert understand(CONFIGS[name]).blocks == 2


def test_every_family_is_among_them() -> None:
    """A family added later has its configuration fuzzed too."""
    assert {describe(config).family for config in CONFIGS.values()} == {
        module.__name__.rpartition(".")[2] for module in model_types().values()
    }


INTEGERS = ("hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size", "num_hidden_layers")
BAD_INTEGERS = [0, -1, 1.0, 1.5, "16", "", True, False, [], [16], {}, 2**24 + 1, 2**31, 2**40, 2**63, 2**64, 10**400]


@pytest.mark.parametrize("value", BAD_INTEGERS, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize("key", INTEGERS)
def test_bad_whole_numbers_name_their_key(key: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=key) as caught:
        understand(LLAMA | {key: value})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", ["1e4", "", True, [], {}, -1.0, -1, float("nan"), float("inf"), 1e13, 10**400])
@pytest.mark.parametrize("key", ["rope_theta", "rms_norm_eps"])
def test_bad_numbers_name_their_key(key: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=key):
        understand(LLAMA | {key: value})


@pytest.mark.parametrize("value", [0, 1, "true", "false", "", [], {}, 0.0])
@pytest.mark.parametrize("key", ["tie_word_embeddings", "attention_bias", "mlp_bias"])
def test_bad_flags_name_their_key(key: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=key):
        understand(LLAMA | {key: value})


@pytest.mark.parametrize("value", [0, True, "", "SiLU", "exec", ["silu"], {"silu": 1}, "x" * 10**6])
def test_unknown_words_are_refused_shortly(value: Any) -> None:
    with pytest.raises(UnsupportedError, match="hidden_act") as caught:
        understand(LLAMA | {"hidden_act": value})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [None, 1, True, "", "lama", "LLAMA", ["llama"], {"llama": 1}, "../llama", "os"])
def test_unknown_model_types(value: Any) -> None:
    with pytest.raises(CheckpointError, match="model_type"):
        understand(LLAMA | {"model_type": value})
    with pytest.raises(CheckpointError, match="model_type"):
        understand({key: item for key, item in LLAMA.items() if key != "model_type"})


def test_model_type_suggests_the_nearest() -> None:
    with pytest.raises(UnsupportedError, match="nearest known is 'llama'"):
        understand(LLAMA | {"model_type": "lama"})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_attention_heads": 3, "num_key_value_heads": 2}, "cannot share"),
        ({"num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": None}, "head_dim"),
        ({"head_dim": 3}, "rotates 3 of 3"),
        ({"rope_scaling": 2.0}, "rope_scaling|rope_parameters"),
        ({"rope_scaling": ["linear"]}, "rope_scaling|rope_parameters"),
        ({"rope_scaling": {"type": "linear"}}, "factor"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor"),
        ({"rope_scaling": {"type": "linear", "factor": float("nan")}}, "factor"),
        ({"rope_scaling": {"type": "quadratic", "factor": 2.0}}, "quadratic"),
        ({"rope_scaling": {"type": ["linear"], "factor": 2.0}}, "linear"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "extra": 1}}, "extra"),
        ({"max_position_embeddings": -1}, "max_sequence_length|max_position_embeddings"),
        ({"max_position_embeddings": "many"}, "max_sequence_length|max_position_embeddings"),
    ],
)
def test_numbers_that_do_not_fit_each_other(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        understand(LLAMA | changes)


@pytest.mark.parametrize("key", ["hiden_size", "_attn_implementation", "__class__", "", "a.b"])
def test_unknown_keys_are_refused_and_can_be_excused(key: str) -> None:
    with pytest.raises(UnsupportedError, match="keys this family does not know") as caught:
        understand(LLAMA | {key: 1})
    assert repr(key) in str(caught.value)


def test_a_misspelt_key_is_answered_with_the_right_one() -> None:
    with pytest.raises(UnsupportedError, match="did you mean 'attention_bias'"):
        understand(LLAMA | {"atention_bias": False})


def test_the_first_published_spelling_counts_and_null_is_absent() -> None:
    config = Config({"a": None, "b": 3, "c": 4})
    assert config.get("a", "b", "c") == 3
    assert config.integer("a", default=None) is None
    assert config.integer("a", default=7) == 7
    with pytest.raises(CheckpointError, match="lacks 'a'"):
        config.integer("a")
    with pytest.raises(CheckpointError, match="d is 0"):
        config.integer("d", default=0)


def test_nothing_that_computes_is_called_harmless() -> None:
    """A guard against excusing a key for every family because one does not need it."""
    words = ("rope", "bias", "alibi", "eps", "window", "quant", "scal", "expert", "heads", "act_fn", "dim", "layer_")
    assert [key for key in HARMLESS if any(word in key for word in words)] == []


def grow(config: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Numbers and flags changed, but of the right kind: most such configurations are understood."""
    config = json.loads(json.dumps(config))
    for key in rng.sample(sorted(config), 2):
        if isinstance(config[key], bool):
            config[key] = not config[key]
        elif isinstance(config[key], int | float):
            config[key] = rng.choice([0, 1, 2, 3, 5, 7, 8, 64, 4096, 0.5, 1e-3, 1e6])
    return config


def fuzz(seed: int) -> None:
    rng = random.Random(seed)
    config = CONFIGS[rng.choice(sorted(CONFIGS))]
    try:
        if rng.random() < 0.3:
            architecture = understand(grow(config, rng))
        else:
            text = damage.mutate(config, rng, rng.randint(1, 3))
            architecture = understand(parse(text.encode(errors="surrogatepass"), "config.json"))
    except PaddockError as error:
        assert len(str(error)) < 5000
    else:
        assert architecture == architecture and architecture.cache_values_per_token() >= 0


@given(st.integers(0, 2**32))
@settings(max_examples=600, derandomize=True, deadline=None)
def test_only_refusals_escape(seed: int) -> None:
    fuzz(seed)


@pytest.mark.slow
@given(st.integers(0, 2**32))
@settings(max_examples=20_000, derandomize=True, deadline=None)
def test_only_refusals_escape_at_length(seed: int) -> None:
    fuzz(seed)
