"""One conversation in the engine: what is asked, and what came of it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from paddock.engine.constraints import Constraints
from paddock.engine.grammar import Grammar
from paddock.engine.sampler import Trace
from paddock.engine.sampling import Bound, Sampling, shown
from paddock.errors import ContextLengthError, UsageError

MAX_STOPS, MAX_STOP_LENGTH, MAX_LOGPROBS = 16, 1024, 20
MAX_NEW_TOKENS = 2**31
DEFAULT_NEW_TOKENS = 256
MAX_PRIORITY = 100

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """What one generation is to do, checked and complete.

    prompt: token ids; an encoder-decoder's source text. max_new_tokens: the limit, end token included. stop: strings
    that end the text and are cut off it. ends: ids that end it. logprobs: how many likely alternatives to report per
    token, None for no log-probabilities. echo: the prompt's text is put before the completion's. trace: record every
    stage of sampling. start: the decoder's first ids (encoder-decoders only). priority: higher goes first where not all
    can run at once. salt: only requests of equal salt share what the cache knows of their beginnings; None shares none.
    grammar: what the answer must be. shown: ids of control tokens that are told in the text as they are spelt.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    constraints: Constraints = field(default_factory=Constraints)
    stop: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()
    logprobs: int | None = None
    echo: bool = False
    trace: bool = False
    start: tuple[int, ...] = ()
    priority: int = 0
    salt: str | None = ""
    grammar: Grammar | None = None
    shown: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt:
            raise UsageError("the prompt is empty", fix="give at least one token of text")
        check_number("max_new_tokens", self.max_new_tokens, Bound(1, MAX_NEW_TOKENS, whole=True))
        check_number("priority", self.priority, Bound(-MAX_PRIORITY, MAX_PRIORITY, whole=True))
        if self.logprobs is not None:
            check_number("logprobs", self.logprobs, Bound(0, MAX_LOGPROBS, whole=True))


@dataclass(frozen=True)
class TokenLogprob:
    """A written token's log-probability in the model's raw distribution, and its likeliest rivals there."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Timings:
    """Seconds: `prompt` to read the prompt, `decode` for all after the first token was known."""

    prompt: float
    decode: float


@dataclass(frozen=True)
class Completion:
    """What was written.

    text: without the stop string and the end token. ids: every token the model chose, the end token included.
    finish_reason: "stop" (an end token or a stop string, which `stop_reason` holds) or "length". seed: what repeats it.
    score: beam search only, the summed log-probability over length ** length_penalty. cached_tokens: how many of the
    prompt's were not computed, because an earlier request began alike. proposed_tokens, accepted_tokens: guesses of
    speculative decoding, and how many of them were right.
    """

    text: str
    ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_reason: str | int | None
    prompt_tokens: int
    timings: Timings
    logprobs: tuple[TokenLogprob, ...] | None = None
    traces: tuple[Trace, ...] = ()
    seed: int | None = None
    score: float | None = None
    cached_tokens: int = 0
    proposed_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def completion_tokens(self) -> int:
        return len(self.ids)

    @property
    def tokens_per_second(self) -> float:
        """Tokens decoded per second, the prompt's time not counted; 0 where only one was written."""
        return (len(self.ids) - 1) / self.timings.decode if self.timings.decode > 0 else 0.0


@dataclass(frozen=True)
class Event:
    """One token as it is chosen. `text` is what became certain with it; pieces joined are the completion's text."""

    token: int
    text: str
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    trace: Trace | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None


def check_number(name: str, value: Any, bound: Bound) -> None:
    """Refuses a value outside its bound; a bool is no number."""
    if not bound.holds(value):
        raise UsageError(f"{name} is {shown(value)}", expected=str(bound))


def stop_strings(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """One stop string or several, checked."""
    stops = (value,) if isinstance(value, str) else () if value is None else value
    if not isinstance(stops, Sequence) or not all(isinstance(stop, str) for stop in stops):
        raise UsageError(f"stop is {shown(value)}", expected="a string, or a list of strings")
    if len(stops) > MAX_STOPS:
        raise UsageError(f"{len(stops)} stop strings", expected=f"at most {MAX_STOPS}")
    for stop in stops:
        if not 0 < len(stop) <= MAX_STOP_LENGTH:
            raise UsageError(
                f"stop has a string of {len(stop)} characters", expected=f"1 to {MAX_STOP_LENGTH} characters"
            )
    return tuple(dict.fromkeys(stops))


def token_ids(ids: Any, vocabulary: int, what: str = "the prompt") -> tuple[int, ...]:
    """Token ids given by a user: whole numbers inside the vocabulary, at least one."""
    if hasattr(ids, "tolist"):  # a tensor or an array
        ids = ids.tolist()
    if not isinstance(ids, Sequence) or isinstance(ids, str | bytes):
        raise UsageError(f"{what} is {type(ids).__name__}", expected="a string, or a list of token ids")
    for id in ids:
        if isinstance(id, bool) or not hasattr(id, "__index__"):
            raise UsageError(f"{what} holds {shown(id)}", expected="token ids, whole numbers")
        if not 0 <= id < vocabulary:
            raise UsageError(f"{what} holds token id {id}", expected=f"0 to {vocabulary - 1}, the vocabulary")
    if not ids:
        raise UsageError(f"{what} is empty", fix="give at least one token")
    return tuple(operator.index(id) for id in ids)


def is_batch(ids: Any) -> bool:
    """Whether ids are those of several texts: a tensor of two dimensions, or a list of lists."""
    return getattr(ids, "ndim", 0) == 2 or (isinstance(ids, list | tuple) and bool(ids) and not _is_id(ids[0]))


def id_rows(ids: Any, vocabulary: int) -> list[tuple[int, ...]]:
    """The ids of one text or of several equally long ones, a row each."""
    rows = [token_ids(row, vocabulary, "a text") for row in ids] if is_batch(ids) else [token_ids(ids, vocabulary)]
    if not rows or len({len(row) for row in rows}) > 1:
        raise UsageError("the texts of the batch are not equally long", fix="give them one by one")
    return rows


def _is_id(value: Any) -> bool:
    return hasattr(value, "__index__") and not getattr(value, "ndim", 0)


def planned_length(prompt: int, asked: int | None, context: int | None, usual: int | None = None) -> int:
    """How many tokens may be written after `prompt` tokens.

    `asked` is kept or refused, never lowered. Unasked it is `usual` (the model's own default, else 256), or what fits.
    """
    if asked is not None:
        check_number("max_new_tokens", asked, Bound(1, MAX_NEW_TOKENS, whole=True))
    if context is None:
        return asked or usual or DEFAULT_NEW_TOKENS
    room = context - prompt
    if room < 1 or (asked is not None and asked > room):
        wanted = f" and {asked} new ones" if asked is not None else ""
        fix = f"ask for at most {room} new tokens, or shorten the prompt" if room > 0 else "shorten the prompt"
        raise ContextLengthError(
            f"a prompt of {prompt} tokens{wanted} does not fit",
            expected=f"at most {context} tokens in all, this model's context",
            fix=fix,
        )
    return asked or min(usual or DEFAULT_NEW_TOKENS, room)
