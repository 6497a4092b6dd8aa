"""Rotary positions for longer texts: each scaling against its definition, and the same on every path that runs it."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from paddock.engine.reading import Reader
from paddock.errors import CheckpointError, UnsupportedError
from paddock.finetune.extending import Extension, extended
from paddock.kernels import native
from paddock.model.families import describe
from paddock.model.position import frequencies, rotation
from paddock.model.rotary import (
    DynamicScaling,
    LinearScaling,
    PowerScaling,
    Scaling,
    TruncatedScaling,
    YarnScaling,
)
from paddock.model.spec import Rope
from paddock.model.step import Step
from paddock.model.transformer import Transformer

CPU = torch.device("cpu")
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
}


def basis(width: int, theta: float) -> np.ndarray:
    return theta ** -(np.arange(0, width, 2) / width)


@pytest.mark.parametrize("exponent", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("width", [8, 64, 128])
def test_power_basis_is_its_definition(width: int, exponent: float) -> None:
    pairs = width // 2
    expected = basis(width, 10000.0) * (1 - np.arange(pairs) / pairs) ** exponent
    found = frequencies(Rope(10000.0, width, scaling=PowerScaling(exponent)), 0, CPU)
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-6)
    assert found[0] == 1.0 and (found > 0).all(), "the fastest stays, and none stands still"


@pytest.mark.parametrize("cutoff", [16.0, 128.0, 2048.0])
@pytest.mark.parametrize("width", [8, 64, 128])
def test_truncated_basis_is_its_definition(width: int, cutoff: float) -> None:
    plain, least = basis(width, 10000.0), 2 * math.pi / cutoff
    expected = [f if f >= least else 2 * math.pi / (16 * cutoff) if f >= least / 8 else 0.0 for f in plain]
    found = frequencies(Rope(10000.0, width, scaling=TruncatedScaling(cutoff)), 0, CPU)
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-6, atol=0)


def test_a_truncated_basis_has_all_three_parts() -> None:
    """Of LLaMA's 64 frequencies, cut at its 2,048 positions: kept, made one, and without position."""
    found = frequencies(Rope(10000.0, 128, scaling=TruncatedScaling(2048.0)), 0, CPU)
    plain = frequencies(Rope(10000.0, 128), 0, CPU)
    kept, still = found == plain, found == 0
    constant = ~kept & ~still
    assert (kept.sum(), constant.sum(), still.sum()) == (41, 14, 9)
    assert torch.allclose(found[constant], torch.tensor(2 * math.pi / (16 * 2048)))
    cos, sin = rotation(Rope(10000.0, 128, scaling=TruncatedScaling(2048.0)), torch.arange(5)[None], 5)
    assert (cos[..., still] == 1).all() and (sin[..., still] == 0).all(), "what does not turn sees no position"


@pytest.mark.parametrize("scale", [2, 4, 8, 16])
def test_linear_scale_at_a_multiple_is_the_unscaled_position_exactly(scale: int) -> None:
    positions = torch.arange(2048)[None]
    plain = rotation(Rope(10000.0, 64), positions, 2048)
    scaled = rotation(Rope(10000.0, 64, scaling=LinearScaling(float(scale))), scale * positions, 2048 * scale)
    assert all(torch.equal(one, two) for one, two in zip(plain, scaled, strict=True))


def model(scaling: Scaling | None, theta: float = 10000.0) -> Transformer:
    """The same random weights, whatever the scaling."""
    torch.manual_seed(3)
    config = LLAMA | {"rope_theta": theta}
    described = describe(config)
    made = Transformer(rescaled(described, scaling))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3)
    return made.eval()


def rescaled(architecture: Any, scaling: Scaling | None) -> Any:
    attention = architecture.block.attention
    attention = replace(attention, position=replace(attention.position, scaling=scaling))
    return replace(architecture, block=replace(architecture.block, attention=attention), context=None)


SCALINGS: list[Scaling] = [
    LinearScaling(4.0),
    YarnScaling(4.0, 128, attention=1.1386),
    PowerScaling(0.5),
    TruncatedScaling(128.0),
]


