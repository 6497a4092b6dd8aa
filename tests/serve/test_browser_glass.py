"""What the glass box and the comparison show is what the API says."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from browser import Watched, answer_chunks, answers, ask, events, finished, settings, slowly, stub_answers, until
from fastapi.testclient import TestClient

from paddock.serve.server import Server

QUESTION = "Tell me a story"
DRAWN = {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "seed": 7, "max_tokens": 12}


def told(client: TestClient, **asked: Any) -> dict[str, Any]:
    """The glass box of an answer, from the API."""
    body = {"messages": [{"role": "user", "content": QUESTION}], "stream": True, "glass_box": True, **asked}
    lines = client.post("/v1/chat/completions", json=body).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    found: dict[str, Any] = {"tokens": []}
    for piece in (chunk.get("paddock") or {} for chunk in chunks):
        found |= {**piece, "tokens": found["tokens"] + piece.get("tokens", [])}
    return found


def seen(text: str) -> str:
    return text.replace(" ", "·").replace("\n", "⏎") or "∅"


def percent(share: float) -> str:
    """As Intl writes it; halves go away from zero."""
    digits = 2 if share < 0.01 else 1
    scaled = math.floor(share * 100 * 10**digits + 0.5) / 10**digits
    return f"{scaled:.{digits}f}".rstrip("0").rstrip(".") + "%"


def open_glass(page: Any) -> None:
    answers(page).last.get_by_role("button", name="Glass box").click()
    page.get_by_role("listbox", name="Tokens of the answer").wait_for()


def asked_for(watch: Watched) -> None:
    watch.page.goto("/")
    settings(watch.page, **{name: str(value) for name, value in DRAWN.items()})
    ask(watch.page, QUESTION)
    open_glass(watch.page)


def test_every_token_is_shown(watch: Watched, client: TestClient) -> None:
    asked_for(watch)
    page, expected = watch.page, told(client, **DRAWN)
    written = page.get_by_role("listbox", name="Tokens of the answer").get_by_role("option").all_inner_texts()
    assert written == [seen(token["text"]) for token in expected["tokens"]]
    read = page.get_by_role("listbox", name="Tokens of the prompt").get_by_role("option")
    assert read.all_inner_texts() == [seen(token["text"]) for token in expected["prompt"]["tokens"]]
    labels = [option.get_attribute("aria-label") for option in read.all()]
    for place, token in enumerate(expected["prompt"]["tokens"]):
        assert f"id {token['id']}" in labels[place]
        assert ("special token" in labels[place]) == token["special"]
    page.get_by_text("The prompt as text").click()
    assert page.locator(".gb-rendered pre").inner_text() == expected["prompt"]["text"]


def test_each_token_tells_how_it_was_chosen(watch: Watched, client: TestClient) -> None:
    asked_for(watch)
    page, expected = watch.page, told(client, **DRAWN)
    for place in (0, 3, 11):
        token = expected["tokens"][place]
        page.get_by_role("listbox", name="Tokens of the answer").get_by_role("option").nth(place).click()
        page.locator(".gb-detail h4", has_text=f"Token {place + 1}").wait_for()
        rows = page.locator(".gb-bars tbody tr")
        rivals = [row.locator("code").inner_text() for row in rows.all()]
        assert rivals[: len(token["top"])] == [seen(rival["text"]) for rival in token["top"]]
        shares = [row.locator("td .gb-number").last.inner_text() for row in rows.all()]
        assert shares[: len(token["top"])] == [percent(math.exp(rival["logprob"])) for rival in token["top"]]
        assert page.locator(".gb-bars tr.gb-chosen code").inner_text() == seen(token["text"])
        stages = page.locator(".gb-stages > li")
        assert [stage.get_attribute("data-stage") for stage in stages.all()] == [one["name"] for one in token["stages"]]
        for shown, stage in zip(stages.all(), token["stages"], strict=True):
            assert f"{stage['survivors']} candidate" in shown.inner_text()
            likely = [seen(one["text"]) for one in stage["top"][:5]]
            assert shown.locator(".gb-likeliest code").all_inner_texts() == likely
        assert token["below"] <= token["draw"] < token["below"] + token["probability"]
        needle, own = (page.locator(f".gb-{part}").evaluate("node => node.style.left") for part in ("needle", "own"))
        assert float(needle.rstrip("%")) == pytest.approx(100 * token["draw"], abs=0.01)
        assert float(own.rstrip("%")) == pytest.approx(100 * token["below"], abs=0.01)


def test_settings_and_their_origins(watch: Watched) -> None:
    asked_for(watch)
    row = watch.page.locator("[data-setting=top_k]")
    assert row.inner_text().split() == ["top_k", "20", "you"]
    watch.page.get_by_text("settings left neutral").click()
    assert watch.page.locator("[data-setting=min_p]").inner_text().split() == ["min_p", "0", "neutral", "default"]
    assert watch.page.locator("[data-figure=seed] dd").inner_text() == "7"


def test_what_the_cache_reused_is_marked(watch: Watched) -> None:
    page = watch.page
    page.goto("/")
    settings(page, max_tokens="8")
    ask(page, "Tell me of a horse that nobody else had asked about before")
    ask(page, "And then?")
    open_glass(page)
    kept = page.get_by_role("listbox", name="Tokens of the prompt").locator(".gb-kept").count()
    assert kept > 0
    page.get_by_text(f"The first {kept} tokens (underlined) were reused").wait_for()
    assert page.locator("[data-figure=cached] dd").inner_text() == f"{kept} tokens"
    assert "tokens/s" in page.locator("[data-figure=rate] dd").inner_text()


def test_it_grows_with_the_answer(watch: Watched, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    page = watch.page
    page.goto("/")
    settings(page, max_tokens="40")
    with slowly(server, monkeypatch):
        ask(page, QUESTION, wait=False)
        page.locator("#open-glass").click()
        options = page.get_by_role("listbox", name="Tokens of the answer").get_by_role("option")
        options.nth(3).wait_for()
        first = options.count()
        options.nth(first + 3).wait_for()
    finished(page)
    options.nth(39).wait_for()
    assert options.count() == 40


def test_thousands_of_tokens_do_not_freeze_the_page(watch: Watched) -> None:
    page = watch.page
    page.goto("/")
    tokens = [{"id": n % 512, "text": f" w{n}", "logprob": -0.01 * (n % 300), "top": []} for n in range(8000)]
    prompt = {"text": "x", "tokens": [{**token, "special": False} for token in tokens], "cached": 4000}
    stub_answers(page, events(*answer_chunks("A horse", {"prompt": prompt, "tokens": tokens})))
    ask(page, QUESTION)
    begun = time.monotonic()
    open_glass(page)
    assert time.monotonic() - begun < 5
    assert page.locator(".gb-chip").count() < 3000
    first = page.get_by_role("listbox", name="Tokens of the answer").get_by_role("option").first
    first.focus()
    page.keyboard.press("End")
    page.locator(".gb-detail h4", has_text="Token 8,000").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "·w7999"
    page.locator(".gb-scroll").first.evaluate("node => node.scrollTo(0, node.scrollHeight / 2)")
    page.get_by_role("option", name="·w4000,").first.wait_for()


def side(page: Any, place: int) -> Any:
    return page.locator(f"[data-side='{place}']")


def opened(watch: Watched) -> Any:
    watch.page.goto("/")
    watch.page.get_by_role("link", name="Compare", exact=True).click()
    for place in (0, 1):
        side(watch.page, place).locator("summary").click()
    return watch.page


def test_two_settings_side_by_side(watch: Watched, client: TestClient) -> None:
    page = opened(watch)
    side(page, 0).get_by_label("Longest answer").fill("24")
    for name, value in {"Longest answer": "24", "Temperature": "1", "Seed": "3"}.items():
        side(page, 1).get_by_label(name).fill(value)
    page.get_by_label("Prompt for both").fill(QUESTION)
    page.get_by_label("Prompt for both").press("Enter")
    page.locator(".cmp-parting").wait_for()
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 24}
    for place, own in ((0, {}), (1, {"temperature": 1, "seed": 3})):
        answer = client.post("/v1/chat/completions", json={**body, **own}).json()["choices"][0]["message"]["content"]
        assert side(page, place).locator(".cmp-text").text_content() == answer
    page.locator("mark").first.wait_for()  # an answer whose words the other has all, too, has none
    rows = {
        cells[0]: cells[1:]
        for cells in (row.inner_text().split("\t") for row in page.locator(".cmp-table tbody tr").all())
    }
    assert [cell.strip() for cell in rows["temperature"]] == ["0", "1"]
    assert "top_k" not in rows and "tokens/s" in rows["Writing"][0]


def test_equal_sides_write_the_same(watch: Watched) -> None:
    page = opened(watch)
    for place in (0, 1):
        side(page, place).get_by_label("Longest answer").fill("16")
    page.get_by_label("Prompt for both").fill(QUESTION)
    page.get_by_role("button", name="Answer both").click()
    page.get_by_text("Both wrote the same.").wait_for()
    assert page.locator("mark").count() == 0


def test_each_side_stops_by_itself(watch: Watched, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened(watch)
    for place in (0, 1):
        side(page, place).get_by_label("Longest answer").fill("60")
    page.get_by_label("Prompt for both").fill(QUESTION)
    with slowly(server, monkeypatch):
        page.get_by_role("button", name="Answer both").click()
        for place in (0, 1):  # both write at once
            until(page, f"document.querySelector('[data-side=\"{place}\"] .cmp-text').innerText.length > 5")
        page.get_by_role("button", name="Stop Left").click()
        side(page, 0).get_by_text("Stopped.").wait_for()
        assert side(page, 1).get_by_text("Writing…").count() == 1
    side(page, 1).get_by_text("Ended at the limit of tokens.").wait_for()


def test_a_side_that_is_refused_says_why(watch: Watched) -> None:
    watch.expected.append("400")
    page = opened(watch)
    side(page, 0).get_by_label("Longest answer").fill("8")
    side(page, 1).get_by_label("Longest answer").fill("9999")
    page.get_by_label("Prompt for both").fill(QUESTION)
    page.get_by_role("button", name="Answer both").click()
    side(page, 1).get_by_role("alert").get_by_text("at most 512 tokens").wait_for()
    side(page, 0).get_by_text("Ended at the limit of tokens.").wait_for()
