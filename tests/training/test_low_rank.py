"""LoRA: PEFT's numbers, gradients and files; runs that stop and go on; a base that stays as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as hf
from adapter_runs import conducted
from safetensors.torch import load_file
from training_runs import CONFIG, CPU, documents, recipe, records

import paddock
from paddock.checkpoint.adapters import CONFIG as DESCRIBED
from paddock.checkpoint.adapters import WEIGHTS
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.weights import sketch
from paddock.data.batch import IGNORED, Batch
from paddock.data.packing import Stream
from paddock.data.preparing.causal import Causal
from paddock.data.stream import BatchStream
from paddock.errors import UsageError
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.training.loop import Trainer, learning
from paddock.training.losses import token_loss
from paddock.training.methods import Base, LoRA, Tuned

pytestmark = pytest.mark.filterwarnings("ignore")  # the oracle's own
_SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_LLAMA = {**_SMALL, "intermediate_size": 40, "num_key_value_heads": 2}
SUBJECTS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, _LLAMA),
    "qwen2": (hf.Qwen2ForCausalLM, hf.Qwen2Config, _LLAMA),
    "gpt2": (
        hf.GPT2LMHeadModel,
        hf.GPT2Config,
        {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **dict.fromkeys(
            ("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)},
    ),
    "gpt_neox": (
        hf.GPTNeoXForCausalLM,
        hf.GPTNeoXConfig,
        {**_SMALL, "intermediate_size": 40, "max_position_embeddings": 64},
    ),
    "bloom": (
        hf.BloomForCausalLM,
        hf.BloomConfig,
        {"vocab_size": 97, "hidden_size": 32, "n_layer": 2, "n_head": 4, "hidden_dropout": 0.0},
    ),
    "falcon": (
        hf.FalconForCausalLM,
        hf.FalconConfig,
        {**_SMALL, "num_kv_heads": 2, "new_decoder_architecture": True},
    ),
    "bert": (
        hf.BertForSequenceClassification,
        hf.BertConfig,
        {**_SMALL, "intermediate_size": 40, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    ),
    "t5": (
        hf.T5ForConditionalGeneration,
        hf.T5Config,
        {"vocab_size": 97, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0},
    ),
}  # fmt: skip


def opened(name: str, folder: Path) -> tuple[Base, Any]:
    """A small model of the family as both see it."""
    model_type, config_type, settings = SUBJECTS[name]
    torch.manual_seed(3)
    theirs = model_type(config_type(**settings)).eval()
    with torch.no_grad():  # the usual first weights are so small that every gradient is nearly nothing
        for parameter in theirs.parameters():
            parameter.mul_(4 if parameter.dim() > 1 and name != "t5" else 1)
    theirs.save_pretrained(folder)
    found = open_checkpoint(folder)
    fresh = frozenset({"pooler.classes.weight", "pooler.classes.bias"}) if name == "bert" else frozenset()
    return Base(found.model("float32"), found.config, found.generation, str(folder), fresh), theirs


def stirred(tuned: Tuned) -> None:
    """As after some steps: B is not zero any more, nor are the lengths what they were."""
    for name, parameter in tuned.model.named_parameters():
        if name.endswith(".b"):
            parameter.data.normal_(0, 0.2)
        elif name.endswith(".magnitude"):
            parameter.data.mul_(1 + 0.2 * torch.rand_like(parameter))


def batch(name: str) -> Batch:
    ids = torch.randint(3, 97, (3, 12))
    targets = torch.randint(3, 97, (3, 12))
    targets[0, 7:], targets[1, :3] = IGNORED, IGNORED
    if name == "bert":
        return Batch(ids, torch.full_like(ids, IGNORED), labels=torch.tensor([1, 0, 1]))
    return Batch(ids, targets, source=torch.randint(3, 97, (3, 9)) if name == "t5" else None)


def loss_of(name: str, tuned: Tuned, given: Batch) -> torch.Tensor:
    step = given.step(tuned.model.architecture)
    if name == "bert":
        assert given.labels is not None
        return torch.nn.functional.cross_entropy(tuned.model.classify(given.ids, step), given.labels)
    sums = token_loss(tuned.model, given, step)
    return sums.total / sums.count


def their_loss(name: str, model: Any, given: Batch) -> torch.Tensor:
    if name == "bert":
        return model(input_ids=given.ids, labels=given.labels).loss
    inputs = {"input_ids": given.source, "decoder_input_ids": given.ids} if name == "t5" else {"input_ids": given.ids}
    logits = model(**inputs).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), given.targets.flatten(), ignore_index=IGNORED)


KINDS: dict[str, dict[str, Any]] = {"lora": {}, "rslora": {"rslora": True, "alpha": 3.0}, "dora": {"dora": True}}


CASES = [
    ("llama", "rslora"),
    *((name, "lora") for name in SUBJECTS),
    *((name, "dora") for name in ("gpt2", "bloom", "bert")),
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_loss_gradients_and_counts_are_peft_s(name: str, kind: str, tmp_path: Path) -> None:
    base, theirs = opened(name, tmp_path / "base")
    tuned = LoRA(rank=3, **KINDS[kind]).attach(base, seed=5)
    stirred(tuned)
    tuned.write(tmp_path / "adapter", tuned.model)
    told = json.loads((tmp_path / "adapter" / DESCRIBED).read_text())
    assert told["rank_pattern"] == told["alpha_pattern"] == {}  # r and lora_alpha say it all
    both = peft.PeftModel.from_pretrained(theirs, str(tmp_path / "adapter"), is_trainable=True).train()
    theirs_learn = {key: p for key, p in both.named_parameters() if p.requires_grad}
    assert tuned.trainable == sum(p.numel() for p in theirs_learn.values())

    given = batch(name)
    want = their_loss(name, both, given)
    want.backward()
    assert tuned.learns is not None
    with learning(tuned.model, tuned.learns):
        found = loss_of(name, tuned, given)
        found.backward()
    assert abs(float(found) - float(want)) < 1e-5
    for key, parameter in tuned.model.named_parameters():
        assert (parameter.grad is not None) == (key in tuned.learns)
        if parameter.grad is not None:
            parameter.data.copy_(parameter.grad)
    tuned.write(tmp_path / "gradients", tuned.model)  # under the names that PEFT gives them
    ours = load_file(tmp_path / "gradients" / WEIGHTS)
    named = {_saved(key): p.grad for key, p in theirs_learn.items()}
    assert ours.keys() == named.keys()
    for key, gradient in named.items():
        assert gradient is not None and gradient.abs().max() > 1e-4, key
        torch.testing.assert_close(ours[key], gradient, rtol=1e-4, atol=1e-5, msg=key)


def _saved(name: str) -> str:
    """The name in a file of one of PEFT's live parameters."""
    name = name.replace(".modules_to_save.default", "").replace(".default", "")
    return name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


