"""Requests to a hub: bounded, patient within limits, and with the token for the hub alone.

The hub's own library is not asked to fetch: what it fetched is thrown away when it stops, it checks lengths and not
hashes, its transfers of large files run in a second program with sockets of its own, it says to the hub which
Python, which PyTorch and which coding agent is there, and asks the hub for a list of agents to find that out.
"""

from __future__ import annotations

import contextlib
import email.utils
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from paddock import __version__
from paddock.checkpoint import jsonfile
from paddock.checkpoint.hub.settings import Settings, shown_address
from paddock.errors import AccessError, NotFoundError, OverloadError, PaddockError, ServiceError, UsageError

MAX_LISTING = 32 * 2**20
MAX_REDIRECTS = 5
SLOWEST = 1024  # bytes a second below which a connection counts as dead
_RANGE = re.compile(r"bytes (\d{1,16})-(\d{1,16})/(\d{1,16}|\*)")


@dataclass(frozen=True)
class Patience:
    """How often to try again, and how long to wait before. Seconds.

    tries: failures in a row that are too many; enough: bytes that count as progress, after which counting begins anew.
    retry_after: the longest wait that a server may ask for.
    """

    tries: int = 6
    first: float = 1.0
    longest: float = 30.0
    retry_after: float = 300.0
    enough: int = 1 << 16
    sleep: Callable[[float], None] = time.sleep


class Transient(Exception):
    """Something that may go better the next time. wait: seconds that the server asks for; restart: what was begun is
    of no use; error: what it is where it does not go better."""

    def __init__(self, error: PaddockError, wait: float | None = None, restart: bool = False) -> None:
        super().__init__(error.what)
        self.error, self.wait, self.restart = error, wait, restart


