"""A plan for memory: what is held when, with the formula of each part, and whether it fits.

Bytes are exact integers where they follow from shapes and rounded up where they were measured. GB are 10^9 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["fits", "fits if", "does not fit"]


@dataclass(frozen=True)
class Component:
    """One thing that takes memory. formula: how its bytes come about, with the numbers put in: "22 layers x 2 x 4 heads
    x 64 x 4096 tokens x 2 bytes". role: what kind it is, so that plans add up by kind."""

    name: str
    bytes: int
    formula: str
    role: Literal[
        "weights", "scales", "cache", "activations", "logits", "gradients", "optimiser", "framework", "transient"
    ]


@dataclass(frozen=True)
class Phase:
    """What is held at the same time: while loading, while reading a prompt, in a training step."""

    name: str
    components: tuple[Component, ...]

    @property
    def bytes(self) -> int:
        return sum(component.bytes for component in self.components)


@dataclass(frozen=True)
class Plan:
    """What `task` needs of one device.

    settings: everything the figures depend on, as it was asked or defaulted; a plan never changes what was asked.
    budget: bytes that can be had there. changes: what would make it fit, the smallest first, as the options to type.
    """

    task: str
    model: str
    device: str
    settings: Mapping[str, object]
    phases: tuple[Phase, ...]
    budget: int
    changes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())

    @property
    def worst(self) -> Phase:
        """The phase of the peak."""
        return max(self.phases, key=lambda phase: phase.bytes)

    @property
    def peak(self) -> int:
        return self.worst.bytes

    @property
    def verdict(self) -> Verdict:
        if self.peak <= self.budget:
            return "fits"
        return "fits if" if self.changes else "does not fit"
