"""What ships in the catalogue: sound as a whole, and every count what the architecture gives."""

from __future__ import annotations

import pytest

from paddock.catalog.catalogue import catalogue
from paddock.catalog.schema import Model, Size
from paddock.model.families import describe
from paddock.training.scale import parameters

SIZES = [(model, size) for model in catalogue().models for size in model.sizes]


@pytest.mark.parametrize(
    ("model", "size"),
    [(m, s) for m, s in SIZES if s.config],
    ids=lambda value: getattr(value, "id", getattr(value, "name", "")),
)
def test_counts_follow_from_the_architecture(model: Model, size: Size) -> None:
    assert size.config is not None
    assert size.parameters == parameters(describe(size.config))
    if size.published is not None:
        assert size.published == size.parameters
