"""/tokenize and /detokenize: what the model reads, and what ids spell."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response

from paddock.engine.language_model import OURS
from paddock.serve.asking import Asked, ready
from paddock.serve.bodies import tell_ignored
from paddock.serve.refusals import BadRequest
from paddock.serve.registry import Served
from paddock.serve.schemas.tokens import DetokenizeBody, TokenizeBody
from paddock.serve.server import Here
from paddock.tokenizer.chat import encode_prompt, render_marked

router = APIRouter()


@router.post("/tokenize")
async def tokenize(body: TokenizeBody, response: Response, server: Here) -> dict[str, Any]:
    """The ids of a text, or of a conversation as the chat template renders it (then `prompt` is the rendered text)."""
    tell_ignored(response, body.ignored(server.settings.strict))
    served = server.registry.find(body.model)
    return await asyncio.to_thread(tokenized, served, body)


@router.post("/detokenize")
async def detokenize(body: DetokenizeBody, response: Response, server: Here) -> dict[str, Any]:
    """The text that ids spell."""
    tell_ignored(response, body.ignored(server.settings.strict))
    tokenizer = server.registry.find(body.model).model.tokenizer
    return {"prompt": await asyncio.to_thread(tokenizer.decode, body.tokens, body.skip_special_tokens)}


def tokenized(served: Served, body: TokenizeBody) -> dict[str, Any]:
    """Raises what `plan_chat` does of a conversation, TokenizerError."""
    tokenizer, rendered = served.model.tokenizer, None
    if body.messages is not None:
        rendered, ids = _conversation(served, body)
    else:
        ids = tokenizer.encode(body.prompt or "", add_special=body.add_special_tokens)
    found = {
        "count": len(ids),
        "max_model_len": served.context,
        "tokens": ids,
        "token_strs": [tokenizer.piece(id) for id in ids] if body.return_token_strs else None,
    }
    return found if rendered is None else found | {"prompt": rendered}


def _conversation(served: Served, body: TokenizeBody) -> tuple[str, list[int]]:
    """The rendered text and its ids, which are those that a chat request reads."""
    options = body.chat_template_kwargs or {}
    if taken := sorted(OURS & options.keys()):
        raise BadRequest(f"{taken[0]!r} is not the template's own variable", param="chat_template_kwargs")
    told = [message.plain() for message in body.messages or ()]
    manner, messages = ready(served, Asked(messages=told, tools=[tool.plain() for tool in body.tools or ()]))
    tokenizer, template = served.model.tokenizer, served.model.template
    assert template is not None, "a model that is ready to chat has one"
    prompt = render_marked(
        tokenizer,
        template,
        messages,
        tools=manner.tools,
        add_generation_prompt=body.add_generation_prompt,
        **options,
    )
    return prompt.text, encode_prompt(tokenizer, template, prompt)
