"""The loop on tiny random models against transformers, and on real ones against published text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_models import VOCABULARY, Pair

import paddock
from paddock.engine import generate as engine
from paddock.engine.beam import BeamSearch
from paddock.engine.defaults import Search
from paddock.engine.memory import memory_for
from paddock.engine.request import Request
from paddock.engine.sampling import Sampling
from paddock.errors import ContextLengthError, PaddockError, ResourceError, UsageError
from paddock.model.families import describe
from paddock.model.step import Step
from paddock.model.transformer import Transformer

PROMPT = [1, 5, 9, 33]


def test_greedy_equals_transformers(llama: Pair) -> None:
    for prompt in ([1], PROMPT, list(range(1, 60)), [3] * 200):
        reference = llama.theirs.generate(torch.tensor([prompt]), max_new_tokens=64, do_sample=False)
        completion = llama.ours.generate(prompt, 64, temperature=0)
        assert list(completion.ids) == reference[0, len(prompt) :].tolist()
        assert completion.finish_reason == ("stop" if completion.ids[-1] == 2 else "length")


def test_repetition_penalty_and_ngrams_equal_transformers(llama: Pair) -> None:
    settings = {"repetition_penalty": 1.4, "no_repeat_ngram_size": 3}
    reference = llama.theirs.generate(torch.tensor([PROMPT]), max_new_tokens=64, do_sample=False, **settings)
    assert list(llama.ours.generate(PROMPT, 64, temperature=0, **settings).ids) == reference[0, len(PROMPT) :].tolist()


def test_each_step_sees_what_a_whole_forward_sees(llama: Pair) -> None:
    completion = llama.ours.generate(PROMPT, 40, seed=3, temperature=1.5, logprobs=4)
    whole = llama.ours.logits(PROMPT + list(completion.ids)).log_softmax(1)
    assert completion.logprobs is not None
    for place, known in enumerate(completion.logprobs):
        row = whole[len(PROMPT) + place - 1]
        assert known.logprob == pytest.approx(float(row[known.token]), abs=1e-4)
        assert [id for id, _ in known.top] == row.topk(4).indices.tolist()


def test_a_prompt_read_in_pieces_is_the_same_prompt(llama: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = torch.randint(3, VOCABULARY, (100,)).tolist()
    with torch.inference_mode():
        _, whole = engine.prefill(llama.ours.model, Request(tuple(prompt), 5))
        for size in (1, 7, 99, 100):
            monkeypatch.setattr(engine, "PIECE", size)
            step, pieces = engine.prefill(llama.ours.model, Request(tuple(prompt), 5))
            torch.testing.assert_close(pieces, whole, atol=1e-4, rtol=1e-4)
            assert step.start + step.tokens == 100


def test_the_head_is_computed_for_the_last_position_only(llama: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_KERNELS", "reference")
    ours, shapes = paddock.load(llama.ours.checkpoint.path), []
    logits = ours.model.logits
    monkeypatch.setattr(ours.model, "logits", lambda hidden: shapes.append(hidden.shape[:-1]) or logits(hidden))
    ours.generate([5] * 600, 3, temperature=0)
    assert shapes == [(1,)] * 3


def test_the_same_seed_gives_the_same_text_and_the_completion_tells_it(llama: Pair) -> None:
    first = llama.ours.generate(PROMPT, 30, temperature=1.5, seed=11)
    assert llama.ours.generate(PROMPT, 30, temperature=1.5, seed=11).ids == first.ids
    assert llama.ours.generate(PROMPT, 30, temperature=1.5, seed=12).ids != first.ids
    drawn = llama.ours.generate(PROMPT, 30, temperature=1.5)
    assert drawn.seed is not None
    assert llama.ours.generate(PROMPT, 30, temperature=1.5, seed=drawn.seed).ids == drawn.ids
    assert llama.ours.generate(PROMPT, 5, temperature=0).seed is None


def test_a_stream_is_lazy_and_ends_like_generate(llama: Pair) -> None:
    stream = llama.ours.stream(PROMPT, 30, temperature=1.5, seed=11)
    assert stream.events == []
    events = list(stream)
    completion = llama.ours.generate(PROMPT, 30, temperature=1.5, seed=11)
    assert tuple(event.token for event in events) == completion.ids == stream.completion().ids
    assert [event.finish_reason for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1].finish_reason == completion.finish_reason


def test_pieces_joined_are_the_text_and_continue_the_prompt(bundled: Any) -> None:
    for prompt in ("Once upon a time", "猫 and", 'Tom said: "', " "):
        for seed in range(2):
            settings = {"temperature": 2.0, "seed": seed}
            completion = bundled.generate(prompt, 24, **settings)
            pieces = [event.text for event in bundled.stream(prompt, 24, **settings)]
            assert "".join(pieces) == completion.text
            ids = bundled.tokenizer.encode(prompt)
            assert prompt + completion.text == bundled.tokenizer.decode([*ids, *completion.ids])
            echoed = bundled.stream(prompt, 24, echo=True, **settings)
            assert "".join(event.text for event in echoed) == prompt + completion.text == echoed.completion().text


def test_a_stop_string_at_every_place_of_the_text(bundled: Any) -> None:
    whole = bundled.generate("Once upon a time", 24, temperature=0).text
    across = 0
    for start in range(len(whole)):
        stop = whole[start : start + (1, 5, 12)[start % 3]]
        stream = bundled.stream("Once upon a time", 24, temperature=0, stop=stop)
        pieces = [event.text for event in stream]
        completion = stream.completion()
        assert "".join(pieces) == completion.text == whole[: whole.index(stop)]
        assert (completion.finish_reason, completion.stop_reason) == ("stop", stop)
        across += stop not in bundled.tokenizer.decode(completion.ids[-1:])
    assert across > 20  # most of these stops lie across tokens


def test_an_unfinished_stop_string_is_not_lost(bundled: Any) -> None:
    plain = bundled.generate("Once upon a time", 12, temperature=0)
    stopped = bundled.generate("Once upon a time", 12, temperature=0, stop=plain.text[-3:] + "§")
    assert stopped.text == plain.text
    assert stopped.finish_reason == "length"


def test_an_end_token_ends_and_shows_no_text(bundled: Any) -> None:
    completion = bundled.generate("Once", 20, temperature=0, logit_bias={2: 100.0})
    assert (completion.ids, completion.text) == ((2,), "")
    assert (completion.finish_reason, completion.stop_reason) == ("stop", 2)
    assert bundled.generate("Once", 5, temperature=0, logit_bias={2: 100.0}, min_new_tokens=3).ids[3:] == (2,)


def test_a_run_that_failed_fails_again(bundled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = bundled.stream("Once", 5, suppress_tokens=list(range(512)))
    for _ in range(2):
        with pytest.raises(UsageError, match="every token is forbidden"):
            next(stream)
        with pytest.raises(UsageError, match="every token is forbidden"):
            stream.completion()
    for read in (0, 2):
        broken = bundled.stream("Once", 5, temperature=0)
        for _ in range(read):
            next(broken)
        broken.close()
        with pytest.raises(PaddockError, match="broken off"):
            broken.completion()


@pytest.mark.parametrize("room", ["prompt", "step"])
def test_memory_that_runs_out_is_a_refusal(llama: Pair, monkeypatch: pytest.MonkeyPatch, room: str) -> None:
    monkeypatch.setenv("PADDOCK_KERNELS", "reference")
    ours = paddock.load(llama.ours.checkpoint.path)
    whole = ours.model.hidden

    def hidden(ids: torch.Tensor, step: Step) -> torch.Tensor:
        if (ids.shape[1] == 1) == (room == "step"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB.")
        return whole(ids, step)

    monkeypatch.setattr(ours.model, "hidden", hidden)
    for settings in ({"temperature": 0}, {"num_beams": 2}):
        with pytest.raises(ResourceError, match="memory"):
            ours.generate(PROMPT, 4, **settings)
    if room == "prompt":
        with pytest.raises(ResourceError, match="logits"):
            ours.logits(PROMPT)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
    ids=str,
)
def test_only_failed_allocations_are_about_memory(error: Exception, refused: bool) -> None:
    with (
        pytest.raises(
            ResourceError if refused else RuntimeError, match="not enough memory here" if refused else "mat1"
        ),
        memory_for("here"),
    ):
        raise error


def test_timings_and_counts(bundled: Any) -> None:
    completion = bundled.generate("Once upon a time", 10, temperature=0)
    assert completion.prompt_tokens == len(bundled.tokenizer.encode("Once upon a time"))
    assert completion.completion_tokens == 10
    assert completion.timings.prompt > 0 and completion.timings.decode > 0
    assert completion.tokens_per_second == pytest.approx(9 / completion.timings.decode)


def test_the_context_is_never_overrun_and_never_cut(bundled: Any) -> None:
    assert bundled.architecture.context == 512
    assert len(bundled.generate([1] * 500, 12, temperature=0, suppress_tokens=[2]).ids) == 12
    with pytest.raises(ContextLengthError, match="500 tokens and 13 new"):
        bundled.generate([1] * 500, 13)
    for length in (512, 513, 5120):
        with pytest.raises(ContextLengthError, match="512"):
            bundled.generate([1] * length)
    with pytest.raises(ContextLengthError):
        bundled.logits([1] * 513)


BAD_PROMPTS: list[Any] = [[], [512], [-1], [1.5], [True], None, 7, b"x", [[1]], {"a": 1}, "\ud800", "a\udfffb"]


@pytest.mark.parametrize("prompt", BAD_PROMPTS, ids=lambda value: ascii(value)[:20])
def test_bad_prompts_are_refused(bundled: Any, prompt: Any) -> None:
    with pytest.raises(PaddockError):
        bundled.generate(prompt, 5)


@pytest.mark.parametrize("prompt", ["", " ", "\0" * 50, "\ufeff", "</s>", "<s></s><unk>", "\u202e", "🙂" * 20, "\n"])
def test_odd_prompts_are_written_on(bundled: Any, prompt: str) -> None:
    completion = bundled.generate(prompt, 5, temperature=0, min_new_tokens=5)
    assert len(completion.ids) == 5
    assert bundled.generate(prompt, 5, temperature=0, min_new_tokens=5, echo=True).text.endswith(completion.text)


def test_special_tokens_in_a_prompt_are_text(bundled: Any) -> None:
    ids = bundled.planner.ids("</s>")
    assert ids[0] == 1 and 2 not in ids
    assert bundled.tokenizer.decode(ids) == "</s>"


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"seed": -1},
        {"max_new_tokens": 0},
        {"max_new_tokens": 10**12},
        {"max_new_tokens": True},
        {"logprobs": 21},
        {"stop": 5},
        {"stop": ["a"] * 17},
        {"logit_bias": {512: 1.0}},
        {"suppress_tokens": [512]},
        {"min_new_tokens": 50, "max_new_tokens": 5},
        {"temperatur": 1},
        {"num_beams": 2, "stop": "a"},
        {"num_beams": 2, "trace": True},
    ],
    ids=str,
)
def test_bad_settings_are_refused(bundled: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        bundled.generate("Once", **settings)


def test_a_cache_larger_than_the_machine_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(decoder_start_token_id=0, **sizes)).save_pretrained(tmp_path)
    model = paddock.load(tmp_path)
    assert model.architecture.context is None
    with pytest.raises(ResourceError, match="GB"):
        model.generate([5], 2**31)


def test_the_published_story(bundled: Any, shared_data: Path) -> None:
    reference = json.loads((shared_data / "weights/llama2c/reference_greedy.json").read_text())
    published = shared_data / "weights/llama2c"
    direct = paddock.load(published / reference["model"], tokenizer=published / reference["tokenizer"])
    for model in (bundled, direct):
        story = model.generate(reference["prompt_token_ids"], reference["steps"], temperature=0)
        assert story.text == reference["expected_text"]


def test_babyllama_logits_and_greedy_ids(shared_data: Path) -> None:
    folder = shared_data / "weights/llama2c"
    reference = json.loads((folder / "babyllama_tok361_reference.json").read_text())
    model = paddock.load(folder / "babyllama_tok361.bin")
    prompt = reference["prompt_token_ids"]
    logits = model.logits(prompt)[-1]
    torch.testing.assert_close(logits, torch.tensor(reference["next_token_logits"]), atol=3e-5, rtol=0)
    assert prompt + list(model.generate(prompt, 80, temperature=0).ids) == reference["greedy_token_ids"]


def test_a_model_without_a_tokenizer_runs_on_ids(shared_data: Path, tmp_path: Path) -> None:
    shutil.copy(shared_data / "weights/llama2c/babyllama_tok361.bin", tmp_path)
    shutil.copy(shared_data / "weights/llama2c/tok512.bin", tmp_path / "tokenizer.bin")  # another model's
    model = paddock.load(tmp_path / "babyllama_tok361.bin")
    completion = model.generate([1, 259], 5, temperature=0)
    assert len(completion.ids) == 5 and completion.text == ""
    with pytest.raises(UsageError, match="tokenizer"):
        model.generate("Once", 5)
    with pytest.raises(UsageError, match="tokenizer"):
        model.generate([1], 5, stop="a")
    with pytest.raises(PaddockError, match="361 tokens"):
        _ = model.tokenizer


def test_a_vocabulary_of_the_same_name_is_the_models(shared_data: Path) -> None:
    reference = json.loads((shared_data / "weights/llama2c/babyllama_tok361_reference.json").read_text())
    model = paddock.load(shared_data / "weights/llama2c/babyllama_tok361.bin")
    assert model.generate(reference["prompt"], 80, temperature=0, echo=True).text == reference["greedy_text"]


def test_a_prompt_that_sees_all_of_itself_is_read_whole() -> None:
    """ChatGLM-6B: its cached steps must agree with forwards over the whole text."""
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_layers": 2, "vocab_size": 64, "max_sequence_length": 64}
    ids = {"gmask_token_id": 60, "mask_token_id": 61, "bos_token_id": 62}
    architecture = describe({"model_type": "chatglm", "position_encoding_2d": True, **sizes, **ids})
    model = Transformer(architecture).eval()
    prompt = [5, 9, 33, 7, 60, 62]
    request = Request(tuple(prompt), 12, Sampling(temperature=0))
    greedy = engine.Generation(model, request).completion()
    best = BeamSearch(model, request, Search(num_beams=3)).completion()
    for written in (greedy.ids, best.ids):
        text = torch.tensor([[*prompt, *written]])
        with torch.no_grad():
            whole = model(text, Step.begin(architecture, text))[0, len(prompt) - 1 : -1].log_softmax(1)
        if written == greedy.ids:
            assert whole.argmax(1).tolist() == list(written)
        if written == best.ids:
            mean = whole.gather(1, torch.tensor(written)[:, None]).mean()
            assert best.score == pytest.approx(float(mean), abs=1e-4)
    with pytest.raises(UsageError, match="start token"):
        engine.Generation(model, Request((5, 9), 3)).completion()
