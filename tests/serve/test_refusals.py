"""Errors as responses: the status of each, its shape in every dialect, and nothing of the inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from guarded import ADMIN, INSIDE, KEYED, bearer, check_refusal, client_of, opened

from paddock import errors
from paddock.errors import AccessError, ContextLengthError, NotFoundError, OverloadError, PaddockError
from paddock.serve.refusals import BadRequest, body_of, broken, headers_of, status_of, without_inside

STATUS: list[tuple[PaddockError, int, str, str | None]] = [
    (BadRequest("x", param="n", code="c"), 400, "invalid_request_error", "c"),
    (BadRequest("x", status=413), 413, "invalid_request_error", None),
    (errors.UsageError("x"), 400, "invalid_request_error", None),
    (ContextLengthError("x"), 400, "invalid_request_error", "context_length_exceeded"),
    (errors.TemplateError("x"), 400, "invalid_request_error", None),
    (errors.TokenizerError("x"), 400, "invalid_request_error", None),
    (errors.CheckpointError("x"), 400, "invalid_request_error", None),
    (errors.UnsupportedError("x"), 400, "invalid_request_error", None),
    (errors.DataError("x"), 400, "invalid_request_error", None),
    (AccessError("x"), 401, "authentication_error", "invalid_api_key"),
    (AccessError("x", known=True), 403, "permission_error", "insufficient_permissions"),
    (NotFoundError("x"), 404, "not_found_error", "model_not_found"),
    (OverloadError("x", retry_after=7), 429, "rate_limit_error", "rate_limit_exceeded"),
    (OverloadError("x", down=True), 503, "server_error", "server_unavailable"),
    (errors.ResourceError("x"), 503, "server_error", None),
    (PaddockError("x"), 500, "server_error", None),
]


@pytest.mark.parametrize(("error", "status", "kind", "code"), STATUS)
def test_each_error_has_its_status_and_shape(error: PaddockError, status: int, kind: str, code: str | None) -> None:
    assert status_of(error) == status
    body = body_of(error, "/v1/chat/completions")["error"]
    assert body.keys() == {"message", "type", "param", "code"} and (body["type"], body["code"]) == (kind, code)
    assert set(body_of(error, "/api/chat")) == {"error"} and isinstance(body_of(error, "/api/chat")["error"], str)
    anthropic = body_of(error, "/v1/messages")
    assert anthropic["type"] == "error" and set(anthropic["error"]) == {"type", "message"}
    assert ("Retry-After" in headers_of(error)) == isinstance(error, OverloadError)
    assert ("WWW-Authenticate" in headers_of(error)) == (status == 401)


def test_no_error_of_the_tree_is_forgotten() -> None:
    def below(kind: type[PaddockError]) -> set[type[PaddockError]]:
        return {kind}.union(*(below(other) for other in kind.__subclasses__()))

    seen = {type(error) for error, *_ in STATUS}
    kinds = {kind for kind in below(PaddockError) if kind.__module__ == "paddock.errors"}
    training = {"DivergedError", "Interrupted"}  # a server does not train
    assert {kind.__name__ for kind in kinds - seen} == {"InputError", "ServiceError"} | training  # never raised as such


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("/srv/models/llama/config.json: no key 'x'", "config.json: no key 'x'"),
        ("'/srv/a b/models/x y.gguf' is cut off", "'x y.gguf' is cut off"),
        ("cannot read /data/m/ now", "cannot read m now"),
        ("tokenizer.json and /a/b/c.json, (/d/e/f.json)", "tokenizer.json and c.json, (f.json)"),
        (r"C:\Users\me\models\x.gguf is cut off", "x.gguf is cut off"),
        ("<Tokenizer object at 0x7f3a21bc> failed", "an object failed"),
        ("at 0x7fffdeadbeef", "at an object"),
        ("use /v1/embeddings, /v1/rerank or /api/chat", "use /v1/embeddings, /v1/rerank or /api/chat"),
        ("1/2 of w/o and a/b/c stay", "1/2 of w/o and a/b/c stay"),
        ("org/model has no chat template", "org/model has no chat template"),
        ("line\n/etc/passwd", "line\npasswd"),
    ],
)
def test_messages_name_files_and_not_where_they_lie(message: str, told: str) -> None:
    assert without_inside(message) == told
    assert body_of(errors.CheckpointError(message))["error"]["message"] == told


def test_messages_of_any_length_are_cleaned_in_time() -> None:
    for piece in ("/a", "/", "'/a/", "C:\\a", "<a ", "0x1"):
        without_inside(piece * 20_000)


def test_what_breaks_inside_has_an_id_and_no_words() -> None:
    body = body_of(broken("id-1"))["error"]
    assert "id-1" in body["message"] and body["type"] == "server_error"


def test_addresses_and_methods_nobody_serves(client: Any) -> None:
    response = client.get("/nothing/here")
    check_refusal(response, 404)
    assert response.json()["error"]["code"] == "unknown_url"
    response = client.delete("/v1/models")
    check_refusal(response, 405)
    assert response.headers["allow"] == "GET" and response.json()["error"]["code"] == "method_not_allowed"
    assert response.json()["error"]["message"].endswith("expected GET")
    assert isinstance(client.get("/api/nothing").json()["error"], str)
    assert client.get("/v1/messages/nothing").json()["type"] == "error"


@pytest.mark.parametrize(
    ("path", "fix"),
    [("/chat/completions", "URL with /v1"), ("/v1/v1/messages", "before /v1"), ("/v1/api/chat", "before /v1")],
)
def test_a_base_url_that_ends_in_the_wrong_place_is_told_of(client: Any, path: str, fix: str) -> None:
    response = client.post(path, json={})
    check_refusal(response, 404)
    assert fix in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("n", 20, "n: Input should be less than or equal to 8, not 20"),
        ("temperature", "hot", "temperature: Input should be a valid number, not a string"),
        ("stream", [], "stream: Input should be a valid boolean, not a list"),
    ],
)
def test_a_field_that_is_refused_is_told_with_what_it_was(client: Any, field: str, value: Any, said: str) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], field: value}
    assert client.post("/v1/chat/completions", json=body).json()["error"]["message"] == said


def test_no_validation_error_is_422_or_a_list(client: Any) -> None:
    for body in ({}, {"messages": 5}, {"messages": []}, [], 5, None, "x", {"messages": [{"role": "x"}], "n": "1"}):
        response = client.post("/v1/chat/completions", json=body)
        check_refusal(response, 400)
        assert len(response.json()["error"]["message"]) < 1000


def test_even_an_administrator_learns_no_more_of_a_path_than_he_said(tmp_path: Path) -> None:
    broken = tmp_path / "deep" / "broken"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{")
    with opened(**KEYED) as server:
        client = client_of(server)
        for path in (str(broken), str(tmp_path / "missing"), "no-such-model", "/etc/passwd", "..", "\u0000"):
            response = client.post("/v1/admin/load", json={"name": "x", "path": path}, headers=bearer(ADMIN))
            assert 400 <= response.status_code < 500, response.text
            assert str(tmp_path) not in response.text or str(tmp_path) in path


def test_a_failure_inside_a_route_is_an_id_outside_and_a_place_in_the_log(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(server)
    said = "the prompt was: " + "hush"

    def fail(*_: Any) -> None:
        raise ValueError(said)

    monkeypatch.setattr(server.registry, "find", fail)
    response = client.post(
        "/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}]}, headers={"X-Request-Id": "req-9"}
    )
    check_refusal(response, 500)
    assert "req-9" in response.json()["error"]["message"] and "hush" not in response.text
    assert "req-9" in caplog.text and "ValueError" in caplog.text and said not in caplog.text


def test_the_document_names_every_refusal(client: Any) -> None:
    told = client.get("/openapi.json").json()
    text = json.dumps(told)
    assert '"422"' not in text and "HTTPValidationError" not in text and not INSIDE.search(text)
    for path, operations in told["paths"].items():
        for operation in operations.values():
            assert {"400", "401", "403", "404", "413", "415", "429", "503"} <= operation["responses"].keys(), path
