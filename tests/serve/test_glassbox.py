"""The glass box: what the model was given, and how each token was chosen, streamed and whole."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from streams import events, together

from paddock.serve.server import Server

CHAT = ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Tell me </s> a story"}]})
TEXT = ("/v1/completions", {"prompt": "Once upon a time"})
ASK: dict[str, Any] = {"max_tokens": 10, "temperature": 0.8, "top_k": 20, "top_p": 0.9, "seed": 3, "glass_box": True}
ADDRESSES = pytest.mark.parametrize(("path", "what"), [CHAT, TEXT], ids=["chat", "text"])


def shown(client: TestClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, json={**ASK, **body})
    assert response.status_code == 200, response.text
    box = response.json()["paddock"]
    assert isinstance(box, dict)
    return box


@ADDRESSES
def test_the_stream_shows_what_the_whole_shows(client: TestClient, path: str, what: dict[str, Any]) -> None:
    whole = shown(client, path, what)
    chunks = events(client.post(path, json={**ASK, **what, "stream": True}).text)
    streamed = together(chunks)["paddock"]
    for box in (whole, streamed):
        assert set(box) == {"prompt", "settings", "tokens", "timings", "cached_tokens", "seed"}
    assert [streamed[name] for name in ("tokens", "settings", "seed")] == [
        whole[name] for name in ("tokens", "settings", "seed")
    ]
    assert streamed["prompt"] | {"cached": 0} == whole["prompt"] | {"cached": 0}
    assert "prompt" in chunks[0]["paddock"] and "timings" in chunks[-1]["paddock"]
    assert streamed["prompt"]["cached"] == streamed["cached_tokens"] == streamed["timings"]["cache_n"]


@ADDRESSES
def test_the_prompt_is_what_the_model_read(client: TestClient, server: Server, path: str, what: dict[str, Any]) -> None:
    model = server.registry.find(None).model
    ids = model.chat_prompt(what["messages"]).ids if "messages" in what else model.prompt_ids(what["prompt"])
    prompt = shown(client, path, what)["prompt"]
    assert [token["id"] for token in prompt["tokens"]] == list(ids)
    assert [token["special"] for token in prompt["tokens"]] == [True, *[False] * (len(ids) - 1)]
    assert prompt["text"] == model.tokenizer.decode(ids, skip_special=False)
    spelt = "".join(token["text"] for token in prompt["tokens"])  # SentencePiece: with a blank before the first word
    assert spelt.replace(" ", "") == prompt["text"].replace(" ", "")


def test_each_token_says_how_it_was_chosen(client: TestClient, server: Server) -> None:
    """The stages are those of the engine's own trace, and the draw falls into the chosen one's share."""
    model = server.registry.find(None).model
    settings = {name: ASK[name] for name in ("temperature", "top_k", "top_p", "seed")}
    expected = model.generate("Once upon a time", 10, logprobs=10, trace=True, **settings)
    tokens = shown(client, *TEXT)["tokens"]
    assert [token["id"] for token in tokens] == list(expected.ids)
    for token, trace in zip(tokens, expected.traces, strict=True):
        assert [stage["name"] for stage in token["stages"]] == [stage.name for stage in trace.stages]
        assert [stage["survivors"] for stage in token["stages"]] == [stage.survivors for stage in trace.stages]
        told = [[(entry["id"], entry["p"]) for entry in stage["top"]] for stage in token["stages"]]
        assert told == [list(stage.top) for stage in trace.stages]
        assert token["stages"][0]["survivors"] == 512 and token["stages"][-1]["survivors"] <= 20
        assert token["draw"] == trace.draw and token["probability"] == trace.probability
        last = [entry["id"] for entry in token["stages"][-1]["top"]]
        assert token["id"] in last or len(last) == 10
        assert len(token["top"]) == 10 and token["top"][0]["logprob"] >= token["logprob"]
    assert "".join(token["text"] for token in tokens) == expected.text


def test_greedy_draws_nothing(client: TestClient) -> None:
    box = shown(client, TEXT[0], {**TEXT[1], "temperature": 0, "seed": None})
    assert box["seed"] is None
    assert {(token["draw"], token["probability"]) for token in box["tokens"]} == {(None, 1.0)}


def test_a_drawn_seed_repeats_the_answer(client: TestClient) -> None:
    free = client.post(TEXT[0], json={**ASK, **TEXT[1], "seed": None, "temperature": 1.5}).json()
    seed = free["paddock"]["seed"]
    again = client.post(TEXT[0], json={**ASK, **TEXT[1], "seed": seed, "temperature": 1.5}).json()
    assert again["choices"] == free["choices"]


def test_settings_say_where_they_come_from(client: TestClient) -> None:
    settings = shown(client, *TEXT)["settings"]
    assert settings["temperature"] == {"value": 0.8, "origin": "request"}
    assert settings["min_p"] == {"value": 0.0, "origin": "default"}
    assert settings["seed"] == {"value": 3, "origin": "request"}
    assert settings["max_tokens"] == {"value": 10, "origin": "request"}
    unasked = shown(client, CHAT[0], {**CHAT[1], "temperature": None})["settings"]
    assert unasked["temperature"]["origin"] in ("model", "default")


def test_it_asks_for_no_log_probabilities_of_its_own(client: TestClient) -> None:
    """What the body tells of log-probabilities is what was asked for, with the box or without."""
    plain = client.post(TEXT[0], json={**ASK, **TEXT[1], "glass_box": False, "logprobs": 2}).json()
    boxed = client.post(TEXT[0], json={**ASK, **TEXT[1], "logprobs": 2}).json()
    assert boxed["choices"] == plain["choices"]
    assert client.post(TEXT[0], json={**ASK, **TEXT[1]}).json()["choices"][0]["logprobs"] is None
    assert "paddock" not in plain