class Hub:
    """A connection to one hub, for a `with` block. `told` hears why it waits."""

    def __init__(
        self,
        settings: Settings,
        patience: Patience | None = None,
        told: Callable[[str], None] = lambda text: None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if settings.offline:
            raise UsageError("HF_HUB_OFFLINE is set: nothing is asked of a hub", fix="unset it, and pull again")
        self.settings, self.patience, self.told = settings, patience or Patience(), told
        self.reached = False  # whether the hub answered once
        # Redirects are followed by hand, as the token must not follow them. Proxies are those of the environment.
        self._client = httpx.Client(
            timeout=httpx.Timeout(settings.stall, connect=min(10.0, settings.stall)),
            headers={"User-Agent": f"paddock/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"},
            follow_redirects=False,
            transport=transport,
        )

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *unused: object) -> None:
        self._client.close()

    def json(self, path: str) -> dict[str, Any]:
        """What the hub's interface says at `path`, an object."""
        tries = Tries(self)
        while True:
            try:
                with self._open("GET", f"{self.settings.endpoint}{path}") as response:
                    return _parsed(self._read(response))
            except Transient as problem:
                tries.failed(problem)

    def head(self, url: str) -> httpx.Headers:
        """What the hub itself says of a file, before it sends anybody elsewhere."""
        tries = Tries(self)
        while True:
            try:
                with self._open("HEAD", url) as response:
                    return response.headers
            except Transient as problem:
                tries.failed(problem)

    @contextlib.contextmanager
    def body(self, url: str, start: int, end: int, size: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Bytes `start` to `end` of a file of `size`: where they begin (0 from a server that knows no ranges), and
        the bytes. Raises Transient for whatever is cut, stalls or is not what was asked for."""
        ranged = start > 0 or end < size
        with self._open("GET", url, {"Range": f"bytes={start}-{end - 1}"} if ranged else {}) as response:
            begins, length = _extent(response, start, end, size)
            yield begins, self._pieces(response, length)

    @contextlib.contextmanager
    def _open(self, method: str, url: str, headers: dict[str, str] | None = None) -> Iterator[httpx.Response]:
        """The answer behind all redirects, 200 or 206. Raises Transient or a PaddockError for any other."""
        with contextlib.ExitStack() as stack:
            try:
                for _ in range(MAX_REDIRECTS + 1):
                    response = stack.enter_context(self._client.stream(method, url, headers=self._for(url, headers)))
                    self.reached = True
                    target = response.headers.get("Location") if response.is_redirect else None
                    if target is None:
                        break
                    following = _followed(url, target)
                    if method == "HEAD" and not _same_origin(following, self.settings.endpoint):
                        break
                    url = following
                else:
                    raise ServiceError(f"{self._name} sends from one address to the next without end")
                if not (response.is_success or (method == "HEAD" and response.is_redirect)):
                    raise self._refusal(response)
                yield response
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict) as error:
                raise self._failure(error, url) from None

    def _for(self, url: str, headers: dict[str, str] | None) -> dict[str, str]:
        """Headers of a request: the token for the hub's own address only."""
        token = self.settings.token if _same_origin(url, self.settings.endpoint) else None
        return {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}

    @property
    def _name(self) -> str:
        return shown_address(self.settings.endpoint)

    def _read(self, response: httpx.Response) -> bytes:
        parts, length = [], 0
        for piece in response.iter_raw():
            parts.append(piece)
            length += len(piece)
            if length > MAX_LISTING:
                raise ServiceError(f"{self._name} answers with more than {MAX_LISTING >> 20} MiB", expected="a listing")
        return b"".join(parts)

    def _pieces(self, response: httpx.Response, length: int) -> Iterator[bytes]:
        host = urlsplit(str(response.url)).hostname
        came, window, since = 0, 0, time.monotonic()
        for piece in response.iter_raw():
            came += len(piece)
            if came > length:
                raise Transient(ServiceError(f"{host} sends more bytes than the file has"), restart=True)
            yield piece
            window, now = window + len(piece), time.monotonic()
            if now - since >= self.settings.stall:
                if window < SLOWEST * (now - since):
                    raise Transient(ServiceError(f"{host} sends almost nothing"))
                window, since = 0, now
        if came < length:
            raise Transient(ServiceError(f"{host} stopped in the middle of the file"))

    def _failure(self, error: Exception, url: str) -> Transient | ServiceError:
        """What a connection's end means. Of the libraries' messages only those are quoted that hold no header."""
        host = urlsplit(url).hostname or "the hub"
        if isinstance(error, httpx.TimeoutException):
            return Transient(ServiceError(f"{host} was silent for {self.settings.stall:g} seconds", fix=LATER))
        if isinstance(error, httpx.ProxyError):
            return ServiceError(f"the proxy on the way to {host} refuses", fix="look at HTTPS_PROXY and NO_PROXY")
        if isinstance(error, httpx.ConnectError):
            reason = self.settings.redacted(str(error))[:200]
            if "CERTIFICATE" in reason.upper():
                return ServiceError(f"{host} has a certificate that is not trusted here: {reason}", fix=CERTIFICATES)
            return Transient(ServiceError(f"{host} cannot be reached: {reason}", fix=UNREACHED))
        if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
            return Transient(ServiceError(f"the connection to {host} broke", fix=LATER))
        return ServiceError(f"{host} cannot be asked: {type(error).__name__}", fix="look at HF_ENDPOINT")

    def _refusal(self, response: httpx.Response) -> Transient | PaddockError:
        """What a status other than success means."""
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        host = urlsplit(str(response.url)).hostname
        if status == 416:
            return Transient(ServiceError(f"{host} has no such part of the file"), restart=True)
        if status == 429:
            wait = _retry_after(response.headers.get("Retry-After"))
            full = OverloadError(f"{host} takes no more requests for now", retry_after=int(wait or 60), fix=LATER)
            return Transient(full, wait)
        if status >= 500 or status == 408:
            wait = _retry_after(response.headers.get("Retry-After"))
            return Transient(ServiceError(f"{host} fails: it answers {status}", fix=LATER), wait)
        if status in (401, 403) and not _same_origin(str(response.url), self.settings.endpoint):
            return Transient(ServiceError(f"{host} does not give the file out: it answers {status}", fix=LATER))
        if code in ("RepoNotFound", "RevisionNotFound", "EntryNotFound") or status in (404, 410):
            return Missing(code, self.settings.token is not None, self._name)
        if status in (401, 403):
            return Closed(code == "GatedRepo", self.settings.token is not None, self._name)
        said = self.settings.redacted(response.headers.get("X-Error-Message", ""))[:200]
        return ServiceError(f"{host} answers {status}" + (f": {said}" if said else ""), fix="look at HF_ENDPOINT")


LATER = "pull again later: what came is kept, and it goes on from there"
UNREACHED = "look at the network, the proxy and HF_ENDPOINT; models that are here already need none of them"
CERTIFICATES = "if a proxy of yours is in between, name its certificates with SSL_CERT_FILE"


class Missing(NotFoundError):
    """There is no such repository, revision or file; or, without a token, none that may be seen."""

    def __init__(self, code: str, token: bool, name: str) -> None:
        kind = {"RevisionNotFound": "revision", "EntryNotFound": "file"}.get(code, "model")
        hidden = "" if token or kind != "model" else ", or it is private and HF_TOKEN is not set"
        super().__init__(f"{name} has no such {kind}{hidden}")
        self.kind = kind


class Closed(AccessError):
    """The hub wants to know who asks, or has been told and does not let them."""

    def __init__(self, gated: bool, token: bool, name: str) -> None:
        if not token:
            what, fix = "gives this model out only to who is known there", f"make a token at {name}/settings/tokens"
            fix += " and set HF_TOKEN to it"
        else:
            what, fix = "does not give this model to the owner of the token", f"look at {name}/settings/tokens"
        super().__init__(f"{name} {what}", known=token, fix=fix)
        self.gated = gated


class Tries:
    """Failures in a row, and the waits between them."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.count = hub, 0

    def failed(self, problem: Transient, progress: bool = False) -> None:
        """Waits, or raises what the problem is where it is one too many."""
        patience = self.hub.patience
        self.count = 1 if progress else self.count + 1
        # Where there is no network at all, nobody wants to wait half a minute to hear it.
        most = patience.tries if self.hub.reached else min(2, patience.tries)
        wait = min(patience.first * 2 ** (self.count - 1), patience.longest) if problem.wait is None else problem.wait
        if self.count >= most or wait > patience.retry_after:
            if problem.wait is not None and wait > patience.retry_after:
                problem.error.what += f", and asks to wait {wait:.0f} seconds"
            elif self.count > 1:
                problem.error.what += f"; tried {self.count} times"
            raise problem.error from None
        self.hub.told(f"{problem.error.what}; trying again in {wait:.0f} s")
        patience.sleep(wait)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        return jsonfile.parse(data, "the hub's answer")
    except PaddockError as error:
        raise ServiceError(error.what, fix="look at HF_ENDPOINT: this may be no hub") from None


def _extent(response: httpx.Response, start: int, end: int, size: int) -> tuple[int, int]:
    """Where the bytes of an answer begin, and how many there will be. Raises Transient for others than asked for."""
    host = urlsplit(str(response.url)).hostname
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ServiceError(
            f"{host} sends the file packed, though asked not to", fix="look at HF_ENDPOINT and the proxy"
        )
    begins, length = 0, size
    if response.status_code == 206:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not match or int(match[1]) != start or int(match[2]) != end - 1 or match[3] not in ("*", str(size)):
            raise Transient(ServiceError(f"{host} sends another part of the file than asked for"), restart=True)
        begins, length = start, end - start
    told = response.headers.get("Content-Length")
    if told is not None and told != str(length):
        raise Transient(ServiceError(f"{host} announces {told[:20]} bytes", expected=str(length)), restart=True)
    return begins, length


def _followed(url: str, target: str) -> str:
    """Where a redirect leads. Raises ServiceError for anything but the web, and for a way from https to http."""
    following = ""
    try:
        following = urljoin(url, target)
        parts = urlsplit(following)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and len(following) < 16384
    except ValueError:
        sound = False
    if not sound or (url.startswith("https:") and not following.startswith("https:")):
        raise ServiceError(f"{urlsplit(url).hostname} sends to an address that is not followed", expected="https")
    return following


def _same_origin(url: str, other: str) -> bool:
    one, two = httpx.URL(url), httpx.URL(other)
    return (one.scheme, one.host, _port(one)) == (two.scheme, two.host, _port(two))


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _retry_after(text: str | None) -> float | None:
    """Seconds that a server asks to wait, said as a number or as a date."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}", text.strip()):
        return float(text)
    try:
        then = email.utils.parsedate_to_datetime(text)
        return max(0.0, then.timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
