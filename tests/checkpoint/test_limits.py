"""The worst small files of every format: whatever reads them answers within 5 seconds and 64 MiB + 4 x their size."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import limits
import pytest

from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.errors import CheckpointError, ResourceError
from paddock.tokenizer.load import load as load_tokenizer
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_registry import find_template

KEY, ARRAY, STRING, U8, U32 = "general.architecture", 9, 8, 0, 4


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def text(value: bytes, size: int | None = None) -> bytes:
    return u64(len(value) if size is None else size) + value


def gguf(body: bytes, keys: int = 1, tensors: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + body


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<I", kind) + u64(count) + items


def tensor(name: bytes, shape: list[int], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack("<I", len(shape)) + b"".join(map(u64, shape)) + struct.pack("<IQ", kind, offset)


LLAMA = pair(KEY.encode(), STRING, text(b"llama"))
GGUFS: dict[str, Callable[[], bytes]] = {
    "2^64 - 1 keys": lambda: gguf(b"", keys=2**64 - 1),
    "2^64 - 1 tensors": lambda: gguf(b"", keys=0, tensors=2**64 - 1),
    "an array of 2^63": lambda: gguf(pair(b"a", ARRAY, array(U8, 2**63))),
    "an array of 2^64 - 1 texts": lambda: gguf(pair(b"a", ARRAY, array(STRING, 2**64 - 1))),
    "empty texts": lambda: gguf(pair(b"a", ARRAY, array(STRING, 4_000_000, bytes(32_000_000)))),
    "arrays in arrays": lambda: gguf(pair(b"a", ARRAY, array(ARRAY, 1, array(U8, 1, b"x")))),
    "nested 10,000 deep": lambda: gguf(pair(b"a", ARRAY, array(ARRAY, 1) * 10_000)),
    "a text of 2^63": lambda: gguf(pair(b"a", STRING, text(b"x", 2**63))),
    "a name of 2^63": lambda: gguf(text(b"x", 2**63)),
    "many keys": lambda: gguf(b"".join(pair(b"%06d" % i, U32, bytes(4)) for i in range(200_000)), keys=200_000),
    "a shape that wraps": lambda: gguf(LLAMA + tensor(b"a", [4194305, 4194305, 211106198978564]), tensors=1),
    "a shape of zeros": lambda: gguf(LLAMA + tensor(b"a", [0, 2**63]), tensors=1),
    "2^32 - 1 dimensions": lambda: gguf(LLAMA + text(b"a") + struct.pack("<I", 2**32 - 1), tensors=1),
    "an offset of 2^64 - 32": lambda: gguf(LLAMA + tensor(b"a", [4], offset=2**64 - 32), tensors=1),
    "alignment 0": lambda: gguf(LLAMA + pair(b"general.alignment", U32, bytes(4)), keys=2),
    "alignment 2^31": lambda: gguf(LLAMA + pair(b"general.alignment", U32, struct.pack("<I", 2**31)), keys=2),
    "many tensors": lambda: gguf(
        LLAMA + b"".join(tensor(b"%06d" % i, [1], offset=32 * i) for i in range(90_000)), tensors=90_000
    ),
    "10^9 layers": lambda: gguf(LLAMA + pair(b"llama.block_count", U32, struct.pack("<I", 10**9)), keys=2),
    "version 0": lambda: gguf(b"", version=0),
    "cut": lambda: b"GGUF",
}
EDGES = (0, -1, 1, 2**31 - 1, -(2**31))
LLAMA2C: dict[str, Callable[[], bytes]] = {
    f"field {field} is {value}": lambda field=field, value=value: (
        struct.pack(  # type: ignore[misc]
            "<7i", *[value if i == field else size for i, size in enumerate((8, 16, 2, 2, 2, 32, 16))]
        )
        + bytes(4096)
    )
    for field in range(7)
    for value in EDGES
} | {
    "v1 of extremes": lambda: struct.pack("<Ii7i?", 0x616B3432, 1, *[2**31 - 1] * 7, True) + bytes(300),
    "v2 of extremes": lambda: struct.pack("<Ii7i?i", 0x616B3432, 2, *[2**31 - 1] * 7, True, 2**31 - 1) + bytes(300),
    "v2, group size 0": lambda: struct.pack("<Ii7i?i", 0x616B3432, 2, 8, 16, 2, 2, 2, 32, 16, True, 0) + bytes(300),
}


def refused(function: Callable[[Path], Any], path: Path, data: bytes) -> None:
    path.write_bytes(data)
    print(path.name, len(data), limits.check(function, path))


@pytest.mark.parametrize("title", GGUFS)
def test_gguf(title: str, tmp_path: Path) -> None:
    refused(open_checkpoint, tmp_path / "a.gguf", GGUFS[title]())


@pytest.mark.parametrize("title", LLAMA2C)
def test_llama2c(title: str, tmp_path: Path) -> None:
    refused(open_checkpoint, tmp_path / "a.bin", LLAMA2C[title]())


def tokenizer(**parts: Any) -> bytes:
    """A sound tokenizer.json but for some parts."""
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]} | parts.pop("model", {})
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model} | parts).encode()


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "Sequence", "normalizers": []}
    for _ in range(depth):
        found = {"type": "Sequence", "normalizers": [found]}
    return found


def charsmap(size: int) -> dict[str, Any]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\xff" * size).decode()}


TOKENIZERS: dict[str, Callable[[], bytes]] = {
    "brackets": lambda: b"[" * 2**20,
    "brackets in an object": lambda: b'{"model": ' + b"[" * 2**20,
    "64 MiB of lists": lambda: b'{"model": [' + b"[]," * (20 * 2**20) + b"[]]}",
    "64 MiB of numbers": lambda: b'{"model": [' + b"0," * (30 * 2**20) + b"0]}",
    "an id of 2^32": lambda: tokenizer(model={"vocab": {"a": 2**32}}),
    "a negative id": lambda: tokenizer(model={"vocab": {"a": -1}}),
    "an id of 10^30": lambda: tokenizer(model={"vocab": {"a": 10**30}}),
    "an id far off": lambda: tokenizer(model={"vocab": {"a": 0, "b": 1, "ab": 2**31}}),
    "merges of nothing known": lambda: tokenizer(model={"merges": [f"x{i} y{i}" for i in range(500_000)]}),
    "merges without blanks": lambda: tokenizer(model={"merges": ["x" * 1000] * 1000}),
    "a deep normalizer": lambda: b'{"normalizer":' * 60_000,
    "a normalizer 60 deep": lambda: tokenizer(normalizer=nested(29), model={"vocab": {"a": 7}}),
    "a map of characters of nothing": lambda: tokenizer(normalizer=charsmap(4)),
    "a large map of characters": lambda: tokenizer(normalizer=charsmap(2**20)),
    "a broken pattern": lambda: tokenizer(pre_tokenizer=split("(((((")),
    "a long pattern": lambda: tokenizer(pre_tokenizer=split("(a|b)" * 200_000)),
    "unknown model": lambda: tokenizer(model={"type": "X" * 10**6}),
    "added tokens twice": lambda: tokenizer(added_tokens=[{"id": 3, "content": "x"}] * 100_000),
}


@pytest.mark.parametrize("title", TOKENIZERS)
def test_tokenizer_json(title: str, tmp_path: Path) -> None:
    refused(load_tokenizer, tmp_path / "tokenizer.json", TOKENIZERS[title]())


def encode(path: Path) -> None:
    load_tokenizer(path).encode("a" * 4000)


@pytest.mark.parametrize("pattern", ["(a+)+$b", "(((a{1000}){1000}){1000}){1000}", "(a|aa)+$b", "(?=(a+))*b"])
def test_patterns_that_backtrack(pattern: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(tokenizer(pre_tokenizer=split(pattern)))
    spent = limits.cost(encode, path)
    assert spent.outcome in ("accepted", "refused"), spent
    assert spent.seconds <= limits.SECONDS and spent.mebibytes <= 64, spent


def varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, data: bytes, size: int | None = None) -> bytes:
    return varint(number << 3 | 2) + varint(len(data) if size is None else size) + data


PIECE = field(1, field(1, b"a") + b"\x15" + struct.pack("<f", -1.0))
MODELS: dict[str, Callable[[], bytes]] = {
    "a piece of 2^63 bytes": lambda: field(1, b"x", 2**63),
    "a number without end": lambda: b"\xff" * 2**20,
    "empty pieces": lambda: field(1, b"") * 2**21,
    "the same piece": lambda: PIECE * 200_000,
    "groups": lambda: b"\x0b" * 10**6,
    "fields of no meaning": lambda: (varint(1000 << 3) + b"\x01") * 10**6,
    "a trainer of zeros": lambda: PIECE + field(2, bytes(10**6)),
    "a normalizer of zeros": lambda: PIECE + field(3, field(2, bytes(10**6))),
    "a normalizer without end": lambda: PIECE + field(3, field(2, b"\xff" * 10**6)),
    "a piece that is no text": lambda: field(1, field(1, b"\xff\xfe")),
    "a score that is none": lambda: field(1, field(1, b"a") + b"\x15" + struct.pack("<f", float("nan"))),
}


@pytest.mark.parametrize("title", MODELS)
def test_sentencepiece(title: str, tmp_path: Path) -> None:
    refused(load_tokenizer, tmp_path / "tokenizer.model", MODELS[title]())


VOCABULARIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty lines": ("vocab.txt", lambda: b"\n" * 2**22),
    "one line": ("vocab.txt", lambda: b"x" * 2**24),
    "the same line": ("vocab.txt", lambda: b"a\n" * 2**20),
    "not text": ("vocab.txt", lambda: b"\xff" * 2**20),
    "ranks of lines": ("a.tiktoken", lambda: b"\n" * 2**22),
    "ranks that lie": ("a.tiktoken", lambda: b"YQ== 99999999999999999999\n" * 10**5),
    "ranks that are not base64": ("a.tiktoken", lambda: b"!!!! 1\n" * 10**5),
    "tokenizer.bin of extremes": ("tokenizer.bin", lambda: b"\xff\xff\xff\x7f" * 1000),
    "tokenizer.bin of nothing": ("tokenizer.bin", lambda: bytes(2**22)),
}


@pytest.mark.parametrize("title", VOCABULARIES)
def test_other_vocabularies(title: str, tmp_path: Path) -> None:
    name, data = VOCABULARIES[title]
    refused(load_tokenizer, tmp_path / name, data())


def render(path: Path) -> None:
    """Renders a model's own template, as a stranger wrote it."""
    source = path.read_text("utf-8")
    Template(source).render([{"role": "user", "content": "hello"}])


