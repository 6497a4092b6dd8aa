"""/v1/chat/completions."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from paddock.serve.answering import Answering, Plan, Usage, Whole
from paddock.serve.bodies import tell_ignored
from paddock.serve.registry import Served
from paddock.serve.schemas.chat import ChatBody
from paddock.serve.server import Here
from paddock.serve.streaming import Stream, guarded, sse, unless_gone

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat(body: ChatBody, request: Request, server: Here) -> Response:
    """Answers a conversation, whole or streamed."""
    ignored = body.ignored(server.settings.strict)
    served = server.registry.find(body.model)
    plan = await asyncio.to_thread(planned, served, body)
    answering = Answering(server.worker, plan)
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name}
    response: Response
    if body.stream:
        include = body.stream_options is not None and body.stream_options.include_usage
        response = Stream(guarded(chunks(answering, head, include)), ending=answering.cancel)
    else:
        choices = await unless_gone(request, answering.whole())
        response = JSONResponse(whole_body(choices, answering.usage, head))
    tell_ignored(response, ignored)
    return response


def planned(served: Served, body: ChatBody) -> Plan:
    """The engine's requests for a body."""
    messages = [message.model_dump(exclude_none=True) for message in body.messages]
    prompt = served.model.chat_prompt(messages)
    settings = {"temperature": body.temperature, "top_p": body.top_p, "num_beams": 1}
    asked = {name: value for name, value in settings.items() if value is not None}
    requests = tuple(
        served.model.plan(
            prompt,
            body.max_completion_tokens or body.max_tokens,
            settings=asked if body.seed is None else {**asked, "seed": body.seed + choice},
            stop=body.stop,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        )
        for choice in range(body.n)
    )
    return Plan(served, requests)


async def chunks(answering: Answering, head: dict[str, Any], include_usage: bool) -> AsyncGenerator[str, None]:
    """OpenAI's chunks: a role first, then what becomes certain, a finish reason last, and usage if asked for."""
    head = {**head, "object": "chat.completion.chunk"}
    begun: set[int] = set()
    async for deltas in answering.deltas():
        for delta in deltas:
            if delta.choice not in begun:
                begun.add(delta.choice)
                yield sse({**head, "choices": [_chunk(delta.choice, {"role": "assistant", "content": ""}, None)]})
            content = {"content": delta.text} if delta.text else {}
            reason = delta.ending.reason if delta.ending else None
            if content or reason:
                yield sse({**head, "choices": [_chunk(delta.choice, content, reason)]})
    if include_usage:
        yield sse({**head, "choices": [], "usage": usage_body(answering.usage)})


def _chunk(choice: int, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": choice, "delta": delta, "finish_reason": reason}


def whole_body(choices: list[Whole], usage: Usage, head: dict[str, Any]) -> dict[str, Any]:
    found = [
        {
            "index": place,
            "message": {"role": "assistant", "content": choice.text},
            "finish_reason": choice.ending.reason if choice.ending else "stop",
        }
        for place, choice in enumerate(choices)
    ]
    return {**head, "object": "chat.completion", "choices": found, "usage": usage_body(usage)}


def usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
