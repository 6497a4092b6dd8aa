"""delta: made and applied from the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from paddock.checkpoint import safetensors
from paddock.engine.locate import bundled


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """The bundled model with other numbers."""
    folder = tmp_path / "tuned"
    shutil.copytree(bundled(), folder)
    weights = {n: s.load() * 1.01 for n, s in safetensors.read(bundled() / "model.safetensors").items()}
    safetensors.write(folder / "model.safetensors", weights)
    return folder


def test_a_delta_is_made_and_applied(paddock: Callable, tmp_path: Path, tuned: Path) -> None:
    run = paddock("delta", "make", "stories260K", tuned, "-o", tmp_path / "delta")
    assert run.code == 0 and "every bit of tuned" in run.out, run.err
    run = paddock("delta", "apply", "stories260K", tmp_path / "delta", "-o", tmp_path / "again", "--json")
    assert run.code == 0 and len(run.json["sha256"]) == 64, run.err
    one, two = ((folder / "model.safetensors").read_bytes() for folder in (tuned, tmp_path / "again"))
    assert one == two
    told = [
        paddock("generate", "Once", "-n", 9, "--temp", 0, "-m", folder).out for folder in (tuned, tmp_path / "again")
    ]
    assert told[0] == told[1] != ""
    run = paddock("generate", "Once", "-m", tmp_path / "delta")
    assert run.code == 3 and "paddock delta apply" in run.err
    again = paddock("delta", "make", "stories260K", tuned, "-o", tmp_path / "delta")
    assert again.code == 2 and "--force" in again.err
    assert paddock("delta", "make", "stories260K", tuned, "-o", tmp_path / "delta", "--force").code == 0


def test_what_cannot_be_meant(paddock: Callable, tmp_path: Path, tuned: Path) -> None:
    for arguments, words in (
        (("make", "stories260K", tuned), "no --output"),
        (("make", "stories260K", tuned, "-o", tmp_path / "x.gguf"), "writes a folder"),
        (("make", "stories260K", tuned, "-o", tmp_path / "x", "--grown", "zero"), "did you mean 'zeros'"),
        (("apply", "stories260K", tmp_path / "nowhere", "-o", tmp_path / "x"), "is no folder"),
    ):
        run = paddock("delta", *arguments)
        assert run.code == 2 and words in run.err, run.err
    run = paddock("delta", "apply", tuned, bundled(), "-o", tmp_path / "x")
    assert run.code == 0 and "neither was checked" in run.err  # as with published ones
    (tmp_path / "empty").mkdir()
    run = paddock("delta", "apply", tuned, tmp_path / "empty", "-o", tmp_path / "y")
    assert run.code == 3 and not (tmp_path / "y").exists() and not list(tmp_path.glob(".paddock*"))
