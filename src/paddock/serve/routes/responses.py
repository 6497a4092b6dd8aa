"""/v1/responses, without a memory: every request brings its whole conversation, and nothing of it is kept."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from paddock.engine.grammar import Grammar
from paddock.engine.request import Event
from paddock.errors import PaddockError
from paddock.serve.answering import Answering, Plan
from paddock.serve.asking import Asked, plan_chat
from paddock.serve.dialects import Block, Blocks, Change, Message, ending_with, finished, in_blocks, thinking_options
from paddock.serve.logprobs import chat_logprobs, words_of
from paddock.serve.refusals import BadRequest, body_of
from paddock.serve.registry import Served
from paddock.serve.schemas.responses import (
    LOGPROBS,
    CallItem,
    ChosenTool,
    MessageItem,
    OutputItem,
    PlainFormat,
    RefusalPart,
    ResponsesBody,
    SchemaFormat,
    TextPart,
)
from paddock.serve.server import Here
from paddock.serve.streaming import Pieces, Stream, sse, unless_gone
from paddock.serve.structured import schema_grammar

router = APIRouter()
STORED = ("previous_response_id", "conversation", "prompt")
FORMAT = "text.format"
PREFIXES = {"reasoning": "rs", "text": "msg", "call": "fc"}


@router.post("/v1/responses")
async def responses(body: ResponsesBody, request: Request, server: Here) -> Response:
    """Answers a conversation, whole or streamed. Refuses what would need an earlier request to have been stored."""
    _check_stateless(body)
    ignored = body.ignored(server.settings.strict)
    served = server.registry.find(body.model)
    plan, unread = await asyncio.to_thread(planned, served, body)
    answering = Answering(server.worker, plan)
    telling = Telling(body, answering)
    response: Response
    if body.stream:
        response = Stream(ending_with(telling.events(), telling.failed), ending=answering.cancel)
    else:
        telling.blocks = await unless_gone(request, in_blocks(answering))
        response = JSONResponse(telling.body())
    return finished(response, plan.dropped, [*ignored, *unread])


def _check_stateless(body: ResponsesBody) -> None:
    for name in STORED:
        if getattr(body, name) is not None:
            raise BadRequest(
                f"{name} names something stored, and this server stores nothing",
                param=name,
                code="unsupported_parameter",
                fix="send the whole conversation as input",
            )
    if body.background:
        raise BadRequest(
            "background answers would have to be stored, and this server stores nothing",
            param="background",
            code="unsupported_parameter",
            fix="leave it out, and stream the answer if it takes long",
        )


class Telling:
    """One response: its events, or its body. A streamed response ends with the very body of a whole one."""

    def __init__(self, body: ResponsesBody, answering: Answering) -> None:
        self.asked, self.answering = body, answering
        self.blocks = Blocks()
        self._hex, self._created, self._serial = uuid.uuid4().hex, int(time.time()), 0
        self._logprobs = LOGPROBS in (body.include or ())

    async def events(self) -> Pieces:
        """OpenAI's events; the last one is response.completed, or response.incomplete where the limit cut it off."""
        yield self._event("response.created", response=self.body())
        yield self._event("response.in_progress", response=self.body())
        async with aclosing(self.answering.deltas()) as rounds:
            async for deltas in rounds:
                for delta in deltas:
                    for change in self.blocks.read(delta):
                        for piece in self._changed(change):
                            yield piece
        body = self.body()
        yield self._event(f"response.{body['status']}", response=body)

    def failed(self, error: PaddockError) -> str:
        for block in self.blocks.all[-1:]:
            block.whole = False
        told = body_of(error)["error"]
        code = told["code"] if told["code"] == "rate_limit_exceeded" else "server_error"
        return self._event("response.failed", response=self.body({"code": code, "message": told["message"]}))

    def body(self, error: dict[str, Any] | None = None) -> dict[str, Any]:
        """The response object as far as it is known."""
        ending, asked = self.blocks.ending, self.asked
        cut = ending is not None and ending.reason == "length"
        status = "in_progress" if ending is None else "incomplete" if cut else "completed"
        sampling = self.answering.plan.requests[0].sampling
        return {
            "id": f"resp_{self._hex}",
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": "failed" if error else status,
            "background": False,
            "error": error,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": self.answering.plan.served.name,
            "output": [self._item(block) for block in self.blocks.all],
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": asked.reasoning.effort if asked.reasoning else None, "summary": None},
            "store": False,
            "temperature": sampling.temperature,
            "text": {"format": _plain(asked.text.format) if asked.text and asked.text.format else {"type": "text"}},
            "tool_choice": _choice(asked.tool_choice),
            "tools": [{"type": "function", **tool.plain()} for tool in asked.tools or ()],
            "top_logprobs": asked.top_logprobs or 0,
            "top_p": sampling.top_p,
            "truncation": asked.truncation or "disabled",
            "usage": None if ending is None else self._usage(),
            "user": None,
        }

    def _usage(self) -> dict[str, Any]:
        usage = self.answering.usage
        return {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
            "output_tokens": usage.completion,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.prompt + usage.completion,
        }

    def _event(self, kind: str, **fields: Any) -> str:
        self._serial += 1
        return sse({"type": kind, "sequence_number": self._serial - 1, **fields}, kind)

    def _changed(self, change: Change) -> Iterator[str]:
        block = change.block
        place = {"item_id": self._id(block), "output_index": block.index}
        if change.what == "opened":
            item = {**self._item(block), "status": "in_progress"}
            if block.kind != "call":
                item["content"] = []
            yield self._event("response.output_item.added", output_index=block.index, item=item)
        if block.kind == "call":
            yield from self._call_changed(change, place)
        else:
            yield from self._text_changed(change, {**place, "content_index": 0})
        if change.what == "closed":
            yield self._event("response.output_item.done", output_index=block.index, item=self._item(block))

    def _call_changed(self, change: Change, place: dict[str, Any]) -> Iterator[str]:
        if change.what == "grew" and change.piece:
            yield self._event("response.function_call_arguments.delta", **place, delta=change.piece)
        if change.what == "closed":
            done = {"name": change.block.name, "arguments": change.block.text}
            yield self._event("response.function_call_arguments.done", **place, **done)

    def _text_changed(self, change: Change, place: dict[str, Any]) -> Iterator[str]:
        block = change.block
        kind = "response.output_text" if block.kind == "text" else "response.reasoning_text"
        if change.what == "opened":
            yield self._event("response.content_part.added", **place, part=self._part(block))
        elif change.what == "closed":
            yield self._event(f"{kind}.done", **place, text=block.text, **self._likely(block, block.tokens))
            yield self._event("response.content_part.done", **place, part=self._part(block))
        elif change.piece or (self._logprobs and block.kind == "text"):
            yield self._event(f"{kind}.delta", **place, delta=change.piece, **self._likely(block, change.tokens))

    def _item(self, block: Block) -> dict[str, Any]:
        head = {"id": self._id(block), "status": "completed" if block.whole else "incomplete"}
        if block.kind == "call":
            call = {"call_id": block.id, "name": block.name, "arguments": block.text}
            return {**head, "type": "function_call", **call}
        if block.kind == "reasoning":
            return {**head, "type": "reasoning", "summary": [], "content": [self._part(block)]}
        return {**head, "type": "message", "role": "assistant", "content": [self._part(block)]}

    def _part(self, block: Block) -> dict[str, Any]:
        if block.kind == "reasoning":
            return {"type": "reasoning_text", "text": block.text}
        return {"type": "output_text", "text": block.text, "annotations": [], **self._likely(block, block.tokens)}

    def _likely(self, block: Block, tokens: Sequence[Event]) -> dict[str, Any]:
        """Of text, the log-probabilities that were asked for."""
        if block.kind != "text":
            return {}
        if not self._logprobs:
            return {"logprobs": []}
        words, top = words_of(self.answering.plan.served), self.asked.top_logprobs or 0
        return {"logprobs": chat_logprobs(tokens, words, top)["content"]}

    def _id(self, block: Block) -> str:
        return f"{PREFIXES[block.kind]}_{self._hex}{block.index}"


