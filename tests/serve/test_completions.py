"""/v1/completions field by field: prompts of every form, echo, and log-probabilities of what was read and written."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from refusing import COMMON, JSON, RAW, WORDS, check_refused
from serve_models import serving, write_bert, write_t5
from streams import events, together

from paddock.serve import logprobs
from paddock.serve.server import Server

PATH = "/v1/completions"
ASK: dict[str, Any] = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0}
IDS = [1, 403, 407, 261, 378]  # <s> Once upon a time


def post(client: TestClient, **changes: Any) -> dict[str, Any]:
    response = client.post(PATH, json={**ASK, **changes})
    assert response.status_code == 200, response.text
    body = response.json()
    assert isinstance(body, dict)
    return body


def texts(client: TestClient, **changes: Any) -> list[str]:
    return [choice["text"] for choice in post(client, **changes)["choices"]]


def refusal(client: TestClient, **changes: Any) -> dict[str, Any]:
    response = client.post(PATH, json={**ASK, **changes})
    assert response.status_code == 400, response.text
    return dict(response.json()["error"])


def truth(server: Server, ids: list[int]) -> torch.Tensor:
    """Log-probabilities of what follows each of `ids`, in process."""
    return server.registry.find(None).model.logits(ids).log_softmax(-1)


# --- prompts -------------------------------------------------------------------------------------------------------


def test_the_whole_body(client: TestClient) -> None:
    body = post(client)
    assert body["id"].startswith("cmpl-") and body["object"] == "text_completion"
    assert body["choices"][0].keys() == {"index", "text", "logprobs", "finish_reason"}
    assert body["usage"]["prompt_tokens"] == 5 and body["usage"]["completion_tokens"] == 12
    assert body["timings"]["predicted_n"] == 12
    chunks = events(client.post(PATH, json={**ASK, "stream": True}).text)
    assert {chunk["object"] for chunk in chunks} == {"text_completion"} and chunks[-1]["timings"]["predicted_n"] == 12


def test_the_default_length_is_openai_s(client: TestClient) -> None:
    assert post(client, max_tokens=None)["usage"]["completion_tokens"] == 16


def test_prompts_of_every_form(client: TestClient) -> None:
    """Text, texts, ids, lists of ids: the same prompt gives the same text, and each has its own index."""
    (text,) = texts(client)
    (other,) = texts(client, prompt="The cat")
    assert texts(client, prompt=IDS) == [text]
    assert texts(client, prompt=["The cat", "Once upon a time"]) == [other, text]
    assert texts(client, prompt=[IDS, IDS]) == [text, text]
    several = post(client, prompt=["The cat", "Once upon a time"], n=2)
    assert [choice["index"] for choice in several["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in several["choices"]] == [other, other, text, text]
    one = post(client, prompt="The cat")["usage"]["prompt_tokens"]
    assert several["usage"]["prompt_tokens"] == one + 5 and several["usage"]["completion_tokens"] == 48
    assert post(client, prompt=["a"] * 64, max_tokens=1)["usage"]["completion_tokens"] == 64


def test_each_choice_of_each_prompt_is_a_seeded_run(client: TestClient) -> None:
    both = texts(client, prompt=["The cat", "Once"], n=2, seed=9, temperature=1.0)
    alone = [texts(client, prompt=p, seed=9 + i, temperature=1.0)[0] for p in ("The cat", "Once") for i in (0, 1)]
    assert both == alone


def test_too_long_a_prompt(client: TestClient) -> None:
    long = [1, *[403] * 520]
    error = refusal(client, prompt=long)
    assert error["code"] == "context_length_exceeded" and "521" in error["message"] and "512" in error["message"]
    body = post(client, prompt=long, truncation="auto")
    assert body["usage"]["truncated"] == {"messages": 0, "tokens": 21} and body["usage"]["prompt_tokens"] == 500
    text = "Once upon a time. " * 200
    kept = client.post(PATH, json={**ASK, "prompt": text, "truncation": "auto", "glass_box": True})
    tokens = kept.json()["paddock"]["prompt"]["tokens"]
    assert tokens[0]["special"] and len(tokens) == 500 and kept.headers["X-Paddock-Truncated"].startswith("messages=0")


# --- log-probabilities ---------------------------------------------------------------------------------------------


def test_log_probabilities_of_what_is_written(client: TestClient, server: Server) -> None:
    body = post(client, logprobs=2)
    told = body["choices"][0]["logprobs"]
    assert told.keys() == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    assert all(len(items) == 12 for items in told.values())
    assert "".join(told["tokens"]) == body["choices"][0]["text"]
    assert told["text_offset"] == [len("".join(told["tokens"][:place])) for place in range(12)]
    assert all(top[token] == value for token, value, top in zip(*list(told.values())[:3], strict=True))
    expected = server.registry.find(None).model.generate("Once upon a time", 12, temperature=0, logprobs=2).logprobs
    assert expected is not None and told["token_logprobs"] == [token.logprob for token in expected]


def test_an_echo_tells_of_the_prompt_too(client: TestClient, server: Server) -> None:
    """The first token has no log-probability; all others are those of the model in process, to the bit."""
    for prompt, ids in (("Once upon a time", IDS), ([1, 403, 407, 17, 300, 261], [1, 403, 407, 17, 300, 261])):
        choice = post(client, prompt=prompt, echo=True, logprobs=1, max_tokens=4)["choices"][0]
        told, rows = choice["logprobs"], truth(server, ids)
        assert told["token_logprobs"][0] is None and told["top_logprobs"][0] is None
        expected = [float(rows[place, id]) for place, id in enumerate(ids[1:])]
        assert told["token_logprobs"][1 : len(ids)] == expected and len(told["tokens"]) == len(ids) + 4
        best = [float(row.max()) for row in rows[:-1]]
        assert [max(top.values()) for top in told["top_logprobs"][1 : len(ids)]] == best
        assert told["text_offset"] == sorted(told["text_offset"])
    whole = post(client, echo=True, logprobs=0)["choices"][0]
    assert whole["text"] == "Once upon a time" + texts(client)[0]
    assert whole["logprobs"]["text_offset"][5] == len("Once upon a time")


def test_every_choice_tells_of_its_own_prompt(client: TestClient) -> None:
    ask = {"echo": True, "logprobs": 1, "prompt_logprobs": 0, "max_tokens": 2}
    alone = [post(client, prompt=prompt, **ask)["choices"][0] for prompt in ("The cat", "Once upon a time")]
    several = post(client, prompt=["The cat", "Once upon a time"], n=2, **ask)["choices"]
    for choice, one in zip(several, (alone[0], alone[0], alone[1], alone[1]), strict=True):
        assert choice | {"index": 0} == one
    assert alone[0] != alone[1]


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_written_is_the_prompt_s_likelihood(client: TestClient, server: Server, stream: bool) -> None:
    ask = {**ASK, "prompt": ["Once upon a time", "The cat"], "max_tokens": 0, "echo": True, "logprobs": 1}
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    response = client.post(PATH, json={**ask, **options})
    body = together(events(response.text)) if stream else response.json()
    first, second = body["choices"]
    assert (first["text"], second["text"]) == ("Once upon a time", "The cat")
    assert {first["finish_reason"], second["finish_reason"]} == {"length"}
    assert body["usage"]["completion_tokens"] == 0 and body["usage"]["prompt_tokens"] == 5 + len(
        second["logprobs"]["tokens"]
    )
    rows = truth(server, IDS)
    assert first["logprobs"]["token_logprobs"][1:] == [float(rows[place, id]) for place, id in enumerate(IDS[1:])]
    silent = post(client, max_tokens=0, n=2)
    assert [choice["text"] for choice in silent["choices"]] == ["", ""]


def test_long_prompts_are_read_in_pieces(client: TestClient, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the pieces, the numbers are those of the text read at once; what is held is a piece's logits."""
    ids = [1, *(3 + place * 7 % 500 for place in range(400))]
    expected = truth(server, ids)
    right = [float(expected[place, id]) for place, id in enumerate(ids[1:])]
    pieces: list[int] = []
    reduced = logprobs._reduced

    def counted(stream: Any, following: Any, top: int) -> Any:
        pieces.append(len(following))
        return reduced(stream, following, top)

    monkeypatch.setattr(logprobs, "_reduced", counted)
    for size in (1000, 64, 37):
        monkeypatch.setattr(logprobs, "PIECE_VALUES", size * 512)
        pieces.clear()
        choice = post(client, prompt=ids, max_tokens=0, echo=True, logprobs=0)["choices"][0]
        assert choice["logprobs"]["token_logprobs"][1:] == right
        assert sum(pieces) == 400 and max(pieces) <= size


