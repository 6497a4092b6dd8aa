"""Published tensors into a model: each has one place, the right shape, finite numbers and, in the end, one type."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import limits
import pytest
import tiny_folder as tiny
import torch
from torch import Tensor

from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint
from paddock.checkpoint.stored import Stored
from paddock.checkpoint.weights import build, native_dtype, sketch
from paddock.errors import CheckpointError, UnsupportedError, UsageError
from paddock.model.families import describe, family
from paddock.model.spec import Experts, FeedForward
from paddock.model.step import Step
from paddock.model.transformer import Transformer

HALF, SINGLE, BRAIN = torch.float16, torch.float32, torch.bfloat16
ARCHITECTURE = describe(tiny.CONFIG)


def stored(tensor: Tensor) -> Stored:
    return Stored(tuple(tensor.shape), tensor.dtype, lambda: tensor)


def built(weights: dict[str, Tensor], **options: Any) -> Transformer:
    return build(ARCHITECTURE, {k: stored(v) for k, v in weights.items()}, family(tiny.CONFIG).RULES, **options)


def opened(path: Path, weights: dict[str, Tensor] | None = None, **config: Any) -> Checkpoint:
    return open_checkpoint(tiny.folder(path, "safetensors", weights, **config))


def logits(model: Transformer) -> Tensor:
    ids = torch.tensor([[1, 5, 3, 2]])
    with torch.inference_mode():
        return model(ids, Step.begin(model.architecture, ids))


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return tiny.tensors()


UP, NORM = "model.layers.1.mlp.up_proj.weight", "model.norm.weight"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [SINGLE, HALF, BRAIN, torch.float64, torch.float8_e5m2])
def test_numbers_that_are_none_are_refused_by_name(bad: float, dtype: torch.dtype, weights: dict[str, Tensor]) -> None:
    spoilt = weights[UP].clone()
    spoilt[3, 5] = bad
    with pytest.raises(CheckpointError, match=f"tensor '{UP}' holds 1 values that are not numbers"):
        built(weights | {UP: spoilt.to(dtype)})


@pytest.mark.parametrize("size", [1, 7, 8, 9, 15, 16, 17, 33, 64, 1000, 4099])
@pytest.mark.parametrize("dtype", [SINGLE, HALF, BRAIN])
def test_the_check_sees_every_position(size: int, dtype: torch.dtype) -> None:
    """It trusts that the extremes of a tensor are NaN if any number is, in the vectorised part and in the rest."""
    from paddock.checkpoint.weights import _check_range

    for at in {0, 1, size // 2, size - 1} & set(range(size)):
        tensor = torch.zeros(size, dtype=dtype)
        _check_range(tensor, "x", dtype)
        tensor[at] = float("nan")
        with pytest.raises(CheckpointError):
            _check_range(tensor, "x", dtype)


def test_all_nan_and_the_way_around_the_check(weights: dict[str, Tensor]) -> None:
    spoilt = weights | {NORM: torch.full((8,), float("nan"))}
    with pytest.raises(CheckpointError, match="holds 8 values"):
        built(spoilt)
    assert built(spoilt, check_finite=False).norm.weight.isnan().all()


def test_numbers_too_large_for_the_type_asked_for(weights: dict[str, Tensor]) -> None:
    large = weights | {UP: weights[UP] * 0 + 1e5}
    assert built(large, dtype=BRAIN) and built(large, dtype=SINGLE)
    with pytest.raises(CheckpointError, match="holds 100000, too large for float16"):
        built(large, dtype=HALF)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool, torch.uint16])
def test_whole_numbers_are_refused(dtype: torch.dtype, weights: dict[str, Tensor]) -> None:
    with pytest.raises(UnsupportedError, match=f"'{UP}' is stored as torch"):
        built(weights | {UP: torch.ones(12, 8).to(dtype)})


def test_every_tensor_missing_in_turn(weights: dict[str, Tensor]) -> None:
    for name in weights:
        with pytest.raises(CheckpointError, match="the weights lack"):
            built({other: tensor for other, tensor in weights.items() if other != name})
    with pytest.raises(CheckpointError, match=r"lack|hold only"):
        built({})


@pytest.mark.parametrize(
    "name",
    [
        "extra",
        "",
        "x" * 5000,
        "é😀",
        "model.layers.2.mlp.up_proj.weight",
        "model.layers.99999.mlp.up_proj.weight",
        "model.layers.-1.mlp.up_proj.weight",
        "model.layers.01.mlp.up_proj.weight",
        "model.layers.1.mlp.up_proj.weigth",
    ],
)
def test_tensors_of_no_place(name: str, weights: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError) as caught:
        built(weights | {name: torch.ones(12, 8)})
    assert name[:40] in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("shape", [(), (96,), (8, 12), (12, 9), (0, 8), (12, 8, 1), (2**20, 2**20)])
def test_wrong_shapes_are_refused_before_anything_is_read(shape: tuple[int, ...], weights: dict[str, Tensor]) -> None:
    def fail() -> Tensor:
        raise AssertionError("read")

    tensors = {name: Stored(tuple(tensor.shape), tensor.dtype, fail) for name, tensor in weights.items()}
    tensors[UP] = Stored(shape, SINGLE, fail)
    with pytest.raises(CheckpointError, match=r"has the shape .*expected \[12, 8\] by config.json"):
        build(ARCHITECTURE, tensors, family(tiny.CONFIG).RULES)


def test_a_tied_tensor_must_equal_what_it_is_tied_to(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    tied = weights | {"lm_head.weight": weights["model.embed_tokens.weight"]}
    assert opened(tmp_path / "same", tied, tie_word_embeddings=True).model()
    with pytest.raises(CheckpointError, match=r"differs from the one config.json says it is tied to"):
        opened(tmp_path / "other", weights, tie_word_embeddings=True).model()


# Types.


def test_one_stored_type_is_kept_whatever_the_configuration_says(tmp_path: Path) -> None:
    for dtype in (SINGLE, HALF, BRAIN):
        for said in ("float32", "float16", "bfloat16", "auto", None, 7, ["float16"], "float99"):
            checkpoint = opened(tmp_path, tiny.tensors(dtype=dtype), torch_dtype=said)
            assert checkpoint.dtype == dtype
            assert checkpoint.recast() == []
            assert {p.dtype for p in checkpoint.model().parameters()} == {dtype}


def mixed(matrices: torch.dtype, norms: torch.dtype) -> dict[str, Tensor]:
    """As ChatGLM-6B was first released: norms in float32 beside float16 matrices."""
    return {name: t.to(matrices if t.dim() > 1 else norms) for name, t in tiny.tensors().items()}


@pytest.mark.parametrize(
    ("matrices", "norms", "said", "expected"),
    [
        (HALF, SINGLE, "float16", HALF),
        (HALF, SINGLE, "float32", SINGLE),
        (HALF, SINGLE, "bfloat16", HALF),
        (HALF, SINGLE, None, HALF),
        (HALF, SINGLE, 3, HALF),
        (BRAIN, SINGLE, "bfloat16", BRAIN),
        (SINGLE, BRAIN, "nonsense", SINGLE),
        (BRAIN, HALF, "float16", HALF),
    ],
)
def test_of_several_stored_types_one_is_chosen_and_it_runs(
    matrices: torch.dtype, norms: torch.dtype, said: Any, expected: torch.dtype, tmp_path: Path
) -> None:
    checkpoint = opened(tmp_path, mixed(matrices, norms), torch_dtype=said)
    assert checkpoint.dtype == expected
    other = {name for name, tensor in checkpoint.tensors.items() if tensor.dtype != expected}
    assert set(checkpoint.recast()) == other
    model = checkpoint.model()
    assert {parameter.dtype for parameter in model.parameters()} == {expected}
    found, exact = logits(model).float(), logits(checkpoint.model("float32"))
    assert found.isfinite().all()
    assert (found - exact).norm() / exact.norm() < 2e-2


def test_asking_for_a_type(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path)
    for name, dtype in {"float32": SINGLE, "bfloat16": BRAIN, "float16": HALF}.items():
        for asked in (name, dtype):
            assert {parameter.dtype for parameter in checkpoint.model(asked).parameters()} == {dtype}
            assert len(checkpoint.recast(asked)) == (0 if dtype == SINGLE else len(checkpoint.tensors))
    for asked in ("float17", "", "torch.float32", "int8"):
        with pytest.raises(UsageError, match="unknown dtype"):
            checkpoint.model(asked)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_8_bit_floats_are_widened_without_loss(dtype: torch.dtype, tmp_path: Path) -> None:
    weights = {name: tensor.to(dtype) for name, tensor in tiny.tensors().items()}
    checkpoint = opened(tmp_path, weights)
    assert checkpoint.dtype == BRAIN
    model = checkpoint.model()
    assert torch.equal(model.embedding.tokens.weight.float(), weights["model.embed_tokens.weight"].float())
    every = torch.arange(256, dtype=torch.uint8).view(dtype)
    assert torch.equal(every.to(BRAIN).float().nan_to_num(), every.float().nan_to_num())
    assert logits(model).isfinite().all()


def test_float16_runs_on_the_cpu(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path)
    half, exact = logits(checkpoint.model("float16")), logits(checkpoint.model())
    assert half.dtype == HALF
    assert (half.float() - exact).norm() / exact.norm() < 5e-3


def test_buffers_do_not_decide_the_type() -> None:
    tensors = {"ids": torch.arange(1000), "w": torch.ones(3, dtype=HALF)}
    assert native_dtype({name: stored(tensor) for name, tensor in tensors.items()}) == HALF
    assert native_dtype({}) == SINGLE


# Cost.


def test_weights_that_need_no_change_stay_in_the_file(tmp_path: Path) -> None:
    path = tiny.folder(tmp_path)
    tensors = open_checkpoint(path).tensors
    model = build(ARCHITECTURE, tensors, family(tiny.CONFIG).RULES)
    again = tensors[UP].load()
    assert model.blocks[1].feedforward.up.weight.data_ptr() == again.data_ptr()


def test_a_sketch_imports_and_allocates_nothing() -> None:
    before = set(sys.modules)
    started = time.process_time()
    model = sketch(replace(ARCHITECTURE, width=2**24, vocabulary=2**24))
    assert time.process_time() - started < 1.0
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert not [
        name for name in set(sys.modules) - before if name.startswith(("sympy", "torch._dynamo", "torch._refs"))
    ]


def test_sizes_beyond_any_file() -> None:
    block = ARCHITECTURE.layer(0)
    huge = replace(block, attention=replace(block.attention, heads=2**24, kv_heads=2**24, head_dim=2**24))
    with pytest.raises(CheckpointError, match="no file could hold"):
        sketch(replace(ARCHITECTURE, width=2**24, block=huge))


def open_and_build(path: Path) -> None:
    open_checkpoint(path).model()


ABSURD: dict[str, dict[str, Any]] = {
    "the most layers": {"num_hidden_layers": 4096},
    "too many layers": {"num_hidden_layers": 10**9},
    "the largest vocabulary": {"vocab_size": 2**24},
    "a larger vocabulary": {"vocab_size": 2**40},
    "the widest": {"hidden_size": 2**24, "num_attention_heads": 2**12, "intermediate_size": 2**24},
    "the most heads": {"num_attention_heads": 2**24, "num_key_value_heads": 2**24, "head_dim": 2**24},
    "the longest context": {"max_position_embeddings": 2**31},
    "the most experts": {"model_type": "mixtral", "num_local_experts": 4096, "num_hidden_layers": 4096},
    "a long list of factors": {"rope_scaling": {"rope_type": "factors", "factors": [1.5] * 100_000}},
    "a key of a million letters": {"x" * 10**6: 1},
    "a hundred thousand keys": {f"key {i}": i for i in range(100_000)},
    "a long word": {"hidden_act": "gelu" * 10**6},
}


@pytest.mark.parametrize("title", ABSURD)
def test_absurd_sizes_are_refused_within_the_contract(title: str, tmp_path: Path) -> None:
    path = tiny.folder(tmp_path, "safetensors", tiny.tensors(), **ABSURD[title])
    accepted = title == "the longest context"
    print(title, limits.check(open_and_build, path, accepted=accepted))


def test_experts_are_counted_before_they_are_made() -> None:
    block = replace(ARCHITECTURE.layer(0), feedforward=Experts(2000, 2, FeedForward(12, "silu", True)))
    with pytest.raises(CheckpointError, match="2 layers with 4000 feed-forwards"):
        build(replace(ARCHITECTURE, block=block), {}, [])
