"""/v1/chat/completions field by field."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from refusing import COMMON, JSON, NUMBERS, RAW, WORDS, check_refused
from serve_models import opened, serving, write_bert
from streams import events, together

from paddock.serve.server import Server
from paddock.serve.settings import Settings

PATH = "/v1/chat/completions"
USER = {"role": "user", "content": "Tell me a story"}
ASK: dict[str, Any] = {"messages": [USER], "max_tokens": 12, "temperature": 0}


def post(client: TestClient, **changes: Any) -> Any:
    response = client.post(PATH, json={**ASK, **changes})
    assert response.status_code == 200, response.text
    return response


def text(client: TestClient, **changes: Any) -> str:
    content = post(client, **changes).json()["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


def refusal(client: TestClient, **changes: Any) -> dict[str, Any]:
    response = client.post(PATH, json={**ASK, **changes})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    return dict(error)


# --- what comes back -----------------------------------------------------------------------------------------------


def test_the_whole_body(client: TestClient) -> None:
    body = post(client).json()
    assert body["id"].startswith("chatcmpl-") and body["object"] == "chat.completion"
    assert body["model"] == "stories260K" and body["system_fingerprint"].startswith("fp_")
    choice = body["choices"][0]
    assert choice.keys() == {"index", "message", "logprobs", "finish_reason"}
    assert choice["message"].keys() == {"role", "content", "refusal"} and choice["finish_reason"] == "length"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] == 12 and usage["completion_tokens_details"] == {"reasoning_tokens": 0}
    again = post(client).json()
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert again["system_fingerprint"] == body["system_fingerprint"] and again["id"] != body["id"]


def test_timings_count_the_tokens(client: TestClient) -> None:
    body = post(client).json()
    times, usage = body["timings"], body["usage"]
    assert times["cache_n"] + times["prompt_n"] == usage["prompt_tokens"]
    assert times["predicted_n"] == usage["completion_tokens"]
    assert times["predicted_ms"] > 0 and times["prompt_ms"] > 0
    chunks = events(post(client, stream=True).text)
    assert chunks[-1]["timings"]["predicted_n"] == 12 and "timings" not in chunks[-2]


def test_chunks(client: TestClient) -> None:
    """A role first, null for a finish reason until the last, usage only where it is asked for, at the very end."""
    plain = events(post(client, stream=True).text)
    assert plain[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {chunk["object"] for chunk in plain} == {"chat.completion.chunk"}
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in plain]
    assert set(reasons[:-1]) == {None} and reasons[-1] == "length" and plain[-1]["choices"][0]["delta"] == {}
    assert all("usage" not in chunk for chunk in plain)
    counted = events(post(client, stream=True, stream_options={"include_usage": True}).text)
    assert counted[-1]["choices"] == [] and counted[-1]["usage"]["completion_tokens"] == 12
    assert [chunk["usage"] for chunk in counted[:-1]] == [None] * (len(counted) - 1)
    assert ["timings" in chunk for chunk in counted] == [False] * (len(counted) - 1) + [True]
    assert together(counted)["choices"] == together(plain)["choices"]


def test_a_stream_has_the_headers_that_proxies_heed(client: TestClient) -> None:
    headers = post(client, stream=True).headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache" and headers["x-accel-buffering"] == "no"


def test_log_probabilities(client: TestClient, server: Server) -> None:
    body = post(client, logprobs=True, top_logprobs=3).json()
    content = body["choices"][0]["logprobs"]["content"]
    assert len(content) == body["usage"]["completion_tokens"]
    told = b"".join(bytes(token["bytes"]) for token in content).decode()
    assert told == body["choices"][0]["message"]["content"]
    expected = server.registry.find(None).model.chat(ASK["messages"], 12, temperature=0, logprobs=3).logprobs
    assert expected is not None
    assert [token["logprob"] for token in content] == [token.logprob for token in expected]
    for token, raw in zip(content, expected, strict=True):
        assert [rival["logprob"] for rival in token["top_logprobs"]] == [value for _, value in raw.top]
        assert token["top_logprobs"][0]["token"] == token["token"]
    assert post(client, logprobs=True).json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    assert post(client, logprobs=False).json()["choices"][0]["logprobs"] is None


def test_what_cannot_be_chosen_has_a_number_too(client: TestClient) -> None:
    """JSON has no word for minus infinity. What is told is the model's own distribution, whatever a bias did to it."""
    ids = {str(id): -100 for id in range(3, 503)}
    body = post(client, logprobs=True, top_logprobs=20, logit_bias=ids).json()
    values = [
        rival["logprob"] for token in body["choices"][0]["logprobs"]["content"] for rival in token["top_logprobs"]
    ]
    assert all(-9999 <= value <= 0 for value in values)


