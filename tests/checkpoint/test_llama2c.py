"""llama2.c files: the real ones, round trips, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddock.checkpoint import llama2c
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.llama2c_layout import HEADER_BYTES, Header
from paddock.checkpoint.rows import half_rotation, interleaved_rotation
from paddock.errors import CheckpointError, PaddockError, UnsupportedError, UsageError

EDGES = [0, 1, -1, 2, 2**31 - 1, -(2**31)]
FIELDS = ["width", "hidden", "layers", "heads", "kv_heads", "vocab", "context"]


def tiny(tied: bool = False) -> tuple[dict, dict]:
    """A LLaMA of 2 layers with grouped key-value heads, as config and tensors."""
    header = Header(1, 32, 64, 2, 4, 2, 19, 16, tied)
    config = {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 19,
        "max_position_embeddings": 16,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": tied,
    }
    return config, {full: torch.randn(header.shape(name)) for full, name, _ in header.tensors()}


def loaded(path: Path) -> tuple[dict, dict]:
    config, stored = llama2c.read(path)
    tensors = {name: entry.load() for name, entry in stored.items()}
    for name, entry in stored.items():
        assert (tuple(tensors[name].shape), tensors[name].dtype) == (entry.shape, entry.dtype)
    return config, tensors


@pytest.fixture
def weights(shared_data: Path) -> Path:
    return shared_data / "weights" / "llama2c"


def test_real_file_reads_as_its_published_sizes(weights: Path) -> None:
    config, tensors = loaded(weights / "stories260K.bin")
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    assert [config[key] for key in sizes] == [64, 172, 5, 8, 4]
    assert config["vocab_size"] == config["max_position_embeddings"] == 512 and config["tie_word_embeddings"]
    assert sum(tensor.numel() for tensor in tensors.values()) == 260_032
    assert sum(tensor.numel() for tensor in loaded(weights / "babyllama_tok361.bin")[1].values()) == 969_216


def test_real_int8_file_is_near_the_float_one(weights: Path) -> None:
    config, exact = loaded(weights / "stories260K.bin")
    int8_config, rounded = loaded(weights / "stories260K-q8.bin")
    assert int8_config == config and rounded.keys() == exact.keys()
    assert max((exact[name] - rounded[name]).abs().max().item() for name in exact) < 0.007


def test_real_weights_give_transformers_the_published_text(weights: Path) -> None:
    """Row order, names and config together: one wrong and the story is noise."""
    transformers = pytest.importorskip("transformers")
    config, tensors = loaded(weights / "stories260K.bin")
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).eval()
    assert model.load_state_dict(tensors, strict=False).missing_keys == ["lm_head.weight"]
    ids = model.generate(torch.tensor([[1]]), max_new_tokens=12, do_sample=False)[0].tolist()
    assert ids == [1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421]  # "Once upon a time, there was a"


@pytest.mark.parametrize("name", ["stories260K.bin", "babyllama_tok361.bin"])
def test_real_version_0_is_written_again_byte_for_byte(weights: Path, tmp_path: Path, name: str) -> None:
    config, tensors = loaded(weights / name)
    llama2c.write(tmp_path / name, config, tensors)
    ours, theirs = (tmp_path / name).read_bytes(), (weights / name).read_bytes()
    context, half = config["max_position_embeddings"], config["head_dim"] // 2
    tables = 2 * context * half * 4 if config["tie_word_embeddings"] else 0
    end = len(theirs) - tables  # of everything but cos and sin, which another processor may round otherwise
    assert ours[:end] == theirs[:end]
    ours_tables = torch.frombuffer(bytearray(ours[end:]), dtype=torch.float32) if tables else torch.zeros(1)
    their_tables = torch.frombuffer(bytearray(theirs[end:]), dtype=torch.float32) if tables else torch.zeros(1)
    assert torch.allclose(ours_tables, their_tables, rtol=0, atol=3e-7)


def test_quantising_gives_the_real_int8_file(weights: Path) -> None:
    """The published file is in groups of 8; the writer chooses groups that divide rows, so parts are compared."""
    data = (weights / "stories260K-q8.bin").read_bytes()
    _, exact = loaded(weights / "stories260K.bin")
    start = HEADER_BYTES[2] + 4 * 64 * (5 + 5 + 1)
    values, scales = llama2c.quantised(exact["model.embed_tokens.weight"], 8, "embedding")
    assert data[start : start + 512 * 64] == values.numpy().tobytes()
    assert data[start + 512 * 64 :][: 4 * 512 * 8] == scales.numpy().tobytes()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("version", [0, 1, 2])
def test_written_files_read_back(tmp_path: Path, version: int, tied: bool) -> None:
    config, tensors = tiny(tied)
    path = tmp_path / "model.bin"
    llama2c.write(path, config, tensors, version, group_size=32 if version == 2 else None)
    again_config, again = loaded(path)
    assert again.keys() == tensors.keys()
    assert config.items() <= again_config.items()
    for name, tensor in tensors.items():
        if version < 2 or tensor.ndim == 1:
            assert torch.equal(again[name], tensor), name
        else:
            assert (again[name] - tensor).abs().max() <= tensor.abs().max() / 127 / 2 * 1.001, name
    llama2c.write(
        path, again_config, again, version, group_size=32 if version == 2 else None
    )  # onto the file that is mapped
    assert all(torch.equal(again[name], tensor) for name, tensor in loaded(path)[1].items())
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.bin"]


@pytest.mark.parametrize("version", [0, 1])
def test_order_of_the_file(tmp_path: Path, version: int) -> None:
    """Written out once by hand, apart from the table that reader and writer share."""
    config, tensors = tiny()
    llama2c.write(tmp_path / "model.bin", config, tensors, version)
    data = (tmp_path / "model.bin").read_bytes()[28 if version == 0 else 256 :]

    def layers(name: str) -> list[torch.Tensor]:
        return [tensors[f"model.layers.{i}.{name}.weight"] for i in range(2)]

    first, second = layers("input_layernorm"), layers("post_attention_layernorm")
    final, table = [tensors["model.norm.weight"]], [tensors["model.embed_tokens.weight"]]
    query = [interleaved_rotation(weight, 4) for weight in layers("self_attn.q_proj")]
    start = [*table, *first, *query] if version == 0 else [*first, *second, *final, *table, *query]
    head = tensors["lm_head.weight"].numpy().tobytes()
    gate_down = b"".join(part.numpy().tobytes() for part in [*layers("mlp.gate_proj"), *layers("mlp.down_proj")])
    assert data.startswith(b"".join(part.numpy().tobytes() for part in start))
    assert data.endswith(head) and gate_down in data


def test_rotation_orders_are_inverse_and_pair_neighbours_with_halves() -> None:
    rows = torch.arange(16).view(16, 1)  # 2 heads of 8: rows 2i and 2i+1 rotate together
    assert half_rotation(rows, 2).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]
    assert torch.equal(interleaved_rotation(half_rotation(rows, 2), 2), rows)


def test_groups_are_halved_until_rows_divide_into_them(tmp_path: Path) -> None:
    config, tensors = tiny()
    llama2c.write(tmp_path / "model.bin", config, tensors, version=2)
    assert struct.unpack("<i", (tmp_path / "model.bin").read_bytes()[37:41]) == (32,)
    zero = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    llama2c.write(tmp_path / "zero.bin", config, zero, version=2)
    assert all(not tensor.any() for tensor in loaded(tmp_path / "zero.bin")[1].values())


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mistral"},
        {"hidden_act": "gelu"},
        {"rms_norm_eps": 1e-6},
        {"rope_theta": 500000.0},
        {"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "llama3"}},
        {"rope_parameters": 7},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"head_dim": 16},
        {"bos_token_id": 128000},
        {"eos_token_id": [2, 3]},
        {"num_attention_heads": 5},
        {"num_hidden_layers": "2"},
        {"vocab_size": None},
    ],
    ids=lambda change: f"{next(iter(change))}={next(iter(change.values()))}",
)
def test_a_model_the_format_cannot_hold_is_refused(tmp_path: Path, change: dict) -> None:
    config, tensors = tiny()
    with pytest.raises(CheckpointError):
        llama2c.write(tmp_path / "model.bin", config | change, tensors)
    assert not any(tmp_path.iterdir())


def test_wrong_tensors_are_refused(tmp_path: Path) -> None:
    config, tensors = tiny(tied=True)
    name = "model.layers.1.mlp.up_proj.weight"
    wrong = [
        {key: value for key, value in tensors.items() if key != name},
        tensors | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)},
        tensors | {name: tensors[name].T},
        tensors | {name: tensors[name].double()},
        tensors | {"lm_head.weight": torch.zeros(19, 32)},
    ]
    for given_tensors in wrong:
        with pytest.raises(CheckpointError):
            llama2c.write(tmp_path / "model.bin", config, given_tensors)
    with pytest.raises(CheckpointError, match="not finite"):
        llama2c.write(tmp_path / "model.bin", config, tensors | {name: tensors[name] / 0}, version=2)
    with pytest.raises(UsageError):
        llama2c.write(tmp_path / "model.bin", config, tensors, version=3)
    with pytest.raises(UsageError):
        llama2c.write(tmp_path / "model.bin", config, tensors, version=2, group_size=1)
    with pytest.raises(UsageError, match="do not divide"):
        llama2c.write(tmp_path / "model.bin", config, tensors, version=2, group_size=64)
    with pytest.raises(UsageError, match="has no groups"):
        llama2c.write(tmp_path / "model.bin", config, tensors, version=1, group_size=32)
    assert not any(tmp_path.iterdir())
    same = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    llama2c.write(
        tmp_path / "model.bin", config | {"eos_token_id": [2, 1]}, same
    )  # its programs end at both; a tied classifier given again is no contradiction


def header_of(data: bytes) -> tuple[int, bytes, bytes]:
    """(offset of the seven sizes, file before them, file after them)."""
    at = 8 if data[:4] == b"24ka" else 0
    return at, data[:at], data[at + 28 :]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    config, tensors = tiny()
    path = tmp_path_factory.mktemp("llama2c") / "model.bin"
    found = {}
    for version in (0, 1, 2):
        llama2c.write(path, config, tensors, version, group_size=32 if version == 2 else None)
        found[version] = path.read_bytes()
    return found


@pytest.mark.parametrize("version", [0, 1, 2])
def test_any_other_length_is_refused(tmp_path: Path, files: dict[int, bytes], version: int) -> None:
    data = files[version]
    path = tmp_path / "model.bin"
    cuts = [0, 1, 3, 4, 7, 8, 27, 28, 36, 37, 40, 41, 255, 256, len(data) // 2, len(data) - 4, len(data) - 1]
    for cut in cuts:
        path.write_bytes(data[:cut])
        with pytest.raises(CheckpointError):
            llama2c.read(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(CheckpointError, match="do not belong"):
        llama2c.read(path)


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("field", range(7), ids=FIELDS)
def test_every_size_at_its_edges_is_refused(tmp_path: Path, files: dict[int, bytes], version: int, field: int) -> None:
    at, before, after = header_of(files[version])
    sizes = list(struct.unpack("<7i", files[version][at : at + 28]))
    path = tmp_path / "model.bin"
    edges = {*EDGES, sizes[field] + 1, sizes[field] * 2} - {sizes[field]}
    if version > 0 and FIELDS[field] == "context":  # only version 0 stores tables whose length tells
        edges = {edge for edge in edges if edge < 1}
    for edge in edges:
        path.write_bytes(before + struct.pack("<7i", *sizes[:field], edge, *sizes[field + 1 :]) + after)
        with pytest.raises(CheckpointError):
            llama2c.read(path)


def test_other_versions_flags_and_groups_are_refused(tmp_path: Path, files: dict[int, bytes]) -> None:
    path = tmp_path / "model.bin"
    for version in (0, 3, -1, 2**31 - 1):
        path.write_bytes(files[1][:4] + struct.pack("<i", version) + files[1][8:])
        with pytest.raises(UnsupportedError, match="version"):
            llama2c.read(path)
    for group in (0, -1, 3, 64, 2**31 - 1):
        path.write_bytes(files[2][:37] + struct.pack("<i", group) + files[2][41:])
        with pytest.raises(CheckpointError):
            llama2c.read(path)
    for at in (36, 37, 41, 255):
        path.write_bytes(files[1][:at] + b"\2" + files[1][at + 1 :])
        with pytest.raises(CheckpointError, match="corrupt"):
            llama2c.read(path)


def test_heads_that_cannot_be_rotated_in_pairs_are_refused(tmp_path: Path) -> None:
    sizes = Header(0, 6, 4, 1, 2, 2, 3, 2, tied=True)
    path = tmp_path / "model.bin"
    path.write_bytes(struct.pack("<7i", 6, 4, 1, 2, 2, 3, 2) + bytes(sizes.size() - 28))
    with pytest.raises(CheckpointError, match="pairs"):
        llama2c.read(path)


def test_values_that_are_not_numbers_are_read_as_they_are(tmp_path: Path, files: dict[int, bytes]) -> None:
    """The file is sound; whether NaN weights are worth running is for the loader to say."""
    path = tmp_path / "model.bin"
    path.write_bytes(files[0][:28] + b"\xff" * (len(files[0]) - 28))
    assert all(tensor.isnan().all() for tensor in loaded(path)[1].values())


def only_refusals_escape(data: st.DataObject, files: dict[int, bytes], path: Path) -> None:
    """Mutates sizes, flags, length or single bytes; a file that is still accepted must load."""
    version = data.draw(st.sampled_from([0, 1, 2]))
    at, before, after = header_of(files[version])
    sizes = list(struct.unpack("<7i", files[version][at : at + 28]))
    for _ in range(data.draw(st.integers(0, 3))):
        sizes[data.draw(st.integers(0, 6))] = data.draw(
            st.one_of(st.sampled_from(EDGES), st.integers(-(2**31), 2**31 - 1), st.integers(1, 64))
        )
    mutant = bytearray(before + struct.pack("<7i", *sizes) + after)
    for _ in range(data.draw(st.integers(0, 3))):
        mutant[data.draw(st.integers(0, min(300, len(mutant) - 1)))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(mutant)), st.integers(0, len(mutant))))
    path.write_bytes(bytes(mutant[:cut]) + data.draw(st.sampled_from([b"", b"\0", b"\0" * 64])))
    try:
        _, stored = llama2c.read(path)
        for entry in stored.values():
            assert tuple(entry.load().shape) == entry.shape
    except PaddockError:
        pass


FUZZ = {"derandomize": True, "deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=300, **FUZZ)
@given(data=st.data())
def test_fuzz(data: st.DataObject, files: dict[int, bytes], tmp_path: Path) -> None:
    only_refusals_escape(data, files, tmp_path / "model.bin")


@pytest.mark.slow
@settings(max_examples=3000, **FUZZ)
@given(data=st.data())
def test_fuzz_long(data: st.DataObject, files: dict[int, bytes], tmp_path: Path) -> None:
    only_refusals_escape(data, files, tmp_path / "model.bin")


def test_other_files_are_not_called_broken_models(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    for text in ("Short.", "Long enough to be taken for a header of seven numbers."):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"notes\.txt is no model that Paddock knows"):
            open_checkpoint(path)
    (path := path.rename(tmp_path / "model.bin")).write_text("Short.")
    with pytest.raises(CheckpointError, match="cut short"):
        open_checkpoint(path)
