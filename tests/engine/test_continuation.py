from __future__ import annotations

from typing import Any

import pytest

from paddock.engine.continuation import Continuation

FIRST_BYTE = 3  # the id of <0x00>


def test_the_first_piece_keeps_its_blank_after_a_prompt_only(bundled: Any) -> None:
    once = bundled.tokenizer.encode("Once")[-1]
    assert Continuation(bundled.tokenizer, [1]).push(once) == "Once"
    assert Continuation(bundled.tokenizer, [1, once]).push(once) == " Once"


def test_a_character_that_begins_in_the_prompt(bundled: Any) -> None:
    head, *tail = "猫".encode()
    decoder = Continuation(bundled.tokenizer, [1, FIRST_BYTE + head])
    assert [decoder.push(FIRST_BYTE + byte) for byte in tail] == ["", "猫"]


def test_prompt_and_pieces_are_the_whole_text_wherever_the_prompt_ends(bundled: Any) -> None:
    whole = [1, *bundled.tokenizer.encode("ab", add_special=False), *(FIRST_BYTE + byte for byte in "中猫c".encode())]
    for cut in range(1, len(whole) + 1):
        decoder = Continuation(bundled.tokenizer, whole[:cut])
        pieces = [decoder.push(id) for id in whole[cut:]]
        assert decoder.prompt + "".join(pieces) + decoder.finish() == "ab中猫c"
        assert "\ufffd" not in decoder.prompt


@pytest.mark.parametrize("text", ["a", "猫", ""])
def test_a_character_that_is_never_finished_comes_with_the_next_piece(bundled: Any, text: str) -> None:
    prompt = [1, FIRST_BYTE + "猫".encode()[0]]
    decoder = Continuation(bundled.tokenizer, prompt)
    ids = [FIRST_BYTE + byte for byte in text.encode()]
    written = "".join([decoder.push(id) for id in ids]) + decoder.finish()
    assert written == "\ufffd" + text
    assert decoder.prompt + written == bundled.tokenizer.decode(prompt + ids)
