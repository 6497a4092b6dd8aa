"""A line for each request: what it tells, and what it never does."""

from __future__ import annotations

import logging
import re
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from guarded import opened
from operating import ask, eventually
from running import Running

from paddock.serve.accesslog import Plain, escaped
from paddock.serve.app import make_app

USER, ADMIN = "wplk-5530-hgty-31", "qzjx-8841-vbnm-77"
CANARY = "xylophone-marmalade"
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?P<id>[\w.-]+) (?P<caller>[\w.-]+) (?P<method>[A-Z]+) (?P<path>\S+) "
    r"(?P<status>\d{3}) (?P<ms>[\d.]+)ms(?: in=(?P<read>\d+) out=(?P<written>\d+))?(?P<cut> cut)?"
)


@pytest.fixture(scope="module")
def keyed() -> Any:
    with opened(template="alpaca", api_keys=(USER,), admin_keys=(ADMIN,)) as server:
        yield TestClient(make_app(server), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "paddock.access")

    def lines() -> list[re.Match[str]]:
        found = [record.getMessage() for record in caplog.records if record.name == "paddock.access"]
        matches = [LINE.fullmatch(line) for line in found]
        assert all(matches), found
        return [match for match in matches if match]

    return lines


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_what_a_line_tells(keyed: Any, logged: Any) -> None:
    answer = keyed.post("/v1/chat/completions", json=ask(12), headers=bearer(USER))
    keyed.post("/v1/chat/completions", json=ask(7, stream=True, n=2), headers=bearer(ADMIN))
    keyed.get("/v1/models")
    keyed.post("/v1/admin/load", json={}, headers=bearer(USER))
    keyed.get("/health")
    one, two, three, four = logged()
    usage = answer.json()["usage"]
    assert (one["caller"], one["method"], one["path"], one["status"]) == (
        "key-1",
        "POST",
        "/v1/chat/completions",
        "200",
    )
    assert (int(one["read"]), int(one["written"])) == (usage["prompt_tokens"], 12)
    assert one["id"] == answer.headers["x-request-id"] and float(one["ms"]) > 0 and one["cut"] is None
    assert (two["caller"], int(two["written"]), two["cut"]) == ("admin-1", 14, None)
    assert (three["caller"], three["path"], three["status"], three["read"]) == ("-", "/v1/models", "401", None)
    assert (four["caller"], four["status"]) == ("key-1", "403")


def test_neither_keys_nor_what_was_said(keyed: Any, logged: Any, caplog: pytest.LogCaptureFixture) -> None:
    body = {**ask(8), "messages": [{"role": "user", "content": CANARY}]}
    said = keyed.post("/v1/chat/completions", json=body, headers=bearer(USER)).json()["choices"][0]["message"][
        "content"
    ]
    keyed.post("/v1/chat/completions", json={**body, "temperature": CANARY}, headers=bearer(USER))
    keyed.post(f"/v1/chat/completions?key={USER}&q={CANARY}", json=body, headers=bearer(USER))
    keyed.post("/v1/chat/completions", json={**body, "model": CANARY}, headers={"x-api-key": ADMIN})
    keyed.get("/v1/models", headers=bearer(USER + "-wrong"))
    assert len(logged()) == 5
    everything = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpx"))
    for secret in (USER, ADMIN):
        assert not [secret[at : at + 6] for at in range(len(secret) - 5) if secret[at : at + 6] in everything]
    assert CANARY not in everything and said.strip() not in everything


@pytest.mark.parametrize(
    "path",
    ["/v1/%0d%0aGET /x 200", "/v1/%1b[31mred", "/v1/%00", "/v1/a b", "/v1/%e2%80%a8", "/v1/%ff%fe", "/" + "a" * 5000],
)
def test_a_line_stays_a_line(keyed: Any, logged: Any, path: str) -> None:
    keyed.get(path, headers={**bearer(USER), "x-request-id": "evil id\x1b[2J"})
    (line,) = logged()
    assert line[0].isascii() and line[0].isprintable() and len(line[0]) < 900
    assert "evil" not in line["id"]


def test_a_stream_that_nobody_reads_to_its_end_is_cut(logged: Any) -> None:
    with opened(template="alpaca") as server, Running(server) as url:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=ask(300, n=8, stream=True)) as answer:
            next(answer.iter_raw())
        (line,) = eventually(logged)
    assert line["status"] == "200" and line["cut"] and int(line["written"]) < 8 * 300


def test_no_log_where_none_is_wanted(logged: Any) -> None:
    with opened(access_log=False) as server:
        TestClient(make_app(server), base_url="http://127.0.0.1").get("/v1/models")
    assert logged() == []


@pytest.mark.parametrize("on", [True, False])
def test_prompts_are_logged_only_when_asked_for(caplog: pytest.LogCaptureFixture, on: bool) -> None:
    caplog.set_level(logging.INFO, "paddock.prompts")
    with opened(template="alpaca", log_prompts=on) as server:
        client = TestClient(make_app(server), base_url="http://127.0.0.1")
        body = {**ask(8), "messages": [{"role": "user", "content": f"{CANARY}\n\x1b[31m"}]}
        answer = client.post("/v1/chat/completions", json=body)
    lines = [record.getMessage() for record in caplog.records if record.name == "paddock.prompts"]
    assert len(lines) == (2 if on else 0)
    if on:
        assert CANARY in lines[0] and lines[0].startswith(answer.headers["x-request-id"] + " asked ")
        assert answer.json()["choices"][0]["message"]["content"].strip()[:5] in lines[1]
        assert all(line.isprintable() for line in lines)


def test_a_failure_is_told_by_its_place_not_its_message() -> None:
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        record = logging.LogRecord("x", 40, "", 0, "it broke", None, (type(error), error, error.__traceback__))
    text = Plain("%(message)s").format(record)
    assert CANARY not in text and text.startswith("it broke\nValueError\n") and "test_accesslog.py" in text


@pytest.mark.parametrize("text", ["a\r\nb", "\x1b[31m", "\x9b", "\u2028", "é", "\x00", "\\"])
def test_what_is_escaped(text: str) -> None:
    assert escaped(text).isascii() and escaped(text).isprintable()
