"""Random-weights LLaMA models of a given shape, for timing: a Hugging Face folder and GGUF files, made in seconds.

    python benchmarks/shapes.py 1.1b bench-models --formats bf16,F16,Q8_0,Q4_0,Q4_K_M

Speed depends on shapes and number formats, never on the values, so quantised blocks are written directly as random
bits under scales that keep activations tame, and one pool of random numbers serves every tensor, beginning elsewhere
each time. The files are valid: llama.cpp, transformers and Paddock open them. Which tensors of a 4-bit file stay at
6 bits is as llama.cpp's own `llama-quantize` has it, so that sizes are those of real files.

Layouts: ggml-org/llama.cpp, `gguf.md` and `ggml-common.h`; huggingface/safetensors, the format's README.
"""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

SPREAD = 0.02  # standard deviation of the weights
POOL = 1 << 23  # random numbers made once
ALIGNMENT = 32


@dataclass(frozen=True)
class Shape:
    """A LLaMA's numbers."""

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int = 32000
    context: int = 4096

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    def matrices(self) -> Iterator[tuple[str, int, int]]:
        """Every matrix by its Hugging Face name, with rows (outputs) and columns (inputs)."""
        yield "model.embed_tokens", self.vocabulary, self.width
        for i in range(self.layers):
            at = f"model.layers.{i}"
            yield f"{at}.self_attn.q_proj", self.width, self.width
            yield f"{at}.self_attn.k_proj", self.kv_heads * self.head_dim, self.width
            yield f"{at}.self_attn.v_proj", self.kv_heads * self.head_dim, self.width
            yield f"{at}.self_attn.o_proj", self.width, self.width
            yield f"{at}.mlp.gate_proj", self.hidden, self.width
            yield f"{at}.mlp.up_proj", self.hidden, self.width
            yield f"{at}.mlp.down_proj", self.width, self.hidden
        yield "lm_head", self.vocabulary, self.width

    def norms(self) -> Iterator[str]:
        for i in range(self.layers):
            yield f"model.layers.{i}.input_layernorm"
            yield f"model.layers.{i}.post_attention_layernorm"
        yield "model.norm"

    @property
    def parameters(self) -> int:
        return sum(rows * columns for _, rows, columns in self.matrices()) + (2 * self.layers + 1) * self.width


SHAPES = {
    "1.1b": Shape("1.1b", layers=22, width=2048, heads=32, kv_heads=4, hidden=5632),
    "110m": Shape("110m", layers=12, width=768, heads=12, kv_heads=12, hidden=2048, context=2048),
    "30m": Shape("30m", layers=8, width=512, heads=8, kv_heads=8, hidden=1408, vocabulary=8192, context=512),
    "tiny": Shape("tiny", layers=2, width=256, heads=4, kv_heads=2, hidden=512, vocabulary=1000, context=1024),
}


