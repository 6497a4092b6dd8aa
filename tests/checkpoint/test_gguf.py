"""GGUF containers: what is read, what is refused, and that nothing hostile costs more than its size."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import textwrap
import time
from itertools import chain
from pathlib import Path
from typing import Any

import gguf
import gguf_bytes as raw
import gguf_files
import numpy as np
import pytest
import torch
from gguf_bytes import ARRAY, BOOL, F32, STRING, U8, U32, Field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddock.checkpoint import gguf_families
from paddock.checkpoint.blocks import DEQUANTISERS, DTYPES
from paddock.checkpoint.gguf import GGUFFile
from paddock.checkpoint.gguf_header import MAX_ITEMS, MAX_KEYS, MAX_STRING, MAX_STRINGS, MAX_TENSORS
from paddock.errors import CheckpointError, PaddockError, UnsupportedError

EDGES = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
SAMPLE = raw.sample()


def parse(path: Path, data: bytes) -> GGUFFile:
    path.write_bytes(data)
    return GGUFFile(path)


def load_all(file: GGUFFile) -> None:
    """Whatever is accepted must be loadable; only a type without a reader may be refused late."""
    for name, info in file.tensors.items():
        if info.type.name in {*DTYPES, *DEQUANTISERS}:
            assert tuple(file.tensor(name).shape) == info.shape
        else:
            with pytest.raises(UnsupportedError):
                file.tensor(name)


def test_every_value_type(tmp_path: Path) -> None:
    file = parse(tmp_path / "a.gguf", raw.joined(SAMPLE))
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in file.metadata.items()}
    assert plain == {
        "general.architecture": "llama",
        "u8": 7,
        "i64": -7,
        "half": 0.5,
        "yes": True,
        "words": ["a", "é▁", "\udce9\udc80"],
        "scores": [0.5, -1.0, 2.0],
        "flags": [True, False],
    }
    assert plain["words"][2].encode("utf-8", "surrogateescape") == b"\xe9\x80"
    assert file.metadata["flags"].dtype == np.bool_ and file.metadata["yes"] is True
    assert [info.shape for info in file.tensors.values()] == [(4,), (2, 32), (1, 3)]
    assert file.tensor("a").tolist() == [1, 2, 3, 4]
    assert file.tensor("b")[1].tolist() == [n / 2 for n in range(-16, 16)]
    assert file.tensor("c", torch.float16).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("version", [2, 3])
def test_versions_that_are_read(tmp_path: Path, version: int) -> None:
    data = raw.joined(SAMPLE)
    load_all(parse(tmp_path / "a.gguf", data[:4] + struct.pack("<I", version) + data[8:]))


def test_files_of_the_gguf_library(tmp_path: Path) -> None:
    tensors = {
        "f32": np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32),
        "f16": np.arange(6, dtype=np.float16).reshape(2, 3),
        "f64": np.arange(3, dtype=np.float64),
        "i32": np.arange(3, dtype=np.int32),
    }
    path = gguf_files.simple(tmp_path / "a.gguf", tensors, general__alignment=64, text="\0é", words=["", "x"])
    file = GGUFFile(path)
    for name, array in tensors.items():
        assert torch.equal(file.tensor(name), torch.from_numpy(array).float())
        assert file.tensors[name].offset % 64 == 0
    assert file.metadata["text"] == "\0é" and file.metadata["words"] == ["", "x"]


def test_plain_numbers_are_views_of_the_file(tmp_path: Path) -> None:
    """Nothing is copied where the type matches, and what is written to a view does not reach the file."""
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    values = np.random.default_rng(0).normal(size=(8, 32)).astype(np.float32)
    bf16 = gguf.quants.quantize(values, gguf.GGMLQuantizationType.BF16)
    writer.add_tensor("f32", values)
    writer.add_tensor("bf16", bf16, raw_dtype=gguf.GGMLQuantizationType.BF16)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    file = GGUFFile(tmp_path / "a.gguf")
    expected = torch.from_numpy(gguf.quants.dequantize(bf16, gguf.GGMLQuantizationType.BF16))
    assert torch.equal(file.tensor("bf16"), expected)
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        stored = file.stored(file.tensors[name])
        assert stored.dtype == dtype and stored.load().data_ptr() == stored.load().data_ptr()
        stored.load().zero_()
    assert torch.equal(GGUFFile(tmp_path / "a.gguf").tensor("f32"), torch.from_numpy(values))


def test_a_part_of_a_tensor_is_cut_out_by_whole_blocks(tmp_path: Path) -> None:
    file = parse(tmp_path / "a.gguf", raw.joined(SAMPLE))
    part = file.tensors["b"].part(1)
    assert torch.equal(file.stored(part).load(), file.tensor("b")[1]) and part.shape == (32,)


def test_a_large_vocabulary_is_read_fast(tmp_path: Path) -> None:
    tokens = [f"tök{n}" for n in range(150_000)]
    path = gguf_files.simple(tmp_path / "a.gguf", {}, tokens=tokens, scores=[float(n) for n in range(150_000)])
    best = 9.0
    for _ in range(3):
        start = time.process_time()  # a busy machine is no fault of the reader
        file = GGUFFile(path)
        best = min(best, time.process_time() - start)
    assert file.metadata["tokens"] == tokens and file.metadata["scores"][-1] == 149_999
    assert best < 1.0


def test_real_vocabularies_read_as_the_library_reads_them(shared_data: Path) -> None:
    folder = shared_data / "tokenizers" / "ggml-vocab"
    for path in (folder / "ggml-vocab-llama-spm.gguf", folder / "ggml-vocab-bert-bge.gguf"):
        ours, theirs = GGUFFile(path).metadata, gguf.GGUFReader(path).fields
        assert ours.keys() == {name for name in theirs if not name.startswith("GGUF.")}
        for key, value in ours.items():
            expected = theirs[key].contents()
            assert (value.tolist() if isinstance(value, np.ndarray) else value) == pytest.approx(expected), key


def boundaries() -> list[int]:
    ends = np.cumsum([0] + [len(field.data) for field in SAMPLE]).tolist()
    return sorted({cut for end in ends for cut in (end - 1, end) if 0 <= cut < ends[-1]})


def test_truncation_at_every_field_is_refused(tmp_path: Path) -> None:
    data = raw.joined(SAMPLE)
    assert len(boundaries()) > 100
    for cut in boundaries():
        with pytest.raises(CheckpointError):
            parse(tmp_path / "a.gguf", data[:cut])


def changed(label: str, data: bytes) -> bytes:
    assert sum(field.label == label for field in SAMPLE) == 1
    return raw.joined([Field(f.label, data if f.label == label else f.data) for f in SAMPLE])


@pytest.mark.parametrize("label", [field.label for field in SAMPLE if field.kind == "count"])
def test_counts_and_lengths_at_their_edges(tmp_path: Path, label: str) -> None:
    """Refused, unless the smaller number happens to make a sound file too (one row fewer, an overlap avoided)."""
    for edge in EDGES:
        try:
            file = parse(tmp_path / "a.gguf", changed(label, struct.pack("<Q", edge)))
        except PaddockError:
            continue
        assert edge <= 1 or label.endswith("offset"), edge
        load_all(file)


@pytest.mark.parametrize("label", [field.label for field in SAMPLE if field.kind in ("type", "small")])
def test_types_and_small_numbers_at_their_edges(tmp_path: Path, label: str) -> None:
    for edge in [*range(45), 2**31 - 1, 2**31, 2**32 - 1]:
        try:
            load_all(parse(tmp_path / "a.gguf", changed(label, struct.pack("<I", edge))))
        except PaddockError:
            continue
        assert edge < 45


def built(keys: list[Any] = (), tensors: list[Any] = (), data: bytes = b"", **other: Any) -> bytes:  # type: ignore[assignment]
    return raw.joined(raw.file(list(keys), list(tensors), data, **other))


Z = bytes(256)
HOSTILE = {
    "no GGUF": (built(magic=b"GGML"), "magic|not a GGUF"),
    "old": (built(magic=b"lmgg"), "before GGUF"),
    "version 0": (built(version=0), "version 0"),
    "version 1": (built(version=1), "version 1"),
    "version 4": (built(version=4), "version 4"),
    "big-endian": (built(version=3 << 24), "big-endian"),
    "nested array": (built([raw.key(b"k", ARRAY, (ARRAY, [(U8, [1])]))]), "array of arrays"),
    "value type 13": (built([[*raw.key(b"k", U8, 1)[:2], raw.number("t", "I", 13), Field("v", Z)]]), "type 13"),
    "bool of 2": (built([raw.key(b"k", BOOL, 2)]), "neither true nor false"),
    "bools of 3": (built([raw.key(b"k", ARRAY, (BOOL, [0, 3]))]), "neither true nor false"),
    "last string cut short": (
        built([raw.key(b"k", ARRAY, (STRING, [b"abc", b"abc"]))]).rstrip(b"\0")[:-1],
        "cut short",
    ),
    "string of 2 EiB": (built([raw.key(b"k", ARRAY, (STRING, [b""]))[:-2], [raw.number("n", "Q", 2**61)]]), "at most"),
    "same key twice": (built([raw.key(b"k", U8, 1), raw.key(b"k", U8, 1)]), "twice"),
    "key without a name": (built([raw.key(b"", U8, 1)]), "empty"),
    "key not UTF-8": (built([raw.key(b"\xff\xfe", U8, 1)]), "UTF-8"),
    "key of 65,536 bytes": (built([raw.key(b"k" * 65_536, U8, 1)]), "65535"),
    "tensor name of 256 bytes": (built([], [raw.tensor(b"a" * 256, [1], 0, 0)], Z), "at most 255"),
    "tensor not UTF-8": (built([], [raw.tensor(b"\xff", [1], 0, 0)], Z), "UTF-8"),
    "same tensor twice": (built([], [raw.tensor(b"a", [1], 0, 0), raw.tensor(b"a", [1], 0, 32)], Z), "twice"),
    "overlap": (built([], [raw.tensor(b"a", [9], 0, 0), raw.tensor(b"b", [1], 0, 32)], Z), "overlap"),
    "overlap told backwards": (built([], [raw.tensor(b"a", [1], 0, 32), raw.tensor(b"b", [9], 0, 0)], Z), "overlap"),
    "same place": (built([], [raw.tensor(b"a", [1], 0, 0), raw.tensor(b"b", [1], 0, 0)], Z), "overlap"),
    "offset unaligned": (built([], [raw.tensor(b"a", [1], 0, 8)], Z), "multiple of 32"),
    "offset past the end": (built([], [raw.tensor(b"a", [1], 0, 256)], Z), "cut short"),
    "offset that wraps": (built([], [raw.tensor(b"a", [8], 0, 2**64 - 32)], Z), "cut short"),
    "one value past the end": (built([], [raw.tensor(b"a", [65], 0, 0)], Z), "cut short"),
    "five dimensions": (built([], [raw.tensor(b"a", [1] * 5, 0, 0)], Z), "5 dimensions"),
    "no values": (built([], [raw.tensor(b"a", [4, 0], 0, 0)], Z), "no zeros"),
    "dims whose product wraps": (
        built([], [raw.tensor(b"a", [4194305, 4194305, 211106198978564], 0, 0)], Z),
        "cut short",
    ),
    "half a block": (built([], [raw.tensor(b"a", [33], 8, 0)], Z), "blocks of 32"),
    "block across rows": (built([], [raw.tensor(b"a", [16, 2], 8, 0)], Z), "blocks of 32"),
    "type 4 (removed)": (built([], [raw.tensor(b"a", [32], 4, 0)], Z), "type 4"),
    "type 255": (built([], [raw.tensor(b"a", [32], 255, 0)], Z), "type 255"),
}
HOSTILE |= {
    f"alignment {value}": (built([raw.key(b"general.alignment", U32, value)], alignment=32), "alignment")
    for value in (0, 1, 4, 13, 48, 2**17, 2**31)
}
HOSTILE |= {
    "alignment as float": (built([raw.key(b"general.alignment", F32, 32.0)]), "alignment"),
    "alignment as list": (built([raw.key(b"general.alignment", ARRAY, (U32, [32, 32]))]), "alignment"),
    "alignment as text": (built([raw.key(b"general.alignment", STRING, b"32")]), "alignment"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_with_their_reason(tmp_path: Path, case: str) -> None:
    data, why = HOSTILE[case]
    with pytest.raises(CheckpointError, match=why):
        parse(tmp_path / "a.gguf", data)


def test_things_that_are_no_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.gguf"):
        with pytest.raises(CheckpointError):
            GGUFFile(path)
    with pytest.raises(CheckpointError, match="empty"):
        parse(tmp_path / "a.gguf", b"")


def test_an_unknown_quantisation_is_refused_when_it_is_asked_for(tmp_path: Path) -> None:
    file = parse(tmp_path / "a.gguf", built([], [raw.tensor(b"a", [256], 16, 0), raw.tensor(b"b", [1], 0, 96)], Z))
    assert file.tensor("b").tolist() == [0.0]
    with pytest.raises(UnsupportedError, match=r"IQ2_XXS.*\n?.*Q4_K"):
        file.tensor("a")


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_limits(tmp_path: Path, excess: int) -> None:
    """One below each limit and the limit itself are read, one above is refused."""
    count = MAX_KEYS + excess
    keys = [raw.key(f"{n:05}".encode(), U8, 1) for n in range(count)]
    files = {"keys": built(keys), "string": built([raw.key(b"k", STRING, b"x" * (MAX_STRING + excess))])}
    head = raw.joined(raw.key(b"k", ARRAY, (U8, []))[:-1])
    items = MAX_ITEMS + excess
    files["items"] = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + head + struct.pack("<Q", items) + b"\1" * items
    head = raw.joined(raw.key(b"k", ARRAY, (STRING, []))[:-1])
    strings = MAX_STRINGS + excess
    files["strings"] = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + head + struct.pack("<Q", strings) + bytes(8 * strings)
    for what, data in files.items():
        if excess <= 0:
            assert len(parse(tmp_path / "a.gguf", data).metadata) == (count if what == "keys" else 1)
        else:
            with pytest.raises(CheckpointError):
                parse(tmp_path / "a.gguf", data)
    dims = [1] * (4 + excess)
    if excess <= 0:
        assert parse(tmp_path / "a.gguf", built([], [raw.tensor(b"a", dims, 0, 0)], Z)).tensors["a"].shape == tuple(
            dims
        )


def many_tensors(count: int, keys: list[list[Field]] = ()) -> bytes:  # type: ignore[assignment]
    entry = struct.Struct("<Q7sIQIQ")
    entries = b"".join(entry.pack(7, b"%07d" % n, 1, 1, 0, 32 * n) for n in range(count))
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(keys)) + raw.joined(list(chain(*keys))) + entries
    return head + bytes(-len(head) % 32 + 32 * count)


def test_number_of_tensors(tmp_path: Path) -> None:
    assert len(parse(tmp_path / "a.gguf", many_tensors(MAX_TENSORS)).tensors) == MAX_TENSORS
    with pytest.raises(CheckpointError, match="100001 tensors"):
        parse(tmp_path / "a.gguf", many_tensors(MAX_TENSORS + 1))


def strings(count: int) -> list[Field]:
    """A key with `count` strings of three bytes, all different, few of them UTF-8: the most memory per byte of file."""
    body = b"".join(struct.pack("<Q", 3) + n.to_bytes(3, "big") for n in range(2**24 - count, 2**24))
    return [*raw.key(b"k", ARRAY, (STRING, []))[:-1], raw.number("items", "Q", count), Field("strings", body)]


def wide_text(size: int) -> list[Field]:
    """A string whose every character takes four times the memory because one of them is an emoji."""
    return raw.key(b"wide", STRING, "🙂".encode() + b"x" * (size - 4))


MEASURE = """
    import json, os, resource, sys, time
    from paddock.checkpoint import gguf_families
    from paddock.checkpoint.gguf import GGUFFile
    from paddock.errors import PaddockError
    for path in sys.argv[1:]:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
            start, outcome = time.process_time(), "read"
            try:
                gguf_families.read(GGUFFile(path))
            except PaddockError:
                outcome = "refused"
            seconds = time.process_time() - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
            os.write(writer, json.dumps([outcome, seconds, peak]).encode())
            os._exit(0)
        os.waitpid(child, 0)
        print(os.read(reader, 1000).decode())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory through /proc")
