"""Log-probabilities as clients read them, and those of a prompt's own tokens.

Two forms, both OpenAI's: chat's list of objects, and the four parallel lists of /v1/completions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from paddock.engine.continuation import Continuation
from paddock.engine.memory import PIECE
from paddock.engine.reading import Reader
from paddock.engine.request import Event
from paddock.engine.sampler import top_of
from paddock.errors import TokenizerError
from paddock.model.spec import Causal
from paddock.serve.refusals import BadRequest
from paddock.serve.registry import Served
from paddock.serve.worker import Worker
from paddock.tokenizer import Tokenizer

LEAST = -9999.0  # stands for minus infinity, which JSON has no word for
PIECE_VALUES = 2**24  # logits of one piece of a prompt: 64 MiB

Top = tuple[tuple[int, float], ...]


def clipped(logprob: float) -> float:
    return max(logprob, LEAST)


@dataclass(frozen=True)
class Word:
    """A token for people. text: what it adds to a text, a control token's spelling, or its bytes spelt out where they
    are no whole character. bytes: those, None for a control token."""

    text: str
    bytes: list[int] | None
    special: bool = False


class Words:
    """The tokens of one vocabulary, each looked up once. Without a tokenizer they are called by their ids."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, Word] = {}

    def __getitem__(self, id: int) -> Word:
        word = self._known.get(id)
        if word is None:
            word = self._known[id] = self._read(id)
        return word

    def _read(self, id: int) -> Word:
        try:
            if self._tokenizer is None:
                raise TokenizerError("this model has no tokenizer")
            piece = self._tokenizer.piece(id)
        except TokenizerError:  # a row of the weight matrix that no token has
            return Word(f"token_id:{id}", None)
        if self._tokenizer.is_control(id):
            return Word(piece, None, special=True)
        found = self._tokenizer.bytes_of(id)
        try:
            text = found.decode("utf-8")
        except UnicodeDecodeError:
            text = "bytes:" + "".join(f"\\x{byte:02x}" for byte in found)
        return Word(text, list(found))


_words: WeakKeyDictionary[Served, Words] = WeakKeyDictionary()


def words_of(served: Served) -> Words:
    found = _words.get(served)
    if found is None:
        found = _words[served] = Words(tokenizer_of(served))
    return found


def tokenizer_of(served: Served) -> Tokenizer | None:
    try:
        return served.model.tokenizer
    except TokenizerError:
        return None


# --- chat ----------------------------------------------------------------------------------------------------------


def chat_logprobs(events: Sequence[Event], words: Words, top: int) -> dict[str, Any]:
    """Chat's `logprobs` of some tokens, with their `top` likeliest rivals."""
    content = [
        {**_told(event.token, event.logprob, words), "top_logprobs": [_told(*pair, words) for pair in event.top[:top]]}
        for event in events
    ]
    return {"content": content, "refusal": None}


def _told(token: int, logprob: float, words: Words) -> dict[str, Any]:
    word = words[token]
    return {"token": word.text, "logprob": clipped(logprob), "bytes": word.bytes}


# --- completions ---------------------------------------------------------------------------------------------------


class Legacy:
    """The `logprobs` of /v1/completions: tokens, token_logprobs, top_logprobs and text_offset, some tokens at a time.

    An offset counts the characters that were certain before a token, whether they were shown yet or not. `echo`: the
    prompt's tokens come first, and offsets count from its beginning.
    """

    def __init__(self, served: Served, prompt: Sequence[int], top: int, echo: bool) -> None:
        self._words, self._top = words_of(served), top
        tokenizer = tokenizer_of(served)
        self._decoder = None if tokenizer is None else Continuation(tokenizer, () if echo else prompt)
        self._offset = 0

    def of_events(self, events: Sequence[Event]) -> dict[str, list[Any]]:
        return self._lists([(event.token, event.logprob, event.top) for event in events])

    def of_prompt(self, prompt: Sequence[Prompted]) -> dict[str, list[Any]]:
        return self._lists([(token.id, token.logprob, token.top) for token in prompt])

    def _lists(self, tokens: Sequence[tuple[int, float | None, Top]]) -> dict[str, list[Any]]:
        return {
            "tokens": [self._words[id].text for id, _, _ in tokens],
            "token_logprobs": [None if logprob is None else clipped(logprob) for _, logprob, _ in tokens],
            "top_logprobs": [
                None if logprob is None else self._rivals(id, logprob, top) for id, logprob, top in tokens
            ],
            "text_offset": [self._advance(id) for id, _, _ in tokens],
        }

    def _rivals(self, id: int, logprob: float, top: Top) -> dict[str, float]:
        """The likeliest by their text, and the chosen one in any case. Of two that read alike the likelier is told."""
        found: dict[str, float] = {}
        for rival, value in (*top[: self._top], (id, logprob)):
            found.setdefault(self._words[rival].text, clipped(value))
        return found

    def _advance(self, id: int) -> int:
        """Where this token begins; counts what it adds."""
        offset = self._offset
        if self._decoder is not None:
            self._offset += len(self._decoder.push(id))
        return offset


