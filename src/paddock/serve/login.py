"""How a browser shows its key once: a page that asks for it, and the sessions that stand for it afterwards.

The page needs no script and nothing from outside; its policy allows its own style and its own form, no more.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from html import escape
from typing import Generic, TypeVar

from starlette.responses import Response

COOKIE = "paddock_session"
LASTS = 12 * 3600.0  # seconds
MOST_SESSIONS = 1024
Owner = TypeVar("Owner")


class Sessions(Generic[Owner]):
    """Random ids that browsers hold, and whom each stands for. Kept by their SHA-256, in memory only."""

    def __init__(self, most: int = MOST_SESSIONS, lasts: float = LASTS, clock: Callable[[], float] = time.monotonic):
        self.most, self.lasts = most, lasts
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Owner]] = OrderedDict()  # the oldest first, as all last as long

    def __len__(self) -> int:
        return len(self._known)

    def begin(self, owner: Owner) -> str:
        """A new id. The oldest session ends where there are too many."""
        now = self._clock()
        while self._known and (len(self._known) >= self.most or next(iter(self._known.values()))[0] <= now):
            self._known.popitem(last=False)
        session = secrets.token_urlsafe(32)
        self._known[_digest(session)] = (now + self.lasts, owner)
        return session

    def find(self, session: str) -> Owner | None:
        """Whom it stands for; None once it has ended, or if it never was."""
        ends, owner = self._known.get(_digest(session), (0.0, None))
        return owner if self._clock() < ends else None

    def end(self, session: str) -> None:
        self._known.pop(_digest(session), None)


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode("latin-1", "replace")).digest()


def set_cookie(session: str, secure: bool) -> str:
    """The Set-Cookie header. `secure`: the request came over TLS; without it a browser would drop a Secure cookie."""
    return _cookie(session, int(LASTS), secure)


def clear_cookie(secure: bool) -> str:
    return _cookie("", 0, secure)


def _cookie(value: str, seconds: int, secure: bool) -> str:
    ending = "; Secure" if secure else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{ending}"


TEXTS = {
    "en": {
        "title": "Paddock: sign in",
        "why": "This server answers only with a key. Whoever runs it can give you one.",
        "label": "Key",
        "button": "Sign in",
        "wrong": "This is not a key of this server.",
    },
    "zh": {
        "title": "Paddock：登录",
        "why": "此服务器需要密钥才能使用，请向管理员索取。",
        "label": "密钥",
        "button": "登录",
        "wrong": "密钥不正确。",
    },
    "ms": {
        "title": "Paddock: log masuk",
        "why": "Pelayan ini hanya menjawab dengan kunci. Mintalah kunci daripada pentadbirnya.",
        "label": "Kunci",
        "button": "Log masuk",
        "wrong": "Kunci ini bukan kunci pelayan ini.",
    },
}
_TAGS = {"en": "en", "zh": "zh-Hans", "ms": "ms"}
# The colours are those of the web interface (web/src/styles/page.css).
_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.55 system-ui, sans-serif; --accent: light-dark(#2f6b4f, #8fd0ae); }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: light-dark(#fbfaf7, #17191a);
  color: light-dark(#1d2321, #e7e9e6); }
main { width: min(22rem, calc(100vw - 2rem)); }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; }
form { display: grid; gap: .5rem; }
input, button { box-sizing: border-box; min-height: 2.75rem; padding: .6rem; border: 1px solid; border-radius: .625rem;
  font: inherit; }
input { border-color: light-dark(#8a908c, #757d79); background: light-dark(#ffffff, #1f2224); color: inherit; }
button { cursor: pointer; border-color: var(--accent); background: var(--accent); color: light-dark(#ffffff, #10231a);
  font-weight: 600; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
[role=alert] { margin: 0; color: light-dark(#a3261b, #ff9d92); font-weight: 600; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def page(accepted: str, wrong: bool = False) -> bytes:
    """The page, in the best of the languages that an Accept-Language header names. `wrong`: a key was tried in vain."""
    language = best_language(accepted)
    text = {name: escape(words) for name, words in TEXTS[language].items()}
    told, described = (f'<p role="alert" id="wrong">{text["wrong"]}</p>\n', ' aria-describedby="wrong"')
    return f"""<!doctype html>
<html lang="{_TAGS[language]}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text["title"]}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{text["title"]}</h1>
<p>{text["why"]}</p>
<form method="post" action="/login">
<label for="key">{text["label"]}</label>
<input id="key" name="key" type="password" autocomplete="current-password" required{described if wrong else ""}>
{told if wrong else ""}<button type="submit">{text["button"]}</button>
</form>
</main>
</body>
</html>
""".encode()


def login_page(accepted: str, wrong: bool = False) -> Response:
    """The page as the 401 it is."""
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store", "WWW-Authenticate": "Bearer"}
    return Response(page(accepted, wrong), 401, headers, media_type="text/html")


_RANGE = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,32})?\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?))?\s*")


def best_language(accepted: str) -> str:
    """The language of TEXTS that the header likes best; English where it names none of them."""
    best, liked = "en", 0.0
    for part in accepted[:1000].split(","):
        if found := _RANGE.fullmatch(part):
            language, weight = found[1].lower(), float(found[2] or 1)
            if language in TEXTS and weight > liked:
                best, liked = language, weight
    return best