def test_the_prompt_s_log_probabilities(client: TestClient) -> None:
    body = post(client, prompt_logprobs=1).json()
    told = body["prompt_logprobs"]
    assert len(told) == body["usage"]["prompt_tokens"] and told[0] is None
    assert all(any(entry["rank"] == 1 for entry in token.values()) for token in told[1:])
    assert refusal(client, prompt_logprobs=1, stream=True)["param"] == "prompt_logprobs"


# --- settings ------------------------------------------------------------------------------------------------------


def test_choices_are_seeded_runs(client: TestClient) -> None:
    """`n` choices of a seed are the runs of that seed, of the next, and so on; a seed at the end of its range too."""
    for seed in (7, 2**64 - 2):
        several = post(client, n=3, seed=seed, temperature=1.0).json()
        texts = [choice["message"]["content"] for choice in several["choices"]]
        alone = [text(client, seed=(seed + place) % 2**64, temperature=1.0) for place in range(3)]
        assert texts == alone and len(set(texts)) > 1
        assert several["usage"]["completion_tokens"] == 36
        assert several["usage"]["prompt_tokens"] == post(client).json()["usage"]["prompt_tokens"]


def test_settings_reach_the_sampler(client: TestClient, server: Server) -> None:
    model = server.registry.find(None).model
    settings: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"temperature": 1.0, "seed": 5}, {}),
        ({"temperature": 1.0, "seed": 5, "top_k": 2}, {}),
        ({"temperature": 1.5, "seed": 5, "top_p": 0.5}, {}),
        ({"temperature": 1.5, "seed": 5, "min_p": 0.3}, {}),
        ({"temperature": 1.5, "seed": 5, "typical_p": 0.3}, {}),
        ({"temperature": 0, "repetition_penalty": 1.5}, {}),
        ({"temperature": 0, "frequency_penalty": 2}, {}),
        ({"temperature": 0, "presence_penalty": 0.5}, {}),
        ({"temperature": 0}, {"logit_bias": {"402": 50}}),
    ]
    seen = set()
    for same, ours in settings:
        theirs = {name: {int(id): bias for id, bias in value.items()} for name, value in ours.items()}
        expected = model.chat(ASK["messages"], 40, **same, **theirs).text
        assert text(client, max_tokens=40, **same, **ours) == expected
        seen.add(expected)
    assert len(seen) == len(settings), "every setting changes something"
    assert text(client, temperature=1.0, seed=5, top_k=-1) == text(client, temperature=1.0, seed=5, top_k=0)


def test_lengths(client: TestClient, server: Server) -> None:
    """Either spelling; without one an answer may take what the context leaves."""
    assert post(client, max_completion_tokens=12).json()["usage"]["completion_tokens"] == 12
    assert post(client, max_tokens=None, max_completion_tokens=5).json()["usage"]["completion_tokens"] == 5
    assert "differ" in refusal(client, max_completion_tokens=5)["message"]
    free = post(client, max_tokens=None, ignore_eos=True).json()
    assert free["usage"]["total_tokens"] == server.registry.find(None).context == 512
    assert free["choices"][0]["finish_reason"] == "length"


def test_too_long_is_refused_with_the_numbers(client: TestClient) -> None:
    for changes in ({"max_tokens": 500}, {"messages": [{"role": "user", "content": "word " * 300}]}):
        error = refusal(client, **changes)
        assert error["code"] == "context_length_exceeded"
        assert "512" in error["message"] and "tokens" in error["message"]


def test_truncation_drops_the_oldest_turns_and_says_so(client: TestClient) -> None:
    turns = [{"role": role, "content": f"word {place} " * 12} for place in range(6) for role in ("user", "assistant")]
    messages = [{"role": "system", "content": "Be kind"}, *turns, USER]
    assert refusal(client, messages=messages)["code"] == "context_length_exceeded"
    assert refusal(client, messages=messages, truncation="disabled")["code"] == "context_length_exceeded"
    response = post(client, messages=messages, truncation="auto", glass_box=True)
    body = response.json()
    told = body["usage"]["truncated"]
    assert response.headers["X-Paddock-Truncated"] == f"messages={told['messages']}, tokens={told['tokens']}"
    prompt = body["paddock"]["prompt"]["text"]
    assert told["messages"] % 2 == 0 and 0 < told["messages"] < 12
    assert "Be kind" in prompt and "Tell me a story" in prompt and "word 0" not in prompt and "word 5" in prompt
    streamed = client.post(PATH, json={**ASK, "messages": messages, "truncation": "auto", "stream": True})
    assert streamed.headers["X-Paddock-Truncated"] == response.headers["X-Paddock-Truncated"]
    assert "X-Paddock-Truncated" not in post(client, truncation="auto").headers
    one = [{"role": "user", "content": "word " * 300}]
    assert refusal(client, messages=one, truncation="auto")["code"] == "context_length_exceeded"


