"""The parity gate: what it finds, on which models, and the card that it leaves."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.engine import parity
from paddock.engine.language_model import LanguageModel
from paddock.engine.loading import load
from paddock.engine.locate import bundled
from paddock.engine.parity_card import EMPTY, FILE, KEY, Parity, read
from paddock.engine.reading import forget_packed
from paddock.errors import CheckpointError, PaddockError, TokenizerError, UsageError
from paddock.model.families import describe
from paddock.model.lora import LowRank, adapt, adaptable, adapted, merged
from paddock.model.transformer import Transformer


@pytest.fixture(scope="module")
def story() -> LanguageModel:
    return load()


@pytest.fixture(scope="module")
def wordless(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A LLaMA without a tokenizer."""
    path = tmp_path_factory.mktemp("models") / "wordless"
    config = dict(open_checkpoint(bundled()).config) | {"vocab_size": 97}
    model = Transformer(describe(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    folder.write(path, model, config)
    return load(path)


def changed(factor: float) -> LanguageModel:
    """The bundled model with every weight of one matrix made larger."""
    model = load()
    matrix = model.model.blocks[2].feedforward.down
    matrix.weight = torch.nn.Parameter(matrix.weight * factor, requires_grad=False)
    return model


def test_a_model_equals_itself(story: LanguageModel) -> None:
    found = parity.compare(story, load(), "convert", 0.0)
    assert found.holds and found.same_weights and found.tokens_equal is True
    assert (found.largest_difference, found.kl_mean, found.kl_max, found.top1) == (0.0, 0.0, 0.0, 1.0)
    assert found.greedy_equal == found.greedy_steps == parity.WRITTEN * parity.STEPS
    assert found.prompts == 8 and found.tokens == 8 * parity.LENGTH


def test_the_figures_are_those_of_numpy(story: LanguageModel) -> None:
    """Logits of both over the same ids, and float64 arithmetic that shares nothing with ours."""
    other = changed(1.05)
    found = parity.compare(story, other, "compare")
    prompts = parity.prompts_for(story, other).ids
    one, two = (
        np.concatenate([m.logits(list(ids)).numpy() for ids in prompts]).astype(np.float64) for m in (story, other)
    )
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (one, two))
    divergence = (p * np.log(p / q)).sum(-1)
    assert found.largest_difference == np.abs(one - two).max() > 0.01
    assert found.largest_output == np.abs(one).max()
    assert found.kl_mean == pytest.approx(divergence.mean(), rel=1e-6) and found.kl_mean > 1e-5
    assert found.kl_max == pytest.approx(divergence.max(), rel=1e-6)
    assert found.top1 == (one.argmax(-1) == two.argmax(-1)).mean() < 1.0


def test_writing_is_compared_up_to_where_it_parts(story: LanguageModel) -> None:
    other = changed(1.3)
    found = parity.compare(story, other, "compare")
    texts = [
        [model.generate(list(ids), parity.STEPS, temperature=0).ids for model in (story, other)]
        for ids in parity.prompts_for(story, other).ids[: parity.WRITTEN]
    ]
    equal = sum(next((i for i, (a, b) in enumerate(zip(*pair, strict=True)) if a != b), 16) for pair in texts)
    assert found.greedy_equal == equal < found.greedy_steps == 48


@pytest.mark.parametrize(("bound", "holds"), [(None, True), (0.0, False), (1e-5, False), (1.0, True)])
def test_a_bound_is_by_the_largest(story: LanguageModel, bound: float | None, holds: bool) -> None:
    found = parity.compare(story, changed(1.01), "merge", bound)
    assert found.holds is holds and not found.same_weights
    if holds:
        found.check("the copy")
    else:
        with pytest.raises(PaddockError, match=r"the copy does not compute what stories260K does: its logits differ"):
            found.check("the copy")


def test_fixed_ids_without_a_tokenizer(wordless: LanguageModel) -> None:
    found = parity.compare(wordless, wordless, "convert", 0.0)
    assert found.holds and found.tokens_equal is None and found.prompts == parity.FIXED and found.tokens == 64
    ids = parity.prompts_for(wordless, wordless).ids
    assert len(set(ids)) == parity.FIXED and all(0 <= id < 97 for row in ids for id in row)


def test_what_a_vocabulary_cannot_spell_is_left_out(story: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = story.tokenizer.encode

    def ascii_only(text: str, **more: Any) -> list[int]:
        if not text.isascii():
            raise TokenizerError("no such letter")
        return encode(text, **more)

    monkeypatch.setattr(story.tokenizer, "encode", ascii_only)
    assert len(parity.prompts_for(story, story).ids) == 4


def test_the_chat_is_a_prompt_where_there_is_a_template(story: LanguageModel) -> None:
    plain, chatty = (parity.prompts_for(load(template=name), story) for name in (None, "chatml"))
    assert len(chatty.ids) == len(plain.ids) + 1 and chatty.sha256 != plain.sha256


def test_another_tokenizer_is_noticed(story: LanguageModel, wordless: LanguageModel) -> None:
    other = load()
    encode = other.tokenizer.encode
    other.tokenizer.encode = lambda text, **more: encode(text.lower(), **more)  # type: ignore[method-assign]
    assert parity.prompts_for(story, other).tokens_equal is False
    assert parity.prompts_for(story, wordless).tokens_equal is None


def test_models_of_two_kinds_are_not_compared(story: LanguageModel, wordless: LanguageModel) -> None:
    with pytest.raises(UsageError, match=r"one gives logits of 512 tokens .* the other logits of 97"):
        parity.compare(story, wordless, "compare")


def test_numbers_that_are_none_are_refused(story: LanguageModel) -> None:
    broken = changed(1.0)
    broken.model.norm.weight = torch.nn.Parameter(torch.full((64,), math.nan), requires_grad=False)
    with pytest.raises(PaddockError, match="not numbers"):
        parity.compare(story, broken, "compare")


def test_fingerprints_are_of_numbers_not_of_formats(story: LanguageModel) -> None:
    whole = parity.fingerprint(story.model)
    assert whole == parity.fingerprint(load().model) != parity.fingerprint(load(dtype="bfloat16").model)
    assert parity.altered(story.model, changed(1.5).model) == ["blocks.2.feedforward.down.weight"]
    assert parity.altered(story.model, load().model) == []


def card(story: LanguageModel) -> Parity:
    return parity.compare(story, story, "convert", 0.0)


def test_the_card_comes_back(story: LanguageModel, tmp_path: Path) -> None:
    made = dataclasses.replace(card(story), bound=None, kl_mean=None, source="木" * 200)
    made.write(tmp_path)
    assert read(tmp_path, None) == made
    assert len(made.text()) == len(made.text().encode()) == len(EMPTY), "a GGUF file keeps so much room"
    assert read(tmp_path / "m.gguf", {KEY: made.text()}) == made
    assert read(tmp_path / "none", None) is None and read(tmp_path / "m.gguf", {}) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"top1": "all"}, "top1"),
        ({"outputs": "tea leaves"}, "outputs"),
        ({"prompts": -1}, "prompts"),
        ({"tokens_equal": 1}, "tokens_equal"),
        ({"largest_difference": None}, "largest_difference"),
        ({"surprise": 1}, "disagree about 'surprise'"),
    ],
)
def test_a_card_that_is_none_is_refused(
    story: LanguageModel, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    (tmp_path / FILE).write_text(json.dumps(dataclasses.asdict(card(story)) | change))
    with pytest.raises(CheckpointError, match=said):
        read(tmp_path, None)


@pytest.mark.parametrize("text", ["", "{", "[]", "{" * 500, '{"kind": NaN}', "\x00", EMPTY])
def test_garbage_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(CheckpointError):
        read(tmp_path, None)
    with pytest.raises(CheckpointError):
        read(tmp_path / "m.gguf", {KEY: text or " "})
    with pytest.raises(CheckpointError):
        read(tmp_path / "m.gguf", {KEY: 3})


@pytest.mark.parametrize(("strength", "kind"), [(0.05, "merge"), (0.16, "merge, run in float64")])
def test_a_merge_is_bound_by_what_its_weights_do(story: LanguageModel, strength: float, kind: str) -> None:
    """A strong adapter shows float32's order of additions, which is no error of the merge; a wrong weight is one."""
    chance = torch.Generator().manual_seed(3)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=chance) * strength

    base = story.model
    deltas = {path: LowRank(numbers(8, width), numbers(out, 8), 2.0) for path, (out, width) in adaptable(base).items()}
    twin = adapt(base, deltas)
    before, after = (
        LanguageModel(story.checkpoint, model, story.tokenizer, story.template) for model in (twin, merged(twin))
    )
    for path, one in adapted(twin):
        whole = one.base.weight.double() + 2 * one.b.double() @ one.a.double()
        assert torch.equal(after.model.get_submodule(path).weight, whole.float())  # rounded once
    found = parity.merged(before, after)
    assert found.holds and found.kind == kind and found.bound == 1e-5
    assert {p.dtype for p in (*twin.parameters(), *after.model.parameters())} == {torch.float32}
    path = next(iter(deltas))
    with torch.no_grad():
        after.model.get_submodule(path).weight[3] *= 1.002
    forget_packed(after.model)
    again = LanguageModel(story.checkpoint, after.model, story.tokenizer, story.template)
    assert not parity.merged(before, again).holds
