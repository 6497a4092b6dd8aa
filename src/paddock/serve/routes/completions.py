"""/v1/completions."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from paddock.engine.continuation import Continuation
from paddock.serve.accounts import fingerprint, timings, usage_body
from paddock.serve.answering import Answering, Delta, Dropped, Ending, Plan, Usage, Whole
from paddock.serve.asking import Asked, check_writes, fitted, plan_text
from paddock.serve.chunks import Answers, Chunks
from paddock.serve.dialects import finished
from paddock.serve.glassbox import RIVALS, GlassBox, check_one
from paddock.serve.logprobs import (
    Legacy,
    Prompted,
    check_reads_forward,
    joined,
    prompt_logprobs,
    tokenizer_of,
    vllm_prompt_logprobs,
    words_of,
)
from paddock.serve.refusals import BadRequest
from paddock.serve.registry import Served
from paddock.serve.schemas.completions import CompletionBody
from paddock.serve.server import Here
from paddock.serve.streaming import Stream, guarded, unless_gone
from paddock.serve.worker import Worker

router = APIRouter()
MAX_ANSWERS = 128  # of one request: those of `max_tokens: 0` pass no queue that would bound them


@router.post("/v1/completions")
async def completions(body: CompletionBody, request: Request, server: Here) -> Response:
    """Continues each prompt, whole or streamed."""
    ignored = body.ignored(server.settings.strict)
    served = server.registry.find(body.model)
    _check(body, served)
    work = await asyncio.to_thread(planned, served, body)
    read = await unless_gone(request, _read(server.worker, served, body, work.prompts))
    head = {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": served.name,
        "system_fingerprint": fingerprint(served),
    }
    answers = Unwritten(work) if work.plan is None else Answering(server.worker, work.plan)
    box = GlassBox(served, work.asked, answers) if body.glass_box and isinstance(answers, Answering) else None
    told = Told(served, body, work, read)
    response: Response
    if body.stream:
        chunks = CompletionChunks(answers, head, told, box)
        response = Stream(guarded(chunks.pieces()), ending=answers.cancel)
    else:
        choices = await unless_gone(request, answers.whole())
        response = await asyncio.to_thread(lambda: JSONResponse(head | whole_body(answers, choices, told, box)))
    return finished(response, work.dropped, ignored)


def _check(body: CompletionBody, served: Served) -> None:
    """Raises BadRequest for what cannot be done, or not together."""
    check_writes(served)
    if body.suffix:
        raise BadRequest("suffix is not supported", param="suffix", code="unsupported_parameter")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise BadRequest("best_of is not supported", param="best_of", code="unsupported_parameter", fix="use n")
    answers = len(body.prompts) * (body.n or 1)
    if answers > MAX_ANSWERS:
        raise BadRequest(
            f"{len(body.prompts)} prompts of {body.n} choices each are {answers} answers",
            param="n",
            expected=f"at most {MAX_ANSWERS}",
            fix="send fewer prompts at once",
        )
    if body.echo and body.logprobs is not None:
        check_reads_forward(served, "echo")
    if body.prompt_logprobs is not None:
        check_reads_forward(served, "prompt_logprobs")
        if body.stream:
            raise BadRequest("prompt_logprobs cannot be streamed", param="prompt_logprobs", fix="set stream to false")
    if body.glass_box:
        check_one(answers)
        if body.max_tokens == 0:
            raise BadRequest("glass_box shows what is written, and max_tokens is 0", param="glass_box")


@dataclass(frozen=True)
class Work:
    """What is to be continued: the ids of each prompt, and the plan, None where nothing is to be written.

    echoed: each prompt's text, where nothing is written and it is asked for.
    """

    asked: Asked
    prompts: tuple[tuple[int, ...], ...]
    plan: Plan | None
    dropped: Dropped | None
    echoed: tuple[str, ...] = ()

    @property
    def choices(self) -> int:
        return len(self.prompts) * self.asked.n


def planned(served: Served, body: CompletionBody) -> Work:
    """The engine's requests for a body, or only the prompts' ids."""
    logprobs = max(body.logprobs or 0, RIVALS) if body.glass_box else body.logprobs
    asked = Asked(
        prompts=body.prompts, max_tokens=body.max_tokens, logprobs=logprobs, echo=bool(body.echo), **body.common()
    )
    if body.max_tokens != 0:
        plan = plan_text(served, asked)
        return Work(asked, tuple(request.prompt for request in plan.requests[:: asked.n]), plan, plan.dropped)
    fits = [fitted(served, prompt, 0, asked.truncation) for prompt in body.prompts]
    prompts, fewer = tuple(ids for ids, _ in fits), sum(fewer for _, fewer in fits)
    tokenizer = tokenizer_of(served)
    shown = body.echo and tokenizer is not None
    echoed = tuple(Continuation(tokenizer, ids).prompt if shown and tokenizer else "" for ids in prompts)
    return Work(asked, prompts, None, Dropped(tokens=fewer) if fewer else None, echoed)


async def _read(
    worker: Worker, served: Served, body: CompletionBody, prompts: tuple[tuple[int, ...], ...]
) -> list[list[Prompted]] | None:
    """Each prompt's own log-probabilities, if anything asks for them."""
    echoed = body.logprobs if body.echo else None
    wanted = [top for top in (echoed, body.prompt_logprobs) if top is not None]
    if not wanted:
        return None
    return [await prompt_logprobs(worker, served, ids, max(wanted)) for ids in prompts]