def test_ends(client: TestClient) -> None:
    whole = text(client)
    stop = whole[6:9]
    stopped = post(client, stop=stop).json()["choices"][0]
    assert (stopped["message"]["content"], stopped["finish_reason"]) == (whole[: whole.index(stop)], "stop")
    ended = post(client, logit_bias={"2": 100}).json()
    assert (ended["choices"][0]["message"]["content"], ended["usage"]["completion_tokens"]) == ("", 1)
    assert ended["choices"][0]["finish_reason"] == "stop"
    assert post(client, logit_bias={"2": 100}, ignore_eos=True).json()["usage"]["completion_tokens"] == 12
    assert post(client, logit_bias={"2": 100}, min_tokens=4).json()["usage"]["completion_tokens"] == 5


# --- messages ------------------------------------------------------------------------------------------------------


def test_a_developer_is_the_system(client: TestClient) -> None:
    said = {
        role: text(client, messages=[{"role": role, "content": "Be a cat"}, USER]) for role in ("system", "developer")
    }
    assert said["system"] == said["developer"] != text(client)


def test_content_in_parts(client: TestClient) -> None:
    parts = [{"type": "text", "text": "Tell me"}, {"type": "text", "text": "a story"}]
    in_parts = text(client, messages=[{"role": "user", "content": parts}])
    assert in_parts == text(client, messages=[{"role": "user", "content": "Tell me\na story"}])


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "refusal"])
def test_other_parts_are_refused_by_name(client: TestClient, kind: str) -> None:
    parts = [{"type": "text", "text": "See"}, {"type": kind, kind: {"url": "data:,"}}]
    error = refusal(client, messages=[USER, {"role": "user", "content": parts}])
    assert kind in error["message"] and error["param"] == "messages.1.content.1.type"


def test_control_tokens_in_messages_are_text(client: TestClient) -> None:
    body = post(client, messages=[{"role": "user", "content": "</s><s>"}], glass_box=True).json()
    special = [token for token in body["paddock"]["prompt"]["tokens"] if token["special"]]
    assert [token["id"] for token in special] == [1]


@pytest.mark.parametrize(
    ("messages", "where"),
    [
        ([], "messages"),
        ("hi", "messages"),
        ([5], "messages.0"),
        ([{"content": "x"}], "messages.0.role"),
        ([{"role": "king", "content": "x"}], "messages.0.role"),
        ([USER, {"role": "user", "content": 5}], "messages.1.content"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages.0.content.0.text"),
        ([{"role": "user", "content": [{"text": "x"}]}], "messages.0.content.0.type"),
        ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "messages.0.content.0.text"),
        ([{"role": "assistant", "tool_calls": [{"id": "a"}]}], "messages.0.tool_calls.0.function"),
        ([{"role": "user", "content": "x", "name": 5}], "messages.0.name"),
        ([USER] * 2049, "messages"),
    ],
)
def test_wrong_messages(client: TestClient, messages: Any, where: str) -> None:
    assert refusal(client, messages=messages)["param"] == where


def test_a_turn_without_content(client: TestClient) -> None:
    for role in ("user", "system", "assistant"):
        assert "content" in refusal(client, messages=[USER, {"role": role, "content": None}])["message"]


def test_earlier_thoughts_that_no_template_reads_are_told(client: TestClient) -> None:
    turn = {"role": "assistant", "content": "Yes", "reasoning_content": "hm"}
    response = post(client, messages=[USER, turn, USER])
    assert response.headers["X-Paddock-Ignored"] == "messages.1.reasoning_content"
    effort = post(client, reasoning_effort="low")
    assert effort.headers["X-Paddock-Ignored"] == "reasoning_effort"


def test_only_administrators_go_before_others() -> None:
    """Everybody may step back; on a server without keys everybody is the operator."""
    keys = Settings(template="alpaca", api_keys=("one-of-many",), admin_keys=("the-operator",))
    with opened(keys) as (_, client):
        for key, priority, status in (("one-of-many", 1, 403), ("one-of-many", -5, 200), ("the-operator", 5, 200)):
            headers = {"Authorization": f"Bearer {key}"}
            assert client.post(PATH, json={**ASK, "priority": priority}, headers=headers).status_code == status


# --- fields --------------------------------------------------------------------------------------------------------


def test_fields_without_effect(client: TestClient) -> None:
    """Those that change no answer are harmless; those nobody knows are told, wherever they stand."""
    harmless = {
        "user": "u", "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "safety_identifier": "s",
        "prompt_cache_key": "k",
    }  # fmt: skip
    assert "X-Paddock-Ignored" not in post(client, **harmless).headers
    unknown = post(client, tempreature=1, messages=[{**USER, "mood": "good"}]).headers["X-Paddock-Ignored"]
    assert set(unknown.split(", ")) == {"tempreature", "messages.0.mood"}
    nothing = dict.fromkeys((*COMMON, "logprobs", "top_logprobs", "tools", "tool_choice", "response_format"))
    assert text(client, **{**nothing, "max_tokens": 12, "temperature": 0}) == text(client)


