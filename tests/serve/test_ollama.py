"""Ollama's addresses: lines put together are the whole, what is refused, what models are, and Ollama's own client."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import ollama
import pytest
from dialect_help import STOPS, Scripted, check_leaving_frees, random_settings, random_text, random_turns, spoken
from fastapi.testclient import TestClient

from paddock import __version__
from paddock.engine.locate import bundled
from paddock.errors import OverloadError, PaddockError
from paddock.serve.dialects import ending_with
from paddock.serve.routes.ollama import Telling, _messages, failed
from paddock.serve.routes.ollama_models import _files
from paddock.serve.schemas.ollama import ChatBody, GenerateBody
from paddock.serve.server import Server

MODEL = "stories260K"
HELLO = [{"role": "user", "content": "Tell me a story"}]
OPTIONS: dict[str, Any] = {"num_predict": 16, "temperature": 0}
CHAT: dict[str, Any] = {"model": MODEL, "messages": HELLO, "options": OPTIONS}
RAW: dict[str, Any] = {"model": MODEL, "prompt": "Once upon a time", "raw": True, "options": OPTIONS}
TIMES = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def lines(text: str) -> list[dict[str, Any]]:
    """The lines of a stream that ended well."""
    assert text.endswith("\n")
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    assert [line["done"] for line in found] == [False] * (len(found) - 1) + [True]
    return found


def together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What all lines say, in the form of the last."""
    whole: dict[str, Any] = {
        "message": {"content": "", "thinking": "", "tool_calls": []},
        "response": "",
        "logprobs": [],
    }
    for line in found:
        datetime.fromisoformat(line["created_at"])
        for name, value in line.get("message", {"role": ""}).items():
            if name != "role":
                whole["message"][name] += value
        whole["response"] += line.get("response", "")
        whole["logprobs"] += line.get("logprobs", [])
    last = found[-1]
    return {**last, **whole, "model": last["model"]}


def steady(whole: dict[str, Any]) -> dict[str, Any]:
    """An answer without its times, absent and empty alike."""
    message = {name: value for name, value in whole.get("message", {}).items() if value and name != "role"}
    kept = {name: value for name, value in whole.items() if name not in (*TIMES, "created_at", "message") and value}
    return {**kept, **message}


def both(client: TestClient, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    whole = client.post(path, json={**body, "stream": False})
    assert whole.status_code == 200, whole.text
    streamed = client.post(path, json=body)
    assert streamed.headers["content-type"].startswith("application/x-ndjson")
    return whole.json(), lines(streamed.text)


@pytest.mark.parametrize(("path", "body"), [("/api/chat", CHAT), ("/api/generate", RAW)])
def test_an_answer_and_its_lines(client: TestClient, path: str, body: dict[str, Any]) -> None:
    whole, found = both(client, path, body)
    assert steady(together(found)) == steady(whole) and len(found) > 1
    assert whole["done_reason"] == "length" and whole["eval_count"] == 16 and whole["model"] == MODEL
    assert all(isinstance(whole[name], int) for name in TIMES)
    assert 0 < whole["prompt_eval_duration"] + whole["eval_duration"] < whole["total_duration"]


def test_it_is_what_the_other_dialects_answer(client: TestClient) -> None:
    chat = client.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 16, "temperature": 0}).json()
    expected = chat["choices"][0]["message"]["content"]
    assert both(client, "/api/chat", CHAT)[0]["message"] == {"role": "assistant", "content": expected}
    generated = {"model": MODEL, "prompt": HELLO[0]["content"], "options": OPTIONS}
    assert both(client, "/api/generate", generated)[0]["response"] == expected
    raw = client.post("/v1/completions", json={"prompt": RAW["prompt"], "max_tokens": 16, "temperature": 0}).json()
    assert both(client, "/api/generate", RAW)[0]["response"] == raw["choices"][0]["text"]


def test_random_requests_streamed_and_whole(client: TestClient) -> None:
    chance = random.Random(43)
    reasons = set()
    for _ in range(50):
        options = {"num_predict": chance.randint(1, 30), **random_settings(chance)}
        if chance.random() < 0.5:
            options["stop"] = chance.choice([chance.choice(STOPS), chance.sample(STOPS, 2)])
        if chance.random() < 0.3:
            options |= {"repeat_penalty": 1.3, "typical_p": 0.9, "presence_penalty": 0.5, "frequency_penalty": -0.5}
        body: dict[str, Any] = {"model": MODEL, "options": options}
        body |= {"logprobs": True, "top_logprobs": 2} if chance.random() < 0.3 else {}
        path = chance.choice(["/api/chat", "/api/generate"])
        if path == "/api/chat":
            body["messages"] = random_turns(chance)
        else:
            body |= {"prompt": random_text(chance), **chance.choice([{}, {"raw": True}, {"system": "Be brief."}])}
        whole, found = both(client, path, body)
        assert steady(together(found)) == steady(whole), body
        reasons.add(whole["done_reason"])
    assert reasons == {"stop", "length"}


