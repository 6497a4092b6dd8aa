"""Which entries somebody means, and in what order they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from catalog_toys import COUNT, toys

from paddock.catalog import filters, languages
from paddock.catalog.catalogue import Catalogue
from paddock.catalog.filters import Asked, parse_count, select
from paddock.errors import UsageError


@pytest.fixture
def known(tmp_path: Path) -> Catalogue:
    return toys(tmp_path)


def names(known: Catalogue, **asked: Any) -> list[str]:
    return [row.asset.id for row in select(known, Asked(**asked))]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["ram", "lamb", "goat", "pages", "shepherd"]),
        ({"kind": "model"}, ["ram", "lamb", "goat"]),
        ({"kind": "dataset"}, ["pages"]),
        ({"words": ("TALK",)}, ["lamb", "shepherd"]),
        ({"words": ("farm", "taught")}, ["lamb"]),
        ({"words": ("aries",)}, ["ram"]),
        ({"words": ("farm/ram-tiny",)}, ["ram"]),
        ({"family": "sheep"}, ["ram", "lamb"]),
        ({"organisation": "two"}, ["lamb", "shepherd"]),
        ({"language": "Chinese"}, ["ram", "goat"]),
        ({"language": "en", "task": "chat"}, ["lamb", "goat"]),
        ({"access": "gated"}, ["goat"]),
        ({"commercial": True}, ["goat"]),  # Lamb allows it, but not Ram, which it was made from; Pages do not say
        ({"since": "2023-02-24", "kind": "model"}, ["ram", "lamb", "goat"]),
        ({"since": "2024"}, ["lamb", "goat"]),
        ({"since": "2024-05-20", "before": "2025"}, ["lamb"]),
        ({"before": "2022-06"}, ["pages"]),
        ({"before": "2022"}, []),
        ({"runnable": True}, ["ram", "lamb"]),
        ({"exact": True}, ["ram"]),
        ({"words": ("nothing like it",)}, []),
    ],
    ids=range(21),
)
def test_entries_are_those_asked_for(known: Catalogue, asked: dict[str, Any], found: list[str]) -> None:
    assert names(known, **asked) == found


def test_sizes_are_those_asked_for(known: Catalogue) -> None:
    rows = select(known, Asked(least=10**9, most=7 * 10**9))
    assert [(row.asset.id, [size.name for size in row.sizes]) for row in rows] == [("ram", ["7b"]), ("goat", ["3b"])]
    assert [row.asset.id for row in select(known, Asked(least=7 * 10**9, most=7 * 10**9))] == ["ram"]
    asked = Asked(runs=lambda model, size: size.name == "tiny")
    assert [[size.name for size in row.sizes] for row in select(known, asked)] == [["tiny"], ["tiny"]]


def test_a_published_count_that_is_another_is_not_exact(known: Catalogue) -> None:
    size = known.find("ram-tiny").size
    assert size is not None and filters.is_exact(size)
    assert not filters.is_exact(size.model_copy(update={"published": COUNT + 1}))
    assert not filters.is_exact(size.model_copy(update={"config": None}))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"family": "Shep"}, "the nearest is 'Sheep'"),
        ({"organisation": "Farm Onee"}, "the nearest is 'Farm One'"),
        ({"language": "Chinesse"}, "the nearest known is Chinese"),
        ({"language": "xx"}, "'xx' is no language"),
        ({"task": "chatt"}, "the nearest is 'chat'"),
        ({"kind": "models"}, "the nearest is 'model'"),
        ({"access": "free"}, "expected open, gated, research, closed"),
        ({"since": "May 2024"}, "--since is 'May 2024'"),
        ({"before": "2024-5"}, "--before is '2024-5'"),
        ({"least": 8, "most": 7}, "no size is at least 8"),
    ],
    ids=range(10),
)
def test_what_cannot_be_meant_is_refused(known: Catalogue, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        names(known, **asked)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "count"),
    [("7B", 7 * 10**9), ("1.5e9", 1_500_000_000), ("350 m", 350_000_000), ("6,738,415,616", 6_738_415_616), ("1", 1)],
)
def test_sizes_are_read_as_people_put_them(text: str, count: int) -> None:
    assert parse_count(text, "--min-size") == count


@pytest.mark.parametrize("text", ["", "B", "7 GB", "-1", "0", "nan", "1e99", "9" * 40, "seven", "٧"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--min-size"):
        parse_count(text, "--min-size")


def test_orders(known: Catalogue) -> None:
    rows = select(known, Asked(kind="model"))

    def order(by: str) -> list[str]:
        return [row.asset.id for row in filters.ordered(rows, by)]

    assert order("name") == ["goat", "lamb", "ram"]
    assert order("date") == ["goat", "lamb", "ram"]
    assert order("family") == ["goat", "ram", "lamb"]
    assert order("size") == ["ram", "lamb", "goat"]
    assert order("context") == ["ram", "lamb", "goat"]
    assert order("organisation") == ["ram", "goat", "lamb"]
    undated = filters.ordered(select(known, Asked()), "date")
    assert [row.asset.id for row in undated][-2:] == ["pages", "shepherd"]
    with pytest.raises(UsageError, match="the nearest is 'date'"):
        order("dates")


def test_languages_by_code_and_by_name() -> None:
    assert languages.code("ZH") == "zh" and languages.code(" norwegian bokmål ") == "nb"
    assert languages.code("qaa") == "qaa" and languages.called("zh") == "Chinese" and languages.called("qaa") == "qaa"
    assert sum(len(code) == 2 for code in languages.NAMES) == 183
