"""Classifiers and rerankers in GGUF files: written, opened again, read from another writer, refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint
from paddock.checkpoint.gguf import GGUFFile
from paddock.checkpoint.gguf_saving import outline
from paddock.checkpoint.weights import sketch
from paddock.engine.encoders import class_names
from paddock.errors import CheckpointError, PaddockError, UnsupportedError
from paddock.model.families import describe
from paddock.model.initialise import blank
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.quantize.gguf_file import write_gguf

IDS = torch.tensor([[1, 17, 42, 5, 33, 8]])
NAMES = ["dull", "lively", "méchant"]
BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "vocab_size": 48,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForSequenceClassification"],
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}


def named(names: list[str]) -> dict[str, Any]:
    return {"id2label": {str(i): name for i, name in enumerate(names)}, "label2id": {n: i for i, n in enumerate(names)}}


def made(path: Path, config: dict[str, Any]) -> Checkpoint:
    model = blank(sketch(describe(config)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.1)
    folder.write(path, model, config)
    return open_checkpoint(path)


def scores(model: Transformer) -> Tensor:
    with torch.no_grad():
        return model.classify(IDS, Step.begin(model.architecture, IDS))


def written(checkpoint: Checkpoint, path: Path, kind: str = "f32") -> Checkpoint:
    path.touch()
    write_gguf(checkpoint, path, kind)
    return open_checkpoint(path)


@pytest.mark.parametrize("names", [NAMES, ["score"], [f"class {i}" for i in range(12)]], ids=["three", "one", "twelve"])
def test_it_comes_back_with_its_classes_and_equal_scores(names: list[str], tmp_path: Path) -> None:
    before = made(tmp_path / "folder", BERT | named(names))
    after = written(before, tmp_path / "model.gguf")
    assert class_names(after.config) == names
    one, other = (each.model("float32") for each in (before, after))
    assert all(torch.equal(p, other.get_parameter(name)) for name, p in one.named_parameters())
    torch.testing.assert_close(scores(other), scores(one), rtol=0, atol=1e-6)  # files lie otherwise in memory
    file = GGUFFile(tmp_path / "model.gguf")
    assert file.metadata["bert.pooling_type"] == 4 and file.metadata["bert.classifier.output_labels"] == names
    assert {name for name in file.tensors if name.startswith("cls")} == {
        "cls.weight",
        "cls.bias",
        "cls.output.weight",
        "cls.output.bias",
    }


def test_the_scores_are_those_of_transformers(tmp_path: Path) -> None:
    before = made(tmp_path / "folder", BERT | named(NAMES))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "folder").eval()
    after = written(before, tmp_path / "model.gguf")
    with torch.no_grad():
        torch.testing.assert_close(scores(after.model("float32")), theirs(IDS).logits, rtol=1e-4, atol=1e-5)


def test_a_quantised_file_keeps_its_head_whole(tmp_path: Path) -> None:
    before = made(tmp_path / "folder", BERT | named(NAMES))
    after = written(before, tmp_path / "model.gguf", "q8_0")
    tensors = GGUFFile(tmp_path / "model.gguf").tensors
    assert tensors["blk.0.attn_q.weight"].type.name == "Q8_0"
    assert {info.type.name for name, info in tensors.items() if name.startswith("cls")} == {"F32"}
    own, kept = scores(before.model("float32")), scores(after.model("float32"))
    assert 0 < (kept - own).abs().max() < 0.05


def test_classes_without_names_are_numbered(tmp_path: Path) -> None:
    after = written(made(tmp_path / "folder", BERT), tmp_path / "model.gguf")
    assert class_names(after.config) == ["LABEL_0", "LABEL_1"]


def test_an_embedding_model_is_still_written_without_its_pooler(tmp_path: Path) -> None:
    before = made(tmp_path / "folder", BERT | {"architectures": ["BertModel"]})
    plan = outline(before)
    assert plan.dropped == ["pooler.dense.weight", "pooler.dense.bias"]
    assert "bert.pooling_type" not in plan.metadata


@pytest.mark.parametrize(
    ("config", "kind", "said"),
    [
        (LLAMA | named(NAMES), UnsupportedError, "no place for the classes of a llama model"),
        (
            BERT | named(NAMES) | {"problem_type": "multi_label_classification"},
            UnsupportedError,
            "3 scores are a multi",
        ),
        (BERT | named(["a", "b"]) | {"problem_type": "regression"}, UnsupportedError, "2 scores are a regression"),
        (BERT | {"id2label": {"0": "a", "2": "b"}}, CheckpointError, "id2label does not name the classes"),
        (BERT | {"id2label": {"0": "a", "1": 5}}, CheckpointError, "id2label does not name the classes"),
    ],
    ids=["decoder", "several apply", "two numbers", "gap", "no name"],
)
def test_what_a_file_cannot_say_is_refused(
    config: dict[str, Any], kind: type[PaddockError], said: str, tmp_path: Path
) -> None:
    checkpoint = made(tmp_path / "folder", config)
    with pytest.raises(kind, match=said):
        outline(checkpoint)


def foreign(source: Path, target: Path, labels: Any = NAMES, drop: tuple[str, ...] = ()) -> Path:
    """The same model once more, written by the gguf library, with other labels or without some tensors."""
    file = GGUFFile(source)
    writer = gguf.GGUFWriter(target, "bert")
    for key, value in file.metadata.items():
        if key.startswith("bert.") and "labels" not in key:
            write: Any = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}[type(value)]
            write(key, value)
    writer.add_string("tokenizer.ggml.model", "no_vocab")
    if labels is not None:
        writer.add_array("bert.classifier.output_labels", labels)
    for name in file.tensors:
        if name not in drop:
            writer.add_tensor(name, np.ascontiguousarray(file.tensor(name).numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.fixture
def own(tmp_path: Path) -> Path:
    written(made(tmp_path / "folder", BERT | named(NAMES)), tmp_path / "own.gguf")
    return tmp_path / "own.gguf"


def test_what_another_writer_made_of_it_scores_the_same(own: Path, tmp_path: Path) -> None:
    found = open_checkpoint(foreign(own, tmp_path / "other.gguf"))
    assert class_names(found.config) == NAMES
    ours = scores(open_checkpoint(own).model("float32"))
    torch.testing.assert_close(scores(found.model("float32")), ours, rtol=0, atol=1e-6)


def test_one_class_needs_no_name(tmp_path: Path) -> None:
    written(made(tmp_path / "folder", BERT | named(["relevant"])), tmp_path / "own.gguf")
    found = open_checkpoint(foreign(tmp_path / "own.gguf", tmp_path / "other.gguf", None))
    assert class_names(found.config) == ["LABEL_0"] and scores(found.model("float32")).shape == (1, 1)


@pytest.mark.parametrize(
    ("labels", "drop", "kind", "said"),
    [
        (None, (), CheckpointError, "names no classes in .*output_labels, and its head has 3"),
        (NAMES[:2], (), CheckpointError, "names 2 classes in .*output_labels, and its head has 3"),
        ([1, 2, 3], (), CheckpointError, "output_labels is .*; expected texts"),
        (NAMES, ("cls.output.weight", "cls.output.bias"), CheckpointError, "names 3 classes and has no head"),
        (NAMES, ("cls.weight", "cls.bias"), UnsupportedError, "a head over classes without cls.weight"),
        (NAMES, ("cls.output.bias",), UnsupportedError, "a head over classes without cls.output.bias"),
    ],
    ids=["no labels", "too few", "numbers", "no head", "no pooler", "no bias"],
)
def test_files_that_are_not_sound_are_refused(
    labels: Any, drop: tuple[str, ...], kind: type[PaddockError], said: str, own: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=said):
        open_checkpoint(foreign(own, tmp_path / "other.gguf", labels, drop))


def test_a_name_that_is_no_utf_8_is_refused(own: Path) -> None:
    own.write_bytes(own.read_bytes().replace("méchant".encode(), b"m\xff\xfechant"))
    with pytest.raises(CheckpointError, match="expected texts in UTF-8"):
        open_checkpoint(own)
