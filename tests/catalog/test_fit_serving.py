"""Plans for serving: components against what the engine really allocates, verdicts, limits, refusals."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fit_models import CONFIGS, LLAMA, write_config, write_folder

from paddock.catalog.catalogue import catalogue
from paddock.catalog.fit import budget, chatglm, held, limits, serving, subject, working
from paddock.catalog.fit.plan import Plan
from paddock.catalog.fit.serving import Need, Settings
from paddock.checkpoint.packing import KINDS
from paddock.engine.blocks import BLOCK
from paddock.engine.loading import load
from paddock.engine.memory import SHARE, cache_blocks, source_block_bytes, source_blocks
from paddock.engine.runners import SEQUENCES, runner_for
from paddock.errors import ContextLengthError, UsageError
from paddock.kernels.native import library
from paddock.model.linear import weights_of

native = pytest.mark.skipif(library() is None, reason="the native kernels are not here")
GB = 10**9
ROOM = 64 * GB


def named(name: str) -> subject.Subject:
    return subject.of_entry(catalogue().find(name))


def by_role(plan: Plan) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in plan.worst.components:
        found[part.role] = found.get(part.role, 0) + part.bytes
    return found


@native
@pytest.mark.parametrize(
    ("name", "quantize"),
    [
        *((name, None) for name in ("llama", "llama tied", "gpt_neox", "mixtral", "bert")),
        ("llama", "q4_k"), ("llama tied", "q6_k"), ("gpt_neox", "q4_0"), ("mixtral", "q8_0"), ("bert", "q8_0"),
    ],
)  # fmt: skip
def test_weights_are_what_loading_holds(name: str, quantize: str | None, tmp_path: Path) -> None:
    width = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1, "num_local_experts": 2}
    path = write_folder(
        tmp_path, {**CONFIGS[name], **{key: width[key] for key in width if key in CONFIGS[name]}}, torch.bfloat16
    )
    model = load(path, quantize=quantize).model
    found = list(
        held.held(subject.read(path), None if quantize is None else held.Packing.named(quantize), "auto", "cpu")
    )
    own = weights_of(model)
    if quantize is not None:
        assert sum(each.bytes for each in found) == sum(weight.nbytes for weight in own.values())
        return
    assert sum(each.group.numbers for each in found) == sum(weight.numel() for weight in own.values())
    if name == "bert":
        return
    from paddock.engine.reading import packed_weights

    runner_for(model, blocks=4)
    tiles = sum(kept[2].nbytes for kept in packed_weights(model).values())
    repacked = sum(each.codes for each in found if held.multiplied(each.group, model.architecture))
    assert tiles == repacked
    copied = {each.group.role for each in found if each.kept}
    fused = {"attention.q", "attention.k", "attention.v"}
    assert copied == {"gpt_neox": fused, "llama tied": {"embedding.tokens"}}.get(name, set())


@native
@pytest.mark.parametrize("name", ["llama", "gpt_neox", "mixtral"])
def test_the_cache_is_what_the_runner_allocates(name: str, tmp_path: Path) -> None:
    path = write_folder(tmp_path, CONFIGS[name], torch.bfloat16)
    need = Need(subject.read(path), Settings(budget=ROOM))
    runner = runner_for(load(path).model, blocks=need.capacity)
    assert runner.block_bytes == pytest.approx(need.block_bytes, rel=0.5)  # pages of 4 kB round small ones up
    assert need.cache_type == "bfloat16"
    parts = {part.name: part for part in need.phases[1].components}
    assert parts["keys and values"].bytes == 128 // 16 * need.block_bytes
    assert Need(subject.read(path), Settings(quantize="q8_0", budget=ROOM)).cache_type == "float16"


def test_sources_have_a_room_of_their_own(tmp_path: Path) -> None:
    path = write_folder(tmp_path, CONFIGS["t5"], torch.bfloat16)
    room, model = 10**8, load(path).model
    need = Need(subject.read(path), Settings(budget=room, context=512, concurrency=1000))
    half = int(room * SHARE)
    assert source_blocks(model, 2, SEQUENCES, half) == (need.source_capacity, source_block_bytes(model.architecture, 2))
    assert cache_blocks(model, need.block_bytes, SEQUENCES, memory=half) == need.capacity
    parts = {part.name: part for part in need.phases[1].components}
    assert parts["keys and values of the source"].bytes == 1000 * 512 * 2 * 2 * 64 * 2
    told = [text for text in need.remarks if "a quarter of the free memory" in text]
    assert len(told) == 2 and f"{need.source_capacity * BLOCK:,} tokens of source texts here" in told[1]


def test_the_formula_of_the_cache_gives_its_bytes() -> None:
    for name in ("llama-1-7b", "llama-2-70b", "mixtral-8x7b"):
        plan = serving.plan(named(name), Settings(context=2048, concurrency=3, budget=10**12))
        part = next(part for part in plan.worst.components if part.name == "keys and values")
        numbers = [int(number) for number in re.findall(r"\d+", part.formula)]
        texts, tokens, layers, two, heads, width, item = numbers
        assert part.bytes == texts * tokens * layers * two * heads * width * item
        assert (texts, tokens, item) == (3, 2048, 2)


def test_places_of_a_llama_program() -> None:
    # x; the norm, then what attention gives; q; k and v; gate and up; and one input in the products' forms.
    architecture = subject.of_config({**LLAMA, "hidden_size": 64, "head_dim": 16}, "llama", "config").known()
    assert working.native(architecture, 8) == 4 * 8 * (64 + 64 + 64 + 2 * 32 + 2 * 96 + 256)


def test_peaks_grow_with_everything_that_is_asked_for() -> None:
    model = named("llama-1-7b")

    def peak(**asked: object) -> int:
        return serving.plan(model, replace(Settings(budget=10**12), **asked)).peak  # type: ignore[arg-type]

    assert peak(context=512) < peak(context=1024) < peak() < peak(concurrency=2) < peak(concurrency=9)
    sizes = [peak(quantize=kind) for kind in ("q4_0", "q5_0", "q6_k", "q8_0")]
    assert sizes == sorted(sizes) and sizes[-1] < peak() < peak(dtype="float32")
    assert peak(device="cuda") < peak(device="cuda", dtype="float32")


def test_verdicts_and_what_is_asked_stays_as_it_was() -> None:
    model = named("llama-1-7b")
    asked = Settings(context=2000, concurrency=3, budget=8 * GB)
    plan = serving.plan(model, asked)
    assert plan.verdict == "fits if" and plan.changes
    assert (plan.settings["context"], plan.settings["concurrency"], plan.settings["quantize"]) == (2000, 3, None)
    assert serving.plan(model, replace(asked, budget=ROOM)).verdict == "fits"
    assert serving.plan(model, replace(asked, budget=GB)).verdict == "does not fit"
    assert serving.plan(model, replace(asked, budget=GB)).changes == ()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("llama-1-7b", Settings(budget=8 * GB)),
        ("llama-1-7b", Settings(budget=14 * GB)),
        ("llama-1-7b", Settings(budget=15 * GB, concurrency=8)),
        ("llama-1-7b", Settings(budget=5 * GB, concurrency=2)),
        ("mixtral-8x7b", Settings(budget=32 * GB)),
        ("chatglm-6b", Settings(budget=9 * GB)),
    ],
    ids=str,
)
def test_each_change_makes_it_fit_when_typed(name: str, settings: Settings) -> None:
    model = named(name)
    plan = serving.plan(model, settings)
    assert plan.verdict == "fits if"
    for change in plan.changes:
        words = change.split()
        typed = {words[i].removeprefix("--"): words[i + 1] for i in range(0, len(words), 2)}
        changed = {key: int(value) if value.isdigit() else value for key, value in typed.items()}
        assert serving.plan(model, replace(settings, **changed)).verdict == "fits", change  # type: ignore[arg-type]


def test_the_largest_that_fits_is_the_largest() -> None:
    model, asked = named("llama-1-7b"), Settings(budget=15 * GB)
    context = limits.largest_context(model, replace(asked, concurrency=4), asked.budget or 0)
    assert 0 < context < 2048
    assert serving.fits(model, replace(asked, concurrency=4, context=context), 15 * GB)
    assert not serving.fits(model, replace(asked, concurrency=4, context=context + 1), 15 * GB)
    texts = limits.largest_concurrency(model, replace(asked, context=256), asked.budget or 0)
    assert serving.fits(model, replace(asked, context=256, concurrency=texts), 15 * GB)
    assert not serving.fits(model, replace(asked, context=256, concurrency=texts + 1), 15 * GB)
    assert limits.largest_context(model, asked, GB) == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_has_a_plan(name: str) -> None:
    for device in ("cpu", "cuda"):
        plan = serving.plan(subject.of_config(CONFIGS[name], name, "config"), Settings(device=device, budget=ROOM))
        roles = by_role(plan)
        assert plan.verdict == "fits" and roles["weights"] > 0 and roles["framework"] > 0
        assert all(part.bytes >= 0 and part.formula for phase in plan.phases for part in phase.components)


def test_absurd_sizes_get_numbers_at_once() -> None:
    most = 2**24
    config = {**LLAMA, "num_hidden_layers": 4096, "vocab_size": most, "hidden_size": most, "intermediate_size": most,
              "num_attention_heads": 2**10, "num_key_value_heads": 2**10, "max_position_embeddings": 2**31}  # fmt: skip
    plan = serving.plan(subject.of_config(config, "huge", "config"), Settings(budget=ROOM))
    assert plan.verdict == "does not fit" and plan.peak > 10**19


WRONG: list[dict[str, object]] = [
    {"context": 0}, {"context": -5}, {"context": 2.5}, {"context": True}, {"concurrency": 0}, {"concurrency": 10**9},
    {"budget": 0}, {"budget": -1}, {"device": "tpu"}, {"dtype": "int3"}, {"quantize": "q4_0", "dtype": "float16"},
    {"quantize": "q4_0", "device": "cuda"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_settings_that_cannot_be_meant(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        serving.plan(subject.read(None), replace(Settings(budget=ROOM), **wrong))  # type: ignore[arg-type]


def test_unknown_kinds_name_the_nearest_and_contexts_their_limit() -> None:
    with pytest.raises(UsageError, match="q4_0"):
        serving.plan(subject.read(None), Settings(quantize="q40", budget=ROOM))
    with pytest.raises(ContextLengthError, match="512"):
        serving.plan(subject.read(None), Settings(context=513, budget=ROOM))
    assert set(limits.KINDS) <= set(KINDS)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("8GiB", 8 * 2**30), ("7.5 gib", int(7.5 * 2**30)), ("512MB", 512 * 10**6), ("1T", 10**12)],
)
def test_budgets(text: str, size: int) -> None:
    assert budget.parse(text) == size


@pytest.mark.parametrize("text", ["8", "", "GB", "-8GB", "8 G B", "8XB", "0GB", "1e9GB", "99999999TB", "8GB!", "٨GB"])
def test_budgets_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        budget.parse(text)


def test_a_number_without_a_unit_is_asked_for_one() -> None:
    with pytest.raises(UsageError, match="8GiB"):
        budget.parse("8")


def test_chatglms_table() -> None:
    rows = {(row.precision, row.task): row for row in chatglm.rows()}
    weights = {precision: chatglm.weights(bits) for precision, bits in chatglm.BITS.items()}
    assert {name: round(size / 1e9, 2) for name, size in weights.items()} == {"FP16": 12.35, "INT8": 6.71, "INT4": 3.89}
    assert weights["FP16"] == 2 * 6_173_286_400
    for (precision, task), row in rows.items():
        published = chatglm.PUBLISHED[precision, task]
        assert row.gib == (published - 1 if (precision, task) == ("INT4", "tuning") else published)
        assert row.bytes == sum(part.bytes for part in row.parts)
    cache = next(part for part in rows["INT8", "inference"].parts if part.role == "cache")
    assert cache.bytes == 939_524_096
    assert rows["INT8", "inference"].gib < chatglm.STALE - 1


def test_exact_counts() -> None:
    counts = chatglm.counts()
    assert len(counts) == 4
    for ours, published in counts.values():
        assert ours == published


def test_a_config_alone_is_planned_as_the_folder_with_weights(tmp_path: Path) -> None:
    config = {**LLAMA, "torch_dtype": "bfloat16"}
    whole = write_folder(tmp_path / "whole", config, torch.bfloat16)
    alone = write_config(tmp_path / "alone", config)
    plans = [serving.plan(subject.read(path), Settings(budget=ROOM)) for path in (whole, alone)]
    assert plans[0].peak == plans[1].peak
