"""LLaMA-Adapter V1 and V2 against a second implementation in plain float64; counts; folders; runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as hf
from adapter_runs import (
    FAMILIES,
    alone,
    assert_goes_on_bit_for_bit,
    assert_packing_changes_nothing,
    gradients,
    hashes,
    logits,
    reopened,
    tiny,
    trainer,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import paddock
from paddock.checkpoint import folding
from paddock.checkpoint.adapters import CONFIG, WEIGHTS
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.weights import sketch
from paddock.data.batch import IGNORED
from paddock.errors import CheckpointError, PaddockError, UnsupportedError, UsageError
from paddock.kernels.native import library
from paddock.model.families import describe
from paddock.model.prompts import Prompts
from paddock.model.recording import recordable
from paddock.model.transformer import Transformer
from paddock.training.disjoint import Disjoint
from paddock.training.losses import token_loss
from paddock.training.methods import Base, Tuned
from paddock.training.methods.llama_adapter import AdapterV1, AdapterV2

METHODS = {
    "v1": AdapterV1(prompts=3),
    "v2": AdapterV2(prompts=3, layers=2),
    "v2 input": AdapterV2(prompts=0, convention="input"),
}


def stirred(tuned: Tuned) -> Tuned:
    """As after some steps: gates are open, scales and shifts are not what they were."""
    generator = torch.Generator().manual_seed(9)
    for name, parameter in tuned.model.named_parameters():
        if name in (tuned.learns or ()):
            parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return tuned


# A second LLaMA with adapters, after the published code: prompts' scores beside the text's, each with its own softmax.


def reference(parameters: dict[str, Tensor], config: dict[str, Any], ids: Tensor) -> Tensor:
    """(tokens,) ids to (tokens, vocabulary) logits, in whatever type the parameters have."""
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    size = config["hidden_size"] // heads
    angles = torch.arange(len(ids))[:, None] / 10000.0 ** (torch.arange(0, size, 2) / size)
    cos, sin = (f(torch.cat((angles, angles), 1)).to(torch.float64) for f in (torch.cos, torch.sin))

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * parameters[name + ".weight"]

    def linear(x: Tensor, name: str) -> Tensor:
        if f"{name}.base.weight" not in parameters:
            return x @ parameters[f"{name}.weight"].T
        inner = x * parameters.get(f"{name}.scale_in", torch.ones(()))
        y = inner @ parameters[f"{name}.base.weight"].T + parameters[f"{name}.shift"]
        return y * parameters.get(f"{name}.scale_out", torch.ones(()))

    def turned(x: Tensor) -> Tensor:  # (heads, tokens, size)
        half = size // 2
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin

    def split(x: Tensor, count: int) -> Tensor:
        return x.view(len(x), count, size).transpose(0, 1)

    x = parameters["embedding.tokens.weight"][ids]
    future = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)
    for layer in range(config["num_hidden_layers"]):
        at = f"blocks.{layer}.attention"
        h = norm(x, f"blocks.{layer}.attention_norm")
        q, k, v = turned(split(linear(h, at + ".q"), heads)), turned(split(linear(h, at + ".k"), kv)), split(
            linear(h, at + ".v"), kv)  # fmt: skip
        k, v = (each.repeat_interleave(heads // kv, 0) for each in (k, v))
        weights = (q @ k.transpose(1, 2) / math.sqrt(size)).masked_fill(future, -math.inf).softmax(-1)
        vectors = parameters.get(at + ".prompts.vectors")
        if vectors is not None:
            pk, pv = (split(linear(vectors, f"{at}.{name}"), kv).repeat_interleave(heads // kv, 0) for name in "kv")
            gated = (q @ pk.transpose(1, 2) / math.sqrt(size)).softmax(-1)
            gated = gated * parameters[at + ".prompts.gate"].tanh()[:, None, None]
            weights, v = torch.cat((gated, weights), -1), torch.cat((pv, v), 1)
        x = x + linear((weights @ v).transpose(0, 1).flatten(1), at + ".out")
        h = norm(x, f"blocks.{layer}.feedforward_norm")
        at = f"blocks.{layer}.feedforward"
        x = x + linear(F.silu(linear(h, at + ".gate")) * linear(h, at + ".up"), at + ".down")
    return norm(x, "norm") @ parameters["embedding.tokens.weight"].T


@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradients_are_a_second_implementation_s(name: str) -> None:
    base = tiny(rms_norm_eps=1e-6)
    tuned = stirred(METHODS[name].attach(base, 1))
    assert tuned.learns is not None
    loss, found = gradients(tuned, *alone())
    wide = {n: p.detach().double().requires_grad_(n in tuned.learns) for n, p in tuned.model.named_parameters()}
    said = torch.cat([reference(wide, dict(base.config), batch.ids[0]) for batch in alone()])
    want = F.cross_entropy(said, torch.cat([batch.targets[0] for batch in alone()]), ignore_index=IGNORED)
    want.backward()
    assert loss == pytest.approx(float(want.detach()), abs=1e-5)
    assert found.keys() == tuned.learns
    for each, gradient in found.items():
        theirs = wide[each].grad
        assert theirs is not None and theirs.abs().max() > 0
        assert (gradient - theirs).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max())), each


@pytest.mark.parametrize("name", METHODS)
def test_rows_and_documents_read_the_same_prompts(name: str) -> None:
    assert_packing_changes_nothing(stirred(METHODS[name].attach(tiny(), 1)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_begins_as_it_was(family: str) -> None:
    base, ids = tiny(family), torch.randint(3, 61, (2, 9))
    want = logits(base.model, ids)
    assert torch.equal(logits(AdapterV1().attach(base, 0).model, ids), want)
    for method in (AdapterV2(), AdapterV2(convention="input", layers=1)):
        assert (logits(method.attach(base, 0).model, ids) - want).abs().max() < 1e-6
    moved = logits(stirred(AdapterV1().attach(base, 0)).model, ids)
    assert (moved - want).abs().max() > 1e-3


SEVEN = {"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048}  # fmt: skip


def test_counts_are_the_published_ones_and_the_formulas() -> None:
    with torch.device("meta"):
        seven = Base(Transformer(sketch(describe(SEVEN)).architecture), SEVEN, {}, "7b")
    assert AdapterV1().attach(seven, 0).trainable == 1_229_760 == 30 * 10 * 4096 + 30 * 32
    width, hidden, blocks = 4096, 11008, 32
    outs, ins = 4 * width + 2 * hidden + width, 6 * width + hidden
    shifts, norms = blocks * outs, (2 * blocks + 1) * width
    assert AdapterV2(prompts=0).attach(seven, 0).trainable == blocks * outs + shifts + norms
    assert AdapterV2(prompts=0, convention="input", norms=False).attach(seven, 0).trainable == blocks * ins + shifts
    assert AdapterV2().attach(seven, 0).trainable == blocks * outs + shifts + norms + 1_229_760


@pytest.mark.parametrize(("name", "family"), [("v1", "llama"), ("v2", "gpt_neox")])
def test_a_killed_run_goes_on_bit_for_bit(name: str, family: str, tmp_path: Path) -> None:
    tuned = assert_goes_on_bit_for_bit(METHODS[name], family, tmp_path)
    gates = [p for n, p in tuned.model.named_parameters() if n.endswith(".gate")]
    assert gates and all(gate.abs().min() > 0 for gate in gates)
    held = load_file(tmp_path / "whole/final" / WEIGHTS)
    assert sum(each.numel() for each in held.values()) == tuned.trainable
    ids = torch.randint(3, 61, (1, 9))
    assert torch.equal(logits(reopened(tiny(family), tmp_path / "whole/final"), ids), logits(tuned.model, ids))


def test_an_answer_is_what_whole_forwards_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the engine and its cache; prompts' keys and values are made once, when the adapter is put on."""
    base = paddock.load(dtype="float32")
    tuned = stirred(AdapterV1(prompts=4).attach(Base(base.model, base.checkpoint.config, {}, "bundled"), 2))
    for name, parameter in tuned.model.named_parameters():
        if name.endswith(".gate"):
            parameter.data.fill_(2.0)  # wide open
        elif name.endswith(".vectors"):
            parameter.data.mul_(20)
    tuned.write(tmp_path, tuned.model)
    adapted = base.with_adapter(tmp_path)
    made: list[int] = []
    whole = Prompts.keys_and_values
    monkeypatch.setattr(Prompts, "keys_and_values", lambda *given: made.append(1) or whole(*given))
    prompt = base.tokenizer.encode("Once upon a time")
    answer = adapted.generate("Once upon a time", max_new_tokens=12, temperature=0)
    assert not made
    ids = list(prompt)
    for _ in range(12):
        ids.append(int(logits(tuned.model, torch.tensor([ids]))[0, -1].argmax()))
    assert made and len(answer.ids) > 5 and list(answer.ids) == ids[len(prompt) :][: len(answer.ids)]
    assert answer.ids != base.generate("Once upon a time", max_new_tokens=12, temperature=0).ids
    assert library() is None or (recordable(base.model) and not recordable(adapted.model))
    with pytest.raises(UsageError, match="carries an adapter"):
        adapted.with_adapter(tmp_path)
    with pytest.raises(UsageError, match="carries an adapter"):
        adapted.save(tmp_path / "saved")


