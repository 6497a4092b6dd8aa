"""Ollama's /api/chat and /api/generate: one JSON object a line.

Settings that a request leaves out are the model's own, not Ollama's, and nothing is cut to fit: a prompt that is too
long is refused.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from paddock.engine.grammar import Grammar
from paddock.engine.request import Event
from paddock.errors import PaddockError
from paddock.serve.answering import Answering, Delta, Plan
from paddock.serve.asking import Asked, plan_chat, plan_text, rest
from paddock.serve.bodies import tell_ignored
from paddock.serve.dialects import Block, Blocks, Message, ending_with, finished, thinking_options
from paddock.serve.logprobs import chat_logprobs, words_of
from paddock.serve.refusals import BadRequest, body_of
from paddock.serve.registry import Registry, Served
from paddock.serve.schemas import ollama as schemas
from paddock.serve.schemas.ollama import ChatBody, GenerateBody, Options
from paddock.serve.server import Here, Server
from paddock.serve.streaming import Pieces, Stream, compact, unless_gone
from paddock.serve.structured import schema_grammar

router = APIRouter()
PATH = "/api/"
LINES = "application/x-ndjson"
NANOSECONDS = 1_000_000_000


@router.post("/api/chat")
async def chat(body: ChatBody, request: Request, server: Here) -> Response:
    """Answers a conversation, line by line unless `stream` is false. Without messages it only says that it is there."""
    return await _answered(body, request, server)


@router.post("/api/generate")
async def generate(body: GenerateBody, request: Request, server: Here) -> Response:
    """Answers one prompt through the chat template, or continues it as it stands (`raw`)."""
    return await _answered(body, request, server)


async def _answered(body: ChatBody | GenerateBody, request: Request, server: Server) -> Response:
    started = time.monotonic()
    ignored = body.ignored(server.settings.strict)
    served = find(server.registry, body.model)
    response: Response
    if not (body.messages if isinstance(body, ChatBody) else body.prompt):
        response = _loaded(body, served)
        tell_ignored(response, ignored)
        return response
    plan, unread = await asyncio.to_thread(planned, served, body)
    telling = Telling(body, Answering(server.worker, plan), started)
    if body.stream is not False:
        pieces = ending_with(telling.lines(), failed)
        response = Stream(pieces, LINES, ending=telling.answering.cancel)
    else:
        response = JSONResponse(await unless_gone(request, telling.whole()))
    return finished(response, plan.dropped, [*ignored, *unread])


def find(registry: Registry, name: str) -> Served:
    """The model of this name; Ollama's clients put ":latest" behind names without a tag. Raises NotFoundError."""
    known = {served.name for served in registry}
    return registry.find(name if name in known else name.removesuffix(":latest"))


def failed(error: PaddockError) -> str:
    return compact(body_of(error, PATH)) + "\n"


def stamp() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _loaded(body: ChatBody | GenerateBody, served: Served) -> Response:
    """What a client that only wants a model in memory is told: it is."""
    said = {"message": {"role": "assistant", "content": ""}} if isinstance(body, ChatBody) else {"response": ""}
    line = {"model": served.name, "created_at": stamp(), **said, "done": True, "done_reason": "load"}
    return JSONResponse(line)


@dataclass
class Said:
    """What one line says, or all of them."""

    text: str = ""
    thinking: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[Event] = field(default_factory=list)

    def add(self, other: Said) -> None:
        self.text += other.text
        self.thinking += other.thinking
        self.calls += other.calls
        self.tokens += other.tokens

    @property
    def something(self) -> bool:
        return bool(self.text or self.thinking or self.calls or self.tokens)


class Telling:
    """One answer: its lines, or the last of them with what all of them said."""

    def __init__(self, body: ChatBody | GenerateBody, answering: Answering, started: float) -> None:
        self.asked, self.answering, self.started = body, answering, started
        self._blocks = Blocks()

    async def lines(self) -> Pieces:
        async with aclosing(self.answering.deltas()) as rounds:
            async for deltas in rounds:
                for delta in deltas:
                    said = self._said(delta)
                    if said.something:
                        yield compact(self._line(said, done=False)) + "\n"
        yield compact(self._last(Said())) + "\n"

    async def whole(self) -> dict[str, Any]:
        everything = Said()
        async for deltas in self.answering.deltas():
            for delta in deltas:
                everything.add(self._said(delta))
        return self._last(everything)

    def _said(self, delta: Delta) -> Said:
        """What a delta brings; a call once it is whole, for Ollama has no pieces of one."""
        said = Said()
        for change in self._blocks.read(delta):
            block = change.block
            if block.kind == "text":
                said.text += change.piece
            elif block.kind == "reasoning":
                said.thinking += change.piece
            elif change.what == "closed":
                said.calls += _calls(block)
            if self.asked.logprobs:
                said.tokens += change.tokens
        return said

    def _line(self, said: Said, done: bool) -> dict[str, Any]:
        served = self.answering.plan.served
        line: dict[str, Any] = {"model": self.asked.model, "created_at": stamp()}
        thinking = {"thinking": said.thinking} if said.thinking else {}
        if isinstance(self.asked, ChatBody):
            calls = {"tool_calls": said.calls} if said.calls else {}
            line["message"] = {"role": "assistant", "content": said.text, **thinking, **calls}
        else:
            line |= {"response": said.text, **thinking}
        if said.tokens:
            top = self.asked.top_logprobs or 0
            line["logprobs"] = chat_logprobs(said.tokens, words_of(served), top)["content"]
        return {**line, "done": done}

    def _last(self, said: Said) -> dict[str, Any]:
        """With the times of the request, in nanoseconds: a served model is loaded already."""
        ending, usage = self._blocks.ending, self.answering.usage
        assert ending is not None, "told at the end"
        return {
            **self._line(said, done=True),
            "done_reason": "length" if ending.reason == "length" else "stop",
            "total_duration": int((time.monotonic() - self.started) * NANOSECONDS),
            "load_duration": 0,
            "prompt_eval_count": usage.prompt,
            "prompt_eval_duration": int(ending.prefill_seconds * NANOSECONDS),
            "eval_count": usage.completion,
            "eval_duration": int(ending.decode_seconds * NANOSECONDS),
        }


