"""/login and /logout for browsers, and /session: who the server takes the caller for."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from paddock.serve.access import Asker, cookies, open_to_all
from paddock.serve.login import clear_cookie, login_page, set_cookie
from paddock.serve.server import Here

router = APIRouter(include_in_schema=False)


@router.post("/login")
@open_to_all
async def login(request: Request, server: Here) -> Response:
    """Takes a key out of a form, and gives a session for it. What was typed never comes back."""
    fields = parse_qs((await request.body()).decode("utf-8", "replace"))
    key = fields.get("key", [""])[0].strip()
    caller = None if server.access.open else server.access.owner(key.encode("utf-8", "replace"))
    if caller is None and not server.access.open:
        return login_page(request.headers.get("accept-language", ""), wrong=True)
    response = RedirectResponse("/", status_code=303)
    if caller is not None:
        session = server.access.sessions.begin(caller)
        response.headers["Set-Cookie"] = set_cookie(session, request.url.scheme == "https")
    return response


@router.post("/logout")
async def logout(request: Request, server: Here) -> Response:
    """Ends the browser's session."""
    for session in cookies(request.headers.raw):
        server.access.sessions.end(session)
    response = RedirectResponse("/", status_code=303)
    response.headers["Set-Cookie"] = clear_cookie(request.url.scheme == "https")
    return response


@router.get("/session")
async def session(request: Request, caller: Asker) -> dict[str, str | bool]:
    """The caller's name, whether it is an administrator's, and how it is known: "key", "cookie" or "open"."""
    return {"name": caller.name, "admin": caller.admin, "by": request.state.way}
