"""SentencePiece's wire format there and back, and its normalisation table, which the library walks without looking."""

from __future__ import annotations

import base64
import random
import struct
from collections.abc import Callable

import pytest
import sentencepiece
import tiny

from paddock.errors import TokenizerError
from paddock.tokenizer.charsmap import check_charsmap, check_charsmap_text
from paddock.tokenizer.modelproto import (
    BPE,
    CHARSMAP,
    MODEL_TYPE,
    UNK_ID,
    WITHOUT_PREFIX,
    fields,
    parse_model,
    write_model,
)


def processor(data: bytes) -> sentencepiece.SentencePieceProcessor:
    made = sentencepiece.SentencePieceProcessor()
    made.LoadFromSerializedProto(data)
    return made


def test_a_model_says_what_the_library_says(trained: Callable[..., bytes]) -> None:
    data = trained(model_type="bpe", vocab_size=360, byte_fallback=True)
    model, library = parse_model(data, "model"), processor(data)
    assert [piece.text for piece in model.pieces] == [library.IdToPiece(id) for id in range(len(library))]
    assert [piece.score for piece in model.pieces] == [library.GetScore(id) for id in range(len(library))]
    assert [piece.type == 6 for piece in model.pieces] == [library.IsByte(id) for id in range(len(library))]
    assert model.number(model.trainer, MODEL_TYPE, 1) == BPE
    assert model.number(model.trainer, UNK_ID, 0) == library.unk_id()


def test_a_model_written_again_gives_the_same_ids(trained: Callable[..., bytes]) -> None:
    data = trained(model_type="unigram", vocab_size=120)
    again = write_model(parse_model(data, "model"))
    one, other = processor(data), processor(again)
    bare = processor(data + WITHOUT_PREFIX)
    rng = random.Random(0)
    for _ in range(200):
        text = tiny.random_text(rng)
        assert one.EncodeAsIds(text) == other.EncodeAsIds(text)
    assert "".join(one.EncodeAsPieces("the cat")) == "▁the▁cat"
    assert "".join(bare.EncodeAsPieces("the cat")) == "the▁cat"


def test_every_cut_of_a_model_is_refused(trained: Callable[..., bytes]) -> None:
    """Cut inside any field of the first pieces; a cut between fields leaves a model of fewer pieces."""
    data = trained(model_type="bpe", vocab_size=360, byte_fallback=True)
    refused = 0
    for size in range(200):
        try:
            parse_model(data[:size], "model")
        except TokenizerError:
            refused += 1
    assert refused > 180


def table(trained: Callable[..., bytes]) -> bytes:
    model = parse_model(trained(model_type="unigram", vocab_size=120), "model")
    assert len(model.charsmap) > 100_000
    return model.charsmap


def test_real_tables_pass(trained: Callable[..., bytes]) -> None:
    check_charsmap(table(trained), "table")
    check_charsmap_text(base64.b64encode(table(trained)).decode(), "table")
    check_charsmap_text(None, "table")
    check_charsmap(b"", "table")


def test_a_step_out_of_the_table_is_refused(trained: Callable[..., bytes]) -> None:
    """The root's offset, a value's index, the size of the trie, the last NUL: each made to point outside."""
    whole = table(trained)
    size = int.from_bytes(whole[:4], "little")
    units = list(struct.unpack(f"<{size // 4}I", whole[4 : 4 + size]))
    leaf = next(place for place, unit in enumerate(units) if unit >> 31)

    def built(place: int, unit: int) -> bytes:
        changed = [*units[:place], unit, *units[place + 1 :]]
        return whole[:4] + struct.pack(f"<{len(changed)}I", *changed) + whole[4 + size :]

    bad = {
        "root": built(0, 0x1FFFFF << 10),
        "value": built(leaf, 0xFFFFFFFF),
        "size": struct.pack("<I", size + 2**20) + whole[4:],
        "odd size": struct.pack("<I", size + 1) + whole[4:],
        "no end": whole[:-1] + b"x",
        "short": whole[:3],
    }
    for name, data in bad.items():
        with pytest.raises(TokenizerError, match="normalisation table"):
            check_charsmap(data, name)
    with pytest.raises(TokenizerError, match="not base64"):
        check_charsmap_text("###", "table")
    with pytest.raises(TokenizerError, match="not base64"):
        check_charsmap_text(7, "table")


def test_a_bad_table_in_a_model_is_refused(trained: Callable[..., bytes]) -> None:
    model = parse_model(trained(model_type="unigram", vocab_size=120), "model")
    model.normalizer = [
        (key, wire, b"\1\2\3\4\5" if key == CHARSMAP else value) for key, wire, value in model.normalizer
    ]
    with pytest.raises(TokenizerError, match="normalisation table"):
        parse_model(write_model(model), "model")


def test_numbers_too_long_and_unknown_wire_types() -> None:
    with pytest.raises(TokenizerError, match="no whole number"):
        list(fields(b"\xff" * 11, "x"))
    with pytest.raises(TokenizerError, match="wire type 3"):
        list(fields(b"\x0b", "x"))
    with pytest.raises(TokenizerError, match="a field of 4 bytes"):
        list(fields(b"\x0d\0\0", "x"))
