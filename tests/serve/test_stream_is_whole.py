"""A stream put together is the whole answer, whoever else is served meanwhile: text, finish reasons, log-probabilities
and usage, for random requests.

Also: no character is split between chunks, and a stop string is found wherever the tokens' borders are. What is known
of single bytes is in test_answering.py.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
from fastapi.testclient import TestClient
from streams import events, together, whole_text

from paddock.engine.language_model import LanguageModel
from paddock.serve.server import Server

PIECES = [
    "Once upon a time", " the cat", "从前有一只猫", "🙂👩\u200d👧", "</s>", "<s>", "<|im_start|>", "\n\n", "naïve", " ",
    "### Response:", "12,345", "e\u0301", "ﷺ", "\u200b", "\t", "system", "the", "Lily",
]  # fmt: skip
# Ids of the bundled vocabulary: 3 + byte. A bias towards them makes it write Chinese and emoji, whole and broken.
BYTES = [3 + byte for text in ("中文", "🙂", "é") for byte in text.encode()]
COUNT, AT_ONCE = 200, 12
STREAMED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


def random_body(random: random.Random, model: LanguageModel) -> tuple[str, dict[str, Any]]:
    """A request to either address, with anything that changes what comes back."""
    text = "".join(random.choice(PIECES) for _ in range(random.randint(1, 6)))
    body: dict[str, Any] = {"max_tokens": random.randint(1, 24), "seed": random.randrange(2**64)}
    body["temperature"] = random.choice([0, 0.7, 1.0, 3.0])
    body |= {"n": random.choice([2, 3])} if random.random() < 0.25 else {}
    if random.random() < 0.5:
        body["logit_bias"] = {str(id): random.choice([5, 12]) for id in BYTES}
    if random.random() < 0.3:
        body["top_k"], body["min_p"] = random.choice([0, 5, 40]), random.choice([0, 0.05])
    if random.random() < 0.3:
        body["repetition_penalty"] = 1.3
    if random.random() < 0.5:
        body["stop"] = random.choice(
            ["e", [".", " a"], ["中", "\ufffd"], "was a", ["\u6587", "🙂"], ["\n"], [" the big", "on"]]
        )
    if random.random() < 0.5:
        body["messages"] = [{"role": "user", "content": text}]
        body |= {"logprobs": True, "top_logprobs": random.choice([0, 3])} if random.random() < 0.5 else {}
        return "/v1/chat/completions", body
    body["prompt"] = text if random.random() < 0.7 else list(model.tokenizer.encode(text))
    body |= {"logprobs": random.choice([0, 2])} if random.random() < 0.5 else {}
    body |= {"echo": True} if random.random() < 0.3 else {}
    return "/v1/completions", body


def both(client: TestClient, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same request answered whole and streamed."""
    whole = client.post(path, json=body)
    assert whole.status_code == 200, (whole.text, body)
    streamed = client.post(path, json={**body, **STREAMED})
    return whole.json(), events(streamed.text)


async def all_of_them(address: str, asked: list[tuple[str, dict[str, Any]]]) -> list[tuple[Any, list[Any]]]:
    """Each request answered whole and streamed, AT_ONCE of them side by side."""
    turn = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=address, timeout=120) as client:

        async def one(path: str, body: dict[str, Any]) -> tuple[Any, list[Any]]:
            async with turn:
                whole = await client.post(path, json=body)
                assert whole.status_code == 200, (whole.text, body)
                streamed = await client.post(path, json={**body, **STREAMED})
                return whole.json(), events(streamed.text)

        return await asyncio.gather(*(one(*each) for each in asked))


def test_random_requests(live: str, server: Server) -> None:
    chance = random.Random(20261122)
    asked = [random_body(chance, server.registry.find(None).model) for _ in range(COUNT)]
    reasons, special = set(), 0
    for (_, body), (whole, chunks) in zip(asked, asyncio.run(all_of_them(live, asked)), strict=True):
        streamed = together(chunks)
        for choice, other in zip(whole["choices"], streamed["choices"], strict=True):
            assert whole_text(choice) == other["text"], body
            assert choice["finish_reason"] == other["finish_reason"], body
            told = {name: items for name, items in (choice["logprobs"] or {}).items() if items is not None}
            assert told == (other["logprobs"] or {}), body
            reasons.add(choice["finish_reason"])
            special += not whole_text(choice).isascii()
        counted = {key: value for key, value in whole["usage"].items() if not key.endswith("_details")}
        assert counted == {key: streamed["usage"][key] for key in counted}, body
        check_no_character_is_split(chunks, [whole_text(choice) for choice in whole["choices"]])
    assert reasons == {"stop", "length"} and special > 30


def check_no_character_is_split(chunks: list[dict[str, Any]], texts: list[str]) -> None:
    """No half of a character became U+FFFD on its way."""
    for place, text in enumerate(texts):
        pieces = [
            piece.get("text") or piece.get("delta", {}).get("content") or ""
            for chunk in chunks
            for piece in chunk["choices"]
            if piece["index"] == place
        ]
        assert sum(piece.count("\ufffd") for piece in pieces) == text.count("\ufffd")


def test_stop_strings_at_every_border(client: TestClient) -> None:
    """Every piece of a known text is a stop string once: the answer ends right before its first place."""
    ask = {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 0}
    text = whole_text(client.post("/v1/completions", json=ask).json()["choices"][0])
    assert len(text) > 60
    for length in (1, 4, 19):
        for start in range(0, len(text) - length, 5):
            stop = text[start : start + length]
            whole, chunks = both(client, "/v1/completions", {**ask, "stop": stop})
            expected = text[: text.index(stop)]
            assert whole_text(whole["choices"][0]) == expected == together(chunks)["choices"][0]["text"], stop
            assert whole["choices"][0]["finish_reason"] == "stop"


def test_a_stop_that_never_comes_holds_nothing_back_in_the_end(client: TestClient) -> None:
    ask = {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 0}
    text = whole_text(client.post("/v1/completions", json=ask).json()["choices"][0])
    whole, chunks = both(client, "/v1/completions", {**ask, "stop": [text[-5:] + "#", text[-1] + text[-1] + "#"]})
    assert whole_text(whole["choices"][0]) == text == together(chunks)["choices"][0]["text"]
    assert whole["choices"][0]["finish_reason"] == "length"