def test_vllm_s_prompt_log_probabilities(client: TestClient, server: Server) -> None:
    told = post(client, prompt_logprobs=2, logprobs=0, echo=True)["choices"][0]["prompt_logprobs"]
    rows = truth(server, IDS)
    assert told[0] is None and len(told) == 5
    for place, id in enumerate(IDS[1:]):
        entry = told[place + 1][str(id)]
        assert entry["logprob"] == float(rows[place, id])
        assert entry["rank"] == int((rows[place] > rows[place, id]).sum()) + 1
        assert {value["rank"] for value in told[place + 1].values()} >= {1, 2}
    assert "prompt_logprobs" not in post(client)["choices"][0]


def test_models_without_such_numbers_say_so(tmp_path: Any) -> None:
    with serving(bert=write_bert(tmp_path / "bert"), t5=write_t5(tmp_path / "t5")) as (_, client):
        assert refusal(client)["param"] == "model"
        assert refusal(client, model="t5", echo=True, logprobs=1)["param"] == "echo"
        assert refusal(client, model="t5", prompt_logprobs=1)["param"] == "prompt_logprobs"
        body = post(client, model="t5", prompt="Once", max_tokens=3, logprobs=1)
        assert len(body["choices"][0]["logprobs"]["tokens"]) == 3


