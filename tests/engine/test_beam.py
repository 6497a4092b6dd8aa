"""Beam search against transformers: same texts, same scores, for every length penalty and way to stop."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_models import VOCABULARY, Pair

import paddock
from paddock.errors import UsageError

PENALTIES = (0.0, 1.0, -1.0, 2.0)
STOPS: tuple[Any, ...] = (False, True, "never")


def assert_same(pair: Pair, prompt: list[int], end: int, skip: int, **settings: Any) -> set[int]:
    """Compares all beams; gives the lengths of the texts, so that a test can see that some ended early."""
    beams = settings["num_beams"]
    reference = pair.theirs.generate(
        torch.tensor([prompt]),
        do_sample=False,
        num_return_sequences=beams,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )
    limit = settings.pop("max_new_tokens")
    mine = pair.ours.stream(prompt, limit, **settings).completions()
    texts = [row[skip:].tolist() for row in reference.sequences]
    texts = [text[: text.index(end) + 1] if end in text else text for text in texts]
    assert [list(completion.ids) for completion in mine] == texts
    scores = [completion.score for completion in mine]
    assert scores == pytest.approx(reference.sequences_scores.tolist(), abs=2e-5, rel=1e-4)
    return {len(text) for text in texts}


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(1)
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    ids = {"eos_token_id": 0, "pad_token_id": 49, "decoder_start_token_id": 49, "forced_eos_token_id": 0}
    model = MarianMTModel(MarianConfig(vocab_size=50, max_position_embeddings=64, **sizes, **heads, **ids)).eval()
    for name, parameter in model.named_parameters():
        if "embed_positions" not in name:  # sines and cosines
            parameter.data *= 6.0
    model.final_logits_bias[0, 0] = 14.0  # ends come early, at different places
    folder = tmp_path_factory.mktemp("marian")
    model.save_pretrained(folder)
    return Pair(paddock.load(folder), model)


def test_encoder_decoder_equals_transformers(marian: Pair) -> None:
    lengths = set()
    for seed, (penalty, early) in enumerate(itertools.product(PENALTIES, STOPS)):
        source = [*torch.randint(1, 48, (4 + seed % 5,)).tolist(), 0]
        for beams in (2, 4):
            settings = {"num_beams": beams, "length_penalty": penalty, "early_stopping": early, "max_new_tokens": 12}
            lengths |= assert_same(marian, source, end=0, skip=1, **settings)
    assert len(lengths) > 3


def test_decoder_only_equals_transformers(llama: Pair) -> None:
    lengths = set()
    for seed, (penalty, early) in enumerate(itertools.product(PENALTIES, STOPS)):
        prompt = [1, *torch.randint(3, 90, (seed,)).tolist()]
        settings = {"num_beams": 3, "length_penalty": penalty, "early_stopping": early, "max_new_tokens": 10}
        lengths |= assert_same(llama, prompt, end=2, skip=len(prompt), **settings)
    assert len(lengths) > 3


def test_penalties_and_constraints_apply_to_every_beam(llama: Pair) -> None:
    settings = {"num_beams": 4, "max_new_tokens": 12, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2}
    assert_same(llama, [1, 7, 7, 9], end=2, skip=4, **settings)
    assert_same(llama, [1, 7, 7, 9], end=2, skip=4, num_beams=4, max_new_tokens=12, min_new_tokens=9)
    assert_same(llama, [1, 7, 7, 9], end=2, skip=4, num_beams=4, max_new_tokens=12, bad_words_ids=[[5], [8, 9]])


def test_t5_equals_transformers(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(2)
    sizes = {"vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    model = T5ForConditionalGeneration(T5Config(decoder_start_token_id=0, **sizes)).eval()
    for parameter in model.parameters():
        parameter.data *= 4.0
    model.save_pretrained(tmp_path)
    pair = Pair(paddock.load(tmp_path), model)
    for penalty in PENALTIES:
        assert_same(pair, [5, 8, 12, 1], end=1, skip=1, num_beams=4, max_new_tokens=10, length_penalty=penalty)
    greedy = model.generate(torch.tensor([[5, 8, 12, 1]]), max_new_tokens=10, do_sample=False)[0, 1:].tolist()
    assert list(pair.ours.generate([5, 8, 12, 1], 10, temperature=0).ids) == greedy


def test_one_beam_is_greedy_and_more_are_never_less_likely(llama: Pair) -> None:
    for first in range(10, 20):
        greedy = llama.ours.generate([1, first], 12, temperature=0, logprobs=0)
        assert greedy.logprobs is not None
        total = sum(known.logprob for known in greedy.logprobs)
        wide = llama.ours.generate([1, first], 12, num_beams=16, length_penalty=0.0, logprobs=2)
        assert wide.score >= total - 1e-5
        assert wide.logprobs is not None
        assert sum(known.logprob for known in wide.logprobs) == pytest.approx(wide.score, abs=1e-4)
        assert all(len(known.top) == 2 for known in wide.logprobs)


def test_a_search_with_every_token_forbidden_is_refused(llama: Pair) -> None:
    with pytest.raises(UsageError, match="every token is forbidden"):
        llama.ours.generate([1, 5], 4, num_beams=2, suppress_tokens=list(range(VOCABULARY)))


def test_a_search_streams_what_it_returns(bundled: Any) -> None:
    search = bundled.stream("Once upon a time", 12, num_beams=4)
    events = list(search)
    best = search.completion()
    assert "".join(event.text for event in events) == best.text
    assert tuple(event.token for event in events) == best.ids
    assert events[-1].finish_reason == best.finish_reason
    assert bundled.generate("Once upon a time", 12, num_beams=4, echo=True).text == "Once upon a time" + best.text
    scores = [completion.score for completion in search.completions()]
    assert scores == sorted(scores, reverse=True) and len(scores) == 4
    assert len({completion.text for completion in search.completions()}) == 4
    ids = bundled.tokenizer.encode("Once upon a time")
    for completion in search.completions():
        assert bundled.tokenizer.decode([*ids, *completion.ids]) == "Once upon a time" + completion.text
