"""An adapter beside a base that lies in shards (`parallel.mode: fsdp`): what each device holds, and what it sends.

Weights, the optimiser's state and gradients are those of one device, divided; what a step keeps is not, as every device
reads rows of its own. A block is gathered as it is held: in codes, where the base is.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from paddock.catalog.fit.plan import Component, Phase
from paddock.catalog.fit.trained import Tensor
from paddock.catalog.fit.training import FLOAT32, NF4_BITS, PLAIN_NF4_BITS, Need
from paddock.checkpoint.held_nf4 import at_end, by_role

CUT = ("weights", "optimiser", "gradients")
WHOLE = "token table, head"  # in 8 bits, which no block gathers (training/parallel/codes.py)
BLOCK = re.compile(r"(?:encoder\.)?blocks\.\d+\.")


@dataclass(frozen=True)
class Gathered:
    """Bytes: of all blocks, of the largest, of what is outside of them; and of the largest block's own gradients."""

    blocks: float
    block: float
    outside: float
    gradients: float


def held(need: Need, devices: int) -> tuple[Component, ...]:
    """The parts of whichever phase holds most on one of `devices`."""
    moved = gathered(need)
    size = round(2 * moved.block + moved.outside + moved.gradients)
    formula = f"2 blocks of {moved.block / 1e6:,.1f} MB, what is outside of them, gradients of one"
    working = Component("gathered", size, formula, "transient")
    phases = [[*(_cut(part, devices) for part in phase.components if part.bytes), working] for phase in _steps(need)]
    return tuple(max(phases, key=lambda parts: sum(part.bytes for part in parts)))


def sent(need: Need, devices: int, pieces: int) -> float:
    """Bytes that a device sends in a step of so many micro-batches, by rings: blocks are gathered for both passes, the
    rest once, and the gradients of what is trained summed."""
    moved = gathered(need)
    return (devices - 1) / devices * (pieces * (2 * moved.blocks + moved.outside) + FLOAT32 * need.trained.numbers)


def gathered(need: Need) -> Gathered:
    """What goes to every device in turn."""
    coded = need.settings.task == "qlora"
    bits = NF4_BITS if need.settings.double else PLAIN_NF4_BITS
    blocks: dict[str, float] = {}
    trained: dict[str, float] = {}
    outside = 0.0
    for tensor in need.shapes:
        size = tensor.numbers * (bits / 8 if coded and by_role(tensor.name) else need.narrow)
        if (match := BLOCK.match(tensor.name)) is not None:
            blocks[match[0]] = blocks.get(match[0], 0.0) + size
        elif not (need.ends and at_end(tensor.name)):
            outside += size
    for tensor in need.trained.tensors:
        size = FLOAT32 * tensor.numbers
        if (match := BLOCK.match(tensor.name)) is None:
            outside += _beside(need, tensor) * size
        else:
            trained[match[0]] = trained.get(match[0], 0.0) + size
            blocks[match[0]] += _beside(need, tensor) * size
    return Gathered(sum(blocks.values()), max(blocks.values()), outside, max(trained.values(), default=0.0))


def _beside(need: Need, tensor: Tensor) -> bool:
    """Whether a trained tensor is one besides the model's own, rather than in place of one of them."""
    return all(tensor.name != own.name for own in need.shapes)


def _steps(need: Need) -> tuple[Phase, ...]:
    """Not the opening, which is the main process's and on no device of the step."""
    return need.phases[1:]


def _cut(part: Component, devices: int) -> Component:
    if part.role not in CUT or part.name == WHOLE:
        return part
    return replace(part, bytes=math.ceil(part.bytes / devices), formula=f"({part.formula}) / {devices}")
