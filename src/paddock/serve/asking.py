"""From any dialect's fields to a Plan. The one place where a server turns what was asked into the engine's requests.

    a dialect's body ──> Asked ──plan_chat, plan_text──> Plan ──> Answering

Tokenising and templates take time: coroutines call this with `asyncio.to_thread`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from paddock.engine.grammar import Grammar
from paddock.engine.language_model import ChatPrompt
from paddock.engine.request import DEFAULT_NEW_TOKENS, Request
from paddock.engine.sampling import BIAS, MAX_BIASES
from paddock.errors import AccessError, ContextLengthError
from paddock.serve.access import ANYBODY, current
from paddock.serve.answering import Dropped, Plan
from paddock.serve.refusals import BadRequest
from paddock.serve.registry import Served
from paddock.serve.tools import Manner, check_compiles, prepare
from paddock.tokenizer.toolcalls import history

MAX_CHOICES, MAX_PROMPTS = 8, 64
COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions
MAX_SEED = 2**64

Message = dict[str, Any]
Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Asked:
    """What a request asks for, whichever dialect it came in. Either `messages` or `prompts`.

    messages: {"role", "content", ...} each, `content` text or a list of text parts; "developer" is "system".
    tools: functions that the model may call, as {"type": "function", "function": {...}}. tool_choice: "none", "auto",
    "required", or {"type": "function", "function": {"name"}}; None is "auto". grammar: what an answer must be;
    grammar_field: the body's field that says so.
    template_options: the template's own variables. max_tokens: kept or refused, never lowered; None is the dialect's
    default. n: choices for each prompt, the one at place i seeded with `seed` + i. settings: names of
    `LanguageModel.settings`; None counts as absent. logprobs: likely alternatives to tell per token, None for none.
    echo: the prompt's text comes first. truncation: "auto" drops the oldest messages, or the beginning of a prompt,
    where it is too long. trace: keep every stage of sampling.
    """

    messages: Sequence[Message] = ()
    prompts: Sequence[Prompt] = ()
    tools: Sequence[Message] | None = None
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool = True
    template_options: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    n: int = 1
    stop: str | Sequence[str] | None = None
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    logprobs: int | None = None
    echo: bool = False
    priority: int = 0
    truncation: Literal["auto", "disabled"] = "disabled"
    ignore_eos: bool = False
    trace: bool = False
    grammar: Grammar | None = None
    grammar_field: str = "response_format"


def plan_chat(served: Served, asked: Asked) -> Plan:
    """The answer to a conversation. Without `max_tokens` it may take what the context leaves.

    Raises BadRequest for models that do not chat, ContextLengthError, TemplateError, TokenizerError and UsageError.
    """
    manner, messages = ready(served, asked)
    prompt, dropped = _render(served, replace(asked, tools=manner.tools), messages)
    limit = asked.max_tokens
    if limit is None:
        limit = rest(served, len(prompt.ids))
    grammar, speech = manner.bound(served.model.tokenizer, prompt.ids)
    requests = _requests(served, replace(asked, grammar=grammar), prompt, limit, manner.shown)
    return _plan(served, requests, speech=speech, named=manner.named, dropped=dropped)


def chat_prompt(served: Served, asked: Asked) -> ChatPrompt:
    """The prompt that `plan_chat` makes of a conversation, however long it is. Raises what that does."""
    manner, messages = ready(served, asked)
    return served.model.chat_prompt(messages, manner.tools, asked.template_options)


def ready(served: Served, asked: Asked) -> tuple[Manner, list[Message]]:
    """How an answer is to be written, and the conversation as the template takes it."""
    check_writes(served)
    template = served.model.template
    if template is None:
        raise BadRequest(
            f"the model {served.name!r} has no chat template, and none is assumed",
            param="messages",
            code="unsupported_model",
            fix="use /v1/completions, or start the server with --chat-template NAME",
        )
    choice = asked.tool_choice, asked.parallel_tool_calls
    manner = prepare(served, asked.tools, *choice, asked.grammar, asked.grammar_field)
    return manner, history(template, [as_system(message) for message in asked.messages])


def plan_text(served: Served, asked: Asked) -> Plan:
    """The continuation of each of `asked.prompts`, `n` choices of one after those of the other.

    Raises BadRequest for models that do not write, ContextLengthError, TokenizerError and UsageError.
    """
    check_writes(served)
    if asked.grammar is not None:
        check_compiles(asked.grammar, served.model.tokenizer, asked.grammar_field)
    limit = COMPLETION_TOKENS if asked.max_tokens is None else asked.max_tokens
    requests: list[Request] = []
    dropped = 0
    for prompt in asked.prompts:
        ids, fewer = fitted(served, prompt, limit, asked.truncation)
        dropped += fewer
        requests += _requests(served, asked, ids, limit)
    told = Dropped(tokens=dropped) if dropped else None
    return _plan(served, tuple(requests), prompts=len(asked.prompts), dropped=told)


def fitted(
    served: Served, prompt: Prompt, limit: int, truncation: Literal["auto", "disabled"]
) -> tuple[tuple[int, ...], int]:
    """A prompt's ids, and how many of its first were dropped to leave room for `limit` more. What stands before every
    text (BOS) stays. Raises ContextLengthError where it is too long and `truncation` is not "auto"."""
    ids = served.model.prompt_ids(prompt)
    if fits(served, len(ids), limit):
        return ids, 0
    context = served.context
    if truncation != "auto" or context is None or served.model.architecture.encoder is not None:
        raise too_long(served, len(ids), limit)
    before = served.model.tokenizer.before if isinstance(prompt, str) else ()
    kept = len(before) if ids[: len(before)] == tuple(before) else 0
    room = context - limit - kept
    if room < 1:
        raise too_long(served, len(ids), limit)
    return ids[:kept] + ids[len(ids) - room :], len(ids) - room - kept


def fits(served: Served, prompt: int, limit: int) -> bool:
    """Whether `limit` tokens may follow a prompt of so many."""
    return served.context is None or _before(served, prompt) + limit <= served.context


def too_long(served: Served, prompt: int, limit: int) -> ContextLengthError:
    """The refusal of a prompt of so many tokens with so many to come."""
    context = served.context or 0
    room = context - _before(served, prompt)
    return ContextLengthError(
        f"a prompt of {prompt} tokens and {limit} new one{'s' * (limit != 1)} do not fit",
        expected=f"at most {context} tokens in all, the context of {served.name!r}",
        fix=f"ask for at most {room} new tokens, or shorten the prompt" if room > 0 else "shorten the prompt",
    )


def check_writes(served: Served) -> None:
    """Raises BadRequest for an encoder."""
    if served.engine is None:
        raise BadRequest(
            f"the model {served.name!r} is an encoder and does not write text",
            param="model",
            code="unsupported_model",
            fix="use it with /v1/embeddings, /v1/rerank or /v1/classify",
        )


def check_priority(priority: int) -> None:
    """Raises AccessError where a caller who is one of several would go before the others."""
    caller = current()
    if priority > 0 and caller is not ANYBODY and not caller.admin:
        raise AccessError(
            f"a priority of {priority} is for administrators", known=True, fix="ask for at most 0, or leave it out"
        )


def biases(given: Mapping[str, float] | None) -> dict[int, float] | None:
    """OpenAI's logit_bias: ids spelt as strings, and what is added to their logits. Raises BadRequest."""
    if given is None:
        return None
    if len(given) > MAX_BIASES:
        raise _bad_bias(f"logit_bias names {len(given)} tokens", f"at most {MAX_BIASES}")
    found: dict[int, float] = {}
    for word, bias in given.items():
        if not (word.isascii() and word.isdigit() and len(word) <= 10):
            raise _bad_bias(f"logit_bias names {word[:40]!r}", "token ids, whole numbers from 0")
        if not BIAS.holds(bias):
            raise _bad_bias(f"logit_bias of token {word} is {bias!r}", str(BIAS))
        if int(word) in found:
            raise _bad_bias(f"logit_bias names token {int(word)} twice", "each once")
        found[int(word)] = bias
    return found


