"""Forwards in PyTorch through the engine's door: bit for bit what a contiguous cache gives, alone or beside others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from random_models import CONFIGS, WRITES_ON, plain, random_model, requests, together

from paddock.engine.engine import Engine
from paddock.engine.generate import Generation
from paddock.engine.request import Request
from paddock.engine.runner import Rows
from paddock.engine.sampling import Sampling
from paddock.engine.speculative import Draft, Lookup
from paddock.engine.torch_runner import TorchRunner
from paddock.errors import ContextLengthError, UsageError
from paddock.model.transformer import Transformer


@pytest.fixture(scope="module")
def models() -> Callable[[str], Transformer]:
    made: dict[str, Transformer] = {}

    def get(name: str) -> Transformer:
        if name not in made:
            made[name] = random_model(name)
        return made[name]

    return get


def torch_engine(model: Transformer, blocks: int = 400, **options: Any) -> Engine:
    return Engine(TorchRunner(model, blocks), model.architecture, **options)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_batch_of_16_gives_each_what_it_gets_alone_bit_for_bit(
    models: Callable[[str], Transformer], name: str
) -> None:
    model = models(name)
    asked = requests(name, 17)
    alone = [plain(model, request) for request in asked]
    assert together(torch_engine(model, sequences=16), asked) == alone


@pytest.mark.parametrize("name", CONFIGS)
def test_a_small_cache_changes_nothing(models: Callable[[str], Transformer], name: str) -> None:
    model = models(name)
    asked = requests(name, 9, new=40)
    engine = torch_engine(model, blocks=14, sequences=8, budget=40)
    assert together(engine, asked) == [plain(model, request) for request in asked]
    assert engine.stats.preemptions > 0 or name == "t5"
    assert engine.stats.used == 0


@pytest.mark.parametrize("name", ["llama", "mistral", "bloom"])
def test_the_prefix_cache_changes_nothing(models: Callable[[str], Transformer], name: str) -> None:
    """On this runner whole pieces of 512 tokens are shared, so that a shared one was computed as one's own would be."""
    model = models(name)
    torch.manual_seed(0)
    common = torch.randint(3, 57, (1100,)).tolist()
    engine = torch_engine(model)
    reused = []
    for i, length in enumerate((1100, 1100, 600, 1025, 500, 1024)):
        request = Request((*common[:length], 5, i), 12, Sampling(temperature=0), logprobs=3)
        generation = Generation(engine, request)
        reused.append(generation.completion().cached_tokens)
        assert generation.events == plain(model, request)
    assert reused == [0, 1024, 512, 1024, 0, 1024]


@pytest.mark.parametrize("name", ["chatglm", "t5"])
def test_prompts_that_cannot_be_shared_are_not(models: Callable[[str], Transformer], name: str) -> None:
    engine = torch_engine(models(name))
    request = requests(name, 1)[0]
    for _ in range(2):
        assert Generation(engine, request).completion().cached_tokens == 0
    assert engine.stats.cached == 0


def test_texts_planned_to_other_lengths_do_not_share_where_rotation_depends_on_it() -> None:
    model = random_model("dynamic")
    runner = TorchRunner(model, 100)
    runner.chunk = None  # so that short prompts are shared
    engine = Engine(runner, model.architecture)
    prompt = tuple(range(3, 43))
    for new, reused in ((10, 0), (100, 0), (100, 32), (10, 32)):
        completion = Generation(engine, Request(prompt, new, Sampling(temperature=0))).completion()
        assert completion.cached_tokens == reused


@pytest.mark.parametrize("name", WRITES_ON)
def test_guesses_change_no_text(models: Callable[[str], Transformer], name: str) -> None:
    model = models(name)
    asked = requests(name, 6, new=40)
    expected = [[event.token for event in plain(model, request)] for request in asked]
    for make in (lambda: Lookup(4), lambda: Draft(TorchRunner(model, 60), 3, model.architecture.context)):
        engine = torch_engine(model)
        found = together(engine, asked, make)
        assert [[event.token for event in events] for events in found] == expected
        assert engine.stats.accepted > 0


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "t5"])
def test_tokens_of_many_in_one_forward(models: Callable[[str], Transformer], name: str) -> None:
    """As on a GPU: equal up to rounding."""
    model = models(name)
    asked = requests(name, 12)
    runner = TorchRunner(model, 200, together=True)
    found = together(Engine(runner, model.architecture, sequences=8, budget=64), asked)
    for events, request in zip(found, asked, strict=True):
        expected = plain(model, request)
        assert [event.token for event in events] == [event.token for event in expected]
        assert [e.logprob for e in events] == pytest.approx([e.logprob for e in expected], abs=1e-3)


def test_storage_grows_with_what_is_used() -> None:
    model = random_model("llama")
    runner = TorchRunner(model, 10**9)
    engine = Engine(runner, model.architecture)
    Generation(engine, Request(tuple(range(3, 50)), 5)).completion()
    assert runner.pages.held == 8
    Generation(engine, Request((5,) * 1000, 5)).completion()
    assert runner.pages.held <= 130


def test_what_an_architecture_cannot_read_is_refused_alone(models: Callable[[str], Transformer]) -> None:
    glm = torch_engine(models("chatglm"))
    good = Generation(glm, requests("chatglm", 1)[0])
    next(good)
    with pytest.raises(UsageError, match="start token"):
        Generation(glm, Request((5, 9), 3))
    assert good.completion().ids
    with pytest.raises(ContextLengthError, match="256"):
        Generation(torch_engine(models("gpt2")), Request((5, 9), 255))


def test_a_text_begun_again_reads_its_source_again(models: Callable[[str], Transformer]) -> None:
    one, two = (Rows(1, (0,), 0, [0], 1, 1, 9, source) for source in ((5, 6, 7), (9, 3)))
    runner, fresh = (TorchRunner(models("t5"), 4) for _ in range(2))
    runner.run([one])
    assert torch.equal(runner.run([two]), fresh.run([two]))
