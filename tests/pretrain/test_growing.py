"""A model grown within a recipe: the same function at first, every new number trained, and what cannot be meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import paddock
from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.engine.locate import bundled
from paddock.errors import PaddockError, UnsupportedError, UsageError
from paddock.model.families import describe
from paddock.model.initialise import initialise
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.pretrain.growing import grown
from paddock.pretrain.recipe import Pretraining
from paddock.pretrain.stage import pretrain
from paddock.training import recipe_files
from paddock.training.parallel import Alone

GROUPED = {
    "model_type": "llama",
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-2,
}
ALL = {
    "hidden_size": 24,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "head_dim": 12,
    "intermediate_size": 40,
}


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """A LLaMA with a head of its own and an eps large enough to tell whether it was scaled."""
    model = initialise(Transformer(describe(GROUPED)), 0, deviation=0.2)
    folder.write(tmp_path / "grouped", model, GROUPED, {})
    return tmp_path / "grouped"


def logits(model: Transformer, ids: torch.Tensor) -> torch.Tensor:
    return model(ids, Step.begin(model.architecture, ids))


@pytest.mark.parametrize("sizes", [{key: size} for key, size in ALL.items()] + [ALL], ids=[*ALL, "all"])
def test_it_begins_as_the_same_function(grouped: Path, sizes: dict[str, int], tmp_path: Path) -> None:
    checkpoint = open_checkpoint(grouped)
    small = checkpoint.model(torch.float32).double()
    large, config = grown(checkpoint, sizes, 0)
    ids = torch.randint(0, 48, (2, 40), generator=torch.Generator().manual_seed(1))
    before, after = logits(small, ids), logits(large.double(), ids)
    assert before.std() > 0.3
    assert torch.allclose(before, after, atol=1e-6), (before - after).abs().max()
    folder.write(tmp_path / "large", large.float(), config, {})
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "large", dtype=torch.float64)
    assert torch.allclose(before, theirs(ids).logits, atol=1e-6), "transformers reads config.json as it was meant"
    assert {key: theirs.config.to_dict()[key] for key in sizes} == sizes


def test_the_bundled_model_at_twenty_times_its_size() -> None:
    sizes = {"hidden_size": 256, "num_hidden_layers": 7, "head_dim": 32, "intermediate_size": 688}
    checkpoint = open_checkpoint(bundled())
    large, _ = grown(checkpoint, sizes, 0)
    assert sum(p.numel() for p in large.parameters()) == 5_209_856
    ids = torch.tensor([paddock.load().tokenizer.encode("Once upon a time, there was a girl. She had a red ball.")])
    assert torch.allclose(logits(checkpoint.model(torch.float32), ids), logits(large, ids), atol=1e-4)


def test_every_new_number_is_trained(grouped: Path) -> None:
    model = grown(open_checkpoint(grouped), ALL, 0)[0].double()
    ids = torch.arange(48).reshape(2, 24)
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(model, ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
    still = {name: int((p == first[name]).sum()) for name, p in model.named_parameters()}
    unseen = (48 - 46) * 24 if still["embedding.tokens.weight"] else 0  # the last tokens of rows are only asked for
    assert still.pop("embedding.tokens.weight") <= unseen
    assert max(still.values()) <= 2, {name: count for name, count in still.items() if count > 2}


def test_equal_seeds_give_equal_numbers(grouped: Path) -> None:
    checkpoint = open_checkpoint(grouped)
    models = [dict(grown(checkpoint, ALL, seed)[0].named_parameters()) for seed in (0, 0, 1)]
    name = "blocks.0.feedforward.up.weight"
    assert models[0].keys() == models[1].keys()
    assert all(models[0][key].equal(models[1][key]) for key in models[0])
    assert not models[0][name].equal(models[2][name])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "model.grow is '{}'"),
        (None, "model.grow is 'None'"),
        ([4], "some of hidden_size"),
        ({"hidden_sise": 24}, "did you mean 'hidden_size'"),
        ({"vocab_size": 99}, "has no 'vocab_size'"),
        ({"hidden_size": 8}, "from 16, the model's"),
        ({"hidden_size": 16.5}, "hidden_size 16.5"),
        ({"hidden_size": True}, "hidden_size True"),
        ({"hidden_size": "24"}, "hidden_size 24"),
        ({"num_hidden_layers": 10**9}, "to 192"),
        ({"num_attention_heads": 5}, "a multiple of the model's 2"),
        ({"head_dim": 6}, "a multiple of the model's 4"),
        ({"hidden_size": 18}, "which 4 heads cannot share evenly"),
    ],
    ids=range(13),
)
def test_sizes_that_cannot_be_meant(grouped: Path, asked: object, said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        grown(open_checkpoint(grouped), asked, 0)
    assert said in str(refusal.value), str(refusal.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mistral"}, "this mistral cannot be grown"),
        ({"attention_bias": True}, "no biases"),
        ({"mlp_bias": True}, "no biases"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "scaled or partial"),
    ],
    ids=["family", "attention", "feedforward", "rope"],
)
def test_models_that_cannot_be_grown(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    config = GROUPED | change
    folder.write(tmp_path / "other", initialise(Transformer(describe(config)), 0), config, {})
    with pytest.raises(UnsupportedError) as refusal:
        grown(open_checkpoint(tmp_path / "other"), {"hidden_size": 32}, 0)
    assert said in str(refusal.value)


def recipe(model: dict[str, Any]) -> Pretraining:
    data = {"sources": [{"files": ["text.txt"], "separator": "\n"}], "length": 32, "validation": 0}
    training = {"steps": 2, "batch": 2, "precision": "float32", "checkpoints": "every:1"}
    values = {"stage": "pretrain", "model": model, "tokenizer": {"path": "stories260K"}, "data": data}
    return recipe_files.validated(Pretraining, {**values, "training": training}, "grown")


def test_a_recipe_grows_the_model_it_goes_on_from(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Once upon a time there was a cat.\n" * 8)
    start = {"from": "stories260K"}
    sizes = {"hidden_size": 96, "num_hidden_layers": 6}
    small = pretrain(recipe(start), tmp_path, tmp_path / "small", Alone(torch.device("cpu")))
    large = pretrain(recipe(start | {"grow": sizes}), tmp_path, tmp_path / "large", Alone(torch.device("cpu")))
    first = [(run.parent / "metrics.jsonl").read_text().splitlines()[0] for run in (small, large)]
    assert first[0][:1] == "{" and _loss(first[0]) == pytest.approx(_loss(first[1]), abs=1e-5)
    model = paddock.load(large)
    assert (model.architecture.width, model.architecture.blocks) == (96, 6)
    with pytest.raises(PaddockError, match="hidden_size"):
        pretrain(recipe(start | {"hidden_size": 96}), tmp_path, tmp_path / "no", Alone(torch.device("cpu")))


def _loss(line: str) -> float:
    return float(json.loads(line)["loss"])
