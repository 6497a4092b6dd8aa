"""A parity card for people."""

from __future__ import annotations

from paddock.cli import output
from paddock.engine.parity_card import Parity

TOKENIZERS = {True: "the prompts become the same ids", False: "some prompts become other ids"}


def parity_text(card: Parity) -> str:
    """How far two models speak alike, a line each."""
    differ = f"differ by at most {card.largest_difference:.3g} (the largest is {card.largest_output:.3g})"
    rows = [
        ["parity with", f"{card.source}, {card.prompts} prompts of together {card.tokens:,} tokens"],
        ["weights", "the same, bit for bit" if card.same_weights else "other numbers, or of another type"],
        [card.outputs, f"{differ}, {_bound(card.bound)}"],
    ]
    if card.kl_mean is not None and card.kl_max is not None and card.top1 is not None:
        rows.append(["KL divergence", f"{card.kl_mean:.3g} on average, {card.kl_max:.3g} at most"])
        rows.append(["same likeliest token", f"{card.top1:.2%}"])
    if card.greedy_steps:
        rows.append(["written", f"{card.greedy_equal} of {card.greedy_steps} greedy tokens equal"])
    if card.tokens_equal is not None:
        rows.append(["tokenizer", TOKENIZERS[card.tokens_equal]])
    return output.table(rows)


def _bound(bound: float | None) -> str:
    if bound is None:
        return "measured, not bound"
    return "bound to be exact" if bound == 0 else f"bound to {bound:g} of the largest"
