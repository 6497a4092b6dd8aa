"""`paddock classify`: texts, pairs, files of them, and what is said of labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli_models import BERT, WORDS, write_model

from paddock.cli import progress


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 11 words that tells two classes."""
    torch.manual_seed(0)
    names = {"id2label": {"0": "dull", "1": "lively"}, "label2id": {"dull": 0, "lively": 1}}
    path = write_model(
        tmp_path_factory.mktemp("models") / "judge",
        {**BERT, **names, "architectures": ["BertForSequenceClassification"]},
    )
    (path / "vocab.txt").write_text("\n".join(WORDS))
    return path


def test_texts_and_pairs(paddock: Callable, judge: Path) -> None:
    run = paddock("classify", "the cat sat", "a dog .", "-m", judge, "--top", 2)
    lines = run.out.splitlines()
    assert run.code == 0 and lines[0].split() == ["label", "then", "text"] and len(lines) == 3
    found = [json.loads(line) for line in paddock("predict", "-", "-m", judge, "--json", "--top", 2,
                                                  stdin="the cat sat\na dog .\n").out.splitlines()]  # fmt: skip
    assert [record["text"] for record in found] == ["the cat sat", "a dog ."]
    for record, line in zip(found, lines[1:], strict=True):
        assert record["label"] == record["labels"][0]["label"] == line.split()[0]
        assert sum(label["score"] for label in record["labels"]) == pytest.approx(1.0)
        assert {label["label"] for label in record["labels"]} == {"dull", "lively"}
    pair = paddock("classify", "the cat", "--pair", "a dog", "-m", judge, "--json", "--top", 2).json
    assert pair["text"] == ["the cat", "a dog"]
    together = paddock("classify", "the cat a dog", "-m", judge, "--json", "--top", 2).json
    assert pair["labels"][0]["score"] != pytest.approx(together["labels"][0]["score"], abs=1e-6)


def test_a_file_with_labels_is_judged(paddock: Callable, judge: Path, tmp_path: Path) -> None:
    texts = ["the cat sat", "a dog .", "the dog", "a cat sat ."]
    told = [paddock("classify", text, "-m", judge, "--json").json["label"] for text in texts]
    known = [told[0], told[1], told[2], "dull" if told[3] == "lively" else "lively"]
    path = tmp_path / "known.jsonl"
    path.write_text("".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in zip(texts, known, strict=True)))
    run = paddock("classify", path, "-m", judge)
    assert run.code == 0 and "accuracy: 0.7500" in run.out and "macro f1: " in run.out
    last = json.loads(paddock("classify", path, "-m", judge, "--json").out.splitlines()[-1])
    assert last["texts"] == 4 and last["accuracy"] == 0.75 and sum(map(sum, last["confusion"])) == 4

    ids = {"dull": 0, "lively": 1}
    path.write_text("".join(json.dumps({"text": t, "label": ids[k]}) + "\n" for t, k in zip(texts, known, strict=True)))
    run = paddock("classify", path, "-m", judge)
    assert "accuracy: 0.7500" in run.out and "labels are read as ids: 0 is dull, 1 is lively" in run.err
    path.write_text('{"text": "a cat", "label": "strange"}\n')
    refused = paddock("classify", path, "-m", judge)
    assert refused.code == 3 and "known.jsonl:1: the label 'strange' is none of the model's" in refused.err


def test_a_gguf_file_of_the_model_judges_alike(paddock: Callable, judge: Path, tmp_path: Path) -> None:
    path = tmp_path / "judge.gguf"
    assert paddock("convert", judge, path).code == 0
    own, kept = (paddock("classify", "the cat sat", "-m", m, "--json", "--top", 2).json for m in (judge, path))
    assert [label["label"] for label in kept["labels"]] == [label["label"] for label in own["labels"]]
    for one, other in zip(own["labels"], kept["labels"], strict=True):
        assert other["score"] == pytest.approx(one["score"], abs=1e-6)
    assert kept["labels"][0]["label"] in ("dull", "lively")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["the cat " * 30], 2, "does not fit"),
        (["the cat", "a dog", "--pair", "a cat"], 2, "--pair and 2 texts"),
        (["the cat", "--top", 0], 2, "--top 0"),
        ([], 2, "standard input is empty"),
    ],
)
def test_what_is_refused(paddock: Callable, judge: Path, arguments: list[object], code: int, said: str) -> None:
    run = paddock("classify", *arguments, "-m", judge)
    assert run.code == code and said in run.err and run.out == ""


def test_long_texts_are_cut_where_asked_and_writers_tell_no_classes(paddock: Callable, judge: Path) -> None:
    assert paddock("classify", "the cat " * 30, "-m", judge, "--truncate").code == 0
    run = paddock("classify", "the cat")
    assert run.code == 3 and "no classes" in run.err


def test_several_classes_may_apply(paddock: Callable, tmp_path: Path) -> None:
    torch.manual_seed(1)
    names = {"id2label": {"0": "dull", "1": "lively"}, "label2id": {"dull": 0, "lively": 1}}
    kind = {"architectures": ["BertForSequenceClassification"], "problem_type": "multi_label_classification"}
    path = write_model(tmp_path / "judge", {**BERT, **names, **kind})
    (path / "vocab.txt").write_text("\n".join(WORDS))
    texts = ["the cat sat", "a dog ."]
    told = [paddock("classify", text, "-m", path, "--json", "--top", 2).json for text in texts]
    for record in told:
        assert record["apply"] == [each["label"] for each in record["labels"] if each["score"] >= 0.5]
        line = paddock("classify", record["text"], "-m", path).out.splitlines()[1]
        assert all(name in line for name in record["apply"]) and ("none" in line) == (not record["apply"])
    known = tmp_path / "known.jsonl"
    records = [{"text": record["text"], "labels": record["apply"]} for record in told]
    known.write_text("".join(json.dumps(record) + "\n" for record in records))
    run = paddock("classify", known, "-m", path)
    assert run.code == 0 and "exact: 1.0000" in run.out
    last = json.loads(paddock("classify", known, "-m", path, "--json").out.splitlines()[-1])
    assert last["exact"] == 1.0 and last["texts"] == 2 and last["labels"] == ["dull", "lively"]
    known.write_text('{"text": "a cat", "labels": ["lively", "odd"]}\n')
    refused = paddock("classify", known, "-m", path)
    assert refused.code == 3 and "known.jsonl:1: the label 'odd' is none of the model's" in refused.err


def test_several_known_labels_where_one_is_told(paddock: Callable, judge: Path, tmp_path: Path) -> None:
    path = tmp_path / "known.jsonl"
    path.write_text('{"text": "a cat", "labels": ["lively", "dull"]}\n')
    refused = paddock("classify", path, "-m", judge)
    assert refused.code == 3 and "known.jsonl:1: 2 labels" in refused.err


def test_a_long_file_is_told_as_it_goes(
    paddock: Callable, judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN", 0.0)
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "the cat"}\n' * 3)
    assert "texts classified 2/3" in paddock("classify", path, "-m", judge).err
    assert "texts classified" not in paddock("classify", path, "-m", judge, "--json").err
