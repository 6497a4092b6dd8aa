"""Classes and numbers of texts: rows, losses and gradients beside transformers', what is saved, what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from small_readers import asked, prepared, write_examples, write_reader

import paddock
from paddock.checkpoint import folder
from paddock.data.instruct.records import Labelled, Origin
from paddock.data.preparing.labelled import Layout
from paddock.errors import CheckpointError, ContextLengthError, DataError, PaddockError, UsageError
from paddock.finetune.stage import Prepared, finetune
from paddock.finetune.tasks.labels import labelled
from paddock.training.journal import read as read_journal
from paddock.training.loop import learning
from paddock.training.losses_classes import text_scores
from paddock.training.metrics import Metrics
from paddock.training.parallel import Alone
from paddock.training.run import RunFolder
from paddock.training.validation_classes import told_of

pytestmark = pytest.mark.filterwarnings("ignore")  # the oracle's own
CPU = Alone(torch.device("cpu"))
ONES = [("a good cat", "yes"), ("the bad film .", "no"), ("the dog sat", "yes"), ("a", "no")] * 2
PAIRS = [("a good cat", "the cat sat .", "yes"), ("the film", "the bad film . the bad film", "no")] * 4
NUMBERS = [("a good cat", 4.5), ("the bad film .", -1.0), ("the dog sat", 2), ("a", "0.25")] * 2


def as_theirs(made: Prepared, path: Path) -> Any:
    """The model before its first step, as transformers reads it."""
    made.publish(path, made.tuned.model)
    return hf.AutoModelForSequenceClassification.from_pretrained(path).train()


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("task", ["classify", "regress"])
def test_loss_and_gradient_equal_transformers(name: str, task: str, tmp_path: Path) -> None:
    examples = {"classify": PAIRS if name == "bert" else ONES, "regress": NUMBERS}[task]
    model = write_reader(tmp_path / "base", name)
    made = prepared(model, write_examples(tmp_path / "x.jsonl", examples), {"name": task})
    batch, reference = made.train.at(0), as_theirs(made, tmp_path / "start")
    assert batch.labels is not None and batch.padding is not None and not bool(batch.padding.all())
    given = {"input_ids": batch.ids, "attention_mask": batch.padding.long(), "labels": batch.labels}
    if batch.segments is not None:
        given["token_type_ids"] = batch.segments
    expected = reference(**given)
    expected.loss.backward()

    trainer = made.trainer(CPU)
    with learning(trainer.model, trainer.learns):
        for size in (8, 1):
            trainer.model.zero_grad()
            total = 0.0
            for piece in batch.split(size):
                sums = trainer.sums(piece)
                (sums.total / batch.supervised).backward()
                total += float(sums.total) / batch.supervised
            assert total == pytest.approx(float(expected.loss), abs=1e-5)
            assert gradients(made, tmp_path / f"gradients{size}", reference) <= 1e-5


def gradients(made: Prepared, path: Path, reference: Any) -> float:
    """How far the model's gradient is from that of transformers' model, under published names."""
    values = {name: p.data for name, p in made.tuned.model.named_parameters()}
    for name, parameter in made.tuned.model.named_parameters():
        assert parameter.grad is not None, name
        parameter.data = parameter.grad
    folder.write(path, made.tuned.model, dict(made.opened.base.config))
    for name, parameter in made.tuned.model.named_parameters():
        parameter.data = values[name]
    found = load_file(path / "model.safetensors")
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters()}
    assert found.keys() == theirs.keys()
    return max(float((found[name] - theirs[name]).abs().max()) for name in found)


def test_rows_of_an_encoder(tmp_path: Path) -> None:
    model = write_reader(tmp_path / "base", "bert")
    made = prepared(model, write_examples(tmp_path / "x.jsonl", PAIRS), {"name": "classify"})
    batch = made.train.at(0)
    cls, sep = 2, 3
    assert batch.ids.shape == (8, 16) and bool((batch.ids[:, 0] == cls).all()), "as wide as the longest needs, in 8s"
    assert (batch.ids == sep).sum(1).tolist() == [2] * 8
    assert batch.segments is not None and batch.padding is not None
    first, second = batch.ids[0].tolist(), batch.segments[0].tolist()
    assert first == [2, 10, 11, 6, 3, 5, 6, 8, 9, 3, *[0] * 6]
    assert second == [0] * 5 + [1] * 5 + [0] * 6
    assert batch.padding[0].tolist() == [True] * 10 + [False] * 6
    assert batch.labels is not None and batch.labels.tolist() == [1, 0] * 4, "no, yes: in order of the names"
    assert batch.supervised == 8
    assert "the first row: [CLS] a good cat [SEP] the cat sat. [SEP] -> yes" in made.asked.told
    assert "classes: yes: 4 (50.0%), no: 4 (50.0%)" in made.asked.told and made.asked.counts == {"yes": 4, "no": 4}


def test_the_longer_of_a_pair_is_cut_first() -> None:
    layout = Layout((1,), (2,), (2,), True)
    for length in range(4, 20):
        for a in range(12):
            for b in range(12):
                first, second = layout.cut([[7] * a, [8] * b], length)
                room = length - 3
                kept = (a, b)
                while sum(kept) > room:  # a token at a time, as transformers' longest_first
                    kept = (kept[0] - 1, kept[1]) if kept[0] > kept[1] else (kept[0], kept[1] - 1)
                assert (len(first), len(second)) == kept, (length, a, b)
                ids, begin = layout.join([first, second])
                assert len(ids) <= length and ids[-1] == 2 and ids[begin - 1] == 2 and ids.count(2) == 2
    assert layout.join([[7]]) == ([1, 7, 2], 3)


@pytest.mark.parametrize(("policy", "rows"), [("drop", 6), ("cut", 8)])
def test_too_long_texts(policy: str, rows: int, tmp_path: Path) -> None:
    model = write_reader(tmp_path / "base", "bert")
    examples = write_examples(tmp_path / "x.jsonl", [*ONES[:6], ("the cat " * 30, "no"), ("the dog " * 9, "yes")])
    with pytest.raises(DataError, match=r"x\.jsonl:7: 62 tokens.*at most 16"):
        prepared(model, examples, {"name": "classify"}, data={"length": 16})
    made = prepared(model, examples, {"name": "classify"}, data={"length": 16, "too_long": policy})
    assert len(made.train.table) == rows
    assert any(("2 were left out" if policy == "drop" else "2 were cut") in line for line in made.asked.told)
    batch = made.train.at(0)
    real = torch.ones_like(batch.ids) if batch.padding is None else batch.padding
    last = batch.ids[torch.arange(len(batch.ids)), real.sum(1) - 1]
    assert last.tolist() == [3] * 8, "[SEP] is never cut off"


def test_what_is_saved_tells_the_same_everywhere(tmp_path: Path) -> None:
    model = write_reader(tmp_path / "base", "llama")
    names = {"yes": "positive", "no": "negative"}
    made = prepared(model, write_examples(tmp_path / "x.jsonl", ONES), {"name": "classify", "names": names})
    reference = as_theirs(made, tmp_path / "start").eval()
    config = json.loads((tmp_path / "start/config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"} and config["label2id"]["positive"] == 1
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["problem_type"] == "single_label_classification"
    ours, ids = paddock.load(tmp_path / "start"), None
    for text in ("a good film", "the cat sat on a dog ."):
        ids = torch.tensor([ours.tokenizer.encode(text)])
        with torch.no_grad():
            expected = reference(ids).logits.softmax(-1)[0]
        found = {label.name: label.score for label in ours.classify(text)}
        assert found == {"negative": pytest.approx(float(expected[0]), abs=1e-5),
                         "positive": pytest.approx(float(expected[1]), abs=1e-5)}  # fmt: skip
    long = ("a cat " * 40, "a dog")
    with pytest.raises(ContextLengthError, match="tokens does not fit"):
        ours.classify(*long)
    assert len(ours.classify(*long, truncate=True)) == 2


def test_a_pair_is_classified_as_it_was_trained(tmp_path: Path) -> None:
    model = write_reader(tmp_path / "base", "bert")
    made = prepared(model, write_examples(tmp_path / "x.jsonl", PAIRS), {"name": "classify"})
    made.publish(tmp_path / "start", made.tuned.model)
    trainer, batch = made.trainer(CPU), made.train.at(0)
    with torch.no_grad():
        loss = float(trainer.sums(batch.take(torch.tensor([0])), train=False).total)
    found = paddock.load(tmp_path / "start").classify(PAIRS[0][0], PAIRS[0][1])
    score = next(label.score for label in found if label.name == "yes")
    assert -np.log(score) == pytest.approx(loss, abs=1e-5)


def test_a_run_learns_measures_and_reads_again(tmp_path: Path) -> None:
    model = write_reader(tmp_path / "base", "bert")
    words = ["cat", "dog", "film", "sat", "."]
    told = [(f"{a} good {b}", "g") for a in words for b in words] + [
        (f"{a} bad {b}", "b") for a in words for b in words
    ]
    train = write_examples(tmp_path / "train.jsonl", told)
    kept = write_examples(tmp_path / "kept.jsonl", [("the cat good", "g"), ("bad the dog", "b"), ("a good a", "g")])
    recipe = asked(
        model,
        train,
        {"name": "classify"},
        data={"validation": [str(kept)], "shuffle": True},
        training={"steps": 30, "batch": 10, "evaluate_every": 30, "optimizer": {"learning_rate": 3e-3}, "dropout": 0.1},
    )
    final = finetune(recipe, Path(), tmp_path / "run", CPU, watching=lambda p, t: [Metrics(t, measure=p.measure)])
    log = list(read_journal(RunFolder(tmp_path / "run").metrics))
    score = log[-1]["validation"]
    assert score["accuracy"] == 1.0 and score["macro_f1"] == 1.0 and score["majority"] == pytest.approx(2 / 3)
    assert score["confusion"] == [[1, 0], [0, 2]] and score["labels"] == ["b", "g"] and score["targets"] == 3
    assert log[0]["parts"]["accuracy"] <= 1.0 and log[-1]["loss"] < 0.4 < log[0]["loss"]
    ours = paddock.load(final)
    assert [ours.classify(text)[0].name for text in ("good film the", "bad film the")] == ["g", "b"]


@pytest.mark.parametrize(
    ("name", "method"),
    [("bert", {"name": "lora", "rank": 2}), ("llama", {"name": "lora", "rank": 2}), ("bert", {"name": "bitfit"})],
)
def test_an_adapter_brings_its_head(name: str, method: dict[str, Any], tmp_path: Path) -> None:
    model = write_reader(tmp_path / "base", name)
    examples = write_examples(tmp_path / "x.jsonl", ONES)
    rate = {"steps": 3, "optimizer": {"learning_rate": 1e-2}}
    recipe = asked(model, examples, {"name": "classify"}, method=method, training=rate)
    final = finetune(recipe, Path(), tmp_path / "run", CPU)
    assert (final / "adapter_config.json").is_file() and not (final / "config.json").exists()
    ours, base = paddock.load(final), paddock.load(model)
    assert base.architecture.pooler is None or base.architecture.pooler.labels == 0, "the base stays what it was"
    made = prepared(model, examples, {"name": "classify"}, method=method, training=rate)
    with torch.no_grad():
        for key, value in made.tuned.read(final).items():
            dict(made.tuned.model.named_parameters())[key].copy_(value)
        batch = made.train.at(0)
        trained = text_scores(made.tuned.model, batch, batch.step(ours.architecture)).softmax(-1)
        fresh = prepared(model, examples, {"name": "classify"}).tuned.model
        untrained = text_scores(fresh, batch, batch.step(ours.architecture)).softmax(-1)
    for (text, _), scores in zip(ONES[:4], trained.tolist(), strict=False):
        assert {label.name: label.score for label in ours.classify(text)} == pytest.approx(
            dict(zip(("no", "yes"), scores, strict=True)), abs=1e-5
        )
    assert float((trained - untrained).abs().max()) > 1e-3

    if method["name"] == "lora":
        bare = shutil.copytree(final, tmp_path / "bare")
        config = json.loads((bare / "adapter_config.json").read_text())
        (bare / "adapter_config.json").write_text(json.dumps({**config, "modules_to_save": None}))
        tensors = load_file(bare / "adapter_model.safetensors")
        save_file({key: t for key, t in tensors.items() if "lora_" in key}, bare / "adapter_model.safetensors")
        with pytest.raises(CheckpointError, match=r"the adapter lacks pooler\.(dense|classes)\.weight"):
            paddock.load(bare)
    told = json.loads((final / "classes.json").read_text())
    (final / "classes.json").write_text(json.dumps({**told, "id2label": {"0": "a", "1": "b", "2": "c"}}))
    with pytest.raises(CheckpointError):
        paddock.load(final)
    (final / "classes.json").write_text(json.dumps({**told, "hidden_size": 7}))
    with pytest.raises(CheckpointError, match=r"classes\.json says 'hidden_size'"):
        paddock.load(final)


def test_a_run_that_was_cut_off_ends_in_the_same_bits(tmp_path: Path) -> None:
    model = write_reader(tmp_path / "base", "bert")
    examples = write_examples(tmp_path / "x.jsonl", PAIRS)
    training = {"steps": 4, "batch": 3, "dropout": 0.2, "checkpoints": "every:2", "keep": 9}
    recipe = asked(model, examples, {"name": "classify"}, training=training, data={"shuffle": True})
    whole = finetune(recipe, Path(), tmp_path / "whole", CPU)
    finetune(recipe, Path(), tmp_path / "cut", CPU)
    run = RunFolder(tmp_path / "cut")
    shutil.rmtree(run.step(4))
    shutil.rmtree(run.final)
    heard: list[str] = []
    again = finetune(recipe, Path(), tmp_path / "cut", CPU, tell=heard.append)
    assert any("going on from step 2" in line for line in heard)
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    start = prepared(model, examples, {"name": "classify"}).tuned.model.pooler.classes.weight  # type: ignore[union-attr]
    assert not torch.equal(load_file(whole / "model.safetensors")["classifier.weight"], start)


def test_several_processes_measure_what_one_does(tmp_path: Path) -> None:
    model = write_reader(tmp_path / "base", "bert")
    examples = write_examples(tmp_path / "x.jsonl", [*ONES[:5]])
    made = prepared(model, examples, {"name": "classify"}, training={"batch": 3})
    told, truth = told_of(made.trainer(CPU), made.train)
    assert told.shape == (5, 2) and truth.tolist() == [1, 0, 1, 0, 1]
    shares = []

    @dataclass(eq=False)
    class Half(Alone):
        def totals(self, values: Any) -> list[float]:
            shares.append(np.array(values))
            return list(values)

    for rank in (0, 1, 2):  # the last batch has two rows for three of them
        told_of(made.trainer(Half(torch.device("cpu"), rank, 3)), made.train)
    together = np.sum(shares, axis=0).reshape(5, 3)
    assert np.abs(together[:, :2] - told).max() <= 1e-6 and together[:, 2].tolist() == truth.tolist()


def test_classes_that_are_there_stay(tmp_path: Path) -> None:
    model = write_reader(
        tmp_path / "base",
        "bert",
        architectures=["BertForSequenceClassification"],
        id2label={"0": "yes", "1": "no"},
        label2id={"yes": 0, "no": 1},
    )
    before = load_file(model / "model.safetensors")["classifier.weight"]
    made = prepared(model, write_examples(tmp_path / "x.jsonl", ONES), {"name": "classify"})
    assert made.train.at(0).labels.tolist() == [0, 1] * 4, "the model's own order"  # type: ignore[union-attr]
    assert torch.equal(made.tuned.model.pooler.classes.weight, before)  # type: ignore[union-attr]
    assert made.opened.base.fresh == {"pooler.classes.weight", "pooler.classes.bias"}
    other = write_examples(tmp_path / "y.jsonl", [(text, label + "!") for text, label in ONES])
    again = prepared(model, other, {"name": "classify"})
    assert again.opened.base.config["id2label"] == {"0": "no!", "1": "yes!"}
    assert not torch.equal(again.tuned.model.pooler.classes.weight, before)  # type: ignore[union-attr]


def test_a_head_is_drawn_from_the_seed(tmp_path: Path) -> None:
    model, examples = write_reader(tmp_path / "base", "gpt2"), write_examples(tmp_path / "x.jsonl", ONES)
    heads = [
        prepared(model, examples, {"name": "classify"}, training={"seed": seed}).tuned.model.pooler.classes.weight  # type: ignore[union-attr]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert 0.01 < float(heads[0].std()) < 0.03


BAD: dict[str, tuple[list[Any], dict[str, Any], type[PaddockError], str]] = {
    "one class": ([("a", "x"), ("the", "x")], {}, DataError, "all 2 examples have the label 'x'"),
    "mixed": ([("a", "good"), ("the", 1)], {}, DataError, r"x\.jsonl:1 has the label 'good', and .*:2 the number 1"),
    "a fraction": ([("a", 0.5), ("the", 1)], {}, DataError, "the label is 0.5.*regress"),
    "no name": ([("a", "x"), ("the", "y")], {"names": {"z": "w"}}, UsageError, "no example has that label"),
    "one name": ([("a", "x"), ("the", "y")], {"names": {"x": "y"}}, UsageError, "makes two classes 'y'"),
    "no number": ([("a", "x"), ("the", 2.0)], {"name": "regress"}, DataError, "the label is 'x'.*classify"),
    "infinite": ([("a", "inf"), ("the", 2.0)], {"name": "regress"}, DataError, "the label is 'inf'"),
}


@pytest.mark.parametrize("case", BAD)
def test_labels_that_cannot_be_meant(case: str, tmp_path: Path) -> None:
    examples, task, error, words = BAD[case]
    model = write_reader(tmp_path / "base", "bert")
    with pytest.raises(error, match=f"(?s){words}"):
        prepared(model, write_examples(tmp_path / "x.jsonl", examples), {"name": "classify", **task})


def test_what_else_is_refused(tmp_path: Path) -> None:
    bert, examples = write_reader(tmp_path / "bert", "bert"), write_examples(tmp_path / "x.jsonl", ONES)
    kept = write_examples(tmp_path / "kept.jsonl", [("a cat", "maybe")])
    with pytest.raises(DataError, match=r"kept\.jsonl:1: no example that is trained on has the label 'maybe'"):
        prepared(bert, examples, {"name": "classify"}, data={"validation": [str(kept)]})
    with pytest.raises(UsageError, match="this bert reads 48"):
        prepared(bert, examples, {"name": "classify"}, data={"length": 64})
    with pytest.raises(DataError, match="f:9: an empty text"):
        labelled([Labelled(("a cat", " "), "x", Origin("f:9"))])
    texts = tmp_path / "t.jsonl"
    texts.write_text('{"text": "a cat"}\n')
    with pytest.raises(DataError, match=r"t\.jsonl:1: a text; expected one or two texts and their label"):
        prepared(bert, texts, {"name": "classify"}, data={"format": "auto"})
