"""The server's own OpenAPI document: what FastAPI derives, and what the guards and refusals add to every operation."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

STATUSES = {
    400: "The request cannot be meant",
    401: "No key, or a wrong one",
    403: "Not with this key, from this page, or under this name",
    404: "No such model or address",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "Too many requests at once, or in this minute",
    431: "Too many headers",
    500: "The server failed",
    503: "No room, or the server is starting or stopping",
}
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


class ErrorDetail(BaseModel):
    """OpenAI's. `code` is for machines."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: ErrorDetail


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text} for status, text in STATUSES.items()
}


TEXT = {"/metrics", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"}  # answer in plain words


def document(app: FastAPI) -> dict[str, Any]:
    """Made once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas = made.get("components", {}).get("schemas", {})
        for path, operations in made["paths"].items():
            for method, operation in operations.items():
                if method in METHODS:
                    _complete(path, operation, schemas)
        for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which this server never sends
            schemas.pop(name, None)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """No 422; other dialects' errors have their own shape, and streams and plain words their own type."""
    responses = operation["responses"]
    responses.pop("422", None)
    ollama = path.startswith("/api/")
    if ollama or path.startswith("/v1/messages"):
        for status in STATUSES:
            for content in responses.get(str(status), {}).get("content", {}).values():
                content["schema"] = {"type": "object", "required": ["error"]}
    if path == "/ready":
        responses["503"]["content"]["application/json"]["schema"] = {"type": "object", "required": ["status"]}
    if path in TEXT:
        responses["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    elif "stream" in _fields(operation, schemas):
        responses["200"]["content"]["application/x-ndjson" if ollama else "text/event-stream"] = {}


def _fields(operation: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    """Names of the fields of an operation's body."""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = body.get("$ref", "").rpartition("/")[2]
    return set(schemas.get(name, body).get("properties", {}))