def _plan(served: Served, requests: tuple[Request, ...], **rest: Any) -> Plan:
    decoders = tuple(served.model.decoder(request) for request in requests)
    return Plan(served, requests, decoders, **rest)


def _bad_bias(what: str, expected: str) -> BadRequest:
    return BadRequest(what, param="logit_bias", expected=expected)


def as_system(message: Message) -> Message:
    return {**message, "role": "system"} if message.get("role") == "developer" else message


def _before(served: Served, prompt: int) -> int:
    """Tokens that count before the first new one; an encoder-decoder's writer begins with one of its own."""
    return prompt if served.model.architecture.encoder is None else 1


def rest(served: Served, prompt: int) -> int:
    """How much a chat's answer may take where nobody says: the model's published limit, or all there is room for."""
    published = served.model.generation.get("max_new_tokens") or 0
    if served.context is None:
        return int(published) or DEFAULT_NEW_TOKENS
    room = served.context - _before(served, prompt)
    if room < 1:
        raise too_long(served, prompt, 1)
    return min(int(published) or room, room)


def _render(served: Served, asked: Asked, messages: list[Message]) -> tuple[ChatPrompt, Dropped | None]:
    """The conversation as ids; with truncation "auto" without its oldest turns, as few of them as need be."""
    model, options = served.model, asked.template_options
    whole = model.chat_prompt(messages, asked.tools, options)
    needed = 1 if asked.max_tokens is None else asked.max_tokens
    if fits(served, len(whole.ids), needed):
        return whole, None
    if asked.truncation != "auto" or served.context is None:
        raise too_long(served, len(whole.ids), needed)
    if asked.max_tokens is None:  # an answer of one token would help nobody
        needed = min(DEFAULT_NEW_TOKENS, served.context // 4)
    shorter = _shorter(messages)
    low, high, found = 0, len(shorter) - 1, None
    while low <= high:  # the longest that fits
        middle = (low + high) // 2
        prompt = model.chat_prompt(shorter[middle], asked.tools, options)
        if fits(served, len(prompt.ids), needed):
            found, high = (prompt, len(messages) - len(shorter[middle])), middle - 1
        else:
            low = middle + 1
    if found is None:
        raise too_long(served, len(whole.ids), needed)
    prompt, fewer = found
    return prompt, Dropped(fewer, len(whole.ids) - len(prompt.ids))


def _shorter(messages: list[Message]) -> list[list[Message]]:
    """The conversation without its first turn, its first two, and so on to its last. System messages stay, and what
    is left begins with a user's message: neither an answer nor a tool's result stands without what it answers."""
    starts = [place for place, message in enumerate(messages) if message.get("role") == "user"][1:]
    return [
        [message for place, message in enumerate(messages) if place >= start or message.get("role") == "system"]
        for start in starts
    ]


def _requests(
    served: Served, asked: Asked, prompt: ChatPrompt | Sequence[int], limit: int, shown: Sequence[int] = ()
) -> tuple[Request, ...]:
    """One for each choice."""
    check_priority(asked.priority)
    ids = prompt.ids if isinstance(prompt, ChatPrompt) else prompt
    if not fits(served, len(ids), limit):
        raise too_long(served, len(ids), limit)
    settings = {**asked.settings, "num_beams": 1}
    requests = tuple(
        served.model.plan(
            prompt,
            limit,
            settings=settings if asked.seed is None else {**settings, "seed": (asked.seed + choice) % MAX_SEED},
            stop=asked.stop,
            logprobs=asked.logprobs,
            echo=asked.echo,
            trace=asked.trace,
            priority=asked.priority,
            salt=current().salt,
            grammar=asked.grammar,
            shown=shown,
        )
        for choice in range(asked.n)
    )
    return tuple(replace(request, ends=()) for request in requests) if asked.ignore_eos else requests