def test_without_a_limit_an_answer_may_fill_the_context(client: TestClient) -> None:
    for limit in ({}, {"num_predict": -1}, {"num_predict": -2}):
        for path, body in (("/api/chat", CHAT), ("/api/generate", RAW)):
            options = {"temperature": 0, **limit}
            whole = client.post(path, json={**body, "options": options, "stream": False}).json()
            room = 512 - whole["prompt_eval_count"]
            assert whole["eval_count"] == room if whole["done_reason"] == "length" else whole["eval_count"] < room
            assert whole["eval_count"] > 16


def test_a_model_that_is_only_to_be_loaded(client: TestClient) -> None:
    for path, body in (("/api/chat", {}), ("/api/chat", {"messages": []}), ("/api/generate", {"keep_alive": "5m"})):
        line = client.post(path, json={"model": MODEL, **body}).json()
        assert line["done"] is True and line["done_reason"] == "load"


# --- thoughts and calls, scripted ----------------------------------------------------------------------------------

CALLS = [("call_1", "weather", '{"city": "Kuala Lumpur"}'), ("call_2", "time", "{}")]


def told(scripted: Scripted) -> tuple[dict[str, Any], str]:
    body = ChatBody.model_validate(CHAT)

    async def run() -> tuple[dict[str, Any], str]:
        whole, streamed = Telling(body, scripted, 0.0), Telling(body, scripted, 0.0)  # type: ignore[arg-type]
        text = "".join([piece async for piece in ending_with(streamed.lines(), failed)])
        return ({} if scripted.failure else await whole.whole()), text

    return asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_thoughts_text_and_calls(seed: int) -> None:
    chance = random.Random(seed)
    calls = CALLS[: chance.randint(0, 2)]
    thought, text = chance.choice(["", "Let me see."]), chance.choice(["", "It is 中文 🙂."])
    whole, streamed = told(Scripted(spoken(chance, thought, text, calls), "tool_calls" if calls else "stop"))
    assert steady(together(lines(streamed))) == steady(whole)
    message = whole["message"]
    assert message["content"] == text and message.get("thinking", "") == thought
    found = [
        (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", [])
    ]
    assert found == [(id, name, json.loads(arguments)) for id, name, arguments in calls]
    assert whole["done_reason"] == "stop" and whole["prompt_eval_count"] == 7 and whole["eval_count"] == 5
    assert whole["prompt_eval_duration"] == 250_000_000 and whole["eval_duration"] == 500_000_000


def test_a_call_that_was_cut_off_is_none() -> None:
    calls = [CALLS[0], ("call_2", "time", '{"zone": ')]
    whole, streamed = told(Scripted(spoken(random.Random(1), "", "", calls), "length", None))
    assert [call["id"] for call in whole["message"]["tool_calls"]] == ["call_1"] and whole["done_reason"] == "length"
    assert steady(together(lines(streamed))) == steady(whole)
    whole, _ = told(Scripted(spoken(random.Random(1), "", "", CALLS), "length", None))
    assert [call["id"] for call in whole["message"]["tool_calls"]] == ["call_1", "call_2"]


def test_a_failure_on_the_way_is_told() -> None:
    for failure in (OverloadError("shutting down", down=True), PaddockError("it broke")):
        _, streamed = told(Scripted(spoken(random.Random(1), "", "Well", ()), failure=failure))
        assert json.loads(streamed.split("\n")[-2]) == {"error": failure.args[0]}


# --- what is asked -------------------------------------------------------------------------------------------------


def test_messages_are_a_conversation() -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "吉隆坡"}}}
    body = ChatBody.model_validate({
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call]},
            {"role": "tool", "content": "hot", "tool_name": "weather"},
        ],
    })  # fmt: skip
    function = {"name": "weather", "arguments": '{"city": "吉隆坡"}'}
    assert _messages(body) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": None, "type": "function", "function": function}]},
        {"role": "tool", "content": "hot", "name": "weather", "tool_call_id": None},
    ]
    assert body.ignored(strict=False) == ["messages.2.thinking"]
    asked = GenerateBody.model_validate({"model": MODEL, "prompt": "Hi", "system": "Be brief."})
    assert _messages(asked) == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