# What is trained, and what is not


def tiny(seed: int = 0, **config: Any) -> Base:
    model = initialise(blank(sketch(describe(CONFIG | config))), seed)
    return Base(model, CONFIG | config, {}, "tiny")


def logits(tuned: Tuned) -> torch.Tensor:
    given = batch("llama")
    with torch.no_grad():
        return tuned.model(given.ids % 61, given.step(tuned.model.architecture))


@pytest.mark.parametrize("settings", [{}, {"dora": True}, {"init": "gaussian", "rslora": True}, {"dropout": 0.5}])
def test_at_first_it_is_the_base(settings: dict[str, Any]) -> None:
    base = tiny()
    tuned, again, other = (LoRA(**settings).attach(base, seed) for seed in (1, 1, 2))
    plain = Tuned(base.model, None, lambda folder, model: None)
    torch.manual_seed(0)
    want = logits(plain)
    torch.manual_seed(0)
    assert (logits(tuned) - want).abs().max() <= 1e-6
    a, same, different = (dict(t.model.named_parameters())["blocks.1.feedforward.up.a"] for t in (tuned, again, other))
    assert torch.equal(a, same) and not torch.equal(a, different)
    assert a.abs().max() <= 16**-0.5 or settings.get("init") == "gaussian"


def test_counts_are_the_formula_s() -> None:
    shapes = {
        "q": (16, 16),
        "k": (8, 16),
        "v": (8, 16),
        "out": (16, 16),
        "gate": (24, 16),
        "up": (24, 16),
        "down": (16, 24),
    }
    for roles in ("all", "attention", "q,v", ["down"], ["q_proj", "v_proj"], "feedforward"):
        tuned = LoRA(rank=5, roles=roles).attach(tiny(), 0)
        meant = {name.split(".")[3] for name in tuned.learns or ()}
        assert tuned.trainable == 2 * sum(5 * sum(shapes[role]) for role in meant)
    assert meant == {"gate", "up", "down"}
    lengths = LoRA(rank=5, dora=True, roles="q").attach(tiny(), 0)
    assert lengths.trainable == 2 * (5 * 32 + 16)
    assert LoRA(rank=5, roles="q", layers=[1]).attach(tiny(), 0).learns == {
        "blocks.1.attention.q.a", "blocks.1.attention.q.b",
    }  # fmt: skip


