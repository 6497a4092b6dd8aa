"""The shortest way through the whole server: a conversation answered whole, streamed, and twice at once."""

from __future__ import annotations

import json
from typing import Any

import httpx
from fastapi.testclient import TestClient

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell me a story"}], "max_tokens": 24, "temperature": 0}


def events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_whole_answer_is_its_stream_put_together(client: TestClient) -> None:
    whole = client.post("/v1/chat/completions", json=ASK).json()["choices"][0]
    chunks = events(client.post("/v1/chat/completions", json={**ASK, "stream": True}).text)
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text and text == whole["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"] == "length"
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_it_is_the_text_of_the_engine(client: TestClient, server: Any) -> None:
    model = server.registry.find(None).model
    expected = model.chat(ASK["messages"], 24, temperature=0).text
    assert client.post("/v1/chat/completions", json=ASK).json()["choices"][0]["message"]["content"] == expected


def test_over_a_socket(live: str) -> None:
    answer = httpx.post(f"{live}/v1/chat/completions", json={**ASK, "n": 2}, timeout=60).json()
    first, second = (choice["message"]["content"] for choice in answer["choices"])
    assert first == second and answer["usage"]["completion_tokens"] == 48


def test_refusals_have_openai_s_shape(client: TestClient) -> None:
    for body, status in (
        ({**ASK, "n": "1"}, 400),
        ({**ASK, "model": "gpt-9"}, 404),
        ({**ASK, "max_tokens": 9999}, 400),
    ):
        response = client.post("/v1/chat/completions", json=body)
        assert response.status_code == status
        assert response.json()["error"].keys() == {"message", "type", "param", "code"}
