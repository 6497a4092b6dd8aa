"""Which source a fact of a size has: the nearest that is named."""

from __future__ import annotations

from paddock.catalog.catalogue import source_key
from paddock.catalog.schema import Model, Size


def test_a_size_s_own_then_the_field_s_then_that_of_all_sizes() -> None:
    own = Size(name="7b", hub="toys/ram-7b", sources={"published": "counts"})
    model = Model(
        id="ram",
        name="Ram",
        organisation="Toys",
        about="A toy.",
        family="Toy",
        branch="decoder",
        tasks=("base",),
        method=("pre-training",),
        sizes=(own,),
        sources={"default": "paper", "sizes": "card", "context": "blog"},
    )
    assert source_key(model, "published", own) == "counts"
    assert source_key(model, "context", own) == "blog"
    assert source_key(model, "hub", own) == "card"
    assert source_key(model, "hub") == "paper"  # of the model itself, not of a size
