"""/v1/responses: its events one by one, the whole as its stream, what it refuses, and OpenAI's own client."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import openai
import pytest
from dialect_help import (
    STOPS,
    Scripted,
    check_leaving_frees,
    named_events,
    random_settings,
    random_turns,
    spoken,
)
from fastapi.testclient import TestClient

from paddock.errors import OverloadError, PaddockError
from paddock.serve.app import make_app
from paddock.serve.dialects import ending_with, in_blocks
from paddock.serve.routes.responses import Telling, messages_of
from paddock.serve.schemas.responses import LOGPROBS, ResponsesBody
from paddock.serve.server import Server
from paddock.serve.settings import Settings

PATH = "/v1/responses"
ASK: dict[str, Any] = {"input": "Tell me a story", "max_output_tokens": 16, "temperature": 0}
CHANGING = ("id", "created_at", "completed_at")


def stream(client: TestClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events, checked to be well formed."""
    response = client.post(PATH, json={**body, "stream": True})
    assert response.status_code == 200, response.text
    return check_events(response.text)


def check_events(text: str) -> list[dict[str, Any]]:
    """Names, numbers and the order in which parts open, grow and close."""
    found = named_events(text)
    assert all(name == event["type"] for name, event in found)
    events = [event for _, event in found]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[0]["response"]["output"] == [] and events[0]["response"]["status"] == "in_progress"
    last = events[-1]["response"]
    assert {event["response"]["id"] for event in events if "response" in event} == {last["id"]}
    place = 2
    for index, item in enumerate(last["output"]):
        place = check_item(events, place, index, item)
    assert place == len(events) - 1 and events[-1]["type"] == f"response.{last['status']}"
    return events


def check_item(events: list[dict[str, Any]], place: int, index: int, item: dict[str, Any]) -> int:
    """The events of one item from `place` on; where those of the next begin."""
    added = events[place]
    assert added["type"] == "response.output_item.added" and added["output_index"] == index
    assert added["item"]["status"] == "in_progress" and added["item"]["id"] == item["id"]
    call = item["type"] == "function_call"
    assert (added["item"]["arguments"] == "") if call else (added["item"]["content"] == [])
    kind = {"function_call": "function_call_arguments", "message": "output_text", "reasoning": "reasoning_text"}
    name = f"response.{kind[item['type']]}"
    place += 1
    if not call:
        assert events[place]["type"] == "response.content_part.added" and events[place]["part"]["text"] == ""
        place += 1
    text = ""
    while events[place]["type"] == f"{name}.delta":
        assert events[place]["item_id"] == item["id"]
        text += events[place]["delta"]
        place += 1
    done = events[place]
    assert done["type"] == f"{name}.done" and done["item_id"] == item["id"] and done["output_index"] == index
    assert text == (done["arguments"] if call else done["text"])
    assert text == (item["arguments"] if call else item["content"][0]["text"])
    if not call:
        place += 1
        assert events[place]["type"] == "response.content_part.done" and events[place]["part"] == item["content"][0]
    place += 1
    assert events[place]["type"] == "response.output_item.done" and events[place]["item"] == item
    return place + 1


def steady(response: dict[str, Any]) -> dict[str, Any]:
    """A response without what differs each time."""
    output = [{name: value for name, value in item.items() if name != "id"} for item in response["output"]]
    usage = {name: value for name, value in response["usage"].items() if not name.endswith("_details")}
    kept = {name: value for name, value in response.items() if name not in CHANGING}
    return {**kept, "output": output, "usage": usage}


def test_a_response_and_its_stream(client: TestClient) -> None:
    whole = client.post(PATH, json=ASK).json()
    events = stream(client, ASK)
    assert steady(events[-1]["response"]) == steady(whole)
    assert whole["status"] == "incomplete" and whole["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (
        whole["usage"]["output_tokens"] == 16 and whole["usage"]["total_tokens"] == whole["usage"]["input_tokens"] + 16
    )
    assert whole["store"] is False and whole["temperature"] == 0 and whole["output"][0]["status"] == "incomplete"


def test_it_is_what_chat_answers(client: TestClient) -> None:
    chat = {"messages": [{"role": "user", "content": ASK["input"]}], "max_tokens": 16, "temperature": 0}
    expected = client.post("/v1/chat/completions", json=chat).json()["choices"][0]["message"]["content"]
    assert client.post(PATH, json=ASK).json()["output"][0]["content"][0]["text"] == expected


def test_random_requests_streamed_and_whole(client: TestClient) -> None:
    chance = random.Random(41)
    reasons = set()
    for _ in range(50):
        body: dict[str, Any] = {"input": random_turns(chance), "max_output_tokens": chance.randint(1, 30)}
        body |= random_settings(chance)
        body |= {"stop": chance.choice(STOPS)} if chance.random() < 0.5 else {}
        body |= {"instructions": "Be brief."} if chance.random() < 0.3 else {}
        if chance.random() < 0.3:
            body |= {"include": [LOGPROBS], "top_logprobs": chance.choice([0, 2])}
        whole = client.post(PATH, json=body)
        assert whole.status_code == 200, whole.text
        events = stream(client, body)
        assert steady(events[-1]["response"]) == steady(whole.json()), body
        told = [item for event in events if event["type"].endswith("text.delta") for item in event["logprobs"]]
        assert told == whole.json()["output"][0]["content"][0]["logprobs"], body
        reasons.add(whole.json()["status"])
    assert reasons == {"completed", "incomplete"}


