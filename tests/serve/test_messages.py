"""Anthropic's /v1/messages: its events one by one, the whole as its stream, what it refuses, and Anthropic's client."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import anthropic
import pytest
from dialect_help import (
    STOPS,
    Scripted,
    check_leaving_frees,
    named_events,
    random_settings,
    random_text,
    random_turns,
    spoken,
)
from fastapi.testclient import TestClient

from paddock.errors import AccessError, NotFoundError, OverloadError, PaddockError
from paddock.serve.app import make_app
from paddock.serve.dialects import ending_with, in_blocks
from paddock.serve.refusals import BadRequest, body_of
from paddock.serve.routes.messages import Telling, failed, messages_of
from paddock.serve.schemas.messages import CountBody, MessagesBody
from paddock.serve.server import Server
from paddock.serve.settings import Settings

PATH = "/v1/messages"
KEY = "a-key-for-anthropic"
HELLO = [{"role": "user", "content": "Tell me a story"}]
ASK: dict[str, Any] = {"model": "stories260K", "messages": HELLO, "max_tokens": 16, "temperature": 0}


def stream(client: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(PATH, json={**body, "stream": True})
    assert response.status_code == 200, response.text
    return together(response.text)


def together(text: str) -> dict[str, Any]:
    """The message that a stream's events make, each of them in its place."""
    found = named_events(text)
    assert all(name == event["type"] for name, event in found)
    events = [event for _, event in found]
    assert [event["type"] for event in events[:2]] == ["message_start", "ping"]
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    message = events[0]["message"]
    assert message["content"] == [] and message["stop_reason"] is None and message["usage"]["output_tokens"] == 0
    open_block, partial = None, ""
    for event in events[2:-2]:
        if event["type"] == "content_block_start":
            assert open_block is None and event["index"] == len(message["content"])
            open_block, partial = event["content_block"], ""
            message["content"].append(open_block)
            continue
        assert open_block is not None and event["index"] == len(message["content"]) - 1
        if event["type"] == "content_block_stop":
            if open_block["type"] == "tool_use":
                assert open_block["input"] == {}
                open_block["input"] = json.loads(partial or "{}")
            open_block = None
            continue
        assert event["type"] == "content_block_delta"
        delta = event["delta"]
        names = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
        kind, name = names.get(open_block["type"], ("input_json_delta", "partial_json"))
        assert delta.keys() == {"type", name} and delta["type"] == kind and delta[name]
        if kind == "input_json_delta":
            partial += delta[name]
        else:
            open_block[name] += delta[name]
    assert open_block is None
    last = events[-2]
    assert {**message["usage"], "output_tokens": last["usage"]["output_tokens"]} == last["usage"]
    return {**message, **last["delta"], "usage": last["usage"]}


def steady(message: dict[str, Any]) -> dict[str, Any]:
    """Without what differs each time: what of the prompt was cached."""
    usage = message["usage"]
    prompt = usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]
    return {**message, "id": "", "usage": (prompt, usage["output_tokens"])}


def test_a_message_and_its_stream(client: TestClient) -> None:
    whole = client.post(PATH, json=ASK).json()
    assert steady(stream(client, ASK)) == steady(whole)
    assert whole["type"] == "message" and whole["role"] == "assistant" and whole["stop_reason"] == "max_tokens"
    count = client.post(f"{PATH}/count_tokens", json={"messages": HELLO}).json()
    assert steady(whole)["usage"] == (count["input_tokens"], 16)


def test_it_is_what_chat_answers(client: TestClient) -> None:
    chat = client.post("/v1/chat/completions", json=ASK).json()["choices"][0]["message"]["content"]
    assert client.post(PATH, json=ASK).json()["content"] == [{"type": "text", "text": chat}]


def test_what_was_cached_is_told_apart(client: TestClient) -> None:
    for _ in range(2):
        usage = client.post(PATH, json=ASK).json()["usage"]
    prompt = client.post(f"{PATH}/count_tokens", json={"messages": HELLO}).json()["input_tokens"]
    assert usage["cache_read_input_tokens"] > 0 and usage["cache_creation_input_tokens"] == 0
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == prompt


