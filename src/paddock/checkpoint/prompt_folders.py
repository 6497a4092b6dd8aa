"""Adapters of virtual tokens at rest, in PEFT's folders: prefix tuning, prompt tuning, and its adaption prompts.

    PREFIX_TUNING     prompt_embeddings (count, layers * 2 * kv_heads * head_dim): a layer's keys, then its values
    PROMPT_TUNING     prompt_embeddings (count, width)
    ADAPTION_PROMPT   LLaMA-Adapter as PEFT has it, only read: one gate a layer for all heads, and no tanh around it

What a network makes the prefix of is in a file beside, which only a training run reads again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint import safetensors
from paddock.checkpoint.adapter_writing import put_files, saved_whole, task_type
from paddock.checkpoint.adapters import CONFIG, WEIGHTS, Adapter, check_keys, named_whole, replaced, stored_in
from paddock.checkpoint.jsonfile import read as read_json
from paddock.checkpoint.own_adapters import MOST_PROMPTS, finite, with_replaced
from paddock.checkpoint.stored import Stored
from paddock.errors import CheckpointError, UnsupportedError
from paddock.model import ahead, prompts
from paddock.model.ahead import Prefix, Prompt, check_virtual, with_virtual
from paddock.model.families import family
from paddock.model.prompts import LayerPrompts, with_prompts
from paddock.model.transformer import Transformer

PREFIX, PROMPT, ADAPTION = KINDS = ("PREFIX_TUNING", "PROMPT_TUNING", "ADAPTION_PROMPT")
TENSOR, NETWORK = "prompt_embeddings", "prefix_encoder.safetensors"
GATED = re.compile(r"base_model\.model\.model\.layers\.(?P<layer>\d{1,5})\.self_attn\.adaption_(?P<part>prompt|gate)")
WHOLE = re.compile(r"base_model\.(?P<module>.+?)(?:\.modules_to_save(?:\.default)?)?\.(?P<leaf>weight|bias)")
_KNOWN = """
    peft_type task_type base_model_name_or_path revision auto_mapping inference_mode peft_version num_virtual_tokens
    token_dim num_transformer_submodules num_attention_heads num_layers encoder_hidden_size prefix_projection
    init_weights prompt_tuning_init prompt_tuning_init_text tokenizer_name_or_path tokenizer_kwargs modules_to_save
    target_modules adapter_len adapter_layers
    """
KNOWN = frozenset(_KNOWN.split())


@dataclass(frozen=True)
class Said:
    """What adapter_config.json of a folder says, and its tensors."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]

    @property
    def made_for(self) -> str:
        base = self.config.get("base_model_name_or_path")
        return f"use it with the model it was trained on{f' ({base[:120]})' if isinstance(base, str) and base else ''}"

    def embeddings(self, columns: int) -> Tensor:
        """`prompt_embeddings`, (count, columns)."""
        stored = self.tensors.get(TENSOR)
        if stored is None:
            raise CheckpointError(f"the adapter in {self.folder} has no tensor {TENSOR!r}")
        count = self.config.get("num_virtual_tokens")
        if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= MOST_PROMPTS:
            raise CheckpointError(
                f"{CONFIG} says num_virtual_tokens {str(count)[:40]}", expected=f"1 to {MOST_PROMPTS}"
            )
        if tuple(stored.shape) != (count, columns):
            raise CheckpointError(
                f"the adapter's {TENSOR} has the shape {list(stored.shape)}",
                expected=f"{[count, columns]}, for this model and {count} virtual tokens",
                fix=self.made_for,
            )
        return finite(stored, TENSOR)

    def whole(self, model: Transformer, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """What takes the place of the model's own parameters, by their names."""
        ends = named_whole(self.config)
        saved: dict[str, Stored] = {}
        for name, stored in self.tensors.items():
            match = WHOLE.fullmatch(name)
            if match is not None and any(f".{match['module']}".endswith("." + end) for end in ends):
                saved[f"{match['module']}.{match['leaf']}"] = stored
            elif name != TENSOR:
                raise UnsupportedError(f"adapter tensor {name[:120]!r} is none of virtual tokens", expected=TENSOR)
        return replaced(Adapter(self.folder, None, {}, saved), model, family(dict(config)).RULES)


def read_said(folder: Path) -> Said:
    """Opens a folder. Raises CheckpointError for what is corrupt, UnsupportedError for what changes what it does."""
    said = read_json(folder / CONFIG)
    check_keys(said, KNOWN, "plain prefix or prompt tuning")
    if said.get("num_transformer_submodules") not in (None, 1):
        raise UnsupportedError(f"{CONFIG} is of an encoder and a decoder", expected="an adapter for a decoder")
    return Said(folder, said, stored_in(folder))


def columns(model: Transformer) -> int:
    """Numbers of one virtual token's keys and values in all layers."""
    part = model.architecture.layer(0).attention
    return model.architecture.blocks * 2 * part.kv_heads * part.head_dim


def with_prefix(model: Transformer, folder: Path, config: Mapping[str, Any]) -> Transformer:
    """A Transformer like `model`, whose configuration is `config`, with the prefix of a folder before every text."""
    said = read_said(folder)
    check_virtual(model.architecture, 1)
    virtual = Prefix(_like(model, said.embeddings(columns(model))))
    return _settled(with_virtual(with_replaced(model, said.whole(model, config)), virtual))


def with_prompt(model: Transformer, folder: Path, config: Mapping[str, Any]) -> Transformer:
    """A Transformer like `model`, whose configuration is `config`, with the vectors of a folder before every text."""
    said = read_said(folder)
    virtual = Prompt(_like(model, said.embeddings(model.architecture.width)))
    return _settled(with_virtual(with_replaced(model, said.whole(model, config)), virtual))


def with_adaption(model: Transformer, folder: Path, config: Mapping[str, Any]) -> Transformer:
    """A Transformer like `model` with PEFT's adaption prompts: LLaMA-Adapter's, with one gate a layer and no tanh.

    PEFT adds what is read of the prompts behind `out`, and runs it through `out` by itself: the same where `out` has no
    bias. Raises UnsupportedError where it has one, and for families that PEFT adds it elsewhere to.
    """
    said = read_said(folder)
    if config.get("model_type") not in ("llama", "mistral") or model.architecture.layer(0).attention.out_bias:
        raise UnsupportedError(
            f"PEFT's adaption prompts on a {str(config.get('model_type'))[:40]!r} model, or on one with biases",
            expected="llama or mistral without them, where they are LLaMA-Adapter's",
        )
    parts: dict[int, dict[str, Tensor]] = {}
    width = model.architecture.width
    for name, stored in said.tensors.items():
        match = GATED.fullmatch(name)
        if match is None:
            raise UnsupportedError(f"adapter tensor {name[:120]!r} is no adaption prompt", expected="adaption_prompt")
        layer, part = int(match["layer"]), match["part"]
        count = stored.shape[1] if len(stored.shape) == 3 else 0
        wanted = (1,) if part == "gate" else (1, min(max(count, 1), MOST_PROMPTS), width)
        if layer >= model.architecture.blocks or tuple(stored.shape) != wanted:
            raise CheckpointError(
                f"the adapter's {name[:120]!r} has the shape {list(stored.shape)}",
                expected=f"{list(wanted)} in a layer below {model.architecture.blocks}",
                fix=said.made_for,
            )
        parts.setdefault(layer, {})[part] = _like(model, finite(stored, name)[0])
    if not parts or any(len(found) != 2 for found in parts.values()):
        raise CheckpointError("the adapter lacks prompts or gates", expected="both in each of its layers")
    put = {
        layer: LayerPrompts(
            found["prompt"], found["gate"].expand(model.architecture.layer(layer).attention.heads).clone(), False
        )
        for layer, found in parts.items()
    }
    return _settled(with_prompts(model, put))


def write_virtual(
    folder: Path, model: Transformer, config: Mapping[str, Any], base: str, fresh: Collection[str] = ()
) -> None:
    """Writes the virtual tokens of `model` as PEFT would, in float32, and the whole of its parameters `fresh`."""
    virtual, part = model.ahead, model.architecture.layer(0).attention
    assert isinstance(virtual, Prefix | Prompt)
    kv = part.kv_heads * part.head_dim
    values: dict[str, Any] = {
        "task_type": task_type(model),
        "base_model_name_or_path": base,
        "num_virtual_tokens": virtual.count,
        "num_transformer_submodules": 1,
        "num_layers": model.architecture.blocks,
        "inference_mode": True,
    }
    network: dict[str, Tensor] = {}
    with torch.no_grad():
        if isinstance(virtual, Prefix):
            values |= {"peft_type": PREFIX, "token_dim": kv, "num_attention_heads": part.kv_heads}
            values |= {"prefix_projection": virtual.inner is not None}
            values |= {"encoder_hidden_size": kv if virtual.inner is None else virtual.inner.out_features}
            tensors = {TENSOR: virtual.flat().float()}
            if virtual.inner is not None:
                network = {name: each.float() for name, each in virtual.named_parameters()}
        else:
            values |= {"peft_type": PROMPT, "token_dim": model.architecture.width, "prompt_tuning_init": "RANDOM"}
            values |= {"num_attention_heads": part.heads}
            tensors = {TENSOR: virtual.vectors.float()}
    rules = [rule for rule in family(dict(config)).RULES if rule.when(model.architecture)]
    saved = dict(saved_whole(model, rules, fresh))
    tensors |= {f"base_model.{name}": tensor for name, tensor in saved.items()}
    values["modules_to_save"] = [name.rpartition(".")[0].rpartition(".")[2] for name in saved] or None
    put_files(folder, values, {WEIGHTS: tensors, **({NETWORK: network} if network else {})})


def read_virtual(folder: Path, model: Transformer, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """What `write_virtual` wrote of an adapter on `model`, by the names of parameters."""
    said = read_said(folder)
    whole = said.whole(model, config)
    if said.config.get("prefix_projection") is True:
        network = safetensors.read(folder / NETWORK)
        return whole | {f"ahead.{name}": finite(stored, name) for name, stored in network.items()}
    if said.config.get("peft_type") == PREFIX:
        return whole | {"ahead.embedding": said.embeddings(columns(model))}
    return whole | {"ahead.vectors": said.embeddings(model.architecture.width)}


def _like(model: Transformer, tensor: Tensor) -> Tensor:
    like = model.embedding.tokens.weight
    return tensor.to(device=like.device, dtype=like.dtype)


def _settled(model: Transformer) -> Transformer:
    prompts.settle(model)
    ahead.settle(model)
    return model
