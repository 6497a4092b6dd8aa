"""The layout of llama2.c model files, versions 0, 1 and 2: what lies where, by Hugging Face names.

Source of the layout: karpathy/llama2.c, `export.py`, `run.c` and `runq.c`. All values are little-endian.

    version 0   7 × int32, tensors in float32; two rope tables that readers skip; a negative vocabulary size
                says that the classifier is a tensor of its own
    version 1   256-byte header starting with the magic, then float32 tensors, norms first
    version 2   as 1, matrices as int8 with one float32 scale per group of consecutive values

Rows of queries and keys lie in the order of interleaved rotation, not in Hugging Face's order (half rotation).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = 0x616B3432  # "ak42"
HEADER_BYTES = {0: 28, 1: 256, 2: 256}
MAX_LAYERS = 4096

EMBEDDING, FINAL_NORM, CLASSIFIER = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
ROPE_TABLES = "rope tables"  # not a tensor of the model: version 0 stores them, every reader computes its own
_LAYER = "model.layers.{layer}."
NORMS = (_LAYER + "input_layernorm.weight", _LAYER + "post_attention_layernorm.weight")
ATTENTION = tuple(_LAYER + f"self_attn.{role}_proj.weight" for role in "qkvo")
FEEDFORWARD = tuple(_LAYER + f"mlp.{role}_proj.weight" for role in ("gate", "down", "up"))  # w1, w2, w3


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
        query, key, value, output = ATTENTION
        gate, down, up = FEEDFORWARD
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
            order = [EMBEDDING, NORMS[0], *ATTENTION, NORMS[1], *FEEDFORWARD, FINAL_NORM, ROPE_TABLES]
        else:
            order = [*NORMS, FINAL_NORM, EMBEDDING, *ATTENTION, *FEEDFORWARD]
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
        return {ATTENTION[0]: self.heads, ATTENTION[1]: self.kv_heads}.get(name, 0)

    def wrong(self) -> str:
        """Why no model has these sizes, or nothing."""
        sizes = [self.width, self.hidden, self.layers, self.heads, self.kv_heads, self.vocab, self.context]
        if min(sizes) < 1 or max(sizes) >= 1 << 31:
            return "a size is not a positive int32"
        if self.layers > MAX_LAYERS:
            return f"{self.layers} layers are more than {MAX_LAYERS}"
        if self.width % self.heads or self.heads % self.kv_heads:
            return "heads do not divide the width, or key-value heads the heads"
        if self.head_width % 2:
            return f"a head width of {self.head_width} cannot be rotated in pairs"
        if self.version == 2 and (self.group < 1 or self.width % self.group):
            return f"groups of {self.group} do not divide the width"
        return ""

    def __str__(self) -> str:
        names = ("width", "hidden", "layers", "heads", "kv_heads", "vocab", "context")
        return ", ".join(f"{name} {getattr(self, name)}" for name in names)
