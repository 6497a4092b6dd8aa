"""Validation in units that do not depend on the vocabulary, and what is logged beside the loop's own numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paddock.checkpoint.weights import sketch
from paddock.data.batch import IGNORED
from paddock.data.packing import Stream
from paddock.data.preparing.causal import Causal
from paddock.data.shards import Tokens
from paddock.data.stream import BatchStream
from paddock.errors import UsageError
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.tokenizer import load
from paddock.training import rates, tensorboard, validation
from paddock.training.loop import StepReport, Trainer
from paddock.training.losses import WeightedLoss
from paddock.training.metrics import TIMED, Metrics, timeless
from paddock.training.parallel import Alone
from paddock.training.recipe import Training
from paddock.training.validation import byte_lengths, measure, share

CONFIG = {
    "model_type": "llama",
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
LENGTHS = np.arange(31) % 4  # every fourth id stands for no text
TEXT = "To be, or not to be: 知之为知之 — naïve 🦙\n\tthat is  the question."


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PADDOCK_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stream(rows: int = 4, samples: int = 11) -> BatchStream:
    random = np.random.default_rng(0)
    tokens = Tokens.of(random.integers(0, 31, random.integers(2, 30)) for _ in range(samples * 2))
    return BatchStream(Stream(tokens, 16), Causal(16), rows, seed=0)


def trainer(rank: int = 0, ranks: int = 1, loss: Any = None, **recipe: Any) -> Trainer:
    model = initialise(blank(sketch(describe(CONFIG))), 0)
    parallel = Alone(torch.device("cpu"), data_rank=rank, data_ranks=ranks)
    return Trainer(model, stream(), loss or WeightedLoss(), Training(**{"steps": 5, "batch": 4, **recipe}), parallel)


def expected(run: Trainer) -> tuple[float, int, int]:
    """Nats, targets and bytes, without any of the loop's code."""
    nats, targets, size = 0.0, 0, 0
    with torch.no_grad():
        for batch in stream().once():
            logits = run.model(batch.ids, batch.step(run.model.architecture)).double().log_softmax(-1)
            for row, column in (batch.targets != IGNORED).nonzero().tolist():
                target = int(batch.targets[row, column])
                nats -= float(logits[row, column, target])
                targets, size = targets + 1, size + int(LENGTHS[target])
    return nats, targets, size


def test_bits_per_byte_are_nats_over_the_bytes_that_targets_stand_for() -> None:
    run = trainer(loss=WeightedLoss(z=1.0), dropout=0.5, micro_batch=3)
    score = measure(run, stream(), LENGTHS)
    nats, targets, size = expected(run)
    assert (score.targets, score.bytes) == (targets, size)
    assert score.loss == pytest.approx(nats / targets, rel=1e-6)  # no z, no dropout
    assert score.perplexity == pytest.approx(math.exp(nats / targets), rel=1e-5)
    assert score.bits_per_byte == pytest.approx(nats / math.log(2) / size, rel=1e-6)


def test_ranks_share_the_rows_and_go_through_the_model_equally_often() -> None:
    scores = [measure(trainer(rank, 5), stream(3), LENGTHS) for rank in range(5)]
    nats, targets, size = expected(trainer())
    assert sum(score.targets for score in scores) == targets and sum(score.bytes for score in scores) == size
    assert sum(score.loss * score.targets for score in scores if score.targets) == pytest.approx(nats, rel=1e-6)
    batches = list(stream(3).once())
    assert batches[-1].rows < 3
    for rank in range(5):
        assert [share(batch, rank, 5).rows for batch in batches] == [1] * len(batches)


def test_no_targets_and_no_lengths() -> None:
    assert measure(trainer(), stream(), None).bits_per_byte is None
    assert measure(trainer(), stream(), np.zeros(31, dtype=np.int64)).bits_per_byte is None


@pytest.mark.parametrize(("folder", "extra"), [("gpt2", 0), ("llama", 1), ("t5", None)])
def test_byte_lengths_add_up_to_the_text(shared_data: Path, folder: str, extra: int | None) -> None:
    tokenizer = load(shared_data / "tokenizers" / folder)
    lengths = byte_lengths(tokenizer)
    assert lengths.dtype == np.int64 and len(lengths) == len(tokenizer)
    text = "the cat sat on the mat" if extra is None else TEXT
    ids = tokenizer.encode(text, add_special=False)
    assert lengths[ids].sum() == len(text.encode()) + (1 if extra is None else extra)
    assert all(lengths[number] == 0 for number in tokenizer.eos_ids)


def test_word_pieces_count_the_space_before_a_word(shared_data: Path) -> None:
    tokenizer = load(shared_data / "tokenizers" / "bert")
    lengths = byte_lengths(tokenizer)
    ids = tokenizer.encode("the unquestionable cat", add_special=False)
    assert lengths[ids].sum() == len(" the unquestionable cat")


# --- what is logged ---


def logged(sinks: Any = (), **recipe: Any) -> list[dict[str, Any]]:
    run = trainer(**recipe)
    extras: list[dict[str, Any]] = []
    metrics = Metrics(run, sinks, measure=validation.on(stream(), LENGTHS), sampler=lambda model: ["once upon"])
    run.run(lambda report: extras.append(metrics(report)))
    return extras


def test_measured_when_due_and_at_the_end() -> None:
    extras = logged(evaluate_every=2, sample_every=3)
    assert [number for number, extra in enumerate(extras, 1) if "validation" in extra] == [2, 4, 5]
    assert [number for number, extra in enumerate(extras, 1) if "samples" in extra] == [3, 5]
    assert set(extras[1]["validation"]) == {"loss", "perplexity", "bits_per_byte", "targets", "bytes"}
    assert not any("validation" in extra for extra in logged())


def test_validation_does_not_change_the_run() -> None:
    told = [[extra["loss_hex"] for extra in logged(dropout=0.2, evaluate_every=every)] for every in (0, 1)]
    assert told[0] == told[1]


def test_equal_runs_log_the_same_but_for_the_machine() -> None:
    records: list[list[dict[str, Any]]] = [[], []]
    for found in records:
        logged([lambda record, found=found: found.append(timeless(record))], evaluate_every=2, sample_every=2)
    assert records[0] == records[1] and len(records[0]) == 5
    assert not set(records[0][0]) & set(TIMED)
    assert float.fromhex(records[0][0]["loss_hex"]) == records[0][0]["loss"]


def test_rates_follow_from_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "matrix_rate", lambda device, dtype: 1e12)
    report = StepReport(1, 2.0, 10, 1.0, 1e-3, tokens=640, flops=5e10, seconds=0.5)
    extra = Metrics(trainer())(report)
    assert (extra["tokens_per_second"], extra["mfu"]) == (1280.0, 0.1)
    assert extra["memory"] > 2**20


def test_the_machine_is_measured_once() -> None:
    first = rates.matrix_rate(torch.device("cpu"), torch.float32)
    assert first > 1e8 and rates.matrix_rate(torch.device("cpu"), torch.float32) == first


def test_a_score_without_end_is_infinite_not_an_error() -> None:
    run = trainer()
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.mul_(1e4)
    score = measure(run, stream(), LENGTHS)
    assert score.perplexity == math.inf and score.loss > 700


def test_tensorboard_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = tensorboard.TensorBoard(tmp_path)
    logged([board], evaluate_every=2, sample_every=2)
    board.close()
    (events,) = tmp_path.glob("events.*")
    assert all(tag.encode() in events.read_bytes() for tag in ("loss", "validation/bits_per_byte", "once upon"))


def test_tensorboard_is_refused_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="not installed"):
        tensorboard.TensorBoard(tmp_path)
