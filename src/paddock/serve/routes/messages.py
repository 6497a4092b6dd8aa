"""Anthropic's /v1/messages, and /v1/messages/count_tokens."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import groupby
from typing import Any

from fastapi import APIRouter, Request
from pydantic_core import from_json
from starlette.responses import JSONResponse, Response

from paddock.errors import PaddockError
from paddock.serve.answering import Answering
from paddock.serve.asking import Asked, chat_prompt, plan_chat
from paddock.serve.bodies import tell_ignored
from paddock.serve.dialects import Block, Blocks, Change, Message, ending_with, finished, in_blocks, thinking_options
from paddock.serve.refusals import BadRequest, body_of
from paddock.serve.registry import Served
from paddock.serve.schemas import messages as schemas
from paddock.serve.schemas.messages import (
    AnyBlock,
    Choice,
    ChosenTool,
    CountBody,
    MessagesBody,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from paddock.serve.server import Here
from paddock.serve.streaming import Pieces, Stream, sse, unless_gone
from paddock.serve.structured import schema_grammar

router = APIRouter()
PATH = "/v1/messages"
FORMAT = "output_config.format"
PING = sse({"type": "ping"}, "ping")
DELTAS = {"text": ("text_delta", "text"), "reasoning": ("thinking_delta", "thinking")}


@router.post(PATH)
async def messages(body: MessagesBody, request: Request, server: Here) -> Response:
    """Answers a conversation, whole or streamed."""
    ignored = body.ignored(server.settings.strict)
    served = server.registry.find(body.model)
    asked, unread = asked_of(served, body)
    plan = await asyncio.to_thread(plan_chat, served, asked)
    answering = Answering(server.worker, plan)
    telling = Telling(body, answering)
    response: Response
    if body.stream:
        response = Stream(ending_with(telling.events(), failed), ending=answering.cancel)
    else:
        telling.blocks = await unless_gone(request, in_blocks(answering))
        response = JSONResponse(telling.body())
    return finished(response, plan.dropped, [*ignored, *unread])


@router.post(f"{PATH}/count_tokens")
async def count_tokens(body: CountBody, server: Here) -> Response:
    """How many tokens a conversation's prompt has."""
    ignored = body.ignored(server.settings.strict)
    served = server.registry.find(body.model)
    asked, unread = asked_of(served, body)
    prompt = await asyncio.to_thread(chat_prompt, served, asked)
    response = JSONResponse({"input_tokens": len(prompt.ids)})
    tell_ignored(response, [*ignored, *unread])
    return response


def failed(error: PaddockError) -> str:
    return sse(body_of(error, PATH), "error")


class Telling:
    """One message: its events, or its body."""

    def __init__(self, body: MessagesBody, answering: Answering) -> None:
        self.asked, self.answering = body, answering
        self.blocks = Blocks()
        self._head = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": answering.plan.served.name,
        }

    async def events(self) -> Pieces:
        """Anthropic's events. The first comes with the first token: it tells how much of the prompt was cached."""
        begun = False
        async with aclosing(self.answering.deltas()) as rounds:
            async for deltas in rounds:
                if not begun:
                    begun = True
                    yield self._start()
                    yield PING
                for delta in deltas:
                    for change in self.blocks.read(delta):
                        if change.what != "grew" or change.piece:
                            yield _changed(change)
        yield _event("message_delta", delta=self._stop(), usage=self._usage())
        yield _event("message_stop")

    def _start(self) -> str:
        usage = {**self._usage(), "output_tokens": 0}
        empty: list[Any] = []
        message = {**self._head, "content": empty, "stop_reason": None, "stop_sequence": None, "usage": usage}
        return _event("message_start", message=message)

    def body(self) -> dict[str, Any]:
        content = [_content(block) for block in self.blocks.all]
        return {**self._head, "content": content, **self._stop(), "usage": self._usage()}

    def _usage(self) -> dict[str, Any]:
        """A prompt's tokens are counted where they came from: computed now, or read from the cache."""
        usage = self.answering.usage
        return {
            "input_tokens": usage.prompt - usage.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached,
            "output_tokens": usage.completion,
        }

    def _stop(self) -> dict[str, str | None]:
        """Why the answer ended; a stop string that the request did not name is the template's own end."""
        ending = self.blocks.ending
        assert ending is not None, "told at the end"
        if ending.stop_reason in (self.asked.stop_sequences or ()):
            return {"stop_reason": "stop_sequence", "stop_sequence": str(ending.stop_reason)}
        called = any(block.kind == "call" for block in self.blocks.all)
        reason = "max_tokens" if ending.reason == "length" else "tool_use" if called else "end_turn"
        return {"stop_reason": reason, "stop_sequence": None}


def _event(kind: str, **fields: Any) -> str:
    return sse({"type": kind, **fields}, kind)


