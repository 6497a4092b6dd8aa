"""LangChain's ChatOpenAI against a server on a socket."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from paddock.serve.server import Server

MESSAGES = [("user", "Tell me a story")]


@pytest.fixture(scope="module")
def chat(live: str) -> ChatOpenAI:
    settings: dict[str, Any] = {"base_url": f"{live}/v1", "api_key": "unused", "model": "stories260K"}
    return ChatOpenAI(**settings, temperature=0, max_completion_tokens=16, stream_usage=True, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def wanted(server: Server) -> str:
    model = server.registry.find(None).model
    return model.chat([{"role": "user", "content": "Tell me a story"}], 16, temperature=0).text


def test_invoke(chat: ChatOpenAI, wanted: str) -> None:
    answer = chat.invoke(MESSAGES)
    assert answer.content == wanted
    assert answer.usage_metadata is not None and answer.usage_metadata["output_tokens"] == 16
    assert answer.response_metadata["finish_reason"] == "length"


def test_stream(chat: ChatOpenAI, wanted: str) -> None:
    whole: Any = None
    for chunk in chat.stream(MESSAGES):
        whole = chunk if whole is None else whole + chunk
    assert whole.content == wanted and whole.usage_metadata["output_tokens"] == 16


def test_batch_and_stop(chat: ChatOpenAI, wanted: str) -> None:
    answers = chat.batch([MESSAGES, MESSAGES], stop=[wanted[4:7]])
    assert [answer.content for answer in answers] == [wanted[: wanted.index(wanted[4:7])]] * 2


def test_log_probabilities(chat: ChatOpenAI) -> None:
    answer = chat.bind(logprobs=True, top_logprobs=2).invoke(MESSAGES)
    assert len(answer.response_metadata["logprobs"]["content"]) == 16
