"""OpenAI's own client against a server on a socket: chat, completions, streams, log-probabilities, models, errors.

The Responses API and embeddings are tested with their routes, tools in test_tools.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from paddock.serve.server import Server

MODEL = "stories260K"
ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Tell me a story"}],
    "max_completion_tokens": 16,
    "temperature": 0,
}


@pytest.fixture(scope="module")
def openai_client(live: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{live}/v1", api_key="unused", max_retries=0, timeout=60) as made:
        yield made


def expected(server: Server, **settings: Any) -> str:
    return server.registry.find(None).model.chat(ASK["messages"], 16, **settings).text


def test_chat(openai_client: OpenAI, server: Server) -> None:
    answer = openai_client.chat.completions.create(**ASK)
    choice = answer.choices[0]
    assert choice.message.content == expected(server, temperature=0) and choice.message.role == "assistant"
    assert choice.finish_reason == "length" and answer.model == MODEL and answer.system_fingerprint
    assert answer.usage is not None and answer.usage.completion_tokens == 16
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens is not None


def test_settings_that_openai_does_not_know(openai_client: OpenAI, server: Server) -> None:
    seeded = {"temperature": 1.2, "seed": 11}
    answer = openai_client.chat.completions.create(**{**ASK, **seeded}, extra_body={"top_k": 3, "min_p": 0.01})
    assert answer.choices[0].message.content == expected(server, **seeded, top_k=3, min_p=0.01)
    stop = expected(server, temperature=0)[5:8]
    stopped = openai_client.chat.completions.create(**ASK, stop=[stop], n=2, logit_bias={"5": -100})
    assert [choice.finish_reason for choice in stopped.choices] == ["stop", "stop"]


def test_a_stream(openai_client: OpenAI, server: Server) -> None:
    text, usage, reasons = "", None, []
    options: Any = {"include_usage": True}
    for chunk in openai_client.chat.completions.create(**ASK, stream=True, stream_options=options):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert text == expected(server, temperature=0) and reasons == ["length"]
    assert usage is not None and usage.completion_tokens == 16


def test_the_client_s_own_accumulator(openai_client: OpenAI, server: Server) -> None:
    """The helper that puts a stream together checks each chunk on its way; it takes no answer that the limit cut."""
    text = expected(server, temperature=0)
    with openai_client.chat.completions.stream(**ASK, stop=[text[-3:]], logprobs=True, top_logprobs=2) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done", "logprobs.content.delta"} <= kinds
    assert final.choices[0].message.content == text[: text.index(text[-3:])]
    assert final.choices[0].finish_reason == "stop"
    logprobs = final.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None and 0 < len(logprobs.content) <= 16


def test_a_stream_that_is_left_frees_its_place(openai_client: OpenAI, server: Server) -> None:
    with openai_client.chat.completions.create(**{**ASK, "max_completion_tokens": 300}, stream=True) as stream:
        next(iter(stream))
    assert openai_client.chat.completions.create(**ASK).choices[0].message.content


def test_log_probabilities(openai_client: OpenAI) -> None:
    answer = openai_client.chat.completions.create(**ASK, logprobs=True, top_logprobs=5)
    told = answer.choices[0].logprobs
    assert told is not None and told.content is not None
    assert "".join(token.token for token in told.content) == answer.choices[0].message.content
    for token in told.content:
        assert len(token.top_logprobs) == 5 and token.logprob == token.top_logprobs[0].logprob <= 0


class Weather(BaseModel):
    sunny: bool
    wind: Literal["north", "south"]


def test_an_answer_of_a_schema(openai_client: OpenAI) -> None:
    """`parse` sends the strict JSON schema of a class, and gives back one of it."""
    ask = {**ASK, "max_completion_tokens": 200, "temperature": 1.0}
    for seed in range(4):
        answer = openai_client.chat.completions.parse(**ask, seed=seed, response_format=Weather)
        assert isinstance(answer.choices[0].message.parsed, Weather)
        assert answer.choices[0].finish_reason == "stop"


def test_completions(openai_client: OpenAI, server: Server) -> None:
    model = server.registry.find(None).model
    wanted = model.generate("Once upon a time", 12, temperature=0).text
    ask: dict[str, Any] = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0}
    whole = openai_client.completions.create(**ask, logprobs=2, echo=True)
    assert whole.choices[0].text == "Once upon a time" + wanted
    told = whole.choices[0].logprobs
    assert told is not None and told.tokens is not None and len(told.tokens) == 5 + 12
    text = "".join(chunk.choices[0].text for chunk in openai_client.completions.create(**ask, stream=True))
    assert text == wanted
    both = openai_client.completions.create(**{**ask, "prompt": [[1, 403, 407, 261, 378], [1, 403]]})
    assert both.choices[0].text == wanted and both.choices[1].index == 1


def test_models(openai_client: OpenAI) -> None:
    assert [model.id for model in openai_client.models.list()] == [MODEL]
    assert openai_client.models.retrieve(MODEL).object == "model"


@pytest.mark.parametrize(
    ("changes", "kind", "code"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, "model_not_found"),
        ({"max_completion_tokens": 4000}, openai.BadRequestError, "context_length_exceeded"),
        ({"temperature": -1}, openai.BadRequestError, None),
        ({"n": 9}, openai.BadRequestError, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors(openai_client: OpenAI, changes: dict[str, Any], kind: type, code: str | None, stream: bool) -> None:
    with pytest.raises(kind) as caught:
        openai_client.chat.completions.create(**{**ASK, **changes}, stream=stream)
    assert caught.value.code == code and caught.value.body["message"]


def test_many_at_once(live: str, server: Server) -> None:
    """Sixteen streams side by side: each gets what its seed gives alone."""

    async def one(client: AsyncOpenAI, seed: int) -> str:
        stream = await client.chat.completions.create(**{**ASK, "temperature": 1.0}, seed=seed, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def main() -> list[str]:
        async with AsyncOpenAI(base_url=f"{live}/v1", api_key="unused", max_retries=0, timeout=60) as client:
            return list(await asyncio.gather(*(one(client, seed) for seed in range(16))))

    assert asyncio.run(main()) == [expected(server, temperature=1.0, seed=seed) for seed in range(16)]
