"""(IA)^3, BitFit, parts that stay as they are, and NEFTune."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as hf
from adapter_runs import (
    assert_goes_on_bit_for_bit,
    assert_packing_changes_nothing,
    go,
    gradients,
    hashes,
    logits,
    packed,
    padded,
    reopened,
    tiny,
    trainer,
)
from safetensors.torch import load_file, save_file

import paddock
from paddock.checkpoint import folding
from paddock.checkpoint.adapters import CONFIG, WEIGHTS
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.data.batch import Batch
from paddock.errors import CheckpointError, UsageError
from paddock.model.step import Step
from paddock.model.transformer import noise
from paddock.training.losses import token_loss
from paddock.training.methods import Base, Full, Tuned
from paddock.training.methods.bitfit import BitFit
from paddock.training.methods.ia3 import IA3
from paddock.training.methods.llama_adapter import AdapterV2
from paddock.training.methods.prefix import PrefixTuning, PromptTuning

pytestmark = pytest.mark.filterwarnings("ignore")  # the oracle's own
_SMALL = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
ORACLES: dict[str, Any] = {
    "llama": hf.LlamaConfig(**_SMALL, intermediate_size=24, num_key_value_heads=2, max_position_embeddings=32),
    "gpt_neox": hf.GPTNeoXConfig(**_SMALL, intermediate_size=24, max_position_embeddings=32, rotary_pct=0.5),
    "gpt2": hf.GPT2Config(vocab_size=61, n_embd=16, n_layer=2, n_head=4, n_positions=32, bos_token_id=1,
                          eos_token_id=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0),
}  # fmt: skip


def opened(family: str, folder: Path) -> tuple[Base, Any]:
    torch.manual_seed(3)
    theirs = hf.AutoModelForCausalLM.from_config(ORACLES[family]).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
            parameter.add_(0.1 * torch.randn_like(parameter) if parameter.dim() == 1 else 0)
    theirs.save_pretrained(folder)
    found = open_checkpoint(folder)
    return Base(found.model("float32"), found.config, found.generation, str(folder)), theirs


def stirred(tuned: Tuned) -> Tuned:
    for name, parameter in tuned.model.named_parameters():
        if name in (tuned.learns or ()):
            parameter.data.mul_(1 + 0.4 * torch.rand_like(parameter))
    return tuned


# (IA)^3


@pytest.mark.parametrize("family", ORACLES)
def test_ia3_is_peft_s(family: str, tmp_path: Path) -> None:
    base, theirs = opened(family, tmp_path / "base")
    ids, targets = torch.randint(3, 61, (2, 11)), torch.randint(3, 61, (2, 11))
    begun = IA3().attach(base, 0)
    assert (logits(begun.model, ids) - logits(base.model, ids)).abs().max() < 1e-6
    tuned = stirred(begun)
    tuned.write(tmp_path / "ours", tuned.model)
    usual = peft.get_peft_model(hf.AutoModelForCausalLM.from_pretrained(tmp_path / "base"),
                                peft.IA3Config(task_type="CAUSAL_LM"))  # fmt: skip
    assert usual.get_nb_trainable_parameters()[0] == tuned.trainable
    wrapped = peft.PeftModel.from_pretrained(theirs, tmp_path / "ours", is_trainable=True).eval()
    want = wrapped(ids).logits
    assert (logits(tuned.model, ids) - want).abs().max() < 1e-5 * float(want.abs().max())
    loss = torch.nn.functional.cross_entropy(want.flatten(0, 1), targets.flatten())
    loss.backward()
    mine, found = gradients(tuned, Batch(ids, targets))
    assert mine == pytest.approx(float(loss.detach()), abs=1e-5)
    theirs_norm = torch.stack([p.grad.norm() for p in wrapped.parameters() if p.grad is not None]).norm()
    assert torch.stack([each.norm() for each in found.values()]).norm() == pytest.approx(float(theirs_norm), rel=1e-4)
    down = [p.grad.flatten() for n, p in wrapped.named_parameters() if p.grad is not None and p.shape[0] == 1]
    mine_down = [each for name, each in found.items() if name.endswith("scale_in")]
    for one, other in zip(mine_down, down, strict=True):
        assert (one - other).abs().max() <= 1e-5 * max(1.0, float(other.abs().max()))
    wrapped.save_pretrained(tmp_path / "theirs")
    assert (logits(reopened(base, tmp_path / "theirs"), ids) - want).abs().max() < 1e-5 * float(want.abs().max())
    made, config = folding.plain(tuned.model, base.config)
    assert config == dict(base.config)
    assert (logits(made, ids) - want).abs().max() < 1e-5 * float(want.abs().max())


def test_ia3_in_some_layers_and_what_it_refuses(tmp_path: Path) -> None:
    assert_packing_changes_nothing(stirred(IA3(roles="v,down", layers=[1]).attach(tiny(), 0)))
    assert IA3(roles="v,down", layers=[1]).attach(tiny(), 0).trainable == 8 + 24
    assert IA3(roles="q").attach(tiny(), 0).trainable == 4 * 16
    for bad in (IA3(roles="keys"), IA3(layers=[9])):
        with pytest.raises(UsageError, match=r"keys|layer 9"):
            bad.attach(tiny(), 0)
    with pytest.raises(UsageError, match="one matrix"):
        IA3(roles="k").attach(tiny("gpt_neox"), 0)
    tuned = IA3().attach(tiny(), 0)
    tuned.write(tmp_path, tuned.model)
    with pytest.raises(CheckpointError, match="trained on"):
        reopened(tiny(intermediate_size=40), tmp_path)
    held, said = load_file(tmp_path / WEIGHTS), json.loads((tmp_path / CONFIG).read_text())
    name = next(iter(held))
    for message, tensors in (
        ("no matrix", {name.replace("layers.0", "rows.0"): held[name]}),
        ("not numbers", {name: held[name] * float("nan")}),
        ("not one of", {"weight": held[name]}),
        ("no vectors", {}),
    ):
        save_file(tensors, tmp_path / WEIGHTS)
        with pytest.raises(CheckpointError, match=message):
            reopened(tiny(), tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps({**said, "alpha": 3}))
    with pytest.raises(CheckpointError, match="'alpha'"):
        reopened(tiny(), tmp_path)


@pytest.mark.parametrize(("method", "family"), [(IA3(), "llama"), (BitFit(), "gpt_neox")])
def test_a_killed_run_goes_on_bit_for_bit(method: Any, family: str, tmp_path: Path) -> None:
    tuned = assert_goes_on_bit_for_bit(method, family, tmp_path)
    ids = torch.randint(3, 61, (1, 9))
    assert torch.equal(logits(reopened(tiny(family), tmp_path / "whole/final"), ids), logits(tuned.model, ids))


def test_an_answer_with_scales_is_what_whole_forwards_say(tmp_path: Path) -> None:
    base = paddock.load(dtype="float32")
    tuned = stirred(IA3().attach(Base(base.model, base.checkpoint.config, {}, "bundled"), 2))
    tuned.write(tmp_path, tuned.model)
    ids = list(base.tokenizer.encode("Once upon a time"))
    start = len(ids)
    answer = base.with_adapter(tmp_path).generate("Once upon a time", max_new_tokens=10, temperature=0)
    for _ in answer.ids:
        ids.append(int(logits(tuned.model, torch.tensor([ids]))[0, -1].argmax()))
    assert answer.ids and list(answer.ids) == ids[start:]


# BitFit, and parts that stay


def test_bitfit_trains_every_bias_and_nothing_else() -> None:
    tuned = BitFit().attach(tiny("gpt_neox"), 0)
    width, hidden, blocks = 16, 24, 3
    assert tuned.trainable == blocks * (3 * width + width + hidden + width + 2 * width) + width
    found = gradients(tuned, packed())[1]
    whole = Full(freeze=["norms"]).attach(tiny("gpt_neox"), 0)
    want = gradients(whole, packed())[1]
    assert all(name.endswith(".bias") for name in found)
    for name, gradient in found.items():
        if name in want:
            assert (gradient - want[name]).abs().max() < 1e-6
    with pytest.raises(UsageError, match="no biases"):
        BitFit().attach(tiny("llama"), 0)


def test_parts_of_a_model_stay_as_they_are(tmp_path: Path) -> None:
    base = tiny()
    names = {name for name, _ in base.model.named_parameters()}
    above = {name for name in names if not name.startswith(("embedding.", "blocks.0.", "blocks.1."))}
    assert Full(layers=2).attach(base, 0).learns == above
    tuned = Full(freeze=["blocks.0-1", "blocks.3.feedforward", "q", "norms"]).attach(base, 0)
    assert tuned.learns == {
        "embedding.tokens.weight",
        *(f"blocks.{layer}.attention.{role}.weight" for layer in (2, 3) for role in ("k", "v", "out")),
        *(f"blocks.2.feedforward.{role}.weight" for role in ("gate", "up", "down")),
    }
    before = hashes(base.model)
    go(tmp_path, tuned)
    after = hashes(base.model)
    assert {name for name in names if after[name] != before[name]} == tuned.learns
    assert Full().attach(tiny(), 0).learns is None
    wrong: dict[str, Full] = {
        "no part 'block.1'": Full(freeze=["block.1"]),
        "no part 'blocks.2-9'": Full(freeze=["blocks.2-9"]),
        "no part 'blocks.3-2'": Full(freeze=["blocks.3-2"]),
        "no part 'biases'": Full(freeze=["biases"]),
        "no part 'router'": Full(freeze=["router"]),
        "9 layers": Full(layers=9),
        "nothing is left": Full(freeze=["embedding", "blocks", "norm"]),
    }
    for message, method in wrong.items():
        with pytest.raises(UsageError, match=message):
            method.attach(tiny(), 0)


@pytest.mark.parametrize(
    "method", [BitFit(), IA3(), AdapterV2(prompts=2), PrefixTuning(tokens=2), PromptTuning(tokens=2)]
)
def test_a_base_in_bfloat16_is_trained_on(method: Any) -> None:
    """What is learned is float32 beside it, and no operation takes both kinds without a word."""
    base = tiny("gpt_neox")
    base.model.to(torch.bfloat16)
    tuned = method.attach(base, 0)
    losses: list[float] = []
    trainer(tuned, steps=2, precision="bfloat16").run(lambda report: losses.append(report.loss))
    assert all(loss < 20 for loss in losses) and len(losses) == 2
    assert all(p.dtype == torch.float32 for n, p in tuned.model.named_parameters() if n in (tuned.learns or ()))


# NEFTune


def test_noise_is_as_wide_as_the_paper_says() -> None:
    x = torch.zeros(2, 6, 4000)
    padding = torch.tensor([[True] * 6, [False, False, True, True, True, True]])
    drawn = noise(x, Step(torch.arange(6).expand(2, -1), padding=padding, noise=5.0))
    for row, tokens in ((0, 6), (1, 4)):
        edge = 5.0 / (tokens * 4000) ** 0.5
        real = drawn[row][padding[row]]
        assert edge * 0.99 < real.abs().max() <= edge and abs(float(real.mean())) < edge / 50
        assert real.std() == pytest.approx(edge / 3**0.5, rel=0.02)
    assert not drawn[1, :2].any()
    documents = torch.tensor([[0, 0, 1, 1, 1, 1]])
    parts = noise(x[:1], Step(torch.arange(6)[None], documents=documents, noise=5.0))[0]
    assert parts[:2].abs().max() > 5.0 / (3 * 4000) ** 0.5 and parts[2:].abs().max() <= 5.0 / (4 * 4000) ** 0.5


def test_noise_is_for_training_and_drawn_from_the_step(tmp_path: Path) -> None:
    tuned = IA3().attach(tiny(), 0)
    torch.manual_seed(1)
    one = gradients(tuned, padded(), noise=5.0)[0]
    torch.manual_seed(1)
    assert gradients(tuned, padded(), noise=5.0)[0] == one != gradients(tuned, padded())[0]
    whole = assert_goes_on_bit_for_bit(IA3(), "llama", tmp_path, neftune=5.0)
    plain = go(tmp_path / "plain", IA3().attach(tiny(), 3))
    assert hashes(whole.model, whole.learns) != hashes(plain.model, plain.learns)
    running = trainer(tuned, neftune=5.0)
    batch = padded()
    with torch.no_grad():
        quiet = token_loss(tuned.model, batch, batch.step(tuned.model.architecture)).total
        assert torch.equal(running.sums(batch, train=False).total, quiet)
        assert not torch.equal(running.sums(batch).total, quiet)
