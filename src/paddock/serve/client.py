"""`paddock.Client`: a running server used like a model in process. Needs neither PyTorch nor the server's own parts.

It speaks OpenAI's API, so it works with other servers too as far as those go. What a server answers is bounded and
checked like a file: the errors it names become Paddock's own, everything else is a ServiceError.
"""

from __future__ import annotations

import base64
import contextlib
import os
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx

from paddock.errors import NotFoundError, OverloadError, UsageError, did_you_mean
from paddock.serve.exchange import (
    MAX_REFUSAL,
    Unreachable,
    body_of,
    events_of,
    parsed,
    refusal_of,
    sound,
    told,
)
from paddock.serve.results import Answer, Gathering, Piece
from paddock.serve.settings import is_loopback

if TYPE_CHECKING:
    import numpy as np

DEFAULT_URL = "http://127.0.0.1:8000"
IGNORED = "X-Paddock-Ignored"
LONGEST_WAIT = 60.0  # seconds before a second try
# Settings of `LanguageModel.generate` by their names in a request.
SETTINGS = {
    name: name
    for name in (
        "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "presence_penalty",
        "frequency_penalty", "logit_bias", "seed",
    )
} | {"min_new_tokens": "min_tokens"}  # fmt: skip

Message = Mapping[str, Any]
Result = TypeVar("Result")


