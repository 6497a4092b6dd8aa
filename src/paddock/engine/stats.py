"""What an engine tells of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """What an engine did, and where its blocks are: free + used + cached = blocks.

    computed: tokens that were read. reused: prompt tokens found in the cache instead. preemptions: times that a
    request gave its blocks back to begin again. proposed, accepted: guesses of speculative decoding. source_blocks,
    source_used: the room for source texts beside those blocks, and what running requests have of it. adapters: how many
    it carries, adapter_bytes: what their numbers take.
    """

    steps: int
    computed: int
    reused: int
    preemptions: int
    proposed: int
    accepted: int
    running: int
    waiting: int
    blocks: int
    free: int
    used: int
    cached: int
    source_blocks: int
    source_used: int
    adapters: int
    adapter_bytes: int
