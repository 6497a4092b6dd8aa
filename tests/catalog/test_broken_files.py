"""Files of the user's that must not be so: named with the line and left out, and the rest of the catalogue is there."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from catalog_toys import TEXT

from paddock.catalog.catalogue import SHIPPED, Catalogue, assemble, catalogue

OTHER = """
[source.own]
title = "Own"
url = "https://example.org/own"
read = "2026-11-22"

[[dataset]]
id = "own-pages"
name = "Own pages"
organisation = "Me"
released = "2022"
about = "Pages."
languages = ["en"]
kind = "text"
licence = { name = "MIT" }
sources = { default = "own" }
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PADDOCK_HOME", str(tmp_path))
    (tmp_path / "catalogue").mkdir()
    return tmp_path / "catalogue"


def shipped() -> set[str]:
    return set(assemble(SHIPPED.glob("*.toml")).assets)


def warned(caplog: pytest.LogCaptureFixture) -> tuple[Catalogue, list[str]]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "paddock.catalog"):
        found = catalogue()
    return found, [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[[dataset]\n", "broken.toml is not TOML: .*line 1"),
        (b"\n\nname = \xff\n", "broken.toml: line 3 is not UTF-8"),
        (OTHER.replace('about = "Pages."', "").encode(), r"dataset 'own-pages', about: is missing .*table of line 7\)"),
        (OTHER.replace('title = "Own"', "").encode(), r"source 'own', title: is missing .*table of line 2\)"),
        (OTHER.replace('default = "own"', 'default = "nowhere"').encode(), "there is no source 'nowhere'"),
        (OTHER.replace('id = "own-pages"', 'id = "llama-1"').encode(), "'llama-1' is in .* already"),
        (OTHER.replace('"own-pages"', '"own-pages"\nmade_from = ["own-pages"]').encode(), "made of itself"),
        (b"", None),
    ],
    ids=["toml", "utf-8", "field", "source", "edge", "twice", "circle", "empty"],
)
def test_a_broken_file_is_left_out_with_its_name(
    text: bytes, said: str | None, own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (own / "broken.toml").write_bytes(text)
    (own / "sound.toml").write_text(TEXT)
    found, told = warned(caplog)
    assert "ram" in found.assets and "llama-1" in found.assets and "own-pages" not in found.assets
    if said is None:
        assert not told
        return
    assert len(told) == 1 and told[0].startswith("left out of the catalogue") and "broken.toml" in told[0]
    assert re.search(said, told[0], re.DOTALL), told[0]
    assert not warned(caplog)[1]  # once is enough


def test_what_names_a_broken_file_s_entries_goes_with_it(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    (own / "a.toml").write_text(OTHER.replace("[[dataset]]", "[[dataset]").replace("own-pages", "base-pages"))
    child = OTHER.replace('kind = "text"', 'kind = "text"\nmade_from = ["base-pages"]')
    (own / "b.toml").write_text(child.replace("Own pages", "Children"))
    found, told = warned(caplog)
    assert found.assets.keys() == shipped() and len(told) == 2
    assert "a.toml is not TOML" in told[0] and "b.toml: dataset 'own-pages': made_from names 'base-pages'" in told[1]


def test_a_mended_file_is_read_again(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    (own / "mine.toml").write_text(OTHER.replace("[[dataset]]", "[[dataset]"))
    assert len(warned(caplog)[1]) == 1
    (own / "mine.toml").write_text(OTHER)
    found, told = warned(caplog)
    assert "own-pages" in found.assets and not told


def test_a_link_to_nowhere_stops_nothing(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    (own / "gone.toml").symlink_to(own / "never.toml")
    found, told = warned(caplog)
    assert found.assets.keys() == shipped() and len(told) == 1 and "gone.toml: No such file" in told[0]
