"""Ids and texts beside the field's own libraries, on random Unicode with control tokens spelled in it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_text

from paddock.checkpoint.writing import write_text
from paddock.tokenizer import Tokenizer, load
from paddock.tokenizer.decoding import CHARACTERS_TO_BYTES

transformers = pytest.importorskip("transformers", reason="transformers is the oracle here")
Encode = Callable[[str], list[int]]
Real = Callable[[str], Tokenizer]


def plain(tokenizer: Tokenizer) -> Encode:
    return lambda text: tokenizer.encode(text, add_special=False)


def parsed(tokenizer: Tokenizer) -> Encode:
    return lambda text: tokenizer.encode(text, "parse", add_special=False)


def same(ours: Encode, theirs: Encode, cases: int = 200, without: str = "") -> None:
    """Both give the same ids: on texts of awkward pieces, and on texts of hypothesis's choosing."""

    @settings(max_examples=cases, derandomize=True, deadline=None, database=None)
    @given(st.one_of(st.text(max_size=40), st.integers(0, 2**40)))
    def one(case: str | int) -> None:
        text = random_text(random.Random(case), without=without) if isinstance(case, int) else case
        text = text.translate({ord(character): None for character in without})
        assert ours(text) == list(theirs(text))

    one()


SENTENCEPIECE = ("llama/tokenizer.model", "t5/spiece.model", "glm/cog-pretrain.model", "sentencepiece/test_model.model")


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_sentencepiece(name: str, real: Real, shared_data: Path) -> None:
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(shared_data / "tokenizers" / name))
    same(plain(real(name)), oracle.encode)


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_sentencepiece_decoding(name: str, real: Real, shared_data: Path) -> None:
    """Ids at random; the libraries differ on bytes that are no text, and we leave control tokens out."""
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(shared_data / "tokenizers" / name))
    tokenizer = real(name)
    rng = random.Random(0)
    compared = 0
    for _ in range(1000):
        ids = [rng.randrange(len(oracle)) for _ in range(rng.randint(0, 8))]
        ids = [id for id in ids if not oracle.is_control(id) and not oracle.is_unknown(id)]
        expected = oracle.decode(ids)
        if "\ufffd" not in expected:
            assert tokenizer.decode(ids) == expected
            compared += 1
    assert compared > 500


@pytest.mark.parametrize("name", ["gpt-neox/20B_tokenizer.json", "t5/tokenizer.json"])
def test_tokenizers_library(name: str, real: Real, shared_data: Path) -> None:
    oracle = tokenizers.Tokenizer.from_file(str(shared_data / "tokenizers" / name))
    tokenizer = real(name)
    same(parsed(tokenizer), lambda text: oracle.encode(text, add_special_tokens=False).ids)
    rng = random.Random(1)
    for _ in range(500):
        ids = [rng.randrange(len(tokenizer)) for _ in range(rng.randint(0, 9))]
        assert tokenizer.decode(ids) == oracle.decode(ids, skip_special_tokens=True)
        assert tokenizer.decode(ids, skip_special=False) == oracle.decode(ids, skip_special_tokens=False)


def test_gpt2_files(real: Real, shared_data: Path) -> None:
    folder = shared_data / "tokenizers/gpt2"
    oracle = transformers.GPT2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    same(parsed(real("gpt2")), lambda text: oracle.encode(text, add_special_tokens=False))


def test_bert_vocabulary(real: Real, shared_data: Path) -> None:
    oracle = transformers.BertTokenizer(str(shared_data / "tokenizers/bert/vocab.txt"))
    tokenizer = real("bert/vocab.txt")
    same(parsed(tokenizer), lambda text: oracle.encode(text, add_special_tokens=False))
    assert tokenizer.encode("Hello world.") == oracle.encode("Hello world.")
    ids = tokenizer.encode("It isn't the cat's, he said: no!")
    assert tokenizer.decode(ids) == oracle.backend_tokenizer.decode(ids)


