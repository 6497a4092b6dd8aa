"""Views have addresses: reload, Back and Forward, new tabs, and what no address ever holds."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from browser import PHONE, Watched, answers, ask, box, finished, settings, slowly, until, watched

from paddock.serve.server import Server

FOCUSED = "document.activeElement.textContent.trim()"
SECRET = "Zebra stripes at noon"


def at(page: Any, address: str, title: str) -> None:
    until(page, f"location.hash === {address!r}")
    until(page, f"document.title === {title!r}")


def test_reload_back_and_forward_between_views(watch: Watched) -> None:
    page = watch.page
    page.goto("/")
    page.get_by_role("link", name="Catalogue", exact=True).click()
    at(page, "#/catalogue", "Catalogue · Paddock")
    until(page, f"{FOCUSED} === 'Catalogue'")
    page.get_by_label("Search names").fill("Vicuna")
    page.get_by_role("link", name="Vicuna", exact=True).click()
    page.get_by_role("heading", name="Vicuna", exact=True).wait_for()
    at(page, "#/catalogue/vicuna", "vicuna · Catalogue · Paddock")
    until(page, f"{FOCUSED} === 'Vicuna'")
    page.go_back()
    at(page, "#/catalogue", "Catalogue · Paddock")
    until(page, f"{FOCUSED} === 'Vicuna'")  # in the list, where it was left
    assert page.get_by_label("Search names").input_value() == "Vicuna"
    page.go_forward()
    page.get_by_role("heading", name="Vicuna", exact=True).wait_for()
    page.reload()
    page.get_by_role("heading", name="Vicuna", exact=True).wait_for()
    at(page, "#/catalogue/vicuna", "vicuna · Catalogue · Paddock")
    page.go_back()
    page.get_by_role("link", name="Tree by year").click()
    page.reload()
    page.locator(".cat-picture img").wait_for()
    at(page, "#/tree", "Tree by year · Catalogue · Paddock")
    page.go_back()
    at(page, "#/catalogue", "Catalogue · Paddock")
    page.go_back()
    at(page, "", "Paddock")
    box(page).wait_for()
    page.goto("/#/catalogue/llama-1/falcon")
    page.locator(".cat-compare thead th").nth(1).wait_for()
    page.goto("/#/compare")
    page.get_by_role("button", name="Answer both").wait_for()


def test_a_link_opens_in_a_tab_of_its_own(watch: Watched) -> None:
    page = watch.page
    page.goto("/#/catalogue")
    page.get_by_label("Search names").fill("Vicuna")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Vicuna", exact=True).click(modifiers=["ControlOrMeta"])
    opened.value.get_by_role("heading", name="Vicuna", exact=True).wait_for()
    assert urlsplit(page.url).fragment == "/catalogue"


@pytest.mark.parametrize("address", ["/#/nowhere-0800", "/#0800", "/#/catalogue/%zz0800"])
def test_an_unknown_address_leads_to_chat_and_says_so(watch: Watched, address: str) -> None:
    page = watch.page
    page.goto(address)
    page.locator(".notice").get_by_text("This address leads to nothing").wait_for()
    box(page).wait_for()
    until(page, "location.hash === '#/chat'")
    assert "0800" not in page.inner_text("body")


def test_an_entry_that_nobody_knows_is_refused_with_a_way_back(watch: Watched) -> None:
    watch.expected.append("404")
    page = watch.page
    page.goto("/#/catalogue/%3Cimg%20src=x%3E")
    page.get_by_role("alert").wait_for()
    page.get_by_role("link", name="Back to the list").click()
    page.locator(".cat-list tbody tr").first.wait_for()


def test_an_answer_goes_on_while_one_looks_elsewhere(
    watch: Watched, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = watch.page
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.on("framenavigated", lambda frame: seen.append(frame.url))
    page.goto("/")
    settings(page, max_tokens="60", system=SECRET)
    with slowly(server, monkeypatch):
        ask(page, SECRET, wait=False)
        until(page, "document.querySelector('li.turn.assistant .prose')?.innerText.length > 10")
        before = answers(page).last.inner_text()
        page.get_by_role("link", name="Catalogue", exact=True).click()
        page.locator(".cat-list tbody tr").first.wait_for()
        page.wait_for_timeout(200)
        assert server.worker.active, "looking elsewhere ended the answer"
        page.go_back()
        until(page, f"document.querySelector('li.turn.assistant .prose').innerText.length > {len(before)}")
    finished(page)
    page.get_by_role("link", name="Compare", exact=True).click()
    page.get_by_label("Prompt for both").fill(SECRET)
    page.reload()
    page.get_by_role("button", name="Answer both").wait_for()
    page.get_by_role("link", name="Chat", exact=True).click()
    page.get_by_role("button", name="New conversation").click()
    fragments = {urlsplit(url).fragment for url in [*seen, page.url]}
    assert fragments <= {"", "/chat", "/compare", "/catalogue"}, fragments
    assert not [url for url in seen if "ebra" in url]


def test_back_on_a_phone_puts_away_what_lies_over_the_view(chromium: Any, live: str) -> None:
    with watched(chromium, live, viewport=PHONE, is_mobile=True, has_touch=True) as watch:
        page = watch.page
        page.goto("/#/catalogue")
        page.get_by_role("button", name="Show conversations").tap()
        page.get_by_role("link", name="Compare", exact=True).tap()
        page.get_by_role("button", name="Answer both").wait_for()
        assert not page.locator("#sidebar").is_visible()
        until(page, f"{FOCUSED} === 'Compare'")
        page.locator("#open-settings").tap()
        page.go_back()
        page.locator(".cat-list tbody tr").first.wait_for()
        assert page.locator(".panel").count() == 0


@pytest.mark.parametrize(
    ("theme", "scheme", "dark"), [("auto", "dark", True), ("light", "dark", False), ("dark", "light", True)]
)
def test_the_tree_is_dark_where_the_page_is(chromium: Any, live: str, theme: str, scheme: str, dark: bool) -> None:
    with watched(chromium, live, color_scheme=scheme) as watch:
        page = watch.page
        page.add_init_script(f"localStorage.setItem('paddock.theme', {theme!r})")
        page.goto("/#/tree")
        image = page.locator(".cat-picture img")
        image.wait_for()
        until(page, "document.querySelector('.cat-picture img').naturalWidth > 100")
        assert (image.evaluate("it => getComputedStyle(it).filter") != "none") is dark
