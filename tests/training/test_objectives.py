"""Every objective from its recipe on: what it cannot be asked of, what it comes to, and what must not change that."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from objective_words import words
from pydantic import ValidationError
from torch import Tensor

from paddock.checkpoint.weights import sketch
from paddock.data.batch import IGNORED, Batch
from paddock.data.neighbours import Neighbours
from paddock.data.samples import Prepare, Table
from paddock.data.stream import BatchStream
from paddock.data.tokens import Tokens
from paddock.engine.runner import Rows
from paddock.engine.torch_runner import TorchRunner
from paddock.errors import UsageError
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.model.transformer import Transformer
from paddock.training.losses import Loss, WeightedLoss, token_loss
from paddock.training.objectives import Objective, objective

WORDS = words()
LENGTH, ROWS = 24, 8
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {"model_type": "llama", "vocab_size": len(WORDS), **SIZES, "max_position_embeddings": 64}
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_key_value_heads": 2}
BERT = {
    "model_type": "bert",
    "architectures": ["BertForPreTraining"],
    "vocab_size": len(WORDS),
    **SIZES,
    "max_position_embeddings": 64,
}
T5 = {
    "model_type": "t5",
    "vocab_size": len(WORDS),
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
}
GLM = {
    "model_type": "chatglm",
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "inner_hidden_size": 64,
    "num_layers": 2,
    "num_attention_heads": 4,
    "max_sequence_length": 64,
    "position_encoding_2d": True,
    "gmask_token_id": WORDS.id_of("[gMASK]"),
    "mask_token_id": WORDS.id_of("[MASK]"),
    "bos_token_id": WORDS.id_of("<sop>"),
}


@dataclass(frozen=True)
class Case:
    name: str
    config: dict[str, Any]
    said: dict[str, Any] = field(default_factory=dict)
    kind: str = "causal"


CASES = [
    Case("next token", LLAMA, {"z_loss": 1e-3, "label_smoothing": 0.1}),
    Case("experts", MIXTRAL, {"load_balancing": 0.5, "router_z": 0.1}),
    Case("masked", BERT, {"whole_words": True}, "masked"),
    Case("next sentence", BERT, {"next_sentence": True}, "masked"),
    Case("blanks", GLM, {"token_gradient": 0.1}, "blanks"),
    Case("spans", T5, {}, "spans"),
    Case("prefix", LLAMA, {}, "prefix"),
    Case("prefix, encoder and decoder", T5, {}, "prefix"),
    Case("pairs", T5, {"label_smoothing": 0.1}, "pairs"),
]
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def made(case: Case) -> tuple[Transformer, Prepare, Loss]:
    recipe = Objective.model_validate({"name": case.kind, **case.said})
    model = initialise(blank(sketch(describe(case.config))), 1, deviation=0.1)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model, *objective(recipe, WORDS, model.architecture, LENGTH)


def documents(count: int = 40) -> Tokens:
    random = np.random.Generator(np.random.PCG64(5))
    first = len(WORDS) - 70
    return Tokens.of(random.integers(first, len(WORDS), random.integers(3, 22)) for _ in range(count))


class Some:
    """Samples of one text, or of two."""

    def __init__(self, prepare: Prepare, texts: int) -> None:
        self.tokens, self.most, self.count = documents(), prepare.takes, texts

    def __len__(self) -> int:
        return len(self.tokens) // self.count

    def texts(self, number: int) -> tuple[np.ndarray, ...]:
        return tuple(self.tokens.document(number * self.count + i)[: self.most] for i in range(self.count))


def stream(case: Case, prepare: Prepare) -> BatchStream:
    if case.said.get("next_sentence"):
        table: Table = Neighbours(documents(), prepare.takes, seed=4)
    else:
        table = Some(prepare, 2 if case.kind == "pairs" else 1)
    return BatchStream(table, prepare, ROWS, seed=3)


def learned(model: Transformer, loss: Loss, pieces: list[Batch]) -> tuple[float, dict[str, Tensor], dict[str, float]]:
    """The loss of some pieces of a step, its gradient, and its parts, as the loop adds them up."""
    model.zero_grad()
    targets = sum(piece.supervised for piece in pieces)
    total, parts = 0.0, dict[str, float]()
    for piece in pieces:
        sums = loss(model, piece, piece.step(model.architecture))
        (sums.total / targets).backward()
        total += float(sums.total.detach()) / targets
        for name, part in sums.parts.items():
            parts[name] = parts.get(name, 0.0) + float(part) / targets
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, parts


@by_name
def test_how_a_step_is_shared_out_changes_nothing(case: Case) -> None:
    """8 rows at once, one by one, and by two ranks: the loss to 1e-6, the gradient as near as float32 adds up."""
    model, prepare, loss = made(case)
    batches = stream(case, prepare)
    whole, gradient, parts = learned(model, loss, [batches.at(2)])
    ranks = [piece for rank in (0, 1) for piece in batches.at(2, rank, 2).split(2)]
    for pieces in (list(batches.at(2).split(1)), ranks):
        found, other, others = learned(model, loss, pieces)
        assert found == pytest.approx(whole, rel=1e-6)
        assert others == pytest.approx(parts, rel=1e-5)
        apart = sum(float((other[name] - tensor).square().sum()) for name, tensor in gradient.items())
        assert apart**0.5 < 1e-5 * sum(float(tensor.square().sum()) for tensor in gradient.values()) ** 0.5


@by_name
def test_a_sample_is_drawn_anew_each_epoch_and_the_same_again(case: Case) -> None:
    _, prepare, _ = made(case)
    batches, again = stream(case, prepare), stream(case, prepare)
    assert batches.at(3).digest() == again.at(3).digest()
    if case.kind not in ("causal", "pairs"):
        in_order = replace(batches, shuffle=False)
        first, later = (prepare([in_order.sample(place)]) for place in (1, 1 + len(in_order.table)))
        assert first.digest() != later.digest()


@by_name
def test_what_is_not_asked_for_changes_nothing(case: Case) -> None:
    """Other tokens where rows are padded: the loss stays as it was."""
    model, prepare, loss = made(case)
    batch = stream(case, prepare).at(0)
    before = learned(model, loss, [batch])[0]
    unseen = batch.ids.clone()
    for row in range(batch.rows):
        asked = int((batch.targets[row] != IGNORED).nonzero().max())
        last = asked if batch.padding is None else int(batch.padding[row].nonzero().max())
        unseen[row, last + 1 :] = 30
    batch.ids.copy_(unseen)
    if batch.source is not None:
        assert batch.source_padding is not None, "these sources are not all as long"
        batch.source[~batch.source_padding] = 31
    assert learned(model, loss, [batch])[0] == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("long", [0.0, 1.0], ids=["short", "long"])
def test_blanks_are_learned_as_the_engine_fills_them(long: float) -> None:
    """The loss of what stood in a blank is what the engine's own steps give it, written token by token."""
    model = initialise(blank(sketch(describe(GLM))), 1, deviation=0.3)
    prepare, _ = objective(Objective(name="blanks", long=long), WORDS, model.architecture, LENGTH)
    text = documents().document(4)[:5]  # so short that there is one blank
    sample = stream(Case("", GLM, {}, "blanks"), prepare).sample(0)
    batch = prepare([type(sample)((text,), 0, sample.random)])
    asked = batch.targets[0][batch.targets[0] != IGNORED].tolist()
    assert batch.prefix is not None
    begun = int(batch.prefix[0])
    prompt = batch.ids[0, : begun + 1].tolist()
    assert prompt[-1] == GLM["bos_token_id"] and asked[-1] == WORDS.id_of("<eop>")
    runner, blocks = TorchRunner(model, 4), [0, 1]
    told = 0.0
    read, start = prompt, 0
    for token in asked:
        logits = runner.run([Rows(1, read, start, blocks, logits=1, prompt=len(prompt), length=LENGTH)])
        told -= float(logits[0].log_softmax(-1)[token])
        start += len(read)
        read = [token]
    with torch.no_grad():
        ours = token_loss(model, batch, batch.step(model.architecture))
    assert ours.count == len(asked)
    assert float(ours.total) == pytest.approx(told, rel=1e-5)


