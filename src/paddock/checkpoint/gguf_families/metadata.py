"""A GGUF file's metadata for its architecture, read so that no key is passed over in silence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paddock.checkpoint.gguf import GGUFFile
from paddock.errors import CheckpointError, UnsupportedError
from paddock.model.position import frequencies
from paddock.model.spec import Llama3Scaling, Rope

REQUIRED: Any = object()
MAX_BLOCKS = 4096

# Keys that repeat what tensors say, or describe how the file came to be.
HARMLESS = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned", "embedding_length_out")


class Metadata:
    """The values under `general.architecture`'s prefix, and what the tensors themselves tell.

    Remembers which keys were asked for; `finish()` refuses the others, as each may change what the model computes.
    """

    def __init__(self, file: GGUFFile) -> None:
        self.file = file
        self.name = file.file.name
        kind, parts = str(file.metadata.get("general.type", "model")), str(file.metadata.get("split.count", 1))
        if kind != "model":
            raise UnsupportedError(f"{self.name} holds no model: general.type is {kind[:60]!r}", expected="'model'")
        if parts not in ("0", "1"):
            raise UnsupportedError(
                f"{self.name} is one of {parts[:60]} parts of a model", fix="merge them with llama-gguf-split --merge"
            )
        self.architecture = str(file.metadata.get("general.architecture", ""))
        self._read = set(HARMLESS)

    def integer(self, key: str, default: Any = REQUIRED, low: int = 1, high: int = 2**31 - 1) -> int:
        value = self._get(key, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(key, value, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: Any = REQUIRED, low: float = 0.0, high: float = 1e12) -> float:
        value = self._get(key, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self._wrong(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def word(self, key: str, default: str) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a word")
        return value

    def texts(self, key: str) -> list[str] | None:
        """Texts, all of them UTF-8; None where the key is not there."""
        self._read.add(key)
        value = self.file.metadata.get(f"{self.architecture}.{key}")
        if value is None:
            return None
        if not isinstance(value, list) or any("\udc80" <= letter <= "\udcff" for text in value for letter in text):
            raise self._wrong(key, value, "texts in UTF-8")
        return value

    def insist(self, key: str, value: Any, why: str) -> None:
        """Refuses any other value of a key that Paddock knows but does not act on."""
        found = self._get(key, value)
        if found != value:
            raise UnsupportedError(f"{self.name}: {self.architecture}.{key} is {found!r}: {why}", expected=f"{value!r}")

    def ignore(self, *keys: str) -> None:
        self._read.update(keys)

    def stores(self, tensor: str) -> bool:
        return tensor in self.file.tensors

    def rows(self, tensor: str) -> int:
        """First dimension of a tensor that every file of the family has."""
        if tensor not in self.file.tensors:
            raise CheckpointError(f"{self.name} lacks the tensor {tensor!r}", fix="download or copy the file again")
        return (*self.file.tensors[tensor].shape, 1)[0]

    def id(self, token: str) -> int | None:
        """The id that the vocabulary gives to a special token: "bos", "eos", "padding", ..."""
        value = self.file.metadata.get(f"tokenizer.ggml.{token}_token_id")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not -1 <= value < 2**31):
            raise CheckpointError(f"{self.name}: the id of the {token} token is {value!r}", expected="a whole number")
        return None if value == -1 else value

    def finish(self) -> None:
        prefix = self.architecture + "."
        unread = [key for key in self.file.metadata if key.startswith(prefix) and key[len(prefix) :] not in self._read]
        if unread:
            names = ", ".join(repr(key[:80]) for key in unread[:6])
            raise UnsupportedError(
                f"{self.name} has settings that Paddock does not know for this family: {names} "
                f"(the first is {str(self.file.metadata[unread[0]])[:60]!r})"
            )

    def _get(self, key: str, default: Any) -> Any:
        """The value; one number for an array that repeats it per layer."""
        self._read.add(key)
        value = self.file.metadata.get(f"{self.architecture}.{key}", default)
        if value is REQUIRED:
            raise CheckpointError(f"{self.name} lacks the key {self.architecture}.{key}")
        if isinstance(value, np.ndarray):
            if len(set(value.tolist())) != 1:
                raise UnsupportedError(f"{self.name}: {self.architecture}.{key} differs from layer to layer")
            value = value[0].item()
        return _shortest(value) if isinstance(value, float) else value

    def _wrong(self, key: str, value: Any, expected: str) -> CheckpointError:
        return CheckpointError(f"{self.name}: {self.architecture}.{key} is {str(value)[:60]!r}", expected=expected)


Change = Callable[[Tensor], Tensor]


def unchanged(metadata: Metadata) -> Mapping[str, Change]:
    return {}


@dataclass(frozen=True)
class Family:
    """How llama.cpp's converter wrote one architecture, to be undone.

    `names` maps GGUF tensor names without `.weight` or `.bias` to published ones; `{i}` is the layer, `{e}` the
    expert. A published name with `{e}` for a GGUF name without it: all experts are stored as one tensor.
    `changes` says, by GGUF name, what brings a tensor back to its published layout.
    """

    names: Callable[[Metadata], Mapping[str, str]]
    config: Callable[[Metadata], dict[str, Any]]
    changes: Callable[[Metadata], Mapping[str, Change]] = unchanged


def head_width(metadata: Metadata) -> int:
    """Features per head, in families whose heads divide the width."""
    width, heads = metadata.integer("embedding_length"), metadata.integer("attention.head_count")
    if width % heads:
        raise CheckpointError(f"{metadata.name}: {heads} heads do not divide the width {width}")
    for key in ("attention.key_length", "attention.value_length"):
        metadata.insist(key, width // heads, "heads that do not divide the width")
    return width // heads


def plain_heads(metadata: Metadata) -> int:
    """Number of heads, in families where each has a key and a value of its own."""
    heads = metadata.integer("attention.head_count")
    metadata.insist("attention.head_count_kv", heads, "shared keys and values")
    return heads


def kv_heads(metadata: Metadata) -> int:
    heads = metadata.integer("attention.head_count")
    found = metadata.integer("attention.head_count_kv", heads)
    if heads % found:
        raise CheckpointError(f"{metadata.name}: {found} key-value heads do not divide {heads} heads")
    return found


def _shortest(value: float) -> float:
    """Files hold float32: 1e-5 comes out as 9.999999747378752e-06, which is 1e-5 again in its shortest spelling."""
    single = np.float32(value)
    return float(str(single)) if single == value else float(value)


def rope(metadata: Metadata, width: int) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` of a model that rotates `width` features of each head.

    llama.cpp stores the scaling of Llama 3 as one divisor per frequency in the tensor `rope_freqs`. Where they are what
    the published four numbers give, those come back; else {"rope_type": "factors", "factors": [...]}, a spelling of
    Paddock's own that loses no bit.
    """
    found = metadata.integer("rope.dimension_count", width)
    if found != width:
        raise UnsupportedError(f"{metadata.name} rotates {found} features of each head", expected=f"{width}")
    theta = metadata.number("rope.freq_base", 10000.0, low=1.0)
    return {"rope_theta": theta, "rope_scaling": _factors(metadata, width, theta) or _scaling(metadata)}


