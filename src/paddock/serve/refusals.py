"""Every refusal as HTTP: a status, and an error object in the dialect of the address. The one place where errors become
responses."""

from __future__ import annotations

from typing import Any

from paddock.errors import (
    AccessError,
    ContextLengthError,
    InputError,
    NotFoundError,
    OverloadError,
    PaddockError,
    ResourceError,
    TemplateError,
    TokenizerError,
    UsageError,
)


class BadRequest(UsageError):
    """A field of a request's body is not what it should be. `param` names it, `code` is for machines."""

    def __init__(
        self, what: str, *, param: str | None = None, code: str | None = None, status: int = 400, **rest: Any
    ) -> None:
        super().__init__(what, **rest)
        self.param, self.code, self.status = param, code, status


def status_of(error: PaddockError) -> int:
    if isinstance(error, BadRequest):
        return error.status
    if isinstance(error, AccessError):
        return 403 if error.known else 401
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, OverloadError):
        return 503 if error.down else 429
    if isinstance(error, ResourceError):
        return 503
    if isinstance(error, UsageError | TemplateError | TokenizerError):
        return 400
    return 400 if isinstance(error, InputError) else 500


KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
ANTHROPIC_KINDS = {**KINDS, 413: "request_too_large", 503: "overloaded_error"}


def body_of(error: PaddockError, path: str = "") -> dict[str, Any]:
    """The error object for a request to `path`: Anthropic's and Ollama's below their addresses, OpenAI's elsewhere.

    OpenAI: {"error": {"message", "type", "param", "code"}}. Anthropic: {"type": "error", "error": {"type", "message"}}.
    Ollama: {"error": "message"}. The message of what broke inside tells nothing of the inside.
    """
    status = status_of(error)
    message = str(error).replace("\n  fix: ", "; ")
    if path.startswith("/api/"):
        return {"error": message}
    if path.startswith("/v1/messages"):
        kind = ANTHROPIC_KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}}
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": getattr(error, "param", None), "code": _code(error)}}


def headers_of(error: PaddockError) -> dict[str, str]:
    if isinstance(error, OverloadError):
        return {"Retry-After": str(error.retry_after)}
    if status_of(error) == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {}


def _code(error: PaddockError) -> str | None:
    if isinstance(error, BadRequest):
        return error.code
    if isinstance(error, ContextLengthError):
        return "context_length_exceeded"
    if isinstance(error, AccessError):
        return "insufficient_permissions" if error.known else "invalid_api_key"
    if isinstance(error, NotFoundError):
        return "model_not_found"
    if isinstance(error, OverloadError):
        return "server_unavailable" if error.down else "rate_limit_exceeded"
    return None
