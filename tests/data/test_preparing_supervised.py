"""Sequences of which some tokens are asked for: packed, padded or alone, the same targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.data.batch import IGNORED
from paddock.data.packing import Fit, Single
from paddock.data.preparing.supervised import Supervised, SupervisedBlanks, coded, ids_of, sequences
from paddock.data.samples import Sample
from paddock.data.stream import BatchStream
from paddock.errors import DataError, UsageError
from paddock.model import spec
from paddock.model.families import describe
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.training.losses import token_loss

CONFIG = {
    "model_type": "llama",
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def sample(*texts: np.ndarray, place: int = 0) -> Sample:
    return Sample(tuple(texts), place, np.random.default_rng(place))


def talks(count: int, seed: int = 1) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        size = int(random.integers(3, 24))
        start = int(random.integers(1, size - 1))
        made.append(coded(random.integers(0, 40, size), [(start, int(random.integers(start + 1, size + 1)))]))
    return made


def test_what_is_asked_for_travels_with_the_tokens():
    found = coded([5, 0, 7, 8], [(1, 2), (3, 4)])
    assert found.tolist() == [-6, 0, -8, 8]  # token 0 too has a complement: it is no number of its own negative
    assert ids_of(found).tolist() == [5, 0, 7, 8]


def test_targets_are_the_next_tokens_that_are_asked_for():
    batch = Supervised(5, pad=9)([sample(coded([1, 2, 3, 4], [(2, 4)])), sample(coded([5, 6], [(0, 1)]))])
    assert batch.ids.tolist() == [[1, 2, 3, 4, 9], [5, 6, 9, 9, 9]]
    none = IGNORED
    assert batch.targets.tolist() == [[none, 3, 4, none, none], [none] * 5]  # a first token follows from nothing
    assert batch.supervised == 2


def test_an_end_that_is_also_the_padding_is_asked_for():
    """Masks go by places, never by ids."""
    batch = Supervised(6, pad=2)([sample(coded([1, 7, 2, 2], [(1, 3)]))])
    assert batch.targets.tolist() == [[7, 2, IGNORED, IGNORED, IGNORED, IGNORED]]


def test_the_last_token_of_a_full_row_is_only_asked_for():
    prepare = Supervised(3)
    assert prepare.takes == 4
    batch = prepare([sample(coded([1, 2, 3, 4], [(3, 4)]))])
    assert batch.targets.tolist() == [[IGNORED, IGNORED, 4]]
    with pytest.raises(DataError, match="5 tokens, and a row has room for 4"):
        prepare([sample(coded([1, 2, 3, 4, 5], [(3, 5)]))])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**31))
def test_packing_keeps_every_target(count, seed):
    made = talks(count, seed)
    wanted = sorted(int(id) for each in made for id in each[1:] if id >= 0)
    for table in (Fit(sequences(made, "t"), 32), Single(sequences(made, "t"), 32)):
        found = [Supervised(32)([sample(*table.texts(row))]).targets for row in range(len(table))]
        targets = torch.cat(found)
        assert sorted(targets[targets != IGNORED].tolist()) == wanted


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(3)
    model = Transformer(describe(CONFIG)).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def losses(model, batch):
    """The sum over targets, how many they are, and the gradient of the token table."""
    model.zero_grad()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    sums = token_loss(model, batch, batch.step(model.architecture))
    sums.total.backward()
    return float(sums.total.detach()), sums.count, model.embedding.tokens.weight.grad.clone()


def test_packed_padded_and_alone_have_one_loss(model):
    made = talks(9)
    alone = [losses(model, Supervised(len(each) - 1)([sample(each)])) for each in made]
    padded = losses(model, Supervised(40, pad=2)([sample(each) for each in made]))
    table = Fit(sequences(made, "t"), 40)
    assert len(table) < len(made)
    packed = losses(model, Supervised(40, pad=2)([sample(*table.texts(row)) for row in range(len(table))]))
    total, count = sum(each[0] for each in alone), sum(each[1] for each in alone)
    gradient = torch.stack([each[2] for each in alone]).sum(0)
    for found in (padded, packed):
        assert found[1] == count
        assert found[0] == pytest.approx(total, rel=1e-9)
        torch.testing.assert_close(found[2], gradient, rtol=1e-7, atol=1e-9)


def test_eight_rows_at_once_are_eight_rows_one_by_one(model):
    table = Single(sequences(talks(8), "t"), 32)
    batch = BatchStream(table, Supervised(32), 8, seed=0, shuffle=False).at(0)
    total, count, gradient = losses(model, batch)
    pieces = [losses(model, piece) for piece in batch.split(1)]
    assert sum(each[1] for each in pieces) == count
    assert sum(each[0] for each in pieces) == pytest.approx(total, rel=1e-9)
    torch.testing.assert_close(torch.stack([each[2] for each in pieces]).sum(0), gradient, rtol=1e-7, atol=1e-9)


def test_a_neighbour_in_the_row_changes_nothing(model):
    first, second, other = talks(3, seed=8)
    table = [Supervised(48)([sample(first, each)]) for each in (second, other)]
    hidden = [model.hidden(batch.ids, batch.step(model.architecture)) for batch in table]
    assert isinstance(model.architecture.mask, spec.Causal)
    torch.testing.assert_close(hidden[0][0, : len(first)], hidden[1][0, : len(first)], rtol=0, atol=0)
    alone = Supervised(48)([sample(second)])
    inside = hidden[0][0, len(first) : len(first) + len(second)]
    torch.testing.assert_close(
        inside, model.hidden(alone.ids, alone.step(model.architecture))[0, : len(second)], rtol=1e-9, atol=1e-9
    )


GLM = {
    "model_type": "chatglm",
    "vocab_size": 40,
    "hidden_size": 32,
    "inner_hidden_size": 48,
    "num_layers": 2,
    "num_attention_heads": 4,
    "max_sequence_length": 64,
    "position_encoding_2d": True,
    "gmask_token_id": 36,
    "mask_token_id": 37,
    "bos_token_id": 38,
}


def test_rows_of_a_glm_are_read_as_at_inference():
    """Its prompt sees all of itself, positions count in two parts: of a padded row, as of a prompt that is answered."""
    torch.manual_seed(4)
    model = Transformer(describe(GLM)).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    mask = model.architecture.mask
    assert isinstance(mask, spec.Prefix)
    ids = [5, 6, 7, 36, 38, 8, 9, 39]
    batch = SupervisedBlanks(12, pad=3, mask=mask)([sample(coded(ids, [(5, 8)]))])
    assert batch.targets[0, :8].tolist() == [IGNORED] * 4 + [8, 9, 39, IGNORED]
    whole = torch.tensor([ids])
    with torch.no_grad():
        expected = model.hidden(whole, Step.begin(model.architecture, whole))
        found = model.hidden(batch.ids, batch.step(model.architecture))[:, :8]
    torch.testing.assert_close(found[:, :7], expected[:, :7], rtol=1e-9, atol=1e-9)
    with pytest.raises(UsageError, match="lacks a mask token"):
        SupervisedBlanks(12, mask=mask)([sample(coded([5, 6, 7], [(1, 3)]))])
