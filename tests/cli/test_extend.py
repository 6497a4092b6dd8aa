"""extend: the folder of a longer model, what it says, and the models that need or take none of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_models import MIXTRAL, write_model

from paddock.checkpoint import safetensors
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.gguf import GGUFFile
from paddock.engine.loading import load
from paddock.engine.locate import bundled
from paddock.model.rotary import LinearScaling, PowerScaling, TruncatedScaling, YarnScaling
from paddock.model.spec import Rope

ROTARY = MIXTRAL | {"max_position_embeddings": 64}


def rope(path: Path) -> Rope:
    position = open_checkpoint(path).architecture.layer(0).attention.position
    assert isinstance(position, Rope)
    return position


@pytest.mark.parametrize(
    ("options", "scaling"),
    [
        (("--scale", 4), LinearScaling(4.0)),
        (("--scale", 2.5, "--rope", "yarn"), YarnScaling(2.5, 512, attention=0.1 * math.log(2.5) + 1.0)),
        (("--scale", 4, "--rope", "power", "--exponent", 0.3), PowerScaling(0.3)),
        (("--scale", 4, "--rope", "truncated"), TruncatedScaling(512.0)),
        (("--scale", 4, "--rope", "truncated", "--cutoff", 100), TruncatedScaling(100.0)),
    ],
)
def test_the_folder_says_what_was_asked(paddock: Callable, tmp_path: Path, options: tuple, scaling: object) -> None:
    goal = tmp_path / "longer"
    run = paddock("extend", "stories260K", "-o", goal, *options, "--json")
    assert run.code == 0, run.err
    context = int(512 * options[1])
    assert (run.json["context_before"], run.json["context"]) == (512, context)
    assert open_checkpoint(goal).architecture.context == context and rope(goal).scaling == scaling
    old, new = (safetensors.read(path / "model.safetensors") for path in (bundled(), goal))
    assert old.keys() == new.keys() and all(old[name].load().equal(new[name].load()) for name in old)
    assert (goal / "LICENSE").read_bytes() == (bundled() / "LICENSE").read_bytes()
    model = load(goal)
    assert model.tokenizer.encode("Once upon") == load().tokenizer.encode("Once upon")
    assert len(model.generate([1] * 600, 3, temperature=0).ids) <= 3, "it reads more than the 512 it was made for"


def test_ntk_is_a_larger_base_that_every_program_reads(paddock: Callable, tmp_path: Path) -> None:
    assert paddock("extend", "-s", 4, "--rope", "ntk", "-o", tmp_path / "a").code == 0
    assert rope(tmp_path / "a") == Rope(10000.0 * 4 ** (8 / 6), 8)
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert config["max_position_embeddings"] == 2048 and config["rope_scaling"] is None


def test_linear_upon_linear_multiplies(paddock: Callable, tmp_path: Path) -> None:
    assert paddock("extend", "-s", 4, "-o", tmp_path / "a").code == 0
    assert paddock("extend", tmp_path / "a", "-s", 2, "-o", tmp_path / "b").code == 0
    assert rope(tmp_path / "b").scaling == LinearScaling(8.0)
    assert open_checkpoint(tmp_path / "b").architecture.context == 4096
    run = paddock("extend", tmp_path / "a", "-s", 2, "--rope", "yarn", "-o", tmp_path / "c")
    assert run.code == 2 and "scaled already (linear)" in run.err and not (tmp_path / "c").exists()


def test_a_table_of_settings_keeps_what_else_it_says(paddock: Callable, tmp_path: Path) -> None:
    """transformers 5 keeps the base in rope_parameters; Vicuna-16k states its whole length beside the table's size."""
    config = {key: value for key, value in ROTARY.items() if key != "rope_theta"}
    config |= {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, "max_sequence_length": 64}
    model = write_model(tmp_path / "m", config)
    assert paddock("extend", model, "-s", 4, "-o", tmp_path / "a").code == 0
    assert rope(tmp_path / "a") == Rope(5e5, 4, scaling=LinearScaling(4.0))
    written = json.loads((tmp_path / "a/config.json").read_text())
    assert written["rope_parameters"]["rope_theta"] == 5e5 and "rope_scaling" not in written
    assert written["max_sequence_length"] == 256 and written["max_position_embeddings"] == 64
    assert paddock("extend", model, "-s", 2, "--rope", "ntk", "-o", tmp_path / "b").code == 0
    assert rope(tmp_path / "b").theta == 5e5 * 2 ** (4 / 2)


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ((), {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0, "context_length": 512}),
        (
            ("--rope", "yarn"),
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 512},
        ),
    ],
)
def test_the_scale_goes_into_gguf(paddock: Callable, tmp_path: Path, options: tuple, keys: dict) -> None:
    assert paddock("extend", "-s", 4, "-o", tmp_path / "a", *options).code == 0
    run = paddock("convert", tmp_path / "a", tmp_path / "a.gguf", "--json")
    assert run.code == 0 and run.json["parity"]["largest_difference"] == 0.0, run.err
    metadata = GGUFFile(tmp_path / "a.gguf").metadata
    assert {key: metadata[f"llama.{key}"] for key in keys} == keys
    assert open_checkpoint(tmp_path / "a.gguf").architecture.context == 2048


