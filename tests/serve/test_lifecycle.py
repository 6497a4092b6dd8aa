"""From the start of a server's process to its end."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from operating import Process, ask, eventually, gone, streams, write_slow

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slow(tmp_path_factory.mktemp("models") / "slow")


def test_sigterm_lets_streams_end_and_takes_nothing_new(slow: Path) -> None:
    with Process(slow, "--port", "0") as server:
        clients = list(streams(server, 32, ask(60)))
        children = server.children()
        assert children, "a template by strangers is rendered in a process"
        sent = server.signal()
        ready = eventually(lambda: (answer := httpx.get(f"{server.url}/ready")).status_code == 503 and answer)
        assert time.monotonic() - sent < 0.5
        assert ready.json() == {"status": "draining"} and int(ready.headers["retry-after"]) > 0
        assert httpx.get(f"{server.url}/health").status_code == 200
        refused = httpx.post(f"{server.url}/v1/chat/completions", json=ask(5))
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "server_unavailable"
        assert int(refused.headers["retry-after"]) > 0 and refused.headers["connection"] == "close"
        assert server.end() == 0, server.said
        for client in clients:
            client.join(10)
            assert client.status == 200 and client.whole and client.broken is None
        assert len({client.text for client in clients}) == 1
        assert gone(children)
    assert "Traceback" not in server.said


def test_what_does_not_end_in_time_is_told_so(slow: Path) -> None:
    with Process(slow, "--port", "0", "--drain-seconds", "0.3") as server:
        (client,) = streams(server, 1, ask(12000))
        whole = ThreadPoolExecutor(1).submit(httpx.post, f"{server.url}/v1/chat/completions", json=ask(12000))
        time.sleep(0.2)
        sent = server.signal(signal.SIGINT)
        assert server.end() == 0, server.said
        assert 0.3 <= time.monotonic() - sent < 5.3
        client.join(10)
        assert whole.result(10).status_code == 503
        assert client.events[-1]["error"]["code"] == "server_unavailable" and not client.whole
        assert client.broken is None, "an end, not a broken connection"


def test_a_second_signal_ends_it_within_two_seconds(slow: Path) -> None:
    with Process(slow, "--port", "0", "--drain-seconds", "600") as server:
        list(streams(server, 2, ask(12000)))
        children = server.children()
        server.signal()
        eventually(lambda: httpx.get(f"{server.url}/ready").status_code == 503)
        time.sleep(0.3)
        assert server.process.poll() is None, "the first lets it finish"
        sent = server.signal()
        assert server.end() == 0
        assert time.monotonic() - sent < 2.5
        assert gone(children)


def test_an_idle_server_ends_at_once(slow: Path) -> None:
    with Process(slow, "--port", "0") as server:
        idle = httpx.Client()  # a connection that is kept open does not hold it up
        assert idle.get(f"{server.url}/ready").status_code == 200
        sent = server.signal()
        assert server.end() == 0
        assert time.monotonic() - sent < 4
        idle.close()


def test_while_models_load_it_answers_health_only(slow: Path) -> None:
    names = [word for place in range(12) for word in ("--alias", f"copy-{place}")]
    with Process(*[slow] * 12, *names, "--port", "0", ready=False) as server:
        answer = eventually(lambda: _get(f"{server.url}/ready"))
        assert answer.status_code == 503 and answer.json() == {"status": "loading"} and "retry-after" in answer.headers
        assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
        refused = httpx.get(f"{server.url}/v1/models")
        assert refused.status_code == 503 and "retry-after" in refused.headers
        sent = server.signal()
        assert server.end() == 0, "nobody waits for a model that is no longer wanted"
        assert time.monotonic() - sent < 5


def _get(url: str) -> httpx.Response | None:
    try:
        return httpx.get(url)
    except httpx.TransportError:
        return None


def test_a_model_that_cannot_be_loaded_ends_it_with_its_code(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 60)
    with Process(broken, "--port", "0", ready=False) as server:
        assert server.end() == 3, server.said
    assert "error: " in server.said and "Traceback" not in server.said and "ready" not in server.said
