"""What every request passes before a route sees it, from the outside in:

    Outermost   a request id, security headers, refusals and failures as responses
    Hosts       only names this server goes by: a page of another origin cannot reach it through DNS
    Cors        which other origins' pages may read answers: none unless named
    Gate        who asks; nobody without a key passes but to OPEN
    Limited     how much one caller may ask for (`limits.py`)
    Bodies      a body of bounded size that arrives in time and is the JSON it claims to be

All are plain ASGI: they see streams piece by piece and hold nothing back.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import traceback
import uuid
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paddock.errors import AccessError, PaddockError, UsageError
from paddock.serve import access
from paddock.serve.access import Access, Header
from paddock.serve.login import login_page
from paddock.serve.refusals import BadRequest, body_of, broken, headers_of, status_of
from paddock.serve.wire import check_json

OPEN = frozenset({("GET", "/health"), ("GET", "/ready"), ("POST", "/login")})  # need no key
FORM = "/login"  # the one address whose body is a form
BODY_BYTES, FORM_BYTES = 8 * 2**20, 4096
BODY_SECONDS = 20.0  # for a body to arrive
MAX_HEADERS, HEADER_BYTES = 100, 32 * 1024
LONG_BODY = 2**16  # bytes from which on a body is checked beside the loop
UNREAD = (408, 413)  # after these the rest of a body may still come
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_HEADER_NAME = re.compile(rb"[A-Za-z0-9-]{1,64}")
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
HEADERS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # with no-referrer a browser says `Origin: null` of our own login form
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
log = logging.getLogger("paddock.serve")


def check_choices(origins: Sequence[str], hosts: Sequence[str]) -> None:
    """Raises UsageError for what is no origin (`null` and `*` are none), or no name a request may call a server by."""
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise UsageError(
                f"--cors-origin {origin!r}", expected="an origin such as https://app.example.org, in small letters"
            )
    for host in hosts:
        if host != "*" and not ((found := _HOST.fullmatch(host)) and found[1] == host) and not _is_address(host):
            raise UsageError(
                f"--allowed-host {host!r}", expected="a name or an address, without scheme and port, or * for any"
            )


class Outermost:
    """Gives each request an id and each response its headers; what is raised below becomes a response here.

    quoting: the log may hold prompts, and so the messages of failures.
    """

    def __init__(self, app: ASGIApp, quoting: bool = False) -> None:
        self.app, self.quoting = app, quoting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no route here speaks anything else
            await send({"type": "websocket.close", "code": 1008})
            return
        state = scope.setdefault("state", {})
        id = state["request_id"] = request_id(scope["headers"])
        state["headers"] = []
        started = False

        async def dressed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                own = list(message.get("headers", ()))
                message = {**message, "headers": [*own, *_added(own, id), *state["headers"]]}
            await send(message)

        try:
            check_headers(scope["headers"])
            await self.app(scope, receive, dressed)
        except Exception as error:
            refusal = error if isinstance(error, PaddockError) else broken(id)
            if started or refusal is not error:
                tell(id, error, self.quoting)
            if not started:
                await refuse(scope, dressed, refusal)


def request_id(headers: Iterable[Header]) -> str:
    """The client's own where it is harmless, else a new one."""
    given = [value for name, value in headers if name == b"x-request-id"]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode("ascii")
    return uuid.uuid4().hex


def tell(id: str, error: BaseException, quoting: bool = False) -> None:
    """What broke and where, into the server's log; its message, which may quote a prompt, where that may be."""
    lines = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    said = f": {str(error)[:2000]!a}" if quoting else ""
    log.error("request %s failed with %s%s\n%s", id, type(error).__name__, said, lines)


