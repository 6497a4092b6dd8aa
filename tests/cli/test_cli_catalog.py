"""paddock catalog: listing, pages, tables side by side, and choosing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "catalog"))
from catalog_toys import COUNT, toys

from paddock.catalog.catalogue import Catalogue
from paddock.cli import catalogprint, choosing, output


@pytest.fixture(autouse=True)
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    made = toys(tmp_path)
    for place in ("cataloguing", "choosing"):
        monkeypatch.setattr(f"paddock.cli.{place}.catalogue", lambda: made)
    return made


def test_a_listing_says_what_decides(paddock: Callable) -> None:
    run = paddock("catalog", "ls")
    assert run.code == 0
    head, *lines = run.out.splitlines()
    assert head.split() == ["name", "released", "commercial", "context", "sizes", "by", "licence"]
    assert [line.split()[0] for line in lines] == ["goat", "lamb", "ram"]
    assert lines[0].split()[1:4] == ["2025-01-20", "yes", "8K"] and "Goat licence" in lines[0]
    assert lines[2].split()[2:6] == ["no", "4096", "tiny", "7b"]
    assert run.err == "3 of 3 models (6 sizes) in 2 families\n"


def test_filters_reach_the_catalogue(paddock: Callable) -> None:
    def names(*options: str) -> list[str]:
        return [entry["id"] for entry in json.loads(paddock("catalog", "ls", *options, "--json").out)]

    assert names("--licence-allows-commercial") == names("--commercial") == ["goat"]
    assert names("--min-size", "2.5B", "--max-size", "3e9") == ["goat"]
    assert names("--kind", "all", "--sort", "date") == ["goat", "lamb", "ram", "pages", "shepherd"]
    assert names("--runs-here") == names("--runnable") == ["lamb", "ram"]
    assert names("talk", "--organization", "two") == ["lamb"]
    assert paddock("catalog", "ls", "nothing", "--json").out == "[]\n"
    nothing = paddock("catalog", "ls", "--before", "1999")
    assert (nothing.code, nothing.out) == (0, "") and "nothing" in nothing.err


def test_exact_counts_can_be_listed(paddock: Callable) -> None:
    run = paddock("catalog", "ls", "--exact")
    assert [line.split() for line in run.out.splitlines()[1:]] == [["ram-tiny", f"{COUNT:,}", "A", "paper"]]
    (record,) = json.loads(paddock("catalog", "ls", "--exact", "--json").out)
    assert [size["published"] for size in record["sizes"]] == [COUNT]


def test_a_page_numbers_its_sources(paddock: Callable) -> None:
    run = paddock("catalog", "show", "aries")
    assert run.code == 0 and run.err == ""
    assert "licence          Research only; no commercial use [2]" in run.out
    assert "trained on       pages [1]" in run.out
    assert "[1] A paper (2023-02, read 2026-11-22) https://example.org/paper" in run.out
    assert f"tiny{COUNT:>15,}" in run.out and "14.0 GB" in run.out and "64 B" in run.out
    assert "MMLU 25.5 (5 shots) [2]" in run.out and "farm/ram-tiny" in run.out
    assert "based on it  lamb" in run.out and "- It bleats." in run.out


def test_a_page_of_one_size(paddock: Callable) -> None:
    out = paddock("catalog", "show", "ram-7b").out
    told = [" ".join(line.split()) for line in out.splitlines()]
    assert {"parameters 7,000,000,000 [1]", "weights, bf16 14.0 GB", "Paddock runs it no"} <= set(told)
    assert "tiny" not in out
    record = json.loads(paddock("catalog", "show", "ram-7b", "--json").out)
    assert record["lineage"]["down"] == {"base": ["lamb"]} and len(record["sizes"]) == 1


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_pages_and_tables_keep_to_the_terminal(
    paddock: Callable, known: Catalogue, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.cli.catalogprint.width", lambda: columns)
    for arguments in (["ls", "--kind", "all"], ["show", "ram"], ["show", "pages"], ["compare", "ram", "lamb", "goat"]):
        run = paddock("catalog", *arguments)
        assert run.code == 0
        assert max(map(output.cells, run.out.splitlines())) <= max(columns, 116 if "show" in arguments else 0), run.out


def test_only_long_texts_are_cut_where_there_is_no_room(paddock: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock.cli.catalogprint.width", lambda: 60)
    out = paddock("catalog", "ls").out
    assert "Goat lic" in out and "Farm" not in out and " 2025-01 " in out and "…" in out
    monkeypatch.undo()
    assert catalogprint.width() >= 60


def test_side_by_side_what_differs_comes_first(paddock: Callable) -> None:
    run = paddock("catalog", "compare", "ram-7b", "lamb", "goat-3b")
    differ, _, same = run.out.partition("the same in all")
    assert differ.splitlines()[0].split() == ["ram-7b", "lamb", "goat-3b"]
    assert "family" in differ and "branch" in differ and "family" not in same
    assert [
        len(record["sizes"]) for record in json.loads(paddock("catalog", "compare", "ram-7b", "lamb", "--json").out)
    ]
    same = paddock("catalog", "compare", "ram-7b", "ram-tiny").out.partition("the same in all")[2]
    assert "Research only" in same and same.count("Sheep") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "lam"], "the nearest known is 'lamb'"),
        (["show", "ramm-7b"], "the nearest known is 'ram-7b'"),
        (["show", "xyzzy"], "the catalogue has no 'xyzzy'"),
        (["show", ""], "the catalogue has no ''"),
        (["compare", "ram"], "1 names are given; expected 2 to 6"),
        (["compare", "ram-7b", "RAM 7B"], "ram-7b is there twice"),
        (["ls", "--max-size", "7 GB"], "--max-size is '7 GB'"),
        (["ls", "--task", "chta"], "the nearest is 'chat'"),
        (["ls", "--sort", "age"], "--sort is 'age'"),
        (["ls", "--comercial"], "did you mean '--commercial'?"),
        (["which"], "nothing says what the model is for"),
        (["which", "--task", "chat", "--memory", "8"], "has no unit"),
        (["which", "--task", "chat", "--memory", "much"], "no amount of memory"),
        (["which", "--task", "chat", "--licence", "free"], "expected commercial, any"),
        (["which", "--task", "chat", "--language", "Chinesse"], "the nearest known is Chinese"),
        (["which", "--task", "chat", "--context", "0"], "--context is 0"),
        (["which", "--task", "chat", "--top", "0"], "--top"),
        (["whihc"], "whihc"),
    ],
    ids=range(18),
)
def test_what_cannot_be_meant_is_refused_in_words(paddock: Callable, arguments: list[str], said: str) -> None:
    run = paddock("catalog", *arguments)
    assert run.code == 2 and run.out == ""
    assert said in run.err and len(run.err.splitlines()) <= 3


def test_a_choice_tells_its_reasons(paddock: Callable) -> None:
    run = paddock("catalog", "which", "--task", "chat", "--memory", "20GB", "--licence", "commercial")
    assert run.code == 0 and run.err == ""
    assert run.out.startswith("chat, commercial use, 20.0 GB\n\n1. goat-moe  ")
    assert "-0.50  Goat licence: not on Sundays" in run.out and "its other sizes: 3b " in run.out
    assert "2  not for chat" in run.out and "docs/catalogue.md" in run.out
    nothing = paddock("catalog", "which", "--task", "audio", "--memory", "20GB")
    assert nothing.code == 0 and "no size in the catalogue is for that" in nothing.out


def test_a_choice_among_what_paddock_runs(paddock: Callable) -> None:
    run = paddock("catalog", "which", "--task", "chat", "--memory", "20GB", "--runnable")
    assert run.out.startswith("chat, run by Paddock, 20.0 GB\n\n1. lamb  ") and "3  Paddock does not run" in run.out
    assert "\n2. " not in run.out


def test_a_choice_as_json(paddock: Callable) -> None:
    run = paddock("catalog", "which", "--task", "chat", "--memory", "20GB", "--top", 1, "--json")
    answer = json.loads(run.out)
    assert answer["question"] == {
        "task": "chat", "memory": 20 * 10**9, "language": None, "commercial": False, "context": None,
        "runnable": False,
    }  # fmt: skip
    assert answer["found"] == 2 and len(answer["models"]) == 1
    best = answer["models"][0][0]
    assert best["name"] == "goat-moe" and best["fit"]["rounding"] == "8 bits"
    assert best["score"] == pytest.approx(sum(reason["points"] for reason in best["reasons"]))


def test_a_terminal_is_asked_one_thing_after_the_other(paddock: Callable) -> None:
    answers = "chta\nchat\nklingonish\nzh\nmaybe\ny\nmuch\n20GB\nmany\n64\n"
    run = paddock("catalog", "which", stdin=answers, terminal=True)
    assert run.code == 0, run.err
    assert "chat, Chinese, commercial use, 20.0 GB, texts of 64 tokens" in run.out
    for said in ("the nearest is 'chat'", "is no language", "expected yes or no", "no amount", "a number of tokens"):
        assert said in run.err
    defaults = paddock("catalog", "which", stdin="\n" * 5, terminal=True)
    assert defaults.code == 0 and "chat, " in defaults.out
    ended = paddock("catalog", "which", stdin="chat\n", terminal=True)
    assert ended.code == 2 and "the answers ended" in ended.err


def test_free_memory_is_what_counts_where_none_is_given(paddock: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing.running, "free", lambda: 5 * 10**9)
    run = paddock("catalog", "which", "--task", "chat")
    assert run.out.startswith("chat, 5.0 GB\n") and "1  more than 5.0 GB even in 4 bits" in run.out


def test_facts_are_looked_up_without_pytorch() -> None:
    code = (
        "import sys; from paddock.cli import main; main(['catalog', 'ls']); main(['catalog', 'show', 'llama-1']); "
        "main(['catalog', 'compare', 'llama-1', 'llama-2']); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.splitlines()[-1] == "False", run.stderr


def test_a_file_of_the_users_own_counts(paddock: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paddock.catalog.catalogue import catalogue

    monkeypatch.setattr("paddock.cli.cataloguing.catalogue", catalogue)
    monkeypatch.setattr("paddock.catalog.catalogue.SHIPPED", tmp_path / "nothing")
    folder = tmp_path / "home" / "catalogue"
    folder.mkdir(parents=True)
    own = folder / "own.toml"
    own.write_text((tmp_path / "toys.toml").read_text())
    assert paddock("catalog", "show", "goat-3b").code == 0


def test_a_broken_file_of_the_users_own_is_named_and_left_out(tmp_path: Path) -> None:
    """In a process of its own: the warning is on standard error, where nothing else hears it."""
    own = tmp_path / "catalogue" / "own.toml"
    own.parent.mkdir()
    own.write_text("\n[[model]]\nid = 'x'\nfamly = 'y'\n")
    code = "from paddock.cli import main; main(['catalog', 'show', 'llama-1', '--json'])"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PADDOCK_HOME": str(tmp_path)},
    )
    assert run.returncode == 0 and json.loads(run.stdout)["id"] == "llama-1"
    assert run.stderr.startswith(f"left out of the catalogue, the rest is there: {own}: model 'x'")
    assert "line 2" in run.stderr and run.stderr.count("left out") == 1
