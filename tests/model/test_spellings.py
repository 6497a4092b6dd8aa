"""Published files spell and duplicate their tensors in several ways; what is none of them is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from family_harness import computed
from family_subjects import Subject, subject_of
from family_table import ROWS
from oracle_table import ORACLE_ROWS
from safetensors.torch import load_file, save_file

from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.errors import CheckpointError, UnsupportedError, UsageError
from paddock.model.families import describe

pytestmark = pytest.mark.filterwarnings("ignore")

BY_NAME = {row.name: row for row in ROWS + ORACLE_ROWS}
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    made: dict[str, Subject] = {}

    def get(name: str) -> Subject:
        if name not in made:
            made[name] = subject_of(BY_NAME[name], tmp_path_factory.mktemp("model"))
        return made[name]

    return get


def respelt(subject: Subject, folder: Path, change: Callable[[Tensors], Tensors], **config: Any) -> Path:
    """The subject's folder again, with other tensors or configuration keys."""
    tensors = change(load_file(subject.folder / "model.safetensors"))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    values = json.loads((subject.folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **config}))
    return folder


def renamed(*pairs: tuple[str, str]) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        found = {}
        for name, tensor in tensors.items():
            for old, new in pairs:
                name = new + name.removeprefix(old[1:]) if old.startswith("^") else name.replace(old, new)
            found[name] = tensor
        return found

    return change


def with_more(**more: torch.Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, **{name.replace("__", "."): tensor for name, tensor in more.items()}}


def outputs(subject: Subject, folder: Path) -> torch.Tensor:
    return computed(open_checkpoint(folder).model(), subject.inputs)[0]


@pytest.mark.parametrize(
    ("row", "first", "change"),
    [
        ("bloom 6 heads", "transformer.", renamed(("^transformer.", ""))),
        ("gpt2", "transformer.", renamed(("^transformer.", ""))),
        ("bert hidden states", "e", renamed(("^", "bert."))),
        (
            "bert hidden states",
            "e",
            renamed(("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")),
        ),
        (
            "bert pre-training",
            "bert.",
            renamed(("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")),
        ),
        ("bert 3 classes", "bert.", renamed(("bert.", ""))),
    ],
)
def test_both_spellings_are_one_model(
    row: str, first: str, change: Callable[[Tensors], Tensors], subjects: Callable[[str], Subject], tmp_path: Path
) -> None:
    subject = subjects(row)
    before = set(load_file(subject.folder / "model.safetensors"))
    assert any(name.startswith(first) for name in before)
    folder = respelt(subject, tmp_path, change)
    assert set(load_file(folder / "model.safetensors")) != before
    assert torch.equal(outputs(subject, folder), computed(subject.model, subject.inputs)[0])


def test_pythia_calls_its_head_embed_out(subjects: Callable[[str], Subject]) -> None:
    names = load_file(subjects("gpt_neox 25 %").folder / "model.safetensors")
    assert "embed_out.weight" in names and "lm_head.weight" not in names


@pytest.mark.parametrize(
    ("row", "buffers"),
    [
        ("llama grouped", ["model.layers.{}.self_attn.rotary_emb.inv_freq"]),
        ("mixtral top 2 of 5", ["model.layers.{}.self_attn.rotary_emb.inv_freq"]),
        (
            "gpt_neox 25 %",
            ["gpt_neox.layers.{}.attention." + b for b in ("rotary_emb.inv_freq", "bias", "masked_bias")],
        ),
        ("falcon 7B", ["transformer.h.{}.self_attention.rotary_emb.inv_freq"]),
        ("falcon 40B", ["transformer.h.{}.self_attention.maybe_rotary.inv_freq"]),
        ("gpt2", ["transformer.h.{}.attn.bias", "h.{}.attn.masked_bias"]),
        ("codegen", ["transformer.h.{}.attn.causal_mask", "transformer.h.{}.attn.masked_bias"]),
        ("bert hidden states", ["embeddings.position_ids", "bert.embeddings.position_ids"]),
        ("t5 relu, tied", ["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"]),
        ("marian shared", ["model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"]),
        ("chatglm 6B", ["transformer.layers.{}.attention.rotary_emb.inv_freq"]),
        ("chatglm2", ["transformer.rotary_pos_emb.inv_freq"]),
    ],
)
def test_recomputed_buffers_are_passed_over(
    row: str, buffers: list[str], subjects: Callable[[str], Subject], tmp_path: Path
) -> None:
    subject = subjects(row)
    more = {name.format(i): torch.ones(3, 2) for name in buffers for i in (0, 1)}
    folder = respelt(subject, tmp_path, lambda tensors: {**tensors, **more})
    assert torch.equal(outputs(subject, folder), computed(subject.model, subject.inputs)[0])


