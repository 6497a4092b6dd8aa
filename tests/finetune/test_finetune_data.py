"""What a recipe says of its examples reaches their reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_readers import asked, write_examples, write_reader

from paddock.data.instruct.reading import Report
from paddock.data.instruct.records import Labelled, Pair
from paddock.errors import DataError, UsageError
from paddock.finetune import stage
from paddock.finetune.recipe import FineTuning
from paddock.training import recipe_files
from paddock.training.places import Places


def read(folder: Path, **data: Any) -> tuple[list[Any], list[Any], Report]:
    values = {"task": {"name": "text"}, "data": {"root": str(folder), **data}}
    recipe = recipe_files.validated(FineTuning, values, "recipe")
    report = Report()
    train, kept = stage._examples(recipe, Places.of(recipe.data.root, folder), report)
    return train, kept, report


def test_lines_of_two_files(tmp_path: Path) -> None:
    for name, text in {"t.en": "one\ntwo\n", "t.de": "eins\nzwei\n", "v.en": "three\n", "v.de": "drei\n"}.items():
        (tmp_path / name).write_text(text)
    named = {"validation": ["v.en"], "validation_second": ["v.de"]}
    train, kept, _ = read(tmp_path, files=["t.en"], second=["t.de"], **named)
    assert train == [Pair("one", "eins"), Pair("two", "zwei")] and kept == [Pair("three", "drei")]


def test_folders_and_files_of_nothing_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is not there is not passed over for the others in which texts are looked for."""
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"there are no examples in a\.txt"):
        read(tmp_path, files=["a.txt"])
    with pytest.raises(UsageError, match=r"data\.root is elsewhere, which is no folder"):
        Places.of("elsewhere", tmp_path)
    monkeypatch.setenv("PADDOCK_DATA", str(tmp_path / "a.txt"))
    with pytest.raises(UsageError, match=r"PADDOCK_DATA is .*a\.txt, which is no folder"):
        Places.of(None, tmp_path)


def test_fields_and_reading(tmp_path: Path) -> None:
    rows: list[Any] = [{"id": 1, "review": "fine", "stars": 5}, {"id": 2, "review": 7, "stars": 1}]
    rows += [{"id": 1, "review": "fine", "stars": 5}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train, _, report = read(
        tmp_path,
        files=["a.jsonl"],
        validation=0,
        fields={"text": "review", "label": "stars"},
        reading={"on_error": "skip", "duplicates": "drop"},
    )
    assert train == [Labelled(("fine",), "5")] and sum(report.dropped.values()) == 2


def test_threads_of_a_tree_stay_together(shared_data: Path) -> None:
    train, kept, _ = read(shared_data / "instruct", files=["oasst_trees_70.jsonl"], validation=0.2)
    groups = [{each.origin.group for each in some} for some in (train, kept)]
    assert len(train) + len(kept) == 367 and kept and not groups[0] & groups[1]


def test_encoding_is_told_as_it_goes(tmp_path: Path) -> None:
    """Of every task that reads many examples."""
    reader = write_reader(tmp_path / "bert", "bert")
    files = write_examples(tmp_path / "x.jsonl", [("a good cat", "yes"), ("the bad film", "no")] * 1500)
    heard: list[tuple[str, int, int | None]] = []
    stage.prepare(asked(reader, files, {"name": "classify"}), Path(), counted=lambda *told: heard.append(told))
    assert heard == [("examples encoded", done, 3000) for done in (0, 1000, 2000)]

    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"source": "a cat", "target": "a dog"}\n' * 3)
    for name in ("translate", "chat", "text"):
        heard.clear()
        kinds = {"text": {"fields": {"text": "source"}, "format": "text"}}.get(name, {"format": "auto"})
        recipe = asked(write_reader(tmp_path / name, "llama"), pairs, {"name": name}, data=kinds)
        recipe = recipe.model_copy(update={"template": "alpaca" if name == "chat" else None})
        stage.prepare(recipe, Path(), counted=lambda *told: heard.append(told))
        assert heard[0] == ("examples encoded", 0, 3), name