def test_dropout_is_of_training_only_and_one_for_a_fused_matrix(tmp_path: Path) -> None:
    base, _ = opened("gpt2", tmp_path)
    tuned = LoRA(dropout=0.5, roles="attention").attach(base, 0)
    stirred(tuned)
    attention = tuned.model.blocks[0].attention
    x = torch.randn(2, 3, 32)
    for part in (attention.q, attention.k, attention.v):
        part.b.data.zero_()
        part.b.data[:8].copy_(torch.eye(8))
    tuned.model.train()
    q, k, v = (part(x) - part.base(x) for part in (attention.q, attention.k, attention.v))
    torch.testing.assert_close(q, k)
    torch.testing.assert_close(q, v)
    again = attention.q(x) - attention.q.base(x)
    assert not torch.allclose(q, again)
    with torch.no_grad():
        kept = attention.q(x)
    tuned.model.eval()
    assert torch.equal(kept, attention.q(x))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"roles": "w_proj"}, "did you mean"),
        ({"roles": "router"}, "no matrices of the role"),
        ({"roles": ""}, "no matrices of the role"),
        ({"roles": []}, "no matrix of this model is meant"),
        ({"layers": [2]}, "no layer 2"),
        ({"layers": []}, "no matrix of this model is meant"),
    ],
)
def test_roles_and_layers_that_are_not_there(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        LoRA(**settings).attach(tiny(), 0)


def test_half_of_a_fused_matrix_is_refused(tmp_path: Path) -> None:
    base, _ = opened("gpt2", tmp_path)
    with pytest.raises(UsageError, match="q, k, v in one matrix"):
        LoRA(roles="q,v").attach(base, 0)
    assert LoRA(roles="c_attn").attach(base, 0).trainable == 2 * 8 * (32 + 96)


@pytest.mark.parametrize(("roles", "layers"), [("out", None), ("down", None), ("all", [1])])
def test_target_modules_mean_what_is_adapted(roles: str, layers: list[int] | None, tmp_path: Path) -> None:
    """BERT's matrices are mostly called dense, and one name is the end of another."""
    base, theirs = opened("bert", tmp_path / "base")
    tuned = LoRA(roles=roles, layers=layers).attach(base, 0)
    tuned.write(tmp_path / "adapter", tuned.model)
    config = peft.PeftConfig.from_pretrained(str(tmp_path / "adapter"))
    fresh = peft.get_peft_model(theirs, config)
    names = set(peft.get_peft_model_state_dict(fresh))
    assert names == load_file(tmp_path / "adapter" / WEIGHTS).keys()
    told = json.loads((tmp_path / "adapter" / DESCRIBED).read_text())
    assert told["modules_to_save"] == ["classifier"] and told["task_type"] == "SEQ_CLS"


# Files


@pytest.mark.parametrize("settings", [{}, {"dora": True, "layers": [0]}, {"rslora": True, "roles": "attention"}])
@pytest.mark.parametrize("name", ["gpt2", "t5", "bert"])
def test_what_is_written_is_read_to_the_bit(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    base, _ = opened(name, tmp_path / "base")
    tuned = LoRA(**settings).attach(base, 0)
    stirred(tuned)
    tuned.write(tmp_path / "adapter", tuned.model)
    live = {key: p for key, p in tuned.model.named_parameters() if tuned.learns is None or key in tuned.learns}
    read = tuned.read(tmp_path / "adapter")
    assert read.keys() == live.keys()
    assert all(torch.equal(read[key], live[key]) for key in live)


def test_the_engine_gives_what_was_trained(tmp_path: Path) -> None:
    for kind, name in (("dora", "qwen2"), ("rslora", "gpt_neox"), ("dora", "gpt2")):
        base, _ = opened(name, tmp_path / name)
        tuned = LoRA(**KINDS[kind]).attach(base, 0)
        stirred(tuned)
        tuned.write(tmp_path / name / "adapter", tuned.model)
        given = batch(name)
        with torch.no_grad():
            want = tuned.model(given.ids, given.step(tuned.model.architecture))[0]
        adapted = paddock.load(tmp_path / name, dtype="float32").with_adapter(tmp_path / name / "adapter")
        assert (adapted.logits(given.ids[0].tolist()) - want).abs().max() < 1e-4


# Runs


def trainer(tuned: Tuned, steps: int = 9, **changed: Any) -> Trainer:
    asked = recipe(steps=steps, optimizer={"learning_rate": 0.01}, **changed)
    batches = BatchStream(Stream(documents(), 20), Causal(20), asked.batch, seed=1)
    return Trainer(tuned.model, batches, token_loss, asked, CPU, learns=tuned.learns, rates=tuned.rates)


def go(path: Path, method: LoRA, die: int = 0, **changed: Any) -> Tuned:
    tuned = method.attach(tiny(), 3)
    return conducted(path, tuned, trainer(tuned, **changed), die)


@pytest.mark.parametrize(
    "method",
    [LoRA(dropout=0.2), LoRA(dora=True, roles="q,v", layers=[0], dropout=0.1), LoRA(plus=16, rslora=True)],
    ids=["lora", "dora", "plus"],
)
def test_a_killed_run_goes_on_bit_for_bit(method: LoRA, tmp_path: Path) -> None:
    before = {name: p.clone() for name, p in tiny().model.named_parameters()}
    whole = go(tmp_path / "whole", method)
    for step in (2, 5, 9):
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path / "broken", method, die=step)
    go(tmp_path / "broken", method)
    assert records(tmp_path / "whole") == records(tmp_path / "broken")
    one, other = ((tmp_path / run / "final" / WEIGHTS).read_bytes() for run in ("whole", "broken"))
    assert one == other
    for name, parameter in whole.model.named_parameters():  # and the base is what it was
        if name not in (whole.learns or ()):
            assert torch.equal(parameter, before[name.replace(".base.", ".")])
    assert json.loads((tmp_path / "whole/final" / DESCRIBED).read_text())["use_dora"] is method.dora


def test_plus_is_a_rate_of_b_alone() -> None:
    tuned = LoRA(plus=16).attach(tiny(), 0)
    assert set(tuned.rates.values()) == {16} and all(name.endswith(".b") for name in tuned.rates)
    running = trainer(tuned, steps=1)
    assert {group["rate"]: len(group["params"]) for group in running.optimizer.param_groups} == {1.0: 14, 16.0: 14}
