"""Rules run both ways, and no tensor has two homes."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
import torch
from family_subjects import subject_of
from family_table import ROWS
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_table import ORACLE_ROWS

from paddock.model.families import FAMILIES, family, model_types
from paddock.model.rules import Drop, Rename, Row, SplitQKV, Stack, attention_at, fill, pattern
from paddock.model.spec import Architecture, Attention, Block, FeedForward, LayerNorm

pytestmark = pytest.mark.filterwarnings("ignore")


def fused(attention: Attention, width: int) -> torch.Tensor:
    rows = (attention.heads + 2 * attention.kv_heads) * attention.head_dim
    return torch.arange(rows * width, dtype=torch.float32).view(rows, width)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("kind", ["weight", "bias"])
@pytest.mark.parametrize("layout", ["concat", "grouped", "codegen"])
@given(groups=st.integers(1, 4), each=st.integers(1, 4), size=st.integers(1, 5), width=st.integers(1, 6))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_fused_projections_split_and_join_back(
    layout: str, kind: str, transpose: bool, groups: int, each: int, size: int, width: int
) -> None:
    attention = Attention(groups * each, groups, size)
    if layout == "codegen":
        attention = Attention(4 * groups, 4 * groups, size)
    rule = SplitQKV("qkv.{p}", layout, transpose=transpose)  # type: ignore[arg-type]
    whole = fused(attention, width)
    whole = whole[:, 0].contiguous() if kind == "bias" else whole.T if transpose else whole
    parts = rule.split(whole, attention)
    rows = [part.shape[0] for part in parts]
    assert rows == [n * size for n in (attention.heads, attention.kv_heads, attention.kv_heads)]
    assert torch.equal(rule.join(parts, attention), whole)
    assert rule.shape([part.shape for part in parts]) == tuple(whole.shape)


def test_grouped_rows_are_queries_then_key_then_value_of_each_group() -> None:
    q, k, v = SplitQKV("x", "grouped").split(torch.arange(8.0).view(8, 1), Attention(4, 2, 1))
    assert [t.flatten().tolist() for t in (q, k, v)] == [[0, 1, 4, 5], [2, 6], [3, 7]]


def test_codegen_rows_are_query_value_key_of_each_of_four_parts() -> None:
    q, k, v = SplitQKV("x", "codegen").split(torch.arange(12.0).view(12, 1), Attention(4, 4, 1))
    assert [t.flatten().tolist() for t in (q, k, v)] == [[0, 3, 6, 9], [2, 5, 8, 11], [1, 4, 7, 10]]


@pytest.mark.parametrize(
    ("rule", "shapes"),
    [
        (Rename("a", name="b"), [(3, 4)]),
        (Rename("a", name="b", transpose=True), [(3, 4)]),
        (Rename("a", name="b", transpose=True), [(3,)]),
        (Row("a", name="b"), [(5,)]),
        (Stack("a", names=("b", "c")), [(3, 4), (3, 4)]),
        (Stack("a", names=("b", "c", "d")), [(3,), (3,), (3,)]),
    ],
)
def test_other_rules_split_and_join_back(rule: Rename | Stack, shapes: list[tuple[int, ...]]) -> None:
    parts = [torch.randn(shape) for shape in shapes]
    whole = rule.join(parts, None)
    assert tuple(whole.shape) == rule.shape([part.shape for part in parts])
    assert all(torch.equal(a, b) for a, b in zip(rule.split(whole, None), parts, strict=True))


def test_optional_parts_may_be_absent_on_load_and_are_written_on_save() -> None:
    rule = Rename("[transformer.]h.{i}.ln.{p}", "blocks.{i}.norm.{p}")
    for published in ("h.3.ln.weight", "transformer.h.3.ln.weight", "h.3.ln.gamma"):
        assert rule.read(published) == ("blocks.3.norm.weight",)
    assert rule.write("blocks.3.norm.bias") == ("transformer.h.3.ln.bias", ("blocks.3.norm.bias",))
    assert rule.read("x.h.3.ln.weight") is None and rule.read("h.3.ln.weights") is None
    assert rule.read("h.123456.ln.weight") is None and rule.read("h.3.lnxweight") is None


def test_templates_match_themselves_filled_in() -> None:
    template = "[a.]b.{i}.c.{e}.{p}"
    name = fill(template, {"i": "7", "e": "11", "p": "beta"})
    assert name == "a.b.7.c.11.bias"
    assert pattern(template).fullmatch(name)


def test_parameters_find_their_attention() -> None:
    own, over = Attention(2, 2, 4), Attention(4, 4, 2)
    block = Block(own, FeedForward(8, "relu", False), LayerNorm(1e-5), cross=over)
    other = Block(Attention(1, 1, 8), FeedForward(8, "relu", False), LayerNorm(1e-5))
    a = Architecture("x", 5, 8, 2, block, None, encoder=Architecture("x", 5, 8, 1, other, None))
    assert attention_at(a, "blocks.1.attention.q.weight") == own
    assert attention_at(a, "blocks.0.cross.k.weight") == over
    assert attention_at(a, "encoder.blocks.0.attention.v.bias") == other.attention
    assert attention_at(a, "blocks.2.attention.q.weight") is None
    assert attention_at(a, "head.weight") is None


@pytest.mark.parametrize("row", ROWS + ORACLE_ROWS, ids=lambda row: row.name)
def test_each_tensor_matches_one_rule_and_each_parameter_one_home(row: object, tmp_path: Path) -> None:
    subject = subject_of(row, tmp_path)  # type: ignore[arg-type]
    architecture = subject.architecture
    rules = [rule for rule in family(subject.checkpoint.config).RULES if rule.when(architecture)]
    for name in subject.checkpoint.tensors:
        assert sum(rule.read(name) is not None for rule in rules) == 1, name
    homes: dict[str, set[str]] = defaultdict(set)
    for name in dict(subject.model.named_parameters()):
        answers = [rule.write(name) for rule in rules if rule.write(name) is not None]
        assert answers, f"{name} could not be saved"
        published, ours = answers[0]  # type: ignore[misc]
        back = next(rule.read(published) for rule in rules if rule.read(published) is not None)
        assert back == ours
        homes[published].add(name)
    assert all(len(names) in (1, 2, 3) for names in homes.values())


def test_every_family_is_in_the_table() -> None:
    models = [row.keys.get("model_type", row.config.model_type) for row in ROWS]
    models += ["chatglm2" if "padded_vocab_size" in row.config else row.config["model_type"] for row in ORACLE_ROWS]
    known = model_types()
    assert {known[model].__name__.rpartition(".")[2] for model in models} == set(FAMILIES)
    assert len(ROWS) + len(ORACLE_ROWS) >= 36


def test_dropped_buffers_are_never_written() -> None:
    for module in set(model_types().values()):
        for rule in module.RULES:
            if isinstance(rule, Drop):
                assert rule.ours == () and rule.write("blocks.0.attention.q.weight") is None
