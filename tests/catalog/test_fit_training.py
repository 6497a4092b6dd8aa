"""Plans for training: counts against what methods attach, bytes against what a model keeps and an optimiser holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_models import CONFIGS, LLAMA
from pydantic import TypeAdapter

from paddock.catalog.fit import subject, training
from paddock.catalog.fit.activations import KEPT, WORKING, Walk
from paddock.catalog.fit.ledger import Ledger
from paddock.catalog.fit.trained import LOW, METHODS, Tensor, trained
from paddock.catalog.fit.training import Need, Settings, moment_bytes
from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.held_nf4 import HeldNf4
from paddock.checkpoint.weights import sketch
from paddock.errors import ContextLengthError, PaddockError, UsageError
from paddock.kernels.native import library
from paddock.kernels.nf4 import Nf4
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.model.step import Step
from paddock.training import optimizers
from paddock.training.loop import learning
from paddock.training.methods import Base, Method
from paddock.training.recipe import RULES, Optimizer

GB = 10**9
native = pytest.mark.skipif(library() is None, reason="the native kernels are not here")
WIDE = {**LLAMA, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 3, "vocab_size": 512}


def base(config: dict[str, Any], dtype: torch.dtype = torch.float32) -> Base:
    model = initialise(blank(sketch(describe(config)).to(dtype)), 0, config, deviation=0.02)
    return Base(model, config, {}, "small")


def needed(settings: Settings, config: dict[str, Any] = WIDE) -> int:
    return max(phase.bytes for phase in Need(describe(config), settings).phases)


@pytest.mark.parametrize("task", [method for method in METHODS if method != "pretrain"])
@pytest.mark.parametrize("name", ["llama", "llama tied", "gpt_neox", "mixtral", "bert", "bloom", "qwen2"])
def test_as_many_numbers_are_counted_as_a_method_attaches(name: str, task: str) -> None:
    config = CONFIGS[name]
    method = TypeAdapter(Method).validate_python({"name": task, **({"rank": 4} if task in LOW else {})})
    try:
        tuned = method.attach(base(config), 0)
    except PaddockError:  # no biases, no place for virtual tokens: nothing to count
        return
    assert trained(describe(config), task, rank=4).numbers == tuned.trainable


def test_roles_are_counted_by_themselves() -> None:
    model, side = describe(WIDE), 128
    assert trained(model, "lora", 4, "q").numbers == 3 * 4 * 2 * side
    assert trained(model, "lora", 8, "q").numbers == 2 * trained(model, "lora", 4, "q").numbers
    with pytest.raises(UsageError, match="no matrices of the role"):
        trained(model, "lora", 4, "nose")


@pytest.mark.parametrize("rule", RULES)
def test_moments_are_what_the_optimiser_holds(rule: str) -> None:
    model = base(WIDE).model
    with learning(model, {name for name, _ in model.named_parameters()}):
        optimizer = optimizers.make(model, Optimizer(name=rule))  # type: ignore[arg-type]
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    held = sum(v.nbytes for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor))
    said = sum(moment_bytes(rule, each) for each in trained(describe(WIDE), "full").tensors)
    assert said == pytest.approx(held, abs=12 * len(optimizer.state))  # counters of steps, roots of mean squares


def test_nf4_is_4_127_bits_a_weight() -> None:
    need = Need(describe(WIDE), Settings("qlora", length=64))
    packed = next(part for part in need.weights if part.name == "matrices in NF4")
    count = 3 * (128 * 128 * 2 + 128 * 64 * 2 + 3 * 128 * 352)
    assert pytest.approx(4.127, abs=5e-4) == training.NF4_BITS
    assert packed.bytes == round(count * training.NF4_BITS / 8)
    assert packed.bytes == pytest.approx(count / (512 * 512) * Nf4.rounded(torch.randn(512, 512)).nbytes, rel=1e-3)


@pytest.mark.parametrize("vocabulary", ["8bit", "plain"])
@pytest.mark.parametrize("name", ["llama", "llama tied", "bert", "t5"])
def test_weights_of_qlora_are_what_an_opened_base_holds(name: str, vocabulary: str, tmp_path: Path) -> None:
    config = {**CONFIGS[name], **({"d_model": 64} if name == "t5" else {"hidden_size": 64})}
    model = initialise(blank(sketch(describe(config))), 0, config, deviation=0.02)
    folder.write(tmp_path / "base", model, config)
    held = HeldNf4(type=torch.bfloat16, ends=vocabulary == "8bit")
    found = open_checkpoint(tmp_path / "base").model("bfloat16", packing=held).weight_bytes
    need = Need(describe(config), Settings("qlora", length=16, vocabulary=vocabulary))
    said = sum(part.bytes for part in need.weights if part.name != "trained beside it")
    assert said == pytest.approx(found, rel=0.01)


def saved_bytes(task: str, narrow: bool) -> int:
    """What a forward pass through all blocks really keeps for the backward pass, weights apart."""
    given = base(WIDE, torch.bfloat16 if narrow and task == "lora" else torch.float32)
    model, learns = given.model, {name for name, _ in given.model.named_parameters()}
    if task == "lora":
        tuned = TypeAdapter(Method).validate_python({"name": "lora", "rank": 8}).attach(given, 0)
        model, learns = tuned.model, set(tuned.learns or ())
    owned = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            found[storage.data_ptr()] = storage
        return tensor

    ids = torch.zeros(2, 64, dtype=torch.long)
    with (
        learning(model, learns),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=narrow),
    ):
        hidden = model.hidden(ids, Step.begin(model.architecture, ids))
    del hidden
    return sum(storage.nbytes() for storage in found.values())


@native
@pytest.mark.parametrize("narrow", [True, False], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("task", ["pretrain", "lora"])
def test_blocks_keep_what_the_operations_save(task: str, narrow: bool) -> None:
    settings = Settings(task, length=64, batch=2, precision="bfloat16" if narrow else "float32")
    ledger = Ledger()
    Walk(ledger, describe(WIDE), Need(describe(WIDE), settings).way).forward()
    said = ledger.held[KEPT] + ledger.held[WORKING]
    assert said == pytest.approx(saved_bytes(task, narrow), rel=0.04)


def test_more_of_anything_takes_no_less() -> None:
    small = Settings("lora", length=64, batch=2)
    for more in ({"length": 128}, {"batch": 4}, {"rank": 64}, {"precision": "float32"}, {"task": "full"}):
        assert needed(replace(small, **more)) > needed(small), more  # type: ignore[arg-type]
    assert needed(replace(small, batch=16, micro_batch=2)) == needed(replace(small, batch=4, micro_batch=2))
    assert needed(replace(small, batch=16, micro_batch=2)) < needed(replace(small, batch=16))
    assert needed(replace(small, batch=16, length=128, recompute=True)) < needed(replace(small, batch=16, length=128))
    assert needed(replace(small, task="full", optimizer="adamw8bit")) < needed(replace(small, task="full"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_is_planned(name: str) -> None:
    plan = training.plan(describe(CONFIGS[name]), Settings("full", length=32, budget=2 * GB))
    assert plan.verdict == "fits"
    assert plan.peak == max(sum(part.bytes for part in phase.components) for phase in plan.phases)
    assert all(part.bytes >= 0 and part.formula for phase in plan.phases for part in phase.components)


def test_what_would_make_it_fit_does_and_nothing_asked_is_changed() -> None:
    asked = Settings("full", length=2048, batch=8, budget=30 * GB)
    found = subject.of_config({**WIDE, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
                               "num_attention_heads": 32, "max_position_embeddings": 4096}, "1b", "config")  # fmt: skip
    plan = training.plan(found, asked)
    assert plan.verdict == "fits if" and plan.settings["batch"] == 8 and plan.settings["recompute"] is False
    for change in plan.changes:
        words, meant = change.split(), {}
        while words:
            option = words.pop(0).removeprefix("--").replace("-", "_")
            value = True if option == "recompute" else words.pop(0)
            name = "length" if option == "context" else option
            meant[name] = int(value) if isinstance(value, str) and value.isdigit() else value
        assert training.plan(found, replace(asked, **meant)).verdict == "fits", change  # type: ignore[arg-type]
    assert training.plan(found, replace(asked, budget=GB)).verdict == "does not fit"


def test_the_largest_fits_and_one_more_does_not() -> None:
    asked, space = Settings("lora", length=64, batch=1, budget=GB), GB // 2
    found = training.largest(describe({**WIDE, "max_position_embeddings": 2**20}), asked, "length", 2**20, space)
    assert found
    config = {**WIDE, "max_position_embeddings": 2**20}
    assert needed(replace(asked, length=found), config) <= space < needed(replace(asked, length=found + 1), config)


@pytest.mark.parametrize(
    "bad",
    [{"task": "dream"}, {"length": 0}, {"length": True}, {"batch": 0}, {"batch": 10**9}, {"rank": 0}, {"rank": 2**20},
     {"micro_batch": 3}, {"micro_batch": -1}, {"precision": "float16"}, {"optimizer": "adan"}, {"roles": "nose"}],
    ids=lambda bad: "-".join(f"{k}={v}" for k, v in bad.items()),
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        training.plan(describe(WIDE), Settings(**{"task": "lora", "length": 32, "batch": 2, "budget": GB, **bad}))


def test_rows_beyond_the_context_are_refused() -> None:
    with pytest.raises(ContextLengthError, match="reads 128"):
        training.plan(describe(WIDE), Settings("full", length=129, budget=GB))


def test_small_parameters_keep_wide_moments() -> None:
    assert moment_bytes("adamw8bit", Tensor("norm.weight", (64,))) == 512
