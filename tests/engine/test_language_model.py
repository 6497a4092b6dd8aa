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
from paddock.engine.locate import locate, names
from paddock.errors import (
    CheckpointError,
    ContextLengthError,
    PaddockError,
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
