"""`paddock rerun`: identical, or where two runs first differ; and what surrounded them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from paddock.cli.entry import run
from paddock.errors import DataError
from paddock.training.rerun import compare, surroundings
from paddock.training.run import RunFolder

RECIPE = """
stage: pretrain
model: {model_type: llama, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2,
        num_key_value_heads: 2, max_position_embeddings: 32, tie_word_embeddings: true}
tokenizer: {train: characters}
data: {sources: [{files: [text.txt]}], length: 16, packing: stream, validation: 0.1}
training: {steps: 6, batch: 2, checkpoints: "every:2", keep: 9, precision: float32}
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, with its recipe and text beside it."""
    place = tmp_path_factory.mktemp("rerun")
    (place / "mine.yaml").write_text(RECIPE)
    (place / "text.txt").write_text("the cat sat on the mat and the dog ate the rat. " * 20)
    assert run(["pretrain", str(place / "mine.yaml"), "--output", str(place / "run")]) == 0
    return place / "run"


@pytest.mark.parametrize("length", ["steps: 4", "epochs: 2"])
def test_a_tuned_adapter_comes_out_the_same(length: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = "".join(json.dumps({"text": f"The {name} sat on the mat."}) + "\n" for name in ("cat", "dog", "rat", "hen"))
    (tmp_path / "texts.jsonl").write_text(texts)
    (tmp_path / "mine.yaml").write_text(
        f"""stage: finetune
task: {{name: text}}
method: {{name: lora}}
data: {{files: [texts.jsonl], length: 32, validation: 0}}
training: {{{length}, batch: 2, checkpoints: "every:2", keep: 9}}
"""
    )
    assert run(["finetune", str(tmp_path / "mine.yaml"), "--output", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert run(["rerun", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.startswith("identical: ")
    changed(tmp_path / "run", 1, loss=0.0)
    assert run(["rerun", str(tmp_path / "run"), "--output", str(tmp_path / "other")]) == 1
    assert "in loss" in capsys.readouterr().out


def copied(first: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(first, tmp_path / "run"))


def changed(path: Path, number: int, **values: Any) -> None:
    """One record of a log, told otherwise."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    lines[number] |= values
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_same_again_is_identical(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rerun", str(first), "--output", str(tmp_path / "again")]) == 0
    said = capsys.readouterr()
    assert said.out == "identical: 6 steps; weights: step-000002, step-000004, step-000006, final\n"
    assert " was " not in said.err


def test_some_steps_only_and_as_json(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rerun", str(first), "--steps", "3", "--output", str(tmp_path / "again"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["identical"] and found["steps"] == 3 and found["weights"] == {"step-000002": True}
    assert not (tmp_path / "again/final").exists()


def test_the_first_difference_is_named_with_its_bits(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copied(first, tmp_path)
    loss = json.loads((other / "metrics.jsonl").read_text().splitlines()[3])["loss"]
    changed(other, 3, loss=loss * (1 + 2**-52))
    changed(other, 5, digest="0")
    assert run(["rerun", str(other)]) == 1
    said = capsys.readouterr()
    assert said.out == f"differs first at step 4 in loss: {(loss * (1 + 2**-52)).hex()} then, {loss.hex()} now\n"
    assert f"the second run is in {other}-rerun" in said.err
    assert run(["rerun", str(other)]) == 2
    assert "holds a run that is done" in capsys.readouterr().err


def test_other_weights_other_data_other_surroundings(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copied(first, tmp_path)
    path = other / "step-000004/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    origin = json.loads((other / "origin.json").read_text())
    origin["versions"]["torch"], origin["ranks"], origin["data"] = "1.13", 2, "0"
    (other / "origin.json").write_text(json.dumps(origin))
    assert run(["rerun", str(other)]) == 1
    said = capsys.readouterr()
    assert said.out == "differs first at step 4 in weights of step-000004\n"
    notes = said.err.splitlines()
    assert notes[0].startswith("torch was 1.13, now ") and notes[1] == "2 processes shared the rows, now 1"
    assert "the data are not what they were" in said.err


def test_what_differs_is_told_by_its_cause(first: Path, tmp_path: Path) -> None:
    for values, what in [
        ({"digest": "0", "loss": 1.0}, "digest"), ({"batch": 7}, "batch"), ({"loss": "nan"}, "loss"),
        ({"step": 4}, "step"), ({"updated": False}, "updated"), ({"event": "rollback"}, "event"),
    ]:  # fmt: skip
        other = copied(first, tmp_path)
        changed(other, 2, **values)
        found = compare(RunFolder(first), RunFolder(other), 6).first
        assert found is not None and found.what == what and found.step == 3
        shutil.rmtree(other)


def test_a_log_that_ends_early_differs_there(first: Path, tmp_path: Path) -> None:
    other = copied(first, tmp_path)
    lines = (other / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other / "metrics.jsonl").write_text("".join(lines[:4]))
    found = compare(RunFolder(first), RunFolder(other), 6).first
    assert found is not None and (found.step, found.what, found.now) == (5, "length of the log", None)
    (other / "metrics.jsonl").unlink()
    with pytest.raises(DataError, match="missing"):
        compare(RunFolder(first), RunFolder(other), 6)
    (other / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match="no records"):
        compare(RunFolder(other), RunFolder(other), 6)


def test_a_run_without_its_origin_is_compared_all_the_same(first: Path, tmp_path: Path) -> None:
    other = copied(first, tmp_path)
    (other / "origin.json").unlink()
    assert surroundings(RunFolder(other), {}) == ["origin.json is missing: what surrounded the run is not known"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["{run}", "--steps", "0"], 2, "expected 1 to the run's 6"),
        (["{run}", "--steps", "7"], 2, "expected 1 to the run's 6"),
        (["{run}", "--output", "{run}"], 2, "holds a run that is done"),
        (["nowhere"], 2, "nowhere is no run"),
    ],
)
def test_what_cannot_be_run_again_is_refused(
    first: Path, words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rerun", *(word.format(run=first) for word in words)]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "text"), [("recipe.yaml", "stage: bake\n"), ("recipe.yaml", "\x00"), ("source.json", "{}")]
)
def test_a_run_that_was_tampered_with_is_refused(
    first: Path, tmp_path: Path, file: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copied(first, tmp_path)
    (other / file).write_text(text)
    assert run(["rerun", str(other)]) == 3
    assert file in capsys.readouterr().err


def test_a_run_of_two_recipes_is_refused(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = copied(first, tmp_path)
    (other / "recipe.until-step-000002.yaml").write_text("")
    assert run(["rerun", str(other)]) == 2
    assert "did not follow one recipe" in capsys.readouterr().err
