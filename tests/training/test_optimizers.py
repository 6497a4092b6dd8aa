"""Each rule against NumPy in float64, written from the papers; what decays; what a rule does not know."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from paddock.training import optimizers
from paddock.training.recipe import RULES, Optimizer

Array = np.ndarray
RATE = 0.02


def sgd(w: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    g = g + o["decay"] * w
    s["v"] = o["momentum"] * s["v"] + g if "v" in s else g
    return w - RATE * (g + o["momentum"] * s["v"] if o["nesterov"] else s["v"])


def rmsprop(w: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    s["s"] = o["smoothing"] * s.get("s", 0.0) + (1 - o["smoothing"]) * g**2
    return w - RATE * g / (np.sqrt(s["s"]) + o["eps"])


def adam_step(g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    b1, b2 = o["betas"]
    s["t"] = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * g**2
    return (s["m"] / (1 - b1 ** s["t"])) / (np.sqrt(s["v"] / (1 - b2 ** s["t"])) + o["eps"])


def adam(w: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    return w - RATE * adam_step(g + o["decay"] * w, s, o)


def adamw(w: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    return w - RATE * o["decay"] * w - RATE * adam_step(g, s, o)


def adafactor(w: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    s["t"] = s.get("t", 0) + 1
    kept = 1 - s["t"] ** -0.8
    square = g**2
    if w.ndim == 2:
        s["r"] = kept * s.get("r", 0.0) + (1 - kept) * square.mean(1)
        s["c"] = kept * s.get("c", 0.0) + (1 - kept) * square.mean(0)
        estimate = np.outer(s["r"], s["c"]) / s["r"].mean()
    else:
        s["v"] = kept * s.get("v", 0.0) + (1 - kept) * square
        estimate = s["v"]
    update = g / np.sqrt(estimate)
    update = update / max(1.0, math.sqrt(float((update**2).mean())))
    size = max(1e-3, math.sqrt(float((w**2).mean()))) * min(RATE, 1 / math.sqrt(s["t"]))
    return w - RATE * o["decay"] * w - size * update


def lion(w: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    b1, b2 = o["betas"]
    average = s.get("m", np.zeros_like(g))
    s["m"] = b2 * average + (1 - b2) * g
    return w - RATE * (np.sign(b1 * average + (1 - b1) * g) + o["decay"] * w)


def muon(w: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    if w.ndim < 2 or o["looked_up"]:
        return adamw(w, g, s, o)
    s["m"] = o["momentum"] * s.get("m", 0.0) + (1 - o["momentum"]) * g
    x = (1 - o["momentum"]) * g + o["momentum"] * s["m"] if o["nesterov"] else s["m"]
    # The polynomial acts on singular values alone: by SVD, which shares nothing with the rounds of products.
    left, values, right = np.linalg.svd(x, full_matrices=False)
    values = values / np.linalg.norm(x)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return w - RATE * o["decay"] * w - RATE * 0.2 * math.sqrt(max(w.shape)) * (left * values) @ right


REFERENCES: dict[str, Callable[..., Array]] = {
    "sgd": sgd,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "adafactor": adafactor,
    "lion": lion,
    "muon": muon,
}


class Small(nn.Module):
    """A table, two matrices (tall and wide), a norm and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.tall = nn.Linear(4, 9, bias=True)
        self.norm = nn.LayerNorm(9)
        self.wide = nn.Linear(9, 3, bias=False)


def gradients(model: nn.Module, step: int) -> None:
    """The same for every rule and type, of the sizes that a language model's gradients have: 1e-5 to 1e-2."""
    random = np.random.default_rng(step)
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.from_numpy(random.normal(size=parameter.shape) * 10.0 ** -(2 + number % 4)).to(
            parameter.dtype
        )


CASES = [
    *[(name, {}) for name in REFERENCES],
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("adam", {"weight_decay": 0.1, "betas": (0.8, 0.99), "eps": 1e-4}),
    ("adafactor", {"weight_decay": 0.1}),
    ("muon", {"nesterov": False}),
    ("adamw", {"decay": "all"}),
]


@pytest.mark.parametrize(("name", "given"), CASES, ids=[f"{name}-{'-'.join(given)}" for name, given in CASES])
def test_five_steps_equal_numpy(name: str, given: dict[str, Any]) -> None:
    torch.manual_seed(3)
    model = Small()
    recipe = Optimizer(name=name, learning_rate=RATE, **given)  # type: ignore[arg-type]
    optimizer = optimizers.make(model, recipe)
    settings = recipe.settings()
    expected = {n: p.detach().double().numpy().copy() for n, p in model.named_parameters()}
    states: dict[str, dict[str, Any]] = {n: {} for n in expected}
    for step in range(5):
        gradients(model, step)
        for n, p in model.named_parameters():
            table = n == "table.weight"
            decays = given.get("decay") == "all" or (p.dim() == 2 and not table)
            options = {**settings, "decay": settings["weight_decay"] if decays else 0.0, "looked_up": table}
            assert p.grad is not None
            expected[n] = REFERENCES[name](expected[n], p.grad.double().numpy(), states[n], options)
        optimizer.step()
    for n, p in model.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), expected[n], atol=1e-6, rtol=0, err_msg=n)