def test_random_requests_streamed_and_whole(client: TestClient) -> None:
    chance = random.Random(42)
    reasons = set()
    for _ in range(50):
        body: dict[str, Any] = {"messages": random_turns(chance), "max_tokens": chance.randint(1, 30)}
        body |= random_settings(chance)
        body |= {"stop_sequences": chance.sample(STOPS, 2)} if chance.random() < 0.5 else {}
        body |= {"system": random_text(chance)} if chance.random() < 0.3 else {}
        whole = client.post(PATH, json=body)
        assert whole.status_code == 200, whole.text
        assert steady(stream(client, body)) == steady(whole.json()), body
        reason, sequence = whole.json()["stop_reason"], whole.json()["stop_sequence"]
        reasons.add(reason)
        assert (sequence in body["stop_sequences"]) if reason == "stop_sequence" else (sequence is None)
    assert reasons >= {"max_tokens", "stop_sequence"}


# --- thoughts and calls, scripted ----------------------------------------------------------------------------------

CALLS = [("call_1", "weather", '{"city": "Kuala Lumpur", "days": [1, 2]}'), ("call_2", "time", "{}")]


def told(scripted: Scripted, body: MessagesBody | None = None) -> tuple[dict[str, Any], str]:
    """A scripted answer whole, and as the text of its stream."""
    body = body or MessagesBody.model_validate(ASK)

    async def run() -> tuple[dict[str, Any], str]:
        whole, streamed = Telling(body, scripted), Telling(body, scripted)  # type: ignore[arg-type]
        text = "".join([piece async for piece in ending_with(streamed.events(), failed)])
        if scripted.failure is not None:
            return {}, text
        whole.blocks = await in_blocks(scripted)  # type: ignore[arg-type]
        return whole.body(), text

    return asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_thoughts_text_and_calls(seed: int) -> None:
    chance = random.Random(seed)
    calls = CALLS[: chance.randint(0, 2)]
    thought, text = chance.choice(["", "Let me see."]), chance.choice(["", "It is 中文 🙂."])
    whole, streamed = told(Scripted(spoken(chance, thought, text, calls), "tool_calls" if calls else "stop"))
    assert steady(together(streamed)) == steady(whole)
    expected: list[dict[str, Any]] = [{"type": "thinking", "thinking": thought, "signature": ""}] if thought else []
    expected += [{"type": "text", "text": text}] if text else []
    expected += [{"type": "tool_use", "id": id, "name": name, "input": json.loads(args)} for id, name, args in calls]
    assert whole["content"] == (expected or [{"type": "text", "text": ""}])
    assert whole["stop_reason"] == ("tool_use" if calls else "end_turn")
    assert whole["usage"] == {
        "input_tokens": 4, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 3, "output_tokens": 5,
    }  # fmt: skip


def test_of_a_call_that_was_cut_off_what_is_whole() -> None:
    calls = [("call_1", "weather", '{"days": [1, 2], "city": "Kua')]
    whole, streamed = told(Scripted(spoken(random.Random(1), "", "", calls), "length", None))
    assert whole["content"][0]["input"] == {"days": [1, 2]} and whole["stop_reason"] == "max_tokens"
    pieces = [event["delta"]["partial_json"] for name, event in named_events(streamed) if name == "content_block_delta"]
    assert "".join(pieces) == calls[0][2]


def test_a_stop_of_the_template_is_an_end_of_turn() -> None:
    body = MessagesBody.model_validate({**ASK, "stop_sequences": ["END"]})
    for stop, expected in (("END", ("stop_sequence", "END")), ("###", ("end_turn", None)), (2, ("end_turn", None))):
        whole, _ = told(Scripted(spoken(random.Random(1), "", "x", ()), "stop", stop), body)
        assert (whole["stop_reason"], whole["stop_sequence"]) == expected


def test_a_failure_on_the_way_is_told() -> None:
    failures = (
        (OverloadError("shutting down", down=True), "overloaded_error"),
        (OverloadError("too much"), "rate_limit_error"),
        (PaddockError("it broke"), "api_error"),
    )
    for failure, kind in failures:
        _, streamed = told(Scripted(spoken(random.Random(1), "", "Well", ()), failure=failure))
        name, last = named_events(streamed)[-1]
        assert name == "error" and last == {"type": "error", "error": {"type": kind, "message": failure.args[0]}}


