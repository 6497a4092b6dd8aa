"""Models of every kind through the engine, natively: each answer is the same alone, in a crowd and after giving way,
and is what PyTorch writes. An encoder-decoder's source is read once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from random_models import Alone, answers_alone, plain, random_model, together

from paddock.engine.blocks import blocks_for
from paddock.engine.engine import Engine, Task
from paddock.engine.memory import source_block_bytes
from paddock.engine.native_runner import NativeRunner
from paddock.engine.reading import Reader
from paddock.engine.request import Request
from paddock.engine.runner import Rows, cache_bytes
from paddock.engine.runners import engine_for, runner_for
from paddock.engine.torch_runner import TorchRunner
from paddock.errors import ResourceError
from paddock.kernels.native import library
from paddock.model.families import describe
from paddock.model.recording import cache_shapes, source_shapes
from paddock.model.step import Step

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels in this build")
KINDS = ["t5", "marian", "transformer", "chatglm", "dynamic", "falcon-rw"]


@pytest.fixture(scope="module")
def alone() -> Callable[[str], Alone]:
    return answers_alone()


@pytest.mark.parametrize("name", KINDS)
def test_alone_or_in_a_batch_of_16(alone: Callable[[str], Alone], name: str) -> None:
    model, asked, expected = alone(name)
    engine = engine_for(model, sequences=16)
    assert isinstance(engine.runner, NativeRunner)
    assert together(engine, asked) == expected
    assert together(engine, asked[::-1]) == expected[::-1]


@pytest.mark.parametrize("name", KINDS)
def test_what_pytorch_writes(alone: Callable[[str], Alone], name: str) -> None:
    model, asked, expected = alone(name)
    for request, events in zip(asked, expected, strict=True):
        wanted = plain(model, request)
        assert [event.token for event in events] == [event.token for event in wanted]
        assert [event.logprob for event in events] == pytest.approx([event.logprob for event in wanted], abs=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_in_a_cache_too_small(alone: Callable[[str], Alone], name: str) -> None:
    model, asked, expected = alone(name)
    engine = engine_for(model, blocks=9 if model.encoder is not None else 14, sequences=8, budget=40)
    assert together(engine, asked) == expected
    assert engine.stats.preemptions > 0
    assert engine.stats.used == 0


@pytest.mark.parametrize("name", KINDS)
def test_a_text_read_whole_is_what_pytorch_reads(alone: Callable[[str], Alone], name: str) -> None:
    """Logits whole, and of a decoder in pieces too."""
    model, asked, _ = alone(name)
    reader, request = Reader(model), max(asked, key=lambda one: len(one.prompt))
    source = request.prompt if model.encoder is not None else ()
    text = [0, *range(5, 30)] if source else list(request.prompt)
    assert reader.native
    with torch.no_grad():
        ids = torch.tensor([text])
        memory = model.encode(torch.tensor([source])) if source else None
        wanted = model(ids, Step.begin(model.architecture, ids, memory=memory))[0]
    torch.testing.assert_close(reader.logits(text, source), wanted, rtol=1e-4, atol=1e-4)
    if not source:
        pieces = torch.cat(list(reader.pieces(text, 7)))
        torch.testing.assert_close(pieces, wanted, rtol=1e-4, atol=1e-4)


def held(runner: NativeRunner) -> dict[int, int]:
    """Blocks of the sources that are kept, by their sequences."""
    assert runner.sources is not None
    return {key: blocks_for(source.filled) for key, source in runner.sources._kept.items()}


@pytest.mark.parametrize("seed", range(6))
def test_many_sources_in_little_room(alone: Callable[[str], Alone], seed: int) -> None:
    """Whoever comes and goes, sources keep to their room, and everybody gets what one alone gets."""
    model, asked, expected = alone("t5")
    chance, longest = random.Random(seed), max(blocks_for(len(request.prompt)) for request in asked)
    room = longest + chance.randrange(longest)
    runner = NativeRunner(model, chance.choice([9, 100]), sources=(room, 4096))
    engine = Engine(runner, model.architecture, sequences=8, budget=40, share_written=True)
    left, running = chance.sample(range(len(asked)), len(asked)), dict[int, tuple[Task, list[int]]]()
    while left or running:
        for place in left[: chance.randrange(5)]:
            left.remove(place)
            running[place] = engine.task(asked[place]), []
            engine.submit(running[place][0])
        if running and chance.randrange(12) == 0:
            gone, _ = running.pop(chance.choice(sorted(running)))
            engine.cancel(gone)
            assert gone.sequence.key not in held(runner), "what was cancelled is free at once"
        engine.step()
        assert sum(held(runner).values()) <= engine.stats.source_used <= engine.stats.source_blocks == room
        for place, (task, tokens) in tuple(running.items()):
            tokens += [event.token for event in engine.take(task)]
            if task.ended:
                assert running.pop(place)[1] == [event.token for event in expected[place]]
    assert held(runner) == {} and engine.stats.source_used == engine.stats.used == 0


def test_what_a_source_takes_is_counted() -> None:
    """As the kernels allocate it: what its decoder reads, and what its encoder reads it through."""
    sizes = {"vocab_size": 61, "d_model": 64, "d_kv": 32, "d_ff": 48, "num_layers": 3, "num_heads": 8}
    architecture = describe({"model_type": "t5", **sizes, "num_decoder_layers": 2, "decoder_start_token_id": 0})
    module, encoder = library(), architecture.encoder
    assert module is not None and encoder is not None
    for kind, item in (("float32", 4), ("bfloat16", 2)):
        shapes = source_shapes(architecture), cache_shapes(encoder)
        assert 5 * source_block_bytes(architecture, item) == sum(module.Cache(kind, 5, each).nbytes for each in shapes)
    assert source_block_bytes(random_model("llama").architecture, 4) == 0


def test_cache_and_sources_keep_to_what_a_control_group_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """T5 has no limit of length: each takes a quarter of what is free, and no more."""
    free = 64 * 2**20
    monkeypatch.setattr("paddock.kernels.system_memory._groups", lambda: [(2 * free, free)])
    for runner in (runner_for(random_model("t5")), TorchRunner(random_model("t5"), 5)):
        sources = runner.source_blocks * runner.source_block_bytes
        assert free / 4 - runner.source_block_bytes < sources <= free / 4
        assert cache_bytes(runner) <= free / 2 + 2**16  # the native cache rounds up to pages
    assert runner_for(random_model("llama")).source_blocks == 0


def test_a_source_that_never_fits_is_refused_with_the_numbers() -> None:
    model = random_model("t5")
    engine = Engine(NativeRunner(model, 9, sources=(2, 2**29)), model.architecture)
    with pytest.raises(
        ResourceError, match=r"a source text of 33 tokens takes 1\.6 GB, and sources have 1\.1 GB"
    ) as refused:
        engine.task(Request((5,) * 33, 4, start=(0,)))
    assert refused.value.expected == "at most 32 tokens"
    engine.task(Request((5,) * 32, 4, start=(0,)))


def rows(key: int, source: tuple[int, ...], start: int = 0) -> Rows:
    return Rows(key, (start,), start, [key], 1, 1, 16, source)


def test_a_text_begun_again_reads_its_source_again() -> None:
    model = random_model("t5")
    runner, fresh = (NativeRunner(model, 4) for _ in range(2))
    runner.run([rows(1, (5, 6, 7))])
    assert torch.equal(runner.run([rows(1, (9, 3))]), fresh.run([rows(1, (9, 3))]))


def test_sources_are_kept_for_as_long_as_their_texts(alone: Callable[[str], Alone]) -> None:
    model, asked, _ = alone("t5")
    engine = engine_for(model, sequences=4)
    runner: Any = engine.runner
    together(engine, asked)
    assert runner.sources._kept == {}
    runner.run([rows(1, (5, 6, 7)), rows(2, (4,) * 600)])
    assert sorted(runner.sources._kept) == [1, 2]
    runner.forget(1)
    assert sorted(runner.sources._kept) == [2]


def test_a_source_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = NativeRunner(random_model("t5"), 4)
    assert runner.sources is not None
    read: list[int] = []
    before = runner.sources._read
    monkeypatch.setattr(runner.sources, "_read", lambda group: (read.append(len(group)), before(group)))
    for start in range(4):
        runner.run([rows(key, (5, 6, 7), start) for key in (1, 2, 3)])
    assert read == [3]


def test_a_step_that_fails_leaves_no_source_half_read() -> None:
    """An id that no vocabulary has: the planner refuses it, and behind it so does the encoder."""
    runner = NativeRunner(random_model("t5"), 4)
    assert runner.sources is not None
    with pytest.raises(ValueError, match="vocabulary"):
        runner.run([rows(1, (5, 61))])
    assert runner.sources._kept == {}
    good = runner.run([rows(1, (5, 6))])
    assert torch.equal(good, NativeRunner(random_model("t5"), 4).run([rows(1, (5, 6))]))


def test_one_failed_source_fails_only_its_step(alone: Callable[[str], Alone]) -> None:
    model, asked, expected = alone("t5")
    engine: Engine = engine_for(model)
    with pytest.raises(ValueError, match="vocabulary"):
        together(engine, [Request((5, 999), 4, start=(0,))])
    assert together(engine, asked[:3]) == expected[:3]