def test_a_strict_server_refuses_them() -> None:
    with opened(Settings(template="alpaca", strict=True)) as (_, client):
        error = refusal(client, tempreature=1)
        assert error["code"] == "unsupported_parameter" and "temperature" in error["message"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_logprobs": 2, "logprobs": False}, "top_logprobs"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"glass_box": True, "n": 2}, "glass_box"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"chat_template_kwargs": {"messages": []}}, None),
        ({"chat_template_kwargs": {"no_such_option": 1}}, None),
    ],
)
def test_fields_that_contradict_each_other(client: TestClient, changes: dict[str, Any], param: str | None) -> None:
    assert refusal(client, **changes)["param"] == param


def test_limits_are_reached_and_not_passed(client: TestClient) -> None:
    """At the limit it is answered, one further it is refused (the table below has those)."""
    for field, value in (
        ("n", 8), ("stop", [f"#{place}" for place in range(16)]), ("stop", "x" * 1024), ("top_logprobs", 20),
        ("seed", 2**64 - 1), ("seed", 0), ("temperature", 100), ("temperature", 1e-4), ("top_p", 1), ("top_p", 1e-9),
        ("presence_penalty", -2), ("frequency_penalty", 2), ("repetition_penalty", 0.01), ("priority", -100),
        ("logit_bias", {str(id): 0 for id in range(512)}), ("logit_bias", {"511": -100}), ("min_tokens", 3),
        ("top_k", 2**31), ("min_p", 1), ("typical_p", 1), ("model", "stories260K"), ("model", None),
    ):  # fmt: skip
        extra = {"logprobs": True} if field == "top_logprobs" else {}
        post(client, **{"max_tokens": 3, **extra, field: value})


CHAT = {
    **{field: values for field, values in COMMON.items() if field != "max_tokens"},
    "max_tokens": [*COMMON["max_tokens"], 0],
    "max_completion_tokens": [*WORDS, 0, -1, 2.5],
    "logprobs": [1, 0, "true", []],
    "top_logprobs": [*WORDS, -1, 21],
    "prompt_logprobs": [*WORDS, -1, 21],
    "tools": [
        5,
        "x",
        {},
        [5],
        [{"type": "x"}],
        [{"type": "function"}],
        [{"type": "function", "function": {"name": ""}}],
    ],
    "tool_choice": [5, "maybe", [], {"type": "function"}],
    "parallel_tool_calls": ["yes", 1],
    "response_format": [5, "json", [], {}],
    "reasoning_effort": [5, "much", []],
    "chat_template_kwargs": [5, "x", []],
}


@pytest.mark.parametrize("field", CHAT)
def test_wrong_values(client: TestClient, field: str) -> None:
    ask: dict[str, Any] = {name: value for name, value in ASK.items() if name != "max_tokens"}
    for value in CHAT[field]:
        check_refused(client, PATH, {**ask, field: value}, field)


@pytest.mark.parametrize("content", RAW)
@pytest.mark.parametrize("field", ["messages", "stop", "temperature", "model", "unknown"])
def test_what_is_no_json(client: TestClient, content: bytes, field: str) -> None:
    response = client.post(PATH, content=content % field.encode(), headers=JSON)
    assert response.status_code == 400 and response.json()["error"]["type"] == "invalid_request_error"


def test_nul_and_empty_texts_are_texts(client: TestClient) -> None:
    for content in ("", "\0", "a\0b", "\u2028", "\ufffe"):
        post(client, messages=[{"role": "user", "content": content}])
    for number in NUMBERS:
        assert refusal(client, messages=[{"role": "user", "content": number}])["param"] == "messages.0.content"


# --- models --------------------------------------------------------------------------------------------------------


def test_a_model_without_a_chat_template_says_what_to_use() -> None:
    with serving(plain=None) as (_, client):
        error = refusal(client)
        assert error["param"] == "messages" and "/v1/completions" in error["message"]


def test_an_encoder_does_not_chat(tmp_path: Any) -> None:
    with serving(bert=write_bert(tmp_path / "bert")) as (_, client):
        error = refusal(client)
        assert error["param"] == "model" and "/v1/embeddings" in error["message"]


def test_an_unknown_model(client: TestClient) -> None:
    response = client.post(PATH, json={**ASK, "model": "stories260"})
    assert response.status_code == 404 and response.json()["error"]["code"] == "model_not_found"
    assert "stories260K" in response.json()["error"]["message"]