class Unwritten:
    """The answer of no tokens."""

    def __init__(self, work: Work) -> None:
        self._work = work
        ending = Ending("length", None, 0, 0, None, 0.0, 0.0)
        texts = [text for text in work.echoed for _ in range(work.asked.n)]
        self._deltas = [Delta(place, text, ending=ending) for place, text in enumerate(texts)]
        self.usage = Usage(sum(map(len, work.prompts)), 0, 0)
        self.endings = [ending] * len(texts)

    async def deltas(self) -> AsyncGenerator[list[Delta], None]:
        yield self._deltas

    async def whole(self) -> list[Whole]:
        return [Whole(delta.text, ending=delta.ending) for delta in self._deltas]

    def cancel(self) -> None:
        """There is nothing to end."""


class Told:
    """What a body wants to know of tokens, choice by choice. `read`: each prompt's tokens, where they were read."""

    def __init__(self, served: Served, body: CompletionBody, work: Work, read: list[list[Prompted]] | None) -> None:
        self.served, self.body, self.work = served, body, work
        self._read = read
        self._lists: dict[int, Legacy] = {}

    @property
    def logprobs(self) -> bool:
        return self.body.logprobs is not None

    def prompt(self, choice: int) -> dict[str, list[Any]] | None:
        """The prompt's part of `logprobs`, where it is echoed; asked for before those of what was written."""
        if not self.logprobs or not self.body.echo:
            return None
        return self._of(choice).of_prompt(self._tokens(choice))

    def written(self, delta: Delta) -> dict[str, list[Any]] | None:
        return self._of(delta.choice).of_events(delta.tokens) if self.logprobs else None

    def whole(self, place: int, choice: Whole) -> dict[str, list[Any]] | None:
        parts = [self.prompt(place), self.written(Delta(place, tokens=tuple(choice.tokens)))]
        return joined([part for part in parts if part is not None]) if self.logprobs else None

    def prompt_logprobs(self, choice: int) -> dict[str, Any]:
        """vLLM's extension, if it was asked for."""
        if self.body.prompt_logprobs is None:
            return {}
        top = self.body.prompt_logprobs
        tokens = [token._replace(top=token.top[:top]) for token in self._tokens(choice)]
        return {"prompt_logprobs": vllm_prompt_logprobs(tokens, words_of(self.served))}

    def _tokens(self, choice: int) -> list[Prompted]:
        assert self._read is not None, "prompts were read where anything tells of them"
        return self._read[choice // self.work.asked.n]

    def _of(self, choice: int) -> Legacy:
        found = self._lists.get(choice)
        if found is None:
            prompt = self.work.prompts[choice // self.work.asked.n]
            found = Legacy(self.served, prompt, self.body.logprobs or 0, bool(self.body.echo))
            self._lists[choice] = found
        return found


class CompletionChunks(Chunks):
    """What becomes certain, and a finish reason last; before it the log-probabilities of a prompt that is echoed."""

    def __init__(self, answers: Answers, head: dict[str, Any], told: Told, box: GlassBox | None) -> None:
        super().__init__(
            answers,
            head,
            choices=told.work.choices,
            include_usage=told.body.include_usage,
            rich=told.logprobs,
            box=box,
            dropped=told.work.dropped,
        )
        self.told = told

    def opening(self, choice: int) -> dict[str, Any] | None:
        prompt = self.told.prompt(choice)
        return None if prompt is None else _choice(choice, "", prompt)

    def content(self, delta: Delta) -> dict[str, Any]:
        return _choice(delta.choice, delta.text, self.told.written(delta))

    def last(self, choice: int, reason: str) -> dict[str, Any]:
        return _choice(choice, "", reason=reason)


def _choice(index: int, text: str, logprobs: dict[str, Any] | None = None, reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def whole_body(answers: Answers, choices: list[Whole], told: Told, box: GlassBox | None) -> dict[str, Any]:
    """Everything but the head."""
    usage = answers.usage
    body: dict[str, Any] = {
        "choices": [
            _choice(place, choice.text, told.whole(place, choice), choice.ending.reason if choice.ending else None)
            | told.prompt_logprobs(place)
            for place, choice in enumerate(choices)
        ],
        "usage": usage_body(usage, told.work.dropped),
        "timings": timings(usage, answers.endings),
    }
    if box is not None:
        body["paddock"] = box.whole(choices[0])
    return body