def _changed(change: Change) -> str:
    block = change.block
    if change.what == "opened":
        empty = _content(Block(block.kind, block.index, block.id, block.name))
        return _event("content_block_start", index=block.index, content_block=empty)
    if change.what == "closed":
        return _event("content_block_stop", index=block.index)
    kind, name = DELTAS.get(block.kind, ("input_json_delta", "partial_json"))
    return _event("content_block_delta", index=block.index, delta={"type": kind, name: change.piece})


def _content(block: Block) -> dict[str, Any]:
    """A block as far as it is known; a call's input as far as it is an object."""
    if block.kind == "text":
        return {"type": "text", "text": block.text}
    if block.kind == "reasoning":
        return {"type": "thinking", "thinking": block.text, "signature": ""}
    return {"type": "tool_use", "id": block.id, "name": block.name, "input": _input(block.text)}


def _input(text: str) -> dict[str, Any]:
    """What Anthropic's own client makes of a call's pieces: of one that the limit cut off, what is whole of it."""
    try:
        value = from_json(text or "{}", allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# --- what is asked -------------------------------------------------------------------------------------------------


def asked_of(served: Served, body: CountBody) -> tuple[Asked, list[str]]:
    """What a body asks for, and which of its fields the model's template does not read."""
    thinking = None if body.thinking is None else body.thinking.type != "disabled"
    effort = body.output_config.effort if body.output_config else None
    options, heeded = thinking_options(served, thinking, None)
    efforts, effort_heeded = thinking_options(served, None, effort)
    choice = body.tool_choice
    one_by_one = choice is not None and choice.disable_parallel_tool_use
    form = body.output_config.format if body.output_config else None
    asked = Asked(
        messages=messages_of(body),
        tools=[{"type": "function", "function": tool.plain()} for tool in body.tools or ()],
        tool_choice=None if choice is None else _choice(choice),
        parallel_tool_calls=not one_by_one,
        grammar=None if form is None else schema_grammar(form.schema_, FORMAT),
        grammar_field=FORMAT,
        template_options=options | efforts,
    )
    if isinstance(body, MessagesBody):
        settings = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        asked = replace(
            asked,
            max_tokens=body.max_tokens,
            stop=body.stop_sequences,
            seed=body.seed,
            settings={name: value for name in settings if (value := getattr(body, name)) is not None},
        )
    unread = [] if heeded or not thinking else ["thinking"]
    return asked, unread if effort_heeded else [*unread, "output_config.effort"]


def _choice(choice: Choice | ChosenTool) -> str | dict[str, Any]:
    """In chat's form."""
    if isinstance(choice, ChosenTool):
        return {"type": "function", "function": {"name": choice.name}}
    return "required" if choice.type == "any" else choice.type


def messages_of(body: CountBody) -> list[Message]:
    """A conversation in chat's form: turns of one role that follow each other are one, and each result of a tool is a
    message by itself. Raises BadRequest for blocks in the wrong turn."""
    messages: list[Message] = [{"role": "system", "content": _parts(body.system)}] if body.system else []
    for role, turn in groupby(enumerate(body.messages), key=lambda pair: pair[1].role):
        blocks = [
            (f"messages.{place}.content.{index}", block)
            for place, message in turn
            for index, block in enumerate(_blocks(message))
        ]
        messages += _answer(blocks) if role == "assistant" else _question(blocks)
    if body.messages[-1].role == "assistant":
        raise BadRequest(
            "the last message is the assistant's, and an answer that was begun is not continued here",
            param="messages",
            code="unsupported_parameter",
            fix="end with a user's message",
        )
    return messages


Placed = tuple[str, AnyBlock]


def _blocks(message: schemas.Message) -> Sequence[AnyBlock]:
    return [TextBlock(type="text", text=message.content)] if isinstance(message.content, str) else message.content


def _question(blocks: Sequence[Placed]) -> list[Message]:
    messages: list[Message] = []
    for place, block in blocks:
        if isinstance(block, ToolResultBlock):
            content = _parts(block.content or "")
            messages.append({"role": "tool", "tool_call_id": block.tool_use_id, "content": content})
        elif not isinstance(block, TextBlock):
            raise BadRequest(f"a user's message has a block of type {block.type!r}", param=place)
        else:
            if not messages or messages[-1]["role"] != "user":
                messages.append({"role": "user", "content": []})
            messages[-1]["content"].append({"type": "text", "text": block.text})
    return messages


def _answer(blocks: Sequence[Placed]) -> list[Message]:
    texts: list[Message] = []
    calls: list[Message] = []
    for place, block in blocks:
        if isinstance(block, TextBlock):
            texts.append({"type": "text", "text": block.text})
        elif isinstance(block, ToolUseBlock):
            function = {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
            calls.append({"id": block.id, "type": "function", "function": function})
        elif isinstance(block, ToolResultBlock):
            raise BadRequest("an assistant's message has a tool's result", param=place)
    return [{"role": "assistant", "content": texts or None, "tool_calls": calls or None}] if texts or calls else []


def _parts(content: str | Sequence[TextBlock]) -> str | list[Message]:
    return content if isinstance(content, str) else [{"type": "text", "text": block.text} for block in content]