@pytest.mark.parametrize("name", REFERENCES)
def test_the_state_goes_through_a_file_exactly(name: str, tmp_path: Any) -> None:
    recipe = Optimizer(name=name, learning_rate=RATE)  # type: ignore[arg-type]
    whole = Small()
    optimizer = optimizers.make(whole, recipe)
    for step in range(3):
        gradients(whole, step)
        optimizer.step()
    other = copy.deepcopy(whole)
    torch.save(optimizer.state_dict(), tmp_path / "state")
    resumed = optimizers.make(other, recipe)
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for step in range(3, 6):
        for model, rule in ((whole, optimizer), (other, resumed)):
            gradients(model, step)
            rule.step()
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", REFERENCES)
def test_a_row_without_a_gradient_stays_finite(name: str) -> None:
    model = Small()
    optimizer = optimizers.make(model, Optimizer(name=name))  # type: ignore[arg-type]
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
            parameter.grad.view(-1)[0] = 1e-6
        optimizer.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def descend(name: str, rate: float, steps: int = 200) -> float:
    """The loss of an ill-conditioned quadratic (1e4 : 1) after that many steps."""
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0]]))
    optimizer = optimizers.make(model, Optimizer(name=name, learning_rate=rate, weight_decay=0.0))  # type: ignore[arg-type]
    scale = torch.tensor([[1e4, 1.0]])
    for _ in range(steps):
        optimizer.zero_grad()
        loss = 0.5 * (scale * model.weight.square()).sum()
        loss.backward()
        optimizer.step()
    value = float(0.5 * (scale * model.weight.detach().square()).sum())
    return value if math.isfinite(value) else math.inf


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_adaptive_rules_win_on_an_ill_conditioned_quadratic(name: str) -> None:
    rates = [10.0**power for power in range(-6, 0)]
    assert min(descend(name, rate) for rate in rates) < 0.1 * min(descend("sgd", rate) for rate in rates)


def test_what_decays() -> None:
    model = Small()
    named = {id(p): n for n, p in model.named_parameters()}
    groups = optimizers.make(model, Optimizer()).param_groups
    decayed = {named[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {"tall.weight", "wide.weight"}
    everything = optimizers.make(model, Optimizer(decay="all")).param_groups
    assert [len(group["params"]) for group in everything if group["weight_decay"]] == [6]


def test_the_head_is_adamws_under_muon() -> None:
    model = nn.ModuleDict({"head": nn.Linear(4, 6, bias=False), "block": nn.Linear(4, 4, bias=False)})
    groups = optimizers.make(model, Optimizer(name="muon")).param_groups
    assert [[tuple(p.shape) for p in g["params"]] for g in groups if g["orthogonal"]] == [[(4, 4)]]
    assert all(g["weight_decay"] == 0.1 for g in groups)


def test_adafactor_knows_small_gradients_from_smaller_ones() -> None:
    model = nn.Linear(4, 9, bias=False)
    optimizer = optimizers.make(model, Optimizer(name="adafactor", learning_rate=RATE))
    expected, state = model.weight.detach().double().numpy().copy(), dict[str, Any]()
    for step in range(4):
        gradient = np.random.default_rng(step).normal(size=(9, 4)) * 10.0 ** -(4 + step)
        model.weight.grad = torch.from_numpy(gradient).float()
        expected = adafactor(expected, gradient, state, {"decay": 0.0})
        optimizer.step()
    np.testing.assert_allclose(model.weight.detach().numpy(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "given",
    [
        {"name": "adamw", "momentum": 0.9},
        {"momentum": 0.9},
        {"name": "sgd", "betas": (0.9, 0.95)},
        {"name": "lion", "eps": 1e-8},
        {"name": "adafactor", "betas": (0.9, 0.95)},
        {"name": "adam", "nesterov": True},
        {"name": "sgd", "nesterov": True},
        {"name": "rmsprop", "smoothing": 1.0},
        {"name": "adagrad"},
        {"name": ["sgd"]},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"betas": (0.9,)},
        {"weight_decay": -0.1},
        {"speed": 1},
    ],
    ids=str,
)
def test_what_a_rule_does_not_know_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Optimizer(**given)


def test_a_foreign_setting_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match=r"adamw has no momentum, smoothing \(it has weight_decay, betas, eps\)"):
        Optimizer(name="adamw", momentum=0.5, smoothing=0.5)


@pytest.mark.parametrize("name", RULES)
def test_a_saved_recipe_says_everything_and_reads_back(name: str) -> None:
    recipe = Optimizer(name=name)  # type: ignore[arg-type]
    said = recipe.model_dump(mode="json")
    assert Optimizer(**said) == recipe
    assert all(said[key] is not None for key in RULES[name])
