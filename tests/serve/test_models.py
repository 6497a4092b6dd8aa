"""/v1/models: the names, and what each model is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serve_models import copy_bundled, opened, serving, write_bert, write_t5

from paddock.kernels.native import library
from paddock.serve.routes.models import facts
from paddock.serve.server import Server
from paddock.serve.settings import Named, Settings


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("several")
    own = copy_bundled(folder / "own")
    (own / "generation_config.json").write_text('{"temperature": 0.7, "max_new_tokens": 99, "eos_token_id": 2}')
    models = {"story": None, "own/one": own, "bert": write_bert(folder / "bert"), "t5": write_t5(folder / "t5")}
    with serving(**models) as (_, client):
        yield client


def details(client: TestClient, name: str) -> dict[str, Any]:
    response = client.get(f"/v1/models/{name}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["paddock"]
    return found


def test_the_list_is_openai_s(several: TestClient) -> None:
    answer = several.get("/v1/models").json()
    assert answer["object"] == "list"
    assert [model["id"] for model in answer["data"]] == ["story", "own/one", "bert", "t5"]
    for model in answer["data"]:
        assert model["object"] == "model" and model["owned_by"] == "paddock" and model["created"] > 1.7e9
    assert [model["paddock"]["generates"] for model in answer["data"]] == [True, True, False, True]
    assert [model["paddock"]["bundled"] for model in answer["data"]] == [True, False, False, False]


def test_a_model_says_what_it_is(several: TestClient) -> None:
    story = details(several, "story")
    assert story["family"] == "llama" and story["parameters"] == 260_032 and story["context"] == 512
    assert story["bytes"] >= 260_032 and story["quantised"] is None
    assert (story["chat"], story["template"], story["roles"], story["encoder"]) == (False, None, None, False)
    bert = details(several, "bert")
    assert bert["encoder"] and not bert["generates"] and bert["context"] == 40 and not bert["classes"]
    assert details(several, "t5")["encoder_decoder"]


def test_settings_say_where_they_come_from(several: TestClient) -> None:
    own, story = details(several, "own/one")["settings"], details(several, "story")["settings"]
    assert own["temperature"] == {"value": 0.7, "from": "model"} and story["top_p"]["from"] == "default"
    assert own["max_new_tokens"] == {"value": 99, "from": "model"}
    assert story["max_new_tokens"] == {"value": None, "from": "default"}
    assert {"top_k", "top_p", "min_p", "repetition_penalty", "seed"} <= own.keys()


def test_a_template_names_its_roles(client: TestClient) -> None:
    found = details(client, "stories260K")
    assert found["chat"] and found["template"] == "alpaca" and {"user", "assistant"} <= set(found["roles"])


def test_quantised_models_name_their_codes() -> None:
    if library() is None:
        pytest.skip("the native kernels are not there")
    server = Server(Settings(quantize="q8_0"))
    server.load(server.settings.models[0])
    assert facts(server.registry.find(None))["quantised"] == "q8_0"


def test_names_that_are_not_there(several: TestClient) -> None:
    response = several.get("/v1/models/storry")
    assert response.status_code == 404 and response.json()["error"]["code"] == "model_not_found"
    assert "story" in response.json()["error"]["message"]
    assert several.get("/v1/models/").status_code == 404


def test_a_model_goes_on_without_its_files(tmp_path: Path) -> None:
    """Where its folder is replaced while it is served, say. Nothing that was begun for a request is left running."""
    folder = copy_bundled(tmp_path / "model")
    ask: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    with opened(Settings(models=(Named("m", str(folder)),), template="alpaca")) as (server, client):
        (folder / "old.safetensors").symlink_to(folder / "gone")
        for _ in range(2):
            assert client.post("/v1/chat/completions", json=ask).status_code == 200
            assert client.post("/v1/completions", json={"prompt": "a", "max_tokens": 2}).status_code == 200
            assert client.get("/api/tags").json()["models"][0]["name"] == "m"
            assert client.post("/api/show", json={"model": "m"}).status_code == 200
            shutil.rmtree(folder, ignore_errors=True)
        assert server.worker.active == 0
