"""Models loaded and unloaded over HTTP, by administrators only, while requests run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from guarded import opened
from operating import Streaming, ask, copy_scaled, write_adapter
from running import Running

from paddock.engine.locate import bundled
from paddock.serve.app import make_app
from paddock.serve.refusals import BadRequest
from paddock.serve.routes.admin import allowed

USER, ADMIN = "user-key-1", "admin-key-1"
BOSS = {"Authorization": f"Bearer {ADMIN}"}


@pytest.fixture
def boss() -> Iterator[TestClient]:
    """Requests with an administrator's key, to a server of this test alone."""
    with opened(template="alpaca", api_keys=(USER,), admin_keys=(ADMIN,)) as server:
        yield TestClient(make_app(server), base_url="http://127.0.0.1", raise_server_exceptions=False, headers=BOSS)


def names(client: Any) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").json()["data"]]


def text(client: Any, **more: Any) -> str:
    answer = client.post("/v1/chat/completions", json=ask(30, **more))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def test_load_and_unload(boss: TestClient) -> None:
    answer = boss.post("/v1/admin/load", json={"name": "org/two", "path": str(bundled())})
    assert answer.status_code == 200 and answer.json()["id"] == "org/two"
    assert names(boss) == ["stories260K", "org/two"] and text(boss, model="org/two") == text(boss)
    again = boss.post("/v1/admin/load", json={"name": "org/two", "path": "stories260K"})
    assert again.status_code == 400 and "already" in again.json()["error"]["message"]
    gone = boss.post("/v1/admin/unload", json={"name": "org/two"})
    assert gone.json() == {"id": "org/two", "object": "model", "deleted": True}
    assert names(boss) == ["stories260K"]
    assert boss.post("/v1/chat/completions", json=ask(5, model="org/two")).status_code == 404
    assert boss.post("/v1/admin/unload", json={"name": "org/two"}).status_code == 404
    assert boss.post("/v1/admin/unload", json={"name": "stories260K"}).status_code == 200
    assert boss.post("/v1/chat/completions", json=ask(5)).status_code == 404