class Pool:
    """Random bits and numbers, made once and cut anew for every tensor."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.bits = random.integers(0, 256, POOL, dtype=np.uint8)
        self.normal = random.standard_normal(POOL, dtype=np.float32) * SPREAD
        self.half = self.normal.astype(np.float16)
        self.brain = (self.normal.view(np.uint32) >> 16).astype(np.uint16)
        self._start = 0

    def take(self, source: np.ndarray, count: int) -> np.ndarray:
        self._start = (self._start + 1_000_003) % len(source)
        return np.resize(np.roll(source, -self._start), count)


@dataclass(frozen=True)
class Format:
    """A ggml type: its number, weights and bytes of a block, and what makes `count` weights of it."""

    number: int
    weights: int
    nbytes: int
    make: Callable[[Pool, int], np.ndarray]


def _blocks(nbytes: int, weights: int, fill: Callable[[np.ndarray], None]) -> Callable[[Pool, int], np.ndarray]:
    """Random blocks whose scales `fill` sets."""

    def make(pool: Pool, count: int) -> np.ndarray:
        blocks = pool.take(pool.bits, count // weights * nbytes).reshape(-1, nbytes)
        fill(blocks)
        return blocks

    return make


def _half(value: float) -> np.ndarray:
    return np.frombuffer(np.float16(value).tobytes(), np.uint8)


def _q8_0(blocks: np.ndarray) -> None:
    blocks[:, :2] = _half(SPREAD / 74)


def _q4_0(blocks: np.ndarray) -> None:
    blocks[:, :2] = _half(SPREAD / 4.6)


def _q4_k(blocks: np.ndarray) -> None:
    # Every 6-bit scale and minimum is 32: in bytes 0 to 7 as they are, in bytes 8 to 11 as two low nibbles of 0 whose
    # high bits (2) stand in the top of bytes 0 to 7.
    step = SPREAD / 4.6 / 32
    blocks[:, 0:2], blocks[:, 2:4] = _half(step), _half(step * 7.5)
    blocks[:, 4:12], blocks[:, 12:16] = 32 | 2 << 6, 0


def _q6_k(blocks: np.ndarray) -> None:
    blocks[:, 192:208], blocks[:, 208:210] = 16, _half(SPREAD / 18.5 / 16)


FORMATS = {
    "F32": Format(0, 1, 4, lambda pool, count: pool.take(pool.normal, count)),
    "F16": Format(1, 1, 2, lambda pool, count: pool.take(pool.half, count)),
    "BF16": Format(30, 1, 2, lambda pool, count: pool.take(pool.brain, count)),
    "Q8_0": Format(8, 32, 34, _blocks(34, 32, _q8_0)),
    "Q4_0": Format(2, 32, 18, _blocks(18, 32, _q4_0)),
    "Q4_K": Format(12, 256, 144, _blocks(144, 256, _q4_k)),
    "Q6_K": Format(14, 256, 210, _blocks(210, 256, _q6_k)),
}
# What llama.cpp calls a whole file of such tensors (`general.file_type`).
FILES = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2, "Q4_K": 14, "Q4_K_M": 15}
GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name: str) -> str:
    if not name.startswith("model.layers."):
        return {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[name] + ".weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest]}.weight"


def tensor_format(shape: Shape, file: str, name: str) -> str:
    """Which type a matrix has in a file of type `file`: 4-bit files keep the head, and Q4_K_M half of the value and
    down matrices, at 6 bits."""
    if file not in ("Q4_0", "Q4_K", "Q4_K_M"):
        return file
    wide = name == "lm_head"
    if file == "Q4_K_M" and name.endswith(("v_proj", "down_proj")):
        layer, eighth = int(name.split(".")[2]), shape.layers // 8
        wide = layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2
    return "Q6_K" if wide else file.removesuffix("_M")


def vocabulary(size: int) -> list[str]:
    """Pieces of a SentencePiece-like vocabulary: controls, all bytes, and words nobody wrote."""
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    return [*first, *(f"\u2581w{i}" for i in range(size - len(first)))]


def write_gguf(shape: Shape, path: Path, file: str) -> Path:
    """A GGUF file (version 3) of `shape`, with the trivial vocabulary. `file` is a key of FILES."""
    pieces, pool = vocabulary(shape.vocabulary), Pool()
    kinds = [2, 3, 3, *[6] * 256, *[1] * (len(pieces) - 259)]  # unknown, control, byte, normal
    facts: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": f"random {shape.name}",
        "general.file_type": FILES[file],
        "general.quantization_version": 2,
        "llama.block_count": shape.layers,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.width,
        "llama.feed_forward_length": shape.hidden,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": shape.head_dim,
        "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": shape.vocabulary,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": [-float(i) for i in range(len(pieces))],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }
    tensors = [(gguf_name(n), (c, r), tensor_format(shape, file, n)) for n, r, c in shape.matrices()]
    tensors += [(gguf_name(name), (shape.width,), "F32") for name in shape.norms()]
    with path.open("wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(facts)))
        for key, value in facts.items():
            out.write(_text(key) + _value(value))
        at = 0
        for name, dims, kind in tensors:
            form = FORMATS[kind]
            head = struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, form.number, at)
            out.write(_text(name) + head)
            at += _padded(int(np.prod(dims)) // form.weights * form.nbytes)
        _pad(out)
        for _, dims, kind in tensors:
            count = int(np.prod(dims))
            data = np.ones(count, np.float32) if len(dims) == 1 else FORMATS[kind].make(pool, count)
            data.tofile(out)
            _pad(out)
    return path


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    """A GGUF value with its type number before it: counts are unsigned, except in lists."""
    if isinstance(value, list):
        items = [struct.pack("<Ii", 5, item) if isinstance(item, int) else _value(item) for item in value]
        return struct.pack("<I", 9) + items[0][:4] + struct.pack("<Q", len(items)) + b"".join(i[4:] for i in items)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<I", 8) + _text(value)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _pad(out: BinaryIO) -> None:
    out.write(bytes(_padded(out.tell()) - out.tell()))


def write_folder(shape: Shape, path: Path) -> Path:
    """A Hugging Face folder of `shape` in bfloat16, with the trivial vocabulary as a tokenizer.json."""
    path.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }
    (path / "config.json").write_text(json.dumps(config, indent=2))
    (path / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2}))
    _write_tokenizer(shape, path)
    sizes = {f"{name}.weight": (rows, columns) for name, rows, columns in shape.matrices()}
    sizes |= {f"{name}.weight": (shape.width,) for name in shape.norms()}
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, size in sizes.items():
        stop = at + int(np.prod(size)) * 2
        header[name] = {"dtype": "BF16", "shape": list(size), "data_offsets": [at, stop]}
        at = stop
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    pool = Pool()
    with (path / "model.safetensors").open("wb") as out:
        out.write(struct.pack("<Q", len(head)) + head)
        for size in sizes.values():
            one = np.full(size, 0x3F80, np.uint16) if len(size) == 1 else pool.take(pool.brain, size[0] * size[1])
            one.tofile(out)
    return path


def _write_tokenizer(shape: Shape, path: Path) -> None:
    pieces = vocabulary(shape.vocabulary)
    added = [
        {"id": i, "content": pieces[i], "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for i in range(3)
    ]  # fmt: skip
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "ByteFallback"},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": []},
    }  # fmt: skip
    (path / "tokenizer.json").write_text(json.dumps(whole))
    names = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (path / "tokenizer_config.json").write_text(json.dumps(names))


def make(shape: str, folder: Path, formats: list[str]) -> dict[str, Path]:
    """The files of a shape in `folder`, by format; "bf16" is the Hugging Face folder. What is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in formats:
        path = folder / (f"{shape}-bf16" if name == "bf16" else f"{shape}-{name}.gguf")
        if not path.exists():
            part = path.with_name(path.name + ".part")
            if name == "bf16":
                write_folder(SHAPES[shape], part)
            else:
                write_gguf(SHAPES[shape], part, name)
            part.rename(path)
        found[name] = path
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Writes random-weights LLaMA models for timing.")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--formats", default="bf16,F16,Q8_0,Q4_0,Q4_K_M", help=f"bf16 (a folder), {', '.join(FILES)}")
    asked = parser.parse_args()
    for kind, written in make(asked.shape, asked.folder, asked.formats.split(",")).items():
        file = written / "model.safetensors" if written.is_dir() else written
        print(f"{kind:8} {file.stat().st_size / 1e6:9.1f} MB  {written}")
