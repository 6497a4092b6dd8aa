"""The ASGI application: routes, refusals, and the guards in front of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from paddock import __version__
from paddock.errors import NotFoundError, PaddockError
from paddock.serve.refusals import BadRequest, body_of, headers_of, status_of
from paddock.serve.routes import chat, embeddings, health, models, rank, tokens
from paddock.serve.server import Server
from paddock.serve.streaming import ClientGone, gone_response

ROUTERS = (health.router, models.router, chat.router, embeddings.router, rank.router, tokens.router)


def make_app(server: Server) -> FastAPI:
    """The application of `server`, which it closes at its end."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            server.close()

    app = FastAPI(title="Paddock", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.server = server
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(PaddockError, _refused)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _no_route)  # type: ignore[arg-type]
    app.add_exception_handler(ClientGone, _gone)
    app.add_exception_handler(Exception, _broken)
    return app


def _refused(request: Request, error: PaddockError) -> Response:
    return JSONResponse(body_of(error, request.scope["path"]), status_of(error), headers_of(error))


def _invalid(request: Request, error: RequestValidationError) -> Response:
    """Pydantic's first complaint, in OpenAI's form."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    param = ".".join(place) or None
    return _refused(request, BadRequest(f"{param or 'the body'}: {first['msg'][:300]}", param=param))


def _no_route(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404:
        return _refused(request, NotFoundError("there is no such page"))
    return _refused(request, BadRequest(str(error.detail)[:300], status=error.status_code))


def _gone(request: Request, error: Exception) -> Response:
    return gone_response()


def _broken(request: Request, error: Exception) -> Response:
    return _refused(request, PaddockError("the server failed at this request"))
