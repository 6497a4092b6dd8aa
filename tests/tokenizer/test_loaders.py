"""Which file is read, what the files beside it say, and what each kind of file refuses."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from paddock.errors import PaddockError, TokenizerError, UsageError
from paddock.tokenizer import from_gguf, load, write_llama2c
from paddock.tokenizer.modelproto import USER_DEFINED, Piece, parse_model, write_model
from paddock.tokenizer.specials import Wrapping


def test_the_order_of_choice(tmp_path: Path, trained: Callable[..., bytes]) -> None:
    """Files are added from the last choice to the first; each time the new one is read."""
    with pytest.raises(TokenizerError, match="holds no tokenizer"):
        load(tmp_path)
    steps: list[tuple[str, bytes, str]] = [
        ("letters.vocab", "\n".join(tiny.characters()).encode(), "letters.vocab"),
        ("rwkv_vocab_v1.txt", tiny.rwkv().encode(), "rwkv_vocab_v1.txt (RWKV)"),
        ("tokenizer.bin", tiny.llama2c(), "tokenizer.bin (llama2.c)"),
        ("vocab.txt", "\n".join(tiny.wordpiece()["model"]["vocab"]).encode(), "vocab.txt"),
        ("vocab.json", json.dumps(tiny.byte_level()["model"]["vocab"]).encode(), "vocab.json and merges.txt"),
        ("spiece.model", trained(model_type="unigram", vocab_size=120), "spiece.model"),
        ("tokenizer.model", trained(model_type="bpe", vocab_size=360, byte_fallback=True), "tokenizer.model"),
        ("tokenizer.json", json.dumps(tiny.scored()).encode(), "tokenizer.json"),
    ]
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\n")
    for name, data, source in steps:
        (tmp_path / name).write_bytes(data)
        assert load(tmp_path).source == source
        assert load(tmp_path / name).source == source


def folder(path: Path, tree: dict[str, Any], **files: Any) -> Path:
    tiny.write_json(path / "tokenizer.json", tree)
    for name, value in files.items():
        tiny.write_json(path / f"{name}.json", value)
    return path


def test_roles_come_from_the_config_then_the_map_then_usual_spellings(tmp_path: Path) -> None:
    assert load(folder(tmp_path, tiny.scored())).specials == {"unk": 0, "bos": 1, "eos": 2}
    entry = {"content": "</s>", "lstrip": False}
    tokenizer = load(folder(tmp_path, tiny.scored(), tokenizer_config={"bos_token": entry}))
    assert tokenizer.specials == {"bos": 2, "<s>": 1, "<unk>": 0}
    assert tokenizer.eos_ids == ()
    tokenizer = load(folder(tmp_path, tiny.scored(), special_tokens_map={"eos_token": "<s>", "bos_token": "<s>"}))
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (2, (1,))


def test_flags_decide_on_bos_and_eos(tmp_path: Path) -> None:
    for bos, eos, wrapping in ((True, True, ((1,), (2,))), (False, None, ((), ())), (None, True, ((), (2,)))):
        config = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": bos, "add_eos_token": eos}
        tokenizer = load(folder(tmp_path, tiny.scored(), tokenizer_config=config))
        assert (tokenizer.before, tokenizer.after) == wrapping
        assert (tokenizer.adds_bos, tokenizer.adds_eos) == (bool(wrapping[0]), bool(wrapping[1]))
    with pytest.raises(TokenizerError, match="add_bos_token is 'yes'"):
        load(folder(tmp_path, tiny.scored(), tokenizer_config={"add_bos_token": "yes"}))


def test_tokens_that_only_the_side_files_list(tmp_path: Path) -> None:
    table = {"273": {"content": "<|im_start|>", "special": False}, "274": {"content": "ab", "special": False}}
    config = {"added_tokens_decoder": table}
    tokenizer = load(folder(tmp_path, tiny.scored(), tokenizer_config=config, added_tokens={"<x>": 275}))
    assert len(tokenizer) == 276
    plain = tokenizer.encode("<|im_start|>ab<x>", add_special=False)
    assert 274 in plain and 275 in plain  # ordinary added tokens are found in any text
    assert 273 not in plain  # spelled like a control token: never, whatever the file says of it
    assert 273 in tokenizer.encode_rendered("<|im_start|>ab")


def test_added_tokens_that_swallow_blanks(tmp_path: Path, trained: Callable[..., bytes]) -> None:
    (tmp_path / "tokenizer.model").write_bytes(
        trained(model_type="bpe", vocab_size=360, byte_fallback=True, normalization_rule_name="identity")
    )
    count = len(load(tmp_path))
    table = {str(count): {"content": "<m>", "special": True, "lstrip": True, "rstrip": True}}
    tiny.write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": table, "legacy": False})
    tokenizer = load(tmp_path)
    assert tokenizer.encode("the  <m>  cat", "parse", False) == tokenizer.encode("the<m>cat", "parse", False)
    assert tokenizer.encode("a<m>", "parse", False)[-1] == count


def test_legacy_decides_on_blanks_after_control_tokens(tmp_path: Path, trained: Callable[..., bytes]) -> None:
    options = {"model_type": "bpe", "vocab_size": 360, "byte_fallback": True, "normalization_rule_name": "identity"}
    (tmp_path / "tokenizer.model").write_bytes(trained(**options, remove_extra_whitespaces=False))
    for legacy in (None, True, False):
        tiny.write_json(tmp_path / "tokenizer_config.json", {"legacy": legacy})
        tokenizer = load(tmp_path)
        after = tokenizer.encode("a</s>the", "parse", False)
        start = after.index(2) + 1
        assert (after[start:] == tokenizer.encode("the", add_special=False)) == (legacy is not False)
        tokenizer.save(tmp_path / str(legacy))
        again = load(tmp_path / str(legacy))
        assert again.source == "tokenizer.json"
        assert again.encode("a</s>the </s>", "parse") == tokenizer.encode("a</s>the </s>", "parse")


def test_user_defined_pieces(tmp_path: Path, trained: Callable[..., bytes]) -> None:
    """Such a piece is found in text, unless it is spelled like a control token or the config calls it special."""
    model = parse_model(trained(model_type="bpe", vocab_size=360, byte_fallback=True), "model")
    model.pieces += [Piece(text, 0.0, USER_DEFINED) for text in ("<tab>", "<|im_end|>", "<start_of_turn>")]
    count = len(model.pieces)
    (tmp_path / "tokenizer.model").write_bytes(write_model(model))
    text = "a<tab><|im_end|><start_of_turn>"
    assert set(load(tmp_path).encode(text)) & set(range(count - 3, count)) == {count - 3, count - 1}
    tiny.write_json(tmp_path / "tokenizer_config.json", {"additional_special_tokens": ["<start_of_turn>"]})
    tokenizer = load(tmp_path)
    assert set(tokenizer.encode(text)) & set(range(count - 3, count)) == {count - 3}
    assert set(tokenizer.encode(text, "parse")) >= set(range(count - 3, count))


def test_t5_sentinels(tmp_path: Path, trained: Callable[..., bytes]) -> None:
    (tmp_path / "spiece.model").write_bytes(trained(model_type="unigram", vocab_size=120))
    count = len(load(tmp_path))
    tiny.write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"})
    tokenizer = load(tmp_path)
    assert len(tokenizer) == count + 100
    assert (tokenizer.id_of("<extra_id_0>"), tokenizer.id_of("<extra_id_99>")) == (count + 99, count)
    assert tokenizer.before == () and tokenizer.after == tokenizer.eos_ids
    tiny.write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"})
    with pytest.raises(TokenizerError, match="numbers its pieces otherwise"):
        load(tmp_path)


def test_case_and_accents_of_bert(tmp_path: Path) -> None:
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "The", "cafe", "café"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    assert load(tmp_path).encode("The café", add_special=False) == [5, 7]
    tiny.write_json(tmp_path / "tokenizer_config.json", {"do_lower_case": False})
    assert load(tmp_path).encode("The café", add_special=False) == [6, 8]


def test_how_qwen_cuts_words(tmp_path: Path) -> None:
    tree = tiny.byte_level(merges=["1 2", "a b"])
    tiny.write_json(tmp_path / "vocab.json", tree["model"]["vocab"])
    (tmp_path / "merges.txt").write_text("1 2\na b\n")
    assert len(load(tmp_path).encode("12ab")) == 2
    tiny.write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer"})
    assert len(load(tmp_path).encode("12ab")) == 3  # each digit by itself
    tiny.write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "SomeTokenizer"})
    with pytest.raises(TokenizerError, match="does not know how that cuts text"):
        load(tmp_path)


def test_llama2c_there_and_back(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.bin").write_bytes(tiny.llama2c())
    write_llama2c(tmp_path / "again.bin", load(tmp_path))
    assert (tmp_path / "again.bin").read_bytes() == tiny.llama2c()
    write_llama2c(tmp_path / "gguf.bin", from_gguf(tiny.gguf_llama()))
    assert (tmp_path / "gguf.bin").read_bytes() == tiny.llama2c()
    tiny.write_json(tmp_path / "tokenizer.json", tiny.byte_level())
    with pytest.raises(UsageError, match=r"no tokenizer\.bin form"):
        write_llama2c(tmp_path / "no.bin", load(tmp_path))
    assert not (tmp_path / "no.bin").exists()


def test_chatglm(tmp_path: Path, trained: Callable[..., bytes]) -> None:
    """White space as pieces, image tokens in front, control tokens behind; and never a control token from text."""
    blanks = ["<n>", "<|tab|>", "<|blank_2|>", "<|blank_80|>"]
    controls = ["[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"]
    options = {"model_type": "bpe", "vocab_size": 360, "byte_fallback": True, "normalization_rule_name": "identity"}
    data = trained(**options, user_defined_symbols=",".join([*blanks, *controls]), remove_extra_whitespaces=False)
    (tmp_path / "ice_text.model").write_bytes(data)
    for shift in (20000, 0):
        if not shift:
            tiny.write_json(tmp_path / "tokenizer_config.json", {"num_image_tokens": 0})
        tokenizer = load(tmp_path)
        gmask, sop, eop = (tokenizer.id_of(text) for text in ("[gMASK]", "<sop>", "<eop>"))
        text = "the\ncat\t  sat" + " " * 80 + "on"
        ids = tokenizer.encode(text)
        assert ids[-2:] == [gmask, sop] and tokenizer.eos_ids == (eop,)
        assert min(ids) >= shift and tokenizer.decode(ids) == text
        found = [piece for piece in map(tokenizer.piece, ids) if piece in blanks]
        assert found == ["<n>", "<|tab|>", "<|blank_2|>", "<|blank_80|>"]
        assert not {gmask, sop, eop} & set(tokenizer.encode("[gMASK] <sop> <eop>", add_special=False))
        assert tokenizer.encode_rendered("a[gMASK]<sop>")[-2:] == [gmask, sop]


def test_chatglm2(tmp_path: Path, trained: Callable[..., bytes]) -> None:
    (tmp_path / "tokenizer.model").write_bytes(trained(model_type="bpe", vocab_size=360, byte_fallback=True))
    count = len(load(tmp_path))
    tiny.write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "ChatGLMTokenizer"})
    tokenizer = load(tmp_path)
    assert len(tokenizer) == count + 5
    assert tokenizer.encode("the")[:2] == [count + 1, count + 3] == list(tokenizer.before)
    assert tokenizer.encode_rendered("sop eop")[2:] == tokenizer.encode("sop eop", add_special=False)
    assert tokenizer.eos_ids == (2,) and tokenizer.pad_id == 0


def test_gguf_settings() -> None:
    metadata = tiny.gguf_llama()
    assert from_gguf(metadata).before == (1,)
    extra = {"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_eos_token": True}
    tokenizer = from_gguf(metadata | extra | {"tokenizer.ggml.eos_token_id": 2})
    assert (tokenizer.before, tokenizer.after) == ((), (2,))
    bare = from_gguf(metadata | {"tokenizer.ggml.add_space_prefix": False})
    assert bare.encode("the", add_special=False) != from_gguf(metadata).encode("the", add_special=False)
    assert bare.decode(bare.encode(" the")) == " the"
    ends = from_gguf(tiny.gguf_gpt2() | {"tokenizer.ggml.eot_token_id": 5})
    assert ends.eos_ids == (263, 5)


def test_padding_rows_of_gguf_are_no_text() -> None:
    tokenizer = from_gguf(tiny.gguf_gpt2())
    assert tokenizer.piece(265) == "[PAD265]"
    assert 265 not in tokenizer.encode("[PAD265]", "parse")
    assert 264 in tokenizer.encode("i <3 it")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre": "gpt-3"}, "'gpt-3', which Paddock does not know\n  fix: did you mean 'gpt-2'"),
        ({"pre": None}, "does not say how words are cut"),
        ({"model": "plamo2"}, "= 'plamo2'; expected llama, gpt2, bert, t5"),
        ({"merges": None}, "no tokenizer.ggml.merges"),
        ({"tokens": ["a", 1]}, "no tokenizer.ggml.tokens"),
        ({"tokens": []}, "0 pieces"),
        ({"token_type": [1]}, "does not go with the 266 tokens"),
        ({"eos_token_id": 266}, "eos_token_id is 266; expected 0 to 265"),
        ({"tokens": ["a"] * 266}, "lists 'a' twice"),
        ({"add_bos_token": 1}, "add_bos_token is 1"),
    ],
)
def test_gguf_refusals(change: dict[str, Any], message: str) -> None:
    metadata = tiny.gguf_gpt2() | {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    with pytest.raises(TokenizerError) as caught:
        from_gguf(metadata)
    assert message in str(caught.value)


def test_old_gguf_files_are_told_by_their_architecture() -> None:
    metadata = tiny.gguf_gpt2() | {"general.architecture": "falcon"}
    del metadata["tokenizer.ggml.pre"]
    assert from_gguf(metadata).source == "GGUF (gpt2, falcon)"


def tree_with(**changes: Any) -> dict[str, Any]:
    tree = tiny.byte_level()
    return tree | changes


def model_with(**changes: Any) -> dict[str, Any]:
    tree = tiny.byte_level()
    return tree | {"model": tree["model"] | changes}


def deep(levels: int) -> Any:
    node: Any = {"type": "Lowercase"}
    for _ in range(levels):
        node = {"type": "Sequence", "normalizers": [node]}
    return node


NO_FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
CUT_TABLE = {"type": "Precompiled", "precompiled_charsmap": "AQAAAA=="}
TWICE = [{"id": id, "content": "<x>", "special": True} for id in (263, 264)]
BAD_JSON: dict[str, tuple[Any, str]] = {
    "no model": ({"version": "1.0"}, "has no model"),
    "unknown model": (model_with(type="Unigramm"), "did you mean 'Unigram'"),
    "dropout": (model_with(dropout=0.1), "only training wants"),
    "merge out of the vocabulary": (model_with(merges=[["q", "zz"]]), "joins what the vocabulary does not have"),
    "merge of three": (model_with(merges=["a b c"]), "merge 0 is not a pair"),
    "shared id": (model_with(vocab={"a": 0, "b": 0}, merges=[]), "share id 0"),
    "negative id": (model_with(vocab={"a": -1}, merges=[]), "has id -1"),
    "huge id": (model_with(vocab={"a": 2**31}, merges=[]), "has id 2147483648"),
    "id that is no number": (model_with(vocab={"a": "0"}, merges=[]), "has id '0'"),
    "empty vocabulary": (model_with(vocab={}, merges=[]), "has 0 pieces"),
    "doubled added token": (tree_with(added_tokens=TWICE), "share an id or a spelling"),
    "added token on another's id": (tree_with(added_tokens=[{"id": 0, "content": "<x>"}]), "the vocabulary has"),
    "added token behind a gap": (
        tree_with(added_tokens=[{"id": 900, "content": "<x>", "special": True, **NO_FLAGS}]),
        "listed with id 900, but comes to id 263",
    ),
    "deep": (tree_with(normalizer=deep(70)), "too deep"),
    "long pattern": (tree_with(normalizer={"type": "X", "pattern": "a" * 70_000}), "holds a string of 70000"),
    "long insertion": (tree_with(normalizer={"type": "Prepend", "prepend": "a" * 257}), "prepend has 257 characters"),
    "long suffix": (model_with(end_of_word_suffix="a" * 257), "end_of_word_suffix has 257 characters"),
    "charsmap": (tree_with(normalizer=CUT_TABLE), "normalisation table"),
    "wrapping id out of range": (
        tree_with(post_processor={"type": "BertProcessing", "sep": ["x", 9999], "cls": ["y", 0]}),
        "that its vocabulary does not have",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_tokenizer_json(name: str, tmp_path: Path) -> None:
    tree, message = BAD_JSON[name]
    with pytest.raises(TokenizerError) as caught:
        load(tiny.write_json(tmp_path / "tokenizer.json", tree))
    assert message in str(caught.value)


BAD_BYTES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("tokenizer.json", b"", "empty"),
    "not JSON": ("tokenizer.json", b"{", "not valid JSON"),
    "not UTF-8": ("tokenizer.json", b'{"a": "\xff"}', "not UTF-8"),
    "a list": ("tokenizer.json", b"[]", "expected an object"),
    "a flood of lists": ("tokenizer.json", b'{"a": [' + b"[]," * (2**20 + 1) + b"[]]}", "too many values"),
    "nested": ("tokenizer.json", b"[" * 100_000, "nested too deeply"),
    "cut short": ("tokenizer.model", b"\x0a\x0e\x0a\x05<u", "cut short"),
    "not a model": ("tokenizer.model", b"hello there, this is text", "wire type"),
    "no pieces": ("tokenizer.model", b"\x12\x00", "holds no pieces"),
    "piece without text": ("tokenizer.model", b"\x0a\x05\x15\0\0\0\0", "piece 0 is ''"),
    "huge length": ("tokenizer.bin", tiny.llama2c()[:4] + struct.pack("<fi", 0.0, 2**31 - 1), "piece 0 is said to be"),
    "negative length": ("tokenizer.bin", tiny.llama2c()[:4] + struct.pack("<fi", 0.0, -1) + b"abc", "-1 bytes long"),
    "score": ("tokenizer.bin", tiny.llama2c()[:4] + struct.pack("<fi", float("nan"), 1) + b"a", "score nan"),
    "too few": ("tokenizer.bin", tiny.llama2c()[:4] + struct.pack("<fi", 0.0, 1) + b"a", "at least <unk>"),
    "bad base64": ("x.tiktoken", b"YQ== 0\n!!! 1\n", "line 2"),
    "bytes missing": ("x.tiktoken", b"YQ== 0\n", "no rank for byte 0"),
    "rank twice": ("x.tiktoken", b"YQ== 0\nYQ== 1\n", "has a rank already, 0"),
    "rwkv code": ("rwkv_vocab_x.txt", b"1 'a' 1\n2 __import__('os') 3\n", "line 2"),
    "rwkv length": ("rwkv_vocab_x.txt", b"1 'ab' 1\n", "expected a new id, a new piece of 1 bytes"),
    "words": ("x.vocab", b"<unk>\nhello\n", "a single character"),
    "doubled line": ("vocab.txt", b"[UNK]\n[CLS]\n[SEP]\na\na\n", "ids 3 and 4 are both spelled 'a'"),
    "no [UNK]": ("vocab.txt", b"[CLS]\n[SEP]\na\n", "has no [UNK]"),
    "no merges": ("vocab.json", b'{"a": 0}', "needs merges.txt"),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_bad_files(name: str, tmp_path: Path) -> None:
    file, data, message = BAD_BYTES[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(TokenizerError) as caught:
        load(tmp_path / file)
    assert message in str(caught.value)
    assert caught.value.exit_code == 3


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="missing"):
        load(tmp_path / "tokenizer.json")
    os.mkfifo(tmp_path / "tokenizer.bin")
    with pytest.raises(TokenizerError, match="not a regular file"):
        load(tmp_path / "tokenizer.bin")


def test_a_library_that_panics_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyo3's PanicException is a BaseException, which an ordinary `except` lets through."""

    class PanicException(BaseException):
        pass

    from paddock.tokenizer import library

    def panic(text: str) -> None:
        raise PanicException("called `Option::unwrap()` on a `None` value\nnote: run with")

    monkeypatch.setattr(library.tokenizers.Tokenizer, "from_str", staticmethod(panic), raising=False)
    with pytest.raises(TokenizerError, match="the library failed \\(called `Option::unwrap"):
        load(tiny.write_json(tmp_path / "tokenizer.json", tiny.byte_level()))


def test_keyboard_interrupts_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paddock.tokenizer.files import guarded

    with pytest.raises(KeyboardInterrupt), guarded("x"):
        raise KeyboardInterrupt


def test_wrapping_is_not_put_twice() -> None:
    wrapping = Wrapping((1,), (2,))
    assert wrapping.around([]) == [1, 2]
    assert wrapping.around([1, 5]) == [1, 5, 2]
    assert wrapping.around([1, 5, 2]) == [1, 5, 2]


def test_failed_saves_leave_nothing(tmp_path: Path) -> None:
    tokenizer = from_gguf(tiny.gguf_llama())
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PaddockError, match="cannot be written"):
        tokenizer.save(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
