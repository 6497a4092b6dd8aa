"""A quality card for people."""

from __future__ import annotations

from paddock.cli import output
from paddock.quantize.card import Card


def card_text(card: Card) -> str:
    """What quantising cost, a line each."""
    change = card.perplexity_after / card.perplexity_before - 1 if card.perplexity_before else 0.0
    calibrated = ", calibrated" if card.calibrated else ""
    rows = [
        ["made from", f"{card.source}, as {card.kind}{calibrated}"],
        ["measured on", f"{card.text}, {card.tokens:,} tokens in windows of {card.window}"],
        ["perplexity before", f"{card.perplexity_before:.4f} ± {card.perplexity_before_stderr:.4f}"],
        ["perplexity after", f"{card.perplexity_after:.4f} ± {card.perplexity_after_stderr:.4f} ({change:+.2%})"],
        ["KL divergence", f"{card.kl_mean:.6f} on average, {card.kl_p99:.6f} at the 99th percentile"],
        ["same likeliest token", f"{card.top1:.2%}"],
        ["size", f"{output.size(card.bytes)}, {card.bits_per_weight:.2f} bits per weight"],
        [
            "speed",
            f"{card.prompt_tokens_per_second:,.0f} tokens/s of a prompt, {card.decode_tokens_per_second:,.0f} of an "
            f"answer ({card.machine})",
        ],
    ]
    return output.table(rows)
