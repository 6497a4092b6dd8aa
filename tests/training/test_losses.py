"""Each part of the loss beside its plain formula or transformers' own, and what must not change it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paddock.checkpoint.weights import sketch
from paddock.data.batch import IGNORED, Batch
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.model.routing import Routing
from paddock.model.transformer import Transformer
from paddock.training.losses import Sums, WeightedLoss, balance, document_numbers, token_loss

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertForPreTraining"],
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def model_of(config: dict[str, Any], dtype: torch.dtype = torch.float64) -> Transformer:
    """Weights large enough for parts to matter."""
    model = initialise(blank(sketch(describe(config))), 3, deviation=0.2).to(dtype)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def some_batch(rows: int = 4, tokens: int = 11) -> Batch:
    whole = torch.randint(0, 61, (rows, tokens + 1))
    targets = whole[:, 1:].clone()
    targets[torch.rand(rows, tokens) < 0.3] = IGNORED
    return Batch(whole[:, :-1], targets)


def computed(model: Transformer, batch: Batch, loss: Any, **step: Any) -> tuple[Sums, dict[str, Tensor]]:
    """The sums of a batch, and their gradient."""
    model.zero_grad()
    sums = loss(model, batch, batch.step(model.architecture, **step))
    sums.total.backward()
    return sums, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def gradient(model: Transformer, total: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], within: float = 1e-9) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=within, atol=within, msg=f"the gradient of {name}")


@pytest.mark.parametrize("config", [LLAMA, {**LLAMA, "tie_word_embeddings": True}, BERT], ids=["llama", "tied", "bert"])
def test_z_and_smoothing_by_the_whole_logits(config: dict[str, Any]) -> None:
    model, batch = model_of(config), some_batch()
    sums, found = computed(model, batch, WeightedLoss(z=0.01, smoothing=0.1))
    logits = model(batch.ids, batch.step(model.architecture)).flatten(0, 1)
    targets = batch.targets.flatten()
    smoothed = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.1)
    z = logits.logsumexp(-1).square()[targets != IGNORED].sum()
    torch.testing.assert_close(sums.total, smoothed + 0.01 * z, rtol=1e-10, atol=1e-10)
    assert_alike(found, gradient(model, smoothed + 0.01 * z))
    plain = F.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(sums.parts["tokens"], plain.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(sums.parts["z"], z.detach(), rtol=1e-10, atol=1e-10)
    assert sums.count == int((targets != IGNORED).sum())


def test_a_row_s_next_sentence_counts_as_its_masks_do() -> None:
    model = model_of(BERT)
    follows = torch.tensor([True, False, False, True])
    batch = replace(some_batch(), follows=follows)
    sums, found = computed(model, batch, WeightedLoss(next_sentence=0.7))
    tokens = token_loss(model, batch, batch.step(model.architecture)).total
    assert model.pooler is not None and model.pooler.next_sentence is not None
    scores = model.pooler.next_sentence(model.pool(batch.ids, batch.step(model.architecture))).log_softmax(-1)
    masks = (batch.targets != IGNORED).sum(1)
    told = -sum(scores[row, 0 if follows[row] else 1] * masks[row] for row in range(4))
    torch.testing.assert_close(sums.total, tokens + 0.7 * told, rtol=1e-10, atol=1e-10)
    assert_alike(found, gradient(model, tokens + 0.7 * told))


def test_balance_by_its_definition() -> None:
    scores = torch.randn(9, 5, dtype=torch.float64)
    documents = torch.tensor([7, 7, 7, 3, 3, 3, 3, 8, 8])
    expected = 0.0
    for number in (7, 3, 8):
        mine = scores[documents == number].softmax(-1)
        chosen = mine.topk(2, -1).indices
        for expert in range(5):
            share = float((chosen == expert).sum()) / len(mine)
            expected += len(mine) * 5 * share * float(mine[:, expert].mean())
    assert float(balance(scores, 2, documents)) == pytest.approx(expected, rel=1e-12)
    even = torch.zeros(8, 4, dtype=torch.float64)
    assert float(balance(even, 1, torch.zeros(8, dtype=torch.long))) == pytest.approx(8)  # the least there is


def test_balance_is_transformers_where_it_counts_one_text() -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    scores, counted = torch.randn(13, 6), torch.ones(1, 13)
    theirs = load_balancing_loss_func((scores,), 6, 2, attention_mask=counted)
    ours = balance(scores, 2, torch.zeros(13, dtype=torch.long)) / 13
    torch.testing.assert_close(ours, theirs)


def test_experts_are_balanced_by_what_the_routers_said() -> None:
    model, batch = model_of(MIXTRAL), some_batch()
    sums, found = computed(model, batch, WeightedLoss(balance=0.5, router_z=0.1))
    asked = batch.targets != IGNORED
    heard: list[Tensor] = []
    hooks = [
        model.get_submodule(f"blocks.{layer}.feedforward.router").register_forward_hook(
            lambda _, inputs, scores: heard.append(scores)
        )
        for layer in (0, 1)
    ]
    tokens = token_loss(model, batch, batch.step(model.architecture)).total
    for hook in hooks:
        hook.remove()
    number = document_numbers(batch)[asked]
    even = torch.stack([balance(scores[asked], 2, number) for scores in heard]).mean()
    z = torch.stack([scores[asked].logsumexp(-1).square().sum() for scores in heard]).mean()
    assert len(heard) == 2
    torch.testing.assert_close(sums.total, tokens + 0.5 * even + 0.1 * z, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(sums.parts["balance"], even.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(sums.parts["router_z"], z.detach(), rtol=1e-10, atol=1e-10)
    assert_alike(found, gradient(model, tokens + 0.5 * even + 0.1 * z))


def test_blocks_computed_again_change_nothing() -> None:
    model, batch, loss = model_of(MIXTRAL), some_batch(), WeightedLoss(balance=0.5, router_z=0.1)
    sums, plain = computed(model, batch, loss)
    again, kept = computed(model, batch, loss, recompute=True)
    assert torch.equal(again.total, sums.total)
    assert_alike(kept, plain, within=0)


def test_a_routing_that_was_asked_takes_no_more() -> None:
    routing = Routing()
    routing.add(torch.zeros(1), 2)
    assert [active for _, active in routing.take()] == [2]
    routing.add(torch.zeros(1), 2)
    assert routing.take() == []


def test_the_lookup_s_gradient_is_shrunk_and_nothing_else() -> None:
    model, batch = model_of(LLAMA), some_batch()
    sums, plain = computed(model, batch, WeightedLoss(z=1e-9))
    shrunk, found = computed(model, batch, WeightedLoss(z=1e-9, token_gradient=0.1))
    assert torch.equal(shrunk.total, sums.total)
    torch.testing.assert_close(found["embedding.tokens.weight"], 0.1 * plain["embedding.tokens.weight"])
    del found["embedding.tokens.weight"], plain["embedding.tokens.weight"]
    assert_alike(found, plain, within=0)


def test_a_tied_head_s_gradient_is_not_shrunk() -> None:
    model, batch = model_of({**LLAMA, "tie_word_embeddings": True}), some_batch()
    name = "embedding.tokens.weight"
    whole, tenth, none = (
        computed(model, batch, WeightedLoss(token_gradient=share, z=1e-9))[1][name] for share in (1.0, 0.1, 0.0)
    )
    torch.testing.assert_close(tenth - none, 0.1 * (whole - none))
    assert float(none.norm()) > 0


@pytest.mark.parametrize("config", [LLAMA, MIXTRAL], ids=["llama", "mixtral"])
def test_documents_that_share_a_row_lose_what_they_lose_alone(config: dict[str, Any]) -> None:
    model = model_of(config)
    loss = WeightedLoss(z=0.01, smoothing=0.1, **({"balance": 0.5, "router_z": 0.1} if config is MIXTRAL else {}))
    texts = [torch.randint(0, 61, (length,)) for length in (5, 3, 9)]
    total = 0.0
    apart: dict[str, Tensor] = {}
    for text in texts:
        sums, found = computed(model, Batch(text[None, :-1], text[None, 1:]), loss)
        total += float(sums.total.detach())
        apart |= {name: apart.get(name, 0) + tensor for name, tensor in found.items()}
    ids = torch.cat([text[:-1] for text in texts])[None]
    places = torch.cat([torch.arange(len(text) - 1) for text in texts])[None]
    number = torch.cat([torch.full((len(text) - 1,), i) for i, text in enumerate(texts)])[None]
    packed = Batch(ids, torch.cat([text[1:] for text in texts])[None], positions=places, documents=number)
    sums, found = computed(model, packed, loss)
    assert float(sums.total.detach()) == pytest.approx(total, rel=1e-10)
    assert_alike(found, apart, within=1e-7)  # RMSNorm and rotary angles are float32


def test_a_batch_that_asks_nothing_is_nothing() -> None:
    model, batch = model_of(MIXTRAL), some_batch()
    silent = replace(batch, targets=torch.full_like(batch.targets, IGNORED))
    sums, found = computed(model, silent, WeightedLoss(z=1.0, smoothing=0.1, balance=1.0, router_z=1.0))
    assert sums.count == 0 and float(sums.total.detach()) == 0.0
    assert all(float(tensor.abs().max()) == 0.0 for tensor in found.values())
