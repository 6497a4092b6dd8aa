"""/v1/catalogue: the list, one entry with its sources, several side by side."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from fastapi.testclient import TestClient
from serve_models import serving

from paddock.catalog.catalogue import catalogue
from paddock.catalog.lineage import commercial


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(story=None) as (_, client):
        yield client


def test_the_list_has_every_entry_and_the_names_of_its_languages(client: TestClient) -> None:
    answer = client.get("/v1/catalogue").json()
    rows = {row["id"]: row for row in answer["data"]}
    assert set(rows) == set(catalogue().assets)
    assert rows["llama-2"]["commercial"] is True and rows["llama-1"]["commercial"] is False
    assert {name: row["commercial"] for name, row in rows.items()} == {
        name: {"yes": True, "no": False, "unknown": None}[commercial(asset, catalogue().assets)]
        for name, asset in catalogue().assets.items()
    }
    size = next(size for size in rows["llama-2"]["sizes"] if size["name"] == "70b")
    assert size["parameters"] == 68_976_648_192 and size["id"] == "llama-2-70b" and size["runnable"]
    assert size["bytes"]["bf16"] == 2 * 68_976_648_192
    assert answer["languages"]["en"] == "English"


def test_an_entry_says_where_each_fact_is_from_and_what_it_descends_from(client: TestClient) -> None:
    told = client.get("/v1/catalogue/llama-1-7b").json()
    assert told["id"] == "llama-1" and told["size"] == "7b"
    facts = {fact["field"]: fact for fact in told["facts"]}
    assert facts["parameters"]["text"] == "6,738,415,616"
    licence, code = (told["sources"][facts[field]["source"]] for field in ("licence", "licence_code"))
    assert licence["url"].startswith("https://") and code["noted"]
    assert client.get("/v1/catalogue/huggyllama/llama-7b").json()["id"] == "llama-1"


def test_entries_side_by_side(client: TestClient) -> None:
    told = client.get("/v1/catalogue/compare", params={"name": ["llama-1-7b", "llama-2-70b"]}).json()
    assert told["names"] == ["llama-1-7b", "llama-2-70b"]
    lines = {line["label"]: line for line in told["lines"]}
    assert lines["context"] == {"label": "context", "texts": ["2,048", "4,096"], "differs": True}
    assert not lines["organisation"]["differs"]


@pytest.mark.parametrize(("path", "shown"), [("evolution.svg", "Falcon"), ("lineage.svg?name=alpaca", "LLaMA")])
def test_pictures_are_drawn(client: TestClient, path: str, shown: str) -> None:
    response = client.get(f"/v1/catalogue/{path}")
    assert response.status_code == 200 and response.headers["content-type"] == "image/svg+xml"
    root = ElementTree.fromstring(response.text)
    assert root.tag.endswith("svg") and shown in "".join(root.itertext())


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("llama-1-7c", 404, "llama-1-7b"),
        ("compare?name=llama-1", 400, "1 names to compare"),
        ("compare?" + "&".join(["name=llama-1"] * 7), 400, "2 to 6"),
        ("compare?name=llama-1&name=nobody", 404, "nobody"),
        ("lineage.svg?name=nobody", 404, "nobody"),
        ("lineage.svg", 400, "name"),
        ("%20", 400, "no name"),
        ("x" * 500, 404, "catalogue"),
    ],
)
def test_what_is_not_there_is_refused(client: TestClient, path: str, status: int, said: str) -> None:
    response = client.get(f"/v1/catalogue/{path}")
    assert response.status_code == status and said in response.json()["error"]["message"]
