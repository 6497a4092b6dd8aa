"""GPTQ, AWQ and bitsandbytes folders: they mean what their formats say, and what is malformed is refused."""

from __future__ import annotations

import base64
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import damage
import limits
import packed_folders as packed
import pytest
import tiny_folder as tiny
import torch
from packed_folders import Folder
from torch import Tensor

import paddock
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint
from paddock.errors import CheckpointError, InputError, UnsupportedError
from paddock.kernels.nf4 import NF4_LEVELS
from paddock.model.step import Step

FP4_LEVELS = [0, 0.0052, 0.6667, 1, 0.3333, 0.5, 0.1667, 0.25, 0, -0.0052, -0.6667, -1, -0.3333, -0.5, -0.1667, -0.25]
Q, MODULE = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj"
GOLDEN = json.loads((Path(__file__).parent / "bitsandbytes.json").read_text())


def same(checkpoint: Checkpoint, folder: Folder) -> None:
    """Names, shapes and every number; and the model that is built of them."""
    assert checkpoint.tensors.keys() == folder.plain.keys()
    for name, expected in folder.plain.items():
        stored = checkpoint.tensors[name]
        assert stored.shape == tuple(expected.shape)
        found = stored.load()
        assert found.dtype == stored.dtype and torch.equal(found, expected), name
    assert "quantization_config" not in checkpoint.config and checkpoint.quantization == folder.settings
    plain = open_checkpoint(tiny.folder(folder.path / "plain", "safetensors", folder.plain, **packed.CONFIG))
    ids = torch.tensor([[1, 5, 3, 2]])
    found, expected = (c.model("float32") for c in (checkpoint, plain))
    step = Step.begin(found.architecture, ids)
    assert torch.allclose(found(ids, step), expected(ids, step), rtol=1e-5, atol=1e-6)


def affine(parts: tuple[Tensor, ...], columns: int) -> Tensor:
    """What a kernel computes with, from the parts it is given."""
    codes, scales, zeros = parts
    assert (codes.dtype, scales.dtype, zeros.dtype) == (torch.uint8, torch.float16, torch.uint8)
    assert scales.shape == zeros.shape == (len(codes), columns // 32) and all(part.is_contiguous() for part in parts)
    wide = codes.double().unflatten(1, (-1, 32)) - zeros.double()[..., None]
    return (wide * scales.double()[..., None]).flatten(1).float()


@pytest.mark.parametrize("less_one", [True, False])
@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, 64), (8, 32), (4, -1), (8, -1), (4, 16), (4, 24)])
def test_gptq(bits: int, group: int, less_one: bool, tmp_path: Path) -> None:
    folder = packed.affine_folder(tmp_path, "gptq", bits, group, less_one=less_one)
    checkpoint = open_checkpoint(tmp_path)
    same(checkpoint, folder)
    for name in packed.matrices(folder.plain):
        stored, columns = checkpoint.tensors[name], folder.plain[name].shape[1]
        assert (stored.codes is not None) == (group % 32 == 0 or group == -1)
        if stored.codes is not None:
            assert stored.codes.format == f"INT{bits}"
            assert torch.equal(affine(stored.codes.load(), columns), folder.plain[name])


@pytest.mark.parametrize("bits", [4, 8])
def test_gptq_with_scattered_groups_is_read_but_not_by_kernels(bits: int, tmp_path: Path) -> None:
    folder = packed.affine_folder(tmp_path, "gptq", bits, 32, scattered=True)
    checkpoint = open_checkpoint(tmp_path)
    same(checkpoint, folder)
    assert all(stored.codes is None for stored in checkpoint.tensors.values())


