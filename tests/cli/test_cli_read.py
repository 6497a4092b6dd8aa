"""fill and embed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest


def test_fill_shows_the_likeliest_words(paddock: Callable, bert: Path) -> None:
    run = paddock("fill", "the [MASK] sat .", "-m", bert, "--top", 3)
    lines = run.out.splitlines()
    assert run.code == 0 and lines[0].split() == ["probability", "piece", "id", "text"] and len(lines) == 4
    found = paddock("fill", "-", "-m", bert, "--top", 3, "--json", stdin="the [MASK] [MASK] .\n").json
    assert [len(candidates) for candidates in found["masks"]] == [3, 3]
    probabilities = [candidate["probability"] for candidate in found["masks"][0]]
    assert probabilities == sorted(probabilities, reverse=True) and all(0 < p < 1 for p in probabilities)
    assert "mask 2" in paddock("fill", "[MASK] [MASK]", "-m", bert).out


@pytest.mark.parametrize(("text", "code", "said"), [("no mask", 2, "[MASK]"), ("[MASK] " * 60, 2, "does not fit")])
def test_fill_refuses(paddock: Callable, bert: Path, text: str, code: int, said: str) -> None:
    run = paddock("fill", text, "-m", bert)
    assert run.code == code and said in run.err and run.out == ""


def test_fill_refuses_a_model_that_writes(paddock: Callable) -> None:
    assert paddock("fill", "a [MASK]").code == 3


def test_embed_compares_texts(paddock: Callable, bert: Path) -> None:
    run = paddock("embed", "the cat", "the cat", "a dog", "-m", bert)
    assert run.code == 0 and "pooling: mean" in run.err
    header, first, second, third = (line.split() for line in run.out.splitlines())
    assert header == ["cosine", "1", "2", "3"]
    assert first[-3:-1] == ["1.0000", "1.0000"] and first[-1] == second[-1] != third[-1] == "1.0000"


def test_embed_as_json_lines(paddock: Callable, bert: Path) -> None:
    run = paddock("embed", "-", "-m", bert, "--json", stdin="the cat\na dog\n")
    records = [json.loads(line) for line in run.out.splitlines()]
    assert [record["text"] for record in records] == ["the cat", "a dog"] and run.err == ""
    assert all(math.isclose(math.hypot(*record["embedding"]), 1.0, rel_tol=1e-5) for record in records)
    assert {record["pooling"] for record in records} == {"mean"}


def test_embed_one_text_and_a_model_that_writes(paddock: Callable) -> None:
    run = paddock("embed", "a small dog")
    assert run.out.startswith("64 numbers: ") and "trained to write" in run.err


def test_embed_refuses_what_is_too_long_and_cuts_only_if_asked(paddock: Callable, bert: Path) -> None:
    assert paddock("embed", "the cat " * 40, "-m", bert).code == 2
    assert paddock("embed", "the cat " * 40, "-m", bert, "--truncate").code == 0
    assert paddock("embed", stdin="").code == 2
    assert paddock("embed", terminal=True).code == 2


@pytest.mark.parametrize("name", ["missing.txt", __file__.removesuffix(".py") + ".JSONL"])
def test_embed_does_not_embed_the_names_of_files(paddock: Callable, bert: Path, name: str) -> None:
    run = paddock("embed", "a dog", name, "-m", bert)
    assert run.code == 2 and "is the name of a file" in run.err and "embed - < FILE" in run.err and run.out == ""
