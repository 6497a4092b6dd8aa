"""Vocabularies as GGUF metadata: what comes back encodes alike; what would not is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddock import tokenizer
from paddock.checkpoint.gguf import GGUFFile
from paddock.engine.locate import bundled
from paddock.errors import TokenizerError
from paddock.tokenizer.gguf import PREFIX, from_gguf
from paddock.tokenizer.gguf_write import to_gguf
from paddock.tokenizer.modelproto import UNUSED
from paddock.tokenizer.tokenizer import Tokenizer

TEXT = "Once upon a time, 1234 friends ate 12.5 pies in naïve café. 开放的语言模型 🙂\n\tDon't  stop!"
FILES = {
    "bert/vocab.txt": "bert",
    "gpt2/vocab.json": "gpt-2",
    "llama/tokenizer.model": "llama",
    "t5/spiece.model": "t5",
    "t5/tokenizer.json": "t5",
    "sentencepiece/test_model.model": "t5",
    "ggml-vocab/ggml-vocab-falcon.gguf": "falcon",
    "ggml-vocab/ggml-vocab-starcoder.gguf": "starcoder",
}


def read(path: Path) -> Tokenizer:
    return from_gguf(dict(GGUFFile(path).metadata)) if path.suffix == ".gguf" else tokenizer.load(path)


def same(one: Tokenizer, two: Tokenizer) -> None:
    assert one.encode(TEXT) == two.encode(TEXT)
    assert one.decode(one.encode(TEXT)) == two.decode(two.encode(TEXT))
    assert one.specials.items() <= two.specials.items() | one.specials.items()
    for role in ("bos", "eos"):
        assert one.specials.get(role) == two.specials.get(role)


SLOW = ("t5/tokenizer.json", "ggml-vocab/ggml-vocab-falcon.gguf", "ggml-vocab/ggml-vocab-starcoder.gguf")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in FILES])
def test_published_vocabularies_come_back(shared_data: Path, name: str) -> None:
    original = read(shared_data / "tokenizers" / name)
    metadata = to_gguf(original, len(original) + 2, "llama")
    assert FILES[name] in (metadata[PREFIX + "model"], metadata.get(PREFIX + "pre"))
    assert metadata[PREFIX + "tokens"][-1] == f"[PAD{len(original) + 1}]"
    assert metadata[PREFIX + "token_type"][-1] == UNUSED
    same(original, from_gguf(metadata))


def test_the_bundled_vocabulary_and_the_ends_of_its_model() -> None:
    original = tokenizer.load(bundled())
    metadata = to_gguf(original, len(original), "llama", ends=[2, 1])
    back = from_gguf(metadata)
    same(original, back)
    assert back.eos_ids == (2, 1) and back.adds_bos and not back.adds_eos
    assert metadata[PREFIX + "token_type"][:4].tolist() == [2, 3, 3, 6]


def test_more_pieces_than_rows_are_refused() -> None:
    with pytest.raises(TokenizerError, match="512 pieces and the model 500 rows"):
        to_gguf(tokenizer.load(bundled()), 500, "llama")


def changed(tmp_path: Path, **change: object) -> Tokenizer:
    tree = json.loads((bundled() / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps({**tree, **change}), encoding="utf-8")
    return tokenizer.load(tmp_path)


def test_a_rewriting_that_gguf_has_no_word_for_is_refused(tmp_path: Path) -> None:
    lower = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "Prepend", "prepend": "▁"}]}
    with pytest.raises(TokenizerError, match="no way to say"):
        to_gguf(changed(tmp_path, normalizer=lower), 512, "llama")


def test_a_wrapping_that_gguf_has_no_flag_for_is_refused(tmp_path: Path) -> None:
    sides = [{"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    known = {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}
    template = {"type": "TemplateProcessing", "single": sides, "pair": sides, "special_tokens": known}
    with pytest.raises(TokenizerError, match="no way to say"):
        to_gguf(changed(tmp_path, post_processor=template), 512, "llama")


def test_case_that_counts_is_refused_as_llama_cpp_folds_it(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nThe\ncat\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    with pytest.raises(TokenizerError, match="no way to say"):
        to_gguf(tokenizer.load(tmp_path), 7, "bert")
