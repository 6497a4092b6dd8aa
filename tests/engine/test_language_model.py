"""The Python object: opening, settings, logits, chat, saving."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_models import Pair, save_llama

import paddock
from paddock.checkpoint.checkpoint import Checkpoint
from paddock.engine import planning
from paddock.engine.device import chosen_device
from paddock.engine.locate import locate, names
from paddock.errors import (
    CheckpointError,
    ContextLengthError,
    PaddockError,
    ResourceError,
    TemplateError,
    TokenizerError,
    UnsupportedError,
    UsageError,
)


def test_importing_paddock_brings_no_torch() -> None:
    code = "import sys, paddock; assert 'torch' not in sys.modules; print(paddock.__version__, paddock.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "load" in done.stdout
    with pytest.raises(AttributeError, match="lod"):
        _ = paddock.lod  # type: ignore[attr-defined]


def test_nothing_is_the_bundled_model(bundled: Any) -> None:
    assert bundled.architecture.family == "llama"
    assert bundled.checkpoint.path == names()["stories260K"]
    assert paddock.load("stories260K").generate("Once", 3, temperature=0).text


def test_names_live_under_paddock_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_llama(tmp_path / "models" / "tiny")
    monkeypatch.setenv("PADDOCK_HOME", str(tmp_path))
    assert locate("tiny") == tmp_path / "models" / "tiny"
    assert paddock.load("tiny").architecture.width == 32
    with pytest.raises(UsageError, match="the nearest known is 'tiny'") as refusal:
        paddock.load("tinny")
    assert str(tmp_path) in str(refusal.value.fix)


@pytest.mark.parametrize("model", ["", "  ", "a\0b", 5, b"x", "x" * 5000, "org/unknown-model"])
def test_what_is_no_model_is_a_usage_error(model: Any) -> None:
    with pytest.raises(UsageError):
        paddock.load(model)


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "lost.gguf", "lost.bin", Path("lost")])
def test_a_path_that_is_not_there_is_a_missing_file(model: Any) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        paddock.load(model)


def test_arguments_of_load(llama: Pair) -> None:
    path = llama.ours.checkpoint.path
    assert paddock.load(path, dtype="bfloat16").logits([1]).dtype == torch.float32
    for wrong in ({"quantize": "int4"}, {"dtype": "int3"}, {"device": "toaster"}):
        with pytest.raises(UsageError):
            paddock.load(path, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "device", ["cuda", "cuda:0", "cuda:99", "xpu", "mps", "meta", "cpu:1", -1, 2**70, ["cpu"], None]
)
def test_devices_that_are_not_there_are_refused(llama: Pair, monkeypatch: pytest.MonkeyPatch, device: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="device") as refusal:
        paddock.load(llama.ours.checkpoint.path, device=device)
    assert "no CUDA device" in str(refusal.value.expected)


def test_devices_that_are_there_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(chosen_device(device)) for device in ("auto", "cuda:1", "cpu")] == ["cuda", "cuda:1", "cpu"]
    with pytest.raises(UsageError, match="cuda:2") as refusal:
        chosen_device("cuda:2")
    assert "cuda:0 to cuda:1" in str(refusal.value.expected)


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.float8_e4m3fn, torch.complex64, ["float32"], None, 5, "int3"], ids=str
)
def test_types_that_no_model_runs_in_are_refused(llama: Pair, dtype: Any) -> None:
    with pytest.raises(UsageError, match="dtype"):
        paddock.load(llama.ours.checkpoint.path, dtype=dtype)


def test_every_type_that_is_taken_runs(llama: Pair) -> None:
    for dtype in ("float32", "bfloat16", "float16", torch.bfloat16, torch.float64):
        assert (
            paddock.load(llama.ours.checkpoint.path, dtype=dtype, device="cpu").generate([1, 5], 3, temperature=0).ids
        )


def test_weights_that_do_not_fit_in_memory_are_refused(llama: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def model(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Checkpoint, "model", model)
    with pytest.raises(ResourceError, match="weights"):
        paddock.load(llama.ours.checkpoint.path)


def test_logits_of_one_text_and_of_several(llama: Pair) -> None:
    rows = torch.randint(0, 97, (3, 10))
    with torch.no_grad():
        reference = llama.theirs(rows).logits
    both = llama.ours.logits(rows)
    assert both.shape == (3, 10, 97) and both.dtype == torch.float32
    torch.testing.assert_close(both, reference, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(llama.ours.logits(rows[1].tolist()), reference[1], atol=1e-4, rtol=1e-4)
    assert llama.ours.logits(rows.tolist()).shape == (3, 10, 97)


@pytest.mark.parametrize("ids", [[], [[]], [97], [-1], [[1, 2], [3]], [1.0], "text", None, [[[1]]], 5, torch.zeros(2)])
def test_ids_that_are_none_have_no_logits(llama: Pair, ids: Any) -> None:
    with pytest.raises(UsageError):
        llama.ours.logits(ids)


def test_source_ids_are_for_encoder_decoders_only(llama: Pair) -> None:
    with pytest.raises(UsageError, match="source"):
        llama.ours.logits([1, 2], source=[3])
    with pytest.raises(ContextLengthError):
        llama.ours.logits([1] * 1025)


def test_each_text_has_its_source(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(decoder_start_token_id=0, **sizes)).save_pretrained(tmp_path)
    model = paddock.load(tmp_path)
    assert model.logits([[0, 3], [0, 4]], source=[[5, 1], [6, 1]]).shape == (2, 2, 50)
    for ids, source in (
        ([[0], [0], [0]], [[5, 1], [6, 1]]),
        ([[0], [0]], [[5, 1]]),
        ([[0]], [[5, 1], [6, 1]]),
        ([0, 3], [[5, 1], [6, 1]]),
        ([[0], [0]], [5, 1]),
        ([[0]], [5, 1]),
    ):
        with pytest.raises(UsageError, match="source"):
            model.logits(ids, source=source)


def published(folder: Path, generation: dict[str, Any]) -> Any:
    save_llama(folder)
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return paddock.load(folder)


def test_the_models_defaults_are_used_and_shown(tmp_path: Path) -> None:
    model = published(tmp_path, {"do_sample": True, "temperature": 0.6, "top_k": 7, "eos_token_id": [2, 9]})
    shown = model.settings(top_k=3).values()
    assert shown["temperature"] == (0.6, "model")
    assert shown["top_k"] == (3, "request")
    ended = model.generate([1, 5], 8, logit_bias={9: 100.0})
    assert (ended.ids, ended.stop_reason) == ((9,), 9)


def test_an_end_token_with_a_spelling_is_not_shown(bundled: Any, tmp_path: Path) -> None:
    bundled.save(tmp_path)
    comma = bundled.tokenizer.id_of(",")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, comma], "do_sample": False}))
    completion = paddock.load(tmp_path).generate("Once upon", 20)
    assert (completion.text, completion.ids[-1], completion.stop_reason) == (" a time", comma, comma)


def test_defaults_that_cannot_be_honoured_stop_generation_only(tmp_path: Path) -> None:
    model = published(tmp_path, {"guidance_scale": 3.0})
    assert model.logits([1]).shape == (1, 97)
    with pytest.raises(UnsupportedError, match="guidance_scale"):
        model.generate([1], 3)
    assert paddock.load(tmp_path, ignore_config=["guidance_scale"]).generate([1], 3).ids


def test_published_lengths_and_stops(tmp_path: Path) -> None:
    assert published(tmp_path, {"max_new_tokens": 3, "min_new_tokens": 3}).generate([1]).completion_tokens == 3
    assert published(tmp_path, {"max_length": 9, "min_length": 9}).generate([1, 5]).completion_tokens == 7


@pytest.mark.parametrize("name", ["min_length", "max_length", "stop_strings", "eos_token_id", "max_new_tokens"])
def test_published_keys_that_are_null_or_ignored_mean_nothing(tmp_path: Path, bundled: Any, name: str) -> None:
    bundled.save(tmp_path)
    plain = bundled.generate("Once upon a time", 40, temperature=0)
    stopping = {"min_length": 500, "max_length": 20, "stop_strings": ["the"], "eos_token_id": 403, "max_new_tokens": 9}
    limit = None if name.startswith("max") else 40
    for value, ignore in ((None, []), (stopping[name], [name]), ("junk", [name])):
        (tmp_path / "generation_config.json").write_text(json.dumps({name: value, "do_sample": False}))
        found = paddock.load(tmp_path, ignore_config=ignore).generate("Once upon a time", limit)
        assert found.ids[:40] == plain.ids and len(found.ids) >= 40


CONVERSATION = [{"role": "user", "content": "Once upon a time </s>"}]


def test_chat_renders_the_template_and_stops_where_it_says(bundled: Any) -> None:
    model = paddock.load(template="vicuna")
    completion = model.chat(CONVERSATION, 12, temperature=0)
    prompt = model.stream_chat(CONVERSATION, 12, temperature=0).request.prompt
    text = model.tokenizer.decode(prompt)
    assert text.startswith("A chat between a curious user") and text.endswith("ASSISTANT:")
    assert prompt[0] == 1 and 2 not in prompt  # what a user writes is never a control token
    assert completion.ids == bundled.generate(list(prompt), 12, temperature=0).ids
    assert 2 in model.stream_chat(CONVERSATION, 12).request.ends
    streamed = "".join(event.text for event in model.stream_chat(CONVERSATION, 12, temperature=0))
    assert streamed == completion.text


def test_a_templates_stop_strings_are_added_to_the_users(bundled: Any) -> None:
    model = paddock.load(template="baize")
    request = model.stream_chat(CONVERSATION, 5, stop="END").request
    assert request.stop == ("END", "[|Human|]", "[|AI|]")


def test_a_template_leaves_the_published_stop_strings_and_their_limit(bundled: Any, tmp_path: Path) -> None:
    bundled.save(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"stop_strings": ["END"]}))
    model = paddock.load(tmp_path, template="baize")
    assert model.stream_chat(CONVERSATION, 5).request.stop == ("END", "[|Human|]", "[|AI|]")
    assert model.stream_chat(CONVERSATION, 5, stop=[]).request.stop == ("[|Human|]", "[|AI|]")
    mine = [f"stop {i}" for i in range(16)]
    assert model.stream_chat(CONVERSATION, 5, stop=mine).request.stop == (*mine, "[|Human|]", "[|AI|]")
    with pytest.raises(UsageError, match="17 stop strings"):
        model.stream_chat(CONVERSATION, 5, stop=[*mine, "more"])


def test_a_search_says_whose_stop_strings_it_does_not_know(bundled: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"chat template ends at '\[|Human|\]'"):
        paddock.load(template="baize").chat(CONVERSATION, 5, num_beams=2)
    bundled.save(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"stop_strings": ["END"]}))
    model = paddock.load(tmp_path)
    with pytest.raises(UsageError, match=r"generation_config.json sets stop_strings"):
        model.generate("Once", 5, num_beams=2)
    assert model.generate("Once", 5, num_beams=2, stop=[]).ids


@pytest.mark.parametrize(
    "options",
    [
        {"tools": []},
        {"messages": []},
        {"now": None},
        {"add_generation_prompt": False},
        {"tokenizer": None},
        {"template": None},
        {"bos_token": "x"},
        {5: 1},
        [],
        "tools",
    ],
    ids=str,
)
def test_template_options_that_chat_sets_itself_are_refused(options: Any) -> None:
    with pytest.raises(UsageError, match="template_options"):
        paddock.load(template="vicuna").chat(CONVERSATION, 5, template_options=options)


def test_no_template_is_ever_assumed(bundled: Any) -> None:
    assert bundled.template is None
    with pytest.raises(TemplateError, match="no chat template"):
        bundled.chat(CONVERSATION)


@pytest.mark.parametrize("messages", [[], "hello", [{"role": "user"}], [{"role": "user", "content": 5}], [5], None])
def test_messages_that_are_none_are_refused(messages: Any) -> None:
    with pytest.raises(PaddockError):
        paddock.load(template="vicuna").chat(messages, 5)


def test_what_is_saved_is_the_same_model(bundled: Any, tmp_path: Path) -> None:
    paddock.load(template="vicuna").save(tmp_path)
    again = paddock.load(tmp_path)
    prompt = "Tim had a dog"
    assert torch.equal(again.logits([1, 5, 9]), bundled.logits([1, 5, 9]))
    assert again.generate(prompt, 20, temperature=0).text == bundled.generate(prompt, 20, temperature=0).text
    assert again.generation == bundled.generation
    assert again.chat(CONVERSATION, 3, temperature=0).ids


def test_nothing_of_another_model_stays_where_one_is_saved(bundled: Any, llama: Pair, tmp_path: Path) -> None:
    paddock.load(template="vicuna").save(tmp_path)
    for name in (
        "chat_template.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "old.vocab",
        "modules.json",
        "mine.txt",
    ):
        (tmp_path / name).write_text("[]")
    bundled.save(tmp_path)
    again = paddock.load(tmp_path)
    assert again.template is None
    assert again.tokenizer.fingerprint() == bundled.tokenizer.fingerprint()
    llama.ours.save(tmp_path)
    with pytest.raises(TokenizerError):
        _ = paddock.load(tmp_path).tokenizer
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"config.json", "generation_config.json", "model.safetensors", "mine.txt"}


def test_a_tokenizer_asked_for_again_and_again_leaves_no_trail(llama: Pair) -> None:
    depths = set()
    for _ in range(3):
        with pytest.raises(TokenizerError) as refusal:
            _ = llama.ours.tokenizer
        depths.add(len(refusal.traceback))
    assert len(depths) == 1


def test_a_broken_tokenizer_is_refused_at_once_a_missing_one_when_used(tmp_path: Path) -> None:
    save_llama(tmp_path)
    model = paddock.load(tmp_path)
    with pytest.raises(TokenizerError):
        _ = model.tokenizer
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError):
        paddock.load(tmp_path)


def test_rows_without_a_token_are_not_written(tmp_path: Path, bundled: Any) -> None:
    save_llama(tmp_path, pad_token_id=0)
    (tmp_path / "tokenizer.vocab").write_text("\n".join(["<unk>", "<s>", "</s>", *map(chr, range(97, 97 + 26))]))
    model = paddock.load(tmp_path)
    size = len(model.tokenizer)
    assert size < model.architecture.vocabulary
    assert all(id < size for id in model.generate([1, 5], 60, temperature=3.0, seed=1).ids)
    assert all(id < size for id in model.generate([1, 5], 20, num_beams=3).ids)


def test_ids_without_a_piece_are_not_a_setting(bundled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_holes", lambda _: (3, 7))
    model = paddock.load()
    found = model.settings(suppress_tokens=[9])
    assert found.constraints.holes == (3, 7)
    assert found.values()["suppress_tokens"] == ((9,), "request")
    assert model.settings().values()["suppress_tokens"] == ((), "default")


@pytest.mark.parametrize(
    "setting", [{"bad_words_ids": [[5], [99999]]}, {"begin_suppress_tokens": [99999]}, {"suppress_tokens": [99999]}]
)
def test_settings_name_ids_of_the_vocabulary(bundled: Any, setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="names token 99999"):
        bundled.generate([1], 2, **setting)
