"""Models described without their weights: groups counted by formula, bytes of formats, every way to name a subject."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_models import CONFIGS, LLAMA, write_config, write_folder

from paddock.catalog.fit import formats, groups, held, subject
from paddock.catalog.weighing import part_of
from paddock.checkpoint.checkpoint import open_checkpoint, understand
from paddock.checkpoint.weights import sketch
from paddock.engine.locate import bundled
from paddock.errors import CheckpointError, InputError, UsageError
from paddock.kernels.native import library
from paddock.kernels.packed import AFFINE, BLOCKS, PLAIN, Packed
from paddock.model.initialise import blank
from paddock.model.recording import recordable
from paddock.model.transformer import Transformer
from paddock.training.scale import parameters

native = pytest.mark.skipif(library() is None, reason="the native kernels are not here")


@pytest.mark.parametrize("name", CONFIGS)
def test_groups_are_the_parameters_of_the_model(name: str) -> None:
    architecture = understand(CONFIGS[name])
    counted: dict[tuple[str, tuple[int, ...]], int] = {}
    for path, parameter in sketch(architecture).named_parameters():
        key = part_of(path), tuple(parameter.shape)
        counted[key] = counted.get(key, 0) + 1
    found: dict[tuple[str, tuple[int, ...]], int] = {}
    for group in groups.of(architecture, "bf16"):
        key = group.role, group.shape
        found[key] = found.get(key, 0) + group.count
    assert found == counted
    assert sum(group.numbers for group in groups.of(architecture, "bf16")) == parameters(architecture)


@native
@pytest.mark.parametrize("name", CONFIGS)
def test_what_runs_natively_is_known_from_the_description(name: str) -> None:
    architecture = understand(CONFIGS[name])
    assert held.runs_natively(architecture) == recordable(blank(Transformer(architecture)))


def packed(kind: str, rows: int, columns: int) -> Packed:
    """A matrix of zeros as the kernels hold it."""
    name = kind.upper()
    if kind in formats.PLAIN:
        dtype = next(dtype for dtype, short in PLAIN.items() if short == kind)
        return Packed.plain(torch.zeros(rows, columns, dtype=dtype))
    if name in BLOCKS:
        return Packed.of(name, (torch.zeros(rows, formats.file_bytes(kind, 1, columns), dtype=torch.uint8),), columns)
    codes = torch.zeros(rows, columns, dtype=torch.uint8)
    if kind == "nf4":
        return Packed.of("NF4", (codes, torch.ones(rows, columns // 64)), columns)
    groups_ = columns // 32
    return Packed.of(
        name, (codes, torch.ones(rows, groups_, dtype=torch.float16), torch.zeros(rows, groups_).byte()), columns
    )


@native
@pytest.mark.parametrize("kind", [*formats.CODES, *formats.PLAIN, "nf4"])
def test_tiles_take_what_the_kernels_say(kind: str) -> None:
    assert set(formats.CODES) == {name.lower() for name in (*BLOCKS, *AFFINE)}
    for rows, columns in ((16, 256), (33, 512), (7, 64), (50, 1088)):
        if formats.fits_kernels(kind, columns):
            whole = formats.packed_bytes(kind, rows, columns)
            assert whole == packed(kind, rows, columns).nbytes, (rows, columns)
            assert 0 < formats.code_bytes(kind, rows, columns) <= whole


def shared(found: Iterable[groups.Group]) -> Counter[groups.Group]:
    """How many tensors there are of each kind, whatever the groups they were counted in."""
    counts: Counter[groups.Group] = Counter()
    for group in found:
        counts[replace(group, name=group.role, count=1)] += group.count
    return counts


@pytest.mark.parametrize("name", ["llama tied", "gpt_neox", "gpt2", "bert", "t5"])
def test_a_config_says_what_the_folder_with_weights_says(name: str, tmp_path: Path) -> None:
    config = {**CONFIGS[name], "torch_dtype": "float16"}
    whole = subject.read(write_folder(tmp_path / "whole", config, torch.float16))
    alone = subject.read(write_config(tmp_path / "alone", config))
    lone = subject.read(tmp_path / "alone" / "config.json")
    assert (whole.source, alone.source, lone.source) == ("folder", "config", "config")
    assert alone.groups == lone.groups and shared(alone.groups) == shared(whole.groups)
    for found in (whole, alone):
        assert found.dtype == "float16" and found.stored == 2 * found.parameters
        assert found.parameters == parameters(found.known())
    copied = {g.role for g in whole.groups if not g.view}
    assert copied == {"gpt_neox": {"attention.q", "attention.k", "attention.v"}}.get(name, copied)


def test_the_bundled_model_and_llama2c_files(shared_data: Path) -> None:
    own, there = subject.read(None), shared_data / "weights" / "llama2c"
    assert (own.name, own.parameters, own.active, own.stored) == ("stories260K", 260_032, 260_032, 1_040_128)
    assert subject.read(bundled()) == own
    float32, int8 = subject.read(there / "stories260K.bin"), subject.read(there / "stories260K-q8.bin")
    assert (float32.source, float32.parameters) == ("llama2.c", 260_032)
    assert {group.role for group in float32.groups if not group.view} == {"attention.q", "attention.k"}
    assert not any(group.view for group in int8.groups if group.matrix)  # expanded to float32 as they are read


def test_quantised_folders_are_known_from_their_config(tmp_path: Path) -> None:
    config = {**LLAMA, "hidden_size": 128, "intermediate_size": 256, "torch_dtype": "float16"}
    for settings, kind in (
        ({"quant_method": "gptq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
    ):
        found = subject.read(write_config(tmp_path, {**config, "quantization_config": settings}))
        assert found.quantised
        for group in found.groups:
            inside = group.matrix and group.name.startswith("blocks.")
            assert group.kind == (kind if inside else "f16"), group
    for settings in ({"quant_method": "hqq"}, {"quant_method": "gptq", "bits": 3}, "4 bits"):
        with pytest.raises(InputError):
            subject.read(write_config(tmp_path, {**config, "quantization_config": settings}))


def test_active_leaves_out_idle_experts() -> None:
    found = subject.of_config(CONFIGS["mixtral"], "sparse", "config")
    each = 3 * 64 * 96
    assert found.parameters - (found.active or 0) == 3 * 2 * each


ABSURD: list[dict[str, Any]] = [
    {"num_hidden_layers": 10**6},
    {"num_hidden_layers": -3},
    {"hidden_size": 2**40},
    {"vocab_size": 0},
    {"num_attention_heads": 0},
    {"intermediate_size": 1e400},
    {"num_hidden_layers": "three"},
    {"hidden_size": [64]},
]


@pytest.mark.parametrize("wrong", ABSURD, ids=str)
def test_absurd_numbers_are_refused_at_once(wrong: dict[str, Any], tmp_path: Path) -> None:
    started = time.perf_counter()
    with pytest.raises(CheckpointError):
        subject.read(write_config(tmp_path, {**LLAMA, **wrong}))
    assert time.perf_counter() - started < 5


def test_huge_but_possible_numbers_are_counted_in_whole_numbers() -> None:
    most = 2**24
    config = {**LLAMA, "num_hidden_layers": 4096, "vocab_size": most, "hidden_size": most, "intermediate_size": most,
              "num_attention_heads": 2**10, "num_key_value_heads": 2**10, "model_type": "mixtral",
              "num_local_experts": 4096}  # fmt: skip
    started = time.perf_counter()
    found = subject.of_config(config, "huge", "config")
    assert time.perf_counter() - started < 5
    assert found.parameters > 4096 * 4096 * 3 * most * most
    assert found.stored == 2 * found.parameters


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_type": 3}', '{"model_type"', "\x00\xff", "null"], ids=repr)
def test_broken_config_files_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError):
        subject.read(file)


def test_a_type_that_paddock_does_not_run_is_a_subject_all_the_same(tmp_path: Path) -> None:
    found = subject.read(write_config(tmp_path, {"model_type": "mamba", "hidden_size": 64}))
    assert found.architecture is None and found.why is not None and "mamba" in found.why
    with pytest.raises(CheckpointError, match="mamba"):
        found.known()


def test_names(tmp_path: Path) -> None:
    llama = subject.read("llama-1-7b")
    assert (llama.source, llama.parameters, llama.known().blocks) == ("catalogue", 6_738_415_616, 32)
    assert subject.read("huggyllama/llama-7b") == llama
    with pytest.raises(UsageError, match="nearest known is 'llama-1-7b'"):
        subject.read("lama-1-7b")
    with pytest.raises(UsageError, match="nearest known is 'stories260K'"):
        subject.read("storys260k")
    with pytest.raises(UsageError, match="sizes"):
        subject.read("bloom")
    with pytest.raises(InputError):
        subject.read(str(tmp_path / "nothing.gguf"))
    for odd in ("", "\0", "x" * 5000, "./nothing"):
        with pytest.raises((UsageError, InputError)):
            subject.read(odd)


def test_an_adapter_is_its_base_and_its_own_bytes(tmp_path: Path) -> None:
    write_folder(tmp_path / "base", LLAMA, torch.float32)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "../base"}))
    (adapter / "adapter_model.safetensors").write_bytes(bytes(1000))
    found, base = subject.read(adapter), subject.read(tmp_path / "base")
    assert found.adapter == 1000 and found.name == "base with adapter"
    assert found.groups == base.groups


def test_missing_and_foreign_tensors_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, LLAMA, torch.float32)
    config = json.loads((tmp_path / "config.json").read_text())
    for layers in (2, 4):
        (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
        with pytest.raises(CheckpointError):
            subject.read(tmp_path)


def quantised_file(path: Path, kind: str = "q8_0") -> Path:
    """The LLaMA of 128 as a GGUF file."""
    from paddock.quantize.gguf_file import write_gguf

    config = {**LLAMA, "hidden_size": 128, "intermediate_size": 256}
    write_gguf(open_checkpoint(write_folder(path.parent / "plain", config, torch.float32)), path, kind)
    return path


def test_a_gguf_file_is_known_by_its_header_alone(tmp_path: Path) -> None:
    whole = quantised_file(tmp_path / "m.gguf")
    found = subject.read(whole)
    assert (found.source, found.quantised, found.dtype) == ("gguf", True, "float32")
    assert {group.kind for group in found.groups if group.matrix} == {"q8_0"}
    assert {group.role for group in found.groups if group.matrix} >= {"head", "attention.q", "feedforward.down"}
    data, weights = whole.read_bytes(), (found.stored or 0) // 34 * 30
    header = tmp_path / "header.gguf"
    header.write_bytes(data[: len(data) - weights])
    assert replace(subject.read(header), name=found.name) == found
    for size in (0, 3, 30, 300):
        header.write_bytes(data[:size])
        with pytest.raises(InputError):
            subject.read(header)


def test_weighing_agrees_with_the_groups() -> None:
    from paddock.catalog.weighing import weigh

    checkpoint = open_checkpoint(bundled())
    weights = weigh(checkpoint)
    assert weights.parameters == sum(group.numbers for group in subject.read(None).groups)