@pytest.mark.parametrize("group", [32, -1])
def test_awq(group: int, tmp_path: Path) -> None:
    folder = packed.affine_folder(tmp_path, "awq", 4, group)
    checkpoint = open_checkpoint(tmp_path)
    same(checkpoint, folder)
    for name in packed.matrices(folder.plain):
        codes = checkpoint.tensors[name].codes
        assert codes is not None and codes.format == "INT4"
        assert torch.equal(affine(codes.load(), folder.plain[name].shape[1]), folder.plain[name])


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize(("kind", "block"), [("nf4", 64), ("nf4", 32), ("nf4", 128), ("fp4", 64)])
def test_bitsandbytes_four_bits(kind: str, block: int, double: bool, tmp_path: Path) -> None:
    levels = list(NF4_LEVELS) if kind == "nf4" else FP4_LEVELS
    folder = packed.bitsandbytes_folder(tmp_path, kind, block, double, levels)
    checkpoint = open_checkpoint(tmp_path)
    same(checkpoint, folder)
    for name in packed.matrices(folder.plain):
        codes, (rows, columns) = checkpoint.tensors[name].codes, folder.plain[name].shape
        assert (codes is not None) == (kind == "nf4" and block == 64 and columns % 64 == 0)
        if codes is not None:
            numbers, scales = codes.load()
            assert codes.format == "NF4" and numbers.shape == (rows, columns) and scales.shape == (rows, columns // 64)
            meant = torch.tensor(NF4_LEVELS)[numbers.int()] * scales.repeat_interleave(64, 1)
            assert torch.equal(meant, folder.plain[name])


def test_wide_blocks_reach_the_kernels_as_several(tmp_path: Path) -> None:
    tensors, plain = packed.four_bit(Q, (64, 256), "nf4", 128, True, list(NF4_LEVELS))
    codes = open_pieces(tensors)[Q].codes
    assert codes is not None
    numbers, scales = codes.load()
    assert torch.equal(torch.tensor(NF4_LEVELS)[numbers.int()] * scales.repeat_interleave(64, 1), plain)


def test_bitsandbytes_int8(tmp_path: Path) -> None:
    folder = packed.int8_folder(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    same(checkpoint, folder)
    codes = checkpoint.tensors[Q].codes
    assert codes is not None and codes.format == "INT8"
    found, expected = affine(codes.load(), 64), folder.plain[Q]
    assert torch.allclose(found, expected, rtol=2**-11, atol=0) and not torch.equal(found, expected)


def test_a_row_scale_that_float16_cannot_hold_keeps_int8_from_the_kernels() -> None:
    for scale in (1e-6, 1e8):
        tensors = {Q: torch.ones(32, 32, dtype=torch.int8), f"{MODULE}.SCB": torch.full((32,), scale)}
        stored = open_pieces(tensors)[Q]
        assert stored.codes is None and torch.allclose(stored.load(), torch.tensor(scale / 127))


# Against bitsandbytes itself: tensors that it made, and what it made of them.


def unpacked(title: str, key: str, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(GOLDEN[title][key])), dtype=dtype)


def open_pieces(tensors: dict[str, Tensor], **settings: Any) -> Any:
    from paddock.checkpoint import quantised_folder
    from paddock.checkpoint.stored import Stored

    def stored(tensor: Tensor) -> Stored:
        return Stored(tuple(tensor.shape), tensor.dtype, lambda: tensor)

    method = {"quant_method": "bitsandbytes"} | settings
    return quantised_folder.read(method, {name: stored(tensor) for name, tensor in tensors.items()}, [])


@pytest.mark.parametrize("title", ["nf4", "nf4 double", "fp4"])
def test_what_bitsandbytes_wrote_means_what_it_says(title: str) -> None:
    state = f"quant_state.bitsandbytes__{title.split()[0]}"
    types = {"weight": torch.uint8, "quant_map": torch.float32, state: torch.uint8}
    if "double" in title:
        types |= {"absmax": torch.uint8, "nested_absmax": torch.float32, "nested_quant_map": torch.float32}
    else:
        types["absmax"] = torch.float32
    tensors = {f"{Q}.{key}": unpacked(title, key, dtype) for key, dtype in types.items()}
    tensors[Q] = tensors.pop(f"{Q}.weight")[:, None]
    found = open_pieces(tensors)[Q].load()
    expected = unpacked(title, "dequantised", torch.float32).view(3, 192)
    assert torch.equal(found, expected)


def test_what_bitsandbytes_wrote_in_int8() -> None:
    weight = unpacked("int8", "weight", torch.int8).view(3, 192)
    found = open_pieces({Q: weight, f"{MODULE}.SCB": unpacked("int8", "SCB", torch.float32)})[Q].load()
    expected = unpacked("int8", "dequantised", torch.float32).view(3, 192)
    assert torch.allclose(found, expected, rtol=1e-6, atol=0)


# Where published folders differ.


def test_families_that_store_matrices_transposed(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 1, "n_positions": 16, "vocab_size": 16}
    plain, tensors = tiny.tensors(config), {}
    for name in [name for name in plain if ".c_" in name and name.endswith("weight")]:
        inputs, outputs = plain[name].shape
        part = packed.Affine(outputs, inputs, 4, 32, 1)
        tensors |= packed.gptq(name.removesuffix(".weight"), part)
        plain[name] = torch.from_numpy(part.meaning().T.copy()).float()
    tensors |= {
        name: tensor for name, tensor in plain.items() if name.removesuffix("weight") + "qweight" not in tensors
    }
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    tiny.folder(tmp_path, "safetensors", tensors)
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    checkpoint = open_checkpoint(tmp_path)
    assert all(torch.equal(checkpoint.tensors[name].load(), plain[name]) for name in plain)
    assert checkpoint.model()


def test_biases_of_zeros_that_no_layer_has_are_left_out(tmp_path: Path) -> None:
    folder = packed.affine_folder(tmp_path, "gptq")
    folder.tensors[f"{MODULE}.bias"] = torch.zeros(64, dtype=torch.float16)
    packed.written(folder)
    same(open_checkpoint(tmp_path), folder)
    folder.tensors[f"{MODULE}.bias"][3] = 1
    packed.written(folder)
    with pytest.raises(CheckpointError, match=r"q_proj\.bias' has no place"):
        open_checkpoint(tmp_path).model()


def test_a_bias_that_the_layer_has_is_kept_even_if_it_is_zero(tmp_path: Path) -> None:
    folder = packed.affine_folder(tmp_path, "gptq")
    for name in packed.matrices(folder.plain):
        if "self_attn" in name:
            folder.tensors[name.replace("weight", "bias")] = torch.zeros(len(folder.plain[name]))
    packed.written(folder, attention_bias=True)
    assert open_checkpoint(tmp_path).model().blocks[0].attention.q.bias is not None


@pytest.mark.parametrize(("name", "method"), [("quantize_config.json", "gptq"), ("quant_config.json", "awq")])
def test_old_folders_keep_the_settings_in_a_file_of_their_own(name: str, method: str, tmp_path: Path) -> None:
    folder = packed.affine_folder(tmp_path, method)
    old = {"w_bit": 4, "q_group_size": 32} if method == "awq" else {"bits": 4, "group_size": 32, "desc_act": False}
    (tmp_path / "config.json").write_text(json.dumps(packed.CONFIG))
    (tmp_path / name).write_text(json.dumps(old))
    folder.settings = {"quant_method": method} | old
    same(open_checkpoint(tmp_path), folder)


def test_a_folder_loads_and_saves_as_a_plain_one(tmp_path: Path) -> None:
    folder = packed.affine_folder(tmp_path / "a", "gptq")
    model = paddock.load(tmp_path / "a")
    model.save(tmp_path / "b")
    saved = open_checkpoint(tmp_path / "b")
    assert saved.quantization is None and saved.tensors.keys() == folder.plain.keys()
    assert torch.equal(saved.tensors[Q].load(), folder.plain[Q])


def test_null_says_that_nothing_is_quantised(tmp_path: Path) -> None:
    path = tiny.folder(tmp_path, quantization_config=None)
    assert open_checkpoint(path).model() and open_checkpoint(path).quantization is None


# What is refused.

SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"bits": 3}, "bits is 3; expected 4 or 8"),
    ({"bits": "4"}, "quantization_config: bits is '4'"),
    ({"bits": None}, "quantization_config lacks 'bits'"),
    ({"group_size": -2}, "group_size is -2"),
    ({"group_size": 64}, "scales' has the shape"),
    ({"checkpoint_format": "marlin"}, "checkpoint_format is 'marlin'"),
    ({"is_marlin_format": True}, "Marlin"),
    ({"dynamic": {"-:x": {}}}, "not every matrix is packed alike"),
    ({"quant_method": "gtpq"}, "quantised by 'gtpq'.*did you mean 'gptq'"),
    ({"quant_method": "aqlm"}, "quantised by 'aqlm'.*GGUF file"),
    ({"quant_method": 4}, "quantised by '4'"),
    ({"quant_method": None}, "quantised by 'None'"),
    ({"gruop_size": 32}, "does not know: 'gruop_size'.*did you mean 'group_size'"),
    ({"modules_to_not_convert": ["q_proj"]}, "q_proj' is quantised, but .* says that 'q_proj' is not"),
    ({"modules_to_not_convert": "lm_head"}, "expected a list of names"),
    ({"quant_method": "awq"}, "qweight|scales|version"),
    ({"quant_method": "bitsandbytes", "bits": None, "group_size": None}, "does not know|no tensor is quantised"),
]


