"""Every family, exact: against transformers, against itself through a cache and in a batch, and there and back.

PADDOCK_TABLE=1 prints the figures of all rows at the end.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from family_harness import GREEDY, choices, computed, distance, padded, piecewise, prompt_end
from family_subjects import Subject, subject_of
from family_table import ROWS
from oracle_table import ORACLE_ROWS

from paddock.checkpoint import folder as folders
from paddock.model.spec import Prefix
from paddock.model.step import Step

ALL = sorted(ROWS + ORACLE_ROWS, key=lambda row: row.name.startswith("bert"))
WRITERS = [row for row in ALL if not row.name.startswith("bert")]  # an encoder has no cache and writes nothing
NAMES = [row.name for row in WRITERS]
pytestmark = pytest.mark.filterwarnings("ignore")  # the oracle's own, about configurations smaller than any real one


@pytest.fixture(scope="module", params=ALL, ids=lambda row: row.name)
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, figures: dict[str, dict[str, str]]
) -> Subject:
    made = subject_of(request.param, tmp_path_factory.mktemp("model"))
    made.figures = figures.setdefault(made.name, {})
    return made


def note(subject: Subject, column: str, value: float | str) -> None:
    subject.figures[column] = value if isinstance(value, str) else f"{value:.1e}"


def test_float32_equals_the_oracle(subject: Subject) -> None:
    error = distance(computed(subject.model, subject.inputs), subject.expected())
    note(subject, "fp32", error)
    assert error <= 1e-5


def test_a_changed_field_is_noticed(subject: Subject) -> None:
    error = distance(computed(subject.changed(), subject.inputs), subject.expected())
    note(subject, "changed", error)
    assert error > 1e-5


def test_bfloat16_equals_the_oracle(subject: Subject) -> None:
    model = subject.opened(subject.folder, "bfloat16")
    error = distance(computed(model, subject.inputs), subject.expected(torch.bfloat16))
    note(subject, "bf16", error)
    assert error <= 2e-2


@pytest.mark.parametrize("subject", WRITERS, ids=NAMES, indirect=True)
def test_cached_equals_whole(subject: Subject) -> None:
    first = prompt_end(subject.architecture, subject.inputs.ids)
    error = distance(piecewise(subject.model, subject.inputs, first), computed(subject.model, subject.inputs))
    note(subject, "cached", error)
    assert error <= 1e-5


def test_a_batch_equals_each_alone(subject: Subject) -> None:
    inputs, model = subject.inputs, subject.model
    if not subject.architecture.generates or inputs.target is not None:
        encode = model.encode if model.encoder else lambda ids, padding=None: _hidden(subject, ids, padding)
        together = encode(inputs.ids, inputs.padding)
        assert inputs.padding is not None
        lengths = inputs.padding.sum(1).tolist()
        alone = [encode(ids[None, :length])[0] for ids, length in zip(inputs.ids, lengths, strict=True)]
        error = distance([row[:length] for row, length in zip(together, lengths, strict=True)], alone)
    else:
        rows = [inputs.ids[0], inputs.ids[1, 6:], inputs.ids[1, :1], inputs.ids[0, 4:9]]
        if isinstance(subject.architecture.mask, Prefix):
            rows = [inputs.ids[0], inputs.ids[1, 2:], inputs.ids[0, 5:12]]
        extra = torch.tensor([3, 5, 7])
        error = distance(*padded(model, rows, extra, left=True))
        if not isinstance(subject.architecture.mask, Prefix):  # a blank is filled at the very end of a prompt
            error = max(error, distance(*padded(model, rows, extra, left=False)))
    note(subject, "batch", error)
    assert error <= 1e-5


@torch.inference_mode()
def _hidden(subject: Subject, ids: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
    return subject.model.hidden(ids, Step.begin(subject.architecture, ids, padding=padding))


def test_saved_opens_in_the_oracle(subject: Subject, tmp_path: Path) -> None:
    folders.write(tmp_path, subject.model, dict(subject.checkpoint.config))
    error = distance(subject.reopened(tmp_path), computed(subject.model, subject.inputs))
    note(subject, "saved", error)
    assert error <= subject.saved_within


@pytest.mark.parametrize("subject", WRITERS, ids=NAMES, indirect=True)
def test_greedy_text_equals_the_oracle(subject: Subject) -> None:
    chosen, clear = choices(subject.model, subject.prompt, subject.start, subject.row.whole_only)
    expected = subject.greedy(subject.prompt)
    note(subject, "greedy", f"{sum(a == b for a, b in zip(chosen, expected, strict=True))}/{GREEDY}")
    assert clear >= GREEDY // 2
    assert chosen[:clear] == expected[:clear]