TIED = {
    "llama tied": ("model.embed_tokens.weight", "lm_head.weight"),
    "falcon 7B": ("transformer.word_embeddings.weight", "lm_head.weight"),
    "bloom 6 heads": ("transformer.word_embeddings.weight", "lm_head.weight"),
    "gpt2": ("transformer.wte.weight", "lm_head.weight"),
    "mpt 6 heads": ("transformer.wte.weight", "lm_head.weight"),
    "bert masked tokens": ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
    "marian shared": ("model.shared.weight", "model.encoder.embed_tokens.weight"),
    "t5 relu, tied": ("shared.weight", "encoder.embed_tokens.weight"),
}


@pytest.mark.parametrize("row", TIED)
def test_a_tied_tensor_may_be_stored_again_if_it_is_equal(
    row: str, subjects: Callable[[str], Subject], tmp_path: Path
) -> None:
    subject, (source, copy) = subjects(row), TIED[row]
    folder = respelt(subject, tmp_path, lambda tensors: {**tensors, copy: tensors[source].clone()})
    assert torch.equal(outputs(subject, folder), computed(subject.model, subject.inputs)[0])


@pytest.mark.parametrize("row", TIED)
def test_a_tied_tensor_that_differs_is_refused(row: str, subjects: Callable[[str], Subject], tmp_path: Path) -> None:
    subject, (source, copy) = subjects(row), TIED[row]
    folder = respelt(subject, tmp_path, lambda tensors: {**tensors, copy: tensors[source] + 0.5})
    with pytest.raises(CheckpointError, match="tied to"):
        open_checkpoint(folder).model()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_more(model__layers__0__self_attn__q_norm__weight=torch.ones(8)), "q_norm.weight' is not one that llama"),
        (
            with_more(model__layers__3__input_layernorm__weight=torch.ones(48)),
            "layers.3.* has no place in this model of 3",
        ),
        (with_more(model__layers__0__self_attn__q_proj__bias=torch.ones(48)), "q_proj.bias' has no place"),
        (lambda t: {n: x for n, x in t.items() if "layers.1.mlp.up" not in n}, "lack blocks.1.feedforward.up.weight"),
        (lambda t: {n: x for n, x in t.items() if n != "lm_head.weight"}, "lack head.weight"),
        (lambda t: {**t, "model.norm.weight": torch.ones(47)}, r"norm.weight' has the shape \[47\]; expected \[48\]"),
        (
            lambda t: {**t, "model.layers.0.self_attn.k_proj.weight": torch.ones(48, 16)},
            r"\[48, 16\]; expected \[16, 48\]",
        ),
        (lambda t: {**t, "model.norm.weight": torch.ones(48).int()}, "norm.weight' is stored as torch.int32"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    change: Callable[[Tensors], Tensors], message: str, subjects: Callable[[str], Subject], tmp_path: Path
) -> None:
    folder = respelt(subjects("llama grouped"), tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder).model()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_key_value_head": 2}, "'num_key_value_head'.*did you mean 'num_key_value_heads'"),
        ({"quantum_layers": True}, "does not know: 'quantum_layers'"),
        ({"model_type": "lama"}, "unknown model_type 'lama'; the nearest known is 'llama'"),
        ({"model_type": "mamba"}, "unknown model_type 'mamba'.*expected .*bert, bloom, "),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "fator": 1}}, "in rope_scaling: .*'fator'"),
    ],
)
def test_configurations_that_say_something_else_are_refused(
    config: dict[str, Any], message: str, subjects: Callable[[str], Subject]
) -> None:
    values = json.loads((subjects("llama theta 1e6, old spelling").folder / "config.json").read_text())
    assert describe(values).family == "llama"
    with pytest.raises(UnsupportedError, match="(?s)" + message):
        describe({**values, **config})


def test_a_key_may_be_passed_over_by_name(subjects: Callable[[str], Subject], tmp_path: Path) -> None:
    folder = respelt(subjects("llama grouped"), tmp_path, lambda tensors: tensors, quantum_layers=True)
    with pytest.raises(UnsupportedError, match="quantum_layers"):
        open_checkpoint(folder)
    found = open_checkpoint(folder, ignore_config=["quantum_layers"])
    assert found.architecture.family == "llama" and "quantum_layers" not in found.config
    for wrong, said in ((["quantum_layer"], "did you mean 'quantum_layers'"), ("quantum_layers", "a list of keys")):
        with pytest.raises(UsageError, match=said):
            open_checkpoint(folder, ignore_config=wrong)


def test_types_may_be_mixed_as_in_the_first_chatglm(subjects: Callable[[str], Subject], tmp_path: Path) -> None:
    """Norms in 32 bits beside matrices in 16: the model runs in one type, the matrices'."""

    def narrowed(tensors: Tensors) -> Tensors:
        return {name: t if "layernorm" in name else t.bfloat16() for name, t in tensors.items()}

    subject = subjects("chatglm 6B")
    folder = respelt(subject, tmp_path, narrowed)
    model = open_checkpoint(folder).model()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    expected = computed(subject.model, subject.inputs)[0]
    assert float((computed(model, subject.inputs)[0] - expected).norm() / expected.norm()) < 2e-2
