"""/v1/chat/completions."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from paddock.serve.accounts import fingerprint, timings, usage_body
from paddock.serve.answering import Answering, Delta, Plan, Whole
from paddock.serve.asking import Asked, plan_chat
from paddock.serve.chunks import Chunks
from paddock.serve.dialects import finished, thinking_options
from paddock.serve.glassbox import RIVALS, GlassBox, check_one
from paddock.serve.logprobs import (
    Words,
    chat_logprobs,
    check_reads_forward,
    prompt_logprobs,
    vllm_prompt_logprobs,
    words_of,
)
from paddock.serve.refusals import BadRequest
from paddock.serve.registry import Served
from paddock.serve.schemas.chat import ChatBody, NamedTool
from paddock.serve.server import Here
from paddock.serve.speech import CallPiece
from paddock.serve.streaming import Stream, guarded, unless_gone

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat(body: ChatBody, request: Request, server: Here) -> Response:
    """Answers a conversation, whole or streamed."""
    ignored = body.ignored(server.settings.strict)
    served = server.registry.find(body.model)
    _check(body, served)
    asked, plan, unread = await asyncio.to_thread(planned, served, body)
    prompt = None
    if body.prompt_logprobs is not None:
        ids = plan.requests[0].prompt
        read = await unless_gone(request, prompt_logprobs(server.worker, served, ids, body.prompt_logprobs))
        prompt = vllm_prompt_logprobs(read, words_of(served))
    head = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion.chunk" if body.stream else "chat.completion",
        "created": int(time.time()),
        "model": served.name,
        "system_fingerprint": fingerprint(served),
    }
    answering = Answering(server.worker, plan)
    top = (body.top_logprobs or 0) if body.logprobs else None
    box = GlassBox(served, asked, answering) if body.glass_box else None
    response: Response
    if body.stream:
        chunks = ChatChunks(answering, head, body.include_usage, words_of(served), top, box)
        response = Stream(guarded(chunks.pieces()), ending=answering.cancel)
    else:
        choices = await unless_gone(request, answering.whole())
        whole = head | whole_body(answering, choices, words_of(served), top, box)
        response = JSONResponse(whole if prompt is None else {**whole, "prompt_logprobs": prompt})
    return finished(response, plan.dropped, [*ignored, *unread])


def _check(body: ChatBody, served: Served) -> None:
    """Raises BadRequest for fields that contradict each other, and for those of an older API."""
    for name, now in (("functions", "tools"), ("function_call", "tool_choice")):
        if (body.model_extra or {}).get(name) is not None:
            raise BadRequest(f"{name} is not read", param=name, code="unsupported_parameter", fix=f"use {now}")
    if body.top_logprobs is not None and not body.logprobs:
        raise BadRequest("top_logprobs without logprobs", param="top_logprobs", fix="set logprobs to true")
    if None not in (body.max_tokens, body.max_completion_tokens) and body.max_tokens != body.max_completion_tokens:
        raise BadRequest("max_tokens and max_completion_tokens differ", param="max_tokens", fix="give one of them")
    if body.prompt_logprobs is not None:
        check_reads_forward(served, "prompt_logprobs")
        if body.stream:
            raise BadRequest("prompt_logprobs cannot be streamed", param="prompt_logprobs", fix="set stream to false")
    if body.glass_box:
        check_one(body.n or 1)
    if body.tool_choice is not None and not body.tools:
        raise BadRequest("tool_choice without tools", param="tool_choice", fix="give tools, or leave it out")


def planned(served: Served, body: ChatBody) -> tuple[Asked, Plan, list[str]]:
    """What a body asks for, the engine's requests for it, and which fields the model's template does not read."""
    messages = [message.plain() for message in body.messages]
    unread = _unread(served, messages)
    effort = body.reasoning_effort
    options, heeded = thinking_options(
        served, False if effort == "none" else None, None if effort == "none" else effort
    )
    if not heeded:
        unread.append("reasoning_effort")
    top = (body.top_logprobs or 0) if body.logprobs else None
    choice = body.tool_choice
    asked = Asked(
        messages=messages,
        tools=[tool.plain() for tool in body.tools or ()],
        tool_choice=choice.plain() if isinstance(choice, NamedTool) else choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        template_options=options | (body.chat_template_kwargs or {}),
        max_tokens=body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens,
        logprobs=max(top or 0, RIVALS) if body.glass_box else top,
        **body.common(),
    )
    return asked, plan_chat(served, asked), unread


def _unread(served: Served, messages: Sequence[dict[str, Any]]) -> list[str]:
    """Takes earlier thoughts out of the messages where the template does not show them to the model."""
    template = served.model.template
    if template is None or template.read.reads_all or "reasoning_content" in template.read.words:
        return []
    found = [place for place, message in enumerate(messages) if "reasoning_content" in message]
    for place in found:
        del messages[place]["reasoning_content"]
    return [f"messages.{place}.reasoning_content" for place in found]


class ChatChunks(Chunks):
    """A role first, then what becomes certain, and a finish reason last."""

    def __init__(
        self,
        answering: Answering,
        head: dict[str, Any],
        include_usage: bool,
        words: Words,
        top: int | None,
        box: GlassBox | None,
    ) -> None:
        plan = answering.plan
        super().__init__(
            answering,
            head,
            choices=len(plan.requests),
            include_usage=include_usage,
            rich=top is not None,
            box=box,
            dropped=plan.dropped,
        )
        self.words, self.top = words, top

    def opening(self, choice: int) -> dict[str, Any]:
        return _choice(choice, {"role": "assistant", "content": ""})

    def content(self, delta: Delta) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if delta.reasoning:
            said["reasoning_content"] = delta.reasoning
        if delta.text or not (delta.reasoning or delta.calls):
            said["content"] = delta.text
        if delta.calls:
            said["tool_calls"] = [_call_piece(piece) for piece in delta.calls]
        logprobs = None if self.top is None else chat_logprobs(delta.tokens, self.words, self.top)
        return _choice(delta.choice, said, logprobs)

    def last(self, choice: int, reason: str) -> dict[str, Any]:
        return _choice(choice, {}, reason=reason)


def _choice(
    index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, reason: str | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


def _call_piece(piece: CallPiece) -> dict[str, Any]:
    """The first piece of a call names it; the others bring more of its arguments."""
    if piece.name is None:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    return {"index": piece.index, **_call(piece)}


def _call(call: CallPiece) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def whole_body(
    answering: Answering, choices: list[Whole], words: Words, top: int | None, box: GlassBox | None
) -> dict[str, Any]:
    """Everything but the head."""
    usage = answering.usage
    body = {
        "choices": [_whole_choice(place, choice, words, top) for place, choice in enumerate(choices)],
        "usage": usage_body(usage, answering.plan.dropped),
        "timings": timings(usage, answering.endings),
    }
    if box is not None:
        body["paddock"] = box.whole(choices[0])
    return body


def _whole_choice(place: int, choice: Whole, words: Words, top: int | None) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if choice.calls and not choice.text else choice.text,
        "refusal": None,
    }
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.calls:
        message["tool_calls"] = [_call(choice.calls[index]) for index in sorted(choice.calls)]
    assert choice.ending is not None, "a whole answer has ended"
    return {
        "index": place,
        "message": message,
        "logprobs": None if top is None else chat_logprobs(choice.tokens, words, top),
        "finish_reason": choice.ending.reason,
    }
