"""GGUF models come back under their published names, layouts and configuration, and compute what they computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import gguf_files
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf_files import CASES, LLAMA
from torch import Tensor

from paddock.checkpoint import gguf_families
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.gguf import GGUFFile
from paddock.checkpoint.rows import grouped, half_rotation, interleaved_rotation
from paddock.errors import CheckpointError, PaddockError, UnsupportedError
from paddock.model.families import FAMILIES
from paddock.model.step import Step

IDS = torch.tensor([[1, 17, 42, 5, 93, 8, 61, 30, 30, 77, 12]])
SOURCE = torch.tensor([[9, 71, 23, 4, 50, 88, 2]])
# Keys whose values differ from the tiny model's config with reason: GGUF has its own vocabulary's ids, says the default
# aloud, or says in another way what transformers says.
OTHERWISE = {"bos_token_id", "eos_token_id", "pad_token_id", "dtype", "rope_scaling", "rope_theta", "model_type"}
OTHERWISE |= {"attn_config", "learned_pos_emb", "num_kv_heads", "head_dim", "architectures", "n_inner"}


@pytest.fixture(params=CASES)
def converted(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any, dict[str, Tensor], Path]:
    """(name, transformers model, its published tensors, the GGUF file of it)."""
    case = CASES[request.param]
    model, tensors = gguf_files.make(case, tmp_path)
    if case.architecture == "chatglm":
        tensors = gguf_files.as_chatglm2(tensors)
    gguf_files.convert(case, model, tensors, tmp_path / "model.gguf")
    return request.param, model, tensors, tmp_path / "model.gguf"


@torch.no_grad()
def test_round_trip(converted: tuple[str, Any, dict[str, Tensor], Path]) -> None:
    name, model, published, path = converted
    config, stored = gguf_families.read(path)
    assert stored.keys() == published.keys()
    for key, entry in stored.items():
        tensor = entry.load()
        assert torch.equal(tensor, published[key]), key
        assert (tuple(tensor.shape), tensor.dtype) == (entry.shape, entry.dtype), key
        entry.release()
    theirs = model.config.to_dict()
    theirs["tie_word_embeddings"] = theirs["tie_word_embeddings"] and not CASES[name].untie
    compared = {key: value for key, value in config.items() if key in theirs and key not in OTHERWISE}
    assert len(compared) >= {"chatglm": 3, "bloom": 6, "mpt": 7, "mpt-clip": 7}.get(name, 8)
    assert compared == {key: theirs[key] for key in compared}
    assert [config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]] == [1, 2, 0]
    json.dumps(config)  # it can be saved as a config.json


@torch.no_grad()
def test_paddock_computes_what_transformers_does(converted: tuple[str, Any, dict[str, Tensor], Path]) -> None:
    name, model, _, path = converted
    ours = open_checkpoint(path).model()
    if name == "bert":
        pair = ours.hidden(IDS, Step.begin(ours.architecture, IDS)), model(input_ids=IDS).last_hidden_state
    elif name.startswith("t5"):
        memory = ours.encode(SOURCE)
        pair = (
            ours(IDS, Step.begin(ours.architecture, IDS, memory=memory)),
            model(input_ids=SOURCE, decoder_input_ids=IDS).logits,
        )
    else:
        pair = ours(IDS, Step.begin(ours.architecture, IDS)), model(input_ids=IDS).logits
    assert ((pair[0] - pair[1]).norm() / pair[1].norm()).item() < 1e-5


def test_every_family_of_the_converter_is_one_that_paddock_runs() -> None:
    assert {case.architecture for case in CASES.values()} == set(gguf_families.FAMILIES)
    assert {"llama", "mixtral", "qwen2", "falcon", "mpt", "bloom", "gpt_neox", "gpt2", "bert", "t5"} <= set(FAMILIES)


@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["llama", "mixtral", "gpt2", "falcon-40b"])
def test_quantised_matrices_keep_their_rows(tmp_path: Path, name: str, kind: Kind) -> None:
    """Rows are reordered after they are dequantised, and an expert is cut out of its stack by whole blocks."""
    case = CASES[name]
    model, published = gguf_files.make(case, tmp_path)
    gguf_files.convert(case, model, published, tmp_path / "model.gguf", kind)
    config, stored = gguf_families.read(tmp_path / "model.gguf")
    dtype = {Kind.F16: torch.float16, Kind.BF16: torch.bfloat16}.get(kind, torch.float32)
    assert config["dtype"] == str(dtype).removeprefix("torch.")
    assert sum(entry.dtype == dtype for entry in stored.values()) > len(stored) / 4
    loosest = {Kind.F16: 1e-3, Kind.BF16: 8e-3, Kind.Q8_0: 2e-2, Kind.Q4_0: 0.2}[kind]
    for key, tensor in published.items():
        error = (stored[key].load().float() - tensor).abs().max() / tensor.abs().max()
        assert error <= loosest, key


def test_rows_of_the_three_orders() -> None:
    weight = torch.randn(8 * 4, 6)
    assert torch.equal(interleaved_rotation(half_rotation(weight, 4), 4), weight)
    q, k, v = torch.arange(8), torch.arange(100, 104), torch.arange(200, 204)  # 4 heads of 2, 2 key-value heads
    expected = [0, 1, 2, 3, 100, 101, 200, 201, 4, 5, 6, 7, 102, 103, 202, 203]
    assert grouped(torch.cat([q, k, v]), 4, 2, 2).tolist() == expected


def test_llama3_scaling_comes_back_as_its_divisors(tmp_path: Path) -> None:
    case = CASES["llama3"]
    model, tensors = gguf_files.make(case, tmp_path)
    gguf_files.convert(case, model, tensors, tmp_path / "model.gguf")
    config, stored = gguf_families.read(tmp_path / "model.gguf")
    unscaled = 500000.0 ** -(torch.arange(0, 16, 2).double() / 16)
    theirs = model.model.rotary_emb.inv_freq.double()
    factors = torch.tensor(config["rope_scaling"]["factors"], dtype=torch.float64)
    assert config["rope_scaling"]["rope_type"] == "factors" and "rope_freqs.weight" not in stored
    assert torch.allclose(unscaled / factors, theirs, rtol=1e-6)
    assert len(set(factors.tolist())) > 1


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_published_llama3_scaling_comes_back_as_its_four_numbers(tmp_path: Path, factor: float) -> None:
    """Llama 3.1 and 3.2: the folder made from such a file must be one that every tool reads."""
    published = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    published["original_max_position_embeddings"] = 8192
    config = gguf_files.LLAMA | {"rope_parameters": {"rope_theta": 500000.0, **published}}
    case = gguf_files.Case("Llama", config, "llama")
    model, tensors = gguf_files.make(case, tmp_path)
    gguf_files.convert(case, model, tensors, tmp_path / "model.gguf")
    assert gguf_families.read(tmp_path / "model.gguf")[0]["rope_scaling"] == published


HEAD = {"llama__context_length": 64, "llama__embedding_length": 8, "llama__block_count": 1}
HEAD |= {"llama__feed_forward_length": 8, "llama__attention__head_count": 2}
HEAD |= {"llama__attention__layer_norm_rms_epsilon": 1e-5}
TABLE = {"token_embd.weight": np.zeros((4, 8), np.float32)}


def llama(tmp_path: Path, tensors: dict[str, np.ndarray] | None = None, **metadata: Any) -> Path:
    kept = {key: value for key, value in (HEAD | metadata).items() if value is not None}
    return gguf_files.simple(tmp_path / "model.gguf", TABLE | (tensors or {}), **kept)


def test_the_least_llama_reads(tmp_path: Path) -> None:
    config, stored = gguf_families.read(llama(tmp_path))
    assert config["model_type"] == "llama" and config["num_key_value_heads"] == 2 and config["head_dim"] == 4
    assert config["rms_norm_eps"] == 1e-5 and config["tie_word_embeddings"] and config["bos_token_id"] is None
    assert list(stored) == ["model.embed_tokens.weight"]


def test_windows_scaling_and_ends_are_told(tmp_path: Path) -> None:
    yarn = {"llama__rope__scaling__type": "yarn", "llama__rope__scaling__factor": 4.0}
    yarn |= {"llama__rope__scaling__original_context_length": 32}
    ends = {"tokenizer__ggml__eos_token_id": 2, "tokenizer__ggml__eot_token_id": 3}
    config, _ = gguf_families.read(llama(tmp_path, llama__attention__sliding_window=16, **yarn, **ends))
    assert config["model_type"] == "mistral" and config["sliding_window"] == 16
    expected = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0}
    assert config["rope_scaling"] == expected | {"original_max_position_embeddings": 32}
    assert config["eos_token_id"] == [2, 3]
    config, _ = gguf_families.read(llama(tmp_path, llama__attention__head_count_kv=[1, 1]))
    assert config["num_key_value_heads"] == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"architecture": "lama"}, "llama"),
        ({"architecture": "rwkv6"}, "rwkv6"),
        ({"general__type": "adapter"}, "adapter"),
        ({"split__count": 3}, "merge"),
        ({"llama__context_length": None}, "lacks"),
        ({"llama__block_count": 0}, "from 1"),
        ({"llama__block_count": 5000}, "4096"),
        ({"llama__block_count": "two"}, "whole number"),
        ({"llama__attention__head_count": True}, "whole number"),
        ({"llama__attention__head_count_kv": 3}, "divide"),
        ({"llama__attention__head_count_kv": [1, 2]}, "layer to layer"),
        ({"llama__attention__layer_norm_rms_epsilon": float("nan")}, "number"),
        ({"llama__attention__layer_norm_rms_epsilon": float("inf")}, "number"),
        ({"llama__attention__value_length": 2}, "widths"),
        ({"llama__rope__dimension_count": 2}, "rotates"),
        ({"llama__rope__scaling__type": "longrope"}, "longrope"),
        ({"llama__rope__scaling__yarn_attn_factor": 1.5}, "YaRN"),
        ({"llama__rope__freq_base": 0.0}, "number"),
        ({"llama__logit_scale": 0.5}, "logit_scale"),
        ({"llama__expert_count": 70000}, "4096"),
        ({"tokenizer__ggml__bos_token_id": "one"}, "bos"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_settings_that_cannot_be_meant_or_run_are_refused(tmp_path: Path, change: dict, why: str) -> None:
    with pytest.raises(PaddockError, match=why):
        gguf_families.read(llama(tmp_path, **change))


@pytest.mark.parametrize(
    "tensors",
    [
        {"blk.0.attn_q.scale": (8, 8)},
        {"blk.0.attn_sinks.weight": (8,)},
        {"blk.9999.attn_norm.weight": (8,)},
        {"blk.٣.attn_norm.weight": (8,)},
        {"blk.00000000000000000000000001.attn_norm.weight": (8,)},
        {"blk.0.attn_q.weight": (7, 8)},
        {"blk.0.attn_q.weight": (2, 8)},
        {"blk.0.ffn_gate_exps.weight": (8, 8)},
        {"blk.0.ffn_gate_exps.weight": (2, 8, 8), "blk.0.ffn_gate.1.weight": (8, 8)},
        {"rope_freqs.weight": (3,)},
        {"weight": (8,)},
    ],
    ids=lambda tensors: next(iter(tensors)),
)
def test_tensors_that_fit_no_place_are_refused(tmp_path: Path, tensors: dict) -> None:
    arrays = {name: np.ones(shape, np.float32) for name, shape in tensors.items()}
    with pytest.raises(CheckpointError):
        gguf_families.read(llama(tmp_path, arrays))


def test_rope_factors_that_are_no_divisors_are_refused(tmp_path: Path) -> None:
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(CheckpointError, match="factor"):
            gguf_families.read(llama(tmp_path, {"rope_freqs.weight": np.array([1.0, wrong], np.float32)}))


def test_missing_table_is_named(tmp_path: Path) -> None:
    path = gguf_files.simple(tmp_path / "model.gguf", {}, **HEAD)
    with pytest.raises(CheckpointError, match=r"token_embd\.weight"):
        gguf_families.read(path)


def test_unreadable_types_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    for key, value in HEAD.items():
        (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key.replace("__", "."), value)
    writer.add_tensor("token_embd.weight", np.zeros((4, 66), np.uint8), raw_dtype=Kind.IQ2_XXS)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    assert GGUFFile(tmp_path / "model.gguf").tensors["token_embd.weight"].shape == (4, 256)
    with pytest.raises(UnsupportedError, match="IQ2_XXS"):
        gguf_families.read(tmp_path / "model.gguf")


def test_umt5_is_refused(tmp_path: Path) -> None:
    case = CASES["t5"]
    model, tensors = gguf_files.make(case, tmp_path)
    bias = {
        f"encoder.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight": torch.ones(32, 4) for i in (1, 2)
    }
    gguf_files.convert(case, model, tensors | bias, tmp_path / "model.gguf")
    with pytest.raises(UnsupportedError, match="UMT5"):
        gguf_families.read(tmp_path / "model.gguf")


def test_llama_cases_use_all_of_the_shared_sizes() -> None:
    assert LLAMA["num_attention_heads"] != LLAMA["num_key_value_heads"]  # else grouped heads would go untested
