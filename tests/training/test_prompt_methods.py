"""Prefix and prompt tuning: PEFT's logits, gradients and folders; tokens that every document stands behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as hf
from adapter_runs import (
    FAMILIES,
    assert_goes_on_bit_for_bit,
    assert_packing_changes_nothing,
    gradients,
    logits,
    reopened,
    tiny,
)
from safetensors.torch import load_file, save_file

import paddock
from paddock.checkpoint.adapters import CONFIG, WEIGHTS
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.prompt_folders import NETWORK
from paddock.data.batch import Batch
from paddock.errors import CheckpointError, ContextLengthError, UnsupportedError, UsageError
from paddock.kernels.native import library
from paddock.model.recording import recordable
from paddock.model.step import Step
from paddock.training.methods import Base
from paddock.training.methods.prefix import PrefixTuning, PromptTuning

pytestmark = pytest.mark.filterwarnings("ignore")  # the oracle's own
METHODS: dict[str, Any] = {
    "prefix": PrefixTuning(tokens=4),
    "projected": PrefixTuning(tokens=3, projection=True, hidden=5),
    "prompt": PromptTuning(tokens=4),
}
# What every kind of position makes of tokens that stand before: rotated, in a window, learned, distance penalties.
ORACLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (hf.LlamaConfig, {k: v for k, v in FAMILIES["llama"].items() if k != "model_type"}),
    "mistral": (hf.MistralConfig, {k: v for k, v in FAMILIES["mistral"].items() if k != "model_type"}),
    "gpt2": (hf.GPT2Config, {"vocab_size": 61, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32,
                             "bos_token_id": 1, "eos_token_id": 2,
                             **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)}),
    "bloom": (hf.BloomConfig, {"vocab_size": 61, "hidden_size": 16, "n_layer": 2, "n_head": 4, "hidden_dropout": 0.0}),
}  # fmt: skip


def opened(family: str, folder: Path) -> tuple[Base, Any]:
    kind, settings = ORACLES[family]
    torch.manual_seed(3)
    theirs = hf.AutoModelForCausalLM.from_config(kind(**settings)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
    theirs.save_pretrained(folder)
    found = open_checkpoint(folder)
    return Base(found.model("float32"), found.config, found.generation, str(folder)), theirs


@pytest.mark.parametrize("family", ORACLES)
@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_loss_gradients_and_folders_are_peft_s(name: str, family: str, tmp_path: Path) -> None:
    base, theirs = opened(family, tmp_path / "base")
    tuned = METHODS[name].attach(base, 1)
    tuned.write(tmp_path / "ours", tuned.model)
    wrapped = peft.PeftModel.from_pretrained(theirs, tmp_path / "ours", is_trainable=False).eval()
    ids = torch.randint(3, 61, (2, 11))
    want = wrapped(ids).logits[:, -11:]
    assert (logits(tuned.model, ids) - want).abs().max() < 1e-5 * float(want.abs().max())
    weight = wrapped.prompt_encoder["default"].embedding.weight.requires_grad_()
    targets = torch.randint(3, 61, (2, 11))
    loss = torch.nn.functional.cross_entropy(wrapped(ids).logits[:, -11:].flatten(0, 1), targets.flatten())
    loss.backward()
    mine, found = gradients(tuned, Batch(ids, targets))
    assert mine == pytest.approx(float(loss.detach()), abs=1e-5)
    (gradient,) = found.values()
    assert weight.grad is not None and weight.grad.abs().max() > 0
    assert (gradient - weight.grad).abs().max() <= 1e-5 * max(1.0, float(weight.grad.abs().max()))
    wrapped.save_pretrained(tmp_path / "theirs")
    again = logits(reopened(base, tmp_path / "theirs"), ids)
    assert (again - want).abs().max() < 1e-5 * float(want.abs().max())
    assert (again - logits(base.model, ids)).abs().max() > 1e-3


def test_a_projection_learns_as_peft_s_does(tmp_path: Path) -> None:
    base, theirs = opened("llama", tmp_path / "base")
    tuned = METHODS["projected"].attach(base, 1)
    asked = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=5
    )
    wrapped = peft.get_peft_model(theirs, asked)
    network = wrapped.prompt_encoder["default"]
    pairs = {
        "ahead.embedding": network.embedding.weight,
        "ahead.inner.weight": network.transform[0].weight,
        "ahead.inner.bias": network.transform[0].bias,
        "ahead.outer.weight": network.transform[2].weight,
        "ahead.outer.bias": network.transform[2].bias,
    }
    assert set(pairs) == tuned.learns and wrapped.get_nb_trainable_parameters()[0] == tuned.trainable
    for name, parameter in pairs.items():
        parameter.data.copy_(tuned.model.get_parameter(name).data)
    ids, targets = torch.randint(3, 61, (2, 11)), torch.randint(3, 61, (2, 11))
    torch.nn.functional.cross_entropy(wrapped(ids).logits.flatten(0, 1), targets.flatten()).backward()
    for name, gradient in gradients(tuned, Batch(ids, targets))[1].items():
        want = pairs[name].grad
        assert want is not None and (gradient - want).abs().max() <= 1e-5 * max(1.0, float(want.abs().max())), name
    tuned.write(tmp_path / "ours", tuned.model)
    plain = peft.PeftModel.from_pretrained(theirs, tmp_path / "ours", adapter_name="plain").eval()
    plain.set_adapter("plain")
    with torch.no_grad():
        assert (plain(ids).logits - logits(tuned.model, ids)).abs().max() < 1e-4
    assert (tmp_path / "ours" / NETWORK).is_file()  # the network, which only a run that goes on reads


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", ["llama", "mistral", "falcon"])
def test_every_document_stands_behind_them(name: str, family: str) -> None:
    assert_packing_changes_nothing(METHODS[name].attach(tiny(family), 1), bound=2e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_run_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    tuned = assert_goes_on_bit_for_bit(METHODS[name], "llama", tmp_path, recompute=name == "prompt")
    ids = torch.randint(3, 61, (1, 9))
    there = logits(reopened(tiny(), tmp_path / "whole/final"), ids)
    assert (there - logits(tuned.model, ids)).abs().max() < 1e-5


def test_counts_are_the_formulas() -> None:
    layers, kv = 4, 2 * 4  # key-value heads and their width
    assert PrefixTuning(tokens=7).attach(tiny(), 0).trainable == 7 * layers * 2 * kv
    projected = PrefixTuning(tokens=7, projection=True, hidden=5).attach(tiny(), 0)
    assert projected.trainable == 7 * kv + (kv * 5 + 5) + (5 + 1) * layers * 2 * kv
    assert PromptTuning(tokens=7).attach(tiny(), 0).trainable == 7 * 16


@pytest.mark.parametrize("method", [PrefixTuning(tokens=6), PromptTuning(tokens=6, init="random")])
def test_an_answer_is_what_whole_forwards_say(method: Any, tmp_path: Path) -> None:
    base = paddock.load(dtype="float32")
    tuned = method.attach(Base(base.model, base.checkpoint.config, {}, "bundled"), 2)
    tuned.write(tmp_path, tuned.model)
    adapted = base.with_adapter(tmp_path)
    ids = list(base.tokenizer.encode("Once upon a time"))
    start = len(ids)
    answer = adapted.generate("Once upon a time", max_new_tokens=10, temperature=0)
    for _ in answer.ids:
        ids.append(int(logits(tuned.model, torch.tensor([ids]))[0, -1].argmax()))
    assert answer.ids and list(answer.ids) == ids[start:]
    assert adapted.architecture.context == (base.architecture.context or 0) - 6
    assert library() is None or not recordable(adapted.model)
    with pytest.raises(UsageError, match="carries an adapter"):
        adapted.with_adapter(tmp_path)


def test_prompts_begin_as_words() -> None:
    base = tiny()
    vocabulary = PromptTuning(tokens=5).attach(base, 0).model.get_parameter("ahead.vectors")
    table = base.model.embedding.tokens.weight
    assert all((row == table).all(1).any() for row in vocabulary)
    bundled = paddock.load(dtype="float32")
    named = Base(bundled.model, bundled.checkpoint.config, {}, "bundled", tokenizer=bundled.tokenizer)
    text = PromptTuning(tokens=30, init="text", text="Lily and the dog").attach(named, 0)
    ids = list(bundled.tokenizer.encode("Lily and the dog"))
    want = bundled.model.embedding.tokens.weight[torch.tensor((ids * 30)[:30])]
    assert torch.equal(text.model.get_parameter("ahead.vectors"), want)
    zero = PrefixTuning(tokens=2, projection=True, init="zero").attach(base, 0)
    assert not zero.model.ahead.flat().any()  # type: ignore[union-attr]


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    for family in ("bert",):
        with pytest.raises(UnsupportedError, match="virtual tokens"):
            PromptTuning().attach(tiny(family), 0)
    with pytest.raises(UsageError, match="context of 32"):
        PrefixTuning(tokens=32).attach(tiny(), 0)
    with pytest.raises(UsageError, match="tokenizer"):
        PromptTuning(init="text", text="a").attach(tiny(), 0)
    wrong: list[tuple[Any, dict[str, Any]]] = [
        (PromptTuning, {"init": "text"}),
        (PromptTuning, {"text": "a"}),
        (PromptTuning, {"tokens": 0}),
        (PrefixTuning, {"hidden": 3}),
        (PrefixTuning, {"init": "ones"}),
    ]
    for kind, bad in wrong:
        with pytest.raises(ValueError, match=r"text|tokens|hidden|init"):
            kind.model_validate(bad)
    model = PromptTuning(tokens=4).attach(tiny("gpt2"), 0).model
    ids = torch.randint(3, 61, (1, 30))
    with pytest.raises(ContextLengthError, match="30"):
        model(ids, Step(torch.arange(30)[None]))


def test_a_folder_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    base = tiny()
    tuned = PrefixTuning(tokens=3).attach(base, 0)
    tuned.write(tmp_path, tuned.model)
    said, held = json.loads((tmp_path / CONFIG).read_text()), load_file(tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="trained on"):
        reopened(tiny(hidden_size=32), tmp_path)
    changes: dict[str, dict[str, Any]] = {
        "num_virtual_tokens": {"num_virtual_tokens": 10**9},
        "num_virtual_tokens True": {"num_virtual_tokens": True},
        "encoder and a decoder": {"num_transformer_submodules": 2},
        "sets 'num_frozen_tokens'": {"num_frozen_tokens": 1},
        "shape": {"peft_type": "PROMPT_TUNING"},
    }
    for message, change in changes.items():
        (tmp_path / CONFIG).write_text(json.dumps({**said, **change}))
        with pytest.raises(CheckpointError, match=message):
            reopened(base, tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps(said))
    for message, tensors in (
        ("not numbers", {"prompt_embeddings": held["prompt_embeddings"] * float("nan")}),
        ("none of virtual", {**held, "lora_A": torch.ones(2)}),
        ("no tensor", {}),
    ):
        save_file(tensors, tmp_path / WEIGHTS)
        with pytest.raises(CheckpointError, match=message):
            reopened(base, tmp_path)
