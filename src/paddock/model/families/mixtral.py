"""Mixtral: Mistral's attention, and in each layer eight feed-forwards of which a router picks two per token."""

from __future__ import annotations

from dataclasses import replace

from paddock.model.config import Config
from paddock.model.families import llama, mistral
from paddock.model.rules import Rename, Rule
from paddock.model.spec import Architecture, Block, Experts, FeedForward

MODEL_TYPES = ("mixtral",)
UNSAID = {"eps": 1e-5, "theta": 1e6}  # as transformers reads a config.json without these keys
STALE_WINDOW = 4096  # in the first day's config.json and all copies of it; the released model sees its whole context


def architecture(config: Config) -> Architecture:
    config.ignore("output_router_logits", "router_aux_loss_coef", "router_jitter_noise")
    stale = config.get("sliding_window", default=None) == STALE_WINDOW
    base = (llama if stale else mistral).architecture(config, **UNSAID)
    assert isinstance(base.block, Block) and isinstance(base.block.feedforward, FeedForward)
    experts = Experts(
        count=config.integer("num_local_experts", default=8, high=4096),
        active=config.integer("num_experts_per_tok", default=2, high=4096),
        each=base.block.feedforward,
    )
    return replace(base, family="mixtral", block=replace(base.block, feedforward=experts))


_MOE = "model.layers.{i}.block_sparse_moe"
_EXPERT = "blocks.{i}.feedforward.experts.{e}"
RULES: list[Rule] = [rule for rule in mistral.RULES if ".mlp." not in rule.theirs] + [
    Rename(f"{_MOE}.gate.weight", "blocks.{i}.feedforward.router.weight"),
    Rename(f"{_MOE}.experts.{{e}}.w1.weight", f"{_EXPERT}.gate.weight"),
    Rename(f"{_MOE}.experts.{{e}}.w2.weight", f"{_EXPERT}.down.weight"),
    Rename(f"{_MOE}.experts.{{e}}.w3.weight", f"{_EXPERT}.up.weight"),
]
