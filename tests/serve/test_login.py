"""How a browser signs in: the page, the cookie, and what the cookie may not do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from guarded import ADMIN, KEYED, USER, bearer, check_refusal, client_of, opened

from paddock.serve.login import COOKIE, TEXTS, Sessions, best_language, page
from paddock.serve.server import Server

PAGE = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
HOME = {"Origin": "http://127.0.0.1"}


@pytest.fixture(scope="module")
def keyed() -> Iterator[Server]:
    with opened(**KEYED) as server:
        yield server


@pytest.fixture()
def browser(keyed: Server) -> Any:
    return client_of(keyed)


def sign_in(browser: Any, key: str = USER) -> Any:
    return browser.post("/login", data={"key": key}, headers={**PAGE, **HOME})


def test_a_browser_is_asked_for_a_key_on_a_page_that_needs_nothing_else(browser: Any) -> None:
    response = browser.get("/", headers=PAGE)
    assert response.status_code == 401 and response.headers["content-type"].startswith("text/html")
    text = response.text
    assert '<form method="post" action="/login">' in text and "<script" not in text
    assert not re.search(r"https?:|src=|url\(|@import|//", text)
    assert not re.search(r"\sstyle=|\son[a-z]+=", text)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert response.headers["cache-control"] == "no-store"
    check_refusal(browser.get("/"), 401)
    check_refusal(browser.get("/v1/models", headers=PAGE), 401)


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"), ("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("ms-MY", "ms"), ("fr, ms;q=0.3, en;q=0.2", "ms"),
        ("de,fr", "en"), ("en;q=0.1,zh;q=0.2", "zh"), ("zh;q=0,ms;q=0.001", "ms"), ("zh;q=9, ,;;;,\xff", "en"),
        ("*", "en"), ("ZH-hant-TW", "zh"), (",".join(["xx"] * 10**5), "en"),
    ],
)  # fmt: skip
def test_the_page_speaks_the_browsers_language(accepted: str, language: str) -> None:
    assert best_language(accepted) == language
    assert TEXTS[language]["why"].split(",")[0] in page(accepted).decode()


def test_languages_say_the_same_things() -> None:
    assert len({frozenset(texts) for texts in TEXTS.values()}) == 1
    assert len({texts["why"] for texts in TEXTS.values()}) == 3


def test_signing_in_and_out(browser: Any, keyed: Server) -> None:
    response = sign_in(browser)
    assert response.status_code == 303 and response.headers["location"] == "/"
    cookie = response.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; ")) and "Secure" not in cookie
    value = cookie.split(";")[0].removeprefix(f"{COOKIE}=")
    assert len(value) >= 40 and USER not in cookie and value not in repr(vars(keyed.access.sessions))
    assert browser.get("/session").json() == {"name": "key-1", "admin": False, "by": "cookie"}
    assert browser.get("/v1/models").status_code == 200
    out = browser.post("/logout", headers=HOME)
    assert out.status_code == 303 and "Max-Age=0" in out.headers["set-cookie"]
    browser.cookies.set(COOKIE, value)
    check_refusal(browser.get("/session"), 401)


def test_over_tls_the_cookie_never_leaves_it(keyed: Server) -> None:
    browser = client_of(keyed)
    browser.base_url = "https://127.0.0.1"
    response = browser.post("/login", data={"key": USER}, headers={"Origin": "https://127.0.0.1"})
    assert "; Secure" in response.headers["set-cookie"]


@pytest.mark.parametrize("key", ["", "wrong-key-12345", USER[:-1], USER * 2, "\U0001f600", "<script>alert(1)</script>"])
def test_a_wrong_key_gets_the_page_again_and_is_not_repeated(browser: Any, key: str) -> None:
    response = browser.post("/login", data={"key": key}, headers=HOME)
    assert response.status_code == 401 and 'role="alert"' in response.text and "set-cookie" not in response.headers
    assert not key or key not in response.text


def test_forms_are_small_and_forms(browser: Any) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    check_refusal(browser.post("/login", content=b"key=" + b"x" * 5000, headers=form), 413)
    check_refusal(browser.post("/login", json={"key": USER}), 415)
    check_refusal(browser.post("/login", files={"key": USER}), 415)
    assert browser.post("/login", content=b"&".join([b"a=1"] * 500), headers=form).status_code in (400, 401)
    assert browser.post("/login", content=b"\xff\xfe%00=%ff&key=%", headers=form).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "http://127.0.0.1@evil.example"},
        {"Origin": "http://evil.example/?http://127.0.0.1"},
        {"Origin": "file://127.0.0.1"},
        {"Origin": "http://127.0.0.1/"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        [("Origin", "http://127.0.0.1"), ("Origin", "http://evil.example")],
    ],
)
def test_a_cookie_acts_only_for_pages_of_this_server(browser: Any, headers: Any) -> None:
    sign_in(browser)
    check_refusal(browser.post("/v1/chat/completions", json={}, headers=headers), 403)
    check_refusal(browser.post("/logout", headers=headers), 403)
    assert browser.get("/v1/models", headers=headers).status_code == 200  # reads; other pages cannot see what
    assert browser.post("/v1/chat/completions", json={}, headers=HOME).status_code == 400
    assert browser.post("/v1/chat/completions", json={}, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 400
    if isinstance(headers, dict):  # whoever has a key can send what he likes
        assert browser.post("/v1/chat/completions", json={}, headers={**headers, **bearer(USER)}).status_code == 400


def test_no_other_page_signs_a_browser_in(browser: Any) -> None:
    response = browser.post("/login", data={"key": USER}, headers={"Origin": "http://evil.example"})
    check_refusal(response, 403)
    assert "set-cookie" not in response.headers


def test_a_wrong_key_is_not_saved_by_a_cookie(browser: Any) -> None:
    sign_in(browser)
    check_refusal(browser.get("/session", headers=bearer("wrong-key-123")), 401)


def test_a_session_may_what_its_key_may(browser: Any) -> None:
    sign_in(browser)
    check_refusal(browser.post("/v1/admin/models", headers=HOME), 403)
    sign_in(browser, ADMIN)
    assert browser.get("/session").json()["admin"] is True


def test_a_server_without_keys_needs_no_signing_in(client: Any) -> None:
    response = client.post("/login", data={"key": "whatever-key"}, follow_redirects=False)
    assert response.status_code == 303 and "set-cookie" not in response.headers


def test_sessions_end_and_never_grow_beyond_their_number() -> None:
    now = [0.0]
    sessions: Sessions[str] = Sessions(most=3, lasts=10, clock=lambda: now[0])
    first = sessions.begin("a")
    assert sessions.find(first) == "a" and sessions.find(first[:-1]) is None and sessions.find("") is None
    now[0] = 9.9
    assert sessions.find(first) == "a"
    now[0] = 10.0
    assert sessions.find(first) is None
    found = [sessions.begin(str(place)) for place in range(5)]
    assert len(sessions) == 3 and [sessions.find(id) for id in found] == [None, None, "2", "3", "4"]
    assert len(set(found)) == 5
    sessions.end(found[4])
    sessions.end("never was")
    assert sessions.find(found[4]) is None and len(sessions) == 2
