"""The tests of `paddock bench`: what is read and written, and how rates come of it."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

import paddock
from paddock.bench import machine
from paddock.bench.machine import Machine
from paddock.bench.run import Bench, Case, Plan, Row, bench
from paddock.bench.work import Work
from paddock.checkpoint import folder
from paddock.engine.language_model import LanguageModel
from paddock.errors import ContextLengthError, UnsupportedError, UsageError
from paddock.model.families import describe
from paddock.model.transformer import Transformer

MACHINE = Machine(1e9, {"bf16": 2e9, "f32": 1e9}, 1, "made up")
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 64, "hidden_size": 16,
    "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 1024, "rms_norm_eps": 1e-5,
}  # fmt: skip
MIXTRAL = LLAMA | {
    "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4, "num_experts_per_tok": 2,
    "sliding_window": None,
}  # fmt: skip
BERT = {
    "model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 64, "hidden_size": 16,
    "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 40,
    "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
}  # fmt: skip
T5 = {
    "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 64, "d_model": 16,
    "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16, "feed_forward_proj": "relu", "tie_word_embeddings": True,
    "is_encoder_decoder": True, "decoder_start_token_id": 0, "eos_token_id": 2, "layer_norm_epsilon": 1e-6,
}  # fmt: skip


def made(config: dict[str, Any], path: Path) -> LanguageModel:
    model = Transformer(describe(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    folder.write(path, model, config)
    return paddock.load(path)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return made(LLAMA, tmp_path_factory.mktemp("llama"))


def test_a_row_for_each_test_in_order(llama: LanguageModel) -> None:
    plan = Plan([600, 8], [4], [0, 32], [1, 3], repeats=2)
    rows = list(bench(llama, plan, MACHINE))
    assert [row.test.name for row in rows] == [
        "pp600", "pp8", "tg4", "pp600@d32", "pp8@d32", "tg4@d32", "1x(600+4)", "3x(600+4)",
    ]  # fmt: skip
    for row in rows:
        assert len(row.seconds) == 2 and min(row.seconds) > 0
        assert len(row.sampled) == (2 if row.test.name.startswith("tg") else 0)
        assert (row.bandwidth_used is not None) == row.test.name.startswith("tg")
        assert (row.rate_used is not None) == row.test.name.startswith("pp")
        assert (row.latency is not None) == (row.test.crowd > 0)


def test_the_runner_is_given_what_the_name_says(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read once before it counts and twice more; a depth is filled once."""
    found = Bench(llama, Plan([600], [3], [40], repeats=2), None)
    given: list[tuple[int, int, int, int]] = []
    run = found.runner.run
    monkeypatch.setattr(
        found.runner,
        "run",
        lambda batch: given.extend((r.start, len(r.ids), r.prompt, r.logits) for r in batch) or run(batch),
    )
    read = found._read(found.plan.tests[0])
    assert given == [(0, 40, 40, 1), *[(40, 512, 640, 0), (552, 88, 640, 1)] * 3]
    assert read.tokens == 600
    given.clear()
    found._written(found.plan.tests[1])
    assert given[:10] == [(0, 40, 40, 1), *[(40, 1, 40, 1), (41, 1, 40, 1), (42, 1, 40, 1)] * 3]
    sampled = given[10:]
    assert sum(count for _, count, _, _ in sampled) == 2 * (40 + 3)


def test_rates_are_tokens_over_seconds() -> None:
    row = Row(Case(512, 0), (2.0, 1.0, 4.0))
    assert row.rates == (256, 512, 128)
    assert (row.mean, row.median) == (statistics.fmean(row.rates), 256)
    assert row.deviation == statistics.stdev(row.rates)
    assert Row(Case(0, 128), (2.0,)).rates == (64,) and Row(Case(0, 128), (2.0,)).deviation == 0
    assert Row(Case(128, 100, 0, 16), (4.0,)).rates == (400,)


def test_utilisation_is_work_over_what_the_machine_does(llama: LanguageModel) -> None:
    found = Bench(llama, Plan([8], [4], [32], repeats=1), MACHINE)
    work, cache = found.work, found.runner.block_bytes / 16
    read, written = found.rows()
    assert read.rate_used == pytest.approx(work.reading(8, 32) / read.seconds[0] / 1e9)
    moved = 4 * work.read_bytes + sum(range(33, 37)) * cache
    assert written.bandwidth_used == pytest.approx(moved / written.seconds[0] / 1e9)


def test_work_counts_what_a_token_needs(llama: LanguageModel, tmp_path: Path) -> None:
    work = Work.of(llama.model)
    layer = 16 * 16 * 2 + 2 * 16 * 8 + 3 * 16 * 32
    assert work.multiply_adds == 2 * layer and work.head == 64 * 16 and work.kind == "f32"
    assert work.parameters == 2 * (layer + 2 * 16) + 16 + 2 * 64 * 16
    assert work.read_bytes == 4 * (work.parameters - 64 * 16)
    assert work.attention(10) == 2 * 2 * 16 * 10
    assert work.reading(3, 5) == 3 * 2 * layer + 2 * 2 * 16 * (6 + 7 + 8) + work.head
    experts = Work.of(made(MIXTRAL, tmp_path).model)
    assert experts.multiply_adds == 2 * (16 * 16 * 2 + 2 * 16 * 8 + 2 * 3 * 16 * 32 + 4 * 16)


def test_a_tied_head_is_read_though_it_is_the_embedding(tmp_path: Path) -> None:
    work = Work.of(made(LLAMA | {"tie_word_embeddings": True}, tmp_path).model)
    assert work.head == 64 * 16 and work.read_bytes == 4 * work.parameters


def test_a_machine_without_a_product_takes_the_wider_one() -> None:
    assert MACHINE.rate("int8") == MACHINE.rate("bf16") == 2e9 and MACHINE.rate("f32") == 1e9
    assert Machine(1, {}, 1, "").rate("f32") is None


def test_the_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Natively where the kernels are, and by PyTorch where they are not."""
    found = machine.measure(seconds=0.02, buffer=1 << 24)
    assert found.read > 1e6 and found.multiply_adds["f32"] > 1e6 and found.threads == machine.threads()
    monkeypatch.setattr(machine, "library", lambda: None)
    monkeypatch.setattr(machine, "SIDE", 64)
    plain = machine.measure(seconds=0.01, buffer=1 << 20)
    assert plain.source == "PyTorch" and plain.read > 1e6 and set(plain.multiply_adds) == {"bf16", "f32"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prompts": [-1]}, "prompt is -1"),
        ({"news": [True]}, "new is True"),
        ({"crowds": [0]}, "concurrency is 0"),
        ({"repeats": 0}, "repeats is 0"),
        ({"prompts": [0], "news": [0]}, "nothing to measure"),
        ({"prompts": [], "crowds": [2]}, "concurrency needs a prompt"),
        ({"news": [0], "crowds": [2]}, "concurrency needs a prompt"),
    ],
)
def test_plans_that_cannot_be_meant(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Plan(**settings)


def test_models_that_cannot_be_measured(llama: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(ContextLengthError, match="1025 tokens"):
        bench(llama, Plan([1000], [1], [25]))
    with pytest.raises(UnsupportedError, match="does not write"):
        bench(made(BERT, tmp_path / "bert"), Plan())
    with pytest.raises(UnsupportedError, match="source text"):
        bench(made(T5, tmp_path / "t5"), Plan())
