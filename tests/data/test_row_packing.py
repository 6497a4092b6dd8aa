"""Rows of documents: nothing lost, nothing doubled, and one row learns what its documents learn alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.checkpoint.weights import sketch
from paddock.data.batch import IGNORED, Batch
from paddock.data.packing import Fit, Single, Stream
from paddock.data.preparing.causal import Causal
from paddock.data.samples import Sample
from paddock.data.tokens import Tokens
from paddock.errors import DataError, UsageError
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.model.transformer import Transformer
from paddock.training.losses import token_loss

TABLES = (Stream, Single, Fit)
Sizes = st.lists(st.integers(0, 40), min_size=1, max_size=60)


def numbered(sizes: list[int]) -> Tokens:
    """Documents of those sizes in which no token comes twice."""
    ends = np.cumsum(sizes, dtype=np.int64)
    return Tokens(np.arange(int(ends[-1]), dtype=np.uint32), ends)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small are slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows_of(table: Stream | Single | Fit) -> list[tuple[np.ndarray, ...]]:
    return [table.texts(number) for number in range(len(table))]


@settings(deadline=None, max_examples=60)
@given(Sizes, st.integers(1, 17), st.sampled_from([0, 1]), st.sampled_from([Single, Fit]))
def test_every_token_is_asked_for_once(sizes: list[int], length: int, overlap: int, kind: type[Fit]) -> None:
    tokens = numbered(sizes)
    if max(sizes) <= overlap:
        with pytest.raises(DataError, match="no document has more"):
            kind(tokens, length, overlap)
        return
    table = kind(tokens, length, overlap)
    starts = np.concatenate(([0], tokens.ends))
    asked: Counter[int] = Counter()
    for texts in rows_of(table):
        assert 0 < sum(map(len, texts)) <= length + overlap
        for text in texts:
            assert (np.diff(text.astype(int)) == 1).all()  # one piece of one document
            assert np.searchsorted(starts, text[0], "right") == np.searchsorted(starts, text[-1], "right")
            asked.update(text[overlap:].tolist())
    expected = {int(i) for a, b in pairwise(starts) for i in range(a + overlap, b)}
    assert asked == Counter(expected)
    assert table.row_tokens * len(table) == pytest.approx(len(expected))


@settings(deadline=None, max_examples=60)
@given(Sizes, st.integers(1, 17), st.sampled_from([0, 1]))
def test_a_stream_loses_only_its_rest(sizes: list[int], length: int, overlap: int) -> None:
    tokens = numbered(sizes)
    if sum(sizes) < length + overlap:
        with pytest.raises(DataError, match="at least"):
            Stream(tokens, length, overlap)
        return
    table = Stream(tokens, length, overlap)
    whole = [np.concatenate(texts) for texts in rows_of(table)]
    assert all(len(row) == length + overlap for row in whole)
    read = np.concatenate([row[overlap:] for row in whole])
    assert read.tolist() == list(range(overlap, len(table) * length + overlap))
    assert table.left_out == sum(sizes) - overlap - len(read) < length
    for texts in rows_of(table):  # cut where documents end, nowhere else
        assert {int(text[-1]) + 1 for text in texts[:-1]} <= set(tokens.ends.tolist())
        assert not {int(i) for text in texts for i in text[1:]} & set(tokens.ends.tolist())


def plain_best_fit(sizes: list[int], room: int) -> list[int]:
    """Rooms left, by the definition: the longest first, each in the row with the least room that suffices."""
    left: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [i for i, space in enumerate(left) if space >= size]
        at = min(fitting, key=lambda i: left[i]) if fitting else len(left)
        left[at:at] = [room] if at == len(left) else []
        left[at] -= size
    return sorted(left)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(1, 16), min_size=1, max_size=80))
def test_it_is_best_fit_decreasing(sizes: list[int]) -> None:
    found = [17 - sum(map(len, texts)) for texts in rows_of(Fit(numbered(sizes), 17, 0))]
    assert sorted(found) == plain_best_fit(sizes, 17)


def test_fit_is_deterministic_and_says_how_full_rows_are() -> None:
    sizes = [3, 9, 200, 64, 1, 17, 40, 5, 5, 33] * 20
    first, second = Fit(numbered(sizes), 64), Fit(numbered(sizes), 64)
    for one, other in zip(rows_of(first), rows_of(second), strict=True):
        assert [text.tolist() for text in one] == [text.tolist() for text in other]
    assert first.efficiency == pytest.approx(sum(max(0, size - 1) for size in sizes) / (64 * len(first)))
    assert first.efficiency > 0.9 > Single(numbered(sizes), 64).efficiency


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(("length", "overlap"), [(0, 1), (-3, 0), (4, -1)])
def test_impossible_rows_are_refused(kind: type[Fit], length: int, overlap: int) -> None:
    with pytest.raises(UsageError, match="rows of"):
        kind(numbered([50]), length, overlap)


@pytest.mark.parametrize("kind", TABLES)
def test_nothing_to_pack_is_refused(kind: type[Fit]) -> None:
    with pytest.raises(DataError):
        kind(Tokens.of([]), 8)


# What Causal makes of rows.


def samples(rows: list[tuple[np.ndarray, ...]]) -> list[Sample]:
    return [Sample(texts, place, np.random.default_rng(place)) for place, texts in enumerate(rows)]


def causal(sizes: list[list[int]], length: int, isolated: bool = True) -> Batch:
    made = [tuple(np.arange(1, size + 1) + 100 * i for i, size in enumerate(row)) for row in sizes]
    return Causal(length, pad=0, isolated=isolated)(samples(made))


def test_a_document_is_not_asked_for_the_next_one() -> None:
    batch = causal([[2, 3]], 5)
    assert batch.ids.tolist() == [[1, 2, 101, 102, 103]]
    assert batch.targets.tolist() == [[2, IGNORED, 102, 103, IGNORED]]
    assert batch.positions is not None and batch.positions.tolist() == [[0, 1, 0, 1, 2]]
    assert batch.documents is not None and batch.documents.tolist() == [[0, 0, 1, 1, 1]]


def test_nor_where_the_next_one_is_only_the_last_target() -> None:
    batch = causal([[4, 1]], 4)
    assert batch.targets.tolist() == [[2, 3, 4, IGNORED]]
    assert batch.documents is None


def test_a_row_as_one_text_is_asked_for_all() -> None:
    batch = causal([[2, 3]], 4, isolated=False)
    assert batch.targets.tolist() == [[2, 101, 102, 103]]
    assert batch.positions is None and batch.documents is None


def test_one_padded_document_needs_no_mask() -> None:
    batch = causal([[3], [1]], 6)
    assert batch.targets.tolist() == [[2, 3, IGNORED, IGNORED, IGNORED, IGNORED], [IGNORED] * 6]
    assert batch.documents is None


def test_empty_pieces_are_passed_over() -> None:
    assert causal([[0, 2, 0, 0, 2, 0]], 4).documents is not None
    assert causal([[0, 2, 0, 0, 2, 0]], 4).targets.tolist() == [[102, IGNORED, 402, IGNORED]]


def test_rows_that_are_too_long_are_refused() -> None:
    with pytest.raises(DataError, match="sample 0 has 7 tokens, and a row has room for 6"):
        causal([[4, 3]], 5)


# Packed = unpacked.

SHARED = {"vocab_size": 67, "max_position_embeddings": 48}
LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, **SHARED,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "bloom": {"model_type": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 67},
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 48, "vocab_size": 67},
    "windowed": LLAMA | {"model_type": "mistral", "sliding_window": 5},
    "wide window": LLAMA | {"model_type": "mistral", "sliding_window": 47},
    "neox": {
        "model_type": "gpt_neox", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "rotary_pct": 0.25, **SHARED,
    },
    "bert": {
        "model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "type_vocab_size": 2, **SHARED,
    },
}  # fmt: skip
DOCUMENTS = [np.random.default_rng(size).integers(1, 67, size) for size in (7, 30, 1, 12, 2, 47, 9, 19, 5, 33, 3, 64)]


def tiny(config: dict[str, Any], **changes: Any) -> Transformer:
    model = initialise(blank(sketch(describe(config | changes))), 3, deviation=0.2)
    return model.requires_grad_(True)


def learned(model: Transformer, batches: list[Batch]) -> tuple[float, int, list[torch.Tensor]]:
    """The summed loss of some batches, how many targets, and the gradient of every weight."""
    model.zero_grad(set_to_none=True)
    total, count = 0.0, 0
    for batch in batches:
        sums = token_loss(model, batch, batch.step(model.architecture))
        sums.total.backward()
        total, count = total + float(sums.total.detach()), count + sums.count
    return total, count, [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]


def check_equal(model: Transformer, packed: list[Batch], alone: list[Batch]) -> None:
    one, other = learned(model, packed), learned(model, alone)
    assert one[1] == other[1] > 70
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    assert len(one[2]) == len(other[2])
    first, second = (torch.cat([gradient.flatten() for gradient in each[2]]) for each in (one, other))
    assert float((first - second).norm() / second.norm()) < 1e-6


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "bert"])
def test_packed_is_unpacked(name: str) -> None:
    model, tokens = tiny(CONFIGS[name]), Tokens.of(DOCUMENTS)
    packed = Causal(47)(samples(rows_of(Fit(tokens, 47))))
    assert packed.documents is not None and packed.rows < 9
    alone = [Causal(47)(samples([row])) for row in rows_of(Single(tokens, 47))]
    unpadded = [replace(batch, ids=batch.ids[:, :used], targets=batch.targets[:, :used]) for batch in alone
                if (used := int((batch.targets != IGNORED).sum()))]  # fmt: skip
    check_equal(model, [packed], unpadded)


def bert_rows(rows: list[tuple[np.ndarray, ...]], length: int) -> Batch:
    """Every third token is asked for, as masked tokens are; padding is marked."""
    ids, targets = torch.zeros(len(rows), length).long(), torch.full((len(rows), length), IGNORED)
    documents, positions = torch.zeros(len(rows), length).long(), torch.zeros(len(rows), length).long()
    padding = torch.zeros(len(rows), length).bool()
    for row, texts in enumerate(rows):
        at = 0
        for number, text in enumerate(texts):
            span, where = slice(at, at + len(text)), torch.arange(len(text))
            ids[row, span], documents[row, span] = torch.from_numpy(text.astype(int)), number
            positions[row, span] = where
            targets[row, span] = torch.where(where % 3 == 0, ids[row, span], IGNORED)
            padding[row, span] = True
            at += len(text)
    return Batch(ids, targets, positions=positions, documents=documents, padding=padding)


def test_packed_is_unpacked_where_all_see_each_other() -> None:
    model, tokens = tiny(CONFIGS["bert"]), Tokens.of(DOCUMENTS)
    packed = bert_rows(rows_of(Fit(tokens, 47, 0)), 47)
    alone = [bert_rows([row], len(row[0])) for row in rows_of(Single(tokens, 47, 0))]
    plain = [replace(batch, documents=None, positions=None, padding=None) for batch in alone]
    check_equal(model, [packed], plain)


@pytest.mark.parametrize("leak", ["documents", "positions"])
def test_a_leak_is_noticed(leak: str) -> None:
    """The comparison above sees a mask, and positions, that do not keep documents apart."""
    model, tokens = tiny(LLAMA), Tokens.of(DOCUMENTS)
    packed = Causal(47)(samples(rows_of(Fit(tokens, 47))))
    alone = Causal(47)(samples(rows_of(Single(tokens, 47))))
    if leak == "positions":  # a learned table sees where a document lies; rotary angles only see distances
        model = tiny(CONFIGS["gpt2"])
    with pytest.raises(AssertionError):
        check_equal(model, [replace(packed, **{leak: None})], [alone])


def test_a_document_does_not_feel_its_neighbours() -> None:
    """Another first document changes nothing of what the second one's tokens become."""
    model = tiny(CONFIGS["windowed"])

    def hidden(first: np.ndarray) -> torch.Tensor:
        batch = Causal(40)(samples([(first, DOCUMENTS[3])]))
        return model.hidden(batch.ids, batch.step(model.architecture))[:, len(first) : len(first) + 12]

    assert torch.equal(hidden(np.full(17, 5)), hidden(np.full(17, 60)))


def test_recomputing_sees_the_same_documents() -> None:
    model, tokens = tiny(LLAMA), Tokens.of(DOCUMENTS)
    batch = Causal(47)(samples(rows_of(Fit(tokens, 47))))
    steps = [batch.step(model.architecture, recompute=again) for again in (True, False)]
    one, other = (float(token_loss(model, batch, step).total.detach()) for step in steps)
    assert one == other
