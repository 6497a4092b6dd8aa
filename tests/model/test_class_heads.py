"""Class scores of every family that transformers publishes them for: equal numbers, padded at either side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.weights import sketch
from paddock.errors import CheckpointError
from paddock.model.families import describe
from paddock.model.spec import LastToken, Pooler
from paddock.model.step import Step
from paddock.training.scale import parameters

pytestmark = pytest.mark.filterwarnings("ignore")  # the oracle's own
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32}
_LLAMA = {**_SIZES, "intermediate_size": 40, "num_key_value_heads": 2}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {**_SIZES, "intermediate_size": 40}),
    "llama": ("Llama", _LLAMA),
    "mistral": ("Mistral", {**_LLAMA, "sliding_window": 4}),
    "mixtral": ("Mixtral", {**_LLAMA, "num_local_experts": 4}),
    "qwen2": ("Qwen2", _LLAMA),
    "gpt2": ("GPT2", {**_GPT, "n_positions": 32}),
    "gpt_neox": ("GPTNeoX", {**_SIZES, "intermediate_size": 40}),
    "falcon": ("Falcon", {**_SIZES, "alibi": False}),
    "bloom": ("Bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mpt": ("Mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4}),
}


def published(name: str, path: Path, labels: int) -> Any:
    """A classifier of transformers' with random weights, saved at `path`."""
    kind, sizes = SUBJECTS[name]
    config = getattr(hf, f"{kind}Config")(vocab_size=97, pad_token_id=0, num_labels=labels, **sizes)
    torch.manual_seed(7)
    model = getattr(hf, f"{kind}ForSequenceClassification")(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(path)
    return model


@pytest.mark.parametrize("name", SUBJECTS)
def test_class_scores_equal_transformers(name: str, tmp_path: Path) -> None:
    labels = 3 if name != "llama" else 2  # two are not written into config.json
    reference = published(name, tmp_path / "theirs", labels)
    checkpoint = open_checkpoint(tmp_path / "theirs")
    model, part = checkpoint.model("float32"), checkpoint.architecture.pooler
    assert part == (Pooler(labels) if name == "bert" else LastToken(labels)) and checkpoint.architecture.head is None
    assert parameters(checkpoint.architecture) == sum(p.numel() for p in model.parameters())
    lengths = torch.tensor([[9], [5], [1]])
    for left in (False, True)[: 1 if name == "bert" else 2]:
        real = torch.arange(9) >= 9 - lengths if left else torch.arange(9) < lengths
        ids = torch.randint(1, 97, (3, 9)).masked_fill(~real, 0)
        positions = {} if name not in ("gpt2", "gpt_neox", "llama", "mistral", "mixtral", "qwen2") else {
            "position_ids": (real.long().cumsum(1) - 1).clamp(min=0)
        }  # fmt: skip
        with torch.no_grad():
            expected = reference(ids, attention_mask=real.long(), **positions).logits
            found = model.classify(ids, Step.begin(model.architecture, ids, padding=real))
            alone = [model.classify(row[None, there], Step.begin(model.architecture, row[None, there]))
                     for row, there in zip(ids, real, strict=True)]  # fmt: skip
        assert float((found - expected).abs().max()) <= 1e-5, f"left {left}"
        assert float((found - torch.cat(alone)).abs().max()) <= 1e-5, f"left {left}"


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2", "gpt_neox"])
def test_a_classifier_is_written_as_it_was_read(name: str, tmp_path: Path) -> None:
    published(name, tmp_path / "theirs", 3)
    checkpoint = open_checkpoint(tmp_path / "theirs")
    folder.write(tmp_path / "ours", checkpoint.model("float32"), dict(checkpoint.config))
    before, after = (load_file(tmp_path / side / "model.safetensors") for side in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert open_checkpoint(tmp_path / "ours").architecture == checkpoint.architecture


def test_a_configuration_alone_says_that_there_are_classes() -> None:
    config = {"model_type": "llama", "vocab_size": 97, "max_position_embeddings": 32, **_LLAMA}
    named = {**config, "architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}
    assert describe(config).pooler is None
    assert describe(named).pooler == LastToken(3) and describe(named).head is None
    names = {name for name, _ in sketch(describe(named)).named_parameters()}
    assert "pooler.classes.weight" in names and "pooler.classes.bias" not in names


def test_a_head_of_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    published("llama", tmp_path, 3)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"LABEL_2"', '"LABEL_2", "3": "LABEL_3"', 1))
    with pytest.raises(CheckpointError, match=r"score\.weight.*\[3, 32\].*\[4, 32\]"):
        open_checkpoint(tmp_path).model()
