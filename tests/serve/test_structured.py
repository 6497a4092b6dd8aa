"""Forms of answers over HTTP: response_format and vLLM's rules, whole and streamed, valid or cut, refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import jsonschema_rs
import openai
import pydantic
import pytest
from fastapi.testclient import TestClient
from streams import events, together

from paddock.engine.grammar import MAX_SOURCE, Grammar
from paddock.serve.refusals import BadRequest
from paddock.serve.structured import field_of, grammar_of

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASK: dict[str, Any] = {"max_tokens": 90, "temperature": 1}
MESSAGES = [{"role": "user", "content": "Tell me"}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"mood": {"enum": ["glad", "sad"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["mood", "count"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
LARK = 'start: "say " ("yes" | "no"){1,2}'
RULES: list[tuple[dict[str, Any], str]] = [
    ({"response_format": FORM}, r'\{"mood": ?"(glad|sad)", ?"count": ?[0-9]{1,2}\}'),
    ({"guided_json": SCHEMA}, r'\{"mood".*\}'),
    ({"guided_json": json.dumps(SCHEMA)}, r'\{"mood".*\}'),
    ({"guided_regex": "[ab]{2}c"}, "[ab]{2}c"),
    ({"guided_choice": ["left", "right"]}, "left|right"),
    ({"guided_grammar": LARK}, "say (yes|no){1,2}"),
    ({"structured_outputs": {"json": SCHEMA}}, r'\{"mood".*\}'),
    ({"structured_outputs": {"regex": "[ab]{2}c"}}, "[ab]{2}c"),
    ({"structured_outputs": {"choice": ["left", "right"]}}, "left|right"),
    ({"structured_outputs": {"grammar": LARK}}, "say (yes|no){1,2}"),
]


def asked(client: TestClient, path: str, rule: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The only choice, whole; its stream says the same."""
    given = {"messages": MESSAGES} if path == CHAT else {"prompt": "Once"}
    body = {**ASK, **given, **rule, **changes}
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    text = choice["message"]["content"] if path == CHAT else choice["text"]
    told = together(events(client.post(path, json={**body, "stream": True}).text))["choices"][0]
    assert (told["text"], told["finish_reason"]) == (text, choice["finish_reason"])
    return {"text": text, "finish_reason": choice["finish_reason"]}


@pytest.mark.parametrize(("rule", "pattern"), RULES)
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_every_rule_holds_in_chats_and_completions(
    client: TestClient, path: str, rule: dict[str, Any], pattern: str
) -> None:
    if path == TEXT and "response_format" in rule:  # which completions do not have
        rule = {"guided_json": SCHEMA}
    for seed in range(3):
        found = asked(client, path, rule, seed=seed)
        assert found["finish_reason"] == "stop" and re.fullmatch(pattern, found["text"]), found
        if found["text"].startswith("{"):
            jsonschema_rs.validate(SCHEMA, json.loads(found["text"]))


def test_it_parses_while_it_says_stop_and_is_a_cut_otherwise(client: TestClient) -> None:
    reasons = set()
    for limit in range(1, 40, 3):
        found = asked(client, CHAT, {"response_format": FORM}, seed=1, max_tokens=limit)
        reasons.add(found["finish_reason"])
        if found["finish_reason"] == "stop":
            jsonschema_rs.validate(SCHEMA, json.loads(found["text"]))
        else:
            with pytest.raises(ValueError, match=r"char|Expecting|Unterminated"):
                json.loads(found["text"])
    assert reasons == {"stop", "length"}


def test_any_object_and_plain_text(client: TestClient) -> None:
    likely = {str(3 + ord(letter)): 12 for letter in '"}'} | {"436": 12}
    found = [
        asked(client, CHAT, {"response_format": {"type": "json_object"}}, seed=seed, logit_bias=likely, temperature=1.5)
        for seed in range(8)
    ]
    whole = [json.loads(one["text"]) for one in found if one["finish_reason"] == "stop"]
    assert whole and all(isinstance(one, dict) for one in whole)
    free, text = asked(client, CHAT, {}, seed=1), asked(client, CHAT, {"response_format": {"type": "text"}}, seed=1)
    assert free == text


def test_several_choices_and_greedy_ones(client: TestClient) -> None:
    body = {**ASK, "messages": MESSAGES, "response_format": FORM, "n": 4, "seed": 1}
    choices = client.post(CHAT, json=body).json()["choices"]
    for choice in choices:
        jsonschema_rs.validate(SCHEMA, json.loads(choice["message"]["content"]))
    assert len({choice["message"]["content"] for choice in choices}) > 1
    assert asked(client, CHAT, {"response_format": FORM}, temperature=0)["finish_reason"] == "stop"


