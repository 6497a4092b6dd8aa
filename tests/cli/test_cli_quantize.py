"""quantize: the file, its card, and what it refuses."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_models import write_model

from paddock.checkpoint.gguf import GGUFFile
from paddock.engine.loading import load
from paddock.engine.locate import bundled

PROMPT = "Once upon a time"


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A text of a few hundred tokens, so that measuring is quick."""
    path = tmp_path / "story.txt"
    path.write_text("Once upon a time, there was a little girl named Lily. She loved to play outside. " * 6)
    return path


def test_a_gguf_file_with_its_card(paddock: Callable, tmp_path: Path, story: Path) -> None:
    goal = tmp_path / "out" / "s.gguf"
    run = paddock("quantize", "stories260K", "--to", "q8_0", "-o", goal, "--text", story, "--json")
    assert run.code == 0, run.err
    assert run.json["types"] == {"Q8_0": 31, "F32": 11, "F16": 5} and run.json["target"] == str(goal)
    card = run.json["quality"]
    assert card["kind"] == "q8_0" and card["text"] == "story.txt" and card["bytes"] == goal.stat().st_size
    assert 0 < card["kl_mean"] < 0.01 and card["top1"] > 0.95 and 10 < card["bits_per_weight"] < 10.3
    assert card["perplexity_after"] == pytest.approx(card["perplexity_before"], rel=0.05)
    shown = paddock("show", goal, "--json").json
    assert shown["quality"] == card and shown["licence"]["name"] == "mit"
    assert {finding["level"] for finding in shown["health"]} == {"ok"}
    text = paddock("show", goal).out
    assert "perplexity after" in text and "stories260K, as q8_0" in text
    assert load(goal).generate(PROMPT, 16, temperature=0).text == load().generate(PROMPT, 16, temperature=0).text
    assert [path.name for path in goal.parent.iterdir()] == ["s.gguf"]


