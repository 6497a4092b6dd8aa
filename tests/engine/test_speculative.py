"""Guesses: what is looked up, what a draft model keeps, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from engine_models import Pair, save_llama
from fake_runner import FakeRunner, written

import paddock
from paddock.engine.blocks import BLOCK
from paddock.engine.speculative import Draft, Lookup
from paddock.errors import UnsupportedError, UsageError


def test_what_followed_the_last_words_before() -> None:
    guess = Lookup(4)
    assert guess.propose(1, [1, 2, 3, 4, 5, 6], 9) == []
    assert guess.propose(1, [1, 2, 3, 4, 5, 6, 2, 3], 9) == [4, 5, 6, 2]
    assert guess.propose(1, [1, 2, 3, 4, 5, 6, 2, 3], 2) == [4, 5]
    assert guess.propose(1, [1, 2, 3, 4, 5, 6, 2, 3, 9, 2, 3], 9) == [9, 2, 3, 9]  # the latest, and on as it repeats
    assert guess.propose(1, [1, 2, 3, 4, 5, 6, 2, 3, 9, 2, 3, 1, 2, 3], 9) == [4, 5, 6, 2]  # three beat two
    assert Lookup(3).propose(1, [7, 7, 7], 9) == [7, 7, 7]
    for short in ([], [1], [1, 1]):
        assert Lookup(3).propose(1, short, 9) == []


def test_looking_up_finds_what_a_plain_search_finds() -> None:
    text = [(i * i + i // 3) % 5 for i in range(200)]
    guess = Lookup(1)
    for length in range(200):
        so_far = text[:length]
        expected = []
        for size in (4, 3, 2):
            places = [i for i in range(size, length) if so_far[i - size : i] == so_far[length - size :]]
            if places and length >= size:
                expected = [so_far[places[-1]]]
                break
        assert guess.propose(1, so_far, 1) == expected


def test_a_draft_reads_only_what_is_new_and_forgets_wrong_guesses() -> None:
    runner = FakeRunner(20)
    draft = Draft(runner, 3, None)
    text = [3, 1, 4, 1, 5]
    assert draft.propose(1, text, 9) == written(text, 3)
    assert [len(batch[0].ids) for batch in runner.batches] == [5, 1, 1]
    text += written(text, 1)  # the first guess was right, the second not
    text.append(0)
    runner.batches.clear()
    assert draft.propose(1, text, 9) == written(text, 3)
    assert [(batch[0].start, len(batch[0].ids)) for batch in runner.batches] == [(6, 1), (7, 1), (8, 1)]
    assert draft.propose(1, text, 1) == written(text, 1)
    draft.forget(1)
    assert draft._blocks.used == 0 and runner.forgotten == [1]


def test_a_draft_without_room_takes_it_from_the_longest_unused() -> None:
    runner = FakeRunner(4)
    draft = Draft(runner, 2, None)
    texts = {key: [key] * 2 * BLOCK for key in (1, 2, 3)}
    for _ in range(2):
        for key, text in texts.items():
            assert draft.propose(key, text, 9) == written(text, 2)
    assert runner.forgotten
    assert draft.propose(9, [1] * 100, 9) == []  # it does not fit at all
    assert draft.propose(1, texts[1], 9) == written(texts[1], 2)
    assert Draft(FakeRunner(9), 3, 12).propose(1, [1] * 10, 9) == written([1] * 10, 2)  # the draft's context
    assert Draft(FakeRunner(9), 3, 12).propose(1, [1] * 12, 9) == []


@pytest.mark.parametrize("wrong", ["look-up", "", 5, True, ["lookup"], object()], ids=range(6))
def test_what_cannot_guess_is_refused(bundled: Any, wrong: Any) -> None:
    with pytest.raises(UsageError, match="speculate"):
        bundled.generate("Once", 3, speculate=wrong)


@pytest.mark.parametrize("count", [0, -1, 33, 1.5, True, None])
def test_a_senseless_number_of_guesses(bundled: Any, count: Any) -> None:
    with pytest.raises(UsageError, match="speculate_tokens"):
        bundled.generate("Once", 3, speculate="lookup", speculate_tokens=count)


def test_models_that_cannot_guess_for_each_other(bundled: Any, llama: Pair, tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

    with pytest.raises(UsageError, match="another vocabulary"):
        bundled.generate("Once", 3, speculate=llama.ours)
    with pytest.raises(UsageError, match="beam search"):
        bundled.generate("Once", 3, speculate="lookup", num_beams=2)
    sizes = {"vocab_size": 97, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(decoder_start_token_id=0, **sizes)).save_pretrained(tmp_path / "t5")
    both = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForMaskedLM(BertConfig(vocab_size=97, **both)).save_pretrained(tmp_path / "bert")
    t5, bert = paddock.load(tmp_path / "t5"), paddock.load(tmp_path / "bert")
    for one, two in ((llama.ours, t5), (t5, llama.ours)):
        with pytest.raises(UsageError, match="left to right"):
            one.generate([5], 3, speculate=two)
    with pytest.raises(UnsupportedError, match="does not write"):
        llama.ours.generate([5], 3, speculate=bert)
    assert t5.generate([5], 9, temperature=0, speculate="lookup").ids == t5.generate([5], 9, temperature=0).ids


def test_another_models_guesses_change_nothing(llama: Pair, tmp_path: Path) -> None:
    """Most of them are wrong."""
    other = save_llama(tmp_path)
    for parameter in other.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    other.save_pretrained(tmp_path)
    draft = paddock.load(tmp_path)
    for settings in ({"temperature": 0}, {"temperature": 1.3, "seed": 4}):
        plain = llama.ours.generate([1, 5, 9, 33], 60, logprobs=3, **settings)
        for guesser in (draft, llama.ours):
            guessed = llama.ours.generate([1, 5, 9, 33], 60, logprobs=3, speculate=guesser, **settings)
            assert guessed.ids == plain.ids and guessed.finish_reason == plain.finish_reason
            known = [token.logprob for token in plain.logprobs]
            assert [token.logprob for token in guessed.logprobs] == pytest.approx(known, abs=1e-4)
            assert guessed.proposed_tokens >= guessed.accepted_tokens
            if settings["temperature"] == 0:
                assert (guessed.accepted_tokens < guessed.proposed_tokens / 2) == (guesser is draft)
        assert (plain.proposed_tokens, plain.accepted_tokens) == (0, 0)
