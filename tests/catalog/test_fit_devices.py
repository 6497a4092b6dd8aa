"""Several devices and time: cards by name, who holds what, the fewest that fit, bounds."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from fit_models import LLAMA
from typer.testing import CliRunner

from paddock.catalog.fit import cards, devices, subject, timing
from paddock.catalog.fit.timing import Speed
from paddock.catalog.fit.training import Need, Settings
from paddock.errors import UsageError
from paddock.model.families import describe
from paddock.training.scale import Piece, Sharing, flops_per_token, memory, multiplied, traffic

GB = 10**9
SEVEN = describe({**LLAMA, "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
                  "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
                  "max_position_embeddings": 4096})  # fmt: skip
LONG = Settings("pretrain", length=4096, batch=8, recompute=True)


@pytest.mark.parametrize(
    ("text", "count", "memory", "card"),
    [("8xH100", 8, 80 * GB, "H100"), ("2x24GB", 2, 24 * GB, None), ("a100", 1, 80 * GB, "A100-80GB"),
     ("80GB", 1, 80 * GB, None), ("4 x RTX 4090", 4, 24 * GB, "RTX4090"), ("16*40GiB", 16, 40 * 2**30, None)],
    ids=["cards", "memory", "one", "one-memory", "blanks", "binary"],
)  # fmt: skip
def test_devices_are_read(text: str, count: int, memory: int, card: str | None) -> None:
    found = cards.parse(text)
    assert (found.count, found.memory, found.card.name if found.card else None) == (count, memory, card)


@pytest.mark.parametrize(
    "text", ["", "8", "0xH100", "8xH1000", "999999xH100", "x", "8x", "-1xH100", "8x80", "8xGB", "h100x8", "é"],
    ids=range(12),
)  # fmt: skip
def test_devices_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        cards.parse(text)


def test_parts_are_those_of_scale() -> None:
    found = {each.mode: each for each in devices.layouts(SEVEN, LONG, 8)}
    assert list(found) == ["ddp", "fsdp", "fsdp x tp 2", "fsdp x tp 4", "fsdp x tp 8"]
    for mode, tensor in (("fsdp", 1), ("fsdp x tp 8", 8)):
        rows = 8 // (8 // tensor)
        sharing, piece = Sharing(8, tensor), Piece(rows, 4096)
        assert found[mode].need == pytest.approx(memory(SEVEN, sharing, piece).total, abs=3)
        assert found[mode].data + found[mode].tensor == sum(vars(traffic(SEVEN, sharing, piece, 1)).values())
    assert found["fsdp"].setting == "parallel.mode=fsdp"
    assert found["fsdp x tp 2"].setting == "parallel.mode=fsdp parallel.tensor=2"


def test_an_adapter_has_its_base_whole_on_each_or_in_shards() -> None:
    whole, cut = devices.layouts(SEVEN, Settings("lora", length=512, batch=4), 4)
    own = Need(SEVEN, Settings("lora", length=512, batch=1, device="cuda", framework=0))
    assert whole.need == max(phase.bytes for phase in own.phases) + 4 * own.trained.numbers
    assert cut.mode == "fsdp" and cut.setting == "parallel.mode=fsdp"
    found = {part.name: part.bytes for part in cut.components}
    for part in own.phases[1].components:
        same = part.role in ("activations", "logits", "transient", "framework")
        if part.bytes:
            assert found[part.name] == (part.bytes if same else -(-part.bytes // 4)), part.name
    (block,) = {sum(t.numbers for t in own.shapes if t.name.startswith(f"blocks.{i}.")) for i in range(SEVEN.blocks)}
    rest = sum(t.numbers for t in own.shapes) - SEVEN.blocks * block
    low = 4 * own.trained.numbers // SEVEN.blocks  # of one block, float32
    assert found["gathered"] == 2 * (2 * block + low) + 2 * rest + low
    assert cut.data == 0.75 * (2 * SEVEN.blocks * (2 * block + low) + 2 * rest + 4 * own.trained.numbers)


def test_codes_are_gathered_as_codes_and_prompts_are_not_cut() -> None:
    asked = Settings("qlora", length=512, batch=4)
    plain, coded = (list(devices.layouts(SEVEN, replace(asked, task=task), 4))[1] for task in ("lora", "qlora"))
    assert 0.2 < coded.data / plain.data < 0.3
    table = next(part for part in coded.components if part.name == "token table, head")
    assert table.bytes == round(8.5 / 8 * 2 * 32000 * 4096)  # whole on each
    assert [each.mode for each in devices.layouts(SEVEN, Settings("prompt", length=512, batch=4), 4)] == ["ddp"]


def test_the_page_has_what_seventy_billion_take() -> None:
    shape = describe({**LLAMA, "vocab_size": 32000, "hidden_size": 8192, "intermediate_size": 28672,
                      "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
                      "max_position_embeddings": 4096})  # fmt: skip
    page = (Path(__file__).parents[2] / "docs/scale.md").read_text(encoding="utf-8")
    for task, count in itertools.product(("lora", "qlora"), (2, 4, 8)):
        asked = Settings(task, length=512, batch=count, recompute=True)
        whole, cut = devices.layouts(shape, asked, count)
        held = " | ".join(f"{number / 1e9:.1f}" for number in (whole.need, cut.need, cut.data))
        assert f"\n| {task} | {count} | {held} |\n" in page


def test_the_fewest_devices_fit_and_half_of_them_do_not() -> None:
    few = cards.parse("2x24GB")
    plan = devices.plan(SEVEN, Settings("pretrain", length=4096, batch=2, recompute=True), few)
    assert plan.verdict == "fits if" and plan.changes == ("--devices 8x24GB --batch 16",)
    count = devices.fewest(SEVEN, LONG, few)
    assert count == 8
    space = devices.USABLE * few.memory
    assert min(each.need for each in devices.layouts(SEVEN, LONG, count)) <= space
    assert min(each.need for each in devices.layouts(SEVEN, LONG, count // 2)) > space
    assert devices.plan(SEVEN, LONG, cards.parse("8x80GB")).verdict == "fits"


def test_rows_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot share 3 rows"):
        devices.plan(SEVEN, Settings("lora", length=64, batch=3), cards.parse("2xH100"))


def test_time_is_operations_over_rate() -> None:
    speed = Speed(1e12, 1e11, "said")
    found = timing.estimate(SEVEN, speed, length=1024, batch=2, tokens=10**6, share=0.5)
    each = flops_per_token(SEVEN, 1024) / 0.5e12
    assert found.step == pytest.approx(2048 * each) and found.seconds == pytest.approx(1e6 * each)
    again = timing.estimate(SEVEN, speed, length=1024, batch=2, share=0.5, recompute=True)
    assert again.step == pytest.approx(found.step * 8 / 6)
    frozen = timing.estimate(SEVEN, speed, length=1024, batch=2, share=0.5, frozen=True)
    assert frozen.step == pytest.approx(found.step * 4 / 6)
    for bad in ({"share": 0}, {"share": 2}, {"devices": 0}, {"length": 0}, {"tokens": -1}):
        with pytest.raises(UsageError):
            timing.estimate(SEVEN, speed, **{"length": 8, "batch": 1, **bad})  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        Speed(0, 1, "nobody")


def test_bounds_of_serving_are_bytes_and_operations() -> None:
    numbers = multiplied(SEVEN)
    found = timing.serving(SEVEN, Speed(1e14, 1e12, "said"), held=2 * 6_738_415_616, cache=10**9)
    assert found.prompt == pytest.approx(1e14 / (2 * numbers))
    read = 2 * 6_738_415_616 * timing.active_share(SEVEN) + 1e9
    assert found.decode == pytest.approx(1e12 / read)
    assert timing.active_share(SEVEN) == pytest.approx(1, abs=1e-4)
    sparse = describe({**LLAMA, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2})
    assert timing.active_share(sparse) < 0.5


def test_serving_in_parts_holds_matrices_and_cache_in_parts() -> None:
    found = subject.of_config(LLAMA, "small", "config")
    whole, cache = 1_000_000, 500_000
    assert devices.serving_share(found, whole, cache, 1) == whole + cache
    half = devices.serving_share(found, whole, cache, 2)
    assert (whole + cache) / 2 < half < whole + cache
    with pytest.raises(UsageError, match="cannot share"):
        devices.serving_share(found, whole, cache, 3)


@pytest.mark.parametrize(
    ("words", "code"),
    [("--task lora --budget 9GB", 0), ("--task full --budget 1MB", 4), ("--task lora --devices 2xH100", 0),
     ("--task lora --quantize q4_k", 2), ("--recompute", 2), ("--task dream", 2), ("--task lora --context 0", 2),
     ("--task lora --batch 3 --devices 2x8GB", 2), ("--task lora --dtype float16", 2),
     ("--task lora --tokens 0 --devices T4", 2), ("--task lora --tokens 9 --devices 2x8GB", 2)],
    ids=lambda given: str(given).replace(" ", "_"),
)  # fmt: skip
def test_the_command_line_says_so(words: str, code: int) -> None:
    from paddock.cli import fit
    from paddock.errors import PaddockError

    done = CliRunner().invoke(fit.app, [*words.split(), "--json"])
    error = done.exception
    assert (error.exit_code if isinstance(error, PaddockError) else done.exit_code) == code, done.output
    if code in (0, 4):
        record = json.loads(done.output)
        assert record["verdict"] == ("fits" if code == 0 else "does not fit")
