"""/tokenize and /detokenize: exactly what the model reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tools_template import server_with_tools

from paddock.serve.app import make_app
from paddock.serve.server import Server

TALK = [{"role": "user", "content": "Tell me a story </s> 猫"}]


def test_a_text_there_and_back(client: TestClient, server: Server) -> None:
    tokenizer = server.registry.find(None).model.tokenizer
    text = "Once upon a time, 猫 🙂 </s>"
    answer = client.post("/tokenize", json={"prompt": text, "return_token_strs": True}).json()
    assert answer["tokens"] == tokenizer.encode(text) and answer["count"] == len(answer["tokens"])
    assert answer["max_model_len"] == 512 and answer["token_strs"] == [tokenizer.piece(i) for i in answer["tokens"]]
    assert "prompt" not in answer
    back = client.post("/detokenize", json={"tokens": answer["tokens"]}).json()["prompt"]
    assert back == tokenizer.decode(answer["tokens"], skip_special=False)
    plain = client.post("/detokenize", json={"tokens": answer["tokens"], "skip_special_tokens": True}).json()["prompt"]
    assert plain == text
    bare = client.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()
    assert bare["tokens"] == answer["tokens"][1:] and bare["token_strs"] is None


def test_a_conversation_is_shown_as_it_is_read(client: TestClient, server: Server) -> None:
    model = server.registry.find(None).model
    answer = client.post("/tokenize", json={"messages": TALK}).json()
    assert tuple(answer["tokens"]) == model.chat_prompt(TALK).ids
    assert "Tell me a story </s> 猫" in answer["prompt"] and "### Response:" in answer["prompt"]
    ask = {"messages": TALK, "max_tokens": 1}
    usage = client.post("/v1/chat/completions", json=ask).json()["usage"]
    assert usage["prompt_tokens"] == answer["count"]
    closed = client.post("/tokenize", json={"messages": TALK, "add_generation_prompt": False}).json()
    assert closed["count"] < answer["count"] and answer["prompt"].startswith(closed["prompt"])
    developer = [{"role": "developer", "content": "Be kind."}, *TALK]
    assert "Be kind." in client.post("/tokenize", json={"messages": developer}).json()["prompt"]


def test_tools_and_earlier_calls_are_counted_as_chat_counts_them(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    talk = [
        {"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    with server_with_tools(tmp_path) as (server, _):
        client = TestClient(make_app(server), base_url="http://127.0.0.1")
        answer = client.post("/tokenize", json={"messages": talk, "tools": [tool]}).json()
        asked = {"messages": talk, "tools": [tool], "max_tokens": 1}
        usage = client.post("/v1/chat/completions", json=asked).json()["usage"]
    assert answer["count"] == usage["prompt_tokens"]
    assert answer["prompt"].startswith("Tools: ") and '<tool_call>{"name": "add"' in answer["prompt"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": "a", "messages": TALK},
        {"prompt": 3},
        {"prompt": "\ud800"},
        {"messages": []},
        {"messages": [{"role": "robot", "content": "a"}]},
        {"messages": TALK, "chat_template_kwargs": {"messages": []}},
        {"messages": TALK, "chat_template_kwargs": {"enable_thinking": True}},
        {"messages": TALK, "add_special_tokens": False},
        {"messages": TALK, "tools": [{"type": "function", "function": {"name": "f"}}]},
        {"prompt": "a", "tools": []},
        {"prompt": "a", "add_special_tokens": "no"},
    ],
    ids=lambda body: str(body)[:60],
)
def test_what_cannot_be_tokenised_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    response = client.post("/tokenize", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert response.status_code == 400 and response.json()["error"]["message"]


@pytest.mark.parametrize("tokens", [None, "a", [-1], [512], [2**40], [1.0], [True], [[1]]], ids=str)
def test_what_is_no_token_is_refused(client: TestClient, tokens: Any) -> None:
    assert client.post("/detokenize", json={"tokens": tokens}).status_code == 400


def test_no_tokens_spell_nothing(client: TestClient) -> None:
    assert client.post("/detokenize", json={"tokens": []}).json() == {"prompt": ""}
    assert client.post("/tokenize", json={"prompt": "", "add_special_tokens": False}).json()["tokens"] == []