def test_the_worst_files_stay_within_five_seconds_and_four_times_their_size(tmp_path: Path) -> None:
    lying = {"lies about strings": struct.pack("<Q", 2**63), "lies about keys": struct.pack("<Q", 9_999)}
    files = {
        "strings": built([strings(MAX_STRINGS)]),
        "wide text": built([wide_text(MAX_STRING)]),
        "many tensors": many_tensors(MAX_TENSORS),
        "all of these": many_tensors(MAX_TENSORS, [strings(MAX_STRINGS), wide_text(MAX_STRING)]),
        "many keys": built([raw.key(f"{n:05}".encode(), U8, 1) for n in range(MAX_KEYS)]),
        "lies about strings": changed("words items", lying["lies about strings"]),
        "lies about keys": changed("keys", lying["lies about keys"]),
        "49 bytes": b"GGUF"
        + struct.pack("<IQQ", 3, 0, 1)
        + raw.joined(raw.key(b"k", ARRAY, (U8, []))[:-1])
        + b"\xff" * 8,
    }
    paths = []
    for name, data in files.items():
        paths.append(tmp_path / f"{name}.gguf")
        paths[-1].write_bytes(data)
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), *map(str, paths)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    assert len(lines) == len(files)
    for (name, data), line in zip(files.items(), lines, strict=True):
        outcome, seconds, peak = json.loads(line)
        print(f"{name}: {len(data) / 2**20:.1f} MiB, {outcome} in {seconds:.2f} s with {peak / 2**20:.0f} MiB")
        assert outcome == "refused"  # none of them is a model
        assert seconds < 5
        assert peak <= (64 << 20) + 4 * len(data)


