"""lm-evaluation-harness `local-completions` against a server on a socket: what it scores over HTTP is what the model
says in process, to the bit. No task is downloaded: the requests are made here."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from paddock.engine.language_model import LanguageModel
from paddock.serve.server import Server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

PAIRS = [
    ("Once upon a time", ", there was a little girl named Lily."),
    ("The cat sat on the", " mat"),
    ("The cat sat on the", " moon and sang"),
    ("", "Tom had a big red ball."),
    ("从前", "有一只猫"),
    ("One day, " * 20, "the dog ran"),
    ("She said", ' "🙂"'),
]


@pytest.fixture(scope="module")
def model(server: Server) -> LanguageModel:
    return server.registry.find(None).model


@pytest.fixture(scope="module")
def folder(model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled tokenizer as a folder that transformers can read."""
    path = tmp_path_factory.mktemp("tokenizer")
    model.tokenizer.save(path)
    return path


def harness(live: str, folder: Path, **options: Any) -> Any:
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    return LocalCompletionsAPI(
        model="stories260K",
        base_url=f"{live}/v1/completions",
        tokenizer=str(folder),
        tokenizer_backend="huggingface",
        max_length=512,
        max_retries=1,
        **options,
    )


def instances(kind: Any, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, each, place) for place, each in enumerate(arguments)]


def scored(model: LanguageModel, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """What the harness wants to know, in process: the log-likelihood, and whether greedy decoding would write it."""
    ids = [*context, *continuation]
    rows = model.logits(ids[:-1]).log_softmax(-1)[len(context) - 1 :]
    values = [float(row[id]) for row, id in zip(rows, continuation, strict=True)]
    return sum(values), all(value == float(row.max()) for row, value in zip(rows, values, strict=True))


@pytest.mark.parametrize(("batch", "concurrent"), [(1, 1), (4, 1), (2, 3)])
def test_log_likelihoods(live: str, folder: Path, model: LanguageModel, batch: int, concurrent: int) -> None:
    lm = harness(live, folder, batch_size=batch, num_concurrent=concurrent)
    found = lm.loglikelihood(instances("loglikelihood", PAIRS), disable_tqdm=True)
    expected = []
    for context, continuation in PAIRS:
        if context:
            before, after = lm._encode_pair(context, continuation)
        else:
            before, after = [lm.prefix_token_id], lm.tok_encode(continuation)
        expected.append(scored(model, before, after))
    assert found == expected
    assert len({greedy for _, greedy in found}) == 2, "some are what the model would write, some are not"


def test_rolling_log_likelihoods(live: str, folder: Path, model: LanguageModel) -> None:
    """A whole text, as for perplexity, also where it is longer than the context."""
    lm = harness(live, folder, batch_size=1)
    text = "Once upon a time there was a little girl. "
    found = lm.loglikelihood_rolling(instances("loglikelihood_rolling", [(text,), (text * 40,)]), disable_tqdm=True)
    ids = lm.tok_encode(text)
    assert found[0] == pytest.approx(scored(model, [lm.prefix_token_id], ids)[0], rel=1e-9)
    assert found[1] < 2 * found[0]


def test_generation(live: str, folder: Path, model: LanguageModel) -> None:
    lm = harness(live, folder, batch_size=2)
    asked = [(prompt, {"until": ["."], "max_gen_toks": 20}) for prompt in ("Once upon a time", "The cat", "Tom")]
    found = lm.generate_until(instances("generate_until", asked), disable_tqdm=True)
    for (prompt, _), text in zip(asked, found, strict=True):
        ids = lm.tok_encode(prompt)
        assert text == model.generate(ids, 20, temperature=0, stop=["."]).text
    assert all(itertools.starmap(lambda one, other: one != other, itertools.combinations(found, 2)))
