"""The lineage as a page of its own, in a browser: keyboard, search, policy, hostile names."""

from __future__ import annotations

from typing import Any

from browser import accessible, watched

from paddock.catalog import layout
from paddock.catalog.catalogue import SHIPPED, Catalogue, assemble
from paddock.catalog.lineage import Lineage, lineage
from paddock.catalog.webpage import html

HOSTILE = "</script><img src=x onerror=alert(1)>"


def page_of(name: str) -> tuple[str, Lineage]:
    every = assemble(sorted(SHIPPED.glob("*.toml")))
    whole = lineage(every.assets)
    graph = whole.around(name)
    assets = dict(graph.assets)
    changed = assets[name].model_copy(update={"about": HOSTILE, "notes": (HOSTILE,)})
    graph = Lineage({**assets, name: changed}, graph.edges, graph.terms)
    known = Catalogue(graph.assets, every.sources, every.names)
    return html(layout.picture(graph, HOSTILE, name), graph, known), graph


def test_a_lineage_by_keyboard(chromium: Any) -> None:
    text, graph = page_of("vicuna")
    with watched(chromium, "http://127.0.0.1") as seen:
        page = seen.page
        page.set_content(text)
        page.keyboard.press("/")
        page.keyboard.type("vicuna")
        assert "found" in page.inner_text("#count")
        page.keyboard.press("Enter")
        up, down = len(graph.ancestors("vicuna")), len(graph.descendants("vicuna"))
        assert page.inner_text("#count") == f"{up} ancestors, {down} descendants"
        assert page.inner_text("aside h2") == "Vicuna"
        assert HOSTILE in page.inner_text("aside")
        assert page.locator("img").count() == 0
        accessible(page, "a lineage")
        page.keyboard.press("ArrowLeft")
        assert page.inner_text("aside h2") in {graph.assets[e.parent].name for e in graph.parents["vicuna"]}
        page.keyboard.press("Escape")
        assert page.inner_text("#count") == ""
        page.locator("[data-id=llama-1]").first.click()
        assert page.inner_text("aside h2") == "LLaMA"
        assert page.locator(".entry.self").first.get_attribute("data-id") == "llama-1"
