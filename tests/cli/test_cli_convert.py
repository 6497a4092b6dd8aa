"""convert: round trips, parity, and what it will not overwrite."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf_story
import pytest
import torch

from paddock.checkpoint import safetensors
from paddock.engine.locate import bundled
from paddock.errors import UsageError


def same_weights(one: Path, two: Path) -> bool:
    first, second = (safetensors.read(path / "model.safetensors") for path in (one, two))
    return first.keys() == second.keys() and all(torch.equal(first[n].load(), second[n].load()) for n in first)


@pytest.fixture
def original(shared_data: Path, tmp_path: Path) -> Path:
    """The published stories260K.bin with its tokenizer.bin, in a folder of their own."""
    (tmp_path / "original").mkdir()
    shutil.copy(shared_data / "weights/llama2c/stories260K.bin", tmp_path / "original")
    shutil.copy(shared_data / "weights/llama2c/tok512.bin", tmp_path / "original/tokenizer.bin")
    return tmp_path / "original/stories260K.bin"


@pytest.mark.parametrize(("kind", "name"), [("q8_0", "small.gguf"), ("nf4", "small")])
def test_from_quantised(paddock: Callable, tmp_path: Path, kind: str, name: str) -> None:
    """Codes become numbers, and the proof compares numbers with numbers, whatever kernels do with codes."""
    small = tmp_path / name
    assert paddock("quantize", "--to", kind, "--output", small, "--no-card").code == 0
    run = paddock("convert", small, tmp_path / "plain")
    assert run.code == 0, run.err
    assert "48 of 48 greedy tokens equal" in run.out and "differ by at most 0 " in run.out
    assert set(paddock("show", tmp_path / "plain", "--json").json["stored_as"]) == {"float32"}


@pytest.mark.parametrize("version", [0, 1])
def test_there_and_back_is_the_same(paddock: Callable, tmp_path: Path, original: Path, version: int) -> None:
    run = paddock("convert", original, tmp_path / "out/story.bin", "--version", version)
    assert run.code == 0, run.err
    assert "48 of 48 greedy tokens equal" in run.out and "differ by at most 0 " in run.out
    assert [line.split()[0] for line in run.err.splitlines()] == ["reading", "writing", "comparing"]
    assert (tmp_path / "out/tokenizer.bin").read_bytes() == (original.parent / "tokenizer.bin").read_bytes()
    assert version == 1 or (tmp_path / "out/story.bin").read_bytes() == original.read_bytes()
    back = paddock("convert", tmp_path / "out/story.bin", tmp_path / "out/story")
    assert back.code == 0, back.err
    assert same_weights(tmp_path / "out/story", bundled())
    prompt = ("generate", "Once", "-n", 9, "--temp", 0)
    texts = {paddock(*prompt, "-m", tmp_path / "out" / name).out for name in ("story", "story.bin")}
    assert texts == {paddock(*prompt).out}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["story", "story.bin", "tokenizer.bin"]


def test_from_gguf(paddock: Callable, tmp_path: Path) -> None:
    file = gguf_story.write(tmp_path / "story.gguf")
    shown = paddock("show", file, "--json").json
    assert shown["kind"] == "gguf" and shown["stored_as"] == {"F32": 47} and shown["licence"]["name"] == "mit"
    assert shown["parameters"]["total"] == 260_032 and {finding["level"] for finding in shown["health"]} == {"ok"}
    run = paddock("convert", file, tmp_path / "story")
    assert run.code == 0, run.err
    assert "48 of 48 greedy tokens equal" in run.out and "differ by at most 0 " in run.out
    assert same_weights(tmp_path / "story", bundled())
    assert paddock("show", tmp_path / "story", "--json").json["licence"]["name"] == "mit"
    for place in (file, tmp_path / "story"):
        assert (
            paddock("generate", "Once upon", "-n", 9, "-m", place, "--temp", 0).out
            == " a time, there was a little gir\n"
        )
        assert paddock("tokens", "Once upon", "-m", place, "--json").json["ids"] == [1, 403, 407]


def test_int8_says_that_it_rounded(paddock: Callable, tmp_path: Path) -> None:
    found = paddock("convert", "stories260K", tmp_path / "q8.bin", "--version", 2, "--json").json
    assert found["parity"]["bound"] is None and 0 < found["parity"]["largest_difference"] < 0.5


def test_a_change_of_type_is_compared_with_the_original(paddock: Callable, tmp_path: Path) -> None:
    found = paddock("convert", "stories260K", tmp_path / "half", "--dtype", "bfloat16", "--json").json
    assert found["parity"]["bound"] is None and found["parity"]["largest_difference"] > 0
    assert json.loads((tmp_path / "half/config.json").read_text())["dtype"] == "bfloat16"


def test_a_rounded_type_in_a_float32_file_is_no_failure(paddock: Callable, tmp_path: Path) -> None:
    run = paddock("convert", "stories260K", tmp_path / "half.bin", "--dtype", "bfloat16")
    assert run.code == 0 and "llama2.c stores float32" in run.err and "rounded" in run.out


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("folder", ("--version", 1), "shape llama2.c files"),
        ("folder", ("--group-size", 4), "shape llama2.c files"),
        ("a.bin", ("--group-size", 4), "has no groups"),
        ("a.bin", ("--version", 2, "--group-size", 7), "expected 2, 4"),
    ],
)
def test_options_without_effect_are_refused(
    paddock: Callable, tmp_path: Path, target: str, options: tuple, said: str
) -> None:
    run = paddock("convert", "stories260K", tmp_path / target, *options)
    assert run.code == 2 and said in run.err and not (tmp_path / target).exists()


def test_the_group_size_used_is_said(paddock: Callable, tmp_path: Path) -> None:
    assert "groups of 4" in paddock("convert", "stories260K", tmp_path / "q8.bin", "--version", 2).err


def test_what_does_not_agree_takes_no_place(paddock: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that comes out a thousandth too large, whatever else is right."""
    from paddock.checkpoint import folder

    write = folder.write

    def worse(path: Path, model: torch.nn.Module, *rest: object) -> None:
        norm = model.norm.weight
        model.norm.weight = torch.nn.Parameter(norm * 1.001, requires_grad=False)
        write(path, model, *rest)
        model.norm.weight = norm

    monkeypatch.setattr(folder, "write", worse)
    run = paddock("convert", "stories260K", tmp_path / "copy")
    assert run.code == 1 and "does not compute what stories260K does" in run.err
    assert not (tmp_path / "copy").exists() and not list(tmp_path.glob(".paddock-*"))