def test_the_glass_box_shows_the_grammar_s_stage(client: TestClient) -> None:
    body = {**ASK, "messages": MESSAGES, "response_format": FORM, "glass_box": True}
    tokens = client.post(CHAT, json=body).json()["paddock"]["tokens"]
    assert all(any(stage["name"] == "grammar" for stage in token["stages"]) for token in tokens)


class Answer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    mood: Literal["glad", "sad"]
    inner: list[Inner] = pydantic.Field(max_length=1)


class Inner(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    yes: bool | None


Answer.model_rebuild()


@pytest.fixture
def official(live: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live}/v1", api_key="none") as made:
        yield made


def test_the_official_client_parses_into_its_own_types(official: openai.OpenAI) -> None:
    for seed in range(3):
        found = official.chat.completions.parse(
            model="stories260K",
            messages=MESSAGES,
            response_format=Answer,
            max_tokens=90,
            seed=seed,  # type: ignore[arg-type]
        )
        assert isinstance(found.choices[0].message.parsed, Answer)
    with official.chat.completions.stream(
        model="stories260K",
        messages=MESSAGES,
        response_format=Answer,
        max_tokens=90,
        seed=1,  # type: ignore[arg-type]
    ) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Answer)


# --- refused -----------------------------------------------------------------------------------------------------


def form(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


BAD: list[tuple[dict[str, Any], str, str]] = [
    (form({"type": "array", "uniqueItems": True}), "response_format", "uniqueItems"),
    (form({"type": "string", "format": "regex"}), "response_format", "regex"),
    (form({"x-guidance": {"lenient": True}}), "response_format", "x-guidance"),
    (form({"enum": ["x" * MAX_SOURCE]}), "response_format", "characters"),
    (form({"$ref": "http://127.0.0.1:9/a"}), "response_format", "127.0.0.1"),
    (form({"$ref": "file:///etc/passwd"}), "response_format", ""),
    (form({"type": "nothing"}), "response_format", "nothing"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format", "schema"),
    ({"guided_regex": "("}, "guided_regex", "unclosed"),
    ({"guided_regex": "(?=a)"}, "guided_regex", "look"),
    ({"guided_regex": "a" * (MAX_SOURCE + 1)}, "guided_regex", "characters"),
    ({"guided_json": "{"}, "guided_json", "JSON"),
    ({"guided_choice": []}, "guided_choice", "choice"),
    ({"guided_grammar": "start: b"}, "guided_grammar", "b"),
    ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice", "guided_regex"),
    ({"structured_outputs": {"regex": "a", "json": {}}}, "structured_outputs", "both"),
    ({"structured_outputs": {"regexp": "a"}}, "structured_outputs", "regex"),
    ({"structured_outputs": {"choice": "a"}}, "structured_outputs", "list"),
    ({"structured_outputs": {"json_object": "yes"}}, "structured_outputs", "json_object"),
    ({**form({}), "guided_regex": "a"}, "guided_regex", "response_format"),
]


@pytest.mark.parametrize(("rule", "param", "words"), BAD)
def test_what_cannot_be_meant_is_refused_by_its_field(
    client: TestClient, rule: dict[str, Any], param: str, words: str
) -> None:
    for stream in (False, True):
        response = client.post(CHAT, json={**ASK, "messages": MESSAGES, **rule, "stream": stream})
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, param) and words in error["message"], error
        assert len(error["message"]) < 1000 and "paddock/" not in error["message"]


def test_a_hanging_schema_is_refused_and_others_go_on(client: TestClient) -> None:
    branches = [{"anyOf": [{"type": "string", "minLength": i}, {"type": "string", "maxLength": i}]} for i in range(20)]
    response = client.post(CHAT, json={**ASK, "messages": MESSAGES, **form({"allOf": branches})})
    assert response.status_code == 400 and response.json()["error"]["param"] == "response_format"
    assert asked(client, CHAT, {"guided_choice": ["fine"]})["text"] == "fine"


def test_fields_become_one_grammar() -> None:
    assert grammar_of({}) is None and grammar_of({"response_format": {"type": "text"}}) is None
    assert grammar_of({"guided_json_object": False, "structured_outputs": {}}) is None
    assert grammar_of({"guided_json_object": True}) == Grammar("json_object")
    flat = {"type": "json_schema", "name": "x", "schema": SCHEMA}  # as responses spell it
    assert grammar_of({"response_format": flat}) == grammar_of({"response_format": FORM}) == Grammar.schema(SCHEMA)
    assert field_of({"guided_regex": "a"}) == "guided_regex" and field_of({}) == "response_format"
    for fields in ({"response_format": {"type": "yaml"}}, {"response_format": "json"}, {"structured_outputs": "json"}):
        with pytest.raises(BadRequest):
            grammar_of(fields)