LONG = "a b c d " * 200
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("/api/chat", {"model": None}, "model"),
    ("/api/chat", {"model": ""}, "model"),
    ("/api/chat", {"messages": "Hi"}, "messages"),
    ("/api/chat", {"messages": [{"role": "user", "content": LONG}]}, "512"),
    ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "text only"),
    ("/api/chat", {"messages": [{"role": "developer", "content": "x"}]}, "messages.0.role"),
    ("/api/chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "messages.0.content"),
    ("/api/chat", {"stream": "no"}, "stream"),
    ("/api/chat", {"format": "yaml"}, "format"),
    ("/api/chat", {"format": 1}, "format"),
    ("/api/chat", {"think": "hard"}, "think"),
    ("/api/chat", {"tools": [{"type": "function"}]}, "tools.0.function"),
    ("/api/chat", {"top_logprobs": 21}, "top_logprobs"),
    ("/api/chat", {"options": {"num_ctx": 513}}, "at most 512"),
    ("/api/chat", {"options": {"num_ctx": 0}}, "options.num_ctx"),
    ("/api/chat", {"options": {"num_predict": 0}}, "num_predict"),
    ("/api/chat", {"options": {"num_predict": -3}}, "options.num_predict"),
    ("/api/chat", {"options": {"num_predict": 600}}, "512"),
    ("/api/chat", {"options": {"temperature": "0"}}, "options.temperature"),
    ("/api/chat", {"options": {"temperature": -1}}, "options.temperature"),
    ("/api/chat", {"options": {"top_k": 1.5}}, "options.top_k"),
    ("/api/chat", {"options": {"seed": -2}}, "options.seed"),
    ("/api/chat", {"options": {"stop": [""]}}, "options.stop"),
    ("/api/chat", {"options": []}, "options"),
    ("/api/generate", {"prompt": LONG}, "512"),
    ("/api/generate", {"suffix": "end"}, "suffix"),
    ("/api/generate", {"template": "{{ .Prompt }}"}, "template"),
    ("/api/generate", {"context": [1, 2]}, "context"),
    ("/api/generate", {"images": ["aGk="]}, "images"),
    ("/api/generate", {"raw": True, "system": "x"}, "raw"),
    ("/api/embed", {"input": LONG}, "512"),
    ("/api/embed", {"input": 5}, "input"),
    ("/api/embed", {"input": [5]}, "input.0"),
    ("/api/embed", {"input": "x", "dimensions": 8}, "dimensions"),
    ("/api/embed", {"input": "x", "options": {"num_ctx": 4096}}, "at most 512"),
    ("/api/embeddings", {}, "prompt"),
    ("/api/show", {"model": 5}, "model"),
    ("/api/show", {"model": None}, "model"),
]


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    REFUSED,
    ids=[f"{path[5:]}-{said}-{place}" for place, (path, _, said) in enumerate(REFUSED)],
)
def test_refusals(client: TestClient, path: str, fields: dict[str, Any], said: str) -> None:
    usual: dict[str, Any] = {"/api/chat": CHAT, "/api/generate": {"prompt": "Hi"}}.get(path, {})
    response = client.post(path, json={"model": MODEL, **usual, **fields})
    assert response.status_code == 400, response.text
    assert response.json().keys() == {"error"} and said in response.json()["error"]


def test_every_refusal_has_ollama_s_shape(client: TestClient) -> None:
    for path in ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show"):
        unknown = client.post(path, json={**CHAT, "model": "llama9", "prompt": "x", "input": "x"})
        assert unknown.status_code == 404 and "llama9" in unknown.json()["error"]
        for content in (b"{", b"5", b"\xff"):
            broken = client.post(path, content=content, headers={"Content-Type": "application/json"})
            assert broken.status_code == 400 and isinstance(broken.json()["error"], str)
    for path in ("/api/pull", "/api/delete", "/api/nothing"):
        nowhere = client.post(path, json={"model": MODEL})
        assert nowhere.status_code == 404 and isinstance(nowhere.json()["error"], str)
    assert isinstance(client.get("/api/chat").json()["error"], str)


def test_what_has_no_effect_is_told(client: TestClient) -> None:
    options = {
        **OPTIONS,
        "num_ctx": 128,
        "num_gpu": 99,
        "num_thread": 2,
        "num_keep": 4,
        "mirostat": 2,
        "repeat_last_n": 64,
    }
    fields = {"options": options, "keep_alive": -1, "think": True, "colour": "red"}
    response = client.post("/api/chat", json={**CHAT, **fields})
    named = "colour, options.mirostat, options.repeat_last_n, think"
    assert response.status_code == 200 and response.headers["X-Paddock-Ignored"] == named
    quiet = client.post("/api/chat", json={**CHAT, "think": False, "format": "", "keep_alive": "5m"})
    assert "X-Paddock-Ignored" not in quiet.headers