def _factors(metadata: Metadata, width: int, theta: float) -> dict[str, Any] | None:
    if not metadata.stores("rope_freqs.weight"):
        return None
    if metadata.word("rope.scaling.type", "none") != "none":
        raise UnsupportedError(f"{metadata.name} scales rotary positions twice: by a type and by rope_freqs")
    info = metadata.file.tensors["rope_freqs.weight"]
    if info.shape != (width // 2,):
        raise CheckpointError(
            f"{metadata.name}: rope_freqs has the shape {list(info.shape)}", expected=f"[{width // 2}]"
        )
    factors = metadata.file.tensor("rope_freqs.weight").tolist()
    if not all(math.isfinite(factor) and factor > 0 for factor in factors):
        raise CheckpointError(f"{metadata.name}: rope_freqs holds a factor that is not a positive number")
    return _llama3(factors, width, theta) or {"rope_type": "factors", "factors": factors}


def _llama3(factors: list[float], width: int, theta: float) -> dict[str, Any] | None:
    """The numbers that Llama 3.1 and later publish, if they give these divisors: every tool reads those."""
    guess = Llama3Scaling(factor=max(factors), low=1.0, high=4.0, original=8192)
    here = torch.device("cpu")
    plain, scaled = frequencies(Rope(theta, width), 0, here), frequencies(Rope(theta, width, scaling=guess), 0, here)
    if not torch.allclose(plain / scaled, torch.tensor(factors), rtol=1e-6, atol=0):
        return None
    published = {"factor": guess.factor, "low_freq_factor": guess.low, "high_freq_factor": guess.high}
    return {"rope_type": "llama3", **published, "original_max_position_embeddings": guess.original}


def _scaling(metadata: Metadata) -> dict[str, Any] | None:
    kind = metadata.word("rope.scaling.type", "none")
    factor = metadata.number("rope.scaling.factor", metadata.number("rope.scale_linear", 1.0, low=1e-3), low=1e-3)
    original = metadata.integer("rope.scaling.original_context_length", None)
    for key in ("attn_factor", "yarn_attn_factor", "yarn_ext_factor"):
        metadata.insist(f"rope.scaling.{key}", 1.0, "Paddock runs YaRN with its published constants only")
    metadata.insist("rope.scaling.yarn_log_multiplier", 0.0, "Paddock runs YaRN with its published constants only")
    fast = metadata.number("rope.scaling.yarn_beta_fast", 32.0)
    slow = metadata.number("rope.scaling.yarn_beta_slow", 1.0)
    if kind == "yarn":
        scaling = {"rope_type": "yarn", "factor": factor, "beta_fast": fast, "beta_slow": slow}
        return scaling if original is None else scaling | {"original_max_position_embeddings": original}
    if kind not in ("none", "linear"):
        raise UnsupportedError(f"{metadata.name}: rope scaling {kind!r} is unknown", expected="none, linear or yarn")
    return None if factor == 1.0 else {"rope_type": "linear", "factor": factor}