REFUSED = [
    ("masked", LLAMA, (), {}, "masked tokens are asked of an encoder"),
    ("masked", {**BERT, "architectures": ["BertForMaskedLM"]}, (), {"next_sentence": True}, "no head for the next"),
    ("masked", BERT, ("[MASK]",), {}, "needs a mask token"),
    ("masked", BERT, ("[CLS]",), {}, "needs a cls token"),
    ("causal", BERT, (), {}, "is for a decoder, and bert is an encoder"),
    ("causal", T5, (), {}, "is for a decoder, and t5 is an encoder-decoder"),
    ("causal", GLM, (), {}, "use objective.name: blanks"),
    ("prefix", GLM, (), {}, "use objective.name: blanks"),
    ("blanks", LLAMA, (), {}, "positions in two parts"),
    ("blanks", {**GLM, "gmask_token_id": 60}, (), {}, "gmask_token_id is 60"),
    ("blanks", {**GLM, "vocab_size": 500, "bos_token_id": 499}, (), {}, "beyond the tokenizer's ids"),
    ("blanks", GLM, (), {"sentences": 0.3}, "ends a sentence"),
    ("spans", LLAMA, (), {}, "is for an encoder-decoder"),
    ("spans", T5, tuple(f"<extra_id_{i}>" for i in range(12)), {}, "the tokenizer 0 sentinels"),
    ("spans", T5, ("<eop>",), {}, "has none"),
    ("spans", T5, ("[PAD]", "<sop>"), {}, "begins with the token None"),
    ("pairs", LLAMA, (), {}, "is for an encoder-decoder"),
    ("causal", LLAMA, (), {"load_balancing": 0.1}, "no experts"),
    ("causal", {**LLAMA, "vocab_size": 50}, (), {}, "vocabulary of 50"),
    ("causal", {**LLAMA, "max_position_embeddings": 16}, (), {}, "data.length to at most 16"),
]


