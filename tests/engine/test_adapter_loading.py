"""An adapter's folder named as a model: its base is found and carries it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import paddock
from paddock.checkpoint import safetensors
from paddock.checkpoint.jsonfile import read as read_json
from paddock.engine.locate import bundled
from paddock.errors import CheckpointError


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """LoRA on the first layer's v of the bundled model, by PEFT's names."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "stories260K"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    name = "base_model.model.model.layers.0.self_attn.v_proj"
    tensors = {f"{name}.lora_A.weight": torch.randn(2, 64), f"{name}.lora_B.weight": torch.randn(32, 2)}
    safetensors.save(folder / "adapter_model.safetensors", tensors)
    return folder


def rebased(adapter: Path, base: object) -> Path:
    config = read_json(adapter / "adapter_config.json") | {"base_model_name_or_path": base}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    return adapter


def test_an_adapters_folder_opens_its_base_with_it_on(adapter: Path) -> None:
    base = paddock.load()
    ids = base.tokenizer.encode("Once upon a time")
    both = paddock.load(adapter).logits(ids)
    assert torch.equal(both, base.with_adapter(adapter).logits(ids))
    assert not torch.allclose(both, base.logits(ids))


def test_a_base_may_lie_beside_the_adapter(adapter: Path) -> None:
    (adapter.parent / "base").symlink_to(bundled())
    ids = [1, 5, 9]
    assert torch.equal(paddock.load(rebased(adapter, "../base")).logits(ids), paddock.load(adapter).logits(ids))


def test_an_adapter_brings_its_template_and_tokenizer(adapter: Path) -> None:
    (adapter / "chat_template.jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    paddock.load().tokenizer.save(adapter)
    opened = paddock.load(adapter)
    assert opened.template is not None
    assert opened.template.render([{"role": "user", "content": "x"}]) == "user: x\n"
    assert paddock.load(adapter, template="alpaca").template.name == "alpaca"  # type: ignore[union-attr]


@pytest.mark.parametrize("base", ["nobody/none", "", None, 3, "a\0b", "."])
def test_a_base_that_is_not_here_is_said(adapter: Path, base: object) -> None:
    with pytest.raises(CheckpointError, match="adapter") as refusal:
        paddock.load(rebased(adapter, base))
    assert "--adapter" in str(refusal.value.fix)
