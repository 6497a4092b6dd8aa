"""Angles, slopes, buckets, waves and blank-infilling positions against their definitions and against transformers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import mpt_slopes
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from paddock import kernels
from paddock.errors import UsageError
from paddock.model.config import Config
from paddock.model.families.shared import rope as read_rope
from paddock.model.position import alibi_bias, bucket_of, frequencies, rotation, sinusoids, slopes
from paddock.model.spec import Alibi, Buckets, FactorScaling, Prefix, Rope, Rope2D, Sinusoidal
from paddock.model.step import blank_positions

CPU = torch.device("cpu")


# ALiBi


@pytest.mark.parametrize("heads", [1, 2, 8, 12, 16, 32, 71, 112])
def test_slopes_equal_both_published_statements(heads: int) -> None:
    ours = torch.tensor(slopes(Alibi(), heads), dtype=torch.float64)
    bloom = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1].double()
    assert torch.allclose(ours, bloom, rtol=1e-6)
    assert torch.allclose(ours, torch.tensor(mpt_slopes(heads, 8.0), dtype=torch.float64), rtol=1e-12)


def test_bloom_176b_slopes() -> None:
    found = slopes(Alibi(), 112)
    assert math.isclose(found[0], 0.9170, abs_tol=5e-5) and math.isclose(found[-1], 0.01632, abs_tol=5e-6)


def test_largest_slope_exponent_is_the_parts_own() -> None:
    assert slopes(Alibi(16.0), 8) == [2.0 ** (-2 * i) for i in range(1, 9)]


def test_alibi_penalises_distance_and_falcon_divides_it_by_the_scores_scale() -> None:
    positions = torch.arange(5)[None]
    bias = alibi_bias(Alibi(), 4, 0.25, positions, positions)
    assert bias.shape == (1, 4, 5, 5)
    assert bias[0, 1, 4].tolist() == [slopes(Alibi(), 4)[1] * (j - 4) for j in range(5)]
    scaled = alibi_bias(Alibi(before_scale=True), 4, 0.25, positions, positions)
    assert torch.equal(scaled, bias * 0.25)


# Rotary


def configured(**rope: object) -> tuple[LlamaConfig, Rope]:
    parameters = {"rope_theta": 10000.0, **rope}
    config = LlamaConfig(
        hidden_size=512, num_attention_heads=4, max_position_embeddings=2048, rope_parameters=dict(parameters)
    )
    values = {"rope_parameters": parameters, "max_position_embeddings": 2048}
    return config, read_rope(Config(values), 128)


YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "dynamic", "factor": 4.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 512},
        {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 5e5,
         "original_max_position_embeddings": 8192},
        YARN,
        {**YARN, "rope_theta": 1e6, "beta_fast": 16.0, "beta_slow": 2.0},
        {**YARN, "truncate": False},
        {**YARN, "attention_factor": 1.25},
        {**YARN, "mscale": 0.7, "mscale_all_dim": 1.0},
        {**YARN, "factor": 1.0},
        {**YARN, "original_max_position_embeddings": 32768},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("length", [100, 2048, 2049, 9000])
def test_scaled_frequencies_equal_transformers(scaling: dict[str, object], length: int) -> None:
    config, rope = configured(**scaling)
    expected, gain = ROPE_INIT_FUNCTIONS[str(scaling["rope_type"])](config, CPU, seq_len=length)
    assert torch.allclose(frequencies(rope, length, CPU), expected, rtol=1e-5, atol=0)
    cos, sin = rotation(rope, torch.tensor([[0, 7]]), length)
    assert torch.allclose(cos[0, 0, 0], torch.full((64,), float(gain)), rtol=1e-6)
    assert torch.allclose(sin[0, 0, 1], (7 * expected).sin() * gain, atol=1e-5)


def test_gguf_factors_divide_frequencies() -> None:
    plain = frequencies(Rope(10000.0, 8), 1, CPU)
    scaled = frequencies(Rope(10000.0, 8, scaling=FactorScaling((1.0, 2.0, 4.0, 8.0))), 1, CPU)
    assert torch.equal(scaled, plain / torch.tensor([1.0, 2.0, 4.0, 8.0]))


def test_partial_rotation_divides_by_the_rotated_width_and_leaves_the_rest() -> None:
    rope = Rope(10000.0, 4)
    cos, sin = rotation(rope, torch.tensor([[3]]), 4)
    x = torch.randn(1, 2, 1, 16)
    turned = kernels.rotate(x, cos, sin, interleaved=False)
    assert torch.equal(turned[..., 4:], x[..., 4:])
    assert torch.allclose(frequencies(rope, 1, CPU), torch.tensor([1.0, 0.01]))


@given(st.integers(1, 5), st.sampled_from([2, 4, 16, 64]), st.integers(0, 5000))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_pairs_and_halves_are_one_rotation_of_permuted_features(heads: int, size: int, position: int) -> None:
    """Why Meta's files become Hugging Face's by permuting rows of q and k: scores stay."""
    q, k = torch.randn(2, 1, heads, 1, size, dtype=torch.float64)
    cos, sin = (t.double() for t in rotation(Rope(10000.0, size), torch.tensor([[position]]), 1))
    order = torch.arange(size).view(size // 2, 2).T.flatten()
    pairs = [kernels.rotate(x, cos, sin, interleaved=True) for x in (q, k)]
    halves = [kernels.rotate(x[..., order], cos, sin, interleaved=False) for x in (q, k)]
    assert all(torch.equal(p[..., order], h) for p, h in zip(pairs, halves, strict=True))
    assert torch.allclose((pairs[0] * pairs[1]).sum(-1), (halves[0] * halves[1]).sum(-1), atol=1e-12)


def test_two_part_rotation_gives_each_half_its_stream() -> None:
    where = torch.tensor([[[5, 0], [5, 3]]])
    cos1, _, cos2, _ = rotation(Rope2D(10000.0, 4), where, 0)
    assert torch.allclose(cos1[0, 0], torch.tensor([[5.0, 0.05]] * 2).cos())
    assert torch.allclose(cos2[0, 0], torch.tensor([[0.0, 0.0], [3.0, 0.03]]).cos())


def test_float16_tables_drift_as_published() -> None:
    """Within 2048 positions the published float16 angles are off by up to 0.82 radians."""
    frequency, positions = frequencies(Rope(10000.0, 64), 0, CPU), torch.arange(2048)[:, None]
    drift = (positions.half() * frequency.half()).double() - positions * frequency.double()
    assert round(float(drift.abs().max()), 2) == 0.82
    where = torch.stack((positions, positions), dim=-1).transpose(0, 1)
    half, true = (rotation(Rope2D(10000.0, 64, half_tables=half), where, 0)[0] for half in (True, False))
    assert 0.5 < float((half - true).abs().max()) < 0.83


# T5


@pytest.mark.parametrize(("both_ways", "count", "far"), list(itertools.product([True, False], [12, 32], [20, 128])))
def test_buckets_equal_transformers(both_ways: bool, count: int, far: int) -> None:
    distance = torch.arange(-700, 701)
    expected = T5Attention._relative_position_bucket(distance, both_ways, count, far)
    assert torch.equal(bucket_of(Buckets(count, far, both_ways), distance), expected)


# Waves


def test_waves_of_the_paper_and_of_its_code() -> None:
    positions = torch.tensor([[0, 3]])
    paper = sinusoids(Sinusoidal(interleaved=True), positions, 6)[0, 1]
    expected = [f(3 / 10000 ** (2 * i / 6)) for i in range(3) for f in (math.sin, math.cos)]
    assert torch.allclose(paper, torch.tensor(expected), atol=1e-6)
    code = sinusoids(Sinusoidal(inclusive=True, start=1), positions, 6)[0, 1]
    angles = [4 / 10000 ** (i / 2) for i in range(3)]
    assert torch.allclose(code, torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles]), atol=1e-6)


# Blank infilling (GLM)

X1, X2, X3, X4, X5, X6, M, M2, S = 1, 2, 3, 4, 5, 6, 90, 91, 99


@pytest.mark.parametrize(
    ("span", "mask", "first"),
    [([X5, X6], Prefix((M2, M), S), 5), ([X3], Prefix((M, M2), S), 3)],
)
def test_positions_of_the_glm_example(span: list[int], mask: Prefix, first: int) -> None:
    """x1 x2 [x3] x4 [x5 x6], counted from 1 as in the paper: each span repeats its blank's place, and counts from 1."""
    positions, prefix = blank_positions(mask, torch.tensor([[X1, X2, M, X4, M2, S, *span]]))
    assert prefix.tolist() == [5]
    assert (positions[0, :5, 0] + 1).tolist() == [1, 2, 3, 4, 5]
    assert positions[0, :5, 1].tolist() == [0] * 5
    assert [(a + 1, b) for a, b in positions[0, 5:].tolist()] == [(first, i + 1) for i in range(len(span) + 1)]


def test_positions_of_a_chatglm_prompt_with_padding() -> None:
    """text, gap, start, answer: the context counts 0..n-1; from the start token on only the second part counts."""
    ids = torch.tensor([[X1, X2, X3, M, S, X4], [0, 0, X1, M, S, X4]])
    padding = torch.tensor([[True] * 6, [False, False, True, True, True, True]])
    positions, prefix = blank_positions(Prefix((M, M2), S), ids, padding)
    assert positions[0].tolist() == [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1], [3, 2]]
    assert positions[1, 2:].tolist() == [[0, 0], [1, 0], [1, 1], [1, 2]]
    assert prefix.tolist() == [4, 4]


@pytest.mark.parametrize("text", [[X1, X2, S], [X1, M, X2], [X1, S, M], [X1]])
def test_a_prompt_without_its_blank_or_start_is_refused(text: list[int]) -> None:
    with pytest.raises(UsageError, match="lacks a mask token"):
        blank_positions(Prefix((M, M2), S), torch.tensor([text]))
