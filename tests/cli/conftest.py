"""The command line run in this process, and small models to run it on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_streams import Run, stream

from paddock import tokenizer
from paddock.checkpoint import folder
from paddock.cli import main
from paddock.engine.locate import bundled
from paddock.model.families import describe
from paddock.model.transformer import Transformer

BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "sat", ".", "a"]
T5 = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "vocab_size": 512,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
    "is_encoder_decoder": True,
    "decoder_start_token_id": 0,
    "eos_token_id": 2,
    "layer_norm_epsilon": 1e-6,
}
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture
def paddock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Run]:
    """Runs `paddock ARGUMENTS` with its own streams; `terminal` makes them all terminals."""
    monkeypatch.setenv("PADDOCK_HOME", str(tmp_path / "home"))
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


def write_model(path: Path, config: dict[str, Any]) -> Path:
    """A folder with random weights."""
    model = Transformer(describe(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    folder.write(path, model, config)
    return path


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
