"""TOML as it is written: tomllib reads back what was said."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.catalog.toml_text import dumps

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)
PLAIN = st.one_of(
    TEXT, st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, 1e300])
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_what_is_written_is_read_back(document: dict[str, Any]) -> None:
    assert tomllib.loads(dumps(document)) == document


@pytest.mark.parametrize(
    "document",
    [
        {
            "source": {"a": {"title": "x", "inner": {"b": 1}}},
            "model": [{"id": "m", "sizes": [{"name": "7b", "n": [1, 2]}], "z": 1}],
        },
        {"a": [{}], "b": [], "c": {}, "d": [[{"e": 1}], []]},
        {"": {"": ""}, "a.b": {"c d": '"\\\n\x00\u2028'}},
        {"x": 1, "t": {"y": 2}, "z": 3},
    ],
    ids=["catalogue", "empty", "keys", "order"],
)
def test_shapes_that_tables_get_wrong(document: dict[str, Any]) -> None:
    assert tomllib.loads(dumps(document)) == document


def test_numbers_that_are_none() -> None:
    read = tomllib.loads(dumps({"a": float("inf"), "b": -float("inf"), "c": float("nan")}))
    assert read["a"] == -read["b"] == float("inf")
    assert read["c"] != read["c"]


def test_what_toml_cannot_say_is_refused() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        dumps({"a": [None]})
    with pytest.raises(UnicodeEncodeError):
        dumps({"a": "\ud800"})
