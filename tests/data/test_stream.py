"""A batch is a function of its step: for every number of ranks, after every restart, ahead of time or not."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.data.batch import IGNORED, Batch
from paddock.data.mixing import Mixture
from paddock.data.packing import Fit, Single, Stream
from paddock.data.preparing.causal import Causal
from paddock.data.samples import Sample, Table
from paddock.data.stream import Ahead, BatchStream
from paddock.data.tokens import Tokens
from paddock.errors import DataError, UsageError

TOKENS = Tokens.of([range(start, start + 1 + start % 23) for start in range(0, 3000, 7)])
KINDS: dict[str, Table] = {
    "stream": Stream(TOKENS, 16),
    "fit": Fit(TOKENS, 16),
    "single": Single(TOKENS, 16),
    "mixture": Mixture([Stream(TOKENS, 16), Fit(TOKENS, 16)], [2, 1]),
}


def stream(kind: str = "stream", rows: int = 6, seed: int = 1, shuffle: bool = True) -> BatchStream:
    return BatchStream(KINDS[kind], Causal(16), rows, seed, shuffle)


def joined(batches: list[Batch], name: str) -> torch.Tensor:
    parts = [getattr(batch, name) for batch in batches]
    return torch.cat([part for part in parts if part is not None])


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(list(KINDS)), st.integers(1, 9), st.integers(0, 10**9), st.data())
def test_ranks_share_the_rows_of_one(kind: str, rows: int, step: int, data: st.DataObject) -> None:
    ranks = data.draw(st.integers(1, rows))
    whole = stream(kind, rows).at(step)
    shares = [stream(kind, rows).at(step, rank, ranks) for rank in range(ranks)]
    assert sum(share.supervised for share in shares) == whole.supervised
    for rank, share in enumerate(shares):
        assert torch.equal(share.ids, whole.ids[rank::ranks])
        assert torch.equal(share.targets, whole.targets[rank::ranks])
        assert share.samples is not None and whole.samples is not None
        assert torch.equal(share.samples, whole.samples[rank::ranks])
    assert sorted(joined(shares, "samples").tolist()) == list(range(step * rows, (step + 1) * rows))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mixture"])
def test_an_epoch_has_every_row_once(kind: str) -> None:
    table, batches = KINDS[kind], stream(kind, rows=7)
    rows = [batches.sample(place).texts for place in range(len(table))]
    seen = sorted(np.concatenate(texts).tolist() for texts in rows)
    assert seen == sorted(np.concatenate(table.texts(number)).tolist() for number in range(len(table)))
    again = [batches.sample(place).texts for place in range(len(table), 2 * len(table))]
    assert [[t.tolist() for t in row] for row in rows] != [[t.tolist() for t in row] for row in again]


def test_seeds_change_the_order_and_nothing_else_does() -> None:
    digest = stream(seed=1).at(3).digest()
    assert digest == stream(seed=1).at(3).digest() != stream(seed=2).at(3).digest()


def test_the_same_batches_on_every_machine() -> None:
    assert stream("fit").at(1000).digest() == "09e0b0a157419f1d6b8cdd506b6212f1fc95331eefefb9bbe7597aa8b5a8011c"
    assert stream("mixture").at(1000).digest() == "5291de91ed3e65a9a80e889db483d4f88d0b68341caba316f065f998db74b401"


def test_random_numbers_belong_to_the_place() -> None:
    drawn = [stream(rows=rows).sample(17).random.random() for rows in (1, 6)]
    assert drawn[0] == drawn[1] != stream().sample(18).random.random()


def test_once_is_every_row_as_it_lies() -> None:
    table, batches = KINDS["single"], list(stream("single", rows=50).once())
    assert [batch.rows for batch in batches[:-1]] == [50] * (len(batches) - 1)
    assert joined(batches, "samples").tolist() == list(range(len(table)))
    assert sum(batch.supervised for batch in batches) == sum(len(table.texts(n)[0]) - 1 for n in range(len(table)))


@pytest.mark.parametrize(("rank", "ranks"), [(0, 7), (6, 6), (-1, 2), (0, 0)])
def test_a_rank_without_rows_is_refused(rank: int, ranks: int) -> None:
    with pytest.raises(UsageError, match="a batch of 6 rows"):
        stream().at(0, rank, ranks)


def test_batches_of_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="0 rows"):
        stream(rows=0)


def test_made_ahead_they_are_the_same() -> None:
    before = threading.active_count()
    with Ahead(stream()) as ahead:
        for step in (0, 1, 2, 7, 8, 3):  # a jump, as a resumed run makes one
            assert ahead.at(step).digest() == stream().at(step).digest()
        assert ahead.at(4, 1, 2).digest() == stream().at(4, 1, 2).digest()
    assert threading.active_count() == before


def test_what_fails_ahead_is_told_when_it_is_asked_for() -> None:
    class Broken(Causal):
        def __call__(self, samples: list[Sample]) -> Batch:
            if samples[0].place >= 12:
                raise DataError("the third batch is broken")
            return super().__call__(samples)

    with Ahead(BatchStream(KINDS["stream"], Broken(16), 6, 1)) as ahead:
        ahead.at(0)
        ahead.at(1)
        with pytest.raises(DataError, match="third"):
            ahead.at(2)


def test_a_stream_whose_order_matters_is_one_text() -> None:
    """Unshuffled, rows of a stream follow one another: the target at a row's end is the next row's first token."""
    batches = BatchStream(KINDS["stream"], Causal(16, isolated=False), 4, 0, shuffle=False)
    ids, targets = batches.at(0).ids.flatten(), batches.at(0).targets.flatten()
    assert torch.equal(ids[1:], targets[:-1]) and IGNORED not in targets
