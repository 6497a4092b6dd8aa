"""Who asks. A server with keys answers nobody without one; a server without keys is its own machine's alone.

    guards.Gate   before all routes: no caller, no way in, whatever the address or method, known or not
    `admitted`    on the router: the same once more for the route that was matched, and what only administrators may

Keys are kept as their SHA-256 alone. Every comparison of secrets takes the same time, whichever key it was.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Request

from paddock.errors import AccessError, InputError, UsageError
from paddock.serve.login import COOKIE, Sessions

ADMIN = "/v1/admin"  # only administrators' keys open what lies below
SHORTEST, LONGEST = 8, 256  # characters of a key
LARGEST_FILE = 2**20
_SHA256 = re.compile(r"sha256:([0-9a-fA-F]{64})")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY = re.compile(rf"[!-~]{{{SHORTEST},{LONGEST}}}")
MOST = 10**6  # of any limit

Header = tuple[bytes, bytes]
Way = Literal["key", "cookie", "open"]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True)
class Key:
    """A key as it is kept. in_flight, per_minute: limits of its own; None is the server's."""

    name: str
    digest: bytes = field(repr=False)
    admin: bool = False
    in_flight: int | None = None
    per_minute: int | None = None


@dataclass(frozen=True)
class Caller:
    """Who a request comes from. salt: nobody of another salt learns what the prefix cache knows."""

    name: str
    admin: bool = False
    salt: str = field(default="", repr=False)
    in_flight: int | None = None
    per_minute: int | None = None


ANYBODY = Caller("anybody")
_caller: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)
bind = _caller.set
release = _caller.reset


def current() -> Caller:
    """Whose request is being answered; tasks and threads that a request starts know it too."""
    return _caller.get()


class Access:
    """The keys of a server, and the browsers that showed one."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        names, digests = [key.name for key in keys], [key.digest for key in keys]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two keys are called {name!r}", fix="name each key differently")
        if len(set(digests)) < len(digests):
            raise UsageError("two names have the same key", fix="give everybody a key of their own")
        start = secrets.token_hex(16)
        self._callers = [
            (key.digest, Caller(key.name, key.admin, f"{start}:{key.name}", key.in_flight, key.per_minute))
            for key in keys
        ]
        self.sessions: Sessions[Caller] = Sessions()

    @property
    def open(self) -> bool:
        """Whether there are no keys."""
        return not self._callers

    def owner(self, key: bytes) -> Caller | None:
        """Whose key it is. Compares with every one, so that the time taken tells of none."""
        digest, found = hashlib.sha256(key).digest(), None
        for known, caller in self._callers:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def identify(self, headers: Iterable[Header]) -> tuple[Caller | None, Way]:
        """The caller, if there is one, and how that is known. A key counts before a cookie, even a wrong one."""
        if self.open:
            return ANYBODY, "open"
        headers = list(headers)
        keys = presented(headers)
        if keys:
            return (self.owner(keys.pop()) if len(keys) == 1 else None), "key"
        for session in cookies(headers):
            if (caller := self.sessions.find(session)) is not None:
                return caller, "cookie"
        return None, "key"


def presented(headers: Iterable[Header]) -> set[bytes]:
    """The keys in a request's headers: OpenAI's bearer, Anthropic's x-api-key. Two that differ are a mistake."""
    found: set[bytes] = set()
    for name, value in headers:
        if name == b"x-api-key":
            found.add(value.strip())
        elif name == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                found.add(rest.strip())
    return found


def cookies(headers: Iterable[Header]) -> list[str]:
    """The sessions that a browser names, at most four."""
    pairs = [pair.strip() for name, value in headers if name == b"cookie" for pair in value.split(b";")]
    prefix = COOKIE.encode() + b"="
    return [pair[len(prefix) :].decode("latin-1") for pair in pairs if pair.startswith(prefix)][:4]


_OPEN: set[Callable[..., Any]] = set()


def open_to_all(endpoint: Endpoint) -> Endpoint:
    """Marks a route that needs no key; `guards.OPEN` names its address."""
    _OPEN.add(endpoint)
    return endpoint


