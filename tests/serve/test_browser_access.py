"""For everybody: dark and light, three languages, a phone, a keyboard, a screen reader's rules."""

from __future__ import annotations

from typing import Any

import pytest
from browser import (
    PHONE,
    WIDE,
    Watched,
    accessible,
    answer_chunks,
    answers,
    ask,
    box,
    events,
    finished,
    settings,
    stub_answers,
    until,
    watched,
)

WIDEST = (
    "A long line of code:\n\n```python\n" + "horse = " + "1 + " * 60 + "1\n```\n\n"
    "|" + "a|" * 40 + "\n|" + "-|" * 40 + "\n| " + " | ".join(["Hufschmied"] * 40) + " |\n\n"
    "$$x = " + " + ".join(f"a_{{{n}}}^2" for n in range(40)) + "$$\n\n" + "Donaudampfschiff" * 12
)


def brightness(page: Any, of: str = "document.body") -> float:
    """Of an element's background, 0 to 255."""
    colour = page.evaluate(
        f"""() => {{ const canvas = new OffscreenCanvas(1, 1).getContext('2d');
        canvas.fillStyle = getComputedStyle({of}).backgroundColor; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data]; }}"""
    )
    return sum(colour[:3]) / 3


def test_colours_follow_the_system_until_somebody_chooses(chromium: Any, live: str) -> None:
    with watched(chromium, live, color_scheme="dark") as watch:
        page = watch.page
        page.goto("/")
        box(page).wait_for()
        assert brightness(page) < 80
        page.emulate_media(color_scheme="light")
        assert brightness(page) > 180
        page.locator("#open-settings").click()
        page.get_by_label("Dark", exact=True).check()
        assert brightness(page) < 80
        page.reload()
        box(page).wait_for()
        assert brightness(page) < 80


@pytest.mark.parametrize(
    ("locale", "tag", "message", "empty"),
    [
        ("zh-CN", "zh-Hans", "消息", "想聊点什么？"),
        ("ms-MY", "ms", "Mesej", "Apa yang hendak kita bualkan?"),
        ("fr-FR", "en", "Message", "What shall we talk about?"),
    ],
)
def test_it_speaks_the_browser_s_language(
    chromium: Any, live: str, locale: str, tag: str, message: str, empty: str
) -> None:
    with watched(chromium, live, locale=locale) as watch:
        watch.page.goto("/")
        watch.page.get_by_label(message, exact=True).wait_for()
        watch.page.get_by_text(empty).wait_for()
        assert watch.page.locator("html").get_attribute("lang") == tag


def test_another_language_can_be_chosen_in_the_middle(watch: Watched) -> None:
    page = watch.page
    page.goto("/")
    settings(page, max_tokens="8")
    ask(page, "Hello")
    page.locator("#open-settings").click()
    page.get_by_label("Language").select_option("zh")
    page.get_by_role("heading", name="设置").wait_for()
    assert page.locator("html").get_attribute("lang") == "zh-Hans"
    assert answers(page).count() == 1
    page.reload()
    page.get_by_label("消息", exact=True).wait_for()
    page.locator("#open-settings").click()
    page.get_by_label("语言").select_option("ms")
    page.get_by_role("heading", name="Tetapan").wait_for()


def sideways(page: Any) -> int:
    """How far the page, or a large part of it, can be scrolled to the right or is cut off there, in pixels."""
    return page.evaluate(
        """() => { const parts = document.querySelectorAll('main, .scroller, .panel-body, nav');
        return Math.max(...[document.scrollingElement, ...parts].map(part => part.scrollWidth - part.clientWidth)); }"""
    )


def test_a_phone_shows_all_of_it(chromium: Any, live: str) -> None:
    with watched(chromium, live, viewport=PHONE, has_touch=True, is_mobile=True) as watch:
        page = watch.page
        page.goto("/")
        settings(page, max_tokens="8", temperature="0.5", seed="1")
        ask(page, "Tell me a story")
        assert sideways(page) == 0
        stub_answers(page, events(*answer_chunks(WIDEST)))
        ask(page, "Something wide")
        assert sideways(page) == 0
        page.locator("#open-settings").tap()
        assert sideways(page) == 0
        page.get_by_role("button", name="Close").tap()
        answers(page).first.get_by_role("button", name="Glass box").tap()
        page.get_by_role("listbox", name="Tokens of the answer").get_by_role("option").nth(3).tap()
        page.locator(".gb-detail").wait_for()
        assert sideways(page) == 0
        page.get_by_role("button", name="Close").tap()
        page.get_by_role("button", name="Show conversations").tap()
        assert sideways(page) == 0
        page.get_by_role("link", name="Compare", exact=True).tap()
        page.get_by_label("Prompt for both").fill("A horse")
        page.get_by_role("button", name="Answer both").tap()
        page.locator(".cmp-parting").wait_for()
        assert sideways(page) == 0


