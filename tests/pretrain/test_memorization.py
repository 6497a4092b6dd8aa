"""What is known by heart, on models and counts whose answer is known."""

from __future__ import annotations

import numpy as np
import torch

from paddock.checkpoint.weights import sketch
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.model.step import Step
from paddock.pretrain.memorization import agreement, dispersion, scores

CONFIG = {
    "model_type": "gpt_neox",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def test_a_score_is_the_share_of_tokens_a_whole_forward_would_choose() -> None:
    model = initialise(blank(sketch(describe(CONFIG))), seed=3, deviation=0.3).eval()
    start = torch.randint(0, 61, (70, 8), generator=torch.Generator().manual_seed(0))
    written = start
    with torch.inference_mode():
        for _ in range(8):  # without a cache, one whole forward a token
            positions = torch.arange(written.shape[1]).expand(len(written), -1)
            written = torch.cat((written, model(written, Step(positions))[:, -1:].argmax(-1)), 1)
    known = written.numpy()
    changed = known.copy()
    changed[::2, 15] = (changed[::2, 15] + 1) % 61
    assert (scores(model, known, 8) == 1.0).all()
    assert np.allclose(scores(model, changed, 8)[::2], 7 / 8) and (scores(model, changed, 8)[1::2] == 1.0).all()


def test_agreement_counts() -> None:
    earlier, later = np.array([1.0, 1.0, 0.5, 0.0, 1.0]), np.array([1.0, 0.9, 1.0, 0.0, 1.0])
    found = agreement(earlier, later)
    assert (found.memorised, found.both, found.precision, found.recall) == (3, 2, 2 / 3, 2 / 3)
    assert found.false_positive_rate == 1 / 2
    nothing = agreement(np.zeros(3), np.zeros(3))
    assert (nothing.precision, nothing.recall, nothing.false_positive_rate) == (None, None, 0.0)


def test_dispersion_tells_chance_from_clusters() -> None:
    random = np.random.default_rng(5)
    chance = dispersion(random.random(20_000) < 0.05, 50)
    assert chance.ratio is not None and 0.6 < chance.ratio < 1.5 and chance.p is not None and chance.p > 0.01
    clustered = np.zeros(20_000, dtype=bool)
    clustered[:1000] = True
    found = dispersion(clustered, 50)
    assert found.ratio is not None and found.ratio > 10 and found.p is not None and found.p < 1e-6
    assert dispersion(np.zeros(100, dtype=bool), 10).p is None
