"""Tools in chat completions: forced by grammar in every format, found in free text, streamed as they are whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import openai
import pytest
from fastapi.testclient import TestClient
from running import Running
from scripted import NAME, Script
from streams import events
from tools_template import SOURCE, THINKING, server_with_tools

from paddock.engine.loading import load
from paddock.serve.app import make_app
from paddock.serve.refusals import BadRequest
from paddock.serve.server import Server
from paddock.serve.tools import Manner, prepare
from paddock.tokenizer.template import Template
from paddock.tokenizer.toolcalls import FORMATS, PLAIN, format_of

PATH = "/v1/chat/completions"
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 6}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, Any] = {"heat": WEATHER, "now": {"type": "object", "properties": {}, "additionalProperties": False}}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMAS[name]}} for name in SCHEMAS]
ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hi"}],
    "tools": TOOLS,
    "max_tokens": 100,
    "temperature": 1,
}
HEAT: dict[str, Any] = {"type": "function", "function": {"name": "heat"}}
# The least of a template in each format: the models' own tell more, and these show their tags.
LEAST = "{% for m in messages %}{{ m.role }}: {{ m.content or '' }}\n{% for c in m.tool_calls or [] %}{{ c | tojson }}"
LEAST += "{% endfor %}{% endfor %}{% if tools %}{% endif %}"
SHOWN = {"mistral": "[TOOL_CALLS][ARGS]", "mistral-list": "[TOOL_CALLS]", "llama": "<|start_header_id|>", "json": "-"}
SHOWN |= {"hermes": "<tool_call>", "glm": "<|observation|>"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Script]]:
    with server_with_tools(tmp_path_factory.mktemp("tools")) as both:
        for name, tags in SHOWN.items():
            model = load(None)
            model.template = Template(tags + LEAST, name, bundled=True)
            both[0].serve(name, model)
        yield both


@pytest.fixture(scope="module")
def asking(made: tuple[Server, Script]) -> TestClient:
    return TestClient(make_app(made[0]), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def script(made: tuple[Server, Script]) -> Script:
    return made[1]


@pytest.fixture(scope="module")
def official(made: tuple[Server, Script]) -> Iterator[openai.OpenAI]:
    with Running(made[0]) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        yield client


def whole(client: TestClient, **changes: Any) -> dict[str, Any]:
    response = client.post(PATH, json={**ASK, **changes})
    assert response.status_code == 200, response.text
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


def streamed(client: TestClient, **changes: Any) -> dict[str, Any]:
    """What a client has in the end; ids, names and indices checked on the way."""
    response = client.post(PATH, json={**ASK, **changes, "stream": True})
    calls: list[dict[str, Any]] = []
    told: dict[str, Any] = {"content": "", "reasoning_content": "", "pieces": 0}
    for chunk in events(response.text):
        (choice,) = chunk["choices"]
        for piece in choice["delta"].get("tool_calls", []):
            told["pieces"] += 1
            if piece["index"] == len(calls):
                assert piece["id"].startswith("call_") and piece["function"]["name"] and piece["type"] == "function"
                calls.append({"id": piece["id"], **piece["function"]})
            else:
                assert piece["index"] == len(calls) - 1 and piece.keys() == {"index", "function"}
                calls[-1]["arguments"] += piece["function"]["arguments"]
        for name in ("content", "reasoning_content"):
            told[name] += choice["delta"].get(name) or ""
        told["finish_reason"] = choice["finish_reason"]
    return {**told, "calls": calls}


def functions(choice: dict[str, Any]) -> list[tuple[str, str]]:
    found = [call["function"] for call in choice["message"].get("tool_calls", [])]
    return [(function["name"], function["arguments"]) for function in found]


def check_calls(found: list[tuple[str, str]]) -> None:
    for name, arguments in found:
        jsonschema_rs.validate(SCHEMAS[name], json.loads(arguments))


# --- forced ------------------------------------------------------------------------------------------------------


def test_every_format_is_here() -> None:
    assert {form.name for form in (*FORMATS, PLAIN)} == set(SHOWN)
    for name, tags in SHOWN.items():
        assert format_of(Template(tags + LEAST, bundled=True)).name == name


@pytest.mark.parametrize("name", SHOWN)
def test_required_calls_are_made_in_every_format(asking: TestClient, name: str) -> None:
    """The model writes stories: names, spelling and arguments are the grammar's."""
    seen = set()
    for seed in range(6):
        body = {"model": name, "seed": seed, "tool_choice": "required", "parallel_tool_calls": False}
        choice = whole(asking, **body)
        assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None, choice
        found = functions(choice)
        assert len(found) == 1
        check_calls(found)
        seen.add(found[0][0])
        again = streamed(asking, **body)
        assert [(call["name"], call["arguments"]) for call in again["calls"]] == found
        assert again["finish_reason"] == "tool_calls" and again["content"] == ""
        named = whole(asking, model=name, seed=seed, tool_choice=HEAT)
        assert named["finish_reason"] == "stop"  # as OpenAI ends a call that the request has named
        ((function, arguments),) = functions(named)
        assert function == "heat"
        check_calls([(function, arguments)])
    assert seen