def test_vllm_s_way_to_load_adapters(boss: TestClient, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "polite")
    plain = text(boss)
    answer = boss.post("/v1/load_lora_adapter", json={"lora_name": "polite", "lora_path": str(path)})
    assert answer.status_code == 200 and answer.text == "Success: LoRA adapter 'polite' added successfully."
    listed = boss.get("/v1/models").json()["data"][1]
    assert (listed["id"], listed["parent"]) == ("polite", "stories260K")
    assert text(boss, model="polite") != plain == text(boss)
    carried = boss.post("/v1/admin/unload", json={"name": "stories260K"})
    assert carried.status_code == 400 and "polite" in carried.json()["error"]["message"]
    no_adapter = boss.post("/v1/unload_lora_adapter", json={"lora_name": "stories260K"})
    assert no_adapter.status_code == 400
    answer = boss.post("/v1/unload_lora_adapter", json={"lora_name": "polite"})
    assert answer.status_code == 200 and "removed" in answer.text and names(boss) == ["stories260K"]
    again = {"name": "polite", "path": str(path), "base": "stories260K"}
    assert boss.post("/v1/admin/load", json=again).json()["parent"] == "stories260K"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/admin/load", {"name": "x", "path": "stories260K"}),
        ("/v1/admin/unload", {"name": "stories260K"}),
        ("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "y"}),
        ("/v1/unload_lora_adapter", {"lora_name": "stories260K"}),
    ],
)
def test_only_administrators_may(boss: TestClient, client: TestClient, path: str, body: dict[str, str]) -> None:
    for headers, status in (
        ({"Authorization": f"Bearer {USER}"}, 403),
        ({"Authorization": "Bearer nobody-s"}, 401),
    ):
        assert boss.post(path, json=body, headers=headers).status_code == status
    assert client.post(path, json=body).status_code == 403, "a server without keys has no administrators"
    assert names(boss) == ["stories260K"]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "../../etc", "path": "stories260K"},
        {"name": "a b", "path": "stories260K"},
        {"name": "", "path": "stories260K"},
        {"name": "x" * 129, "path": "stories260K"},
        {"name": "x", "path": ""},
        {"name": "x", "path": "no-such-model"},
        {"name": "x", "path": "/no/such/model"},
        {"name": "x", "path": "a\0b"},
        {"name": "x", "path": 7},
        {"name": "x"},
        {},
    ],
)
def test_what_cannot_be_loaded_is_a_bad_request(boss: TestClient, body: dict[str, Any]) -> None:
    answer = boss.post("/v1/admin/load", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["message"]
    assert names(boss) == ["stories260K"]
    assert boss.post("/v1/admin/load", json={"name": "x", "path": "stories260K"}).status_code == 200, "the name is free"


def test_a_base_that_is_not_there(boss: TestClient, tmp_path: Path) -> None:
    body = {"name": "x", "path": str(write_adapter(tmp_path / "a")), "base": "nobody"}
    assert boss.post("/v1/admin/load", json=body).status_code == 404


def test_unknown_fields_are_told(boss: TestClient) -> None:
    answer = boss.post("/v1/admin/load", json={"name": "x", "path": "stories260K", "colour": "red"})
    assert answer.headers["x-paddock-ignored"] == "colour"


def test_paths_stay_in_the_folders_that_were_given(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    inside, outside = copy_scaled(root / "in", 1), copy_scaled(other / "out", 2)
    (root / "link").symlink_to(outside)
    (root / "loop").symlink_to(root / "loop")
    for path in ("in", str(inside), "./in", "in/../in"):
        assert allowed(path, [other, root]) == str(inside.resolve()) or allowed(path, [root]) == str(inside.resolve())
    for path in (
        "../other/out", str(outside), "link", "loop", "/etc", "..", "in/../../other/out", "nothing", "~",
        "stories260K", "a\0",
    ):  # fmt: skip
        with pytest.raises(BadRequest):
            allowed(path, [root])
    with opened(admin_keys=(ADMIN,), models_dirs=(root,)) as server:
        client = TestClient(make_app(server), base_url="http://127.0.0.1", headers=BOSS)
        assert client.post("/v1/admin/load", json={"name": "x", "path": "in"}).status_code == 200
        for path in (str(outside), "link", "../other/out"):
            answer = client.post("/v1/admin/load", json={"name": "y", "path": path})
            assert answer.status_code == 400 and str(tmp_path) not in answer.text


def test_running_requests_do_not_notice(tmp_path: Path) -> None:
    """Thirty streams, while models and adapters come and go under changing names."""
    other, adapter = copy_scaled(tmp_path / "other", 1), write_adapter(tmp_path / "adapter")
    with (
        opened(template="alpaca", admin_keys=(ADMIN,), per_key_in_flight=64) as server,
        Running(server) as url,
        contextlib.ExitStack() as closing,
    ):
        boss = closing.enter_context(httpx.Client(base_url=url, headers=BOSS, timeout=60))
        expected = text(boss, max_tokens=300)
        stop, lost = threading.Event(), []

        def stream() -> None:
            while not stop.is_set():
                client = Streaming(url, ask(300), BOSS)
                client.join(60)
                if not client.whole or client.text != expected:
                    lost.append(client)

        clients = [threading.Thread(target=stream) for _ in range(4)]
        for client in clients:
            client.start()
        cold = {}
        for turn in range(3):
            for name, body in (("m", {"path": str(other)}), ("a", {"path": str(adapter), "base": "stories260K"})):
                assert boss.post("/v1/admin/load", json={"name": name, **body}).status_code == 200
                answer = text(boss, model=name)
                assert cold.setdefault(name, answer) == answer != expected[:30], turn
                assert boss.post("/v1/admin/unload", json={"name": name}).status_code == 200
        stop.set()
        for client in clients:
            client.join(60)
        assert not lost, lost[0].lines[-3:]
        assert server.worker.active == 0
