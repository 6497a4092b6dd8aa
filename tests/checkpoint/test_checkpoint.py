"""Opening whatever a path leads to: a model, or a refusal that says what was found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny_folder as tiny

import audited
from paddock.checkpoint import checkpoint
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.errors import CheckpointError, InputError


def test_a_folder(tmp_path: Path) -> None:
    opened = open_checkpoint(tiny.folder(tmp_path))
    assert (opened.kind, opened.path) == ("folder", tmp_path)
    assert opened.generation == tiny.GENERATION
    assert opened.stored_bytes == sum(p.nbytes for p in opened.model().parameters())
    assert open_checkpoint(str(tmp_path)).architecture == opened.architecture


def test_a_llama2c_file(shared_data: Path) -> None:
    assert open_checkpoint(shared_data / "weights/llama2c/stories260K.bin").kind == "llama2.c"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent", "missing"),
        ("x" * 300, "too long"),
        ("a/" * 3000, "too long"),
        ("nul\x00", "null|missing"),
        ("~nobody-by-this-name/model", "home"),
        ("pipe", "not a regular file"),
        ("dangling", "missing"),
        ("loop", "missing|loop"),
        ("device", "not a regular file"),
        ("empty", "empty"),
        ("file/inside", "missing"),
        ("weights.safetensors", "without their description"),
        ("weights.bin", "without their description"),
        ("text.txt", "."),
    ],
)
def test_paths_that_lead_to_no_model(name: str, reason: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "empty").touch()
    (tmp_path / "file").write_text("x")
    (tmp_path / "text.txt").write_text("Once upon a time there was a file of text that was no model.")
    tiny.torch_save(tmp_path / "weights.bin", {})
    tiny.folder(tmp_path / "model")
    (tmp_path / "model/model.safetensors").rename(tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=reason) as caught:
        open_checkpoint(name if name.startswith("~") else tmp_path / name).model()
    assert len(str(caught.value)) < 3500


def test_an_unreadable_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoint.hf, "read_tensors", forbid)  # the user who runs the tests may read everything
    with pytest.raises(CheckpointError, match="cannot be opened: Permission denied"):
        open_checkpoint(tiny.folder(tmp_path))


@pytest.mark.parametrize("error", [TypeError("unhashable"), ValueError("no number"), OverflowError("too large")])
def test_what_a_family_stumbles_over_is_the_file_s_fault(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint, "describe", stumble)
    with pytest.raises(CheckpointError, match=f"cannot be understood: {error}") as caught:
        open_checkpoint(tiny.folder(tmp_path))
    assert caught.value.__cause__ is error, "the reason is kept for whoever debugs the family"


def test_opening_and_building_touches_nothing_outside(tmp_path: Path) -> None:
    """No code run, nothing imported, no process, socket or file made: also where the configuration names code."""
    folders = [tiny.folder(tmp_path / name) for name in ("warm up", "sound")]
    named = {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "http://127.0.0.1:9/x--evil.Model"}}
    folders.append(tiny.folder(tmp_path / "remote code", **named))
    (folders[-1] / "evil.py").write_text("open('canary', 'w')")
    private = {"_attn_implementation_internal": "x/y:z", "_name_or_path": "http://127.0.0.1:9/x"}
    folders.append(tiny.folder(tmp_path / "private keys", weights=tiny.tensors(), **private))
    folders.append(tiny.folder(tmp_path / "bin", "bin"))
    before = sorted(path for path in tmp_path.rglob("*"))
    found = audited.audit("test_weights:open_and_build", folders)
    assert {name: events for name, (_, events) in found.items() if events} == {}
    outcomes = {name: outcome.split(",")[0] for name, (outcome, _) in found.items()}
    assert outcomes["private keys"] == "UnsupportedError"
    assert {outcome for name, outcome in outcomes.items() if name != "private keys"} == {"accepted"}
    assert sorted(path for path in tmp_path.rglob("*")) == before
