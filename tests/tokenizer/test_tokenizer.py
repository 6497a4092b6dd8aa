"""The one type: what every kind of vocabulary promises, on vocabularies written out in `tiny`."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.errors import TokenizerError, UsageError
from paddock.tokenizer import Tokenizer, from_gguf, load

KINDS = {
    "byte level": "byte-level BPE",
    "word piece": "WordPiece",
    "unigram": "SentencePiece unigram",
    "scored": "SentencePiece BPE",
    "llama2c": "SentencePiece BPE",
    "gguf llama": "SentencePiece BPE",
    "gguf gpt2": "byte-level BPE",
    "gguf bert": "WordPiece",
    "gguf t5": "SentencePiece unigram",
    "model": "SentencePiece BPE",
    "rwkv": "longest match",
    "characters": "characters",
}


@pytest.fixture(scope="module")
def tiny_one(tmp_path_factory: pytest.TempPathFactory, trained: Callable[..., bytes]) -> Callable[[str], Tokenizer]:
    made: dict[str, Tokenizer] = {}

    def make(kind: str) -> Tokenizer:
        if kind not in made:
            made[kind] = build(kind, tmp_path_factory.mktemp("tiny"), trained)
        return made[kind]

    return make


def build(kind: str, folder: Path, trained: Callable[..., bytes]) -> Tokenizer:
    trees = {
        "byte level": tiny.byte_level,
        "word piece": tiny.wordpiece,
        "unigram": tiny.unigram,
        "scored": tiny.scored,
    }
    gguf = {"llama": tiny.gguf_llama, "gpt2": tiny.gguf_gpt2, "bert": tiny.gguf_bert, "t5": tiny.gguf_t5}
    if kind in trees:
        tiny.write_json(folder / "tokenizer.json", trees[kind]())
    elif kind.startswith("gguf"):
        return from_gguf(gguf[kind.split()[1]]())
    elif kind == "llama2c":
        (folder / "tokenizer.bin").write_bytes(tiny.llama2c())
    elif kind == "model":
        options = {"model_type": "bpe", "vocab_size": 360, "byte_fallback": True, "normalization_rule_name": "identity"}
        (folder / "tokenizer.model").write_bytes(trained(**options, remove_extra_whitespaces=False))
    elif kind == "rwkv":
        (folder / "rwkv_vocab_v1.txt").write_text(tiny.rwkv())
    else:
        (folder / "letters.vocab").write_text("\n".join(tiny.characters()))
    return load(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_kind_and_size(kind: str, tiny_one: Callable[[str], Tokenizer]) -> None:
    tokenizer = tiny_one(kind)
    assert tokenizer.kind == KINDS[kind]
    assert all(tokenizer.id_of(tokenizer.piece(id)) == id for id in tokenizer.specials.values())
    assert set(tokenizer.eos_ids) <= set(tokenizer.specials.values())
    assert repr(tokenizer).startswith(f"Tokenizer({KINDS[kind]}")


@pytest.mark.parametrize("kind", KINDS)
def test_spelling_a_control_token_in_text_never_makes_it(kind: str, tiny_one: Callable[[str], Tokenizer]) -> None:
    """For every control token and every way of standing in a text; parsed text does make it."""
    tokenizer = tiny_one(kind)
    unknown = {tokenizer.unk_id}
    for id in tokenizer.specials.values():
        spelled = tokenizer.piece(id)
        for text in (
            spelled,
            f"the {spelled}",
            f"{spelled}cat",
            f"a{spelled}{spelled} a",
            spelled[:-1],
            f" {spelled} ",
        ):
            ids = tokenizer.encode(text, add_special=False)
            assert not (set(tokenizer.specials.values()) - unknown) & set(ids), text
        assert id in tokenizer.encode(f"a{spelled} a", "parse", add_special=False)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_join_to_the_decoded_text(kind: str, tiny_one: Callable[[str], Tokenizer]) -> None:
    tokenizer = tiny_one(kind)
    known = [id for id in range(len(tokenizer)) if tokenizer._backend.pieces[id] is not None]

    @settings(max_examples=200, derandomize=True, deadline=None, database=None)
    @given(st.lists(st.sampled_from(known), max_size=20), st.booleans())
    def one(ids: list[int], skip: bool) -> None:
        stream = tokenizer.stream(skip)
        parts = [stream.push(id) for id in ids]
        assert "".join(parts) + stream.finish() == tokenizer.decode(ids, skip)
        assert all(not "\ud800" <= character <= "\udfff" for part in parts for character in part)

    one()


@pytest.mark.parametrize("kind", ["byte level", "scored", "llama2c", "gguf llama", "gguf gpt2", "model", "rwkv"])
def test_decoding_gives_the_text_back(kind: str, tiny_one: Callable[[str], Tokenizer]) -> None:
    """Vocabularies with all bytes keep any text; a stream never gives half a character."""
    tokenizer = tiny_one(kind)
    rng = random.Random(5)
    for _ in range(300):
        text = tiny.random_text(rng, without="\u2581")
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        stream = tokenizer.stream()
        assert "\ufffd" not in "".join(stream.push(id) for id in ids).replace("\ufffd" if "\ufffd" in text else "", "")


def test_a_character_waits_for_its_last_byte(tiny_one: Callable[[str], Tokenizer]) -> None:
    tokenizer = tiny_one("byte level")
    stream = tokenizer.stream()
    ids = tokenizer.encode("a🙂b")
    assert [stream.push(id) for id in ids] == ["a", "", "", "", "🙂", "b"]
    cut = tokenizer.stream()
    assert [cut.push(id) for id in ids[:3]] == ["a", "", ""]
    assert cut.finish() == "\ufffd"


def test_special_ids_go_around_once(tiny_one: Callable[[str], Tokenizer]) -> None:
    scored, bert = tiny_one("scored"), tiny_one("word piece")
    assert scored.adds_bos and not scored.adds_eos
    assert scored.encode("the")[0] == 1 == scored.bos_id
    assert 1 not in scored.encode("the", add_special=False)
    assert bert.encode("the cat") == [2, 5, 6, 3]
    once = scored.encode_rendered("<s>the")
    assert once == scored.encode_rendered("the") == scored.encode("<s>the", "parse")
    assert once.count(1) == 1
    assert scored.encode("<s>the").count(1) == 1  # typed by a user: text, and the real BOS before it
    assert bert.encode_rendered("the") == [2, 5]  # a prompt is left open


def test_what_people_wrote_inside_a_rendered_prompt(tiny_one: Callable[[str], Tokenizer]) -> None:
    for kind in ("byte level", "scored", "gguf llama"):
        tokenizer = tiny_one(kind)
        end = next(iter(set(tokenizer.specials.values()) - {tokenizer.unk_id, tokenizer.bos_id}))
        mark = tokenizer.piece(end)
        text = f"a{mark}the{mark}c{mark}"
        middle = text.index("the")
        spans = [(middle, middle + 3 + len(mark))]
        assert tokenizer.encode_rendered(text).count(end) == 3
        ids = tokenizer.encode_rendered(text, foreign=spans)
        assert ids.count(end) == 2
        assert tokenizer.decode(ids, skip_special=False).replace("<s>", "").strip().replace(" ", "") == text
        half = [(middle + 5, middle + 6)]  # a control token that a user wrote any part of is text
        assert tokenizer.encode_rendered(text, foreign=half).count(end) == 2


def test_explain_and_bytes(tiny_one: Callable[[str], Tokenizer]) -> None:
    rows = tiny_one("scored").explain("the é🙂")
    assert [row.piece for row in rows][:3] == ["<s>", "▁the", "▁"]
    assert rows[0].control and rows[0].bytes == b""
    assert b"".join(row.bytes for row in rows) == " the é🙂".encode()
    assert tiny_one("word piece").bytes_of(5) == b" the"
    assert tiny_one("word piece").bytes_of(7) == b"s"
    assert [row.bytes for row in tiny_one("byte level").explain("the cat")] == [b"the", b" cat"]


def test_fingerprints_tell_vocabularies_apart(tiny_one: Callable[[str], Tokenizer]) -> None:
    prints = {kind: tiny_one(kind).fingerprint() for kind in ("byte level", "scored", "llama2c", "gguf llama", "model")}
    assert prints["scored"] == prints["llama2c"] == prints["gguf llama"]
    assert len(set(prints.values())) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_refusals(kind: str, tiny_one: Callable[[str], Tokenizer]) -> None:
    tokenizer = tiny_one(kind)
    with pytest.raises(TokenizerError, match=r"lone surrogate \(U\+D800\) at character 1"):
        tokenizer.encode("a\ud800b")
    for id in (-1, len(tokenizer), 2**40):
        with pytest.raises(TokenizerError, match="not in the vocabulary"):
            tokenizer.decode([id])
    with pytest.raises(UsageError, match="str"):
        tokenizer.encode(7)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="int"):
        tokenizer.piece("a")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="plain"):
        tokenizer.encode("a", "both")  # type: ignore[arg-type]
    assert tokenizer.encode("", add_special=False) == []
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("characters",)])
def test_nul_and_other_control_characters(kind: str, tiny_one: Callable[[str], Tokenizer]) -> None:
    tokenizer = tiny_one(kind)
    ids = tokenizer.encode("\0\x01\x7f\0", add_special=False)
    assert ids or kind in ("word piece", "gguf bert", "unigram", "gguf t5")  # these drop control characters
    tokenizer.decode(ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("letter", ["a", " ", "中", "\n"])
def test_time_grows_with_the_text_not_its_square(kind: str, letter: str, tiny_one: Callable[[str], Tokenizer]) -> None:
    tokenizer = tiny_one(kind)
    if kind == "characters" and letter in "中\n":
        letter = "b"

    def seconds(count: int) -> float:
        runs = []
        for more in range(3):  # a word of another length each time, as the library remembers words
            start = time.process_time()
            tokenizer.encode(letter * (count + more))
            runs.append(time.process_time() - start)
        return min(runs)

    small, large = seconds(2**14), seconds(2**17)
    assert large < 0.05 or large / small < 32  # for eight times the text; a square would be 64


@pytest.mark.parametrize("kind", KINDS)
def test_saving_and_loading_again(kind: str, tiny_one: Callable[[str], Tokenizer], tmp_path: Path) -> None:
    tokenizer = tiny_one(kind)
    tokenizer.save(tmp_path)
    again = load(tmp_path)
    rng = random.Random(9)
    texts = [tiny.random_text(rng, without="\u2581") for _ in range(50)]
    if kind == "characters":
        texts = ["a bit", "hat"]
    for text, parse in itertools.product(texts, ("plain", "parse")):
        assert again.encode(text, parse) == tokenizer.encode(text, parse)  # type: ignore[arg-type]
    assert again.specials == tokenizer.specials
    assert (again.before, again.after, again.eos_ids) == (tokenizer.before, tokenizer.after, tokenizer.eos_ids)


def test_saved_json_is_the_file_that_was_read(tmp_path: Path) -> None:
    path = tiny.write_json(tmp_path / "tokenizer.json", tiny.byte_level())
    config = {"eos_token": "<|end|>", "chat_template": "{{ messages }}", "unknown_key": [1, {"a": None}]}
    tiny.write_json(tmp_path / "tokenizer_config.json", config)
    files = load(tmp_path).files()
    assert files["tokenizer.json"] == path.read_bytes()
    assert json.loads(files["tokenizer_config.json"]) == config


@pytest.mark.parametrize("kind", ["byte level", "model"])
def test_other_threads_run_while_a_long_text_is_encoded(tiny_one: Callable[[str], Tokenizer], kind: str) -> None:
    """And a long text has the ids that it would have as a short one."""
    tokenizer, text = tiny_one(kind), "hello world " * 60_000
    done, longest = threading.Event(), 0.0
    ids: list[int] = []

    def encode() -> None:
        ids.extend(tokenizer.encode(text))
        done.set()

    thread = threading.Thread(target=encode)
    started = before = time.perf_counter()
    thread.start()
    while not done.wait(0.001):
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    thread.join()
    assert longest < (time.perf_counter() - started) / 2
    assert tokenizer.decode(ids).strip() == text.strip()
    pieces = tokenizer.encode("hello world " * 60)
    assert ids[: len(pieces) - 8] == pieces[:-8]