def test_the_usual_name_lies_here(paddock: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = paddock("quantize", "--to", "Q4_0", "--no-card")
    assert run.code == 0 and "no quality card" in run.out, run.err
    assert "wrote stories260K-q4_0.gguf" in run.out and (tmp_path / "stories260K-q4_0.gguf").exists()
    assert paddock("show", "stories260K-q4_0.gguf", "--json").json["quality"] is None


def test_calibration_changes_the_file(paddock: Callable, tmp_path: Path, story: Path) -> None:
    for name, options in (("plain", ()), ("weighed", ("--calibrate", story))):
        run = paddock("quantize", "stories260K", "--to", "q4_0", "-o", tmp_path / f"{name}.gguf", "--no-card", *options)
        assert run.code == 0, run.err
    plain, weighed = (GGUFFile(tmp_path / f"{name}.gguf") for name in ("plain", "weighed"))
    name = "blk.2.attn_q.weight"
    assert not plain.tensor(name).equal(weighed.tensor(name))


def test_a_folder_with_its_card(paddock: Callable, tmp_path: Path, story: Path) -> None:
    goal = tmp_path / "folder"
    run = paddock("quantize", "stories260K", "--to", "int8", "-o", goal, "--text", story)
    assert run.code == 0, run.err
    card = json.loads((goal / "paddock_quality.json").read_text())
    assert card["kind"] == "int8" and paddock("show", goal, "--json").json["quality"] == card
    assert (goal / "LICENSE").read_bytes() == (bundled() / "LICENSE").read_bytes()
    assert "30 matrices" in run.out and "; 5 do not fit int8 and stay as they were" in run.out
    again = ("quantize", "stories260K", "--to", "int8", "-o", goal, "--no-card")
    assert paddock(*again).code == 2 and paddock(*again, "--force").code == 0
    assert not (goal / "paddock_quality.json").exists() and not list(tmp_path.glob(".*"))


def test_what_was_quantised_once_may_be_again_and_is_told(paddock: Callable, tmp_path: Path) -> None:
    one, two = tmp_path / "one.gguf", tmp_path / "two.gguf"
    assert paddock("quantize", "stories260K", "--to", "q8_0", "-o", one, "--no-card").code == 0
    run = paddock("quantize", one, "--to", "q4_0", "-o", two, "--no-card")
    assert run.code == 0 and "quantised already" in run.err, run.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "there is no --to"),
        (("--to", "q4_kk"), "did you mean 'q4_k'"),
        (("--to", "q8_0", "--calibrate", "x.txt"), "is not calibrated"),
        (("--to", "nf4", "--calibrate", "x.txt"), "is not calibrated"),
        (("--to", "q4_0", "--text", "x.txt", "--no-card"), "--no-card"),
        (("--to", "int4", "-o", "a.gguf"), "written as a folder"),
        (("--to", "q4_0", "-o", "folder"), "written as a GGUF file"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    paddock: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = paddock("quantize", "stories260K", *arguments)
    assert run.code == 2 and said in run.err, run.err
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_is_missing_is_told(paddock: Callable, tmp_path: Path) -> None:
    run = paddock("quantize", "stories260K", "--to", "q4_0", "-o", tmp_path / "a.gguf", "--text", tmp_path / "none")
    assert run.code == 3 and "none cannot be read" in run.err


def test_nothing_is_overwritten_unasked(paddock: Callable, tmp_path: Path) -> None:
    goal = tmp_path / "a.gguf"
    goal.write_text("mine")
    ask = ("quantize", "stories260K", "--to", "q4_0", "-o", goal, "--no-card")
    run = paddock(*ask)
    assert run.code == 2 and "--force replaces it" in run.err and goal.read_text() == "mine"
    assert paddock(*ask, "--force").code == 0 and GGUFFile(goal).metadata["general.architecture"] == "llama"
    run = paddock("quantize", goal, "--to", "q4_0", "-o", goal, "--force")
    assert run.code == 2 and "same" in run.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(OSError(errno.ENOSPC, "full"), 4), (OSError(errno.EIO, "broken"), 1), (KeyboardInterrupt(), 130)],
)
def test_a_failure_in_the_middle_leaves_nothing(
    paddock: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    from paddock.checkpoint import gguf_write

    calls = []

    def breaks(*_: object) -> None:
        calls.append(1)
        if len(calls) == 20:
            raise error
        fill(*_)  # type: ignore[arg-type]

    fill = gguf_write._fill
    monkeypatch.setattr(gguf_write, "_fill", breaks)
    run = paddock("quantize", "stories260K", "--to", "q8_0", "-o", tmp_path / "a.gguf", "--no-card")
    assert run.code == code, run.err
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_refused_first(
    paddock: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paddock.quantize import gguf_file

    monkeypatch.setattr(gguf_file.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    run = paddock("quantize", "stories260K", "--to", "q8_0", "-o", tmp_path / "a.gguf", "--no-card")
    assert run.code == 4 and "free" in run.err and list(tmp_path.iterdir()) == []


def test_an_encoder_has_no_card(paddock: Callable, tmp_path: Path, bert: Path) -> None:
    run = paddock("quantize", bert, "--to", "q8_0", "-o", tmp_path / "a.gguf")
    assert run.code == 3 and "--no-card" in run.err
    run = paddock("quantize", bert, "--to", "q8_0", "-o", tmp_path / "a.gguf", "--no-card")
    assert run.code == 3 and "no place" in run.err  # its head over the vocabulary


def test_a_model_without_tokenizer(paddock: Callable, tmp_path: Path) -> None:
    config = {"model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32}
    source = write_model(tmp_path / "m", config | {"num_hidden_layers": 1, "num_attention_heads": 2})
    goal = tmp_path / "a.gguf"
    run = paddock("quantize", source, "--to", "q8_0", "-o", goal)
    assert run.code == 2 and "there is no tokenizer" in run.err and not goal.exists()
    run = paddock("quantize", source, "--to", "q8_0", "-o", goal, "--no-card")
    assert run.code == 0 and "no tokenizer" in run.err, run.err
    ids = [1, 5, 9]
    assert (load(goal).logits(ids) - load(source).logits(ids)).abs().max() < 0.5


def test_a_broken_card_is_a_finding(paddock: Callable, tmp_path: Path) -> None:
    assert paddock("quantize", "stories260K", "--to", "int8", "-o", tmp_path / "m", "--no-card").code == 0
    (tmp_path / "m" / "paddock_quality.json").write_text('{"kind": "int8"}')
    run = paddock("show", tmp_path / "m", "--json")
    assert run.code == 0 and run.json["quality"] is None
    assert any(finding["about"] == "quality card" for finding in run.json["health"])


@pytest.mark.parametrize(("dtype", "kind"), [("auto", "F32"), ("bfloat16", "BF16")])
def test_convert_writes_plain_gguf(paddock: Callable, tmp_path: Path, dtype: str, kind: str) -> None:
    goal = tmp_path / "s.gguf"
    run = paddock("convert", "stories260K", goal, "--dtype", dtype)
    assert run.code == 0 and " of 48 greedy tokens equal" in run.out, run.err
    assert GGUFFile(goal).tensors["token_embd.weight"].type.name == kind
    assert paddock("convert", goal, tmp_path / "back").code == 0
    assert (
        paddock("convert", "stories260K", goal).code == 2
        and paddock("convert", "stories260K", goal, "--force").code == 0
    )