@pytest.mark.parametrize(("change", "message"), SETTINGS)
def test_settings_that_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = packed.affine_folder(tmp_path, "gptq")
    folder.settings = folder.settings | change
    packed.written(folder)
    with pytest.raises(CheckpointError, match="(?s)" + message):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("settings", [[], "gptq", 7, {}, True])
def test_settings_that_are_none(settings: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="quantization_config"):
        open_checkpoint(tiny.folder(tmp_path, quantization_config=settings))


@pytest.mark.parametrize("version", ["gemv", "gemv_fast", "marlin", "llm-awq", 3])
def test_awq_made_for_other_kernels(version: Any, tmp_path: Path) -> None:
    packed.affine_folder(tmp_path, "awq", version=version)
    with pytest.raises(UnsupportedError, match="expected 'gemm'"):
        open_checkpoint(tmp_path)


def test_plain_weights_under_a_quantised_config_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tiny.folder(tmp_path, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(CheckpointError, match=r"(?s)no tensor is quantised.*ignore_config"):
        open_checkpoint(path)
    assert open_checkpoint(path, ignore_config=["quantization_config"]).model()


def changed(name: str, change: Callable[[Tensor], Tensor | None]) -> Callable[[dict[str, Tensor]], None]:
    def apply(tensors: dict[str, Tensor]) -> None:
        new = change(tensors.pop(name))
        if new is not None:
            tensors[name] = new.contiguous()

    return apply


def filled(tensors: dict[str, Tensor]) -> None:
    tensors[f"{MODULE}.qzeros"].fill_(-1)


AFFINE: list[tuple[str, Callable[[dict[str, Tensor]], None], str]] = [
    ("gptq", changed(f"{MODULE}.scales", lambda t: None), "lack '.*q_proj.scales'"),
    ("gptq", changed(f"{MODULE}.qzeros", lambda t: None), "lack '.*q_proj.qzeros'"),
    ("gptq", changed(f"{MODULE}.qweight", lambda t: None), "q_proj.*is not one that llama models have"),
    ("gptq", changed(f"{MODULE}.qweight", lambda t: t[:-1]), "shape|inputs"),
    ("gptq", changed(f"{MODULE}.qweight", lambda t: t[:, :-8]), "shape"),
    ("gptq", changed(f"{MODULE}.qweight", lambda t: t[:, :-1]), "63 outputs; expected a multiple of 8"),
    ("gptq", changed(f"{MODULE}.qweight", lambda t: t[:0]), "expected a matrix"),
    ("gptq", changed(f"{MODULE}.qweight", lambda t: t.flatten()), "expected a matrix"),
    ("gptq", changed(f"{MODULE}.qweight", lambda t: t.long()), "int64; expected int32"),
    ("gptq", changed(f"{MODULE}.scales", lambda t: t[:1]), "scales' has the shape"),
    ("gptq", changed(f"{MODULE}.scales", lambda t: t.T), "scales' has the shape"),
    ("gptq", changed(f"{MODULE}.scales", lambda t: t.int()), "scales' is stored as torch.int32"),
    ("gptq", changed(f"{MODULE}.scales", lambda t: t * math.nan), "not numbers"),
    ("gptq", changed(f"{MODULE}.g_idx", lambda t: t + 1), "groups that are not there"),
    ("gptq", changed(f"{MODULE}.g_idx", lambda t: t - 1), "groups that are not there"),
    ("gptq", changed(f"{MODULE}.g_idx", lambda t: t[:-1]), "g_idx' has the shape"),
    ("gptq", filled, "zero point 16, out of range"),
    ("awq", changed(f"{MODULE}.scales", lambda t: None), "lack '.*q_proj.scales'"),
    ("awq", changed(f"{MODULE}.qzeros", lambda t: t[:, :-1]), "qzeros' has the shape"),
    ("awq", changed(f"{MODULE}.qweight", lambda t: t[:-1]), "63 inputs; expected whole groups of 32"),
    ("awq", lambda tensors: tensors.update({f"{MODULE}.g_idx": torch.zeros(64)}), "g_idx' is not one"),
    ("gptq", lambda tensors: tensors.update({Q: torch.zeros(64, 64)}), "there twice, plain and quantised"),
]


@pytest.mark.parametrize(("method", "spoil", "message"), AFFINE)
def test_affine_pieces_that_do_not_fit(
    method: str, spoil: Callable[[dict[str, Tensor]], None], message: str, tmp_path: Path
) -> None:
    folder = packed.affine_folder(tmp_path, method)
    spoil(folder.tensors)
    packed.written(folder)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path).model()