def test_several_calls_at_once(asking: TestClient) -> None:
    several = 0
    for seed in range(8):
        choice = whole(asking, seed=seed, tool_choice="required", tools=TOOLS[1:], temperature=3, max_tokens=200)
        check_calls(functions(choice))
        several += len(functions(choice)) > 1
        ids = [call["id"] for call in choice["message"]["tool_calls"]]
        assert len(set(ids)) == len(ids)
    assert several


def test_a_forced_call_is_streamed_in_pieces(asking: TestClient) -> None:
    assert streamed(asking, seed=1, tool_choice=HEAT)["pieces"] > 6


def test_a_cut_is_a_cut(asking: TestClient) -> None:
    for limit in range(1, 30, 2):
        body = {"seed": 3, "tool_choice": HEAT, "max_tokens": limit}
        choice, again = whole(asking, **body), streamed(asking, **body)
        assert choice["finish_reason"] == again["finish_reason"] == "length"
        assert functions(choice) == [(call["name"], call["arguments"]) for call in again["calls"]]
        assert (choice["message"]["content"] or "") == again["content"]


def test_each_choice_calls(asking: TestClient) -> None:
    response = asking.post(PATH, json={**ASK, "n": 3, "seed": 1, "tool_choice": HEAT}).json()
    found = [functions(choice) for choice in response["choices"]]
    assert all(len(calls) == 1 for calls in found)
    for calls in found:
        check_calls(calls)
    assert len({choice["message"]["tool_calls"][0]["id"] for choice in response["choices"]}) == 3


# --- free --------------------------------------------------------------------------------------------------------

CALL = '<tool_call>\n{"name": "heat", "arguments": {"city": "吉隆坡 🙂", "days": 2}}\n</tool_call>'
SAID = ("heat", '{"city": "吉隆坡 🙂", "days": 2}')


def test_calls_are_found_in_free_text(asking: TestClient, script: Script) -> None:
    for text, content, calls, reason in (
        (CALL, None, [SAID], "tool_calls"),
        (f"Let me see.\n{CALL}\n{CALL}", "Let me see.\n", [SAID, SAID], "tool_calls"),
        ("Hello", "Hello", [], "stop"),
        (CALL.replace("heat", "rm"), CALL.replace("heat", "rm"), [], "stop"),
        ("<tool_call>{oops", "<tool_call>{oops", [], "stop"),
    ):
        script.write(text)
        for body in ({"model": NAME, "temperature": 0}, {"model": NAME, "tool_choice": "auto", "temperature": 0}):
            choice, again = whole(asking, **body, max_tokens=200), streamed(asking, **body, max_tokens=200)
            assert (choice["message"]["content"], functions(choice), choice["finish_reason"]) == (
                content,
                calls,
                reason,
            )
            assert [(call["name"], call["arguments"]) for call in again["calls"]] == calls
            assert (again["content"], again["finish_reason"]) == (content or "", reason)


def test_one_call_where_only_one_is_wanted(asking: TestClient, script: Script) -> None:
    script.write(f"{CALL}\n{CALL}")
    choice = whole(asking, model=NAME, temperature=0, parallel_tool_calls=False, max_tokens=200)
    assert functions(choice) == [SAID] and choice["message"]["content"].strip() == CALL


