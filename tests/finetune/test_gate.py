"""What is shown of the masks before a run, and which sequences are no good."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest

import paddock
from paddock.cli import entry, maskprint
from paddock.data.preparing.supervised import coded
from paddock.finetune import gate


@pytest.fixture(scope="module")
def tokenizer():
    return paddock.load(device="cpu").tokenizer


def sequence(tokenizer, prompt, answer):
    first, second = (tokenizer.encode(text, add_special=False) for text in (prompt, answer))
    return coded([*first, *second, 2], [(len(first), len(first) + len(second) + 1)])


@pytest.mark.parametrize(
    ("ids", "asked", "everything", "expected"),
    [
        ([1, 5, 6], [(1, 3)], False, "nothing before what is learned"),
        ([1, 5, 6], [(0, 3)], True, None),
        ([1, 5, 6], [], False, "nothing to learn"),
        ([1, 5, 6], [(0, 1)], False, "nothing to learn"),
        ([1], [(0, 1)], True, "nothing to learn"),
        ([1, 5, 6], [(2, 3)], False, None),
    ],
)
def test_masks_of_all_zeros_and_all_ones_are_faults(ids, asked, everything, expected):
    assert gate.fault(coded(ids, asked), everything) == expected


def test_statistics_are_of_all_sequences(tokenizer):
    made = [coded(range(10), [(10 - n, 10)]) for n in (1, 2, 9)]
    found = gate.preview(made, ["a", "b", "c"], tokenizer)
    assert found.statistics == gate.Statistics(3, 30, 12, 0.1, 0.2, 0.9, 10)
    assert [sample.place for sample in found.samples] == ["a", "b", "c"]
    assert (
        "12 of them learned (40.0%; least / median / most of a sequence: 10.0% / 20.0% / 90.0%)"
        in found.statistics.told
    )


def test_samples_have_the_least_a_middling_and_the_most_to_learn(tokenizer):
    made = [coded(range(10), [(10 - n, 10)]) for n in (5, 1, 9, 4, 6)]
    assert [each.place for each in gate.preview(made, list("abcde"), tokenizer).samples] == ["b", "a", "c"]
    assert len(gate.preview(made[:1], ["a"], tokenizer).samples) == 1


@pytest.mark.parametrize(("prompt", "answer"), [("Once upon", "a time"), ("问题：", "回答，完。"), ("x", "naïve 🙂")])
def test_a_sample_is_its_text_and_what_is_learned_of_it(tokenizer, prompt, answer):
    shown = gate.shown(sequence(tokenizer, prompt, answer), "here", tokenizer)
    assert "".join(text for text, _ in shown.parts).split("</s>")[0].replace(" ", "") == (prompt + answer).replace(
        " ", ""
    )
    assert [text.strip() for text, learned in shown.parts if learned] == [answer + "</s>"]


def test_long_parts_are_shortened(tokenizer):
    shown = gate.shown(sequence(tokenizer, "word " * 400, "end"), "here", tokenizer)
    assert len(shown.parts[0][0]) < 700
    assert re.search(r"… 1,\d{3} characters …", shown.parts[0][0])


@pytest.mark.parametrize("colour", [True, False])
def test_what_is_learned_stands_out(tokenizer, monkeypatch, colour):
    monkeypatch.setenv("FORCE_COLOR" if colour else "NO_COLOR", "1")
    monkeypatch.delenv("NO_COLOR" if colour else "FORCE_COLOR", raising=False)
    made = [sequence(tokenizer, "Say\x1b[31m", "a\nb\x1b[2J")]
    out = io.StringIO()
    maskprint.show(gate.preview(made, ["here:1"], tokenizer), out)
    text = out.getvalue()
    if colour:
        assert "\x1b[32m a\x1b[0m\n  | \x1b[32mb\\x1b[2J</s>\x1b[0m" in text
    else:
        assert "⟦ a\n  | b\\x1b[2J</s>⟧" in text
        assert "\x1b" not in text
    assert "\\x1b[31m" in text  # what examples hold cannot speak to the terminal


@pytest.fixture
def recipe(tmp_path):
    rows = [{"instruction": f"Say {n}", "input": "", "output": f"It is {n}."} for n in range(8)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(
        "stage: finetune\ntemplate: vicuna\ntask: {name: chat}\n"
        "data: {files: [rows.json], length: 200, validation: 0}\n"
        "training: {steps: 1, batch: 2, sample_every: 1}\nprompts: [Say 1]\n",
        encoding="utf-8",
    )
    return tmp_path / "mine.yaml"


def run(*words):
    return entry.run([str(word) for word in words])


def test_a_dry_run_shows_the_masks(recipe, tmp_path, capsys):
    assert run("finetune", recipe, "-o", tmp_path / "out", "--dry-run") == 0
    seen = capsys.readouterr()
    assert re.search(r"USER: Say \d ASSISTANT:⟦ It is \d\.</s>⟧", seen.err)
    assert "what is learned" in seen.err
    assert not (tmp_path / "out").exists()
    assert run("finetune", recipe, "-o", tmp_path / "out", "--dry-run", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["counts"]["examples"] == 8
    assert told["masks"]["statistics"]["sequences"] == 8
    parts = told["masks"]["samples"][0]["parts"]
    assert [learned for _, learned in parts] == [False, True]
    assert parts[1][0].endswith("</s>")


def test_a_run_shows_the_masks_and_answers_its_prompts(recipe, tmp_path, capsys):
    assert run("finetune", recipe, "-o", tmp_path / "out") == 0
    seen = capsys.readouterr()
    assert "⟦ It is" in seen.err
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    (answer,) = lines[-1]["samples"]
    assert answer.startswith("Say 1 -> ")
    assert answer.split("\n")[0] in seen.err


def test_a_run_without_masks_says_so_and_writes_nothing(recipe, tmp_path, capsys):
    (tmp_path / "rows.json").write_text(json.dumps([{"prompt": "", "completion": "x"}]), encoding="utf-8")
    code = run("finetune", recipe, "-o", tmp_path / "out", "task.learn=[user]", "template=plain")
    seen = capsys.readouterr()
    assert code == 3
    assert "fix:" in seen.err
    assert not (tmp_path / "out" / "final").exists()


def test_statistics_do_not_divide_by_nothing(tokenizer):
    found = gate.preview([np.array([-2, 3], np.int64)], ["a"], tokenizer)
    assert found.statistics.share_median == 0.5