def test_kernels_are_given_no_scale_that_is_not_a_number(tmp_path: Path) -> None:
    folder = packed.affine_folder(tmp_path, "gptq")
    folder.tensors[f"{MODULE}.scales"][1, 3] = math.inf
    packed.written(folder)
    codes = open_checkpoint(tmp_path).tensors[Q].codes
    assert codes is not None
    with pytest.raises(CheckpointError, match="scales that are not numbers"):
        codes.load()


def test_scattered_groups_need_their_index(tmp_path: Path) -> None:
    folder = packed.affine_folder(tmp_path, "gptq", scattered=True)
    del folder.tensors[f"{MODULE}.g_idx"]
    packed.written(folder)
    with pytest.raises(CheckpointError, match="as desc_act is true"):
        open_checkpoint(tmp_path)


STATE = f"{Q}.quant_state.bitsandbytes__nf4"


def restated(**values: Any) -> Callable[[dict[str, Tensor]], None]:
    def apply(tensors: dict[str, Tensor]) -> None:
        state = json.loads(bytes(tensors[STATE].tolist())) | values
        tensors[STATE] = packed.text({key: value for key, value in state.items() if value is not None})

    return apply


FOUR: list[tuple[Callable[[dict[str, Tensor]], None], str]] = [
    (restated(shape=[64, 63]), "expected 2016 bytes for"),
    (restated(shape=[2**30, 2**30]), "bytes for"),
    (restated(shape=[0, 64]), "expected rows and columns"),
    (restated(shape=[4096]), "expected rows and columns"),
    (restated(shape=[64.0, 64]), "expected rows and columns"),
    (restated(shape=[128, 32]), "has the shape .* by config.json"),
    (restated(blocksize=0), "power of two"),
    (restated(blocksize=65), "power of two"),
    (restated(blocksize=128), "absmax' has the shape"),
    (restated(blocksize=True), "power of two"),
    (restated(nested_blocksize=2**20), "nested_blocksize"),
    (restated(nested_offset="x"), "nested_offset"),
    (restated(nested_offset=None), "nested_offset"),
    (restated(quant_type="fp4"), "described wrongly"),
    (changed(STATE, lambda t: t[:-1]), "is not JSON"),
    (changed(STATE, lambda t: torch.full((2**17,), 32, dtype=torch.uint8)), "a short JSON text"),
    (changed(STATE, lambda t: None), "is not one that llama models have|stored as"),
    (changed(Q, lambda t: t[:-1]), "expected 2048 bytes"),
    (changed(Q, lambda t: None), "lack"),
    (changed(f"{Q}.absmax", lambda t: None), "lack"),
    (changed(f"{Q}.absmax", lambda t: t.float()), "expected uint8"),
    (changed(f"{Q}.quant_map", lambda t: t[:8]), "quant_map' has the shape"),
    (changed(f"{Q}.quant_map", lambda t: t * math.inf), "described wrongly"),
    (changed(f"{Q}.nested_quant_map", lambda t: t[:8]), "nested_quant_map' has the shape"),
    (changed(f"{Q}.nested_absmax", lambda t: t * math.nan), "not numbers"),
]


