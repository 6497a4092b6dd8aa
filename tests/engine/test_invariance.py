"""Whichever runner a model gets: an answer is the same alone, in a crowd, from a warm cache, after giving way, and
with guesses, to the last bit of its log-probabilities where nothing is guessed.

Models whose prompts cannot be shared (ChatGLM-6B, T5) are in test_native_runner.py and test_torch_runner.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from random_models import WRITES_ON, Alone, answers_alone, together

from paddock.engine.generate import Generation
from paddock.engine.request import Request
from paddock.engine.runners import engine_for, runner_for
from paddock.engine.sampling import Sampling
from paddock.engine.speculative import Draft, Lookup


@pytest.fixture(scope="module")
def alone() -> Callable[[str], Alone]:
    return answers_alone()


@pytest.mark.parametrize("name", WRITES_ON)
def test_alone_or_in_a_batch_of_16(alone: Callable[[str], Alone], name: str) -> None:
    model, asked, expected = alone(name)
    engine = engine_for(model, sequences=16)
    assert together(engine, asked) == expected
    assert together(engine, asked[::-1]) == expected[::-1]


@pytest.mark.parametrize("name", WRITES_ON)
def test_in_a_cache_too_small(alone: Callable[[str], Alone], name: str) -> None:
    model, asked, expected = alone(name)
    engine = engine_for(model, blocks=14, sequences=8, budget=40)
    assert together(engine, asked) == expected
    assert engine.stats.preemptions > 0
    assert engine.stats.used == 0


@pytest.mark.parametrize("name", WRITES_ON)
def test_from_a_warm_cache(alone: Callable[[str], Alone], name: str) -> None:
    model, asked, expected = alone(name)
    engine = engine_for(model)
    for _ in range(2):
        assert [together(engine, [request])[0] for request in asked] == expected
    assert engine.stats.reused > 0 or engine.runner.chunk is not None


@pytest.mark.parametrize("name", WRITES_ON)
def test_with_guesses(alone: Callable[[str], Alone], name: str) -> None:
    model, asked, expected = alone(name)
    ids = [[event.token for event in events] for events in expected]
    for make in (lambda: Lookup(4), lambda: Draft(runner_for(model, 8), 3, model.architecture.context)):
        engine = engine_for(model)
        assert [[event.token for event in events] for events in together(engine, asked, make)] == ids
        assert engine.stats.accepted > 0


@pytest.mark.parametrize("name", WRITES_ON)
def test_a_conversation_that_goes_on(alone: Callable[[str], Alone], name: str) -> None:
    """What was written before is found where the runner allows it, also what guesses wrote, and changes nothing."""
    model, asked, expected = alone(name)
    for make in (lambda: None, lambda: Lookup(3)):
        engine, cold = engine_for(model), engine_for(model, prefix_cache=False)
        for request, events in list(zip(asked, expected, strict=True))[:6]:
            together(engine, [request], make)
            said = (*request.prompt, *(event.token for event in events), 9, 11)
            longer = Request(said, 16, Sampling(temperature=0), logprobs=2)
            assert together(engine, [longer]) == together(cold, [longer])
            # A longer text of a "dynamic" model is planned to another length, and so has other keys.
            assert engine.runner.chunk is not None or name == "dynamic" or engine.stats.reused > 0


PROMPTS = [
    f"{start} {who}"
    for start in ("Once upon a time", "The cat and", "Tom said to", "In the garden", "One day", "Lily saw")
    for who in ("a dog", "the big red ball", "her mom", "Ben", "it was", "a bird, and", "he", "the old man", "we can")
]


def test_a_hundred_stories(bundled: Any) -> None:
    """54 prompts, each greedy and sampled: alone, together, guessed ahead by lookup and by the model itself."""
    asked = [
        (prompt, {"temperature": 0} if greedy else {"temperature": 0.9, "top_p": 0.9, "seed": 7})
        for prompt in PROMPTS
        for greedy in (True, False)
    ]
    plain = [bundled.generate(prompt, 40, **settings) for prompt, settings in asked]
    running = [bundled.stream(prompt, 40, **settings) for prompt, settings in asked]
    left = list(running)
    while left:
        left = [stream for stream in left if next(stream, None) is not None]
    assert [stream.completion().text for stream in running] == [completion.text for completion in plain]
    looked = [bundled.generate(prompt, 40, speculate="lookup", **settings) for prompt, settings in asked]
    drafted = [bundled.generate(p, 40, speculate=bundled, speculate_tokens=3, **s) for p, s in asked[:20]]
    assert [completion.ids for completion in looked] == [completion.ids for completion in plain]
    assert [completion.ids for completion in drafted] == [completion.ids for completion in plain[:20]]
    assert sum(completion.accepted_tokens for completion in looked) > 0
    greedy = [completion for completion in drafted if completion.seed is None]
    assert all(completion.accepted_tokens == completion.proposed_tokens > 20 for completion in greedy)


def test_the_second_question_reads_only_its_own_words(bundled: Any) -> None:
    first = bundled.generate("Once upon a time there was a little girl named Lily who had a cat. " * 4, 5)
    again = bundled.generate("Once upon a time there was a little girl named Lily who had a cat. " * 4, 5)
    whole = again.prompt_tokens - 1
    assert first.cached_tokens < again.cached_tokens or bundled.engine.runner.chunk is not None
    assert again.cached_tokens in (0, whole // 16 * 16)
    cold = Generation(
        engine_for(bundled.model, prefix_cache=False),
        Request(tuple(bundled.tokenizer.encode("Once upon a time")), 20, Sampling(temperature=0)),
    )
    assert cold.completion().ids == bundled.generate("Once upon a time", 20, temperature=0).ids
