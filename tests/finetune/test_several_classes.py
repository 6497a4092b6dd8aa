"""Classes that may apply together, and classes that count differently: beside transformers, PyTorch, scikit-learn."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from sklearn.metrics import accuracy_score, f1_score
from small_readers import asked, prepared, write_examples, write_reader

import paddock
from paddock.data.instruct.reading import examples
from paddock.data.instruct.records import Labelled
from paddock.data.instruct.writing import write_examples as write_all
from paddock.errors import DataError, PaddockError, UsageError
from paddock.finetune.stage import finetune
from paddock.training.journal import read as read_journal
from paddock.training.loop import learning
from paddock.training.losses_classes import text_scores
from paddock.training.metrics import Metrics
from paddock.training.parallel import Alone
from paddock.training.run import RunFolder
from paddock.training.scores.classes import label_scores
from paddock.training.validation_classes import told_of

pytestmark = pytest.mark.filterwarnings("ignore")  # the oracles' own
CPU = Alone(torch.device("cpu"))
SEVERAL = [("a good cat", ["cat", "good"]), ("the bad film .", []), ("the dog sat", ["dog"]), ("a", "good")] * 2
ONES = [("a good cat", "yes"), ("the bad film .", "no"), ("the dog sat", "yes"), ("a", "yes")] * 2
MULTIPLE = {"name": "classify", "multiple": True}


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_loss_and_gradient_equal_transformers(name: str, tmp_path: Path) -> None:
    made = prepared(write_reader(tmp_path / "base", name), write_examples(tmp_path / "x.jsonl", SEVERAL), MULTIPLE)
    made.publish(tmp_path / "start", made.tuned.model)
    reference = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "start").train()
    assert reference.config.problem_type == "multi_label_classification"
    assert list(reference.config.id2label.values()) == ["cat", "dog", "good"]
    batch = made.train.at(0)
    assert batch.labels is not None and batch.padding is not None
    assert batch.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 1]] * 2 and batch.supervised == 24
    theirs = reference(input_ids=batch.ids, attention_mask=batch.padding.long(), labels=batch.labels)
    theirs.loss.backward()
    wanted = reference.score.weight.grad if name == "llama" else reference.classifier.weight.grad

    trainer = made.trainer(CPU)
    with learning(trainer.model, trainer.learns):
        for size in (8, 1):
            trainer.model.zero_grad()
            total = 0.0
            for piece in batch.split(size):
                sums = trainer.sums(piece)
                (sums.total / batch.supervised).backward()
                total += float(sums.total) / batch.supervised
            assert total == pytest.approx(float(theirs.loss), abs=1e-5)
            found = trainer.model.pooler.classes.weight.grad  # type: ignore[union-attr]
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    silent = trainer.sums(replace(batch.silent()), train=False)
    assert silent.count == 0 and float(silent.total) == 0.0


@pytest.mark.parametrize(
    ("task", "weights"),
    [
        ({"weights": "balanced"}, [8 / (2 * 2), 8 / (2 * 6)]),
        ({"weights": {"no": 3.0}, "smoothing": 0.1}, [3.0, 1.0]),
        ({"multiple": True, "weights": "balanced"}, [6 / 2, 2 / 6]),
    ],
    ids=["balanced", "named", "several"],
)
def test_weights_are_those_of_torch(task: dict[str, Any], weights: list[float], tmp_path: Path) -> None:
    files = write_examples(tmp_path / "x.jsonl", ONES)
    made = prepared(write_reader(tmp_path / "base", "bert"), files, {"name": "classify", **task})
    batch, trainer = made.train.at(0), made.trainer(CPU)
    assert batch.labels is not None
    step = batch.step(trainer.model.architecture)
    scores, given = text_scores(trainer.model, batch, step), torch.tensor(weights)
    if task.get("multiple"):
        expected = F.binary_cross_entropy_with_logits(scores, batch.labels, pos_weight=given, reduction="sum")
    else:
        smoothing = task.get("smoothing", 0.0)
        expected = F.cross_entropy(scores, batch.labels, given, reduction="sum", label_smoothing=smoothing)
    assert given.max() >= 2  # else nothing would be weighed
    sums = trainer.sums(batch, train=False)
    assert float(sums.total) == pytest.approx(float(expected), abs=1e-5)
    assert any(line.startswith("weights: no ") for line in made.asked.told)


def test_scores_equal_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth, named = random.random((40, 5)) < 0.3, random.random((40, 5)) < 0.4
    truth[:, 3] = named[:, 3] = False
    found = label_scores(truth, named)
    assert found.micro_f1 == pytest.approx(f1_score(truth, named, average="micro"), abs=1e-12)
    assert found.macro_f1 == pytest.approx(f1_score(truth, named, average="macro", zero_division=np.nan), abs=1e-12)
    assert found.exact == accuracy_score(truth, named) and found.f1[3] is None
    empty = label_scores(np.zeros((2, 2), bool), np.zeros((2, 2), bool))
    assert (empty.micro_f1, empty.macro_f1, empty.exact) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_is_measured_and_reloads(method: str, tmp_path: Path) -> None:
    files = write_examples(tmp_path / "x.jsonl", SEVERAL)
    recipe = asked(
        write_reader(tmp_path / "base", "bert"),
        files,
        {**MULTIPLE, "names": {"cat": "a cat"}},
        method={"name": method},
        data={"validation": [str(files)], "shuffle": True},
        training={"steps": 40, "evaluate_every": 40, "optimizer": {"learning_rate": 1e-2, "weight_decay": 0.0}},
    )
    final = finetune(recipe, Path(), tmp_path / "run", CPU, watching=lambda p, t: [Metrics(t, measure=p.measure)])
    score = list(read_journal(RunFolder(tmp_path / "run").metrics))[-1]["validation"]
    assert score["exact"] == score["micro_f1"] == score["macro_f1"] == 1.0 and score["labels"] == [
        "a cat",
        "dog",
        "good",
    ]
    assert score["loss"] < 0.3 and score["targets"] == 24
    model = paddock.load(final)
    for text, labels in SEVERAL[:4]:
        told = {label.name for label in model.classify(text) if label.score >= 0.5}
        assert told == {"a cat" if label == "cat" else label for label in ([labels] if text == "a" else labels)}


def test_every_process_is_told_all_labels(tmp_path: Path) -> None:
    made = prepared(write_reader(tmp_path / "base", "bert"), write_examples(tmp_path / "x.jsonl", SEVERAL), MULTIPLE)
    told, truth = told_of(made.trainer(CPU), made.train)
    assert told.shape == truth.shape == (8, 3)
    assert truth.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 1]] * 2


def test_lists_of_labels_are_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a", "labels": ["x", 2]}\n{"text": "b", "label": []}\n{"text": "c", "label": "x"}\n')
    found = list(examples([path]))
    assert [each.label for each in found if isinstance(each, Labelled)] == [("x", "2"), (), "x"]
    write_all(found, tmp_path / "again.jsonl")
    assert list(examples([tmp_path / "again.jsonl"])) == found
    assert json.loads((tmp_path / "again.jsonl").read_text().splitlines()[0])["labels"] == ["x", "2"]


@pytest.mark.parametrize(
    ("found", "task", "kind", "said"),
    [
        (SEVERAL, {"name": "classify"}, DataError, r":1: 2 labels.*task.multiple=true"),
        (SEVERAL, {"name": "regress"}, DataError, ":1: the label is"),
        ([("a", ["x", "x"]), ("the", ["y"])], MULTIPLE, DataError, ":1: a label is there twice"),
        ([("a", ["x"]), ("the", [])], MULTIPLE, DataError, "at least two classes"),
        (ONES, {"name": "classify", "weights": {"yess": 2.0}}, UsageError, "'yess', which is no class"),
        ([("a", ["x", "y"]), ("the", ["x"])], {**MULTIPLE, "weights": "balanced"}, DataError, "2 of 2 examples"),
    ],
    ids=["several", "number", "twice", "one class", "unknown weight", "always"],
)
def test_what_is_refused(found: list[Any], task: dict[str, Any], kind: type, said: str, tmp_path: Path) -> None:
    with pytest.raises(kind) as refused:
        prepared(write_reader(tmp_path / "base", "bert"), write_examples(tmp_path / "x.jsonl", found), task)
    error = refused.value
    assert isinstance(error, PaddockError)
    assert re.search(said, f"{error.what}; {error.expected}; {error.fix}")


@pytest.mark.parametrize(
    "task",
    [
        {**MULTIPLE, "smoothing": 0.1},
        {"name": "classify", "weights": {"a": 0}},
        {"name": "classify", "weights": "even"},
    ],
    ids=["smoothing", "nothing", "unknown"],
)
def test_recipes_that_mean_nothing(task: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"smoothing|weights"):
        asked(tmp_path, tmp_path, task)