@pytest.mark.parametrize(("spoil", "message"), FOUR)
def test_four_bit_pieces_that_do_not_fit(
    spoil: Callable[[dict[str, Tensor]], None], message: str, tmp_path: Path
) -> None:
    folder = packed.bitsandbytes_folder(tmp_path, "nf4", 64, True, list(NF4_LEVELS))
    spoil(folder.tensors)
    packed.written(folder)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path).model()


def test_int8_pieces_that_do_not_fit(tmp_path: Path) -> None:
    folder = packed.int8_folder(tmp_path)
    whole = dict(folder.tensors)
    for name, tensor, message in [
        (f"{MODULE}.SCB", torch.ones(63), "expected one a row"),
        (f"{MODULE}.SCB", torch.ones(64).double(), "expected float32"),
        (f"{MODULE}.weight_format", torch.tensor(1, dtype=torch.uint8), "laid out for one GPU kernel"),
        (Q, torch.zeros(64, 64), "expected int8"),
    ]:
        folder.tensors = whole | {name: tensor}
        packed.written(folder)
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(tmp_path)


def test_many_matrices_and_many_names_are_read_in_time(tmp_path: Path) -> None:
    one = packed.gptq("a", packed.Affine(8, 32, 4, 32, 1))
    tensors = {name.replace("a.", f"m.{i}.x.", 1): tensor for i in range(5000) for name, tensor in one.items()}
    names = [f"m.{i}.y" for i in range(20_000)]
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 32, "modules_to_not_convert": names}
    packed.written(Folder(tmp_path, tensors, {}, settings))
    limits.check(open_checkpoint, tmp_path, accepted=True)
    settings["modules_to_not_convert"] = [*names, "m.4999"]
    packed.written(Folder(tmp_path, tensors, {}, settings))
    assert "m.4999.x" in limits.check(open_checkpoint, tmp_path).message


