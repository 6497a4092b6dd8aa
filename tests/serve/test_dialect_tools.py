"""Tools, thoughts and forms of answers in the dialects besides OpenAI's chat: there and back, streamed as whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import anthropic
import ollama
import openai
import pytest
import test_messages
import test_ollama
import test_responses
from fastapi.testclient import TestClient
from running import Running
from scripted import NAME, Script
from tools_template import THINKING, server_with_tools

from paddock.serve.app import make_app
from paddock.serve.schemas.responses import LOGPROBS
from paddock.serve.server import Server

UNIT = {
    "type": "object",
    "properties": {"unit": {"enum": ["C", "F"]}},
    "required": ["unit"],
    "additionalProperties": False,
}
TOOL = {"name": "heat", "description": "How hot it is"}
OTHER = {"name": "wait"}
HELLO = [{"role": "user", "content": "Heat?"}]
CALL = '<tool_call>\n{"name": "heat", "arguments": {"unit": "C"}}\n</tool_call>'
MODEL = "stories260K"

RESPONSES: dict[str, Any] = {
    "model": MODEL,
    "input": "Heat?",
    "max_output_tokens": 120,
    "tools": [{"type": "function", **TOOL, "parameters": UNIT}, {"type": "function", **OTHER}],
}
MESSAGES: dict[str, Any] = {
    "model": MODEL,
    "messages": HELLO,
    "max_tokens": 120,
    "tools": [{**TOOL, "input_schema": UNIT}, {**OTHER, "input_schema": {"type": "object"}}],
}
CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": HELLO,
    "options": {"num_predict": 120},
    "tools": [{"type": "function", "function": {**TOOL, "parameters": UNIT}}],
}


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Script]]:
    """A server whose template knows of thoughts, and what its model writes."""
    with server_with_tools(tmp_path_factory.mktemp("thoughts"), THINKING) as (server, script):
        app = make_app(server)
        yield TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False), script


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Script]]:
    with server_with_tools(tmp_path_factory.mktemp("tools")) as made:
        yield made


@pytest.fixture(scope="module")
def tooled(both: tuple[Server, Script]) -> TestClient:
    return TestClient(make_app(both[0]), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def script(both: tuple[Server, Script]) -> Script:
    return both[1]


@pytest.fixture(scope="module")
def address(both: tuple[Server, Script]) -> Iterator[str]:
    with Running(both[0]) as running:
        yield running


def post(client: TestClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


# --- calls that the grammar forces ---------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "heat"}])
def test_responses_force_a_call_and_take_its_result(tooled: TestClient, choice: Any) -> None:
    for seed in range(4):
        body = {**RESPONSES, "tool_choice": choice, "parallel_tool_calls": False, "temperature": 1, "seed": seed}
        whole = post(tooled, "/v1/responses", body)
        events = test_responses.stream(tooled, body)
        kinds = ("type", "status", "name", "arguments")
        (item,), (streamed,) = whole["output"], events[-1]["response"]["output"]
        assert [item[kind] for kind in kinds] == [streamed[kind] for kind in kinds]
        assert whole["status"] == "completed" and item["type"] == "function_call"
        if item["name"] == "heat":
            assert json.loads(item["arguments"])["unit"] in ("C", "F")
        else:
            assert choice == "required" and item["name"] == "wait" and json.loads(item["arguments"]) == {}
    question = {"role": "user", "content": "Heat?"}
    result = {"type": "function_call_output", "call_id": item["call_id"], "output": "31"}
    followed = {**RESPONSES, "input": [question, item, result], "max_output_tokens": 4}
    assert post(tooled, "/v1/responses", followed)["usage"]["input_tokens"] > whole["usage"]["input_tokens"] + 4


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "heat"}])
def test_messages_force_a_call_and_take_its_result(tooled: TestClient, choice: Any) -> None:
    for seed in range(4):
        chosen = {**choice, "disable_parallel_tool_use": True}
        body = {**MESSAGES, "tool_choice": chosen, "temperature": 1, "seed": seed}
        whole = post(tooled, "/v1/messages", body)
        streamed = test_messages.stream(tooled, body)
        (block,), (other,) = whole["content"], streamed["content"]
        assert {**block, "id": ""} == {**other, "id": ""} and whole["stop_reason"] == streamed[
            "stop_reason"
        ] == "tool_use"
        assert block["type"] == "tool_use" and block["id"]
        assert block["input"]["unit"] in ("C", "F") if block["name"] == "heat" else choice["type"] == "any"
    result = {"type": "tool_result", "tool_use_id": block["id"], "content": "31"}
    turns = [*HELLO, {"role": "assistant", "content": [block]}, {"role": "user", "content": [result]}]
    followed = post(tooled, "/v1/messages/count_tokens", {"messages": turns, "tools": MESSAGES["tools"]})
    asked = post(tooled, "/v1/messages/count_tokens", {"messages": HELLO, "tools": MESSAGES["tools"]})
    assert followed["input_tokens"] > asked["input_tokens"] + 4
    answered = post(tooled, "/v1/messages", {**MESSAGES, "messages": turns, "max_tokens": 4})
    assert prompt_tokens(answered) == followed["input_tokens"]


def test_no_tools_are_told_of_where_none_may_be_called(tooled: TestClient) -> None:
    told = post(tooled, "/v1/responses", {**RESPONSES, "max_output_tokens": 1})["usage"]["input_tokens"]
    none = post(tooled, "/v1/responses", {**RESPONSES, "max_output_tokens": 1, "tool_choice": "none"})
    assert none["usage"]["input_tokens"] < told - 20 and none["tool_choice"] == "none"
    anthropic_none = post(tooled, "/v1/messages", {**MESSAGES, "max_tokens": 1, "tool_choice": {"type": "none"}})
    usage = anthropic_none["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == none["usage"]["input_tokens"]


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("/v1/responses", {**RESPONSES, "tools": [], "tool_choice": "required"}, "no tools"),
        ("/v1/responses", {**RESPONSES, "tool_choice": {"type": "function", "name": "cool"}}, "no such tool"),
        ("/v1/responses", {**RESPONSES, "tools": RESPONSES["tools"][:1] * 2}, "two tools"),
        ("/v1/messages", {**MESSAGES, "tools": [], "tool_choice": {"type": "any"}}, "no tools"),
        ("/v1/messages", {**MESSAGES, "tool_choice": {"type": "tool", "name": "cool"}}, "no such tool"),
        ("/api/chat", {**CHAT, "tools": CHAT["tools"] * 2}, "two tools"),
        ("/api/chat", {**CHAT, "tools": [], "format": {"type": "nonsense"}}, "format"),
    ],
)
def test_tools_that_cannot_be_meant(tooled: TestClient, path: str, fields: dict[str, Any], said: str) -> None:
    response = tooled.post(path, json=fields)
    assert response.status_code == 400 and said in response.text


def test_a_template_without_tools_refuses_them(client: TestClient) -> None:
    for path, body in (("/v1/responses", RESPONSES), ("/v1/messages", MESSAGES), ("/api/chat", CHAT)):
        response = client.post(path, json=body)
        assert response.status_code == 400 and "tools" in response.text


# --- what a model writes by itself ---------------------------------------------------------------------------------

WRITTEN = f"<think>\nHm 中文.\n</think>\n\nI look.{CALL}\n{CALL} Done 🙂."


def test_thoughts_text_and_calls_in_their_order(thinker: tuple[TestClient, Script]) -> None:
    tooled, script = thinker
    script.write(WRITTEN)
    order = ["reasoning", "message", "function_call", "function_call", "message"]
    body = {**RESPONSES, "model": NAME, "max_output_tokens": 250}
    whole = post(tooled, "/v1/responses", body)
    assert [item["type"] for item in whole["output"]] == order
    assert [item["type"] for item in test_responses.stream(tooled, body)[-1]["response"]["output"]] == order
    assert whole["output"][0]["content"][0]["text"] == "Hm 中文." and whole["status"] == "completed"
    assert whole["output"][2]["arguments"] == '{"unit": "C"}'
    assert whole["usage"]["output_tokens_details"]["reasoning_tokens"] > 0

    message = {**MESSAGES, "model": NAME, "max_tokens": 250}
    content = post(tooled, "/v1/messages", message)["content"]
    streamed = test_messages.stream(tooled, message)
    assert [block["type"] for block in content] == ["thinking", "text", "tool_use", "tool_use", "text"]
    assert without_ids(content) == without_ids(streamed["content"]) and streamed["stop_reason"] == "tool_use"
    assert content[3]["input"] == {"unit": "C"} and content[4]["text"].endswith("Done 🙂.")

    chat = {**CHAT, "model": NAME, "options": {"num_predict": 250}}
    said = post(tooled, "/api/chat", {**chat, "stream": False})["message"]
    lines = test_ollama.lines(tooled.post("/api/chat", json=chat).text)
    other = test_ollama.together(lines)["message"]
    assert said["thinking"] == other["thinking"] == "Hm 中文." and said["content"] == other["content"]
    assert without_ids(said["tool_calls"]) == without_ids(other["tool_calls"]) and len(said["tool_calls"]) == 2


def without_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name != "id"} for item in items]


def test_at_every_length_a_stream_is_the_whole(thinker: tuple[TestClient, Script]) -> None:
    """The limit cuts thoughts, text and calls at every place."""
    tooled, script = thinker
    script.write(f"<think>Hm.</think>Yes.{CALL}")
    for limit in range(1, 90, 5):
        body = {**RESPONSES, "model": NAME, "max_output_tokens": limit, "include": [LOGPROBS]}
        whole, events = post(tooled, "/v1/responses", body), test_responses.stream(tooled, body)
        items = without_ids(events[-1]["response"]["output"])
        assert strip(items) == strip(without_ids(whole["output"])), limit
        for item in items:
            if item["type"] == "message":  # each letter of the script is a token, and tags were read before it
                said = item["content"][0]
                assert "".join(token["token"] for token in said["logprobs"]).endswith(said["text"]), limit
        message = {**MESSAGES, "model": NAME, "max_tokens": limit}
        content = post(tooled, "/v1/messages", message)["content"]
        assert without_ids(content) == without_ids(test_messages.stream(tooled, message)["content"]), limit


def strip(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name != "call_id"} for item in items]


def test_thinking_may_be_switched_off(thinker: tuple[TestClient, Script]) -> None:
    tooled, script = thinker
    script.write("Yes.")
    for path, body, off in (
        ("/v1/responses", {**RESPONSES, "model": NAME}, {"reasoning": {"effort": "none"}}),
        ("/v1/messages", {**MESSAGES, "model": NAME}, {"thinking": {"type": "disabled"}}),
        ("/api/chat", {**CHAT, "model": NAME, "stream": False}, {"think": False}),
    ):
        more, less = post(tooled, path, {**body, **off}), post(tooled, path, body)
        assert prompt_tokens(more) > prompt_tokens(less), path  # the template closes the thought itself
        assert "X-Paddock-Ignored" not in tooled.post(path, json={**body, **off}).headers


def prompt_tokens(answer: dict[str, Any]) -> int:
    usage = answer.get("usage", {})
    return int(answer.get("prompt_eval_count", 0)) + sum(
        usage.get(name, 0) for name in ("input_tokens", "cache_read_input_tokens")
    )


# --- the form of an answer -----------------------------------------------------------------------------------------

SCHEMA = {**UNIT, "properties": {"unit": {"enum": ["C", "F"]}, "hot": {"type": "boolean"}}, "required": ["unit", "hot"]}


def check_form(text: str) -> None:
    found = json.loads(text)
    assert found.keys() == {"unit", "hot"} and found["unit"] in ("C", "F") and isinstance(found["hot"], bool)


def test_an_answer_has_the_form_asked_for(tooled: TestClient) -> None:
    form = {"type": "json_schema", "name": "heat", "schema": SCHEMA, "strict": True}
    for seed in range(3):
        chosen = {"temperature": 1, "seed": seed}
        body = {"model": MODEL, "input": "Heat?", "text": {"format": form}, "max_output_tokens": 120, **chosen}
        whole = post(tooled, "/v1/responses", body)
        text = whole["output"][0]["content"][0]["text"]
        check_form(text)
        assert whole["text"]["format"]["schema"] == SCHEMA
        assert test_responses.stream(tooled, body)[-1]["response"]["output"][0]["content"][0]["text"] == text
        config = {"format": {"type": "json_schema", "schema": SCHEMA}}
        message = {"messages": HELLO, "max_tokens": 120, "output_config": config, **chosen}
        assert post(tooled, "/v1/messages", message)["content"] == [{"type": "text", "text": text}]
        options = {"num_predict": 120, **chosen}
        for path, asked in (("/api/chat", {"messages": HELLO}), ("/api/generate", {"prompt": "Heat?"})):
            answer = post(
                tooled, path, {"model": MODEL, **asked, "format": SCHEMA, "stream": False, "options": options}
            )
            assert (answer.get("response") or answer["message"]["content"]) == text
        raw = {"model": MODEL, "prompt": "Once", "raw": True, "format": SCHEMA, "stream": False, "options": options}
        check_form(post(tooled, "/api/generate", raw)["response"])


def test_any_json(tooled: TestClient) -> None:
    options = {"num_predict": 60, "temperature": 1, "seed": 5}
    body = {"model": MODEL, "messages": HELLO, "format": "json", "stream": False, "options": options}
    assert post(tooled, "/api/chat", body)["message"]["content"].lstrip().startswith("{")
    body = {"model": MODEL, "input": "Heat?", "text": {"format": {"type": "json_object"}}, "max_output_tokens": 60}
    assert post(tooled, "/v1/responses", body)["output"][0]["content"][0]["text"].lstrip().startswith("{")


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (
            "/v1/responses",
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "x"}}}},
            "text.format",
        ),
        (
            "/v1/messages",
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "x"}}}},
            "output_config",
        ),
        ("/api/chat", {"format": {"type": "x"}}, "format"),
    ],
)
def test_schemas_that_are_none(tooled: TestClient, path: str, fields: dict[str, Any], param: str) -> None:
    bodies: dict[str, Any] = {"/v1/responses": RESPONSES, "/v1/messages": MESSAGES, "/api/chat": CHAT}
    response = tooled.post(path, json={**bodies[path], "tools": [], **fields})
    assert response.status_code == 400, response.text
    assert param in response.text and not re.search(r"Traceback|\.py", response.text)


# --- the official clients ------------------------------------------------------------------------------------------


def test_the_openai_client_calls_a_tool(address: str) -> None:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as official:
        asked: Any = {
            **RESPONSES,
            "tools": RESPONSES["tools"][:1],
            "tool_choice": "required",
            "parallel_tool_calls": False,
        }
        whole = official.responses.create(**asked, temperature=0)
        call = whole.output[0]
        assert call.type == "function_call" and json.loads(call.arguments)["unit"] in ("C", "F")
        with official.responses.stream(**asked, temperature=0) as events:
            kinds = {event.type for event in events}
            final = events.get_final_response().output[0]
        assert "response.function_call_arguments.delta" in kinds and "response.completed" in kinds
        assert final.type == "function_call" and final.arguments == call.arguments
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "31"}
        turns: Any = [{"role": "user", "content": "Heat?"}, call, result]
        followed = official.responses.create(**{**asked, "input": turns, "tool_choice": "auto", "max_output_tokens": 4})
        assert followed.output_text


def test_the_anthropic_client_calls_a_tool(address: str) -> None:
    with anthropic.Anthropic(base_url=address, api_key="none", max_retries=0) as official:
        choice = {"type": "tool", "name": "heat"}
        asked: Any = {**MESSAGES, "tool_choice": choice, "extra_body": {"temperature": 0}}
        call = official.messages.create(**asked).content[0]
        assert call.type == "tool_use" and call.input["unit"] in ("C", "F")
        with official.messages.stream(**asked) as events:
            final = events.get_final_message()
        assert final.stop_reason == "tool_use" and final.content[0].type == "tool_use"
        assert final.content[0].input == call.input
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "31"}
        turns: Any = [*HELLO, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
        followed = official.messages.create(**{**MESSAGES, "messages": turns, "max_tokens": 4})
        assert followed.content[0].type == "text"


def test_the_ollama_client_calls_a_tool(address: str, script: Script) -> None:
    script.write(CALL)
    with ollama.Client(host=address) as official:
        answer = official.chat(model=NAME, messages=HELLO, tools=CHAT["tools"], options={"num_predict": 120})
        assert answer.message.tool_calls is not None
        assert answer.message.tool_calls[0].function.arguments == {"unit": "C"}
        turns = [*HELLO, answer.message, {"role": "tool", "content": "31", "tool_name": "heat"}]
        script.write("Hot.")
        pieces = list(official.chat(model=NAME, messages=turns, tools=CHAT["tools"], stream=True))
        assert "".join(piece.message.content or "" for piece in pieces) == "Hot."
