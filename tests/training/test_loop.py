"""The loop end to end on models of two layers: equal sums however a batch is cut, equal bits when run again, and what
it does about steps that go wrong."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from paddock.checkpoint.weights import sketch
from paddock.data.batch import IGNORED, Batch
from paddock.data.packing import Stream
from paddock.data.preparing.causal import Causal
from paddock.data.shards import Tokens
from paddock.data.stream import BatchStream
from paddock.errors import DataError, DivergedError, UsageError
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.training import policies, precision
from paddock.training.loop import StepReport, Trainer
from paddock.training.losses import Loss, Sums, WeightedLoss, token_loss
from paddock.training.parallel import Alone
from paddock.training.recipe import Optimizer, Schedule, Training

CONFIG = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
T5 = {
    "model_type": "t5",
    "vocab_size": 61,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "feed_forward_proj": "relu",
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "is_encoder_decoder": True,
}
CPU = Alone(torch.device("cpu"))
SGD = Optimizer(name="sgd", learning_rate=1.0)
FLAT = Schedule(shape="constant")


def tiny_model(seed: int = 0, config: dict[str, Any] = CONFIG) -> Transformer:
    return initialise(blank(sketch(describe(config))), seed)


def counting(rows: int = 8) -> BatchStream:
    """Documents that count upwards, so that there is something to learn."""
    tokens = Tokens.of([(start + i) % 61 for i in range(5 + start % 30)] for start in range(200))
    return BatchStream(Stream(tokens, 32), Causal(32), rows, seed=1)


class Uneven:
    """Rows that ask for 2 to 30 targets each, one of them for none."""

    def at(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        whole = counting().at(step)
        targets = whole.targets.clone()
        for row, count in enumerate((2, 30, 17, 0, 9, 25, 3, 12)):
            targets[row, count:] = IGNORED
        return replace(whole, targets=targets)


def trainer(recipe: Training, loss: Loss = token_loss, **changes: Any) -> Trainer:
    parts = {"model": tiny_model(), "batches": counting(recipe.batch), **changes}
    return Trainer(parts["model"], parts["batches"], loss, recipe, CPU)


def heard(run: Trainer) -> list[StepReport]:
    reports: list[StepReport] = []
    run.run(reports.append)
    return reports


def losses(recipe: Training) -> list[float]:
    return [report.loss for report in heard(trainer(recipe))]


def weights(run: Trainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def lasting(report: StepReport) -> StepReport:
    return replace(report, seconds=0.0)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models this small are quicker on one, and far quicker where other processes want the cores."""
    monkeypatch.setenv("PADDOCK_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- what it computes ---


def test_it_learns_to_count() -> None:
    told = losses(Training(steps=60, optimizer=Optimizer(learning_rate=1e-2)))
    assert told[0] > 4.0 and told[-1] < 1.0


def test_tiny_shakespeare_goes_down(shared_data: Path) -> None:
    text = (shared_data / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")[:200_000]
    characters = {character: number for number, character in enumerate(sorted(set(text)))}
    model = tiny_model(config=CONFIG | {"vocab_size": len(characters)})
    stream = Stream(Tokens.of([[characters[character] for character in text]]), 64)
    recipe = Training(steps=30, batch=16, optimizer=Optimizer(learning_rate=1e-2), schedule=Schedule(warmup=3))
    run = trainer(recipe, model=model, batches=BatchStream(stream, Causal(64), 16, seed=0))
    told = [report.loss for report in heard(run)]
    assert told[0] == pytest.approx(math.log(len(characters)), abs=0.1)
    assert told[-1] < 2.9 and max(told[-5:]) < min(told[:10])


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_of_unequal_rows_change_nothing(micro_batch: int) -> None:
    recipe = Training(steps=5, optimizer=SGD, schedule=FLAT, precision="float32")
    whole = trainer(recipe, batches=Uneven())
    pieces = trainer(recipe.model_copy(update={"micro_batch": micro_batch}), batches=Uneven())
    for first, second in zip(heard(whole), heard(pieces), strict=True):
        assert second.loss == pytest.approx(first.loss, rel=1e-6)
        assert second.norm == pytest.approx(first.norm, rel=1e-5)
        assert second.targets == first.targets == Uneven().at(first.batch).supervised < 98
    one, other = weights(whole), weights(pieces)
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-6


def test_the_loss_is_that_of_a_target() -> None:
    report = heard(trainer(Training(steps=1, precision="float32"), batches=Uneven()))[0]
    batch, model = Uneven().at(0), tiny_model()
    with torch.no_grad():
        logits = model(batch.ids, batch.step(model.architecture)).double()
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED)
    assert report.loss == pytest.approx(float(expected), rel=1e-6)


def test_clipping_bounds_the_whole_gradient() -> None:
    for clip, moved in ((0.01, 0.01), (0.0, None)):
        run = trainer(Training(steps=1, clip=clip, optimizer=SGD, schedule=FLAT, precision="float32"))
        before = weights(run)
        (report,) = heard(run)
        change = math.sqrt(sum(float((value - before[name]).square().sum()) for name, value in weights(run).items()))
        assert report.norm > 0.1 and change == pytest.approx(moved or report.norm, rel=1e-4)


def test_a_report_says_what_was_read() -> None:
    first, second = heard(trainer(Training(steps=2, batch=4), WeightedLoss(z=1e-4)))
    assert (first.step, first.batch, first.tokens, second.batch) == (1, 0, 4 * 32, 1)
    assert first.targets == counting(4).at(0).supervised
    assert first.digest == counting(4).at(0).digest() != second.digest
    assert first.parts is not None and set(first.parts) == {"tokens", "z"}
    assert first.loss == pytest.approx(first.parts["tokens"] + 1e-4 * first.parts["z"], rel=1e-6)
    assert first.flops > 6 * 4 * 32 * 61 * 32 and first.seconds > 0 and first.updated


# --- again, and on from the middle ---


@pytest.mark.parametrize("config", [CONFIG, T5], ids=["llama", "t5"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_recomputing_activations_changes_no_gradient(config: dict[str, Any], dropout: float) -> None:
    drawn = torch.Generator().manual_seed(0)
    ids, targets, source = (torch.randint(0, 61, (3, length), generator=drawn) for length in (9, 9, 7))
    batch = Batch(ids, targets, source=source if config is T5 else None)
    model = tiny_model(config=config)
    found = []
    for recompute in (False, True):
        model.zero_grad()
        torch.manual_seed(1)
        sums = token_loss(model, batch, batch.step(model.architecture, dropout=dropout, recompute=recompute))
        sums.total.backward()
        found.append(
            (sums.total.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        )
    assert torch.equal(found[0][0], found[1][0]) and found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-5, atol=1e-7)


def test_recomputing_keeps_less() -> None:
    """Of what the forward pass leaves for the backward pass, blocks' inputs alone."""
    model, batch = tiny_model(), counting().at(0)

    def kept(recompute: bool) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            token_loss(model, batch, batch.step(model.architecture, recompute=recompute))
        return sum(sizes)

    assert kept(True) < 0.5 * kept(False)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_two_runs_are_equal_and_a_resumed_one_too(name: str) -> None:
    recipe = Training(
        steps=8,
        micro_batch=3,
        dropout=0.1,
        optimizer=Optimizer(name=name),
        schedule=Schedule(warmup=2),  # type: ignore[arg-type]
    )
    whole, again = trainer(recipe), trainer(recipe)
    told = [lasting(report) for report in heard(whole)]
    assert [lasting(report) for report in heard(again)] == told and same(weights(whole), weights(again))

    first = trainer(recipe)
    with pytest.raises(KeyboardInterrupt):
        first.run(stopping_after(3))
    second = trainer(recipe, model=first.model)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.restore(first.state())
    assert [lasting(report) for report in heard(second)] == told[3:] and same(weights(whole), weights(second))


def test_the_seed_decides_dropout() -> None:
    told = [losses(Training(steps=2, dropout=0.3, seed=seed)) for seed in (0, 0, 1)]
    assert told[0] == told[1] != told[2]


def stopping_after(step: int) -> Callable[[StepReport], None]:
    def stop(report: StepReport) -> None:
        if report.step == step:
            raise KeyboardInterrupt

    return stop


def test_every_listener_hears_of_every_step_in_turn() -> None:
    said: list[tuple[str, int]] = []
    trainer(Training(steps=2)).run(lambda r: said.append(("a", r.step)), lambda r: said.append(("b", r.step)))
    assert said == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


# --- steps that go wrong ---


def wrong_at(steps: set[int], poison: Callable[[torch.Tensor, Transformer], torch.Tensor]) -> Loss:
    """The token loss, poisoned in the forwards of those numbers (from 0)."""
    forwards = itertools.count()

    def loss(model: Transformer, batch: Batch, step: Step) -> Sums:
        sums = token_loss(model, batch, step)
        return replace(sums, total=poison(sums.total, model)) if next(forwards) in steps else sums

    return loss


def not_a_number(total: torch.Tensor, model: Transformer) -> torch.Tensor:
    return total * math.nan


def steep(total: torch.Tensor, model: Transformer) -> torch.Tensor:
    """A finite loss whose gradient is none: the slope of a square root at zero."""
    return total + (model.embedding.tokens.weight * 0).sum().sqrt()


@pytest.mark.parametrize(("poison", "what"), [(not_a_number, "the loss is nan"), (steep, "gradient's norm is nan")])
def test_a_bad_step_moves_no_weight_and_stops(poison: Any, what: str) -> None:
    run = trainer(Training(steps=6), wrong_at({3}, poison))
    before: dict[str, torch.Tensor] = {}
    reports: list[StepReport] = []
    with pytest.raises(DivergedError, match=rf"{what} at step 4 \(samples 24-31\)"):
        run.run(reports.append, lambda _: before.update(weights(run)))
    assert run.step == 3 and len(reports) == 3 and same(before, weights(run))
    assert all(math.isfinite(report.loss) for report in reports)


def test_only_the_samples_that_went_bad_are_named() -> None:
    run = trainer(Training(steps=2, micro_batch=3), wrong_at({3 + 1}, not_a_number))  # the second piece of step 2
    with pytest.raises(DivergedError, match=r"at step 2 \(samples 11-13\)"):
        heard(run)


def test_skipping_passes_over_a_bad_step() -> None:
    run = trainer(Training(steps=6, on_nonfinite="skip"), wrong_at({3}, not_a_number))
    seen: list[dict[str, torch.Tensor]] = []
    reports: list[StepReport] = []
    run.run(reports.append, lambda _: seen.append(weights(run)))
    assert [report.updated for report in reports] == [True, True, True, False, True, True]
    assert math.isnan(reports[3].loss) and reports[3].events[0].kind == "nonfinite"
    assert same(seen[2], seen[3]) and not same(seen[3], seen[4])
    assert [report.batch for report in reports] == list(range(6))


def test_four_bad_steps_in_a_row_stop_the_run() -> None:
    run = trainer(Training(steps=9, on_nonfinite="skip"), wrong_at({2, 3, 4, 5}, not_a_number))
    with pytest.raises(DivergedError, match="at step 6"):
        heard(run)


def test_a_weight_that_is_no_number_stops_even_where_bad_steps_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(Training(steps=6, on_nonfinite="skip"))
    plain = run.optimizer.step

    def spoil() -> None:
        plain()
        if run.step == 2:
            next(run.model.parameters()).data.view(-1)[7] = math.inf

    monkeypatch.setattr(run.optimizer, "step", spoil)
    with pytest.raises(DivergedError, match="no finite number after the update of step 3"):
        heard(run)


def test_a_rollback_goes_back_and_past_the_batches_that_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "HISTORY", 6)
    monkeypatch.setattr(policies, "BACK", 4)
    recipe = Training(steps=14, on_spike="rollback")

    def conducted() -> list[tuple[int, int, float]]:
        run = trainer(recipe, wrong_at({9}, lambda total, model: total * 10))
        saved: dict[int, Any] = {}
        told: list[tuple[int, int, float]] = []

        def save(report: StepReport) -> None:
            state = {name: value.clone() for name, value in run.model.state_dict().items()}
            moments = {k: {n: v.clone() for n, v in s.items()} for k, s in run.optimizer.state_dict()["state"].items()}
            saved[run.step] = (state, {**run.optimizer.state_dict(), "state": moments}, run.state())
            told.append((report.step, report.batch, report.loss))

        try:
            run.run(save)
        except policies.Rollback as wanted:
            assert (wanted.step, wanted.batch, wanted.newest) == (9, 9, 5)
            state, moments, own = saved[wanted.newest]
            run.model.load_state_dict(state)
            run.optimizer.load_state_dict(moments)
            run.restore(own)
            run.pass_over(wanted.batch)
            run.run(save)
        return told

    told = conducted()
    assert [(step, batch) for step, batch, _ in told] == [
        *((number + 1, number) for number in range(9)),
        *((number + 1, number + 5) for number in range(5, 14)),
    ]
    assert conducted() == told


def test_a_rollback_that_nobody_can_do_ends_the_run_with_its_reason() -> None:
    error = policies.Rollback(130, 130, "loss 9 at step 131")
    assert isinstance(error, DivergedError) and "there is no saved step 100 steps before it" in str(error)


def test_a_batch_that_asks_for_nothing_is_refused() -> None:
    class Silent:
        def at(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
            batch = counting().at(step)
            return replace(batch, targets=torch.full_like(batch.targets, IGNORED))

    with pytest.raises(DataError, match=r"batch 0 \(step 1\) asks for nothing"):
        heard(trainer(Training(steps=1), batches=Silent()))


# --- precision ---


def test_precision_by_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = describe(CONFIG | {"hidden_size": 128})
    narrow = describe(CONFIG)
    for flags, architecture, expected, why in (
        ({"amx_bf16": True}, wide, "bfloat16", "AMX"),
        ({"avx512_bf16": True}, wide, "bfloat16", "AVX512-BF16"),
        ({"avx512_f": True}, wide, "float32", "no bfloat16 unit"),
        ({"amx_bf16": True}, narrow, "float32", "too narrow"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags, raising=False)
        found = precision.choose("auto", CPU.device, architecture)
        assert found.name == expected and why in found.why
    assert precision.choose("bfloat16", CPU.device, narrow).type == torch.bfloat16


def test_weights_stay_float32_under_bfloat16() -> None:
    recipe = Training(steps=4, precision="bfloat16", optimizer=Optimizer(learning_rate=1e-2))
    run = trainer(recipe, model=tiny_model().bfloat16())
    told = heard(run)
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}
    plain = losses(recipe.model_copy(update={"precision": "float32"}))
    assert told[-1].loss == pytest.approx(plain[-1], rel=0.01) and told[-1].loss != plain[-1]


def test_a_resumed_run_keeps_its_precision() -> None:
    began, now = trainer(Training(steps=2, precision="bfloat16")), trainer(Training(steps=2))
    assert now.precision.name == "float32"
    now.restore(began.state())
    assert str(now.precision) == "bfloat16 (as the run began)"


def test_what_a_report_holds_is_plain() -> None:
    record = dataclasses.asdict(heard(trainer(Training(steps=1)))[0])
    assert all(isinstance(value, int | float | str | dict | tuple) for value in record.values())
    assert not any(isinstance(value, np.generic) for value in record.values())


# --- torch.compile ---


def test_compiling_is_refused_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UsageError, match=r"no C\+\+ compiler"):
        trainer(Training(steps=1, compile=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile trips over warnings of its own where they are errors
def test_compiled_blocks_give_the_same_losses() -> None:
    recipe = Training(steps=4, precision="float32", optimizer=Optimizer(learning_rate=1e-2))
    compiled = losses(recipe.model_copy(update={"compile": True}))
    assert compiled == pytest.approx(losses(recipe), rel=1e-5)


def test_compiling_and_recomputing_are_not_done_together() -> None:
    with pytest.raises(ValidationError, match="chooses by itself"):
        Training(steps=1, compile=True, recompute=True)
