"""JSON that other people wrote: what is accepted, and each refusal by its reason."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import limits
import pytest

from paddock.checkpoint import jsonfile
from paddock.errors import CheckpointError

REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not JSON"),
    "spaces": (b"  \n", "not JSON"),
    "not JSON": (b"hello", "not JSON"),
    "cut": (b'{"a": 1', "not JSON"),
    "two values": (b"{} {}", "not JSON"),
    "single quotes": (b"{'a': 1}", "not JSON"),
    "trailing comma": (b'{"a": 1,}', "not JSON"),
    "comment": (b'{"a": 1} // x', "not JSON"),
    "NUL": (b'{"a": 1}\x00', "not JSON"),
    "control character": (b'{"a": "\x01"}', "not JSON"),
    "UTF-16": (json.dumps({"a": 1}).encode("utf-16"), "not UTF-8"),
    "UTF-16 without a mark": (json.dumps({"a": 1}).encode("utf-16-le"), "not JSON"),
    "UTF-32": (json.dumps({"a": 1}).encode("utf-32"), "not UTF-8"),
    "latin-1": ('{"a": "é"}'.encode("latin-1"), "not UTF-8"),
    "overlong UTF-8": (b'{"a": "\xc0\xaf"}', "not UTF-8"),
    "encoded surrogate": (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
    "lone surrogate": (b'{"a": "\\ud800"}', "surrogates"),
    "lone surrogate key": (b'{"\\ud800": 1}', "surrogates"),
    "list": (b"[1]", "a list"),
    "null": (b"null", "a NoneType"),
    "text": (b'"x"', "a str"),
    "number": (b"3", "a int"),
    "NaN": (b'{"a": NaN}', "the number NaN"),
    "Infinity": (b'{"a": Infinity}', "the number Infinity"),
    "minus Infinity": (b'{"a": [-Infinity]}', "the number -Infinity"),
    "1e400": (b'{"a": 1e400}', "the number 1e400"),
    "a key twice": (b'{"a": 1, "b": 2, "a": 1}', "the key 'a' twice"),
    "a key twice inside": (b'{"x": {"a": 1, "\\u0061": 2}}', "the key 'a' twice"),
    "deeper than 64": (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "nested more than 64 deep"),
    "deeper than Python": (b'{"a":' * 100_000, "not sane JSON"),
    "brackets": (b"[" * 140_000, "not sane JSON"),
    "a number of 5,000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "not sane JSON"),
    "too many values": (b'{"a": [' + b"0," * 150_001 + b"0]}", "too many values"),
}


@pytest.mark.parametrize("title", REFUSED)
def test_refusals_say_why(title: str) -> None:
    data, reason = REFUSED[title]
    with pytest.raises(CheckpointError, match=reason) as caught:
        jsonfile.parse(data, "x.json")
    assert "x.json" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_is_accepted() -> None:
    assert jsonfile.parse(b"\xef\xbb\xbf{}", "x") == {}, "a byte order mark is what some editors leave"
    assert jsonfile.parse('{"é": ["中", "\\ud83d\\ude00", 1e308, -0.0, 18446744073709551616]}'.encode(), "x") == {
        "é": ["中", "😀", 1e308, 0.0, 2**64]
    }
    assert jsonfile.parse(b'{"a":' + b"[" * 63 + b"]" * 63 + b"}", "x")
    assert len(jsonfile.parse(b'{"a": [' + b"0," * (jsonfile.VALUES - 3) + b"0]}", "x")["a"]) == jsonfile.VALUES - 2


def test_files_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name, reason in {
        "folder": "not a regular file",
        "pipe": "not a regular file",
        "device": "not a regular file",
        "dangling": "a link to nothing",
        "loop": "loop",
        "absent": "missing",
        "x" * 300: "too long",
    }.items():
        with pytest.raises(CheckpointError, match=reason):
            jsonfile.read(tmp_path / name)


def test_the_size_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for size, fits in ((jsonfile.LIMIT, True), (jsonfile.LIMIT + 1, False)):
        path.write_bytes(b"{}".ljust(size))
        if fits:
            assert jsonfile.read(path) == {}
        else:
            with pytest.raises(CheckpointError, match="larger than"):
                jsonfile.read(path)


def members(text: str) -> dict[str, object]:
    return dict(jsonfile.members(text.encode(), "x", lambda key: 40))


@pytest.mark.parametrize(
    "text", ["{}", "{ }", ' {"a": {"b": [1, 2]} , "c":"}" }\n', '{"\\u00e9": null, "a": "\\""}', '{"a":1,"b":2.5}']
)
def test_members_one_by_one_are_those_of_the_whole(text: str) -> None:
    assert members(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no {"),
        ("[1]", "no {"),
        ("{", "Expecting value"),
        ("{,}", "Expecting value"),
        ("{1: 2}", "no key"),
        ('{"a"}', "no :"),
        ('{"a": 1', "no , or }"),
        ('{"a": 1 "b": 2}', "no , or }"),
        ('{"a": 1,}', "Expecting value"),
        ('{"a": 1} x', "after its end"),
        ('{"a": {"b": 1, "b": 2}}', "'b' twice"),
        ('{"a": 1, "\\u0061": 2}', "'a' twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": "' + "x" * 50 + '"}', "Unterminated"),
        ('{"\\ud800": 1}', "surrogates"),
        ('{"a": ' + "[" * 5000, "JSON"),
    ],
)
def test_members_refuse(text: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        members(text)


WORST: dict[str, Callable[[], bytes]] = {
    "16 MiB of empty lists": lambda: b'{"a": [' + b"[]," * (5 * 2**20) + b"[]]}",
    "as many small dictionaries as fit": lambda: b'{"a": [' + b'{"ab":0},' * 74_000 + b"x]}",
    "as many keys as fit": lambda: b'{"":0' + b"".join(b',"k%06d":"v%06d"' % (i, i) for i in range(149_000)) + b"!",
    "16 MiB, each character four bytes wide": lambda: b'{"a": "' + "😀".encode() * (2**22 - 8) + b"!",
    "the last of many keys twice": lambda: (
        b'{"":0' + b"".join(b',"%06d":0' % i for i in range(149_000)) + b',"148999":0}'
    ),
    "numbers of 4,300 digits": lambda: b'{"a": [' + (b"9" * 4300 + b",") * 3600 + b"x]}",
    "unclosed brackets": lambda: b'{"a": ' + b"[" * 149_000,
    "spaces": lambda: b"{" + b" " * (2**24 - 2),
    "escapes": lambda: b'{"a": "' + b"\\u0041" * (2**21 + 2**19) + b"!",
}


@pytest.mark.parametrize("title", WORST)
def test_the_worst_files_stay_within_the_contract(title: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(WORST[title]())
    print(title, limits.check(jsonfile.read, path))
