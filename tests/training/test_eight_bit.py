"""AdamW in 8 bits: what rounding may cost, memory, files, and that it goes where AdamW goes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paddock.kernels.levels import dynamic_levels
from paddock.training import optimizers
from paddock.training.eight_bit import AT_ONCE, BLOCK, MOMENTS, SMALL, AdamW8bit
from paddock.training.recipe import Optimizer


def rule(model: nn.Module, name: str = "adamw8bit") -> torch.optim.Optimizer:
    return optimizers.make(model, Optimizer(name=name, learning_rate=1e-2))


def wide(seed: int = 0, size: int = 80) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(size, size), nn.Linear(size, 3))


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, steps: int) -> list[float]:
    """Losses of a regression whose rows are a function of the step."""
    losses = []
    for step in range(first, first + steps):
        x = torch.randn(32, 80, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x[:, :3].cumsum(1)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return losses


def test_the_levels_are_256_in_order_with_zero_and_one() -> None:
    for signed in (True, False):
        levels = dynamic_levels(signed)
        assert len(levels) == 256 and (levels.diff() > 0).all()
        assert 0 in levels and levels.max() == 1 and (levels.min() < 0) == signed


@pytest.mark.parametrize("name", MOMENTS)
def test_rounding_costs_at_most_071_percent_of_a_blocks_largest(name: str) -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(1)) * torch.logspace(-6, 2, 1000)
    values = values.square() if name == "square" else values
    optimizer = AdamW8bit([{"params": [nn.Parameter(torch.zeros(SMALL))]}], 1e-3, (0.9, 0.95), 1e-8)
    state = {name: torch.zeros(1000, dtype=torch.uint8), f"{name}_scale": torch.zeros(4)}
    part = slice(0, 1000)
    optimizer._write(state, name, part, values)
    found = optimizer._read(state, name, part)
    for first in range(0, 1000, BLOCK):
        block, kept = values[first : first + BLOCK], found[first : first + BLOCK]
        assert (kept - block).abs().max() <= 0.0071 * block.abs().max()
        large = block.abs() > 0.1 * block.abs().max()
        assert ((kept - block).abs() / block.abs())[large].max() < 0.071
    if name == "square":
        assert (found > 0).all()


def test_the_first_step_is_adamws_and_later_ones_stay_near() -> None:
    one, other = wide(), wide()
    first, second = rule(one), rule(other, "adamw")
    for model, optimizer in ((one, first), (other, second)):
        descend(model, optimizer, 0, 1)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
    losses, others = descend(one, first, 1, 150), descend(other, second, 1, 150)
    assert losses[-1] < 0.1 * losses[0]
    assert sum(losses[-20:]) == pytest.approx(sum(others[-20:]), rel=0.25)


def test_two_bytes_a_weight_and_a_scale_for_256() -> None:
    model = wide(size=320)
    optimizer = rule(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    weight = model[0].weight  # type: ignore[index]
    tensors = [value for key, value in optimizer.state[weight].items() if key != "step"]
    assert sum(each.nbytes for each in tensors) == weight.numel() * 2 + 2 * 4 * weight.numel() // BLOCK
    assert sum(each.nbytes for each in tensors) < 0.255 * 8 * weight.numel()
    small = optimizer.state[model[1].bias]  # type: ignore[index]
    assert small["average"].dtype == torch.float32


@pytest.mark.parametrize("way", ["state_dict", "copies"])
def test_it_goes_on_bit_for_bit(way: str, tmp_path: Path) -> None:
    whole = wide()
    optimizer = rule(whole)
    descend(whole, optimizer, 0, 3)
    other = copy.deepcopy(whole)
    resumed = rule(other)
    if way == "state_dict":
        torch.save(optimizer.state_dict(), tmp_path / "state")
        resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    else:  # as a saved step puts them back
        for mine, theirs in zip(whole.parameters(), other.parameters(), strict=True):
            resumed.state[theirs] = {key: value.clone() for key, value in optimizer.state[mine].items()}
    assert descend(whole, optimizer, 3, 3) == descend(other, resumed, 3, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))


def test_a_weight_whose_gradient_is_absent_once_does_not_leap() -> None:
    """Its square is tiny beside the block's largest: as zero it would leave average / eps."""
    weight = nn.Parameter(torch.zeros(SMALL))
    optimizer = AdamW8bit([{"params": [weight]}], 1e-3, (0.9, 0.95), 1e-8)
    gradient = torch.full((SMALL,), 1e-5)
    gradient[::BLOCK] = 1.0
    for step in range(4):
        weight.grad = gradient if step < 2 else torch.zeros(SMALL)
        optimizer.step()
    assert weight.abs().max() < 0.01


def test_a_parameter_in_pieces_is_one_in_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> Tensor:
        model = wide()
        descend(model, rule(model), 0, 3)
        return model[0].weight.detach()  # type: ignore[index]

    whole = run()
    assert whole.numel() < AT_ONCE
    monkeypatch.setattr("paddock.training.eight_bit.AT_ONCE", 2 * BLOCK)
    assert torch.equal(run(), whole)