LOOP = "{% for i in range(90000) %}"
TEMPLATES: dict[str, Callable[[], str]] = {
    "loops in loops": lambda: LOOP * 6 + "x" + "{% endfor %}" * 6,
    "a loop of 2^63": lambda: "{% for i in range(9223372036854775807) %}x{% endfor %}",
    "a long text": lambda: "{{ 'a' * 2000000000 }}",
    "a long list": lambda: "{{ [0] * 2000000000 }}",
    "a wide field": lambda: "{{ '%999999999d' % 1 }}",
    "a wide format": lambda: "{{ '{:999999999}'.format(1) }}",
    "a great power": lambda: "{{ 9 ** 9 ** 9 ** 9 ** 9 }}",
    "doubling": lambda: "{% set n = namespace(s='aa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "doubling lists": lambda: (
        "{% set n = namespace(s=[1]) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}"
    ),
    "a macro of itself": lambda: "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "macros that double": lambda: "{% macro m(n) %}{{ m(n - 1) }}{{ m(n - 1) }}{% endmacro %}{{ m(60) }}",
    "brackets": lambda: "{{ " + "(" * 50_000 + ")" * 50_000 + " }}",
    "nested ifs": lambda: "{% if 1 %}" * 5_000 + "{% endif %}" * 5_000,
    "256 KiB and one": lambda: "x" * (256 * 1024 + 1),
    "escaping": lambda: "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "importing": lambda: "{% import 'os' as os %}{{ os.system('true') }}",
    "replacing": lambda: "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x.replace('a', x) %}" * 30 + "{{ x }}",
    "joining": lambda: "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x.join(x) %}" * 30 + "{{ x }}",
    "sorting and grouping": lambda: "{{ range(90000)|map('string')|sort|groupby('a')|list * 100000 }}",
    "centred": lambda: "{{ 'x'|center(2000000000) }}",
    "indented": lambda: "{{ 'x\n' * 1000|indent(2000000000) }}",
    "a lorem ipsum": lambda: "{{ lipsum(10000000) }}",
    "cyclers": lambda: "{% set c = cycler(*range(90000)) %}" + LOOP + LOOP + "{{ c.next() }}{% endfor %}{% endfor %}",
}


