"""A saved step gives back every bit: weights, moments of every optimizer, random numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import CONFIG, publish, recipe, trainer

from paddock.checkpoint import folder as hf
from paddock.checkpoint.weights import sketch
from paddock.errors import CheckpointError
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.model.transformer import Transformer
from paddock.training import saving
from paddock.training.loop import Trainer
from paddock.training.parallel import Alone
from paddock.training.saving import State

CPU = Alone(torch.device("cpu"))
FAMILIES: dict[str, dict[str, Any]] = {
    "tied": CONFIG,
    "untied": CONFIG | {"tie_word_embeddings": False},
    "gpt_neox": {"model_type": "gpt_neox", "vocab_size": 61, "hidden_size": 16, "intermediate_size": 24,
                 "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32, "rotary_pct": 0.5},
    "mixtral": CONFIG | {"model_type": "mixtral", "num_local_experts": 3, "num_experts_per_tok": 2,
                         "tie_word_embeddings": False},
    "t5": {"model_type": "t5", "vocab_size": 61, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4},
    "bert": {"model_type": "bert", "vocab_size": 61, "hidden_size": 16, "intermediate_size": 24,
             "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32,
             "architectures": ["BertForPreTraining"]},
}  # fmt: skip


def written(folder: Path, one: Trainer, **changed: Any) -> Path:
    known: dict[str, Any] = {"step": one.step, "trainer": one.state(), "recipe": "r", "data": "d", "seed": 0}
    folder.mkdir()
    moments = one.parallel.moments(one.model, one.optimizer)
    saving.write(folder, publish, one.model, moments, State(**known | {"ranks": 1} | changed))
    return folder


def bits(tensor: torch.Tensor) -> bytes:
    return (
        tensor.detach().contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else tensor.numpy().tobytes()
    )


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and bits(one[name]) == bits(other[name]) for name in one
    )


def strange_weights(config: dict[str, Any]) -> Transformer:
    """Every kind of number that float32 has: zeros of both signs, the smallest, the largest, any mantissa."""
    model = initialise(blank(sketch(describe(config))), 3)
    odd = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, -3.4028235e38, 1 / 3])
    with torch.no_grad():
        for parameter in model.parameters():
            flat = parameter.view(-1)
            flat[: min(8, len(flat))] = odd[: min(8, len(flat))]
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_go_through_a_published_folder_bit_for_bit(tmp_path: Path, name: str) -> None:
    config = FAMILIES[name]
    model = strange_weights(config)
    hf.write(tmp_path / "model", model, dict(config))
    other = initialise(blank(sketch(describe(config))), 4)
    weights = saving.read_weights(tmp_path / "model")
    CPU.restore(other, None, weights, {})
    assert same_bits(dict(model.named_parameters()), dict(other.named_parameters()))


RULES: list[dict[str, Any]] = [
    {"name": "adamw"}, {"name": "adam"}, {"name": "sgd"}, {"name": "sgd", "momentum": 0.9}, {"name": "rmsprop"},
    {"name": "adafactor"}, {"name": "lion"}, {"name": "muon"},
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(map(str, rule.values())))
def test_every_rule_goes_on_as_if_it_had_not_stopped(tmp_path: Path, rule: dict[str, Any]) -> None:
    asked = recipe(steps=6, optimizer=rule)
    one, other = trainer(asked), trainer(asked, seed=9)
    losses: list[str] = []

    class Enough(Exception):
        pass

    def stop(report: Any) -> None:
        if report.step == 3:
            raise Enough

    with pytest.raises(Enough):
        one.run(stop)
    folder = written(tmp_path / "step", one)
    state = saving.restore(folder, other.model, other.optimizer, CPU)
    other.restore(state.trainer)
    before = {f"{n}/{k}": v for n, m in CPU.moments(one.model, one.optimizer).items() for k, v in m.items()}
    after = {f"{n}/{k}": v for n, m in CPU.moments(other.model, other.optimizer).items() for k, v in m.items()}
    assert same_bits({k: v for k, v in before.items() if isinstance(v, torch.Tensor)}, after)
    for each in (one, other):
        each.run(lambda report: losses.append(report.loss.hex()))
    assert losses[:3] == losses[3:]
    assert same_bits(dict(one.model.named_parameters()), dict(other.model.named_parameters()))


def test_random_numbers_go_on(tmp_path: Path) -> None:
    one = trainer(recipe())
    folder = written(tmp_path / "step", one)
    drawn = torch.rand(5)
    torch.manual_seed(99)
    saving.restore(folder, one.model, one.optimizer, CPU)
    assert torch.equal(torch.rand(5), drawn)


def test_nothing_restored_stays_a_view_of_the_file(tmp_path: Path) -> None:
    """A step may be retired while the run goes on."""
    one = trainer(recipe(steps=2))
    one.run()
    folder = written(tmp_path / "step", one)
    other = trainer(recipe(steps=2), seed=5)
    saving.restore(folder, other.model, other.optimizer, CPU)
    for path in folder.rglob("*.safetensors"):
        path.write_bytes(b"\0" * path.stat().st_size)
    assert same_bits(dict(one.model.named_parameters()), dict(other.model.named_parameters()))


def damaged(folder: Path, change: Any) -> None:
    path = folder / "training/state.json"
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.clear(), lambda table: table.update(format=2), lambda table: table.update(step="3"),
        lambda table: table.update(step=True), lambda table: table.update(new=1), lambda table: table.pop("ranks"),
        lambda table: table.update(trainer=[]),
    ],
)  # fmt: skip
def test_what_is_no_state_is_refused(tmp_path: Path, change: Any) -> None:
    one = trainer(recipe())
    folder = written(tmp_path / "step", one)
    damaged(folder, change)
    with pytest.raises(CheckpointError, match=r"state\.json"):
        saving.restore(folder, one.model, one.optimizer, CPU)


def test_the_step_of_another_model_is_refused_before_anything_changes(tmp_path: Path) -> None:
    one = trainer(recipe(steps=1))
    one.run()
    other = written(tmp_path / "step", one)
    larger = initialise(blank(sketch(describe(CONFIG | {"hidden_size": 32, "head_dim": 4}))), 0)
    before = {name: weight.clone() for name, weight in larger.named_parameters()}
    with pytest.raises(CheckpointError, match="shape"):
        saving.restore(other, larger, torch.optim.AdamW(larger.parameters()), CPU)
    assert same_bits(before, dict(larger.named_parameters()))