class Client:
    """A connection to one server. May be used from several threads; close it, or use it in a `with` block.

    base_url: the server's address, with or without /v1; else OPENAI_BASE_URL, else this machine's port 8000. api_key:
    else PADDOCK_API_KEY, or OPENAI_API_KEY where the address came from OPENAI_BASE_URL: a key of one place is not sent
    to another. model: the one to ask, else the server's first. timeout: seconds of silence. retries: how often to try
    again where a server is full or not there; each time it waits as long as the server says. Proxies of the
    environment are not used for this machine.

    Methods raise ContextLengthError and UsageError for what cannot be meant, AccessError without the right key,
    NotFoundError for a model that is not there, OverloadError (with `retry_after`) from a server that is full or
    shuts down, ServiceError where none answers or what it says is broken, PaddockError where it failed.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        model: str | None = None,
        *,
        timeout: float = 600.0,
        retries: int = 0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        named = os.environ.get("OPENAI_BASE_URL") if base_url is None else None
        self.url = _root(base_url or named or DEFAULT_URL)
        key = api_key or os.environ.get("PADDOCK_API_KEY") or (os.environ.get("OPENAI_API_KEY") if named else None)
        if key and not (key.isascii() and key.isprintable()):
            raise UsageError("the API key has characters that no key has", fix="copy it again")
        self.model, self.retries = model, retries
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            trust_env=not is_loopback(httpx.URL(self.url).host),
            transport=transport,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url}, model={self.model!r})"

    def close(self) -> None:
        """Ends what still runs."""
        self._http.close()

    def chat(self, messages: Sequence[Message], max_new_tokens: int | None = None, **options: Any) -> Answer:
        """The answer to a conversation of {"role", "content"}, the last one a user's.

        Options: `stop`, `tools`, `logprobs` (how many likely alternatives to report), `extra` (more fields of the
        request, as they are), and settings as `LanguageModel.chat` takes them (temperature, seed, ...).
        """
        return self._whole("v1/chat/completions", _chat_body(messages, max_new_tokens, options))

    def stream_chat(self, messages: Sequence[Message], max_new_tokens: int | None = None, **options: Any) -> Stream:
        """As chat, a piece at a time."""
        return self._stream("v1/chat/completions", _chat_body(messages, max_new_tokens, options))

    def generate(self, prompt: str | Sequence[int], max_new_tokens: int | None = None, **options: Any) -> Answer:
        """Writes on after a prompt (text, or token ids). Options as for chat, and `echo`."""
        return self._whole("v1/completions", _text_body(prompt, max_new_tokens, options))

    def stream(self, prompt: str | Sequence[int], max_new_tokens: int | None = None, **options: Any) -> Stream:
        """As generate, a piece at a time."""
        return self._stream("v1/completions", _text_body(prompt, max_new_tokens, options))

    def embed(self, texts: Sequence[str], truncate: bool = False) -> np.ndarray:
        """One vector of length 1 for each text: (texts, width) float32. Too long ones are cut if `truncate` says so."""
        import numpy as np

        if isinstance(texts, str):
            raise UsageError("texts is one text", expected="a list of them")
        body: dict[str, Any] = {"input": list(texts), "encoding_format": "base64"}
        if truncate:
            body["truncate"] = True
        answer = self._post("v1/embeddings", body)
        with sound():
            return np.stack([np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in answer["data"]])

    def models(self) -> list[dict[str, Any]]:
        """What the server says of each model."""
        answer = self._get("v1/models")
        with sound():
            return list(answer["data"])

    def describe(self, model: str | None = None) -> dict[str, Any]:
        """What the server says of one model: under "paddock" its template, its context and its settings."""
        name = model or self.model or next((entry.get("id") for entry in self.models()), None)
        if not isinstance(name, str):
            raise NotFoundError("the server has no model")
        return self._get(f"v1/models/{quote(name, safe='')}")

    def tokenize(self, text: str | Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """The ids of a text, or of a conversation as the model's chat template renders it."""
        body: dict[str, Any] = {"prompt": text}
        if not isinstance(text, str):
            body = {"messages": list(text), "add_generation_prompt": add_generation_prompt}
        answer = self._post("tokenize", body)
        with sound():
            return list(answer["tokens"])

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text that ids spell, control tokens included."""
        answer = self._post("detokenize", {"tokens": list(ids)})
        with sound():
            return str(answer["prompt"])

    def _get(self, path: str) -> dict[str, Any]:
        return self._patiently(lambda: self._read("GET", path, None))

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._patiently(lambda: self._read("POST", path, body))

    def _whole(self, path: str, body: dict[str, Any]) -> Answer:
        answer, gathering = self._post(path, body), Gathering()
        with sound():
            gathering.take(answer)
            return gathering.answer()

    def _stream(self, path: str, body: dict[str, Any]) -> Stream:
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        return Stream(self._patiently(lambda: self._open("POST", path, asked)), self.url)

    def _read(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        response = self._open(method, path, body)
        with contextlib.closing(response), told(self.url):
            return parsed(body_of(response))

    def _open(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        """The response, its body still to be read. Raises what a refusal means."""
        if body is not None and self.model is not None:
            body = {"model": self.model, **body}
        with told(self.url):
            request = self._http.build_request(method, f"{self.url}/{path}", json=body)
            response = self._http.send(request, stream=True)
            if response.status_code != 200:
                with contextlib.closing(response):
                    raise refusal_of(response.status_code, response.headers, body_of(response, MAX_REFUSAL))
        if names := response.headers.get(IGNORED):
            response.close()
            raise UsageError(f"the server does not know {names[:200]}", fix="leave it out")
        return response

    def _patiently(self, ask: Callable[[], Result]) -> Result:
        """Tries again where the server is full or not there, `retries` times, when it says."""
        for left in range(self.retries, -1, -1):
            try:
                return ask()
            except (OverloadError, Unreachable) as error:
                wait = getattr(error, "retry_after", 1)
                if not left or wait > LONGEST_WAIT:
                    raise
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")


class Stream:
    """An answer as it comes: iterate it, then `completion()` is the whole. Closing or dropping it ends the answer at
    the server too."""

    def __init__(self, response: httpx.Response, url: str) -> None:
        self._gathering = Gathering()
        self._pieces = _pieces(response, url, self._gathering)
        self._closing = weakref.finalize(self, response.close)

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        return next(self._pieces)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._pieces.close()
        self._closing()

    def completion(self) -> Answer:
        """The whole answer; reads what is left of it. Raises ServiceError for one that was broken off."""
        for _ in self:
            pass
        with sound():
            return self._gathering.answer()


def _pieces(response: httpx.Response, url: str, gathering: Gathering) -> Generator[Piece, None, None]:
    with contextlib.closing(response), told(url):
        for event in events_of(response.iter_bytes()):
            with sound():
                pieces = gathering.take(event)
            yield from pieces


def _chat_body(messages: Sequence[Message], limit: int | None, options: dict[str, Any]) -> dict[str, Any]:
    logprobs = options.pop("logprobs", None)
    body = _body(limit, options, ("stop", "tools"))
    if logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": logprobs}
    return {"messages": list(messages), **body}


def _text_body(prompt: str | Sequence[int], limit: int | None, options: dict[str, Any]) -> dict[str, Any]:
    body = _body(limit, options, ("stop", "logprobs", "echo"))
    return {"prompt": prompt if isinstance(prompt, str) else list(prompt), **body}


def _body(limit: int | None, options: dict[str, Any], own: Sequence[str]) -> dict[str, Any]:
    """Fields of a request. Raises UsageError for an option that there is not."""
    extra = options.pop("extra", None) or {}
    body: dict[str, Any] = {} if limit is None else {"max_tokens": limit}
    for name, value in options.items():
        if name not in SETTINGS and name not in own:
            known = [*SETTINGS, *own, "extra"]
            raise UsageError(f"unknown setting {name!r}", expected=", ".join(known), fix=did_you_mean(name, known))
        if value is None:
            continue
        if name == "logit_bias":
            value = {str(id): bias for id, bias in value.items()}
        body[SETTINGS.get(name, name)] = value
    return {**body, **extra}


def _root(url: str) -> str:
    """The address without /v1 and final slashes. Raises UsageError for what is none."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL()
    if parts.scheme not in ("http", "https") or not parts.host:
        raise UsageError(f"{url[:80]!r} is not the address of a server", expected="for example http://127.0.0.1:8000")
    if parts.userinfo or parts.query or parts.fragment:
        raise UsageError("the address holds more than a place", fix="give a key with api_key, not in the address")
    return str(parts).rstrip("/").removesuffix("/v1").rstrip("/")
