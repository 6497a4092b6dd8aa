"""`paddock data mix` of examples and `paddock data overlap`, as typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cli_streams import Run

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen"


def lines(path: Path, pairs: list[tuple[str, str]]) -> str:
    path.write_text("".join(json.dumps({"prompt": ask, "completion": answer}) + "\n" for ask, answer in pairs))
    return str(path)


def test_examples_are_mixed_in_proportion(paddock: Callable[..., Run], tmp_path: Path) -> None:
    human = lines(tmp_path / "human.jsonl", [(f"h {i}", f"answer {i}") for i in range(4)])
    machine = lines(tmp_path / "machine.jsonl", [(f"m {i}", LONG if i == 0 else f"says {i}") for i in range(20)])
    test = lines(tmp_path / "test.jsonl", [("x", "so " + LONG)])
    goal = tmp_path / "mix.jsonl"
    asked = ["data", "mix", f"{human}=1", f"{machine}=2", "-o", str(goal), "--against", test, "--json"]
    told = json.loads(paddock(*asked).out)
    assert told["examples"] == 12
    assert {row["source"]: row["taken"] for row in told["sources"]} == {"human": 4, "machine": 8}
    assert told["sources"][1]["protected"] == 1
    assert sum('"human"' in line for line in goal.read_text().splitlines()) == 4
    again = paddock(*asked)
    assert again.code == 2
    assert "there already" in again.err


def test_overlap_names_what_is_shared(paddock: Callable[..., Run], tmp_path: Path) -> None:
    train = lines(tmp_path / "train.jsonl", [("a", "b"), ("c", LONG + " and on")])
    test = lines(tmp_path / "test.jsonl", [("x", "so " + LONG)])
    found = paddock("data", "overlap", train, "--against", test)
    assert found.code == 1
    assert "train.jsonl:2: 1 of 3 runs" in found.out
    clean = paddock("data", "overlap", test, "--against", lines(tmp_path / "other.jsonl", [("q", "r")]))
    assert clean.code == 0


def test_weights_are_asked_for(paddock: Callable[..., Run], tmp_path: Path) -> None:
    one = lines(tmp_path / "one.jsonl", [("a", "b")])
    for source in (one, f"{one}=", f"{one}=x", f"{one}=-1", f"{one}=nan"):
        refused = paddock("data", "mix", source, "-o", str(tmp_path / "out.jsonl"))
        assert refused.code == 2
        assert "has no weight" in refused.err