def _calls(block: Block) -> list[dict[str, Any]]:
    """A call in Ollama's form, where arguments are an object; one whose arguments the limit cut off is none."""
    try:
        arguments = json.loads(block.text or "{}")
    except ValueError:
        return []
    named = {"name": block.name, "arguments": arguments}
    return [{"id": block.id, "function": named}] if isinstance(arguments, dict) else []


# --- what is asked -------------------------------------------------------------------------------------------------


def planned(served: Served, body: ChatBody | GenerateBody) -> tuple[Plan, list[str]]:
    """The engine's request for a body, and which fields the model's template does not read.

    Raises what `plan_chat` and `plan_text` do, and BadRequest for fields that mean something nobody does here.
    """
    options = body.options or Options()
    check_context(served, options)
    asked: dict[str, Any] = {
        "max_tokens": _limit(options),
        "stop": options.stop,
        "seed": None if options.seed == -1 else options.seed,
        "settings": _settings(options),
        "logprobs": (body.top_logprobs or 0) if body.logprobs else None,
        "grammar": _grammar(body.format),
        "grammar_field": "format",
    }
    if isinstance(body, GenerateBody):
        _check_generate(body)
        if body.raw:
            return _plan_raw(served, body.prompt or "", Asked(**asked)), ["think"] if body.think else []
    effort = body.think if isinstance(body.think, str) else None
    template, heeded = thinking_options(served, None if body.think is None else bool(body.think), effort)
    tools = body.tools if isinstance(body, ChatBody) else None
    asked["tools"] = [{"type": "function", "function": tool.function.plain()} for tool in tools or ()]
    plan = plan_chat(served, Asked(messages=_messages(body), template_options=template, **asked))
    return plan, [] if heeded or not body.think else ["think"]


def _grammar(form: str | dict[str, Any] | None) -> Grammar | None:
    """What `format` lets an answer be."""
    if isinstance(form, dict):
        return schema_grammar(form, "format")
    return Grammar("json_object") if form == "json" else None


def _plan_raw(served: Served, prompt: str, asked: Asked) -> Plan:
    ids = served.model.prompt_ids(prompt)
    limit = rest(served, len(ids)) if asked.max_tokens is None else asked.max_tokens
    return plan_text(served, replace(asked, prompts=[ids], max_tokens=limit))


def _settings(options: Options) -> dict[str, Any]:
    settings = {
        "temperature": options.temperature,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": options.min_p,
        "typical_p": options.typical_p,
        "repetition_penalty": options.repeat_penalty,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _limit(options: Options) -> int | None:
    """None is as much as the context leaves, which Ollama spells -1 and -2."""
    if options.num_predict == 0:
        raise BadRequest("num_predict is 0", expected="-1 for no limit, or at least 1", param="options.num_predict")
    return options.num_predict if options.num_predict and options.num_predict > 0 else None


def check_context(served: Served, options: Options) -> None:
    context = served.context
    if context is not None and options.num_ctx is not None and options.num_ctx > context:
        raise BadRequest(
            f"num_ctx is {options.num_ctx}, and {served.name!r} is served with a context of {context}",
            expected=f"at most {context}",
            param="options.num_ctx",
            fix="leave it out",
        )


def _check_generate(body: GenerateBody) -> None:
    refused = {
        "template": "prompts are made with the model's own chat template; raw takes a prompt as it stands",
        "suffix": "no text is filled in before another",
        "context": "tokens of an earlier answer are not taken up; send a conversation to /api/chat",
        "images": "models here read text only",
    }
    for name, reason in refused.items():
        if getattr(body, name):
            raise BadRequest(f"{name} is not taken: {reason}", param=name, code="unsupported_parameter")
    if body.raw and body.system:
        raise BadRequest("a raw prompt has no place for a system message", param="system", fix="put it into the prompt")


def _messages(body: ChatBody | GenerateBody) -> list[Message]:
    """A conversation in chat's form."""
    if isinstance(body, GenerateBody):
        system = [{"role": "system", "content": body.system}] if body.system else []
        return [*system, {"role": "user", "content": body.prompt}]
    return [_message(message, f"messages.{place}") for place, message in enumerate(body.messages or ())]


def _message(message: schemas.Message, place: str) -> Message:
    if message.images:
        raise BadRequest("models here read text only", param=f"{place}.images", code="unsupported_parameter")
    said: Message = {"role": message.role, "content": message.content}
    if message.tool_calls:
        said["tool_calls"] = [call.plain() for call in message.tool_calls]
    if message.role == "tool":
        said |= {"name": message.tool_name, "tool_call_id": message.tool_call_id}
    return said
