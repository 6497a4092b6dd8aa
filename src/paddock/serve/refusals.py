"""Every refusal as HTTP: a status, and an error object in the dialect of the address. The one place where errors become
responses."""

from __future__ import annotations

import re
from typing import Any

from paddock.errors import (
    AccessError,
    ContextLengthError,
    InputError,
    NotFoundError,
    OverloadError,
    PaddockError,
    ResourceError,
    ServiceError,
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
    Ollama: {"error": "message"}. What the message tells of the inside is left out (`without_inside`).
    """
    status = status_of(error)
    message = str(error).replace("\n  fix: ", "; ")
    if not isinstance(error, BadRequest | ServiceError):  # those quote what the client said, and nothing else
        message = without_inside(message)
    if path.startswith("/api/"):
        return {"error": message}
    if path.startswith("/v1/messages"):
        kind = ANTHROPIC_KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}}
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": getattr(error, "param", None), "code": _code(error)}}


# A path in quotes may hold spaces; ours begin with a root that the API's addresses do not have.
_QUOTED = re.compile(r"""(['"])(?!/v1/|/api/)(?:/|[A-Za-z]:\\)[^'"\n]*[/\\]([^'"/\\\n]+)[/\\]?\1""")
_PATH = re.compile(r"(?<![\w.:/<-])(?!/v1/|/api/)(?:/[^\s/'\"`,;:()<>]+)+/([^\s/'\"`,;:()<>]+)/?")
_DRIVE = re.compile(r"\b[A-Za-z]:\\(?:[^\\\s'\"]+\\)*([^\\\s'\",;:]+)")
_OBJECT = re.compile(r"<[^<>\n]* at 0x[0-9a-fA-F]+>|0x[0-9a-fA-F]{6,}")


def without_inside(message: str) -> str:
    """A message with files named by their last part alone, and without addresses in memory."""
    message = _QUOTED.sub(r"\1\2\1", message)
    message = _PATH.sub(r"\1", message)
    message = _DRIVE.sub(r"\1", message)
    return _OBJECT.sub("an object", message)


def broken(id: str) -> PaddockError:
    """What a client is told of a failure inside: where the server's operator finds it."""
    return PaddockError(f"the server failed at this request; its log has more under {id}")


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
