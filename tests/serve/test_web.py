"""The web interface as the server hands it out: the page, its files, and nothing else."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from paddock.serve.app import make_app
from paddock.serve.routes.web import FOLDER, TYPES, files
from paddock.serve.server import Server
from paddock.serve.settings import Settings

BUILT = sorted(path for path in FOLDER.rglob("*") if path.is_file())


def test_the_page_is_served_with_a_policy_that_lets_nothing_in(client: TestClient) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe-eval" not in policy and "script-src" not in policy
    assert '<div id="app">' in response.text


@pytest.mark.parametrize("path", [path for path in BUILT if path.parent != FOLDER], ids=lambda path: path.name)
def test_every_file_comes_with_its_type_and_caching(client: TestClient, path: Path) -> None:
    response = client.get(f"/assets/{path.name}")
    assert response.status_code == 200
    assert response.content == path.read_bytes()
    assert response.headers["content-type"].split(";")[0] == TYPES[path.suffix]
    assert response.headers["x-content-type-options"] == "nosniff"
    hashed = path.name != "LICENCES.txt"
    assert response.headers["cache-control"] == ("private, max-age=31536000, immutable" if hashed else "no-cache")


def test_text_is_compressed_where_that_is_understood(client: TestClient) -> None:
    name = next(path.name for path in BUILT if path.suffix == ".js")
    plain = client.get(f"/assets/{name}", headers={"Accept-Encoding": "identity"})
    with client.stream("GET", f"/assets/{name}", headers={"Accept-Encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert "content-encoding" not in plain.headers and plain.headers["vary"] == "Accept-Encoding"
    assert packed.headers["content-encoding"] == "gzip" and len(raw) < len(plain.content)
    assert gzip.decompress(raw) == plain.content


def test_head_says_the_same_without_a_body(client: TestClient) -> None:
    for address in ("/", "/assets/LICENCES.txt"):
        head, get = client.head(address), client.get(address)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        "../index.html",
        "..%2findex.html",
        "%2e%2e/app.py",
        "..%5capp.py",
        "%00",
        "a.js",
        "",
        ".",
        "assets/LICENCES.txt",
        "LICENCES.txt/",
        "LICENCES.txt%00.js",
        "/etc/passwd",
    ],
)
def test_no_other_name_reaches_a_file(client: TestClient, name: str) -> None:
    response = client.get(f"/assets/{name}")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "unknown_url"


def test_the_switch_takes_it_all_away() -> None:
    server = Server(Settings(models=(), web=False))
    server.open()
    with TestClient(make_app(server), base_url="http://127.0.0.1") as client:
        assert client.get("/").status_code == 404
        assert client.get("/assets/LICENCES.txt").status_code == 404
        assert client.get("/health").status_code == 200


def test_without_a_key_there_is_the_login_and_nothing_else() -> None:
    server = Server(Settings(models=(), api_keys=("a-key-of-the-tests",)))
    server.open()
    with TestClient(make_app(server), base_url="http://127.0.0.1") as client:
        page = client.get("/", headers={"Accept": "text/html"})
        assert page.status_code == 401 and 'action="/login"' in page.text and "/assets/" not in page.text
        for path in BUILT:
            assert client.get(f"/assets/{path.name}").status_code == 401
        headers = {"Authorization": "Bearer a-key-of-the-tests"}
        assert '<div id="app">' in client.get("/", headers=headers).text


def test_the_page_comes_while_models_are_still_being_loaded() -> None:
    client = TestClient(make_app(Server(Settings(models=()))), base_url="http://127.0.0.1")
    assert client.get("/").status_code == client.get("/assets/LICENCES.txt").status_code == 200
    refused = client.get("/v1/models")
    assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0


def test_a_folder_without_a_build_has_no_files(tmp_path: Path) -> None:
    assert files(tmp_path) == {}


# Names of XML languages and addresses in licences are not asked for by anybody; the browser tests watch that none is.
NAMES = ("http://www.w3.org/",)


def test_the_page_names_no_other_machine() -> None:
    for path in BUILT:
        if path.suffix not in (".html", ".css", ".svg"):
            continue
        for address in re.findall(r"(?:https?:)?//[\w.-]+\.\w[^\s\"')]*", path.read_text("utf-8")):
            assert address.startswith(NAMES), f"{path.name}: {address}"


def test_all_that_the_page_asks_for_is_there() -> None:
    names = {path.name for path in BUILT}
    asked: set[str] = set()
    for path in BUILT:
        if path.suffix in (".html", ".css", ".js"):
            asked |= set(re.findall(r"[\w.-]+-[\w-]{8}\.(?:js|css|svg|woff2)\b", path.read_text("utf-8")))
    assert asked <= names
    assert names - asked == {"index.html", "LICENCES.txt"}


def test_licences_of_what_is_inside_come_along() -> None:
    text = (FOLDER / "assets" / "LICENCES.txt").read_text("utf-8")
    for package in ("preact", "@preact/signals", "marked", "dompurify", "highlight.js", "katex"):
        assert re.search(rf"^{re.escape(package)} \d", text, re.MULTILINE), package
    assert len(re.findall(r"^katex \d", text, re.MULTILINE)) == 1
    assert "SIL OPEN FONT LICENSE" in text