def joined(parts: Sequence[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """Lists of several pieces, put together."""
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    return {name: [item for part in parts for item in part[name]] for name in names}


# --- prompts -------------------------------------------------------------------------------------------------------


class Prompted(NamedTuple):
    """A prompt's token: its log-probability after those before it (None for the first), and the likeliest there.
    rank: its place among all tokens, 1 for the likeliest."""

    id: int
    logprob: float | None = None
    top: Top = ()
    rank: int | None = None


@dataclass(frozen=True)
class _Prompts:
    """What reads prompts for one model, one at a time: it keeps keys and values from piece to piece."""

    reader: Reader
    turn: asyncio.Lock


_prompts: WeakKeyDictionary[Served, _Prompts] = WeakKeyDictionary()


def check_reads_forward(served: Served, param: str) -> None:
    """Raises BadRequest for a model whose tokens are not each predicted from those before it."""
    architecture = served.model.architecture
    if architecture.encoder is not None or not isinstance(architecture.mask, Causal):
        raise BadRequest(
            f"the model {served.name!r} does not predict a prompt from left to right, so its tokens have no"
            " log-probabilities",
            param=param,
        )


async def prompt_logprobs(worker: Worker, served: Served, ids: Sequence[int], top: int) -> list[Prompted]:
    """Each token of a prompt with its log-probability and its `top` likeliest rivals.

    Read on the worker a piece at a time; others' steps come between, and no more than a piece's logits are held.
    Raises OverloadError and ResourceError.
    """
    prompts = _prompts.get(served)
    if prompts is None:
        prompts = _prompts[served] = _Prompts(Reader(served.model.model), asyncio.Lock())
    size = max(1, min(PIECE, PIECE_VALUES // served.model.architecture.vocabulary))
    found = [Prompted(ids[0])]
    async with prompts.turn:
        pieces = prompts.reader.pieces(ids[:-1], size)
        while len(found) < len(ids):
            following = ids[len(found) : len(found) + size]
            found += await worker.run(partial(_reduced, pieces, following, top))
    return found


def _reduced(pieces: Iterator[Tensor], following: Sequence[int], top: int) -> list[Prompted]:
    """Of the next piece's logits, what concerns the tokens that followed."""
    with torch.no_grad():
        logits = next(pieces).cpu()
        rows = zip(following, logits.log_softmax(-1), strict=True)
        return [Prompted(id, float(row[id]), top_of(row, top), int((row > row[id]).sum()) + 1) for id, row in rows]


def vllm_prompt_logprobs(prompt: Sequence[Prompted], words: Words) -> list[dict[str, Any] | None]:
    """The extension `prompt_logprobs`, as vLLM writes it: by id, null for the first token."""
    return [None if token.logprob is None else _ranked(token, words) for token in prompt]


def _ranked(token: Prompted, words: Words) -> dict[str, Any]:
    ranks = {id: (value, place) for place, (id, value) in enumerate(token.top, 1)}
    ranks[token.id] = (token.logprob or 0.0, token.rank or 1)
    return {
        str(id): {"logprob": clipped(value), "rank": rank, "decoded_token": words[id].text}
        for id, (value, rank) in ranks.items()
    }
