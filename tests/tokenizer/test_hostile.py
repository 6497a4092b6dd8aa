"""Mutated vocabulary files: a tokenizer that works or a Paddock error, never another exception, always soon."""

from __future__ import annotations

import base64
import copy
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.errors import PaddockError
from paddock.tokenizer import Tokenizer, from_gguf, load

QUICK, SLOW = 250, 2500
SECONDS = 5.0
TEXT = "the cat </s> <|end|> naïve 中 \n\n 12 [MASK]"
SCALARS = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    2**70,
    1e400,
    "",
    "x",
    "<unk>",
    "▁",
    "\u0000",
    [],
    {},
    [[]],
    "a" * 100_000,
)


def mutate_tree(tree: Any, rng: random.Random) -> Any:
    """One to three changes of a JSON tree: another type, a deletion, a doubling, a piece put elsewhere."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        holder, key = _somewhere(tree, rng)
        if key is None:
            return rng.choice(SCALARS)
        match rng.randrange(6):
            case 0:
                del holder[key]
            case 1:
                _, other = _somewhere(tree, rng)
                holder[key] = copy.deepcopy(tree.get(other)) if isinstance(other, str) else rng.choice(SCALARS)
            case 2 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case 2:
                holder[rng.choice(("id", "type", "vocab", "zzz", str(key) + "x"))] = copy.deepcopy(holder[key])
            case 3 if isinstance(holder[key], str):
                holder[key] = holder[key][: len(holder[key]) // 2] + rng.choice(("", "\u2581", "##", "\ufdd0"))
            case 3 if isinstance(holder[key], int):
                holder[key] = holder[key] + rng.choice((-1, 1, 2**20, 2**32))
            case _:
                holder[key] = rng.choice(SCALARS)
    return tree


def _somewhere(tree: Any, rng: random.Random) -> tuple[Any, Any]:
    """A random place: a container and a key in it. Upper levels are as likely as the long lists below."""
    holder, key = tree, None
    while isinstance(tree, (dict, list)) and tree:
        key = rng.choice(list(tree)) if isinstance(tree, dict) else rng.randrange(len(tree))
        holder, tree = tree, tree[key]
        if rng.random() < 0.35:
            break
    return holder, key


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Cuts, flips, insertions, and numbers blown up, at one to four places; half of them near the start."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(out), 200 if rng.random() < 0.5 else len(out)) or 1) if out else 0
        match rng.randrange(6):
            case 0:
                del out[at:]
            case 1:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                out[at:at] = rng.randbytes(rng.randint(1, 9))
            case 3:
                del out[at : at + rng.randint(1, 40)]
            case 4:
                out[at : at + 4] = rng.choice(
                    (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\0\0\xc0\x7f")
                )
            case _:
                out[at:at] = out[at : at + rng.randint(1, 60)]
    return bytes(out)


def survive(make: Callable[[], Tokenizer]) -> str:
    """Loads and uses a tokenizer; anything but a Paddock error fails the test by escaping."""
    start = time.process_time()
    outcome = "used"
    try:
        tokenizer = make()
        ids = tokenizer.encode(TEXT) + tokenizer.encode(TEXT, "parse")
        stream = tokenizer.stream()
        assert "".join(map(stream.push, ids)) + stream.finish() == tokenizer.decode(ids)
        tokenizer.explain("the cat")
        tokenizer.files()
    except PaddockError as error:
        assert str(error).strip()
        outcome = "refused"
    assert time.process_time() - start < SECONDS
    return outcome


def run(cases: int, make: Callable[[random.Random], Callable[[], Tokenizer]]) -> None:
    outcomes = []

    @settings(max_examples=cases, derandomize=True, deadline=None, database=None)
    @given(st.integers(0, 2**62))
    def one(seed: int) -> None:
        outcomes.append(survive(make(random.Random(seed))))

    one()
    assert outcomes.count("refused") > cases // 20  # the mutations do reach the checks


TREES = {"byte level": tiny.byte_level, "word piece": tiny.wordpiece, "unigram": tiny.unigram, "scored": tiny.scored}


def json_fuzz(name: str, folder: Path) -> Callable[[random.Random], Callable[[], Tokenizer]]:
    tree = TREES[name]()
    path = folder / "tokenizer.json"

    def make(rng: random.Random) -> Callable[[], Tokenizer]:
        text = json.dumps(mutate_tree(tree, rng), ensure_ascii=False)
        data = text.encode("utf-8", "replace")
        path.write_bytes(mutate_bytes(data, rng) if rng.random() < 0.15 else data)
        return lambda: load(path)

    return make


def bytes_fuzz(data: bytes, path: Path) -> Callable[[random.Random], Callable[[], Tokenizer]]:
    def make(rng: random.Random) -> Callable[[], Tokenizer]:
        path.write_bytes(mutate_bytes(data, rng))
        return lambda: load(path)

    return make


def files(trained: Callable[..., bytes]) -> dict[str, tuple[str, bytes]]:
    """Every other kind of file: a name and its bytes."""
    vocab = tiny.byte_level()["model"]["vocab"]
    wordpiece = tiny.wordpiece()["model"]["vocab"]
    ranks = "".join(f"{b} {i}\n" for i, b in enumerate(_base64_bytes()))
    return {
        "tokenizer.bin": ("tokenizer.bin", tiny.llama2c()),
        "bpe model": ("tokenizer.model", trained(model_type="bpe", vocab_size=360, byte_fallback=True)),
        "unigram model": ("spiece.model", trained(model_type="unigram", vocab_size=120)),
        "vocab.json": ("vocab.json", json.dumps(vocab).encode()),
        "vocab.txt": ("vocab.txt", "\n".join(wordpiece).encode()),
        "ranks": ("qwen.tiktoken", ranks.encode()),
        "rwkv": ("rwkv_vocab_v1.txt", tiny.rwkv().encode()),
        "characters": ("letters.vocab", "\n".join(tiny.characters()).encode()),
    }


def _base64_bytes() -> list[str]:
    return [base64.b64encode(bytes([byte])).decode() for byte in range(256)]


FILES = ("tokenizer.bin", "bpe model", "unigram model", "vocab.json", "vocab.txt", "ranks", "rwkv", "characters")
CONFIG = {"tokenizer_class": "QWenTokenizer"}


def file_fuzz(
    name: str, folder: Path, trained: Callable[..., bytes]
) -> Callable[[random.Random], Callable[[], Tokenizer]]:
    file, data = files(trained)[name]
    if name == "vocab.json":
        (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    if name == "ranks":
        tiny.write_json(folder / "tokenizer_config.json", CONFIG)
    return bytes_fuzz(data, folder / file)


GGUF = {"llama": tiny.gguf_llama, "gpt2": tiny.gguf_gpt2, "bert": tiny.gguf_bert, "t5": tiny.gguf_t5}


def gguf_fuzz(name: str) -> Callable[[random.Random], Callable[[], Tokenizer]]:
    def make(rng: random.Random) -> Callable[[], Tokenizer]:
        metadata = mutate_tree(GGUF[name](), rng)
        return lambda: from_gguf(metadata if isinstance(metadata, dict) else {})

    return make


def side_fuzz(folder: Path) -> Callable[[random.Random], Callable[[], Tokenizer]]:
    tiny.write_json(folder / "tokenizer.json", tiny.scored())
    config = {
        "add_bos_token": True,
        "bos_token": "<s>",
        "eos_token": {"content": "</s>", "lstrip": False},
        "added_tokens_decoder": {
            "273": {"content": "<x>", "special": True},
            "274": {"content": "ab", "special": False},
        },
        "additional_special_tokens": ["<x>"],
        "tokenizer_class": "LlamaTokenizer",
    }

    def make(rng: random.Random) -> Callable[[], Tokenizer]:
        tiny.write_json(folder / "tokenizer_config.json", mutate_tree(config, rng))
        tiny.write_json(folder / "added_tokens.json", mutate_tree({"<x>": 273, "ab": 274}, rng))
        return lambda: load(folder)

    return make


@pytest.mark.parametrize("name", TREES)
def test_tokenizer_json(name: str, tmp_path: Path) -> None:
    run(QUICK, json_fuzz(name, tmp_path))


@pytest.mark.parametrize("name", FILES)
def test_other_files(name: str, tmp_path: Path, trained: Callable[..., bytes]) -> None:
    run(QUICK, file_fuzz(name, tmp_path, trained))


@pytest.mark.parametrize("name", GGUF)
def test_gguf_metadata(name: str) -> None:
    run(QUICK, gguf_fuzz(name))


def test_side_files(tmp_path: Path) -> None:
    run(QUICK, side_fuzz(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", TREES)
def test_tokenizer_json_long(name: str, tmp_path: Path) -> None:
    run(SLOW, json_fuzz(name, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_other_files_long(name: str, tmp_path: Path, trained: Callable[..., bytes]) -> None:
    run(SLOW, file_fuzz(name, tmp_path, trained))


@pytest.mark.slow
@pytest.mark.parametrize("name", GGUF)
def test_gguf_metadata_long(name: str) -> None:
    run(SLOW, gguf_fuzz(name))


@pytest.mark.slow
def test_side_files_long(tmp_path: Path) -> None:
    run(SLOW, side_fuzz(tmp_path))
