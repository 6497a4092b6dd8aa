"""What ships in the catalogue: sound as a whole, with sources, and every count what the architecture gives."""

from __future__ import annotations

import pytest

from paddock.catalog import comparing, filters
from paddock.catalog.catalogue import Catalogue, catalogue
from paddock.catalog.comparing import architecture
from paddock.catalog.filters import Asked
from paddock.catalog.languages import NAMES
from paddock.catalog.schema import Model, Size
from paddock.errors import PaddockError
from paddock.training.scale import active_parameters, parameters

FAR = 0.12  # how far what a model is called may be from what it has, before a note must say why


@pytest.fixture(scope="module")
def known() -> Catalogue:
    return catalogue()


def every_size(known: Catalogue) -> list[tuple[Model, Size]]:
    return [(model, size) for model in known.models for size in model.sizes]


def test_counts_follow_from_the_architecture(known: Catalogue) -> None:
    """Of every size whose shape is known: all parameters, those of one token, and the count that somebody published."""
    wrong, compared = [], 0
    for model, size in every_size(known):
        try:
            shape = architecture(size)
        except PaddockError as error:
            wrong.append(f"{model.id}-{size.name}: {error}")
            continue
        if shape is None:
            continue
        compared += 1
        count, active = parameters(shape), active_parameters(shape)
        if size.parameters != count:
            wrong.append(f"{model.id}-{size.name}: parameters {size.parameters}, by its architecture {count}")
        if size.active not in (None, active) or (size.active is None and active != count):
            wrong.append(f"{model.id}-{size.name}: active {size.active}, by its architecture {active}")
        if size.published not in (None, count):
            wrong.append(f"{model.id}-{size.name}: published {size.published}, by its architecture {count}")
    assert wrong == []
    assert compared >= 150


def test_what_a_size_is_called_is_near_what_it_has(known: Catalogue) -> None:
    """Within 12 %, or a note says why."""
    far = []
    for model, size in every_size(known):
        called = comparing.about(size.model_copy(update={"parameters": None}))
        if called is None or size.parameters is None or model.notes or size.notes:
            continue
        if abs(size.parameters / called - 1) > FAR:
            far.append(f"{model.id}-{size.name}: called {size.stated}, has {size.parameters:,}, and no note says why")
    assert far == []


def test_every_entry_has_a_source_with_a_date(known: Catalogue) -> None:
    for asset in known.assets.values():
        used = {known.sources[key] for key in asset.sources.values()}
        assert any(source.date or source.noted for source in used), asset.id
        assert all(source.url.startswith("https://") or source.url.startswith("http://") for source in used)


def test_no_source_is_without_use(known: Catalogue) -> None:
    used = {key for asset in known.assets.values() for key in asset.sources.values()}
    used |= {key for _, size in every_size(known) for key in size.sources.values()}
    used |= {score.source for _, size in every_size(known) for score in size.scores}
    assert sorted(known.sources.keys() - used) == []


def test_languages_are_codes_with_names(known: Catalogue) -> None:
    assert {code for asset in known.assets.values() for code in asset.languages} <= NAMES.keys()


def test_released_models_have_dates_and_licences(known: Catalogue) -> None:
    undated = [model.id for model in known.models if model.released is None]
    assert undated == []
    unlicensed = [model.id for model in known.models if model.access == "open" and model.licence is None]
    assert len(unlicensed) <= len(known.models) // 10, unlicensed


def test_there_is_as_much_as_was_asked_for(known: Catalogue) -> None:
    """At least 120 models in 30 families, many of them runnable, with published counts that are met exactly."""
    assert len(known.models) >= 120
    assert len({model.family for model in known.models}) >= 30
    assert len(filters.select(known, Asked(runnable=True))) >= 60
    exact = filters.select(known, Asked(exact=True))
    assert sum(len(row.sizes) for row in exact) >= 30