def test_a_call_that_the_limit_cuts_is_text(asking: TestClient, script: Script) -> None:
    script.write(CALL)
    choice = whole(asking, model=NAME, temperature=0, max_tokens=50)
    assert choice["finish_reason"] == "length" and choice["message"]["content"] == CALL[:50] and not functions(choice)


def test_with_none_the_model_is_told_of_no_tools(asking: TestClient, script: Script) -> None:
    script.write(CALL)
    choice = whole(asking, model=NAME, temperature=0, tool_choice="none", max_tokens=200)
    assert choice["message"]["content"] == CALL and choice["finish_reason"] == "stop"
    sizes = [
        asking.post(PATH, json={**ASK, "tool_choice": choice, "max_tokens": 1}).json()["usage"]["prompt_tokens"]
        for choice in ("auto", "none")
    ]
    assert sizes[0] > sizes[1] + 50


def test_a_form_for_the_answer_beside_tools(asking: TestClient) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    kinds = set()
    for seed in range(16):
        choice = whole(asking, seed=seed, response_format=form, temperature=5, logit_bias={"63": 6, "3": -100})
        if functions(choice):
            check_calls(functions(choice))
            kinds.add("call")
        elif choice["finish_reason"] == "stop":
            jsonschema_rs.validate(schema, json.loads(choice["message"]["content"]))
            kinds.add("form")
    assert kinds == {"call", "form"}
    refused = asking.post(PATH, json={**ASK, "guided_regex": "a"})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "tools"


# --- thoughts ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Script]]:
    opening = THINKING.replace(
        "{{- 'assistant: ' }}", "{{- 'assistant: ' }}{%- if open_thought %}{{- '<think>\\n' }}{%- endif %}"
    )
    with server_with_tools(tmp_path_factory.mktemp("thoughts"), opening) as (server, script):
        app = make_app(server)
        yield TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False), script


def test_thoughts_are_told_apart(thinking: tuple[TestClient, Script]) -> None:
    client, script = thinking
    for opened, text in ((False, f"<think>\nHm 🙂.\n</think>\n\n{CALL}"), (True, f"Hm 🙂.\n</think>\n\n{CALL}")):
        script.write(text)
        body = {"model": NAME, "temperature": 0, "max_tokens": 200, "chat_template_kwargs": {"open_thought": opened}}
        choice, again = whole(client, **body), streamed(client, **body)
        assert choice["message"]["reasoning_content"].strip() == again["reasoning_content"].strip() == "Hm 🙂."
        assert functions(choice) == [SAID] == [(call["name"], call["arguments"]) for call in again["calls"]]
        assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None


def test_a_forced_call_may_be_thought_about_first(thinking: tuple[TestClient, Script]) -> None:
    """The grammar begins behind the thought, whoever opened it."""
    client, script = thinking
    script.write(f"Hm.</think>{CALL}")
    body = {"model": NAME, "temperature": 0, "tool_choice": "required", "max_tokens": 200}
    choice = whole(client, **body, chat_template_kwargs={"open_thought": True})
    assert choice["message"]["reasoning_content"] == "Hm." and choice["finish_reason"] == "tool_calls"
    script.write("x")  # it never ends its thought
    choice = whole(client, **body | {"max_tokens": 9}, chat_template_kwargs={"open_thought": True})
    assert choice["finish_reason"] == "length" and not functions(choice)
    for seed in range(6):
        body = {"seed": seed, "tool_choice": HEAT, "temperature": 1, "max_tokens": 100}
        choice = whole(client, **body)  # to think first is up to the model
        assert functions(choice) or choice["message"]["reasoning_content"]
        choice = whole(client, **body, chat_template_kwargs={"enable_thinking": False})
        assert choice["finish_reason"] == "stop" and len(functions(choice)) == 1


# --- there and back ----------------------------------------------------------------------------------------------


