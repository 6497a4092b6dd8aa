"""What the environment says of the hub: the variables of its own library, read when asked and not when imported."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from paddock.errors import UsageError

ENDPOINT = "https://huggingface.co"
STALL = 30.0  # seconds of silence after which a connection counts as dead; HF_HUB_DOWNLOAD_TIMEOUT says otherwise
TRUE = {"1", "ON", "YES", "TRUE"}
MAX_TOKEN = 4096
HIDDEN = "[token]"


@dataclass(frozen=True)
class Settings:
    """endpoint: address of the hub, without a slash at its end. cache: the folder of `models--*`. token: sent to the
    endpoint and to nobody else; never shown. stall: seconds of silence that end a connection."""

    endpoint: str
    cache: Path
    offline: bool = False
    token: str | None = field(default=None, repr=False)
    stall: float = STALL

    @classmethod
    def of_environment(cls, variables: Mapping[str, str] = os.environ) -> Settings:
        """HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE and their older names.

        Raises UsageError for an address or a token that cannot be one.
        """
        offline = variables.get("HF_HUB_OFFLINE") or variables.get("TRANSFORMERS_OFFLINE") or ""
        endpoint = _address(variables.get("HF_ENDPOINT") or ENDPOINT)
        token = _token(variables)
        if token and endpoint.startswith("http:") and not is_this_machine(endpoint):
            raise UsageError(
                f"the token would travel to {shown_address(endpoint)} for everybody on the way to read",
                expected="an address that begins with https://",
                fix="change HF_ENDPOINT, or send no token: HF_HUB_DISABLE_IMPLICIT_TOKEN=1",
            )
        return cls(endpoint, cache_folder(variables), offline.upper() in TRUE, token, _stall(variables))

    def redacted(self, text: str) -> str:
        """`text` without the token, whoever wrote it: a server may send back what it got."""
        return text.replace(self.token, HIDDEN) if self.token else text


def cache_folder(variables: Mapping[str, str] = os.environ) -> Path:
    """Where the hub's library keeps its models."""
    named = variables.get("HF_HUB_CACHE") or variables.get("HUGGINGFACE_HUB_CACHE")
    return _path(named) if named else _home(variables) / "hub"


def shown_address(address: str) -> str:
    """An address for people: without user, password and query, which may be secrets."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/")


def is_this_machine(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _home(variables: Mapping[str, str]) -> Path:
    if named := variables.get("HF_HOME"):
        return _path(named)
    above = variables.get("XDG_CACHE_HOME")
    return (_path(above) if above else Path("~/.cache").expanduser()) / "huggingface"


def _path(text: str) -> Path:
    return Path(os.path.expandvars(os.path.expanduser(text)))


def _address(text: str) -> str:
    try:
        parts = urlsplit(text.strip())
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment:
        raise UsageError("HF_ENDPOINT is no address of a hub", expected=f"an address such as {ENDPOINT}")
    return text.strip().rstrip("/")


def _token(variables: Mapping[str, str]) -> str | None:
    """The token as the hub's library finds it. A value that is no token is refused without being quoted."""
    if variables.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in TRUE:
        return None
    source, text = "HF_TOKEN", variables.get("HF_TOKEN") or variables.get("HUGGING_FACE_HUB_TOKEN")
    if not text:
        named = variables.get("HF_TOKEN_PATH")
        path = _path(named) if named else _home(variables) / "token"
        source = str(path)
        try:
            with path.open("rb") as file:
                text = file.read(MAX_TOKEN + 1).decode("ascii", "replace")
        except OSError:
            return None
    text = text.strip()
    if text and (len(text) > MAX_TOKEN or not re.fullmatch(r"[!-~]+", text)):
        raise UsageError(f"{source} holds something that is no token", expected="one word of ASCII letters and signs")
    return text or None


def _stall(variables: Mapping[str, str]) -> float:
    text = variables.get("HF_HUB_DOWNLOAD_TIMEOUT")
    if not text:
        return STALL
    seconds = int(text) if re.fullmatch(r"[0-9]{1,6}", text) else 0
    if not seconds:
        raise UsageError(f"HF_HUB_DOWNLOAD_TIMEOUT is {text[:80]!r}", expected="seconds, a whole number above 0")
    return float(seconds)
