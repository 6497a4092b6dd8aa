"""Positions drawn at random: in order, from 0 in each document, within bounds, and the same again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from paddock.data.preparing.causal import Causal
from paddock.data.preparing.randomised import Randomised
from paddock.data.samples import Sample
from paddock.engine.loading import load


def sample(place: int, *sizes: int) -> Sample:
    return Sample(tuple(np.arange(3, 3 + size) for size in sizes), place, np.random.default_rng([7, place]))


def test_positions_go_on_by_one_on_average_and_never_back() -> None:
    batch = Randomised(Causal(400), 10**6)([sample(place, 401) for place in range(20)])
    positions = batch.positions
    assert positions is not None and positions.dtype == torch.float32 and positions.shape == (20, 400)
    steps = positions.diff(dim=1)
    assert (positions[:, 0] == 0).all() and (steps >= 0).all() and (steps <= 2).all()
    assert float(steps.mean()) == pytest.approx(1.0, abs=0.03)
    assert float(steps.std()) == pytest.approx(2 / 12**0.5, abs=0.03), "even over [0, 2]"


def test_each_document_begins_at_nought() -> None:
    plain, random = Causal(30)([sample(0, 9, 12, 10)]), Randomised(Causal(30), 10**6)([sample(0, 9, 12, 10)])
    assert random.positions is not None
    (found,) = random.positions
    assert [int(at) for at in (found == 0).nonzero()] == [0, 9, 21]
    assert all(torch.equal(getattr(plain, name), getattr(random, name)) for name in ("ids", "targets", "documents"))


def test_none_is_beyond_the_context() -> None:
    batch = Randomised(Causal(400), 100)([sample(0, 401)])
    assert batch.positions is not None and float(batch.positions.max()) == 100.0


def test_a_row_is_the_same_whatever_it_shares_a_batch_with() -> None:
    together = Randomised(Causal(20), 99)([sample(4, 21), sample(5, 21)]).positions
    alone = Randomised(Causal(20), 99)([sample(5, 21)]).positions
    assert together is not None and alone is not None and torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])


def test_a_model_takes_them_and_learns() -> None:
    model = load().model.train()
    batch = Randomised(Causal(24), 511)([sample(0, 25), sample(1, 12, 13)])
    losses, counts = [], []
    for positions in (batch.positions, None):
        step = replace(batch, positions=positions).step(model.architecture)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        logits = model(batch.ids, step)
        losses.append(float(logits.detach().float().pow(2).mean()))
        model.zero_grad()
        logits.float().pow(2).mean().backward()
        counts.append(sum(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters()))
    assert counts[0] == counts[1] == sum(1 for _ in model.parameters()) and losses[0] != losses[1]