# --- models --------------------------------------------------------------------------------------------------------


def test_models_are_listed_and_shown(client: TestClient, server: Server) -> None:
    (listed,) = client.get("/api/tags").json()["models"]
    assert listed["name"] == listed["model"] == MODEL
    assert listed["size"] == sum(path.stat().st_size for path in bundled().iterdir())
    assert listed["details"] == {
        "parent_model": "", "format": "safetensors", "family": "llama", "families": ["llama"],
        "parameter_size": "260K", "quantization_level": "F32",
    }  # fmt: skip
    (running,) = client.get("/api/ps").json()["models"]
    assert running["digest"] == listed["digest"] and running["size_vram"] == 0 and running["context_length"] == 512
    shown = client.post("/api/show", json={"model": f"{MODEL}:latest"}).json()
    assert shown["details"] == listed["details"] and shown["capabilities"] == ["completion", "embedding"]
    assert shown["model_info"]["llama.context_length"] == 512
    assert shown["model_info"]["general.parameter_count"] == 260032
    template = server.registry.find(None).model.template
    assert template is not None and shown["template"] == template.source
    assert client.get("/api/version").json() == {"version": __version__}
    whole = json.dumps([listed, running, shown])
    assert str(bundled()) not in whole and str(Path.home()) not in whole


def test_a_digest_is_of_names_sizes_and_times(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (first / "weights").write_bytes(b"1234")
    (first / "config").write_bytes(b"12")
    shutil.copytree(first, second)  # times are kept
    assert _files(first) == _files(second) and _files(first)[0] == 6 and len(_files(first)[1]) == 64
    assert _files(first / "weights")[0] == 4
    (second / "config").write_bytes(b"123")
    assert _files(first)[1] != _files(second)[1]


def test_vectors(client: TestClient) -> None:
    openai = client.post("/v1/embeddings", json={"input": ["Hi", "Once"], "encoding_format": "float"}).json()
    expected = [item["embedding"] for item in openai["data"]]
    found = client.post("/api/embed", json={"model": MODEL, "input": ["Hi", "Once"]}).json()
    assert found["embeddings"] == expected and found["prompt_eval_count"] == openai["usage"]["prompt_tokens"]
    assert client.post("/api/embed", json={"model": MODEL, "input": "Once"}).json()["embeddings"] == expected[1:]
    assert client.post("/api/embeddings", json={"model": MODEL, "prompt": "Hi"}).json() == {"embedding": expected[0]}
    cut = client.post("/api/embed", json={"model": MODEL, "input": ["Hi", LONG], "truncate": True}).json()
    assert cut["truncated"] == [1] and cut["embeddings"][0] == expected[0]


# --- clients -------------------------------------------------------------------------------------------------------


def test_the_official_client(live: str) -> None:
    with ollama.Client(host=live) as official:
        check_client(official)


def check_client(official: ollama.Client) -> None:
    answer = official.chat(model=MODEL, messages=HELLO, options=OPTIONS)
    assert answer.message.content and answer.done_reason == "length" and answer.eval_count == 16
    pieces = list(official.chat(model=MODEL, messages=HELLO, options=OPTIONS, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == answer.message.content
    generated = official.generate(model=MODEL, prompt="Once upon a time", raw=True, options=OPTIONS)
    assert generated.response and generated.total_duration
    streamed = official.generate(model=MODEL, prompt="Once upon a time", raw=True, options=OPTIONS, stream=True)
    assert "".join(piece.response or "" for piece in streamed) == generated.response
    assert len(official.embed(model=MODEL, input=["a", "b"]).embeddings) == 2
    assert len(official.embeddings(model=MODEL, prompt="a").embedding) == 64
    assert [model.model for model in official.list().models] == [MODEL]
    assert official.show(MODEL).capabilities == ["completion", "embedding"]
    assert [model.name for model in official.ps().models] == [MODEL]
    with pytest.raises(ollama.ResponseError) as unknown:
        official.chat(model="llama9", messages=HELLO)
    assert unknown.value.status_code == 404 and "llama9" in unknown.value.error
    with pytest.raises(ollama.ResponseError) as long:
        official.chat(model=MODEL, messages=[{"role": "user", "content": LONG}])
    assert long.value.status_code == 400 and "512" in long.value.error


def test_a_client_that_leaves_frees_its_request(live: str, server: Server) -> None:
    check_leaving_frees(server, f"{live}/api/chat", {**CHAT, "options": {"num_predict": 380}})
    check_leaving_frees(server, f"{live}/api/generate", {**RAW, "options": {"num_predict": 380}})