def test_tiktoken(real: Real, shared_data: Path, tmp_path: Path) -> None:
    """GPT-2's ranks written as a rank file: our reader, our GPT-2 reader and tiktoken agree."""
    tiktoken = pytest.importorskip("tiktoken")
    ranks = gpt2_ranks(shared_data)
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    oracle = tiktoken.Encoding(
        "gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ranks)}
    )
    write_text(tmp_path / "gpt2.tiktoken", rank_file(ranks))
    tokenizer = load(tmp_path)
    assert tokenizer.source == "gpt2.tiktoken (tiktoken ranks)"
    same(plain(tokenizer), lambda text: oracle.encode(text, disallowed_special=()))
    same(parsed(tokenizer), lambda text: oracle.encode(text, allowed_special="all"))
    assert tokenizer.fingerprint() == real("gpt2").fingerprint()


def gpt2_ranks(shared_data: Path) -> dict[bytes, int]:
    vocab: dict[str, Any] = json.loads((shared_data / "tokenizers/gpt2/vocab.json").read_text("utf-8"))
    del vocab["<|endoftext|>"]
    return {bytes(CHARACTERS_TO_BYTES[character] for character in piece): id for piece, id in vocab.items()}


def rank_file(ranks: dict[bytes, int]) -> str:
    import base64

    return "".join(f"{base64.b64encode(piece).decode()} {rank}\n" for piece, rank in ranks.items())


SAVED = {
    "llama/tokenizer.bin": "\u2581",  # the one character that llama2.c and tokenizer.json take differently
    "../weights/llama2c/tok512.bin": "\u2581",
    "llama/tokenizer.model": "",
    "mistral/tokenizer.model.v1": "",
    "ggml-vocab/ggml-vocab-llama-spm.gguf": "",
    "ggml-vocab/ggml-vocab-gpt-2.gguf": "",
    "ggml-vocab/ggml-vocab-falcon.gguf": "",
    "ggml-vocab/ggml-vocab-bert-bge.gguf": "",
    "gpt-neox/20B_tokenizer.json": "",
    "t5/tokenizer.json": "",
    "bert/vocab.txt": "",
}


@pytest.mark.parametrize("name", SAVED)
def test_saved_folders_load_in_transformers(name: str, real: Real, tmp_path: Path) -> None:
    tokenizer = real(name)
    tokenizer.save(tmp_path)
    oracle = transformers.AutoTokenizer.from_pretrained(tmp_path)
    again = load(tmp_path)
    same(parsed(tokenizer), lambda text: oracle.encode(text, add_special_tokens=False), 60, SAVED[name])
    same(plain(tokenizer), plain(again), 60, SAVED[name])
    sentence = "Once upon a time, there was a naïve cat: 12,345 times 中国!"
    assert tokenizer.encode(sentence) == oracle.encode(sentence) == again.encode(sentence)
    assert again.specials == tokenizer.specials
    assert (again.bos_id, again.eos_ids, again.before, again.after) == (
        *(tokenizer.bos_id, tokenizer.eos_ids),
        *(tokenizer.before, tokenizer.after),
    )
    assert oracle.eos_token_id == (tokenizer.eos_ids[0] if tokenizer.eos_ids else None)
    assert again.fingerprint() == tokenizer.fingerprint()


def test_a_saved_t5_model_loads_again(real: Real, tmp_path: Path) -> None:
    """A unigram model keeps its own file: tokenizer.json's library normalises some texts otherwise."""
    tokenizer = real("t5/spiece.model")
    assert sorted(path.name for path in tokenizer.save(tmp_path)) == ["spiece.model", "tokenizer_config.json"]
    again = load(tmp_path)
    assert (again.after, len(again), again.specials) == (tokenizer.after, len(tokenizer), tokenizer.specials)
    same(plain(tokenizer), plain(again), 100)
