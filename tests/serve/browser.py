"""A browser for the tests of the web interface: Debian's Chromium (or another), driven by Playwright.

Every page is watched: a console error, an exception, or a request to another machine fails the test that opened it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
WIDE = {"width": 1360, "height": 850}
PHONE = {"width": 390, "height": 844}


@contextmanager
def launched() -> Iterator[Any]:
    """A running browser. Skips the test where there is none, or no Playwright to drive it."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install paddock[clients])"
    )
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"no browser is on the PATH ({', '.join(NAMES)})")
    # Chromium's sandbox does not run as root, as in a container.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page and what it did. `expected`: parts of console messages that a test means to cause."""

    page: Any
    expected: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        self.page.on("request", lambda request: self._asked(request.url))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob"):
            self.hosts.add(parts.hostname or "")

    def check(self) -> None:
        """Nothing was complained of, and nobody else was asked for anything."""
        unexpected = [one for one in self.complaints if not any(part in one for part in self.expected)]
        assert not unexpected, unexpected
        assert self.hosts <= {"127.0.0.1"}, self.hosts


@contextmanager
def watched(browser: Any, address: str, **options: Any) -> Iterator[Watched]:
    """A fresh page, nothing kept from others, as `browser.new_context` takes `options`."""
    context = browser.new_context(**{"base_url": address, "viewport": WIDE, "locale": "en-US", **options})
    context.set_default_timeout(15_000)
    try:
        found = Watched(context.new_page())
        yield found
        found.check()
    finally:
        context.close()


def events(*chunks: dict[str, Any], done: bool = True) -> str:
    """Server-sent events as the API streams them."""
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join(lines) + ("data: [DONE]\n\n" if done else "")


def answer_chunks(text: str, paddock: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The chunks of a chat's answer in one piece."""
    first: dict[str, Any] = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    middle: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": text}}]}
    last: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    if paddock is not None:
        middle["paddock"] = paddock
    return [first, middle, last]


def stub_answers(page: Any, body: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
    """From now on the server answers conversations of this page with `body`."""
    kind = "text/event-stream" if status == 200 else "application/json"
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(status=status, body=body, headers={"Content-Type": kind, **(headers or {})}),
    )


def accessible(page: Any, what: str) -> None:
    """Fails with axe's report where it finds a violation."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    results = axe.Axe().run(page)
    assert results.violations_count == 0, f"{what}:\n{results.generate_report()}"


@contextmanager
def slowly(server: Any, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.03) -> Iterator[None]:
    """The bundled model writes faster than anybody can press Stop: here each step takes a while."""
    step = type(server.worker)._step

    def slow(worker: Any, engine: Any) -> bool:
        time.sleep(seconds)
        return bool(step(worker, engine))

    with monkeypatch.context() as patch:
        patch.setattr(type(server.worker), "_step", slow)
        yield


def until(page: Any, expression: str) -> None:
    """Waits for a JavaScript expression to be true. (The page's policy forbids Playwright's own way, which is eval.)"""
    deadline = time.monotonic() + 15
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never came true: {expression}"
        page.wait_for_timeout(20)


def box(page: Any) -> Any:
    """Where messages are written."""
    return page.get_by_label("Message", exact=True)


def answers(page: Any) -> Any:
    return page.locator("li.turn.assistant")


def finished(page: Any) -> None:
    """Waits until nothing is being written; the last answer must be whole."""
    until(page, "!document.querySelector('li.turn.assistant[data-state=running]')")
    assert answers(page).last.get_attribute("data-state") == "done", answers(page).last.inner_text()


def ask(page: Any, text: str, wait: bool = True) -> None:
    """Sends a message, and waits for its answer."""
    page.locator(".model-picker select").wait_for()
    count = answers(page).count()
    box(page).fill(text)
    box(page).press("Enter")
    answers(page).nth(count).wait_for()
    if wait:
        finished(page)


FIELDS = {
    "temperature": "Temperature",
    "top_p": "Top p",
    "top_k": "Top k",
    "min_p": "Min p",
    "repetition_penalty": "Repetition penalty",
    "max_tokens": "Longest answer",
    "seed": "Seed",
    "system": "System prompt",
}


def settings(page: Any, **values: str) -> None:
    """Fills in settings of the conversation and closes their panel."""
    if page.locator("#open-settings").get_attribute("aria-expanded") != "true":
        page.locator("#open-settings").click()
    for name, value in values.items():
        page.locator(".panel").get_by_label(FIELDS[name]).fill(value)
    page.locator(".panel").get_by_role("button", name="Close").click()
