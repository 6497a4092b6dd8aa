"""Token vectors from what stands near what: the counts, the decomposition, and what of a model they fill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paddock.errors import UsageError
from paddock.pretrain import cooccurrence
from paddock.pretrain.cooccurrence import BIAS, VECTORS, counted, information, leading
from paddock.pretrain.recipe import Pretraining
from paddock.pretrain.stage import Prepared, prepare, pretrain
from paddock.training import recipe_files
from paddock.training.parallel import Alone


class Rows:
    """A table of samples, each of some texts."""

    def __init__(self, *rows: list[list[int]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        return tuple(np.array(text, np.uint16) for text in self.rows[number])


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
def test_pairs_within_a_window_and_a_text(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Against a count of every pair, one by one; texts do not see each other, whatever is counted at once."""
    random = np.random.default_rng(0)
    texts = [random.integers(0, 9, length).tolist() for length in (1, 2, 30, 7, 0, 12)]
    monkeypatch.setattr(cooccurrence, "CHUNK", chunk)
    pairs, seen = counted([Rows(texts[:3], texts[3:5]), Rows([texts[5]])], 10)
    expected = np.zeros((10, 10))
    for text in texts:
        for i, a in enumerate(text):
            for j, b in enumerate(text):
                if 0 < abs(i - j) <= cooccurrence.WINDOW:
                    expected[a, b] += (cooccurrence.WINDOW + 1 - abs(i - j)) / cooccurrence.WINDOW
    assert np.allclose(pairs, expected, atol=1e-4)
    assert seen.tolist() == [sum(text.count(id) for text in texts) for id in range(10)]


def test_information_is_the_textbooks() -> None:
    pairs = np.random.default_rng(1).integers(0, 5, (12, 12)).astype(np.float32)
    pairs += pairs.T
    known = np.arange(12) != 3
    clean = pairs.astype(np.float64)
    clean[3] = clean[:, 3] = 0
    context = clean.sum(1) ** 0.75 / (clean.sum(1) ** 0.75).sum()
    found = information(pairs.copy(), known)
    for i in range(12):
        for j in range(12):
            joint = clean[i, j] / max(clean[i].sum(), 1)  # of the contexts of i, the share of j
            assert found[i, j] == pytest.approx(max(0.0, np.log(joint / context[j])) if joint else 0.0, abs=1e-5)


def test_leading_directions_are_those_of_a_full_decomposition() -> None:
    random = np.random.default_rng(2)
    matrix = (random.standard_normal((80, 6)) @ random.standard_normal((6, 80))).astype(np.float32)
    left, values, _ = np.linalg.svd(matrix.astype(np.float64))
    found = leading(matrix, 4, 0)
    expected = left[:, :4] * np.sqrt(values[:4])
    assert np.allclose(found @ found.T, expected @ expected.T, atol=1e-3), "equal up to signs"
    assert np.array_equal(found, leading(matrix, 4, 0))


BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "hidden_size": 4,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
ANIMALS = ("cat", "dog", "hen", "fox", "owl", "pig")
TEXT = "".join(f"the {a} sat on the {place}\n" for a in ANIMALS for place in ("mat", "hut", "bed")) * 6


def made(tmp_path: Path, **changes: Any) -> Prepared:
    (tmp_path / "text.txt").write_text(TEXT)
    values: dict[str, Any] = {
        "stage": "pretrain",
        "model": BERT,
        "vectors": "cooccurrence",
        "tokenizer": {"train": "wordpiece", "size": 70},
        "data": {"sources": [{"files": ["text.txt"], "separator": "\n"}], "length": 16, "validation": 0},
        "objective": {"name": "masked"},
        "training": {"steps": 1, "batch": 2},
    }
    return prepare(recipe_files.validated(Pretraining, values | changes, "tiny"), tmp_path, tmp_path / "run")


def test_a_new_model_begins_with_them(tmp_path: Path) -> None:
    """Words that stand in equal places begin alike, what is no text begins as drawn, and the bias is the frequency."""
    begun, drawn = made(tmp_path), made(tmp_path, vectors="drawn")
    assert begun.start.first is not None and drawn.start.first is not None
    tokenizer, weights = begun.tokenizer, begun.start.first(VECTORS)
    cat, dog, the = (tokenizer.id_of(word) for word in ("cat", "dog", "the"))
    alike = torch.nn.functional.cosine_similarity
    assert alike(weights[cat], weights[dog], dim=0) > 0.9 > 0.5 > alike(weights[cat], weights[the], dim=0)
    mask = tokenizer.specials["mask"]
    assert weights[mask].equal(drawn.start.first(VECTORS)[mask])
    bias = begun.start.first(BIAS)
    assert float(bias[the] - bias[cat]) == pytest.approx(np.log((216 + 1) / (18 + 1)), abs=1e-5)
    other = "blocks.0.attention.q.weight"
    assert begun.start.first(other).equal(drawn.start.first(other)) and begun.data == drawn.data
    again = made(tmp_path).start.first
    assert again is not None and weights.equal(again(VECTORS)), "a run that goes on begins from the same numbers"


def test_a_run_trains_from_them(tmp_path: Path) -> None:
    """Before its first step the model already tells frequent words from rare ones."""
    losses = []
    for vectors in ("cooccurrence", "drawn"):
        recipe = made(tmp_path, vectors=vectors).recipe
        out = tmp_path / vectors
        pretrain(recipe, tmp_path, out, Alone(torch.device("cpu")))
        losses.append(json.loads((out / "metrics.jsonl").read_text().splitlines()[0])["loss"])
    assert float(losses[0]) < float(losses[1]) - 0.3


def test_what_cannot_be_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="vectors are of a new model"):
        made(tmp_path, model={"from": "stories260K"})
    with pytest.raises(UsageError, match="from 96 to"):
        made(tmp_path, model=BERT | {"hidden_size": 64})
    monkeypatch.setattr(cooccurrence, "MOST", 20)
    with pytest.raises(UsageError, match="from 36 to 20 tokens"):
        made(tmp_path)
    with pytest.raises(UsageError, match="vectors"):
        made(tmp_path, vectors="glove")
