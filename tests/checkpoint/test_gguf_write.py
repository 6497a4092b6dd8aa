"""GGUF written: the container by the gguf library, the models by Paddock's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import gguf_files
import numpy as np
import pytest
import torch
from gguf_files import CASES, LLAMA
from torch import Tensor

from paddock.checkpoint import folder, gguf_saving
from paddock.checkpoint.block_types import TYPES
from paddock.checkpoint.blocks import DTYPES
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint
from paddock.checkpoint.gguf import GGUFFile
from paddock.checkpoint.gguf_saving import difference, outline
from paddock.checkpoint.gguf_write import Entry, overwrite, size_of, write
from paddock.errors import CheckpointError, UnsupportedError
from paddock.model.families import describe
from paddock.model.transformer import Transformer

VALUES: dict[str, Any] = {
    "general.architecture": "llama",
    "yes": True,
    "small": 7,
    "minus": -7,
    "large": 2**40,
    "half": 0.5,
    "text": "naïve ▁",
    "empty": "",
    "words": ["a", "é▁", "b\udce9"],
    "none": [],
    "scores": np.array([0.5, -1.0], np.float32),
    "types": np.array([1, 2, 3], np.int32),
    "bytes": np.array([0, 255], np.uint8),
    "wide": np.float64(0.1),
    "count": np.uint64(2**63),
}


def entry(name: str, tensor: Tensor, parts: int = 1) -> Entry:
    kind = next(kind for kind in TYPES.values() if DTYPES.get(kind.name) == tensor.dtype)
    return Entry(name, kind, tuple(tensor.shape), lambda: iter(tensor.view(torch.uint8).flatten().chunk(parts)))


def tensors() -> dict[str, Tensor]:
    return {"a.weight": torch.randn(3, 5), "b": torch.randn(7).half(), "c": torch.randn(2, 3, 4).bfloat16()}


def test_the_container_comes_back(tmp_path: Path) -> None:
    path, held = tmp_path / "a.gguf", tensors()
    entries = [entry(name, tensor, 2) for name, tensor in held.items()]
    write(path, VALUES, entries)
    assert path.stat().st_size == size_of(VALUES, entries)
    file = GGUFFile(path)
    for key, value in VALUES.items():
        assert np.array_equal(file.metadata[key], value), key
    for name, tensor in held.items():
        assert torch.equal(file.tensor(name, tensor.dtype), tensor)
    library = gguf.GGUFReader(path)
    assert [t.name for t in library.tensors] == list(held)
    assert np.array_equal(library.tensors[0].data, held["a.weight"].numpy())
    assert library.fields["large"].contents() == 2**40 and library.fields["text"].contents() == VALUES["text"]


def test_numbers_are_put_in_afterwards(tmp_path: Path) -> None:
    path, held = tmp_path / "a.gguf", tensors()
    places = write(path, VALUES, [entry(name, tensor) for name, tensor in held.items()])
    before = GGUFFile(path)
    overwrite(path, places, {"wide": np.float64(0.25), "count": np.uint64(3)})
    after = GGUFFile(path)
    assert after.metadata["wide"] == 0.25 and after.metadata["count"] == 3
    same = VALUES.keys() - {"wide", "count"}
    assert all(np.array_equal(after.metadata[key], before.metadata[key]) for key in same)
    assert torch.equal(after.tensor("a.weight"), held["a.weight"])


@pytest.mark.parametrize("count", [0, 19, 21])
def test_a_tensor_of_another_size_than_announced_is_refused(tmp_path: Path, count: int) -> None:
    wrong = Entry("a", TYPES[0], (5,), lambda: iter([torch.zeros(count, dtype=torch.uint8)]))
    with pytest.raises(CheckpointError, match="expected 20"):
        write(tmp_path / "a.gguf", {}, [wrong])


def held(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Every tensor of the outline, whole."""
    result = {}
    for tensor in outline(checkpoint).tensors:
        result[tensor.name] = torch.cat([piece.load() for piece in tensor.pieces]).reshape(tensor.shape)
    return result


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"mixtral-per-expert"}))
def test_every_family_is_outlined_as_the_converter_writes_it(name: str, tmp_path: Path) -> None:
    """`gguf_files.convert` is an oracle of its own: llama.cpp computes the right logits from its files."""
    case = CASES[name]
    model, published = gguf_files.make(case, tmp_path)
    if case.architecture == "chatglm":
        published = gguf_files.as_chatglm2(published)
    gguf_files.convert(case, model, published, tmp_path / "model.gguf")
    theirs = GGUFFile(tmp_path / "model.gguf")
    source = tmp_path / "model.gguf" if case.architecture == "chatglm" else tmp_path
    ours = held(open_checkpoint(source))
    assert ours.keys() == theirs.tensors.keys()
    for tensor in ours:
        assert torch.equal(ours[tensor].float(), theirs.tensor(tensor)), tensor
    metadata = outline(open_checkpoint(source)).metadata
    for key in metadata.keys() & theirs.metadata.keys() - {"bloom.context_length"}:  # theirs is a stand-in
        same = metadata[key] == pytest.approx(theirs.metadata[key])
        assert same, key


def made(tmp_path: Path, config: dict[str, Any]) -> Checkpoint:
    model = Transformer(describe(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    folder.write(tmp_path, model, config)
    return open_checkpoint(tmp_path)


MODEL = {"model_type": "llama", **LLAMA}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_scaling": YARN | {"attention_factor": 1.5}}, "position"),
        ({"hidden_act": "relu"}, "activation"),
        ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8}, "block"),
        ({"model_type": "falcon", "alibi": True}, "rotary"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_gguf_cannot_say_is_refused_before_anything_is_written(tmp_path: Path, change: dict, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        outline(made(tmp_path, falcon() if change.get("model_type") == "falcon" else MODEL | change))


def falcon() -> dict[str, Any]:
    return {"model_type": "falcon", "alibi": True, "parallel_attn": False, "multi_query": False, **gguf_files.FALCON}


def test_a_family_that_llama_cpp_lacks_is_refused(tmp_path: Path) -> None:
    config = {"model_type": "codegen", "n_embd": 32, "n_head": 4, "n_layer": 1, "vocab_size": 16, "rotary_dim": 4}
    with pytest.raises(UnsupportedError, match="no architecture for codegen"):
        outline(made(tmp_path, config))


@pytest.mark.parametrize(
    "change",
    [
        {"rope_scaling": YARN},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"model_type": "mistral", "sliding_window": 8},
        {"attention_bias": True},
        {"tie_word_embeddings": True},
    ],
    ids=str,
)
def test_what_gguf_can_say_comes_back(tmp_path: Path, change: dict) -> None:
    checkpoint = made(tmp_path, MODEL | change)
    outline(checkpoint)
    assert difference(checkpoint.architecture, checkpoint.architecture) is None


def test_a_reader_that_sees_another_model_stops_the_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = made(tmp_path, MODEL)
    described = gguf_saving.keys.described
    wrong = {"llama.attention.layer_norm_rms_epsilon": 1e-3}
    monkeypatch.setattr(gguf_saving.keys, "described", lambda *given: described(*given) | wrong)
    with pytest.raises(UnsupportedError, match=r"norm\.eps"):
        outline(checkpoint)


def test_trained_heads_of_an_encoder_are_not_dropped(tmp_path: Path) -> None:
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 16, "hidden_size": 8}
    config |= {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 8}
    with pytest.raises(UnsupportedError, match="no place"):
        outline(made(tmp_path, config))