def test_a_row_that_no_prompt_reads_is_compared_too(
    paddock: Callable, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits tell nothing of a token that does not occur: the weights themselves are compared."""
    from paddock.checkpoint import folder

    write = folder.write

    def worse(path: Path, model: torch.nn.Module, *rest: object) -> None:
        rows = model.embedding.segments.weight
        changed = rows.clone()
        changed[1, 0] += 1e-3
        model.embedding.segments.weight = torch.nn.Parameter(changed, requires_grad=False)
        write(path, model, *rest)
        model.embedding.segments.weight = rows

    monkeypatch.setattr(folder, "write", worse)
    shutil.copytree(bert, tmp_path / "short")
    run = paddock("convert", tmp_path / "short", tmp_path / "copy")
    assert run.code == 1 and "embedding.segments.weight was written with other numbers" in run.err
    assert not (tmp_path / "copy").exists()


def test_a_missing_tokenizer_is_said(paddock: Callable, tmp_path: Path, original: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copyfile(original, alone / "m.bin")
    assert "no tokenizer was written" in paddock("convert", alone / "m.bin", tmp_path / "copy").err


def test_the_licence_goes_where_the_weights_go(paddock: Callable, tmp_path: Path) -> None:
    assert paddock("convert", "stories260K", tmp_path / "copy").code == 0
    assert (tmp_path / "copy/LICENSE").read_bytes() == (bundled() / "LICENSE").read_bytes()


def test_nothing_is_overwritten_unasked(paddock: Callable, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    assert paddock("convert", "stories260K", target).code == 0
    before = (target / "model.safetensors").stat().st_mtime_ns
    run = paddock("convert", "stories260K", target)
    assert run.code == 2 and "--force replaces it" in run.err
    assert (target / "model.safetensors").stat().st_mtime_ns == before
    assert paddock("convert", "stories260K", target, "--force").code == 0
    (target / "thesis.tex").write_text("years of work")
    run = paddock("convert", "stories260K", target, "--force")
    assert run.code == 2 and "thesis.tex" in run.err and (target / "thesis.tex").exists()
    assert paddock("convert", target, target, "--force").code == 2


@pytest.mark.parametrize("error", [OSError(5, "broken"), KeyboardInterrupt()])
def test_a_failed_replacement_leaves_what_was_there(
    paddock: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    target = tmp_path / "copy"
    assert paddock("convert", "stories260K", target).code == 0
    (target / "README.md").write_text("mine")
    rename, goals = Path.rename, [target]

    def breaks(self: Path, to: Path) -> Path:
        if self.name == "new" and to in goals:
            raise error
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", breaks)
    assert paddock("convert", "stories260K", target, "--force").code in (1, 130)
    assert (target / "README.md").read_text() == "mine" and (target / "model.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["copy"]


def test_what_cannot_come_back_is_named(paddock: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "copy"
    assert paddock("convert", "stories260K", target).code == 0
    rename = Path.rename

    def breaks(self: Path, to: Path) -> Path:
        if to == target:
            raise OSError(5, "broken")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", breaks)
    run = paddock("convert", "stories260K", target, "--force")
    (kept,) = tmp_path.glob(".copy.*")
    assert run.code == 1 and f"it is whole in {kept}" in run.err
    assert (kept / "model.safetensors").exists()


def test_anothers_tokenizer_is_not_replaced(paddock: Callable, tmp_path: Path, original: Path) -> None:
    (tmp_path / "tokenizer.bin").write_bytes(b"somebody else's")
    run = paddock("convert", original, tmp_path / "story.bin")
    assert run.code == 2 and "belongs to another model" in run.err and not (tmp_path / "story.bin").exists()
    assert paddock("convert", original, tmp_path / "story.bin", "--force").code == 0
    assert (tmp_path / "tokenizer.bin").read_bytes() == (original.parent / "tokenizer.bin").read_bytes()


def test_a_vocabulary_that_the_format_cannot_hold_is_said(
    paddock: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise UsageError("it cannot be written")

    monkeypatch.setattr("paddock.cli.converting.write_llama2c", refuses)
    run = paddock("convert", "stories260K", tmp_path / "story.bin")
    assert run.code == 0 and "no tokenizer.bin: it cannot be written" in run.err
    assert "48 of 48" in run.out and not (tmp_path / "tokenizer.bin").exists()
    (tmp_path / "tokenizer.bin").write_bytes(b"somebody else's")
    assert paddock("convert", "stories260K", tmp_path / "story.bin", "--force").code == 2


@pytest.mark.parametrize(
    ("target", "options", "code", "said"),
    [
        ("x.gguf", ["--version", "1"], 2, "shape llama2.c files"),
        ("x.bin", ["--version", "7"], 2, "version 7"),
        ("x.bin", ["--version", "2", "--group-size", "1"], 2, "group size"),
        ("x", ["--dtype", "int3"], 2, "int3"),
    ],
)
def test_refusals_leave_nothing(
    paddock: Callable, tmp_path: Path, target: str, options: list[str], code: int, said: str
) -> None:
    run = paddock("convert", "stories260K", tmp_path / target, *options)
    assert run.code == code and said in run.err
    assert [path for path in tmp_path.iterdir() if path.name != "home"] == []


def test_models_that_the_format_cannot_hold(paddock: Callable, bert: Path, t5: Path, tmp_path: Path) -> None:
    for path in (bert, t5):
        assert paddock("convert", path, tmp_path / "x.bin").code == 3
        assert not (tmp_path / "x.bin").exists()
        run = paddock("convert", path, tmp_path / path.name)
        assert run.code == 0 and "differ by at most 0 " in run.out, run.err


@pytest.mark.parametrize("name", ["copy", "copy.gguf"])
def test_the_parity_card_is_kept_and_shown(paddock: Callable, tmp_path: Path, name: str) -> None:
    made = paddock("convert", "stories260K", tmp_path / name, "--json").json["parity"]
    assert made["bound"] == 0.0 and made["before_sha256"] == made["after_sha256"] and made["tokens_equal"] is True
    assert (made["kl_max"], made["top1"], made["greedy_equal"]) == (0.0, 1.0, made["greedy_steps"])
    assert paddock("show", tmp_path / name, "--json").json["parity"] == made
    assert "bound to be exact" in paddock("show", tmp_path / name).out
    assert {f["level"] for f in paddock("show", tmp_path / name, "--json").json["health"]} == {"ok"}