@pytest.mark.skipif(native.library() is None, reason="no native kernels in this build, or not asked for")
@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda part: type(part).__name__)
def test_recorded_programs_turn_by_the_same_table(scaling: Scaling) -> None:
    """The native forward beside PyTorch's; and neither is what the unscaled model says."""
    ids = torch.arange(300).remainder(61).tolist()
    scaled, plain = model(scaling), model(None)
    reader = Reader(scaled)
    assert reader.native, "these are covered by the native operations"
    native = reader.logits(ids)
    with torch.no_grad():
        rows = torch.tensor([ids])
        reference, unscaled = (m(rows, Step.begin(m.architecture, rows))[0] for m in (scaled, plain))
    assert torch.allclose(native, reference, rtol=1e-4, atol=1e-4 * float(reference.abs().max()))
    assert (reference - unscaled).abs().max() > 0.05 * reference.abs().max()


def test_tables_are_never_stale() -> None:
    """A reader that made its program for short texts, then for long ones, then reads short ones again."""
    scaled = model(LinearScaling(4.0))
    reader, short = Reader(scaled), list(range(9))
    first = reader.logits(short)
    long = reader.logits(torch.arange(3000).remainder(61).tolist())
    assert torch.equal(reader.logits(short), first)
    fresh = Reader(scaled).logits(torch.arange(3000).remainder(61).tolist())
    assert torch.equal(long, fresh)


def test_dynamic_scaling_follows_each_text_anew() -> None:
    scaled, plain = model(DynamicScaling(4.0, 128)), model(None)
    short, long = list(range(60)), torch.arange(300).remainder(61).tolist()
    one, two = Reader(scaled), Reader(plain)
    before = one.logits(short)
    assert torch.allclose(before, two.logits(short), atol=1e-4)
    assert (one.logits(long) - two.logits(long)).abs().max() > 0.1
    assert torch.equal(one.logits(short), before)


@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn", "ntk"])
@pytest.mark.parametrize("scale", [2.0, 4.0, 3.0])
def test_what_is_written_is_what_transformers_reads(kind: str, scale: float) -> None:
    """The configuration of an extended model, and the angles that transformers makes of it."""
    config = LLAMA | {"rope_theta": 10000.0}
    checkpoint: Any = SimpleNamespace(config=config, architecture=describe(config), tensors={})
    made = extended(checkpoint, Extension(kind, scale))  # type: ignore[arg-type]
    length = int(128 * scale)
    assert made.after == length
    positions = torch.arange(length)[None]
    theirs = LlamaRotaryEmbedding(LlamaConfig(**dict(made.config)))
    with torch.no_grad():
        cos, sin = theirs(torch.zeros(1), positions)
    ours = rotation(made.rope, positions, length)
    half = cos.shape[-1] // 2
    for one, two in zip(ours, (cos, sin), strict=True):
        assert torch.allclose(one[0, 0], two[0, :, :half], atol=2e-4)


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ({"rope_type": "paddock_power", "exponent": 0.25}, PowerScaling(0.25)),
        ({"type": "paddock_truncated", "cutoff": 2048}, TruncatedScaling(2048.0)),
    ],
)
def test_our_names_are_read_here_and_refused_elsewhere(table: dict[str, Any], part: Scaling) -> None:
    position = describe(LLAMA | {"rope_scaling": table}).layer(0).attention.position
    assert isinstance(position, Rope) and position.scaling == part
    with pytest.raises(KeyError):
        LlamaRotaryEmbedding(LlamaConfig(**(LLAMA | {"rope_scaling": dict(table)})))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"rope_type": "paddock_power"}, "exponent"),
        ({"rope_type": "paddock_power", "exponent": 0}, "exponent"),
        ({"rope_type": "paddock_power", "exponent": -1.0}, "exponent"),
        ({"rope_type": "paddock_power", "exponent": "much"}, "exponent"),
        ({"rope_type": "paddock_power", "exponent": 0.1, "factor": 2.0}, "factor"),
        ({"rope_type": "paddock_truncated"}, "cutoff"),
        ({"rope_type": "paddock_truncated", "cutoff": 0.5}, "cutoff"),
        ({"rope_type": "paddock_truncated", "cutoff": float("inf")}, "cutoff"),
        ({"rope_type": "paddock_powers", "factor": 2.0}, "unknown"),
    ],
)
def test_tables_that_make_no_sense(table: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        describe(LLAMA | {"rope_scaling": table})


@pytest.mark.parametrize(
    "make", [lambda: PowerScaling(0.0), lambda: PowerScaling(math.nan), lambda: TruncatedScaling(0.0)]
)
def test_parts_refuse_what_no_model_has(make: Any) -> None:
    with pytest.raises(UnsupportedError):
        make()