# --- what is asked -------------------------------------------------------------------------------------------------


def planned(served: Served, body: ResponsesBody) -> tuple[Plan, list[str]]:
    """The engine's request for a body, and which fields the model's template does not read."""
    effort = body.reasoning.effort if body.reasoning else None
    silent = effort == "none"
    options, heeded = thinking_options(served, False if silent else None, None if silent else effort)
    settings = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    asked = Asked(
        messages=messages_of(body),
        tools=[{"type": "function", "function": tool.plain()} for tool in body.tools or ()],
        tool_choice=_function(choice) if isinstance(choice := body.tool_choice, ChosenTool) else choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        grammar=_grammar(body.text.format if body.text else None),
        grammar_field=FORMAT,
        template_options=options,
        max_tokens=body.max_output_tokens,
        stop=body.stop,
        seed=body.seed,
        settings={name: value for name in settings if (value := getattr(body, name)) is not None},
        logprobs=(body.top_logprobs or 0) if LOGPROBS in (body.include or ()) else None,
        truncation=body.truncation or "disabled",
    )
    return plan_chat(served, asked), [] if heeded else ["reasoning.effort"]


def messages_of(body: ResponsesBody) -> list[Message]:
    """The input as a conversation in chat's form: a call belongs to the assistant's message before it.

    Raises BadRequest for one without messages.
    """
    messages: list[Message] = [{"role": "system", "content": body.instructions}] if body.instructions else []
    for item in body.items:
        if isinstance(item, MessageItem):
            messages.append({"role": item.role, "content": _parts(item.content)})
        elif isinstance(item, CallItem):
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            call = {
                "id": item.call_id,
                "type": "function",
                "function": {"name": item.name, "arguments": item.arguments},
            }
            messages[-1].setdefault("tool_calls", []).append(call)
        elif isinstance(item, OutputItem):
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": _parts(item.output)})
    if all(message["role"] == "system" for message in messages):
        raise BadRequest("there is nothing to answer", param="input", fix="give a user's message")
    return messages


def _function(choice: ChosenTool) -> dict[str, Any]:
    return {"type": "function", "function": {"name": choice.name}}


def _grammar(form: PlainFormat | SchemaFormat | None) -> Grammar | None:
    """What `text.format` lets an answer be."""
    if isinstance(form, SchemaFormat):
        return schema_grammar(form.schema_, FORMAT)
    return Grammar("json_object") if form is not None and form.type == "json_object" else None


def _plain(form: PlainFormat | SchemaFormat) -> dict[str, Any]:
    """A format as a response repeats it: what was heeded of it."""
    return form.model_dump(include=set(type(form).model_fields), by_alias=True, exclude_none=True)


def _choice(choice: str | ChosenTool | None) -> str | dict[str, Any]:
    """A request's `tool_choice` as a response repeats it."""
    return {"type": "function", "name": choice.name} if isinstance(choice, ChosenTool) else choice or "auto"


def _parts(content: str | list[TextPart] | list[TextPart | RefusalPart]) -> str | list[Message]:
    if isinstance(content, str):
        return content
    texts = (part.text if isinstance(part, TextPart) else part.refusal for part in content)
    return [{"type": "text", "text": text} for text in texts]
