"""Facts with their sources, and entries side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from catalog_toys import COUNT, toys

from paddock.catalog import comparing
from paddock.catalog.catalogue import Catalogue, Found, catalogue
from paddock.catalog.schema import Size
from paddock.errors import UsageError


@pytest.fixture
def known(tmp_path: Path) -> Catalogue:
    return toys(tmp_path)


def test_names_on_the_hub_are_names_with_and_without_their_owner(known: Catalogue) -> None:
    for name in ("farm/ram-tiny", "RAM tiny", "lambs/Sweet_Lamb", "sweet lamb"):
        size = known.find(name).size
        assert size is not None and size.name == "tiny"
    with pytest.raises(UsageError):
        known.find("twin")  # of two owners


def test_every_fact_has_its_source(known: Catalogue) -> None:
    told = {fact.field: fact for fact in comparing.facts(known.find("ram-tiny"))}
    assert told["licence"].source == "card" and told["licence"].text == "Research only; no commercial use"
    assert told["organisation"].source == "paper" and told["languages"].text == "English, Chinese"
    assert told["parameters"].text == f"{COUNT:,}" and told["score"].source == "card"
    assert told["score"].label == "score: MMLU, 5 shots" and told["score"].text == "25.5"
    worked = [fact.field for fact in told.values() if fact.source is None]
    assert worked == ["weights_bf16", "weights_8_bits", "weights_4_bits", "cache_per_token", "runnable"]


def test_a_size_may_have_sources_of_its_own(known: Catalogue) -> None:
    found = known.find("ram-7b")
    assert found.size is not None
    own = Found(found.asset, found.size.model_copy(update={"sources": {"parameters": "card"}}))
    told = {fact.field: fact.source for fact in comparing.facts(own)}
    assert told["parameters"] == "card" and told["training_tokens"] == "paper"
    assert known.source(own.asset, "parameters", own.size).title == "A card"


def test_what_a_size_says_counts_more_than_what_its_model_says(known: Catalogue) -> None:
    told = {fact.field: fact.value for fact in comparing.facts(known.find("ram-7b"))}
    assert told["context"] == 4096 and told["training_tokens"] == 2 * 10**12
    assert {fact.field: fact.value for fact in comparing.facts(known.find("ram"))}["context"] == 64


def test_weights_and_cache_follow_from_the_description(known: Catalogue) -> None:
    size = known.find("ram-tiny").size
    assert size is not None
    assert comparing.weights(size) == {"bf16": 2 * COUNT, "8 bits": COUNT * 17 // 16, "4 bits": round(COUNT * 4.5 / 8)}
    assert comparing.cache_per_token(size) == 2 * 2 * 2 * 8  # layers, keys and values, 16 bits, width
    assert comparing.runnable(size)
    other = Size.model_validate({"name": "x", "config": {"model_type": "of the future"}})
    assert comparing.weights(other) == {} and comparing.cache_per_token(other) is None
    assert not comparing.runnable(other)


@pytest.mark.parametrize(
    ("stated", "count", "active"),
    [
        ("7B", 7 * 10**9, None),
        ("about 350 M", 350 * 10**6, None),
        ("30.5B, 3.3B active, 128 experts", 30_500_000_000, 3_300_000_000),
        ("0.6B (0.44B without the embedding)", 600_000_000, None),
        ("1.6T", 1_600_000_000_000, None),
        ("8x7B", None, None),
        ("base, 8 experts", None, None),
        ("not published", None, None),
        ("7Bananas", None, None),
        ("22M and 48M in the embedding", None, None),
    ],
    ids=range(10),
)
def test_what_a_size_is_called_says_about_how_large_it_is(stated: str, count: int | None, active: int | None) -> None:
    size = Size(name="x", stated=stated)
    assert (comparing.about(size), comparing.about_active(size)) == (count, active)
    assert comparing.about(Size(name="x", stated=stated, parameters=5)) == 5


def test_side_by_side(known: Catalogue) -> None:
    lines = {line.label: line for line in comparing.compare([known.find(name) for name in ("ram-7b", "lamb", "goat")])}
    assert lines["family"].texts == ("Sheep", "Sheep", "Goats") and lines["family"].differs
    assert lines["made from"].texts == ("", "ram", "")
    assert lines["parameters"].texts == ("7,000,000,000", f"{COUNT:,}", "")
    assert lines["sizes"].texts == ("", "", "3b, moe, unknown")
    same = comparing.compare([known.find("ram-tiny"), known.find("ram-7b")])
    assert {line.label for line in same if not line.differs} >= {"family", "released", "licence", "tokenizer"}
    assert list(lines).index("organisation") == 0


def test_scores_of_the_same_kind_stand_in_one_line(known: Catalogue) -> None:
    labels = [line.label for line in comparing.compare([known.find("ram-tiny"), known.find("lamb")])]
    assert labels[-1] == "score: MMLU, 5 shots" and len(labels) == len(set(labels))


def test_a_record_has_everything_and_its_sources_in_full(known: Catalogue) -> None:
    record = comparing.record(known, known.find("ram"))
    assert record["kind_of_entry"] == "model" and len(record["sizes"]) == 2
    assert set(record["sources_in_full"]) == {"paper", "card"}
    assert record["sources_in_full"]["paper"]["date"] == "2023-02"
    assert record["sizes"][0]["weights_bytes"]["bf16"] == 2 * COUNT
    assert [size["name"] for size in comparing.record(known, known.find("ram-7b"))["sizes"]] == ["7b"]


def test_neighbours_are_one_step_away(known: Catalogue) -> None:
    up, down = comparing.neighbours(known, known.find("lamb"))
    assert up == {"base": ["ram"]} and down == {"teachers": ["goat"], "uses": ["shepherd"]}


def test_every_shipped_entry_can_be_told_and_compared() -> None:
    """Without an error, each beside the one before it."""
    known = catalogue()
    before = None
    for asset in known.assets.values():
        found = known.names[asset.id]
        assert all(fact.text for fact in comparing.facts(found))
        assert set(comparing.used_sources(found)) <= known.sources.keys()
        if before is not None and type(before.asset) is type(asset):
            assert comparing.compare([before, found])
        before = found
