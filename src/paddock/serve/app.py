"""The ASGI application: routes, refusals, and the guards in front of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from paddock import __version__
from paddock.errors import PaddockError
from paddock.serve.access import admitted
from paddock.serve.accesslog import AccessLog
from paddock.serve.document import REFUSALS, document
from paddock.serve.guards import Bodies, Cors, Gate, Hosts, Outermost, check_choices
from paddock.serve.lifecycle import Lifecycle
from paddock.serve.limits import Limited, Limits
from paddock.serve.refusals import BadRequest, body_of, headers_of, status_of
from paddock.serve.routes import (
    admin,
    catalogue,
    chat,
    completions,
    embeddings,
    health,
    login,
    messages,
    metrics,
    models,
    ollama,
    ollama_models,
    rank,
    responses,
    tokens,
    web,
)
from paddock.serve.server import Server
from paddock.serve.streaming import ClientGone, gone_response

ROUTERS = (
    health.router,
    metrics.router,
    admin.router,
    login.router,
    models.router,
    catalogue.router,
    chat.router,
    completions.router,
    responses.router,
    messages.router,
    ollama.router,
    ollama_models.router,
    embeddings.router,
    rank.router,
    tokens.router,
    web.router,
)


def make_app(server: Server) -> FastAPI:
    """The application of `server`, which it closes at its end. Raises UsageError for settings of the guards."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            server.close()

    app = FastAPI(
        title="Paddock",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would be built from the Host header
        dependencies=[Depends(admitted)],
        responses=REFUSALS,
    )
    app.state.server = server
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    app.add_exception_handler(PaddockError, _refused)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _no_route)  # type: ignore[arg-type]
    app.add_exception_handler(ClientGone, _gone)
    _guard(app, server)
    return app


def _guard(app: FastAPI, server: Server) -> None:
    """Puts the guards in front, the outermost last. Raises UsageError for choices that cannot be."""
    chosen, access = server.settings, server.access
    check_choices(chosen.cors_origins, chosen.allowed_hosts)
    at_once = chosen.parallel + chosen.waiting if access.open else chosen.per_key_in_flight
    app.add_middleware(Bodies, limit=chosen.body_bytes)
    app.add_middleware(Limited, limits=Limits(at_once, chosen.per_key_per_minute))
    app.add_middleware(Lifecycle, server=server)
    app.add_middleware(Gate, access=access, origins=chosen.cors_origins)
    app.add_middleware(Cors, origins=chosen.cors_origins)
    app.add_middleware(Hosts, host=chosen.host, allowed=chosen.allowed_hosts)
    app.add_middleware(Outermost, quoting=chosen.log_prompts)
    app.add_middleware(AccessLog, on=chosen.access_log)


def _refused(request: Request, error: PaddockError) -> Response:
    return JSONResponse(body_of(error, request.scope["path"]), status_of(error), headers_of(error))


def _invalid(request: Request, error: RequestValidationError) -> Response:
    """Pydantic's first complaint, in OpenAI's form."""
    first = error.errors()[0]
    param = ".".join(_place(first["loc"][1:], error.body, first["type"] == "missing")) or None
    what = f"{param or 'the body'}: {first['msg'][:300]}{_found(first['type'], first.get('input'))}"
    return _refused(request, BadRequest(what, param=param))


def _found(kind: str, value: Any) -> str:
    """What stands there instead: numbers as they are, of texts and the like no more than that they are such."""
    if kind == "missing":
        return ""
    if value is None or isinstance(value, bool | int | float):
        return f", not {json.dumps(value)[:40]}"
    names: dict[type, str] = {str: "a string", list: "a list", dict: "an object"}
    return f", not {names[type(value)]}" if kind.endswith("_type") and type(value) in names else ""


def _place(loc: Sequence[str | int], body: Any, missing: bool) -> list[str]:
    """Where in the body something is wrong, or missing, without the names that pydantic gives to sides of a union."""
    place: list[str] = []
    for depth, part in enumerate(loc, 1):
        if isinstance(body, dict) and part in body:
            body = body[part]
        elif isinstance(body, list) and isinstance(part, int):
            body = body[part] if part < len(body) else None
        elif depth < len(loc) or not missing:
            continue
        place.append(str(part)[:80])
    return place


def _no_route(request: Request, error: HTTPException) -> Response:
    """What the router refuses: an address nobody serves, or a method it does not take."""
    codes = {404: "unknown_url", 405: "method_not_allowed"}
    what, expected, fix = str(error.detail)[:300], None, None
    if error.status_code == 405:
        what, expected = f"{request.method} is not for this address", (error.headers or {}).get("Allow")
    elif error.status_code == 404:
        what = "there is nothing at this address"
        fix = _base_url(request.url.path)
    refusal = BadRequest(what, expected=expected, fix=fix, code=codes.get(error.status_code), status=error.status_code)
    response = _refused(request, refusal)
    response.headers.update(error.headers or {})
    return response


def _base_url(path: str) -> str | None:
    """What clients of OpenAI, and of the others, are often given wrong."""
    if path.startswith(("/chat/completions", "/completions", "/embeddings", "/models", "/responses")):
        return "end the client's base URL with /v1"
    return "end the client's base URL before /v1" if path.startswith(("/v1/v1/", "/v1/api/")) else None


def _gone(request: Request, error: Exception) -> Response:
    return gone_response()
