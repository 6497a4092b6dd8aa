"""Several adapters in one engine: each request gets what an engine with its adapter alone gives, bit for bit."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_runner import FakeRunner, written
from random_models import CONFIGS, random_model, requests, together

import paddock
from paddock.checkpoint import safetensors
from paddock.engine import carrying
from paddock.engine.carrying import Adapter
from paddock.engine.engine import Engine
from paddock.engine.generate import Generation
from paddock.engine.language_model import LanguageModel
from paddock.engine.request import Event, Request
from paddock.engine.runner import Rows
from paddock.engine.runners import Home, engine_for
from paddock.engine.sampling import Sampling
from paddock.engine.torch_runner import TorchRunner
from paddock.errors import ResourceError, UsageError
from paddock.kernels.native import library
from paddock.model.families import describe
from paddock.model.lora import LowRank, adapt, adaptable
from paddock.model.several import ranks_of
from paddock.model.transformer import Transformer

_EXPERTS = {"num_local_experts": 3, "num_experts_per_tok": 2}
KINDS = {
    "llama": CONFIGS["llama"],
    "gpt2": CONFIGS["gpt2"],
    "bloom": CONFIGS["bloom"],
    "mixtral": {**CONFIGS["llama"], "model_type": "mixtral", **_EXPERTS},
}
native = pytest.mark.skipif(library() is None, reason="the native kernels are not built")


@pytest.fixture(scope="module")
def models() -> Callable[[str, torch.dtype], tuple[Transformer, list[Transformer]]]:
    """A base, and three adapters on it: of other ranks, other matrices and other strengths."""
    made: dict[Any, tuple[Transformer, list[Transformer]]] = {}

    def get(name: str, dtype: torch.dtype = torch.float32) -> tuple[Transformer, list[Transformer]]:
        if (name, dtype) not in made:
            model = (random_model(name) if name in CONFIGS else _mixture()).to(dtype)
            made[name, dtype] = model, [adapted(model, seed) for seed in (1, 2, 3)]
        return made[name, dtype]

    return get


def _mixture() -> Transformer:
    torch.manual_seed(4)
    model = Transformer(describe(KINDS["mixtral"])).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return model.requires_grad_(False)


def adapted(model: Transformer, seed: int) -> Transformer:
    """With an adapter of rank 3, 5 or 7 on every matrix, all but each second, or all but each third."""
    chance = torch.Generator().manual_seed(seed)
    rank = 1 + 2 * seed

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=chance) * 0.2

    sites = [site for place, site in enumerate(adaptable(model).items()) if seed == 1 or place % seed]
    return adapt(model, {path: LowRank(numbers(rank, width), numbers(out, rank), 1.5) for path, (out, width) in sites})


def mixed(engine: Engine, asked: Sequence[tuple[Request, Adapter | None]]) -> list[list[Event]]:
    """All of them at once; the events of each."""
    running = [Generation(engine, request, adapter=adapter) for request, adapter in asked]
    left = list(running)
    while left:
        left = [generation for generation in left if next(generation, None) is not None]
    return [generation.events for generation in running]


def alone(engines: Sequence[Engine], asked: Sequence[Request]) -> list[list[Event]]:
    """Each request in the engine of its turn: the base's, the first adapter's, ..."""
    return [together(engines[place % len(engines)], [request])[0] for place, request in enumerate(asked)]


def put(engine: Engine, model: Transformer, twins: Sequence[Transformer]) -> list[Adapter | None]:
    """No adapter, and then each."""
    found = [engine.adapters.put(model, twin) for twin in twins]
    assert None not in found
    return [None, *found]


def turns(asked: Sequence[Request], adapters: Sequence[Adapter | None]) -> list[tuple[Request, Adapter | None]]:
    return [(request, adapters[place % len(adapters)]) for place, request in enumerate(asked)]


@native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_three_adapters_and_the_base_in_a_batch_of_16(models: Any, name: str, dtype: torch.dtype) -> None:
    model, twins = models(name, dtype)
    asked = requests("llama", 16, new=16)
    expected = alone([engine_for(one, prefix_cache=False) for one in (model, *twins)], asked)
    engine = engine_for(model, sequences=16)
    adapters = put(engine, model, twins)
    assert mixed(engine, turns(asked, adapters)) == expected
    assert mixed(engine, turns(asked, adapters)[::-1]) == expected[::-1]  # some of it from the cache
    plain = [asked[place] for place in range(0, 16, 4)]
    assert together(engine, plain) == expected[::4]
    small = engine_for(model, blocks=9, sequences=8, budget=40)
    assert mixed(small, turns(asked, put(small, model, twins))) == expected
    assert small.stats.preemptions > 0 and small.stats.used == 0


@native
@pytest.mark.parametrize("threads", [1, 2])
def test_a_long_prompt_beside_those_that_write(models: Any, threads: int) -> None:
    """Enough rows that linears are cut over threads."""
    model, twins = models("llama")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        asked = requests("llama", 6, new=8, longest=60)
        long = tuple(int(i) for i in torch.randint(3, 57, (700,), generator=torch.Generator().manual_seed(2)))
        asked.insert(3, Request(long, 8, Sampling(temperature=0), logprobs=2))
        expected = alone([engine_for(one) for one in (model, *twins)], asked)
        engine = engine_for(model)
        assert mixed(engine, turns(asked, put(engine, model, twins))) == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_in_pytorch(models: Any, name: str) -> None:
    model, twins = models(name)
    asked = requests("llama", 12, new=8)

    def engine_of(one: Transformer, together: bool) -> Engine:
        return Engine(TorchRunner(one, 400, together), model.architecture, sequences=16)

    expected = alone([engine_of(one, False) for one in (model, *twins)], asked)
    engine = engine_of(model, False)
    assert mixed(engine, turns(asked, put(engine, model, twins))) == expected
    piled = engine_of(model, True)  # as on a GPU: one product for all that write
    found = mixed(piled, turns(asked, put(piled, model, twins)))
    assert [[event.token for event in events] for events in found] == [[e.token for e in events] for events in expected]
    close = [
        (a.logprob, b.logprob) for xs, ys in zip(found, expected, strict=True) for a, b in zip(xs, ys, strict=True)
    ]
    assert torch.allclose(*torch.tensor(close).T, atol=1e-4)


@native
@pytest.mark.parametrize("quantize", ["q8_0", "q4_0"])
def test_on_a_quantised_base(adapter_folder: Callable[[int], Path], quantize: str) -> None:
    base = paddock.load(quantize=quantize)
    ones = [base, *(base.with_adapter(adapter_folder(seed)) for seed in (1, 2, 3))]
    prompts = ["Once upon a time", "The cat and the dog", "Lily"]
    expected = [[_apart(one).generate(prompt, 20, temperature=0) for one in ones] for prompt in prompts]
    running = [[one.stream(prompt, 20, temperature=0) for one in ones] for prompt in prompts]
    left = [stream for streams in running for stream in streams]
    while left:
        left = [stream for stream in left if next(stream, None) is not None]
    assert [[stream.completion().text for stream in streams] for streams in running] == [
        [completion.text for completion in completions] for completions in expected
    ]
    assert len({completion.text for completion in expected[0]}) > 2
    assert {id(one.engine) for one in ones} == {id(base.engine)}
    assert base.engine.stats.adapters == 3 and 0 < base.engine.stats.adapter_bytes < 2**20


@pytest.fixture
def adapter_folder(tmp_path: Path) -> Callable[[int], Path]:
    def make(seed: int, **more: Any) -> Path:
        folder = tmp_path / f"{seed}{len(more)}"
        folder.mkdir()
        about = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "stories260K", **more}
        (folder / "adapter_config.json").write_text(json.dumps(about))
        chance, tensors = torch.Generator().manual_seed(seed), {}
        for layer in range(5):
            name = f"base_model.model.model.layers.{layer}.self_attn"
            for role, out in (("q_proj", 64), ("v_proj", 32)):
                tensors[f"{name}.{role}.lora_A.weight"] = torch.randn(2, 64, generator=chance) * 0.4
                tensors[f"{name}.{role}.lora_B.weight"] = torch.randn(out, 2, generator=chance) * 0.4
                if more:
                    tensors[f"{name}.{role}.lora_magnitude_vector.weight"] = torch.ones(out)
        safetensors.save(folder / "adapter_model.safetensors", tensors)
        return folder

    return make


def _apart(model: LanguageModel) -> LanguageModel:
    """The same with an engine of its own."""
    return LanguageModel(model.checkpoint, model.model, model.tokenizer, model.template)


def test_what_is_more_than_low_ranks_has_an_engine_of_its_own(adapter_folder: Callable[..., Path]) -> None:
    base = paddock.load()
    plain, dora = base.with_adapter(adapter_folder(1)), base.with_adapter(adapter_folder(1, use_dora=True))
    assert plain.engine is base.engine and dora.engine is not base.engine
    assert ranks_of(base.model, dora.model) is None
    other = paddock.load()
    assert ranks_of(other.model, plain.model) is None  # other weights, if equal ones
    assert Home(plain.model, other._home).find()[0] is not other.engine


def test_an_adapter_of_an_encoder_decoder_has_an_engine_of_its_own() -> None:
    """Its encoder has the adapter too, and reads sources before there are rows: whoever asks, a server among them."""
    model = random_model("transformer")
    twin = adapted(model, 1)
    assert ranks_of(model, twin) is not None
    assert engine_for(model).adapters.put(model, twin) is None


def test_the_cache_of_one_adapter_is_nobody_else_s() -> None:
    """A runner that tells from its slots what was read; blocks of equal tokens are another adapter's."""
    runner, model = FakeRunner(64), random_model("llama")
    engine = Engine(runner, model.architecture)
    adapters = put(engine, model, [adapted(model, 1), adapted(model, 2)])
    prompt = tuple(range(3, 43))
    for place, adapter in enumerate((*adapters, *adapters)):
        (events,) = mixed(engine, [(Request(prompt, 3, Sampling(temperature=0)), adapter)])
        assert [event.token for event in events] == written(prompt, 3)
        assert engine.scheduler.reused == max(place - 2, 0) * 32
        assert {rows.adapter for rows in runner.batches[-1]} == {0 if adapter is None else adapter.number}


