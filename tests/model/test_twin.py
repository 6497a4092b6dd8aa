"""Twins: modules of their own around the same parameters, and models whose numbers are taken out."""

from __future__ import annotations

import torch
from torch import nn

from paddock.checkpoint.weights import sketch
from paddock.kernels.nf4 import Nf4
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.model.linear import hold
from paddock.model.twin import empty, twin_of

T5 = {
    "model_type": "t5", "vocab_size": 61, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4,
    "decoder_start_token_id": 0, "relative_attention_num_buckets": 8, "feed_forward_proj": "gated-gelu",
}  # fmt: skip


def test_a_twin_shares_parameters_and_what_its_model_shares_within_but_no_hooks() -> None:
    model = initialise(blank(sketch(describe(T5))), 0)
    twin = twin_of(model)
    assert all(one is other for one, other in zip(model.parameters(), twin.parameters(), strict=True))
    assert twin.embedding is not model.embedding
    assert twin.encoder.embedding.tokens is twin.embedding.tokens
    heard: list[nn.Module] = []
    twin.norm.register_forward_hook(lambda module, given, result: heard.append(module))
    model.norm(torch.ones(1, 1, 32))
    assert not heard
    twin.norm(torch.ones(1, 1, 32))
    assert heard == [twin.norm]


def test_numbers_are_taken_out_of_one_model_and_of_no_other() -> None:
    model = initialise(blank(sketch(describe(T5))), 0)
    linear = model.blocks[0].attention.q
    hold(linear, "weight", Nf4.rounded(linear.weight))
    names = [name for name, _ in sketch(describe(T5)).named_parameters()]
    twin = twin_of(model)
    empty(twin)
    assert all(parameter.is_meta and not parameter.requires_grad for parameter in twin.parameters())
    assert sorted(name for name, _ in twin.named_parameters()) == sorted(names)  # codes too, and shared ones once
    assert twin.blocks[0].attention.q.weight.shape == (32, 32)
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert isinstance(model.blocks[0].attention.q.weight, Nf4)
