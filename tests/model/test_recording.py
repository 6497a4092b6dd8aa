"""Every family as a native program: the recording of the one Transformer gives what the Transformer gives."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from family_harness import computed, distance, prompt_end
from family_subjects import Subject, subject_of
from family_table import ROWS
from oracle_table import ORACLE_ROWS

import paddock
from paddock.engine.native_runner import NativeRunner
from paddock.engine.runner import Rows
from paddock.kernels.native import library
from paddock.model.recording import recordable

pytestmark = pytest.mark.filterwarnings("ignore")  # the oracle's own, about configurations smaller than any real one
WRITERS = [row for row in ROWS + ORACLE_ROWS if not row.name.startswith("bert")]


@pytest.fixture(scope="module", params=WRITERS, ids=lambda row: row.name)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(request.param, tmp_path_factory.mktemp("model"))


def rows_of(subject: Subject, number: int, ids: list[int], start: int, table: list[int], logits: int) -> Rows:
    """Tokens of the subject's text `number`, from the slot `start` on; an encoder-decoder's with what it answers."""
    source: list[int] = []
    if subject.inputs.target is not None and subject.inputs.padding is not None:
        source = subject.inputs.ids[number][subject.inputs.padding[number]].tolist()
    prompt = prompt_end(subject.architecture, subject.inputs.ids) if source == [] else 1
    return Rows(number, ids, start, table, prompt, logits, subject.inputs.ids.shape[1], source)


def test_the_program_equals_the_model_in_any_pieces(subject: Subject) -> None:
    assert recordable(subject.model)
    if library() is None:
        pytest.skip("no native kernels in this build")
    runner = NativeRunner(subject.model, 64)
    texts = subject.inputs.ids if subject.inputs.target is None else subject.inputs.target
    first, second = texts.tolist()
    count = len(first)
    tables = [list(range(20)), list(range(40, 20, -1))]
    whole = runner.run([
        rows_of(subject, 0, first, 0, tables[0], count),
        rows_of(subject, 1, second, 0, tables[1], count),
    ])  # fmt: skip
    assert distance([whole.view(2, count, -1)], computed(subject.model, subject.inputs)) <= 1e-5
    whole_prompt = 0 if subject.architecture.can_cut_prompt else prompt_end(subject.architecture, subject.inputs.ids)
    for size in (1, 7):
        cuts = [0, *range(whole_prompt or size, count, size), count]
        parts = [
            runner.run([rows_of(subject, 0, first[at:end], at, tables[1], end - at)]) for at, end in pairwise(cuts)
        ]
        assert torch.equal(torch.cat(parts), whole[:count]), f"pieces of {size}"


def test_a_bfloat16_model_is_near_the_reference(tmp_path: Path) -> None:
    if library() is None:
        pytest.skip("no native kernels in this build")
    row = next(row for row in WRITERS if row.name == "llama grouped")
    subject = subject_of(row, tmp_path)
    model = subject.opened(subject.folder, "bfloat16")
    runner = NativeRunner(model, 8)
    ids = subject.inputs.ids[0].tolist()
    found = runner.run([Rows(1, ids, 0, list(range(8)), len(ids), len(ids), len(ids))])
    assert distance([found], [subject.expected()[0][0]]) <= 2e-2


@pytest.mark.parametrize("kind", ["q8_0", "q6_k", "q5_1", "q4_1", "q4_0", "bfloat16", "float16"])
def test_any_weights_give_the_same_bits_in_any_pieces(kind: str) -> None:
    """What a prompt's token and a written one leave in the cache is the same, so both may be shared."""
    if library() is None:
        pytest.skip("no native kernels in this build")
    model = paddock.load(dtype=kind) if kind in ("bfloat16", "float16") else paddock.load(quantize=kind)
    runner = NativeRunner(model.model, 64)
    ids = [1 + 7 * i % 500 for i in range(70)]
    whole = runner.run([Rows(1, ids, 0, list(range(5)), 70, 70, 70)])
    for size in (1, 3, 6, 13, 33):
        parts = [
            runner.run([Rows(1, ids[at : at + size], at, list(range(10, 15)), 70, len(ids[at : at + size]), 70)])
            for at in range(0, 70, size)
        ]
        assert torch.equal(torch.cat(parts), whole), f"pieces of {size}"