# --- what is asked -------------------------------------------------------------------------------------------------


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_blocks_are_a_conversation() -> None:
    body = CountBody.model_validate({
        "system": [text("Be brief."), {**text("Be kind."), "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "user", "content": [text("And time?")]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                text("I look."),
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "吉隆坡"}},
                {"type": "tool_use", "id": "t2", "name": "time", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "hot"},
                {"type": "tool_result", "tool_use_id": "t2", "content": [text("late")], "is_error": True},
                text("Well?"),
            ]},
        ],
    })  # fmt: skip

    def call(id: str, name: str, arguments: str) -> dict[str, Any]:
        return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}

    calls = [call("t1", "weather", '{"city": "吉隆坡"}'), call("t2", "time", "{}")]
    assert messages_of(body) == [
        {"role": "system", "content": [text("Be brief."), text("Be kind.")]},
        {"role": "user", "content": [text("Weather?"), text("And time?")]},
        {"role": "assistant", "content": [text("I look.")], "tool_calls": calls},
        {"role": "tool", "tool_call_id": "t1", "content": "hot"},
        {"role": "tool", "tool_call_id": "t2", "content": [text("late")]},
        {"role": "user", "content": [text("Well?")]},
    ]
    assert body.ignored(strict=False) == ["messages.2.content.0", "messages.3.content.1.is_error"]


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
RESULT = {"type": "tool_result", "tool_use_id": "x", "content": "y"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "16"}, "max_tokens"),
    ({"max_tokens": 9999}, "at most"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages.0.content.0"),
    ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages.0.content.0"),
    ({"messages": [*HELLO, {"role": "assistant", "content": "Once"}]}, "not continued"),
    ({"messages": [{"role": "assistant", "content": [RESULT]}, *HELLO]}, "tool's result"),
    ({"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]}, "thinking"),
    ({"messages": [{"role": "user", "content": []}]}, "messages"),
    ({"system": 5}, "system"),
    ({"system": [IMAGE]}, "system.0.type"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_k": -1}, "top_k"),
    ({"stop_sequences": "END"}, "stop_sequences"),
    ({"stop_sequences": [""]}, "stop_sequences.0"),
    ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
    ({"stream": 1}, "stream"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
    ({"tools": [{"name": "no spaces", "input_schema": {}}]}, "tools.0.name"),
    ({"tools": [{"name": "weather"}]}, "tools.0.input_schema"),
    ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"thinking": {"type": "loud"}}, "thinking.type"),
]


@pytest.mark.parametrize(
    ("fields", "said"), REFUSED, ids=[f"{said}-{place}" for place, (_, said) in enumerate(REFUSED)]
)
def test_refusals(client: TestClient, fields: dict[str, Any], said: str) -> None:
    response = client.post(PATH, json={**ASK, **fields})
    assert response.status_code == 400, response.text
    check_shape(response.json(), "invalid_request_error")
    assert said in response.json()["error"]["message"]


def check_shape(body: dict[str, Any], kind: str) -> None:
    assert body.keys() == {"type", "error"} and body["type"] == "error"
    assert body["error"].keys() == {"type", "message"} and body["error"]["type"] == kind


def test_every_refusal_has_anthropic_s_shape(client: TestClient) -> None:
    missing = client.post(PATH, json={name: value for name, value in ASK.items() if name != "max_tokens"})
    assert missing.status_code == 400
    check_shape(missing.json(), "invalid_request_error")
    unknown = client.post(PATH, json={**ASK, "model": "claude"})
    assert unknown.status_code == 404
    check_shape(unknown.json(), "not_found_error")
    json_type = {"Content-Type": "application/json"}
    bodies = (b"{", b"[]", b"5", b"\xff")
    for response in (*(client.post(PATH, content=body, headers=json_type) for body in bodies), client.get(PATH)):
        assert response.status_code in (400, 405)
        check_shape(response.json(), "invalid_request_error")
    nowhere = client.post(f"{PATH}/batches", json={})
    assert nowhere.status_code == 404
    check_shape(nowhere.json(), "not_found_error")
    for error, kind in (
        (AccessError("no key"), "authentication_error"),
        (AccessError("not yours", known=True), "permission_error"),
        (NotFoundError("no model"), "not_found_error"),
        (BadRequest("too large", status=413), "request_too_large"),
        (OverloadError("later"), "rate_limit_error"),
        (OverloadError("down", down=True), "overloaded_error"),
        (PaddockError("broken"), "api_error"),
    ):
        check_shape(body_of(error, PATH), kind)
        assert "param" in body_of(error, "/v1/chat/completions")["error"]


def test_what_has_no_effect_is_told(client: TestClient) -> None:
    fields = {
        "colour": "red",
        "metadata": {"user_id": "harmless"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low"},
        "messages": [{"role": "user", "content": [{**text("Hi"), "mood": 1}], "name": "x"}],
    }
    response = client.post(PATH, json={**ASK, **fields})
    named = "colour, messages.0.name, messages.0.content.0.mood, thinking.budget_tokens, thinking, output_config.effort"
    assert response.status_code == 200 and response.headers["X-Paddock-Ignored"] == named
    counted = client.post(f"{PATH}/count_tokens", json={"messages": HELLO, "colour": "red", "system": "Be brief."})
    assert counted.headers["X-Paddock-Ignored"] == "colour" and counted.json()["input_tokens"] > 0
    off = client.post(PATH, json={**ASK, "thinking": {"type": "disabled"}})
    assert "X-Paddock-Ignored" not in off.headers


def test_tokens_are_counted_of_what_would_not_fit(client: TestClient) -> None:
    messages = [{"role": "user", "content": "a b c d " * 200}]
    assert client.post(f"{PATH}/count_tokens", json={"messages": messages}).json()["input_tokens"] > 512
    response = client.post(PATH, json={**ASK, "messages": messages})
    assert response.status_code == 400 and "512" in response.json()["error"]["message"]


# --- clients -------------------------------------------------------------------------------------------------------


def test_the_official_client(live: str) -> None:
    with anthropic.Anthropic(base_url=live, api_key="none", max_retries=0) as official:
        ask: Any = {"model": "stories260K", "max_tokens": 16, "messages": HELLO, "extra_body": {"temperature": 0}}
        answer = official.messages.create(**ask)
        block = answer.content[0]
        assert block.type == "text" and block.text and answer.stop_reason == "max_tokens"
        with official.messages.stream(**ask) as events:
            assert "".join(events.text_stream) == block.text
            final = events.get_final_message()
        assert final.content[0].to_dict() == block.to_dict() and final.usage.output_tokens == 16
        assert official.messages.count_tokens(model="stories260K", messages=ask["messages"]).input_tokens > 0
        stopped = official.messages.create(**{**ask, "stop_sequences": [block.text[3:6]]})
        assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == block.text[3:6]
        with pytest.raises(anthropic.NotFoundError) as unknown:
            official.messages.create(**{**ask, "model": "claude"})
        assert unknown.value.type == "not_found_error"
        with pytest.raises(anthropic.BadRequestError):
            official.messages.create(**{**ask, "max_tokens": 9999})


def test_keys_are_taken_from_x_api_key() -> None:
    server = Server(Settings(template="alpaca", api_keys=(KEY,)))
    server.open()
    try:
        guarded = TestClient(make_app(server), base_url="http://127.0.0.1", raise_server_exceptions=False)
        for headers in ({}, {"x-api-key": "another-key"}):
            refused = guarded.post(PATH, json=ASK, headers=headers)
            assert refused.status_code == 401
            check_shape(refused.json(), "authentication_error")
        assert guarded.post(PATH, json=ASK, headers={"x-api-key": KEY}).status_code == 200
        assert guarded.post(PATH, json=ASK, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    finally:
        server.close()


def test_a_client_that_leaves_frees_its_request(live: str, server: Server) -> None:
    check_leaving_frees(server, live + PATH, {**ASK, "max_tokens": 380, "stream": True})
