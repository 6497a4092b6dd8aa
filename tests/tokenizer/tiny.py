"""Vocabularies small enough to write out, and texts that are hard on tokenizers."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

from paddock.tokenizer.decoding import BYTES_TO_CHARACTERS
from paddock.tokenizer.pretokenizers import GPT2
from paddock.tokenizer.specials import Added, Wrapping
from paddock.tokenizer.trees import byte_level_tree, scored_tree, wordpiece_tree

SENTENCES = (
    "the cat sat on the mat and the dog sat on the log",
    "a stitch in time saves nine, said the old man to the young one",
    "Once upon a time there was a little girl named Lily.",
    "开放的语言模型在自己的土地上运行",
    "naïve café déjà vu — 12,345 times!",
)

# Characters and runs at which tokenizers differ or break.
AWKWARD = (
    *(
        "hello",
        " ",
        "  ",
        "   x",
        "\n",
        "\t",
        "\r\n",
        "é",
        "e\u0301",
        "中",
        "日本",
        "한국어",
        "🙂",
        "👩‍👩‍👧",
        "\u0000",
        "\ufeff",
        "\u200d",
    ),
    *(
        "\u3000",
        "\xa0",
        "##",
        "<s>",
        "</s>",
        "<unk>",
        "[MASK]",
        "[CLS]",
        "<|endoftext|>",
        "<0x0A>",
        "1234567",
        "'s",
        "'LL",
    ),
    *("ﬁ", "Ⅳ", "½", "...", "$", "ß", "İ", "ſ", "\u0345", "ا", "نص", "ไทย", "हिन्दी", "a" * 20, "\u2028", "\x85"),
    *("\U000e0001", "\U0010ffff", "\ue000", "\ufffd", "ё", "<extra_id_0>", "the cat", "time"),
)


def random_text(rng: random.Random, longest: int = 12, without: str = "") -> str:
    """A text of awkward and random characters, none of them in `without`."""
    parts = []
    for _ in range(rng.randint(0, longest)):
        if rng.random() < 0.6:
            parts.append(rng.choice(AWKWARD))
        else:
            low, high = rng.choice(((0, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0x10FFFF)))
            parts.append(chr(rng.randint(low, high)))
    return "".join(parts).translate({ord(character): None for character in without})


def byte_level(merges: list[str] | None = None, added: list[Added] | None = None) -> dict[str, Any]:
    """Byte-level BPE with a handful of merges; `<|end|>` is control token 300, "<3" an ordinary added token."""
    pairs = [pair.split(" ") for pair in (merges or ["t h", "th e", "Ġ the", "Ġ c", "a t", "Ġc at", "l l"])]
    pieces = [*BYTES_TO_CHARACTERS.values(), *(left + right for left, right in pairs)]
    vocab = {piece: id for id, piece in enumerate(pieces)}
    count = len(vocab)
    tokens = added or [Added(count, "<|end|>", control=True), Added(count + 1, "<3", control=False)]
    return byte_level_tree(vocab, pairs, GPT2, tokens)


def wordpiece() -> dict[str, Any]:
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "the",
        "cat",
        "##s",
        "un",
        "##known",
        ".",
        "##.",
        "isn",
        "'",
    ]
    pieces += [chr(letter) for letter in range(97, 123)] + [f"##{chr(letter)}" for letter in range(97, 123)]
    vocab = {piece: id for id, piece in enumerate(dict.fromkeys(pieces))}
    controls = [Added(id, piece, control=True) for id, piece in enumerate(pieces[:5])]
    return wordpiece_tree(vocab, controls, Wrapping((2,), (3,)))


def unigram() -> dict[str, Any]:
    pieces = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁", -2.0], ["▁the", -3.0], ["▁cat", -4.0]]
    pieces += [[chr(letter), -6.0 - letter / 100] for letter in range(97, 123)]
    tree = byte_level()
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    added = [{"id": id, "content": text, "special": True} for id, text in enumerate(("<pad>", "</s>", "<unk>"))]
    entries = [entry | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) for entry in added]
    model = {"type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": False}
    return tree | {"model": model, "added_tokens": entries, "pre_tokenizer": space, "decoder": space}


def scored() -> dict[str, Any]:
    """SentencePiece BPE with byte fallback, as merges."""
    pieces, scores = spm_pieces()
    vocab = {piece: id for id, piece in enumerate(pieces)}
    controls = [Added(id, piece, control=True) for id, piece in enumerate(pieces[:3])]
    return scored_tree(vocab, scores, pieces[259:], controls, Wrapping((1,)), True, True, "<unk>")


def spm_pieces() -> tuple[list[str], list[float]]:
    """<unk>, <s>, </s>, 256 bytes, then a few pieces with scores."""
    words = ["▁", "t", "h", "e", "c", "a", "▁t", "he", "▁the", "at", "▁c", "▁cat", "é", "中"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    return pieces, [0.0] * 259 + [-float(place) for place in range(len(words))]


def gguf_llama() -> dict[str, Any]:
    pieces, scores = spm_pieces()
    types = [2, 3, 3, *[6] * 256, *[1] * (len(pieces) - 259)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
    }


def gguf_gpt2() -> dict[str, Any]:
    model = byte_level()["model"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*model["vocab"], "<|end|>", "<3", "[PAD265]"],
        "tokenizer.ggml.token_type": [1] * len(model["vocab"]) + [3, 4, 4],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.eos_token_id": len(model["vocab"]),
        "tokenizer.ggml.add_bos_token": False,
    }


def gguf_bert() -> dict[str, Any]:
    pieces = list(wordpiece()["model"]["vocab"])
    spelled = [piece[2:] if piece.startswith("##") else piece if piece[0] == "[" else "▁" + piece for piece in pieces]
    roles = {"unknown": 1, "cls": 2, "seperator": 3, "padding": 0, "mask": 4}
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": spelled,
        "tokenizer.ggml.token_type": [3] * 5 + [1] * (len(pieces) - 5),
    } | {f"tokenizer.ggml.{role}_token_id": id for role, id in roles.items()}


def gguf_t5() -> dict[str, Any]:
    vocab = unigram()["model"]["vocab"]
    return {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.tokens": [piece for piece, _ in vocab],
        "tokenizer.ggml.scores": [score for _, score in vocab],
        "tokenizer.ggml.token_type": [3, 3, 2] + [1] * (len(vocab) - 3),
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.remove_extra_whitespaces": True,
    }


def llama2c() -> bytes:
    """The same vocabulary as tokenizer.bin."""
    pieces, scores = spm_pieces()
    body = b""
    for id, (piece, score) in enumerate(zip(pieces, scores, strict=True)):
        data = (f"\n{piece}\n" if id in (1, 2) else piece.replace("▁", " ")).encode()
        body += struct.pack("<fi", score, len(data)) + data
    return struct.pack("<i", 6) + body


def rwkv() -> str:
    """All bytes and two words, as RWKV's vocabulary file writes them."""
    bytes_ = "".join(f"{byte + 1} {bytes([byte])!r} 1\n" for byte in range(256))
    return bytes_ + "257 'the' 3\n258 ' cat' 4\n"


def characters() -> list[str]:
    return ["<unk>", "<s>", "</s>", "▁", *"abcdefghit"]


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path