def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    tuned = AdapterV2(prompts=3).attach(tiny(), 0)
    vectors, gate = (f"blocks.3.attention.prompts.{part}" for part in ("vectors", "gate"))
    changes: dict[str, Any] = {
        "layers below 4": lambda held: held.update({vectors.replace("3", "9"): held.pop(vectors)}),
        "has only gate": lambda held: held.pop(vectors),
        r"shape \[3, 8\]": lambda held: held.update({vectors: torch.ones(3, 8)}),
        r"shape \[5\]": lambda held: held.update({gate: torch.ones(5)}),
        "not numbers": lambda held: held.update({gate: torch.full((4,), math.nan)}),
        "int64": lambda held: held.update({gate: torch.ones(4, dtype=torch.long)}),
        "names like 'norm.weight'": lambda held: held.update({"norm.wait": torch.ones(16)}),
        "beside 'blocks.0.attention.qq'": lambda held: held.update({"blocks.0.attention.qq.shift": torch.ones(16)}),
        "0 tensors": lambda held: held.clear(),
    }
    for message, change in changes.items():
        tuned.write(tmp_path, tuned.model)
        held = load_file(tmp_path / WEIGHTS)
        change(held)
        save_file(held, tmp_path / WEIGHTS)
        with pytest.raises(CheckpointError, match=message):
            reopened(tiny(), tmp_path)
    tuned.write(tmp_path, tuned.model)
    with pytest.raises(CheckpointError, match="model it was trained on"):
        reopened(tiny(hidden_size=32), tmp_path)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="cut short"):
        reopened(tiny(), tmp_path)
    said = json.loads((tmp_path / CONFIG).read_text())
    strange: list[dict[str, Any]] = [{"format": 2}, {"peft_type": "BONE"}, {"peft_type": ["LORA"]}]
    for change, error in zip(strange, ("format 1", "BONE", "LORA"), strict=True):
        (tmp_path / CONFIG).write_text(json.dumps({**said, **change}))
        with pytest.raises(CheckpointError, match=error):
            reopened(tiny(), tmp_path)


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(UsageError, match="5 layers of a model that has 4"):
        AdapterV1(layers=5).attach(tiny(), 0)
    for bad in ({"prompts": 0}, {"prompts": 2000}, {"layers": 0}, {"gates": 1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            AdapterV1.model_validate(bad)
    with pytest.raises(ValueError, match="convention"):
        AdapterV2.model_validate({"convention": "both"})
    assert [layer for layer in range(4) if _has_prompts(AdapterV1().attach(tiny(), 0), layer)] == [2, 3]


def _has_prompts(tuned: Tuned, layer: int) -> bool:
    return f"blocks.{layer}.attention.prompts.gate" in (tuned.learns or ())


@pytest.mark.filterwarnings("ignore")
def test_peft_s_adaption_prompts_are_read(tmp_path: Path) -> None:
    config = hf.LlamaConfig(**{k: v for k, v in FAMILIES["llama"].items() if k != "model_type"})
    theirs = hf.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path / "base")
    asked = peft.AdaptionPromptConfig(adapter_len=3, adapter_layers=2, task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(theirs, asked).eval()
    for name, parameter in wrapped.named_parameters():
        if name.endswith("gate"):
            parameter.data.fill_(1.7)  # more than any tanh
    wrapped.save_pretrained(tmp_path / "adapter")
    found = open_checkpoint(tmp_path / "base")
    base = Base(found.model("float32"), found.config, {}, "base")
    ids = torch.randint(3, 61, (2, 9))
    ours = logits(reopened(base, tmp_path / "adapter"), ids)
    with torch.no_grad():
        assert (ours - wrapped(ids).logits).abs().max() < 1e-5
    assert (ours - logits(base.model, ids)).abs().max() > 1e-3
    with pytest.raises(UnsupportedError, match="biases"):
        reopened(tiny("gpt2"), tmp_path / "adapter")


# V2


def test_scales_do_not_decay_even_where_everything_does() -> None:
    tuned = AdapterV2(prompts=2).attach(tiny(), 0)
    before = hashes(tuned.model)
    optimizer = {"learning_rate": 0.01, "decay": "all", "weight_decay": 0.5}
    trainer(tuned, steps=1, loss=_nothing, optimizer=optimizer).run()
    after = hashes(tuned.model)
    moved = {name.rpartition(".")[2] for name in after if after[name] != before[name]}
    assert moved == {"vectors", "weight"}  # prompts and norms decay as asked; scales (1) and shifts (0) stay


def _nothing(model: Transformer, batch: Any, step: Any) -> Any:
    """A loss that every parameter has a gradient of, which is zero."""
    sums = token_loss(model, batch, step)
    return type(sums)(0.0 * sums.total, sums.count)


@pytest.mark.parametrize("convention", ["output", "input"])
def test_v2_without_prompts_is_worked_into_plain_weights(convention: str, tmp_path: Path) -> None:
    base, ids = tiny(), torch.randint(3, 61, (2, 9))
    tuned = stirred(AdapterV2.model_validate({"prompts": 0, "convention": convention}).attach(base, 0))
    want = logits(tuned.model, ids)
    made, config = folding.plain(tuned.model, base.config)
    assert config["attention_bias"] and config["mlp_bias"] and not base.config.get("attention_bias")
    assert (logits(made, ids) - want).abs().max() < 1e-5 * float(want.abs().max())
    paddock.checkpoint.folder.write(tmp_path, made, config)  # type: ignore[attr-defined]
    theirs = hf.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert (theirs(ids).logits - want).abs().max() < 1e-4 * float(want.abs().max())
    with pytest.raises(UnsupportedError, match="prompts"):
        folding.plain(AdapterV2(prompts=1).attach(base, 0).model, base.config)
    falcon = tiny("mpt", no_bias=True)
    with pytest.raises((UnsupportedError, PaddockError), match="no biases"):
        folding.plain(AdapterV2(prompts=0).attach(falcon, 0).model, falcon.config)


def test_rows_of_one_kind_move_their_own_group_alone() -> None:
    """Momentum and decay would move the other group without a gradient, if it were zero and not None."""
    tuned = AdapterV2(prompts=2).attach(tiny(), 0)
    assert tuned.learns is not None
    early = frozenset(name for name in tuned.learns if ".prompts." in name)
    groups = {"captions": early, "instructions": tuned.learns - early}
    running = trainer(tuned, steps=6)
    turn: list[int] = [0, 1, 1, 0, 1, -1]  # -1: rows of both

    def kinds(batch: Any) -> Tensor:
        now = turn[running.step]
        return torch.arange(batch.rows) % 2 if now < 0 else torch.full((batch.rows,), now)

    running.loss = Disjoint(token_loss, groups, kinds)
    seen = [hashes(tuned.model)]
    running.run(lambda report: seen.append(hashes(tuned.model)))
    for number, now in enumerate(turn):
        moved = {name for name in tuned.learns if seen[number + 1][name] != seen[number][name]}
        assert moved <= (tuned.learns if now < 0 else list(groups.values())[now])
        assert all(moved & group for kind, group in enumerate(groups.values()) if now in (kind, -1))
    with pytest.raises(UsageError, match="disjoint"):
        Disjoint(token_loss, {"a": early, "b": early}, kinds)