@native
def test_an_adapter_goes_when_its_last_request_has_ended(models: Any) -> None:
    model, twins = models("llama")
    engine = engine_for(model)
    asked = requests("llama", 2, new=12)
    expected = alone([engine_for(twin) for twin in twins[:1]], asked)
    adapter = engine.adapters.put(model, twins[0])
    running = [Generation(engine, request, adapter=adapter) for request in asked]
    next(running[0]), next(running[1])
    del adapter
    gc.collect()
    other = engine.adapters.put(model, twins[1])  # while they run
    assert len(engine.adapters) == 2
    assert [[*generation] and generation.events for generation in running] == expected
    del running
    gc.collect()
    engine.adapters.sweep()
    assert len(engine.adapters) == 1 and engine.stats.adapter_bytes == other.nbytes
    del other
    gc.collect()
    engine.step()
    assert engine.stats.adapters == 0
    assert together(engine, asked) == together(engine_for(model), asked)


@native
def test_adapters_come_and_go_while_others_write(models: Any) -> None:
    model, twins = models("llama")
    asked = requests("llama", 8, new=40)
    expected = alone([engine_for(one) for one in (model, *twins)], asked)
    engine = engine_for(model)
    adapters = put(engine, model, twins)
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            assert engine.adapters.put(model, twins[0]) is not None

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        assert mixed(engine, turns(asked, adapters)) == expected
    finally:
        over.set()
        thread.join()


def test_bounds(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, twins = models("llama")
    engine = engine_for(model)
    monkeypatch.setattr(carrying, "MOST", 1)
    held = engine.adapters.put(model, twins[0])
    with pytest.raises(ResourceError, match="1 adapters already"):
        engine.adapters.put(model, twins[1])
    assert len(engine.adapters) == 1 and held is not None
    monkeypatch.setattr(carrying, "free_memory", lambda device: 100)
    with pytest.raises(ResourceError, match="MB"):
        engine.adapters.put(model, twins[1])


@native
def test_an_adapter_of_another_engine_is_refused(models: Any) -> None:
    """Its rows would be computed with the base alone."""
    model, twins = models("llama")
    (request,) = requests("llama", 1)
    engine, other = engine_for(model), engine_for(model)
    here, there = engine.adapters.put(model, twins[0]), other.adapters.put(model, twins[0])
    with pytest.raises(UsageError, match="another engine"):
        Generation(engine, request, adapter=there)
    assert here is not None and there is not None
    program: Any = engine.runner
    for number in (here.number + 10**6, -1):
        with pytest.raises(ValueError, match="adapter"):
            program.run([Rows(1, [5, 6], 0, [0], 2, 1, 4, (), number)])