# --- fields --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"glass_box": True, "prompt": ["a", "b"]}, "glass_box"),
        ({"glass_box": True, "max_tokens": 0}, "glass_box"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    ],
)
def test_what_is_not_done_is_refused(client: TestClient, changes: dict[str, Any], param: str) -> None:
    assert refusal(client, **changes)["param"] == param


def test_what_changes_nothing_is_taken(client: TestClient) -> None:
    same = {"suffix": None, "best_of": 1, "user": "u", "stream": None, "logprobs": None, "echo": None, "stop": None}
    assert texts(client, **same) == texts(client)
    for field, value in (("logprobs", 20), ("prompt_logprobs", 20), ("prompt", ["a"] * 64), ("max_tokens", 507)):
        post(client, **{"max_tokens": 1, field: value})


TEXT_FIELDS = {
    **COMMON,
    "prompt": [
        None, 5, True, {}, [], [[]], [1.5], [True], [-1], [512], [2**31], ["a", 5], [1, "a"], [[1], "a"], [["a"]],
        ["a"] * 65, [[1]] * 65, [None], [[1, -1]], [[1, 600]], [[True]],
    ],
    "max_tokens": [*WORDS, -1, 1.5, 2**31 + 1, 508],
    "echo": ["yes", 1, []],
    "logprobs": [*WORDS, -1, 21, 1.5],
    "prompt_logprobs": [*WORDS, -1, 21],
    "best_of": [*WORDS, 0, 21],
    "suffix": [5, [], True],
}  # fmt: skip


@pytest.mark.parametrize("field", TEXT_FIELDS)
def test_wrong_values(client: TestClient, field: str) -> None:
    ask: dict[str, Any] = {"prompt": "Once upon a time", "temperature": 0}
    for value in TEXT_FIELDS[field]:
        check_refused(client, PATH, {**ask, field: value}, field)
    check_refused(client, PATH, {"temperature": 0}, "prompt")


@pytest.mark.parametrize("content", RAW)
@pytest.mark.parametrize("field", ["prompt", "stop", "max_tokens", "suffix"])
def test_what_is_no_json(client: TestClient, content: bytes, field: str) -> None:
    response = client.post(PATH, content=content % field.encode(), headers=JSON)
    assert response.status_code == 400 and response.json()["error"]["type"] == "invalid_request_error"


def test_nul_and_empty_texts_are_texts(client: TestClient) -> None:
    for prompt in ("", "\0", "a\0b", ["", "a"]):
        assert all(text for text in texts(client, prompt=prompt))


def test_answers_of_a_given_form(client: TestClient) -> None:
    assert texts(client, guided_choice=["yes", "no"], max_tokens=30)[0] in ("yes", "no")
    assert texts(client, structured_outputs={"regex": "[0-9]{3}!"}, max_tokens=30)[0][3] == "!"


def test_prompts_times_choices_have_an_end(client: TestClient) -> None:
    body = {"prompt": ["Once"] * 64, "max_tokens": 0, "echo": True, "logprobs": 1}
    assert len(client.post("/v1/completions", json={**body, "n": 2}).json()["choices"]) == 128
    response = client.post("/v1/completions", json={**body, "n": 3})
    assert response.status_code == 400 and response.json()["error"]["param"] == "n"