def test_giraffes_bases_in_gguf(paddock: Callable, tmp_path: Path) -> None:
    """A power basis as llama.cpp's divisors; a truncated one has frequencies of 0, which no divisor makes."""
    assert paddock("extend", "-s", 4, "--rope", "power", "--exponent", 0.5, "-o", tmp_path / "a").code == 0
    run = paddock("convert", tmp_path / "a", tmp_path / "a.gguf", "--json")
    assert run.code == 0 and run.json["parity"]["largest_difference"] < 1e-3, run.err
    assert "rope_freqs.weight" in GGUFFile(tmp_path / "a.gguf").tensors
    assert paddock("extend", "-s", 4, "--rope", "truncated", "-o", tmp_path / "b").code == 0
    run = paddock("convert", tmp_path / "b", tmp_path / "b.gguf")
    assert run.code == 3 and "frequencies of 0" in run.err and not (tmp_path / "b.gguf").exists()
    for path in ("a.bin", "b.bin"):
        run = paddock("convert", tmp_path / path[0], tmp_path / path)
        assert run.code != 0 and not (tmp_path / path).exists(), "llama2.c files have no place for a scaling"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "there is no --scale"),
        (("-s", 1), "more than 1"),
        (("-s", 0.5), "more than 1"),
        (("-s", -4), "more than 1"),
        (("-s", "nan"), "more than 1"),
        (("-s", "inf"), "more than 1"),
        (("-s", 1e9), "up to 1024"),
        (("-s", "four"), "a number"),
        (("-s", 2, "--rope", "liner"), "did you mean 'linear'"),
        (("-s", 2, "--rope", "xpos"), "there is no scaling"),
        (("-s", 2, "--exponent", 0.1), "a setting of --rope power"),
        (("-s", 2, "--rope", "power", "--exponent", 0), "above 0"),
        (("-s", 2, "--rope", "power", "--cutoff", 9), "a setting of --rope truncated"),
        (("-s", 2, "--rope", "truncated", "--cutoff", "nan"), "above 0"),
    ],
)
def test_what_cannot_be_meant(paddock: Callable, tmp_path: Path, options: tuple, said: str) -> None:
    run = paddock("extend", "stories260K", "-o", tmp_path / "a", *options)
    assert run.code == 2 and said in run.err, run.err
    assert not (tmp_path / "a").exists()


def test_targets_that_cannot_be_meant(paddock: Callable, tmp_path: Path) -> None:
    assert "there is no --output" in paddock("extend", "-s", 2).err
    assert "`paddock convert` makes a file" in paddock("extend", "-s", 2, "-o", tmp_path / "a.gguf").err
    assert paddock("extend", "-s", 2, "-o", tmp_path / "a").code == 0
    assert "--force replaces it" in paddock("extend", "-s", 2, "-o", tmp_path / "a").err


def test_models_without_rotary_positions(paddock: Callable, bert: Path, t5: Path, tmp_path: Path) -> None:
    run = paddock("extend", bert, "-s", 2, "-o", tmp_path / "a")
    assert run.code == 3 and "learned 40 positions" in run.err
    run = paddock("extend", t5, "-s", 2, "-o", tmp_path / "a")
    assert run.code == 2 and "nothing is needed" in run.err
    bloom = {"model_type": "bloom", "vocab_size": 32, "hidden_size": 16, "n_layer": 1, "n_head": 2}
    run = paddock("extend", write_model(tmp_path / "bloom", bloom), "-s", 2, "-o", tmp_path / "a")
    assert run.code == 2 and "nothing is needed" in run.err
    codegen = {"model_type": "codegen", "vocab_size": 32, "n_embd": 32, "n_layer": 1, "n_head": 4, "rotary_dim": 4,
               "n_positions": 32, "n_ctx": 32}  # fmt: skip
    run = paddock("extend", write_model(tmp_path / "codegen", codegen), "-s", 2, "-o", tmp_path / "a")
    assert run.code == 3 and "no place for scaled positions" in run.err
    assert not (tmp_path / "a").exists()
