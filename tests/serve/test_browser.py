"""People chat with it: an answer as it is written, stopped, asked for again, edited, kept, refused."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from browser import (
    Watched,
    answer_chunks,
    answers,
    ask,
    box,
    events,
    finished,
    settings,
    slowly,
    stub_answers,
    until,
    watched,
)
from fastapi.testclient import TestClient
from running import TEMPLATE, Running

from paddock.serve.server import Server
from paddock.serve.settings import Settings

QUESTION = "Tell me a story"


def whole(client: TestClient, **asked: Any) -> str:
    """What the API answers, without a browser."""
    body = {"messages": [{"role": "user", "content": QUESTION}], **asked}
    return client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]


def squeezed(text: str) -> str:
    """Without what Markdown makes of white space."""
    return re.sub(r"\s+", " ", text).strip()


def test_an_answer_is_shown_as_it_is_written(
    watch: Watched, client: TestClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = watch.page
    page.goto("/")
    settings(page, max_tokens="48")
    with slowly(server, monkeypatch):
        ask(page, QUESTION, wait=False)
        seen = {len(answers(page).last.inner_text()) for _ in range(12) if page.wait_for_timeout(80) is None}
    finished(page)
    assert len(seen) >= 3, "the text did not grow"
    assert squeezed(page.locator("li.turn.assistant .prose").inner_text()) == squeezed(whole(client, max_tokens=48))


def test_stop_ends_the_request_on_the_server(watch: Watched, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    page = watch.page
    page.goto("/")
    with slowly(server, monkeypatch):
        ask(page, QUESTION, wait=False)
        until(page, "document.querySelector('li.turn.assistant .prose')?.innerText.length > 10")
        page.get_by_role("button", name="Stop", exact=True).click()
        page.locator("li.turn.assistant[data-state=stopped]").wait_for()
        deadline = time.monotonic() + 5
        while server.worker.active and time.monotonic() < deadline:
            page.wait_for_timeout(20)
    assert not server.worker.active
    text = answers(page).last.inner_text()
    page.wait_for_timeout(150)
    assert answers(page).last.inner_text() == text


def test_escape_stops_too(watch: Watched, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    page = watch.page
    page.goto("/")
    with slowly(server, monkeypatch):
        ask(page, QUESTION, wait=False)
        page.locator("li.turn.assistant[data-state=running]").wait_for()
        page.keyboard.press("Escape")
        page.locator("li.turn.assistant[data-state=stopped]").wait_for()


def test_a_second_answer_is_a_branch(watch: Watched) -> None:
    page = watch.page
    page.goto("/")
    settings(page, temperature="1", seed="1", max_tokens="24")
    ask(page, QUESTION)
    first = answers(page).last.locator(".prose").inner_text()
    settings(page, seed="2")
    answers(page).last.get_by_role("button", name="Answer again").click()
    finished(page)
    second = answers(page).last.locator(".prose").inner_text()
    assert first != second
    page.get_by_role("group", name="Branch 2 of 2").wait_for()
    page.get_by_role("button", name="Previous branch").click()
    page.get_by_role("group", name="Branch 1 of 2").wait_for()
    assert answers(page).last.locator(".prose").inner_text() == first


def test_an_edited_message_is_a_branch_with_an_answer_of_its_own(watch: Watched) -> None:
    page = watch.page
    page.goto("/")
    settings(page, max_tokens="16")
    ask(page, QUESTION)
    page.locator("li.turn.user").get_by_role("button", name="Edit", exact=True).click()
    with page.expect_request("**/v1/chat/completions") as sent:
        page.get_by_label("Edit the message").fill("Tell me of a dog")
        page.get_by_label("Edit the message").press("Enter")
    finished(page)
    assert sent.value.post_data_json["messages"] == [{"role": "user", "content": "Tell me of a dog"}]
    assert page.locator("li.turn").count() == 2
    page.locator("li.turn.user").get_by_role("button", name="Previous branch").click()
    assert QUESTION in page.locator("li.turn.user").inner_text()


def test_conversations_survive_a_reload(watch: Watched) -> None:
    page = watch.page
    page.goto("/")
    settings(page, max_tokens="16", temperature="0.5", seed="3")
    ask(page, QUESTION)
    ask(page, "And then?")
    before = page.locator("ol.turns").inner_text()
    page.wait_for_timeout(1200)  # writing is put off a little
    page.reload()
    answers(page).nth(1).wait_for()
    assert page.locator("ol.turns").inner_text() == before
    answers(page).last.get_by_role("button", name="Glass box").click()
    page.get_by_role("listbox", name="Tokens of the answer").wait_for()
    page.locator("#open-settings").click()
    assert page.get_by_label("Temperature").input_value() == "0.5"


def test_several_conversations_are_kept_apart(watch: Watched) -> None:
    page = watch.page
    page.goto("/")
    settings(page, max_tokens="8")
    ask(page, "The first")
    page.keyboard.press("Control+k")
    assert answers(page).count() == 0
    ask(page, "The second")
    sidebar = page.get_by_role("navigation")
    sidebar.get_by_role("button", name="The first", exact=True).click()
    assert "The first" in page.locator("li.turn.user").inner_text()
    sidebar.get_by_role("button", name="Delete “The first”").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    assert sidebar.locator(".entry").count() == 1


def test_settings_are_what_the_request_says(watch: Watched) -> None:
    page = watch.page
    page.goto("/")
    settings(page, temperature="0,7", top_p="0.9", top_k="40", min_p="0.05", repetition_penalty="1.1", seed="9")
    settings(page, max_tokens="8", system="Speak softly.")
    with page.expect_request("**/v1/chat/completions") as sent:
        ask(page, QUESTION)
    body = sent.value.post_data_json
    asked = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1, "seed": 9}
    assert {**body, **asked, "max_tokens": 8} == body
    assert body["messages"][0] == {"role": "system", "content": "Speak softly."}
    page.locator("#open-settings").click()
    page.get_by_role("button", name="Reset all").click()
    with page.expect_request("**/v1/chat/completions") as sent:
        ask(page, QUESTION)
    assert not sent.value.post_data_json.keys() & {*asked, "max_tokens"}


def test_settings_say_what_holds_where_nothing_is_set_and_refuse_nonsense(watch: Watched) -> None:
    page = watch.page
    page.goto("/")
    page.locator("#open-settings").click()
    field = page.get_by_label("Temperature")
    until(page, "document.querySelector('.sampling input').placeholder.startsWith('0')")
    field.fill("hot")
    assert field.get_attribute("aria-invalid") == "true"
    page.get_by_text("A number from 0 to 100.").wait_for()


HOSTILE = [
    "<img src=x onerror='window.broken=1'>",
    "<script>window.broken=1</script>",
    "<svg><script>window.broken=1</script></svg>",
    "<iframe srcdoc='<script>parent.broken=1</script>'></iframe>",
    "[click](javascript:window.broken=1) [data](data:text/html,<script>1</script>)",
    "![x](https://example.invalid/pixel.png)",
    "<a href='//example.invalid' onmouseover='window.broken=1'>x</a>",
    "<style>@import url(https://example.invalid/a.css);</style>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.broken=1></style></mglyph></table></mtext></math>",
    "$\\href{javascript:window.broken=1}{x}$ $\\includegraphics{https://example.invalid/x.png}$",
    "```html\n<img src=x onerror='window.broken=1'>\n```",
    "<form action='https://example.invalid'><input name=key><button>ok</button></form>",
    "| a |\n|---|\n| <img src=x onerror=window.broken=1> |",
]


def test_what_a_model_writes_runs_nothing_and_fetches_nothing(watch: Watched) -> None:
    page = watch.page
    page.on("dialog", lambda dialog: watch.complaints.append(f"dialog: {dialog.message}"))
    page.goto("/")
    glass = {"tokens": [{"id": 1, "text": HOSTILE[0], "logprob": -0.1, "top": []}]}
    stub_answers(page, events(*answer_chunks("\n\n".join(HOSTILE), glass)))
    ask(page, "<img src=x onerror='window.broken=1'>")
    answers(page).last.get_by_role("button", name="Glass box").click()
    page.get_by_role("listbox").get_by_role("option").first.click()
    page.wait_for_timeout(200)
    assert page.evaluate("window.broken") is None
    written = page.locator("li.turn.assistant .prose")
    assert written.locator("img, script, iframe, style, form, input, object, embed, base").count() == 0
    links = [link.get_attribute("href") for link in written.locator("a[href]").all()]
    assert not [link for link in links if not re.match(r"https?://", link or "")]
    attributes = written.evaluate("node => [...node.querySelectorAll('*')].flatMap(one => one.getAttributeNames())")
    assert not [name for name in attributes if name.startswith("on")]
    assert watch.hosts == {"127.0.0.1"}


def refused(status: int, message: str, code: str | None = None) -> str:
    return json.dumps({"error": {"message": message, "type": "x", "param": None, "code": code}})


def test_a_busy_server_is_said_and_asked_again_later(watch: Watched) -> None:
    watch.expected.append("429")
    page = watch.page
    page.goto("/")
    stub_answers(page, refused(429, "9 requests are waiting already", "rate_limit_exceeded"), 429, {"Retry-After": "2"})
    ask(page, QUESTION, wait=False)
    alert = page.get_by_role("alert")
    alert.get_by_text("9 requests are waiting already").wait_for()
    again = alert.get_by_role("button")
    assert again.is_disabled() and "Try again in" in again.inner_text()
    page.unroute("**/v1/chat/completions")
    settings(page, max_tokens="8")
    page.locator("li.turn.assistant").get_by_role("button", name="Try again", exact=True).click()
    finished(page)


def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(watch: Watched) -> None:
    watch.expected.append("400")
    page = watch.page
    page.goto("/")
    ask(page, "horse " * 600, wait=False)
    page.get_by_role("alert").get_by_text("at most 512 tokens").wait_for()


def test_a_server_that_went_away_is_said(watch: Watched) -> None:
    watch.expected.append("net::ERR")
    page = watch.page
    page.goto("/")
    box(page).wait_for()
    page.route("**/v1/chat/completions", lambda route: route.abort("connectionrefused"))
    ask(page, QUESTION, wait=False)
    page.get_by_role("alert").get_by_text("The server cannot be reached").wait_for()


def test_a_part_of_the_page_that_did_not_come_is_asked_for_again(watch: Watched) -> None:
    watch.expected.append("net::ERR")
    page = watch.page
    page.goto("/")
    box(page).wait_for()
    page.route("**/assets/**", lambda route: route.abort("connectionrefused"))
    page.get_by_role("link", name="Compare", exact=True).click()
    failed = page.get_by_role("alert")
    failed.get_by_text("The server cannot be reached").wait_for()
    page.unroute("**/assets/**")
    failed.get_by_role("button", name="Try again").click()
    page.get_by_role("button", name="Answer both").wait_for()


def test_an_answer_that_breaks_off_keeps_what_came(watch: Watched) -> None:
    page = watch.page
    page.goto("/")
    stub_answers(page, events(*answer_chunks("A horse")[:2], done=False))
    ask(page, QUESTION, wait=False)
    page.get_by_role("alert").get_by_text("The answer broke off").wait_for()
    assert "A horse" in answers(page).last.inner_text()
    page.unroute("**/v1/chat/completions")
    stub_answers(page, events(answer_chunks("A cow")[1], {"error": {"message": "the engine failed", "type": "x"}}))
    answers(page).last.get_by_role("button", name="Try again").click()
    page.get_by_text("the engine failed").wait_for()


def test_a_server_with_keys_asks_for_one_and_again_when_the_session_ends(chromium: Any) -> None:
    server = Server(Settings(template=TEMPLATE, api_keys=("a-key-of-some-length",)))
    server.open()
    try:
        with Running(server) as address, watched(chromium, address) as watch:
            watch.expected.append("401")
            page = watch.page
            page.goto("/")
            page.get_by_label("Key").fill("wrong")
            page.get_by_role("button", name="Sign in").click()
            page.get_by_text("This is not a key of this server.").wait_for()
            page.get_by_label("Key").fill("a-key-of-some-length")
            page.get_by_role("button", name="Sign in").click()
            settings(page, max_tokens="8")
            ask(page, QUESTION)
            page.context.clear_cookies()
            box(page).fill("And then?")
            box(page).press("Enter")
            page.get_by_label("Key").wait_for()
    finally:
        server.close()
