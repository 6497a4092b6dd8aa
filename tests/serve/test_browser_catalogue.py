"""The page of the catalogue: found, looked at, put side by side, seen as a tree."""

from __future__ import annotations

from typing import Any

import pytest
from browser import PHONE, WIDE, Watched, accessible, watched


def opened(page: Any) -> None:
    page.goto("/")
    if not page.get_by_role("link", name="Catalogue", exact=True).is_visible():
        page.get_by_role("button", name="Show conversations").click()
    page.get_by_role("link", name="Catalogue", exact=True).click()
    page.locator(".cat-list tbody tr").first.wait_for()


def test_an_entry_is_found_and_read_with_its_sources(watch: Watched) -> None:
    page = watch.page
    opened(page)
    every = page.locator(".cat-list tbody tr").count()
    page.get_by_label("Licence allows commercial use").check()
    assert 0 < page.locator(".cat-list tbody tr").count() < every
    page.get_by_label("Licence allows commercial use").uncheck()
    page.get_by_label("Search names").fill("LLaMA 1")
    page.locator(".cat-list tbody tr").first.get_by_role("link").first.click()
    page.get_by_role("heading", name="LLaMA", exact=True).wait_for()
    facts = page.locator(".cat-facts").first.inner_text()
    assert "LLaMA non-commercial" in facts and "GPL-3.0" in facts
    page.get_by_role("link", name="7B", exact=True).click()
    page.get_by_role("heading", name="LLaMA 7b").wait_for()
    assert "6,738,415,616" in page.locator(".cat-facts").first.inner_text()
    links = page.locator(".cat-sources a")
    assert links.count() >= 1 and all(link.get_attribute("rel") == "noopener noreferrer" for link in links.all())
    drawn = page.locator(".cat-picture img")
    drawn.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('.cat-picture img').naturalWidth > 100")


def test_entries_are_put_side_by_side(watch: Watched) -> None:
    page = watch.page
    opened(page)
    button = page.get_by_role("link", name="Compare (")
    assert button.is_disabled()
    page.get_by_label("Search names").fill("Llama 2")
    for place in (0, 1):
        page.locator(".cat-list tbody input[type=checkbox]").nth(place).check()
    button.click()
    page.locator(".cat-compare tbody tr").first.wait_for()
    assert page.locator(".cat-compare thead th").count() == 2
    page.get_by_role("link", name="Back to the list").click()
    assert page.get_by_label("Search names").input_value() == "Llama 2", "what was looked for is forgotten"


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", PHONE)], ids=["light-wide", "dark-phone"])
def test_axe_finds_nothing_in_the_catalogue(chromium: Any, live: str, scheme: str, viewport: dict[str, int]) -> None:
    with watched(chromium, live, color_scheme=scheme, viewport=viewport) as watch:
        page = watch.page
        opened(page)
        page.get_by_label("Search names").fill("Falcon")
        accessible(page, "list")
        page.locator(".cat-list tbody tr").first.get_by_role("link").first.click()
        page.locator(".cat-sources").wait_for()
        accessible(page, "entry")
        page.get_by_role("link", name="Back to the list").click()
        page.get_by_role("link", name="Tree by year").click()
        page.locator(".cat-picture img").wait_for()
        accessible(page, "tree")