async def admitted(request: Request) -> None:
    """On every route: raises AccessError unless its caller may use it."""
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None and request.scope.get("endpoint") not in _OPEN:
        raise no_key()
    if request.scope["path"].startswith(ADMIN):
        check_admin(caller)


async def _asker(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


async def _administrator(request: Request) -> Caller:
    return check_admin(request.state.caller)


Asker = Annotated[Caller, Depends(_asker)]
Administrator = Annotated[Caller, Depends(_administrator)]  # for routes outside of ADMIN


def check_admin(caller: Caller | None) -> Caller:
    """Raises AccessError unless the caller's key is an administrator's."""
    if caller is None:
        raise no_key()
    if not caller.admin:
        what = "this needs an administrator's key"
        fix = "start the server with --admin-key" if caller is ANYBODY else "use a key given with --admin-key"
        raise AccessError(what, known=True, fix=fix)
    return caller


def no_key() -> AccessError:
    return AccessError(
        "the request has no key, or one that this server does not know", fix="send Authorization: Bearer KEY"
    )


def keys_of(api_keys: Sequence[str], api_key_file: Path | None, admin_keys: Sequence[str]) -> list[Key]:
    """The keys an operator gave: `key` or `sha256:HEX` each, and a file of named ones.

    Raises UsageError for a key nobody should use, InputError for a file that cannot be read.
    """
    found = [Key(f"key-{place}", _digest(key)) for place, key in enumerate(api_keys, 1)]
    found += [Key(f"admin-{place}", _digest(key), admin=True) for place, key in enumerate(admin_keys, 1)]
    return found + (read_keys(api_key_file) if api_key_file is not None else [])


def sealed(keys: Sequence[str]) -> tuple[str, ...]:
    """The same keys by their hashes alone. Raises UsageError as keys_of."""
    return tuple(f"sha256:{_digest(key).hex()}" for key in keys)


def read_keys(path: Path) -> list[Key]:
    """Keys of a file, one a line: `name:key` or `name:sha256:HEX`, then perhaps `limit=N` (requests at once),
    `per_minute=N`, `admin`. Empty lines and those that begin with # say nothing. Raises InputError."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        lines = data.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = f"{path} is missing" if isinstance(error, FileNotFoundError) else f"{path} cannot be read as text"
        raise InputError(what, expected="a text file with a line name:key for each key") from None
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path}: more than {LARGEST_FILE} bytes of keys")
    found = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            try:
                found.append(_parsed(words))
            except UsageError as error:  # tells of the place and the fault, never of the line
                raise InputError(f"{path}, line {number}: {error.what}", expected=error.expected) from None
    if not found:
        raise InputError(f"{path}: there is no key in it", expected="a line name:key")
    return found


def _parsed(words: list[str]) -> Key:
    name, colon, key = words[0].partition(":")
    if not colon or not _NAME.fullmatch(name) or name == "sha256":
        raise UsageError("no name before the key", expected="name:key, the name of letters, digits and . _ -")
    values: dict[str, int] = {}
    admin = False
    for word in words[1:]:
        option, _, number = word.partition("=")
        if option == "admin" and not number and not admin:
            admin = True
        elif option in ("limit", "per_minute") and option not in values and _is_count(number):
            values[option] = int(number)
        else:
            raise UsageError("an option that is not known", expected="limit=N, per_minute=N or admin, each once")
    return Key(name, _digest(key), admin, values.get("limit"), values.get("per_minute"))


def _is_count(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 8 and 0 < int(word) <= MOST


def _digest(key: str) -> bytes:
    if given := _SHA256.fullmatch(key):
        return bytes.fromhex(given[1])
    if not _KEY.fullmatch(key) or key.startswith("sha256:"):
        raise UsageError(
            "a key is not one that can be used",
            expected=f"{SHORTEST} to {LONGEST} printable ASCII characters without spaces, or sha256: and 64 hex digits",
            fix='make one: python -c "import secrets; print(secrets.token_urlsafe(32))"',
        )
    return hashlib.sha256(key.encode("ascii")).digest()
