"""The command line run in this process, and small models to run it on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli_models import BERT, T5, TEMPLATE, WORDS, write_model
from cli_streams import Run, stream

from paddock import tokenizer
from paddock.cli import main
from paddock.engine.locate import bundled


@pytest.fixture
def paddock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Run]:
    """Runs `paddock ARGUMENTS` with its own streams; `terminal` makes them all terminals."""
    monkeypatch.setenv("PADDOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object, stdin: str | bytes = b"", terminal: bool = False) -> Run:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        streams = stream(given, terminal), stream(terminal=terminal), stream(terminal=terminal)
        with monkeypatch.context() as patch:
            for name, replacement in zip(("stdin", "stdout", "stderr"), streams, strict=True):
                patch.setattr(sys, name, replacement)
            code = main([str(argument) for argument in arguments])
            for opened in streams[1:]:
                opened.flush()
        out, err = (opened.buffer.getvalue().decode("utf-8") for opened in streams[1:])  # type: ignore[attr-defined]
        assert "Traceback" not in out + err
        return Run(code, out, err)

    return run


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked language model of 11 words."""
    torch.manual_seed(0)
    path = write_model(tmp_path_factory.mktemp("models") / "bert", BERT)
    (path / "vocab.txt").write_text("\n".join(WORDS))
    return path


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder-decoder with the bundled model's vocabulary."""
    torch.manual_seed(0)
    path = write_model(tmp_path_factory.mktemp("models") / "t5", T5)
    tokenizer.load(bundled()).save(path)
    return path


@pytest.fixture(scope="session")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model with a chat template."""
    path = tmp_path_factory.mktemp("models") / "talker"
    shutil.copytree(bundled(), path)
    (path / "chat_template.jinja").write_text(TEMPLATE)
    return path


@pytest.fixture(scope="session")
def storyteller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model elsewhere, so that it is not taken for the bundled one."""
    path = tmp_path_factory.mktemp("models") / "storyteller"
    shutil.copytree(bundled(), path)
    return path