def test_log_probabilities_are_chat_s(client: TestClient) -> None:
    body = {**ASK, "include": [LOGPROBS], "top_logprobs": 2}
    found = client.post(PATH, json=body).json()["output"][0]["content"][0]["logprobs"]
    chat = {"messages": [{"role": "user", "content": ASK["input"]}], "max_tokens": 16, "temperature": 0}
    choice = client.post("/v1/chat/completions", json={**chat, "logprobs": True, "top_logprobs": 2}).json()["choices"][
        0
    ]
    assert found == choice["logprobs"]["content"] and len(found) == 16 and len(found[0]["top_logprobs"]) == 2
    assert client.post(PATH, json=ASK).json()["output"][0]["content"][0]["logprobs"] == []


# --- thoughts and calls, scripted ----------------------------------------------------------------------------------

CALLS = [("call_1", "weather", '{"city": "Kuala Lumpur"}'), ("call_2", "time", "{}")]


def told(scripted: Scripted, body: ResponsesBody | None = None) -> tuple[dict[str, Any], str]:
    """A scripted answer whole, and as the text of its stream."""
    body = body or ResponsesBody(input="x")

    async def run() -> tuple[dict[str, Any], str]:
        whole, streamed = Telling(body, scripted), Telling(body, scripted)  # type: ignore[arg-type]
        text = "".join([piece async for piece in ending_with(streamed.events(), streamed.failed)])
        if scripted.failure is None:
            whole.blocks = await in_blocks(scripted)  # type: ignore[arg-type]
        return (whole.body() if scripted.failure is None else {}), text

    return asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_thoughts_text_and_calls(seed: int) -> None:
    chance = random.Random(seed)
    calls = CALLS[: chance.randint(0, 2)]
    thought, text = chance.choice(["", "Let me see."]), chance.choice(["", "It is 中文 🙂."])
    whole, streamed = told(Scripted(spoken(chance, thought, text, calls), "tool_calls" if calls else "stop"))
    events = check_events(streamed)
    assert steady(events[-1]["response"]) == steady(whole)
    kinds = ["reasoning"] * bool(thought) + ["message"] * bool(text) + ["function_call"] * len(calls)
    assert [item["type"] for item in whole["output"]] == kinds or (
        not kinds and whole["output"][0]["type"] == "message"
    )
    found = [(i["call_id"], i["name"], i["arguments"]) for i in whole["output"] if i["type"] == "function_call"]
    assert found == calls and whole["status"] == "completed"
    assert whole["usage"]["input_tokens_details"]["cached_tokens"] == 3
    assert whole["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


def test_only_what_the_limit_cut_off_is_incomplete() -> None:
    whole, streamed = told(Scripted(spoken(random.Random(1), "", "Well.", CALLS[:1]), "length"))
    check_events(streamed)
    assert [item["status"] for item in whole["output"]] == ["completed", "incomplete"]


def test_a_failure_on_the_way_is_told() -> None:
    failures = (
        (OverloadError("the server is shutting down", down=True), "server_error"),
        (OverloadError("too much"), "rate_limit_exceeded"),
        (PaddockError("it broke"), "server_error"),
    )
    for failure, code in failures:
        _, streamed = told(Scripted(spoken(random.Random(1), "", "Well", ()), failure=failure))
        name, last = named_events(streamed)[-1]
        assert name == last["type"] == "response.failed"
        assert last["response"]["status"] == "failed" and last["response"]["error"]["code"] == code
        assert failure.args[0] in last["response"]["error"]["message"]
        assert last["response"]["output"][0]["status"] == "incomplete"


# --- what is asked -------------------------------------------------------------------------------------------------


def test_items_are_a_conversation() -> None:
    body = ResponsesBody.model_validate({
        "instructions": "Be brief.",
        "input": [
            {"role": "developer", "content": "Be kind."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "role": "assistant", "id": "m", "status": "completed",
             "content": [{"type": "output_text", "text": "I look.", "annotations": []},
                         {"type": "refusal", "refusal": "No."}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "time", "arguments": '{"zone": 8}'},
            {"type": "function_call_output", "call_id": "c1", "output": "hot"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "late"}]},
            {"type": "function_call", "call_id": "c3", "name": "weather", "arguments": "{}"},
        ],
    })  # fmt: skip

    def call(id: str, name: str, arguments: str) -> dict[str, Any]:
        return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}

    parts = [{"type": "text", "text": "I look."}, {"type": "text", "text": "No."}]
    assert messages_of(body) == [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {
            "role": "assistant",
            "content": parts,
            "tool_calls": [call("c1", "weather", "{}"), call("c2", "time", '{"zone": 8}')],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "hot"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "late"}]},
        {"role": "assistant", "content": None, "tool_calls": [call("c3", "weather", "{}")]},
    ]
    assert body.ignored(strict=False) == ["input.2"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"conversation": {"id": "conv_1"}}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"background": True}, "background"),
    ({"input": []}, "input"),
    ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
    ({"input": None}, "input"),
    ({"input": 5}, "input"),
    ({"input": [5]}, "input.0"),
    ({"input": [{"role": "user"}]}, "input.0.content"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role"),
    ({"input": [{"type": "web_search_call"}]}, "input.0"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
    ({"input": [{"type": {}, "role": "user", "content": "x"}]}, "input.0"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}]}, "input.0.content.0"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": "16"}, "max_output_tokens"),
    ({"max_output_tokens": 16.5}, "max_output_tokens"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"truncation": "middle"}, "truncation"),
    ({"stream": "yes"}, "stream"),
    ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ({"tools": [{"type": "function"}]}, "tools.0.name"),
    ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
    ({"text": {"format": {"type": "yaml"}}}, "text.format"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ({"metadata": {"a": "x" * 513}}, "metadata.a"),
    ({"seed": -1}, "seed"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
]


@pytest.mark.parametrize(
    ("fields", "param"), REFUSED, ids=[f"{param}-{place}" for place, (_, param) in enumerate(REFUSED)]
)
def test_refusals(client: TestClient, fields: dict[str, Any], param: str) -> None:
    response = client.post(PATH, json={**ASK, **fields})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert error["param"] is not None and error["param"].startswith(param)


def test_what_has_no_effect_is_told(client: TestClient) -> None:
    fields = {
        "store": True,
        "include": ["reasoning.encrypted_content", LOGPROBS],
        "colour": "red",
        "text": {"verbosity": "low"},
        "reasoning": {"effort": "low"},
        "user": "harmless",
        "input": [{"role": "user", "content": "Hi", "mood": "good"}, {"type": "reasoning", "summary": []}],
    }
    response = client.post(PATH, json={**ASK, **fields})
    named = "colour, input.0.mood, input.1, text.verbosity, store, include.0, reasoning.effort"
    assert response.status_code == 200 and response.headers["X-Paddock-Ignored"] == named
    assert "X-Paddock-Ignored" not in client.post(PATH, json={**ASK, "store": False, "user": "x"}).headers


def test_a_strict_server_refuses_it() -> None:
    server = Server(Settings(template="alpaca", strict=True))
    server.open()
    try:
        strict = TestClient(make_app(server), base_url="http://127.0.0.1")
        for fields, param in (({"colour": 1}, "colour"), ({"store": True}, "store"), ({"max_tokens": 3}, "max_tokens")):
            error = strict.post(PATH, json={**ASK, **fields}).json()["error"]
            assert error["param"] == param and error["code"] == "unsupported_parameter"
        assert "max_output_tokens" in error["message"]
        assert strict.post(PATH, json=ASK).status_code == 200
    finally:
        server.close()


def test_a_long_prompt_is_refused_or_shortened_as_asked(client: TestClient) -> None:
    turns = [{"role": role, "content": "a b c d " * 12} for role in ("user", "assistant") * 6]
    body = {**ASK, "input": [*turns, {"role": "user", "content": "And?"}]}
    for truncation in ({}, {"truncation": "disabled"}):
        response = client.post(PATH, json={**body, **truncation})
        assert response.status_code == 400 and response.json()["error"]["code"] == "context_length_exceeded"
    response = client.post(PATH, json={**body, "truncation": "auto"})
    assert response.status_code == 200 and "messages=" in response.headers["X-Paddock-Truncated"]
    assert response.json()["truncation"] == "auto"


def test_an_unknown_model(client: TestClient) -> None:
    response = client.post(PATH, json={**ASK, "model": "gpt-9"})
    assert response.status_code == 404 and response.json()["error"]["code"] == "model_not_found"


# --- clients -------------------------------------------------------------------------------------------------------


@pytest.fixture
def official(live: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live}/v1", api_key="none", max_retries=0)


def test_the_official_client(official: openai.OpenAI) -> None:
    with official:
        answer = official.responses.create(
            model="stories260K", input="Tell me a story", max_output_tokens=16, temperature=0
        )
        assert answer.status == "incomplete" and answer.output_text
        assert answer.usage is not None and answer.usage.output_tokens == 16
        pieces = []
        with official.responses.stream(
            model="stories260K", input="Tell me a story", max_output_tokens=16, temperature=0
        ) as events:
            for event in events:
                if event.type == "response.output_text.delta":
                    pieces.append(event.delta)
        assert "".join(pieces) == answer.output_text
        with pytest.raises(openai.BadRequestError) as refused:
            official.responses.create(model="stories260K", input="x", previous_response_id="resp_1")
        assert refused.value.param == "previous_response_id"
        with pytest.raises(openai.NotFoundError):
            official.responses.create(model="gpt-9", input="x")


def test_a_client_that_leaves_frees_its_request(live: str, server: Server) -> None:
    check_leaving_frees(server, live + PATH, {**ASK, "max_output_tokens": 380, "stream": True})
