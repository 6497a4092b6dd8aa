"""What a GGUF file says of an architecture: the keys that llama.cpp's converter writes, from Paddock's description.

Source of the keys: ggml-org/llama.cpp, `gguf-py/gguf/constants.py` and the converter. `gguf_families` reads them back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from paddock.checkpoint.gguf_write import Value
from paddock.errors import UnsupportedError
from paddock.model.position import frequencies
from paddock.model.spec import (
    Alibi,
    Architecture,
    Buckets,
    DynamicScaling,
    Experts,
    FactorScaling,
    FeedForward,
    LinearScaling,
    Llama3Scaling,
    PowerScaling,
    Rope,
    TruncatedScaling,
    YarnScaling,
)

Keys = dict[str, Value]

# Paddock's family to llama.cpp's name of the architecture.
ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "llama",
    "qwen2": "qwen2",
    "gpt_neox": "gptneox",
    "falcon": "falcon",
    "mpt": "mpt",
    "bloom": "bloom",
    "gpt2": "gpt2",
    "chatglm2": "chatglm",
    "bert": "bert",
    "t5": "t5",
}


def described(part: Architecture, config: Mapping[str, Any]) -> Keys:
    """All keys of the architecture's own prefix, `general.architecture` before them.

    Raises UnsupportedError for a family that llama.cpp does not have.
    """
    name = ARCHITECTURES.get(part.family)
    if name is None:
        raise UnsupportedError(
            f"llama.cpp, and so GGUF, has no architecture for {part.family} models",
            expected=", ".join(ARCHITECTURES),
            fix="write a Hugging Face folder",
        )
    own = _t5(part, config) if name == "t5" else _common(part) | _OWN[name](part)
    kinds: Keys = {"tokenizer.ggml.token_type_count": part.embedding.segments} if name == "bert" else {}
    return {"general.architecture": name} | {f"{name}.{key}": value for key, value in own.items()} | kinds


def divisors(part: Architecture) -> torch.Tensor | None:
    """The tensor `rope_freqs`: what each frequency is divided by, where a table of divisors is how it is scaled."""
    rope = part.layer(0).attention.position
    if not isinstance(rope, Rope) or not isinstance(rope.scaling, Llama3Scaling | FactorScaling | PowerScaling):
        return None
    if isinstance(rope.scaling, FactorScaling):
        return torch.tensor(rope.scaling.factors)
    here = torch.device("cpu")
    return frequencies(Rope(rope.theta, rope.width), 0, here) / frequencies(rope, 0, here)


def _hidden(part: Architecture) -> int:
    feedforward = part.layer(0).feedforward
    return (feedforward.each if isinstance(feedforward, Experts) else feedforward).hidden


def _common(part: Architecture) -> Keys:
    """Context is stated before rotary scaling multiplies it, as config.json states it."""
    attention, context = part.layer(0).attention, part.context or 2048
    rope = attention.position
    if isinstance(rope, Rope) and isinstance(rope.scaling, LinearScaling) and rope.scaling.factor > 1:
        context = round(context / rope.scaling.factor)
    return {
        "context_length": context,
        "embedding_length": part.width,
        "block_count": part.blocks,
        "feed_forward_length": _hidden(part),
        "attention.head_count": attention.heads,
        "attention.head_count_kv": attention.kv_heads,
        _EPS[type(part.layer(0).norm).__name__]: part.layer(0).norm.eps,
    }


_EPS = {"RMSNorm": "attention.layer_norm_rms_epsilon", "LayerNorm": "attention.layer_norm_epsilon"}


def _rope(part: Architecture) -> Keys:
    rope = part.layer(0).attention.position
    if not isinstance(rope, Rope):
        raise UnsupportedError(f"llama.cpp runs {part.family} models with rotary positions only")
    keys: Keys = {"rope.dimension_count": rope.width, "rope.freq_base": rope.theta}
    match rope.scaling:
        case LinearScaling(factor):
            keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": factor}
        case YarnScaling():
            keys |= {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": rope.scaling.factor,
                "rope.scaling.original_context_length": rope.scaling.original,
                "rope.scaling.yarn_beta_fast": rope.scaling.beta_fast,
                "rope.scaling.yarn_beta_slow": rope.scaling.beta_slow,
            }
        case PowerScaling() if ARCHITECTURES[part.family] != "llama":
            raise UnsupportedError(
                f"llama.cpp reads divisors of rotary frequencies, which a power basis needs, of llama only, not of "
                f"{part.family}",
                fix="write a Hugging Face folder",
            )
        case TruncatedScaling():
            raise UnsupportedError(
                "GGUF states rotary frequencies by their divisors, and a truncated basis has frequencies of 0",
                fix="write a Hugging Face folder",
            )
        case DynamicScaling():
            raise UnsupportedError(
                "llama.cpp does not do dynamic rotary scaling, which grows with the text",
                fix="write a Hugging Face folder",
            )
    return keys


def _llama(part: Architecture) -> Keys:
    attention, feedforward = part.layer(0).attention, part.layer(0).feedforward
    keys: Keys = {"vocab_size": part.vocabulary, **_rope(part)}
    keys |= {"attention.key_length": attention.head_dim, "attention.value_length": attention.head_dim}
    if attention.window is not None:
        keys["attention.sliding_window"] = attention.window
    if isinstance(feedforward, Experts):
        keys |= {"expert_count": feedforward.count, "expert_used_count": feedforward.active}
    return keys


def _mpt(part: Architecture) -> Keys:
    attention = part.layer(0).attention
    bias = attention.position.bias_max if isinstance(attention.position, Alibi) else 0.0
    clamp: Keys = {} if attention.clip is None else {"attention.clamp_kqv": attention.clip}
    return {"attention.max_alibi_bias": float(bias), **clamp}


def _gptneox(part: Architecture) -> Keys:
    return {"use_parallel_residual": part.layer(0).wiring == "parallel", **_rope(part)}


def _falcon(part: Architecture) -> Keys:
    return {"tensor_data_layout": "jploski", **_rope(part)}


def _plain(part: Architecture) -> Keys:
    return {}


def _bert(part: Architecture) -> Keys:
    return {"attention.causal": False}


def _t5(part: Architecture, config: Mapping[str, Any]) -> Keys:
    encoder, attention = part.encoder, part.layer(0).attention
    assert encoder is not None and isinstance(attention.position, Buckets)
    feedforward, eps = part.layer(0).feedforward, part.layer(0).norm.eps
    assert isinstance(feedforward, FeedForward)
    return {
        "context_length": int(config.get("n_positions") or 512),
        "embedding_length": part.width,
        "feed_forward_length": feedforward.hidden,
        "block_count": encoder.blocks,
        "decoder_block_count": part.blocks,
        "attention.head_count": attention.heads,
        "attention.key_length": attention.head_dim,
        "attention.value_length": attention.head_dim,
        "attention.layer_norm_epsilon": eps,
        "attention.layer_norm_rms_epsilon": eps,
        "attention.relative_buckets_count": attention.position.count,
        "decoder_start_token_id": int(config.get("decoder_start_token_id") or 0),
    }


_OWN: dict[str, Callable[[Architecture], Keys]] = {
    "llama": _llama,
    "qwen2": _llama,
    "gptneox": _gptneox,
    "falcon": _falcon,
    "mpt": _mpt,
    "bloom": _plain,
    "gpt2": _plain,
    "chatglm": _rope,
    "bert": _bert,
}
