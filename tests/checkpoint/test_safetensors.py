"""Safetensors: equal to the library on what is sound, refusing by name what is not, within bounds whatever it is."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import damage
import limits
import pytest
import safetensors.torch as library
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.checkpoint import safetensors
from paddock.checkpoint.safetensors import DTYPES, ENTRY_LIMIT, HEADER_LIMIT, TENSOR_LIMIT, Planned
from paddock.errors import CheckpointError, PaddockError


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file from its parts; a header that is no text is written as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: int, stop: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(stop - start) // 4] if shape is None else shape, "data_offsets": [start, stop]}


def one(**changes: Any) -> bytes:
    return raw({"a": entry(0, 16) | changes}, bytes(16))


def read(path: Path, data: bytes) -> dict[str, Any]:
    path.write_bytes(data)
    return {name: stored.load() for name, stored in safetensors.read(path).items()}


SOUND = {"a": entry(0, 16, [2, 2]), "b": entry(16, 24), "c": entry(24, 24, [0, 5]), "d": entry(24, 28, [])}
OFFSETS = "the offsets"
SHAPE = "the shape"
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "seven bytes": (b"\0" * 7, "cut short"),
    "only a length": (struct.pack("<Q", 2), "cut short"),
    "header of 0 bytes": (raw(b""), "not JSON"),
    "header of 1 byte": (raw(b"{"), "not JSON"),
    "header of 1 byte more": (raw(b"{}", length=3), "cut short"),
    "header of the limit": (raw(b"{}", length=HEADER_LIMIT), "cut short"),
    "header over the limit": (raw(b"{}", length=HEADER_LIMIT + 1), "says its header is"),
    "header of 2^63 bytes": (raw(b"{}", length=2**63), "says its header is"),
    "header of 2^64 - 1 bytes": (raw(b"{}", length=2**64 - 1), "says its header is"),
    "header with a byte order mark": (raw(b"\xef\xbb\xbf{}"), "not JSON"),
    "not UTF-8": (raw(b'{"\xff": 1}'), "not UTF-8"),
    "not JSON": (raw(b"hello"), "not JSON"),
    "a list": (raw([1]), "not JSON"),
    "null": (raw(b"null"), "not JSON"),
    "two objects": (raw(b"{}{}"), "after its end"),
    "NaN": (raw(b'{"a": NaN}'), "NaN"),
    "NaN in a shape": (raw(b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 4]}}', bytes(4)), "NaN"),
    "deep nesting": (raw(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "JSON"),
    "deep metadata": (raw(b'{"__metadata__": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "JSON"),
    "a name twice": (raw(b'{"a": %s, "a": %s}' % ((json.dumps(entry(0, 4)).encode(),) * 2), bytes(4)), "twice"),
    "a field twice": (raw(b'{"a": {"dtype": "F32", "dtype": "F32", "shape": [], "data_offsets": [0, 4]}}'), "twice"),
    "a name of half a surrogate": (raw(b'{"\\ud800": 1}'), "surrogates"),
    "an entry that is no object": (raw({"a": 1}), "not described"),
    "an entry that is a list": (raw({"a": ["F32", [1], [0, 4]]}), "not described"),
    "a field too few": (raw({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)), "not described"),
    "a field too many": (one(extra=1), "not described"),
    "unknown type": (one(dtype="F33"), "unknown type"),
    "type in small letters": (one(dtype="f32"), "unknown type"),
    "type that is a number": (one(dtype=32), "unknown type"),
    "type that is a list": (one(dtype=["F32"]), "unknown type"),
    "no type": (one(dtype=None), "unknown type"),
    "negative shape": (one(shape=[-4]), SHAPE),
    "two negatives": (one(shape=[-2, -2]), SHAPE),
    "shape that is a number": (one(shape=4), SHAPE),
    "shape that is text": (one(shape="4"), SHAPE),
    "shape of booleans": (one(shape=[True, 4]), SHAPE),
    "shape of fractions": (one(shape=[4.0]), SHAPE),
    "shape of null": (one(shape=[None]), SHAPE),
    "shape of lists": (one(shape=[[4]]), SHAPE),
    "shape of 17 dimensions": (one(shape=[1] * 16 + [4]), SHAPE),
    "shape of 2^64": (one(shape=[2**64]), SHAPE),
    "product that wraps to 4": (one(shape=[4194305, 4194305, 211106198978564]), "holds 16 bytes"),
    "product that wraps to 0": (one(shape=[2**32, 2**32]), "holds 16 bytes"),
    "bytes that wrap": (one(shape=[2**62 + 4]), "holds 16 bytes"),
    "shape too small": (one(shape=[3]), "holds 16 bytes"),
    "shape too large": (one(shape=[5]), "holds 16 bytes"),
    "reversed offsets": (one(data_offsets=[16, 0]), "holds -16 bytes"),
    "negative offsets": (one(data_offsets=[-16, 0]), OFFSETS),
    "one offset": (one(data_offsets=[16]), OFFSETS),
    "three offsets": (one(data_offsets=[0, 8, 16]), OFFSETS),
    "offsets that are booleans": (one(data_offsets=[False, 16]), OFFSETS),
    "offsets that are fractions": (one(data_offsets=[0.0, 16.0]), OFFSETS),
    "offsets of 2^64": (one(data_offsets=[2**64, 2**64 + 16]), OFFSETS),
    "past the end": (one(data_offsets=[8, 24]), "leaves 8 bytes"),
    "far past the end": (one(data_offsets=[2**62, 2**62 + 16]), "unexplained"),
    "end past the end": (raw({"a": entry(0, 20)}, bytes(16)), "cut short"),
    "overlap": (raw({"a": entry(0, 16), "b": entry(8, 24)}, bytes(24)), "overlaps"),
    "the same place twice": (raw({"a": entry(0, 16), "b": entry(0, 16)}, bytes(16)), "overlaps"),
    "nothing inside something": (raw({"a": entry(0, 16), "b": entry(8, 8, [0])}, bytes(16)), "overlaps"),
    "gap": (raw({"a": entry(0, 8), "b": entry(12, 16)}, bytes(16)), "leaves 4 bytes"),
    "gap at the start": (raw({"a": entry(4, 16)}, bytes(16)), "leaves 4 bytes"),
    "trailing bytes": (raw({"a": entry(0, 16)}, bytes(17)), "from its header"),
    "bytes without tensors": (raw({}, bytes(1)), "from its header"),
    "a tensor in the metadata's place": (raw({"__metadata__": entry(0, 4)}, bytes(4)), "from its header"),
    "an entry longer than any": (raw({"a": entry(0, 4) | {"dtype": "F" * ENTRY_LIMIT}}, bytes(4)), "not JSON"),
    "a name longer than any": (raw({"a" * 1025: entry(0, 4)}, bytes(4)), "not JSON"),
}


@pytest.mark.parametrize("title", REFUSED)
def test_refusals_say_why(title: str, tmp_path: Path) -> None:
    data, reason = REFUSED[title]
    with pytest.raises(CheckpointError, match=reason) as caught:
        read(tmp_path / "a.safetensors", data)
    assert "a.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = raw(SOUND, bytes(28))
    assert len(read(tmp_path / "a", whole)) == 4
    for size in range(len(whole)):
        with pytest.raises(CheckpointError):
            read(tmp_path / "a", whole[:size])


def test_what_is_accepted(tmp_path: Path) -> None:
    assert read(tmp_path / "a", raw({})) == {}
    assert read(tmp_path / "a", raw({"__metadata__": {"x": "y" * 5000}})) == {}
    assert read(tmp_path / "a", raw(json.dumps(SOUND, indent=4).encode() + b" " * 99, bytes(28))).keys() == SOUND.keys()
    shuffled = dict(reversed(SOUND.items()))
    assert list(read(tmp_path / "a", raw(shuffled, bytes(28)))) == list(shuffled)
    sizes = {name: list(tensor.shape) for name, tensor in read(tmp_path / "a", raw(SOUND, bytes(28))).items()}
    assert sizes == {"a": [2, 2], "b": [2], "c": [0, 5], "d": []}


def test_an_empty_tensor_of_an_absurd_shape_is_refused_when_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw({"a": entry(0, 0, [2**62, 2**62, 0])}))
    with pytest.raises(CheckpointError, match="impossible shape"):
        safetensors.read(path)["a"].load()


def everything() -> dict[str, torch.Tensor]:
    """One tensor of each type, of odd shapes and strides."""
    base = torch.arange(-15, 15).reshape(5, 6)
    made = {name: base.to(torch.float32).to(dtype) for name, dtype in DTYPES.items()}
    return made | {
        "turned": base.float().T,
        "part": base[1:3, 2:5],
        "none": torch.empty(3, 0),
        "one": torch.tensor(2.5),
    }


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (left, right)]
    return left.dtype == right.dtype and left.shape == right.shape and torch.equal(*bits)


def test_the_library_reads_what_is_written_and_the_other_way_round(tmp_path: Path) -> None:
    tensors = everything()
    safetensors.write(tmp_path / "ours", tensors)
    library.save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "theirs", metadata={"format": "pt"})
    by_library = library.load_file(tmp_path / "ours")
    by_us = {name: stored.load() for name, stored in safetensors.read(tmp_path / "theirs").items()}
    assert by_library.keys() == by_us.keys() == tensors.keys()
    assert all(same(by_library[name], tensor) and same(by_us[name], tensor) for name, tensor in tensors.items())


def test_tensors_are_made_one_at_a_time(tmp_path: Path) -> None:
    alive: list[int] = []

    def make(number: int) -> torch.Tensor:
        alive.append(number)
        return torch.full((2,), float(number))

    plan = {f"{i}": Planned((2,), torch.float32, lambda i=i: make(i)) for i in range(3)}
    safetensors.write(tmp_path / "a", plan)
    assert alive == [0, 1, 2]
    assert [stored.load().tolist() for stored in safetensors.read(tmp_path / "a").values()] == [
        [i, i] for i in range(3)
    ]


def test_saving_onto_the_mapped_source(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = everything()
    safetensors.write(path, tensors)
    safetensors.write(path, {name: stored.load() for name, stored in safetensors.read(path).items()})
    assert all(same(stored.load(), tensors[name]) for name, stored in safetensors.read(path).items())


def many(count: int) -> bytes:
    """A file of `count` tensors of one number each."""
    form = b'"model.layers.%d.w":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}'
    names = b",".join(form % (i, 4 * i, 4 * i + 4) for i in range(count))
    return raw(b"{" + names + b"}", bytes(4 * count))


def test_the_tensor_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(many(TENSOR_LIMIT))
    print(limits.check(safetensors.read, path, accepted=True))
    path.write_bytes(many(TENSOR_LIMIT + 1))
    assert "too many tensors" in limits.check(safetensors.read, path).message


WORST: dict[str, Callable[[], bytes]] = {
    "200,000 names": lambda: raw(
        b"{" + b",".join(b'"a.rather.long.name.of.a.tensor.%06d":{}' % i for i in range(200_000)) + b"}"
    ),
    "the last name twice": lambda: many(TENSOR_LIMIT - 1)[:-1],
    "32 MiB of lists": lambda: raw(b'{"a": [' + b"[]," * (10 * 2**20) + b"[]]}"),
    "metadata of lists": lambda: raw(b'{"__metadata__": [' + b"[]," * (10 * 2**20) + b"[]]}"),
    "metadata of 1 MiB of lists": lambda: raw(b'{"__metadata__": [' + b"[]," * 340_000 + b"[]], 1}"),
    "32 MiB of names": lambda: raw(b"{" + b",".join(b'"%01020d":{}' % i for i in range(32_000)) + b"}"),
    "32 MiB of spaces": lambda: raw(b"{" + b" " * (HEADER_LIMIT - 1)),
    "32 MiB of four-byte characters": lambda: raw(b'{"' + "😀".encode() * (HEADER_LIMIT // 4 - 1)),
}


@pytest.mark.parametrize("title", WORST)
def test_the_worst_headers_stay_within_the_contract(title: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(WORST[title]())
    print(title, limits.check(safetensors.read, path))


def fuzz(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    header, data = SOUND, bytes(28)
    if rng.random() < 0.75:
        text = damage.mutate(header | {"__metadata__": {"format": "pt"}}, rng, rng.randint(1, 3)).encode()
        file = raw(text, data if rng.random() < 0.8 else damage.spoil(data, rng))
    else:
        file = damage.spoil(raw(header, data), rng)
    try:
        for tensor in read(path, file).values():
            tensor.float().sum()
    except PaddockError as error:
        assert len(str(error)) < 1000
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@given(st.integers(0, 2**32))
@settings(max_examples=400, derandomize=True, deadline=None)
def test_only_refusals_escape(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    fuzz(_place(tmp_path_factory), seed)


@pytest.mark.slow
@given(st.integers(0, 2**32))
@settings(max_examples=20_000, derandomize=True, deadline=None)
def test_only_refusals_escape_at_length(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    fuzz(_place(tmp_path_factory), seed)


def _place(factory: pytest.TempPathFactory) -> Path:
    folder = factory.getbasetemp() / "fuzzed-safetensors"
    folder.mkdir(exist_ok=True)
    return folder / "a.safetensors"
