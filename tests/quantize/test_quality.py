"""The comparison under the quality card, and the card itself."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import paddock
from paddock.engine.language_model import LanguageModel
from paddock.errors import CheckpointError, DataError, PaddockError
from paddock.evaluate.perplexity import perplexity
from paddock.quantize import card as cards
from paddock.quantize.card import Card
from paddock.quantize.importance import importance
from paddock.quantize.quality import PROSE, Text, compare, speeds, windows_of

STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her dog. "
CARD = Card(
    "q4_k", "m", "prose", "ab", False, "here", 100, 64, 5.0, 0.1, 5.1, 0.1, 0.01, 0.2, 0.9, 1000, 4.6, 100.0, 20.0
)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return paddock.load()


@pytest.fixture(scope="module")
def noisy() -> LanguageModel:
    """The bundled model with other numbers."""
    found, generator = paddock.load(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in found.model.parameters():
            parameter.data = parameter + 0.02 * torch.randn(parameter.shape, generator=generator)
    return found


def test_a_model_beside_itself(model: LanguageModel) -> None:
    found = compare(model, model, windows_of(model, STORY, "story"))
    assert found.before == found.after and found.kl_mean == found.kl_p99 == 0.0 and found.top1 == 1.0


def test_perplexity_is_what_the_other_verb_measures(model: LanguageModel) -> None:
    text = windows_of(model, STORY, "story")
    found, expected = compare(model, model, text), perplexity(model, STORY)
    assert (len(text.windows), found.tokens) == (1, expected.tokens)
    assert found.before[0] == pytest.approx(expected.value, rel=1e-5)
    assert found.before[1] == pytest.approx(expected.stderr, rel=1e-4)


def test_divergence_and_agreement_by_hand(model: LanguageModel, noisy: LanguageModel) -> None:
    window = windows_of(model, STORY, "story").windows[0]
    found = compare(model, noisy, Text("story", "", [window], 1))
    p, q = (m.logits(window[:-1]).double().log_softmax(-1) for m in (model, noisy))
    divergence = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    assert found.kl_mean == pytest.approx(divergence.mean().item(), rel=1e-4) and found.kl_mean > 0
    assert found.kl_p99 == pytest.approx(divergence.quantile(0.99).item(), rel=1e-4)
    assert found.top1 == pytest.approx((p.argmax(-1) == q.argmax(-1)).double().mean().item()) and found.top1 < 1
    losses = -q.gather(1, torch.tensor(window[1:])[:, None])
    assert found.after[0] == pytest.approx(math.exp(losses.mean().item()), rel=1e-4)


def test_windows_are_spread_over_the_text(model: LanguageModel) -> None:
    text = windows_of(model, PROSE.read_text(encoding="utf-8"), "prose", 1500)
    ids = model.tokenizer.encode(PROSE.read_text(encoding="utf-8"), add_special=False)
    assert len(text.windows) == 2 and all(window[0] == 1 and len(window) == 512 for window in text.windows)
    assert text.windows[0][1:] == ids[:511]
    assert text.windows[1][1:] in [ids[start : start + 511] for start in range(0, len(ids), 511)][5:]


def test_a_text_of_no_length_is_refused(model: LanguageModel) -> None:
    with pytest.raises(DataError, match="nothing has 0 tokens"):
        windows_of(model, "", "nothing")


def test_logits_that_are_no_numbers_are_refused(model: LanguageModel) -> None:
    broken = paddock.load()
    with torch.no_grad():
        broken.model.norm.weight = torch.nn.Parameter(torch.full((64,), float("nan")))  # type: ignore[union-attr]
    with pytest.raises(PaddockError, match="not numbers"):
        compare(model, broken, windows_of(model, STORY, "story"))


def test_speeds_are_speeds(model: LanguageModel) -> None:
    assert all(math.isfinite(speed) and speed > 0 for speed in speeds(model, windows_of(model, STORY, "story")))


def test_importances_are_mean_squares_of_inputs(model: LanguageModel) -> None:
    windows = windows_of(model, STORY, "story").windows
    found = importance(model, [windows[0], windows[0][:9]])
    assert found.keys() >= {"head", "blocks.0.attention.q", "blocks.4.feedforward.down"}
    assert torch.equal(found["blocks.2.attention.k"], found["blocks.2.attention.v"])
    seen: list[torch.Tensor] = []
    handle = model.model.blocks[1].feedforward.down.register_forward_pre_hook(lambda _, given: seen.append(given[0][0]))
    from paddock.model.step import Step

    for window in (windows[0], windows[0][:9]):
        ids = torch.tensor([window])
        with torch.no_grad():
            model.model(ids, Step.begin(model.architecture, ids))
    handle.remove()
    assert torch.allclose(found["blocks.1.feedforward.down"], torch.cat(seen).square().mean(0), rtol=1e-4)
    assert not any(module._forward_pre_hooks for module in model.model.modules())


def as_read(card: Card) -> dict[str, object]:
    """The metadata as the reader gives it, in Python's own numbers."""
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in card.metadata().items()}


def test_a_card_comes_back(tmp_path: Path) -> None:
    assert cards.read(Path("m.gguf"), as_read(CARD)) == CARD
    CARD.write(tmp_path)
    assert cards.read(tmp_path, None) == CARD
    assert cards.read(Path("m.gguf"), {"general.name": "m"}) is None and cards.read(tmp_path / "none", None) is None
    numbers = [value for value in CARD.metadata().values() if not isinstance(value, str | bool)]
    assert {value.dtype.itemsize for value in numbers} == {8}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "value"), [("kl_mean", float("nan")), ("tokens", -1), ("kind", 3), ("calibrated", 1), ("top1", "all")]
)
def test_a_broken_card_is_refused(name: str, value: object) -> None:
    metadata = as_read(CARD) | {cards.PREFIX + name: value}
    with pytest.raises(CheckpointError, match=name):
        cards.read(Path("m.gguf"), metadata)


def test_a_card_of_other_fields_is_refused(tmp_path: Path) -> None:
    (tmp_path / cards.FILE).write_text(json.dumps(asdict(CARD) | {"mood": "good"}))
    with pytest.raises(CheckpointError, match="mood"):
        cards.read(tmp_path, None)
    with pytest.raises(CheckpointError, match="disagree"):
        cards.read(Path("m.gguf"), {cards.PREFIX + "tokens": 3})


def test_a_long_text_in_a_card_is_cut() -> None:
    found = cards.read(Path("m.gguf"), as_read(replace(CARD, text="x" * 5000)))
    assert found is not None and len(found.text) == cards.LONGEST