@pytest.mark.parametrize("title", TEMPLATES)
def test_templates(title: str, tmp_path: Path) -> None:
    refused(render, tmp_path / "chat_template.jinja", TEMPLATES[title]().encode())


CONFIGS: dict[str, Callable[[], bytes]] = {
    "20 MB of lists": lambda: b'{"chat_template": [' + b"[]," * 7_000_000 + b"[]]}",
    "a list of lists": lambda: b"[" + b"[]," * 7_000_000 + b"[]]",
    "brackets": lambda: b'{"chat_template": ' + b"[" * 2**20,
    "64 MiB of numbers": lambda: b'{"chat_template": [' + b"0," * (30 * 2**20) + b"0]}",
}


def template_beside(path: Path) -> None:
    find_template(path.parent)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.json"])
@pytest.mark.parametrize("title", CONFIGS)
def test_template_configurations(title: str, name: str, tmp_path: Path) -> None:
    refused(template_beside, tmp_path / name, CONFIGS[title]())


# The measuring itself.


def fill(path: Path) -> None:
    raise CheckpointError(str(len(b"x" * int(path.read_text()))))


def run_out(path: Path) -> None:
    raise ResourceError("no refusal of a file")


def spin(path: Path) -> None:
    while True:
        pass


def vanish(path: Path) -> None:
    import os

    os._exit(7)


def test_the_measure_sees_memory_time_and_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text(str(100 * 2**20))
    spent = limits.cost(fill, path)
    assert (spent.outcome, spent.message) == ("refused", str(100 * 2**20))
    assert 90 < spent.mebibytes < 120
    assert limits.cost(run_out, path).outcome == "escaped"
    assert "died with code 7" in limits.cost(vanish, path).message
    with pytest.raises(AssertionError, match="allowed: 64 MiB"):
        limits.check(fill, path)
    monkeypatch.setattr(limits, "HUNG", 2.0)
    assert limits.cost(spin, path).message == "no answer in 2 s"