@pytest.mark.parametrize("name, config, without, said, told", REFUSED, ids=[f"{r[0]}: {r[4]}" for r in REFUSED])
def test_refused(name: str, config: dict[str, Any], without: tuple[str, ...], said: dict[str, Any], told: str) -> None:
    recipe = Objective.model_validate({"name": name, **said})
    with pytest.raises(UsageError) as refusal:
        objective(recipe, words(without), describe(config), LENGTH)
    assert told in str(refusal.value)


def test_too_many_holes_for_the_sentinels() -> None:
    with pytest.raises(UsageError, match="sentinels for them"):
        objective(Objective(name="spans", share=0.5), WORDS, describe(T5), 64)


@pytest.mark.parametrize(
    "said",
    [
        {"name": "causal", "share": 0.2},
        {"name": "masked", "mean_span": 3.0},
        {"name": "spans", "next_sentence": True},
        {"name": "blanks", "share": 0.0},
        {"name": "spans", "share": 1.0},
        {"name": "blanks", "long": 1.1},
        {"name": "blanks", "long": 0.5, "sentences": 0.6},
        {"name": "spans", "sentences": 0.1},
        {"name": "mlm"},
        {"label_smoothing": 1.0},
        {"z_loss": -1.0},
        {"z_loss": float("nan")},
        {"loading": 1},
    ],
    ids=str,
)
def test_settings_that_no_objective_has(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Objective.model_validate(said)


def test_a_plain_objective_is_the_plain_token_loss() -> None:
    assert objective(Objective(), WORDS, describe(LLAMA), LENGTH)[1] is token_loss
    balanced = objective(Objective(), WORDS, describe(MIXTRAL), LENGTH)[1]
    assert balanced == WeightedLoss(balance=0.01)  # unless a recipe says otherwise
    assert objective(Objective(load_balancing=0.0), WORDS, describe(MIXTRAL), LENGTH)[1] is token_loss