def mutated(data: st.DataObject) -> bytes:
    """The sample with fields changed, dropped, doubled, swapped or cut: structure first, bytes second."""
    fields = [Field(field.label, field.data, field.kind) for field in SAMPLE]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(fields) - 1))
        field = fields[at]
        match data.draw(st.sampled_from(["edge", "edge", "small", "drop", "double", "swap", "byte"])):
            case "edge":
                value = data.draw(st.one_of(st.sampled_from(EDGES), st.integers(0, 300)))
                fields[at] = Field(field.label, value.to_bytes(8, "little")[: len(field.data)], field.kind)
            case "small":
                value = data.draw(st.integers(0, 45))
                fields[at] = Field(field.label, value.to_bytes(max(1, len(field.data)), "little"), field.kind)
            case "drop":
                fields[at] = Field(field.label, b"")
            case "double":
                fields.insert(at, field)
            case "swap":
                other = data.draw(st.integers(0, len(fields) - 1))
                fields[at], fields[other] = fields[other], fields[at]
            case "byte" if field.data:
                spot = data.draw(st.integers(0, len(field.data) - 1))
                changed_bytes = bytearray(field.data)
                changed_bytes[spot] = data.draw(st.integers(0, 255))
                fields[at] = Field(field.label, bytes(changed_bytes), field.kind)
    whole = raw.joined(fields)
    return whole[: data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))]