@pytest.mark.parametrize("said", ["q_proj", "self_attn.q_proj", MODULE, "model.layers.0", "model", ".q_proj."])
def test_every_way_to_say_that_a_module_is_plain(said: str, tmp_path: Path) -> None:
    folder = packed.int8_folder(tmp_path)
    folder.settings["llm_int8_skip_modules"] = [said]
    packed.written(folder)
    with pytest.raises(CheckpointError, match="is quantised, but"):
        open_checkpoint(tmp_path)
    folder.settings["llm_int8_skip_modules"] = ["lm_head", "proj", "q_pro", "layers.00"]
    packed.written(folder)
    assert open_checkpoint(tmp_path).model()


# Whatever else is wrong: a refusal, and nothing but a refusal.


def attempt(path: Path, rng: random.Random, folder: Folder) -> None:
    """Damages settings or tensors, and reads what comes of it in every way there is."""
    tensors = dict(folder.tensors)
    settings = damage.mutate(folder.settings, rng) if rng.random() < 0.5 else json.dumps(folder.settings)
    if rng.random() < 0.7:
        name = rng.choice([name for name in tensors if "_proj" in name])
        tensor = tensors.pop(name)
        match rng.randrange(6):
            case 0:
                tensor = tensor.flatten()
            case 1:
                tensor = tensor[: rng.randrange(len(tensor) + 1)] if tensor.dim() else tensor
            case 2:
                tensor = tensor.to(rng.choice([torch.int32, torch.uint8, torch.float32, torch.float64, torch.bool]))
            case 3:
                flat = bytearray(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
                for _ in range(3):
                    flat[rng.randrange(len(flat))] = rng.randrange(256)
                tensor = torch.frombuffer(flat, dtype=tensor.dtype).view(tensor.shape)
            case 4:
                name = name.replace("q_proj", "k_proj") + rng.choice(["", ".x", "weight"])
        if rng.random() < 0.8:
            tensors[name] = tensor.contiguous()
    tiny.folder(path, "safetensors", tensors, **packed.CONFIG)
    config = json.dumps(packed.CONFIG)[:-1] + ', "quantization_config": ' + settings + "}"
    (path / "config.json").write_text(config)
    try:
        checkpoint = open_checkpoint(path)
        for stored in checkpoint.tensors.values():
            if stored.codes is not None:
                stored.codes.load()
        checkpoint.model()
    except InputError as error:
        assert len(str(error)) < 3000


def fuzz(cases: int, path: Path) -> None:
    folders = [
        packed.affine_folder(path / "a", "gptq"),
        packed.affine_folder(path / "b", "awq"),
        packed.bitsandbytes_folder(path / "c", "nf4", 64, True, list(NF4_LEVELS)),
        packed.int8_folder(path / "d"),
    ]
    for case in range(cases):
        attempt(path / "damaged", random.Random(case), folders[case % len(folders)])


def test_damage_is_refused(tmp_path: Path) -> None:
    fuzz(240, tmp_path)


@pytest.mark.slow
def test_much_damage_is_refused(tmp_path: Path) -> None:
    fuzz(4000, tmp_path)