async def refuse(scope: Scope, send: Send, error: PaddockError) -> None:
    body = json.dumps(body_of(error, scope["path"])).encode()
    headers = [(name.lower().encode(), value.encode()) for name, value in headers_of(error).items()]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    status = status_of(error)
    if status in UNREAD:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _added(own: Sequence[Header], id: str) -> list[Header]:
    """Security headers that the response does not set itself."""
    names = {name.lower() for name, _ in own}
    page = any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in own)
    policy = (b"content-security-policy", (PAGE_POLICY if page else DATA_POLICY).encode())
    return [(b"x-request-id", id.encode()), *(header for header in (*HEADERS, policy) if header[0] not in names)]


def check_headers(headers: Sequence[Header]) -> None:
    if len(headers) > MAX_HEADERS:
        raise BadRequest(f"{len(headers)} headers", expected=f"at most {MAX_HEADERS}", status=431)
    size = sum(len(name) + len(value) for name, value in headers)
    if size > HEADER_BYTES:
        raise BadRequest(f"{size} bytes of headers", expected=f"at most {HEADER_BYTES}", status=431)


class Hosts:
    """Lets through requests for names this server goes by. Raises AccessError for others.

    A page that makes its own name point here still names itself in the Host header. Addresses cannot be pointed
    anywhere: a server that listens on all of a machine's takes any.
    """

    def __init__(self, app: ASGIApp, host: str, allowed: Sequence[str]) -> None:
        self.app = app
        self.any = "*" in allowed
        self.addresses = _is_address(host) and ipaddress.ip_address(host).is_unspecified
        named = {"localhost", "127.0.0.1", "::1", *(name.strip("[]") for name in (host, *allowed))}
        self.names = {name.lower().removesuffix(".") for name in named}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.goes_by(_values(scope["headers"], b"host")):
            raise AccessError(
                "this server does not go by the name in the Host header",
                known=True,
                fix="use localhost, or start it with --allowed-host NAME",
            )
        await self.app(scope, receive, send)

    def goes_by(self, hosts: Sequence[str]) -> bool:
        found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            return False
        name = found[1].strip("[]").lower().removesuffix(".")
        return self.any or name in self.names or (self.addresses and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Cors:
    """Answers the question browsers ask before they send another origin's request, and lets named origins read
    answers. Never with credentials: such pages bring a key of their own."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self.app, self.origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.origins or scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: list[Header] = scope["state"]["headers"]
        headers.append((b"vary", b"Origin"))
        origins = _values(scope["headers"], b"origin")
        if len(origins) == 1 and origins[0] in self.origins:
            headers.append((b"access-control-allow-origin", origins[0].encode()))
            if scope["method"] == "OPTIONS" and _values(scope["headers"], b"access-control-request-method"):
                await _preflight(scope, send)
                return
            headers.append((b"access-control-expose-headers", b"X-Request-Id, X-Paddock-Ignored, Retry-After"))
        await self.app(scope, receive, send)


async def _preflight(scope: Scope, send: Send) -> None:
    asked = b",".join(v for name, v in scope["headers"] if name == b"access-control-request-headers")
    names = [name for part in asked.split(b",") if _HEADER_NAME.fullmatch(name := part.strip())]
    headers = [
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (b"access-control-allow-headers", b", ".join(names)),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class Gate:
    """Finds out who asks. Raises AccessError for whoever has no key, whatever they ask for but OPEN.

    A browser sends a cookie, and reaches an open server, without its user's doing: then what changes or computes
    something must come from a page of this server, or of an origin that was named.
    """

    def __init__(self, app: ASGIApp, access: Access, origins: Sequence[str]) -> None:
        self.app, self.access, self.origins = app, access, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, method, path = scope["headers"], scope["method"], scope["path"]
        caller, way = self.access.identify(headers)
        if caller is None and (method, path) not in OPEN:
            if method == "GET" and path == "/" and _wants_page(headers):
                await login_page(", ".join(_values(headers, b"accept-language")))(scope, receive, send)
                return
            raise access.no_key()
        scope["state"].update(caller=caller, way=way)  # before any refusal: the access log tells whose it was
        if path.startswith(access.ADMIN):
            access.check_admin(caller)
        if method not in SAFE and (way != "key" or path == FORM):
            self._check_origin(headers, way)
        token = access.bind(caller or access.ANYBODY)
        try:
            await self.app(scope, receive, send)
        finally:
            access.release(token)

    def _check_origin(self, headers: Iterable[Header], way: access.Way) -> None:
        headers = list(headers)
        origins, site = _values(headers, b"origin"), _values(headers, b"sec-fetch-site")
        if origins:
            ours = len(origins) == 1 and urlsplit_host(origins[0]) == _values(headers, b"host")[0].lower()
            if ours or (way == "open" and set(origins) <= self.origins):
                return
        elif site in ([], ["same-origin"], ["none"]) and (site or way != "cookie"):
            return
        raise AccessError(
            "this request comes from a page of another origin",
            known=True,
            fix="send a key in a header, or start the server with --cors-origin ORIGIN",
        )


def urlsplit_host(origin: str) -> str | None:
    """host:port of an http or https origin; None for anything else, `null` for one."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    plain = parts.scheme in ("http", "https") and origin.lower() == f"{parts.scheme}://{parts.netloc}".lower()
    return parts.netloc.lower() if plain else None


def _wants_page(headers: Iterable[Header]) -> bool:
    return any("text/html" in value for value in _values(headers, b"accept"))


class Bodies:
    """Reads a request's body whole before its route is called, and gives it on as one piece.

    Raises BadRequest: 413 for too much, 408 where it does not arrive, 415 for what is not JSON, 400 for what only
    claims to be. A client that hangs up meanwhile gets no answer.
    """

    def __init__(self, app: ASGIApp, limit: int = BODY_BYTES, seconds: float = BODY_SECONDS) -> None:
        self.app, self.limit, self.seconds = app, limit, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        form = scope["path"] == FORM
        body = await self._read(scope, receive, min(self.limit, FORM_BYTES) if form else self.limit)
        if body is None:
            return
        if body:
            _check_type(scope["headers"], form)
            if not form:
                await asyncio.to_thread(check_json, body) if len(body) > LONG_BODY else check_json(body)
        given = False

        async def once() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, once, send)

    async def _read(self, scope: Scope, receive: Receive, limit: int) -> bytes | None:
        declared = _values(scope["headers"], b"content-length")
        if declared and declared[0].isdigit() and int(declared[0][:20]) > limit:
            raise too_large(limit)
        body = bytearray()
        try:
            async with asyncio.timeout(self.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise too_large(limit)
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise BadRequest(f"the body did not arrive within {self.seconds:g} s", status=408) from None


def too_large(limit: int) -> BadRequest:
    return BadRequest("the body is too large", expected=f"at most {limit} bytes", status=413)


def _check_type(headers: Iterable[Header], form: bool) -> None:
    """A page of another origin may send a form or plain text unasked, but not JSON."""
    expected = "application/x-www-form-urlencoded" if form else "application/json"
    types, codings = _values(headers, b"content-type"), _values(headers, b"content-encoding")
    kind, _, rest = (types[0] if len(types) == 1 else "").partition(";")
    charset = rest.strip().lower().replace('"', "").replace(" ", "")
    if kind.strip().lower() != expected or charset not in ("", "charset=utf-8", "charset=utf8"):
        found = repr(types[0][:100]) if len(types) == 1 else "given twice" if types else "missing"
        fix = None if form else "with curl: -H 'Content-Type: application/json'"
        raise BadRequest(f"the body's Content-Type is {found}", expected=expected, status=415, fix=fix)
    if codings not in ([], ["identity"]):
        raise BadRequest("the body has a Content-Encoding", expected="none", status=415)


def _values(headers: Iterable[Header], name: bytes) -> list[str]:
    return [value.decode("latin-1") for known, value in headers if known == name]