def test_everything_by_keyboard(watch: Watched) -> None:
    page = watch.page
    keys = page.keyboard
    page.goto("/")
    until(page, "document.activeElement.id === 'message'")
    keys.type("Tell me a story")
    keys.press("Enter")
    answers(page).first.wait_for()
    finished(page)
    to(page, "Glass box", back=True)
    keys.press("Enter")
    page.get_by_role("listbox", name="Tokens of the answer").wait_for()
    to(page, "likely")
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    page.locator(".gb-detail h4", has_text="Token 3").wait_for()
    keys.press("Escape")
    page.locator(".panel").wait_for(state="detached")
    to(page, "Edit", back=True)
    keys.press("Enter")
    until(page, "document.activeElement.tagName === 'TEXTAREA'")
    keys.press("Escape")
    keys.press("Control+k")
    until(page, "document.activeElement.id === 'message'")
    assert answers(page).count() == 0
    to(page, "Compare", back=True)
    keys.press("Enter")
    page.get_by_label("Prompt for both").wait_for()
    to(page, "Prompt for both")
    keys.type("A horse")
    keys.press("Enter")
    page.get_by_text("Both wrote the same.").wait_for()


def to(page: Any, name: str, back: bool = False) -> None:
    """Presses Tab until what has that name has the keyboard, which must be seen to have it."""
    for _ in range(60):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        found = page.evaluate(
            """() => { const one = document.activeElement; const style = getComputedStyle(one);
            const label = one.labels?.[0]?.textContent ?? '';
            return { name: `${one.getAttribute('aria-label') ?? ''} ${label} ${one.textContent}`,
                     ring: style.outlineStyle !== 'none' || style.boxShadow !== 'none' }; }"""
        )
        if name in found["name"]:
            assert found["ring"], f"nothing shows that {name!r} has the keyboard"
            return
    raise AssertionError(f"{name!r} is not reached by Tab")


@pytest.mark.parametrize(
    ("scheme", "viewport"),
    [
        pytest.param("light", WIDE, id="light-wide"),
        pytest.param("dark", PHONE, id="dark-phone"),
        pytest.param("dark", WIDE, id="dark-wide", marks=pytest.mark.slow),
        pytest.param("light", PHONE, id="light-phone", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_nothing(chromium: Any, live: str, scheme: str, viewport: dict[str, int]) -> None:
    with watched(chromium, live, color_scheme=scheme, viewport=viewport) as watch:
        page = watch.page
        page.goto("/")
        box(page).wait_for()
        accessible(page, "empty chat")
        settings(page, max_tokens="16", temperature="0.8", seed="2", top_k="30")
        ask(page, "Tell me a story")
        ask(page, "And then?")
        accessible(page, "chat")
        page.locator("#open-settings").click()
        accessible(page, "settings")
        page.locator(".panel").get_by_role("button", name="Close").click()
        answers(page).last.get_by_role("button", name="Glass box").click()
        page.get_by_role("listbox", name="Tokens of the answer").get_by_role("option").nth(2).click()
        page.locator(".gb-detail").wait_for()
        page.locator(".panel summary").first.click()
        accessible(page, "glass box")
        page.locator(".panel").get_by_role("button", name="Close").click()
        if viewport is PHONE:
            page.get_by_role("button", name="Show conversations").click()
            accessible(page, "conversations")
        page.get_by_role("link", name="Compare", exact=True).click()
        page.locator("[data-side='1'] summary").click()
        page.locator("[data-side='1']").get_by_label("Temperature").fill("1")
        page.get_by_label("Prompt for both").fill("A horse")
        page.get_by_role("button", name="Answer both").click()
        page.locator(".cmp-parting").wait_for()
        accessible(page, "compare")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_what_markdown_becomes(chromium: Any, live: str, scheme: str) -> None:
    with watched(chromium, live, color_scheme=scheme) as watch:
        watch.page.goto("/")
        stub_answers(
            watch.page, events(*answer_chunks(WIDEST + "\n\n1. one\n2. [two](https://example.com)\n\n> three"))
        )
        ask(watch.page, "Everything")
        accessible(watch.page, "Markdown")
