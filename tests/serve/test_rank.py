"""/v1/rerank by a cross-encoder or by vectors, and /v1/classify, against the library and transformers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from serve_models import WORDS, serving, write_bert

QUERY = "the cat sat"
DOCUMENTS = ["a dog ran .", "the cat sat on the mat .", "mat", "the dog sat"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("readers")
    judge = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    moods = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "sad", "1": "glad", "2": "neither"}}
    return {
        "plain": write_bert(folder / "plain"),
        "judge": write_bert(folder / "judge", **judge),
        "moods": write_bert(folder / "moods", **moods),
    }


@pytest.fixture(scope="module")
def readers(folders: dict[str, Any]) -> Iterator[TestClient]:
    with serving(**folders) as (_, client):
        yield client


def rerank(client: TestClient, **fields: Any) -> dict[str, Any]:
    response = client.post("/v1/rerank", json={"query": QUERY, "documents": DOCUMENTS, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    return answer


def by_document(answer: dict[str, Any]) -> dict[int, float]:
    return {result["index"]: result["relevance_score"] for result in answer["results"]}


def test_vectors_rank_by_their_cosine(readers: TestClient) -> None:
    answer = rerank(readers, model="plain")
    model = readers.app.state.server.registry.find("plain").model  # type: ignore[attr-defined]
    query, *documents = model.embed([QUERY, *DOCUMENTS])
    assert by_document(answer) == pytest.approx({i: float(query @ row) for i, row in enumerate(documents)}, abs=1e-6)
    assert answer["paddock"]["method"] == "embedding" and answer["paddock"]["pooling"] == "mean"
    tokens = sum(len(model.tokenizer.encode(text)) for text in (QUERY, *DOCUMENTS))
    assert answer["usage"]["total_tokens"] == tokens


def test_a_cross_encoder_reads_pairs_as_transformers_does(readers: TestClient, folders: dict[str, Any]) -> None:
    from transformers import BertForSequenceClassification, BertTokenizer

    theirs = BertForSequenceClassification.from_pretrained(folders["judge"]).eval()
    tokenizer = BertTokenizer(str(folders["judge"] / "vocab.txt"))
    with torch.no_grad():
        inputs = [tokenizer(QUERY, document, return_tensors="pt") for document in DOCUMENTS]
        expected = [theirs(**one).logits.sigmoid().item() for one in inputs]
    answer = rerank(readers, model="judge")
    assert answer["paddock"]["method"] == "cross-encoder"
    assert by_document(answer) == pytest.approx(dict(enumerate(expected)), abs=1e-5)
    assert answer["usage"]["total_tokens"] == sum(one["input_ids"].shape[1] for one in inputs)
    assert len({round(score, 4) for score in expected}) > 1


@pytest.mark.parametrize("model", ["plain", "judge"])
def test_the_best_few_with_their_texts(readers: TestClient, model: str) -> None:
    whole = rerank(readers, model=model)["results"]
    documents = [{"text": text} if i % 2 else text for i, text in enumerate(DOCUMENTS)]
    answer = rerank(readers, model=model, documents=documents, top_n=2, return_documents=True)
    assert [result["index"] for result in answer["results"]] == [result["index"] for result in whole[:2]]
    assert all(result["document"] == {"text": DOCUMENTS[result["index"]]} for result in answer["results"])
    assert len(rerank(readers, model=model, top_n=99)["results"]) == len(DOCUMENTS)
    assert readers.post("/rerank", json={"query": QUERY, "documents": DOCUMENTS}).status_code == 200


@pytest.mark.parametrize("model", ["plain", "judge"])
def test_long_documents_are_refused_or_cut_as_asked(readers: TestClient, model: str) -> None:
    documents = [*DOCUMENTS, "dog " * 60]
    response = readers.post("/v1/rerank", json={"query": QUERY, "documents": documents, "model": model})
    assert response.status_code == 400 and response.json()["error"]["code"] == "context_length_exceeded"
    answer = rerank(readers, model=model, documents=documents, truncate=True)
    assert answer["paddock"]["truncated"] == [4]
    long = {"query": "dog " * 60, "documents": DOCUMENTS, "model": model, "truncate": True}
    assert readers.post("/v1/rerank", json=long).status_code == 400, "a query is never cut"


def test_a_decoder_ranks_by_vectors(client: TestClient) -> None:
    assert rerank(client)["paddock"]["method"] == "embedding"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": QUERY},
        {"query": QUERY, "documents": []},
        {"query": QUERY, "documents": [3]},
        {"query": QUERY, "documents": [{"body": "a"}]},
        {"query": QUERY, "documents": "a"},
        {"query": [QUERY], "documents": DOCUMENTS},
        {"query": QUERY, "documents": DOCUMENTS, "top_n": 0},
        {"query": QUERY, "documents": ["a"] * 2049},
    ],
    ids=lambda body: str(body)[:50],
)
def test_what_cannot_be_ranked_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/v1/rerank", json=body).status_code == 400


def test_classes_are_those_of_the_library(readers: TestClient) -> None:
    model = readers.app.state.server.registry.find("moods").model  # type: ignore[attr-defined]
    texts = [" ".join(WORDS[5:9]), "dog"]
    answer = readers.post("/v1/classify", json={"input": texts, "model": "moods"}).json()
    for row, text in zip(answer["data"], texts, strict=True):
        expected = model.classify(text)
        assert row["label"] == expected[0].name and row["num_classes"] == 3
        assert [(label["label"], label["score"]) for label in row["labels"]] == [(x.name, x.score) for x in expected]
    assert answer["usage"]["prompt_tokens"] == sum(len(model.tokenizer.encode(text)) for text in texts)
    one = readers.post("/classify", json={"input": texts[1], "model": "moods"}).json()
    assert one["data"][0]["labels"] == answer["data"][1]["labels"]


def test_pairs_have_classes_too(readers: TestClient) -> None:
    model = readers.app.state.server.registry.find("moods").model  # type: ignore[attr-defined]
    pair = [" ".join(WORDS[5:8]), "dog"]
    answer = readers.post("/v1/classify", json={"input": ["dog", pair], "model": "moods"}).json()
    for row, texts in zip(answer["data"], (["dog"], pair), strict=True):
        expected = model.classify(*texts)
        assert [(label["label"], label["score"]) for label in row["labels"]] == [(x.name, x.score) for x in expected]
        assert "apply" not in row
    assert (
        answer["data"][1]["labels"]
        != readers.post("/v1/classify", json={"input": " ".join(pair), "model": "moods"}).json()["data"][0]["labels"]
    )
    apart = [len(model.tokenizer.encode(text, add_special=False)) for text in pair]
    assert answer["usage"]["prompt_tokens"] == 3 + (2 + 1) + sum(apart)
    for bad in ([["dog"]], [["a", "b", "c"]], [["a", 1]]):
        assert readers.post("/v1/classify", json={"input": bad, "model": "moods"}).status_code == 400
    long = readers.post("/v1/classify", json={"input": [["cat " * 30, "cat " * 30]], "model": "moods"})
    assert long.status_code == 400 and long.json()["error"]["code"] == "context_length_exceeded"


def test_which_of_several_classes_apply(readers: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    served = readers.app.state.server.registry.find("moods")  # type: ignore[attr-defined]
    config = {**served.model.checkpoint.config, "problem_type": "multi_label_classification"}
    monkeypatch.setattr(served.model, "checkpoint", replace(served.model.checkpoint, config=config))
    row = readers.post("/v1/classify", json={"input": "dog", "model": "moods"}).json()["data"][0]
    scores = {label["label"]: label["score"] for label in row["labels"]}
    assert sum(scores.values()) != pytest.approx(1.0, abs=1e-3)
    assert row["apply"] == [name for name, score in scores.items() if score >= 0.5]


def test_classes_are_asked_of_models_that_have_them(readers: TestClient, client: TestClient) -> None:
    for response in (
        client.post("/v1/classify", json={"input": "a"}),
        readers.post("/v1/classify", json={"input": "a", "model": "plain"}),
        readers.post("/v1/classify", json={"input": "cat " * 60, "model": "moods"}),
        readers.post("/v1/classify", json={"input": [], "model": "moods"}),
        readers.post("/v1/classify", json={"input": [[1]], "model": "moods"}),
    ):
        assert response.status_code == 400, response.text


def test_a_text_that_is_refused_does_not_keep_the_worker(readers: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting eight million characters up takes long, and the worker's thread writes for everybody."""
    server = readers.app.state.server  # type: ignore[attr-defined]
    tokenizer, threads = server.registry.find("moods").model.tokenizer, set()
    encode = tokenizer.encode

    def watched(text: str, *rest: Any, **more: Any) -> Any:
        threads.add(threading.current_thread().name)
        return encode(text, *rest, **more)

    monkeypatch.setattr(tokenizer, "encode", watched)
    response = readers.post("/v1/classify", json={"input": ["cat", "cat " * 60], "model": "moods"})
    assert response.status_code == 400 and response.json()["error"]["code"] == "context_length_exceeded"
    assert threads and "paddock-worker" not in threads
