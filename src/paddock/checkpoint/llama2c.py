"""llama2.c model files: read versions 0, 1 and 2, write them from a LLaMA model that they can hold.

Source of the layout: karpathy/llama2.c, `export.py`, `run.c` and `runq.c`. All values are little-endian.

    version 0   7 × int32, tensors in float32; two rope tables that readers skip; a negative vocabulary size
                says that the classifier is a tensor of its own
    version 1   256-byte header starting with the magic, then float32 tensors, norms first
    version 2   as 1, matrices as int8 with one float32 scale per group of consecutive values

The format has no place for anything but these sizes: rope theta 10000, RMSNorm epsilon 1e-5, no biases, ids 1 and 2
for begin and end of text. Attention rows lie in the order of interleaved rotation; Hugging Face names and row order
(half rotation) are given back.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from paddock.checkpoint.mapped import MappedFile
from paddock.checkpoint.stored import Stored
from paddock.errors import CheckpointError, UnsupportedError

MAGIC = 0x616B3432  # "ak42"
HEADER_BYTES = {0: 28, 1: 256, 2: 256}
MAX_LAYERS = 4096

EMBEDDING, FINAL_NORM, CLASSIFIER = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
ROPE_TABLES = "rope tables"  # not a tensor of the model: version 0 stores them, every reader computes its own
_LAYER = "model.layers.{layer}."
_NORMS = (_LAYER + "input_layernorm.weight", _LAYER + "post_attention_layernorm.weight")
_ATTENTION = tuple(_LAYER + f"self_attn.{role}_proj.weight" for role in "qkvo")
_FEEDFORWARD = tuple(_LAYER + f"mlp.{role}_proj.weight" for role in ("gate", "down", "up"))  # w1, w2, w3


@dataclass(frozen=True)
class Header:
    """The sizes a file begins with. `group` is 0 where weights are float32."""

    version: int
    width: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    context: int
    tied: bool
    group: int = 0

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the tensor with this (unexpanded) name, in PyTorch order."""
        query, key, value, output = _ATTENTION
        gate, down, up = _FEEDFORWARD
        if name in (EMBEDDING, CLASSIFIER):
            return (self.vocab, self.width)
        if name in (query, output):
            return (self.width, self.width)
        if name in (key, value):
            return (self.head_width * self.kv_heads, self.width)
        if name in (gate, up):
            return (self.hidden, self.width)
        if name == down:
            return (self.width, self.hidden)
        return (2, self.context, self.head_width // 2) if name == ROPE_TABLES else (self.width,)

    def nbytes(self, name: str) -> int:
        count = math.prod(self.shape(name))
        if self.group and len(self.shape(name)) == 2:
            return count + 4 * (count // self.group)
        return 4 * count

    def sections(self) -> list[str]:
        """Names in the order of the file; a name with `{layer}` stands for one tensor per layer."""
        head = [] if self.tied else [CLASSIFIER]
        if self.version == 0:
            order = [EMBEDDING, _NORMS[0], *_ATTENTION, _NORMS[1], *_FEEDFORWARD, FINAL_NORM, ROPE_TABLES]
        else:
            order = [*_NORMS, FINAL_NORM, EMBEDDING, *_ATTENTION, *_FEEDFORWARD]
        return order + head

    def size(self) -> int:
        """Exact number of bytes of the whole file."""
        copies = {name: self.layers if "{layer}" in name else 1 for name in self.sections()}
        return HEADER_BYTES[self.version] + sum(n * self.nbytes(name) for name, n in copies.items())

    def tensors(self) -> Iterator[tuple[str, str, int]]:
        """(expanded name, unexpanded name, offset) of everything after the header, in the order of the file."""
        offset = HEADER_BYTES[self.version]
        for name in self.sections():
            for layer in range(self.layers if "{layer}" in name else 1):
                yield name.format(layer=layer), name, offset
                offset += self.nbytes(name)

    def rotated_heads(self, name: str) -> int:
        """Heads whose rows rotary positions mix: the query's and the key's, 0 for every other tensor."""
        return {_ATTENTION[0]: self.heads, _ATTENTION[1]: self.kv_heads}.get(name, 0)


def read(path: str | Path) -> tuple[dict[str, object], dict[str, Stored]]:
    """A llama2.c file as a Hugging Face LLaMA config dictionary and tensors under their Hugging Face names.

    Version 2 weights are dequantised to float32 as they are loaded. Raises CheckpointError when the file is not
    exactly as long as its header says, UnsupportedError for a version above 2.
    """
    file = MappedFile(path)
    header = _header(file)
    expected = header.size()
    if expected != file.size:
        state = "cut short" if file.size < expected else "followed by bytes that do not belong to it"
        raise CheckpointError(
            f"{file.name} is {state}: {file.size} bytes",
            expected=f"{expected} bytes by its own header {_sizes(header)}",
            fix="download or copy the file again",
        )
    stored = {
        full: _stored(file, header, name, full, offset)
        for full, name, offset in header.tensors()
        if name != ROPE_TABLES
    }
    return _config(header), stored


def _header(file: MappedFile) -> Header:
    (first,) = struct.unpack("<I", file.bytes(0, 4, "the first field"))
    if first != MAGIC:
        width, hidden, layers, heads, kv_heads, vocab, context = struct.unpack("<7i", file.bytes(0, 28, "the header"))
        header = Header(0, width, hidden, layers, heads, kv_heads, abs(vocab), context, tied=vocab > 0)
        return _checked(file, header)
    (version,) = struct.unpack("<i", file.bytes(4, 4, "the version"))
    if version not in (1, 2):
        raise UnsupportedError(f"{file.name} is a llama2.c file of version {version}", expected="version 0, 1 or 2")
    head = file.bytes(0, 256, "the header")
    width, hidden, layers, heads, kv_heads, vocab, context = struct.unpack("<7i", head[8:36])
    tied, group = struct.unpack("<Bi", head[36:41])  # the group size follows one byte: it is not aligned
    if tied not in (0, 1) or any(head[41 if version == 2 else 37 :]):
        raise CheckpointError(f"{file.name}: the header is corrupt: its flag or padding is not what is always written")
    group = group if version == 2 else 0
    return _checked(file, Header(version, width, hidden, layers, heads, kv_heads, vocab, context, bool(tied), group))


def _checked(file: MappedFile, header: Header) -> Header:
    """The header, or the reason why it cannot be one."""
    sizes = (header.width, header.hidden, header.layers, header.heads, header.kv_heads, header.vocab, header.context)
    wrong = ""
    if min(sizes) < 1:
        wrong = "a size is zero or negative"
    elif header.layers > MAX_LAYERS:
        wrong = f"{header.layers} layers, at most {MAX_LAYERS} are read"
    elif header.width % header.heads or header.heads % header.kv_heads:
        wrong = "heads do not divide the width, or key-value heads the heads"
    elif header.head_width % 2:
        wrong = f"a head width of {header.head_width} cannot be rotated in pairs"
    elif header.version == 2 and (header.group < 1 or header.width % header.group):
        wrong = f"groups of {header.group} do not divide the width"
    if wrong:
        raise CheckpointError(
            f"{file.name} is not a llama2.c model: {wrong}; its header reads as {_sizes(header)}",
            expected="7 int32 sizes (version 0), or the magic 0x616b3432 and a version",
        )
    return header


def _sizes(header: Header) -> str:
    names = ("width", "hidden", "layers", "heads", "kv_heads", "vocab", "context")
    return ", ".join(f"{name} {getattr(header, name)}" for name in names)


def _config(header: Header) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": header.width,
        "intermediate_size": header.hidden,
        "num_hidden_layers": header.layers,
        "num_attention_heads": header.heads,
        "num_key_value_heads": header.kv_heads,
        "head_dim": header.head_width,
        "vocab_size": header.vocab,
        "max_position_embeddings": header.context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": header.tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": "float32",
    }


def _stored(file: MappedFile, header: Header, name: str, full: str, offset: int) -> Stored:
    return Stored(
        header.shape(name),
        torch.float32,
        load=partial(_load, file, header, name, full, offset),
        release=partial(file.forget, offset, header.nbytes(name)),
    )


def _load(file: MappedFile, header: Header, name: str, full: str, offset: int) -> Tensor:
    shape = header.shape(name)
    if header.group and len(shape) == 2:
        weight = _dequantised(file, offset, shape, header.group, full)
    else:
        weight = file.tensor(offset, torch.float32, shape, full)
    heads = header.rotated_heads(name)
    return half_rotation(weight, heads) if heads else weight


def _dequantised(file: MappedFile, offset: int, shape: tuple[int, ...], group: int, full: str) -> Tensor:
    """Groups run over the flattened matrix: where a row is not a multiple of the group, one group spans two rows."""
    count = math.prod(shape)
    values = file.tensor(offset, torch.int8, (count // group, group), full)
    scales = file.tensor(offset + count, torch.float32, (count // group, 1), f"the scales of {full}")
    return (values * scales).view(shape)


def half_rotation(weight: Tensor, heads: int) -> Tensor:
    """(heads × head width, ...) rows from interleaved order (pairs 2i, 2i+1) to half-rotation order (i, i + half)."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def interleaved_rotation(weight: Tensor, heads: int) -> Tensor:
    """The inverse of `half_rotation`."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
