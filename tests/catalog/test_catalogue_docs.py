"""What docs/catalogue.md shows as an entry is one, beside everything that ships; its options are the real ones."""

from __future__ import annotations

import re
from pathlib import Path

from paddock.catalog.catalogue import SHIPPED, assemble
from paddock.catalog.comparing import architecture
from paddock.catalog.schema import Application, Dataset, Model, Size
from paddock.cli import catalog
from paddock.training.scale import parameters

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "catalogue.md").read_text(encoding="utf-8")
(ENTRY,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.S | re.M)


def test_the_entry_shown_is_one(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(ENTRY, encoding="utf-8")
    size = assemble([*SHIPPED.glob("*.toml"), own]).find("toy-15m").size
    assert size is not None and (shape := architecture(size)) is not None
    assert size.parameters == size.published == parameters(shape)


def test_the_entry_shown_has_nearly_every_field() -> None:
    """All but those that are said in words, and what other entries show."""
    shown = set(re.findall(r"^(\w+) = ", ENTRY, re.M))
    fields = {name for kind in (Model, Dataset, Application, Size) for name in kind.model_fields}
    assert fields - shown <= {"sizes", "url", "active", "size", "tokens", "made_from"}


def test_every_option_of_ls_is_explained() -> None:
    (command,) = [one for one in catalog.app.registered_commands if one.name == "ls"]
    assert command.callback is not None
    options = re.findall(r"--[\w-]+", str(command.callback.__annotations__))
    explained = PAGE.partition("## ls: find")[2].partition("## show")[0]
    other = {"--licence-allows-commercial", "--organization", "--json", "--kind"}  # other spellings; said above
    assert [name for name in options if name not in other and f"`{name}`" not in explained] == []
    assert len(options) > 10