def only_refusals_escape(path: Path, content: bytes) -> None:
    try:
        load_all(parse(path, content))
    except PaddockError:
        return


FUZZ: dict[str, Any] = {
    "derandomize": True,
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


@settings(max_examples=400, **FUZZ)
@given(data=st.data())
def test_fuzz(data: st.DataObject, tmp_path: Path) -> None:
    only_refusals_escape(tmp_path / "a.gguf", mutated(data))


@pytest.mark.slow
@settings(max_examples=5000, **FUZZ)
@given(data=st.data())
def test_fuzz_long(data: st.DataObject, tmp_path: Path) -> None:
    only_refusals_escape(tmp_path / "a.gguf", mutated(data))


VALUES = st.one_of(
    st.integers(0, 2**32 - 1),
    st.integers(0, 64),
    st.floats(width=32),
    st.text(max_size=8),
    st.booleans(),
    st.lists(st.integers(0, 64), min_size=1, max_size=3),
    st.lists(st.text(max_size=3), min_size=1, max_size=3),
)
ANY_KEYS = ["context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"]
ANY_KEYS += ["attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count"]
ANY_KEYS += ["attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.scaling.type"]
ANY_KEYS += ["rope.scaling.factor", "attention.max_alibi_bias", "attention.clamp_kqv", "attention.sliding_window"]
ANY_KEYS += ["attention.relative_buckets_count", "expert_count", "expert_used_count", "use_parallel_residual"]
USUAL = {"attention.layer_norm_epsilon": 1e-5, "attention.layer_norm_rms_epsilon": 1e-5}
NAMES = ["token_embd", "output_norm", "output", "position_embd", "token_types", "token_embd_norm", "rope_freqs"]
NAMES += ["blk.0.attn_norm", "blk.0.attn_q", "blk.0.attn_k", "blk.1.attn_qkv", "blk.0.attn_qkv", "blk.0.ffn_up"]
NAMES += ["blk.0.ffn_gate_exps", "blk.0.ffn_gate.1", "enc.blk.0.attn_q", "dec.blk.0.cross_attn_q", "blk.5000.attn_norm"]


def families_only_refuse(data: st.DataObject, path: Path) -> None:
    """Any settings and any tensors, in a sound container."""
    family = data.draw(st.sampled_from(sorted(gguf_families.FAMILIES)))
    settings_ = dict.fromkeys(ANY_KEYS[:6], 2) | USUAL | {"attention.head_count": 2, "embedding_length": 8}
    for key in data.draw(st.lists(st.sampled_from([*ANY_KEYS, "unheard_of"]), max_size=4)):
        settings_[key] = data.draw(VALUES)
    metadata = {f"{family}.{key}": value for key, value in settings_.items()}
    for key in data.draw(
        st.lists(st.sampled_from(["general.type", "split.count", "tokenizer.ggml.eos_token_id"]), max_size=1)
    ):
        metadata[key] = data.draw(VALUES)
    tensors = {"token_embd.weight": np.zeros((4, 8), np.float32), "token_types.weight": np.zeros((2, 8), np.float32)}
    for name in data.draw(st.lists(st.sampled_from(NAMES), max_size=5)):
        shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 8, 24]), min_size=1, max_size=3))
        suffix = data.draw(st.sampled_from([".weight", ".weight", ".bias", ""]))
        tensors[name + suffix] = np.zeros(shape, np.float32)
    gguf_files.simple(path, tensors, architecture=family, **metadata)
    try:
        _, stored = gguf_families.read(path)
        for entry in stored.values():
            assert tuple(entry.load().shape) == entry.shape
    except PaddockError:
        return


@settings(max_examples=300, **FUZZ)
@given(data=st.data())
def test_fuzz_families(data: st.DataObject, tmp_path: Path) -> None:
    families_only_refuse(data, tmp_path / "a.gguf")


@pytest.mark.slow
@settings(max_examples=3000, **FUZZ)
@given(data=st.data())
def test_fuzz_families_long(data: st.DataObject, tmp_path: Path) -> None:
    families_only_refuse(data, tmp_path / "a.gguf")
