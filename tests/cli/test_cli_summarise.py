"""`paddock summarise`: texts, files of texts with summaries, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli_models import BERT, WORDS, write_model

from paddock.engine.extracting import SCORE


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 11 words that scores sentences."""
    torch.manual_seed(0)
    about = {"id2label": {"0": SCORE}, "label2id": {SCORE: 0}, "problem_type": "regression"}
    path = write_model(
        tmp_path_factory.mktemp("models") / "extractor",
        {**BERT, **about, "architectures": ["BertForSequenceClassification"]},
    )
    (path / "vocab.txt").write_text("\n".join(WORDS))
    return path


def test_the_highest_sentence_of_each_text(paddock: Callable, extractor: Path, tmp_path: Path) -> None:
    text = "The cat sat. A dog. The cat the dog sat."
    run = paddock("summarise", text, "-m", extractor, "--json", "--sentences", 3).json
    assert [each["text"] for each in run["sentences"]] == ["The cat sat.", "A dog.", "The cat the dog sat."]
    best = max(run["sentences"], key=lambda each: each["score"])
    one = paddock("summarize", text, "-m", extractor)
    assert one.code == 0 and one.out == best["text"] + "\n"
    (tmp_path / "long.txt").write_text(text.replace(". ", ".\n"))
    assert paddock("summarise", tmp_path / "long.txt", "-m", extractor).out == one.out
    assert paddock("summarise", "-", "-m", extractor, stdin=f"{text}\nA dog.\n").out == one.out + "A dog.\n"


def test_known_summaries_are_scored(paddock: Callable, extractor: Path, tmp_path: Path) -> None:
    path = tmp_path / "known.jsonl"
    path.write_text('{"source": "The cat sat.", "target": ["a dog", "the cat sat"]}\n' * 2)
    run = paddock("summarise", path, "-m", extractor)
    assert run.code == 0 and run.out == "The cat sat.\n" * 2
    assert "2 texts: ROUGE-1 100.00 (first sentences 100.00)" in run.err
    last = json.loads(paddock("summarise", path, "-m", extractor, "--json").out.splitlines()[-1])
    assert last["texts"] == 2 and last["rouge1"] == last["first_sentences"]["rouge_l"] == 100.0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([" "], 3, "0 sentences"),
        (["The cat.", "--sentences", 0], 2, "0 sentences"),
        ([], 2, "standard input is empty"),
        (["missing.txt"], 2, "missing.txt is not there; expected texts, or one file of them"),
        (["."], 2, ". is a folder"),
        ([__file__, "The cat."], 2, "is a file among others"),
    ],
)
def test_what_is_refused(paddock: Callable, extractor: Path, arguments: list[object], code: int, said: str) -> None:
    run = paddock("summarise", *arguments, "-m", extractor)
    assert run.code == code and said in run.err and run.out == ""


def test_writers_and_strange_files(paddock: Callable, extractor: Path, tmp_path: Path) -> None:
    run = paddock("summarise", "The cat. A dog.")
    assert run.code != 0 and "not fine-tuned to pick sentences" in run.err
    path = tmp_path / "labels.jsonl"
    path.write_text('{"text": "the cat", "label": "good"}\n')
    run = paddock("summarise", path, "-m", extractor)
    assert run.code == 3 and "labels.jsonl:1: a labelled" in run.err
    path.write_text("")
    run = paddock("summarise", path, "-m", extractor)
    assert run.code == 3 and f"there is nothing in {path}" in run.err