def test_the_official_client(official: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "stories260K", "messages": ASK["messages"], "tools": TOOLS, "max_tokens": 100}
    first = official.chat.completions.create(**asked, tool_choice=HEAT, seed=5)
    message = first.choices[0].message
    assert message.tool_calls and message.tool_calls[0].type == "function"
    check_calls([(message.tool_calls[0].function.name, message.tool_calls[0].function.arguments)])
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "31"}
    turns = [*ASK["messages"], message.model_dump(exclude_none=True), result]
    second = official.chat.completions.create(**{**asked, "messages": turns, "max_tokens": 2}, tool_choice="auto")
    assert first.usage and second.usage and second.usage.prompt_tokens > first.usage.prompt_tokens + 10
    with official.chat.completions.stream(**asked, tool_choice="required", parallel_tool_calls=False, seed=5) as stream:
        final = stream.get_final_completion().choices[0].message.tool_calls
    assert final and final[0].function.name in SCHEMAS
    check_calls([(final[0].function.name, final[0].function.arguments)])


def test_earlier_calls_reach_the_model_as_objects(asking: TestClient, made: tuple[Server, Script]) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": '{"a": "b"}'}}
    turns = [
        *ASK["messages"],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
    ]
    body = {**ASK, "messages": turns, "max_tokens": 1, "glass_box": True}
    text = asking.post(PATH, json=body).json()["paddock"]["prompt"]["text"]
    assert '<tool_call>{"name": "now", "arguments": {"a": "b"}}</tool_call>' in text and "tool: noon" in text


def test_callers_of_python_get_the_same_prompt(made: tuple[Server, Script]) -> None:
    model = made[0].registry.find(None).model
    prompts = []
    for arguments in ('{"a": "b"}', {"a": "b"}):
        call = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": arguments}}
        turns = [*ASK["messages"], {"role": "assistant", "content": "", "tool_calls": [call]}]
        prompts.append(model.chat_prompt(turns, TOOLS).ids)
    assert prompts[0] == prompts[1]


# --- refused -----------------------------------------------------------------------------------------------------


def tool(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "heap"}}}, "tool_choice", "heat"),
        ({"tool_choice": "required", "tools": [tool("a"), tool("a")]}, "tools", "two tools"),
        ({"tools": [tool("a", {"x-guidance": {}})]}, "tools", "x-guidance"),
        ({"tools": [tool("a", {"description": "x" * 20_000})]}, "tools", "characters"),
        ({"tool_choice": "required", "tools": [tool("a", {"type": "object", "not": {}})]}, "tools", "not"),
        (
            {
                "tool_choice": "required",
                "tools": [tool("a", {"type": "object", "properties": {"p": {"pattern": "("}}})],
            },
            "tools",
            "",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(asking: TestClient, changes: dict[str, Any], param: str, words: str) -> None:
    response = asking.post(PATH, json={**ASK, **changes})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param) and words in error["message"], error


def test_a_schema_nested_too_deeply(made: tuple[Server, Script]) -> None:
    with pytest.raises(BadRequest, match="deeply"):
        prepare(made[0].registry.find(None), [tool("a", nested(70))])


def test_a_template_that_knows_no_tools(client: TestClient) -> None:
    response = client.post(PATH, json=ASK)
    error = response.json()["error"]
    assert response.status_code == 400 and error["param"] == "tools" and "alpaca" in error["message"]
    assert "template" in error["message"].partition(";")[2]
    assert client.post(PATH, json={**ASK, "tool_choice": "none", "max_tokens": 2}).status_code == 200


def test_control_tokens_of_the_spelling_are_told(made: tuple[Server, Script]) -> None:
    """Mistral's tags are control tokens, which are otherwise not shown."""
    served = made[0].registry.find("mistral-list")
    tokenizer = served.model.tokenizer
    form = next(form for form in FORMATS if form.name == "mistral-list")
    assert form.shown(tokenizer) == () and prepare(served, TOOLS).shown == ()
    assert Manner().bound(tokenizer, (1,))[0] is None
    request = served.model.plan([1, 2], 3, shown=[1])
    decoder = served.model.decoder(request)
    assert decoder is not None and (decoder.push(1), decoder.push(2)) == ("<s>", "")


def test_a_template_of_the_test_shows_what_the_models_do() -> None:
    assert format_of(Template(SOURCE, bundled=True)).name == "hermes"


def test_sources_are_read_from_files(tmp_path: Path) -> None:
    path = tmp_path / "glm.jinja"
    path.write_text("<|observation|>" + LEAST)
    assert format_of(Template(path.read_text())).name == "glm"
