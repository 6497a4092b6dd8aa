"""Tiny random models of every kind that writes, and requests to them, for the tests of runners and the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from paddock.engine.answer import Answer
from paddock.engine.engine import Engine
from paddock.engine.generate import Generation, advance, prefill
from paddock.engine.request import Event, Request
from paddock.engine.runners import engine_for
from paddock.engine.sampling import Sampling
from paddock.engine.speculative import Speculator
from paddock.model.families import describe
from paddock.model.transformer import Transformer

_SIZES = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_LLAMA = {**_SIZES, "model_type": "llama", "intermediate_size": 48, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
_DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 48, "rope_theta": 10000.0}
_GLM = {"hidden_size": 32, "num_attention_heads": 4, "num_layers": 2, "vocab_size": 61, "max_sequence_length": 256}
_GLM_IDS = {"gmask_token_id": 57, "mask_token_id": 58, "bos_token_id": 59, "position_encoding_2d": True}
_T5 = {"vocab_size": 61, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
_SIDES = {f"{side}_{key}": value for side in ("encoder", "decoder")
          for key, value in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 48))}  # fmt: skip
_PAPER = {"vocab_size": 61, "d_model": 32, "num_heads": 4, "d_ff": 48, "encoder_layers": 2, "decoder_layers": 2}
_RW = {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True}
# Only run by test_native_runner.py.
MORE: dict[str, dict[str, Any]] = {
    "marian": {"model_type": "marian", "vocab_size": 61, "d_model": 32, "decoder_start_token_id": 0, **_SIDES},
    "transformer": {"model_type": "transformer", **_PAPER, "decoder_start_token_id": 0},
    "falcon-rw": {"model_type": "falcon", **_SIZES, **_RW},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA, "max_position_embeddings": 2048},
    "dynamic": {**_LLAMA, "max_position_embeddings": 192, "rope_parameters": _DYNAMIC},
    "mistral": {**_LLAMA, "model_type": "mistral", "sliding_window": 9, "max_position_embeddings": 2048},
    "bloom": {"model_type": "bloom", "vocab_size": 61, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "gpt2": {"model_type": "gpt2", "vocab_size": 61, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "chatglm": {"model_type": "chatglm", **_GLM, **_GLM_IDS},
    "t5": {"model_type": "t5", **_T5, "decoder_start_token_id": 0},
}
WRITES_ON = [name for name in CONFIGS if name not in ("chatglm", "t5")]


def random_model(name: str, seed: int = 3) -> Transformer:
    """Random weights with sharp opinions, so that equal choices mean equal logits."""
    torch.manual_seed(seed)
    model = Transformer(describe((CONFIGS | MORE)[name])).eval()
    for path, weight in model.named_parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
        elif path.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.1)
    return model.requires_grad_(False)


Alone = tuple[Transformer, list[Request], list[list[Event]]]


def answers_alone() -> Callable[[str], Alone]:
    """A model by its name, requests to it, and what each gets when it is the only one ever."""
    made: dict[str, Alone] = {}

    def get(name: str) -> Alone:
        if name not in made:
            model, asked = random_model(name), requests(name, 17)
            engine = engine_for(model, prefix_cache=False)
            made[name] = (model, asked, [together(engine, [request])[0] for request in asked])
        return made[name]

    return get


def requests(name: str, count: int, new: int = 24, longest: int = 60) -> list[Request]:
    """Prompts of all lengths, greedy and sampled, some beginning alike."""
    chance = torch.Generator().manual_seed(11)
    common = torch.randint(3, 57, (40,), generator=chance).tolist()
    made = []
    for i in range(count):
        length = int(torch.randint(1, longest, (1,), generator=chance))
        prompt = (common if i % 3 == 0 else []) + torch.randint(3, 57, (length,), generator=chance).tolist()
        sampling = Sampling(temperature=0) if i % 2 else Sampling(temperature=1.0, top_k=20, seed=i)
        rest: dict[str, Any] = {}
        if name == "chatglm":
            prompt = [*prompt, 57, 59]
        if name in ("t5", "marian", "transformer"):
            rest["start"] = (0,)
        made.append(Request(tuple(prompt), new, sampling, ends=(2,), logprobs=2, **rest))
    return made


def plain(model: Transformer, request: Request) -> list[Event]:
    """The answer by the plain loop over a contiguous cache."""
    answer, events = Answer(request), list[Event]()
    with torch.inference_mode():
        step, logits = prefill(model, request)
        while True:
            events.append(answer.take(logits))
            if events[-1].finish_reason is not None:
                return events
            step, rows = advance(model, step, torch.tensor([[events[-1].token]]))
            logits = rows[0]


def together(engine: Engine, asked: list[Request], make: Callable[[], Speculator | None] = lambda: None) -> list[Any]:
    """All of them at once; the events of each."""
    running = [Generation(engine, request, None, make()) for request in asked]
    left = list(running)
    while left:
        left = [generation for generation in left if next(generation, None) is not None]
    return [generation.events for generation in running]
