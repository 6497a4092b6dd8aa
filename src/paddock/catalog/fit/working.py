"""What computing takes beside weights and cache: the places of a native program, PyTorch's intermediate values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from paddock.catalog.fit.groups import distinct
from paddock.model.spec import Architecture, Block, Buckets, Experts, Full, Prefix, Rope, Rope2D

FLOAT = 4
THREAD_SCRATCH = 48 * 512 * FLOAT  # kernels/cpp/attention_limits.h: pairs worked on together, slots at once


@dataclass
class Places:
    """The places of registers as `kernels/cpp/plan.cpp` gives them: one that is free serves the next of its width."""

    widths: list[int] = field(default_factory=list)
    free: list[int] = field(default_factory=list)

    def take(self, width: int) -> int:
        if width in self.free:
            self.free.remove(width)
        else:
            self.widths.append(width)
        return width

    def give(self, *widths: int) -> None:
        self.free += widths


def form_bytes(kinds: Iterable[str]) -> float:
    """Bytes for each number of an input in the forms that products of these kinds need (`input_of` in pack.cpp):
    bfloat16, or int8 with a scale for 32 and a sum for each 16."""
    forms = {"floats" if kind in ("f32", "f16", "nf4") else "bf16" if kind == "bf16" else "codes" for kind in kinds}
    return sum({"floats": 0.0, "bf16": 2.0, "codes": 1 + 4 / 32 + 4 / 16}[form] for form in forms)


def native(architecture: Architecture, rows: int, form: float = 4.0) -> int:
    """Bytes of a native program that reads `rows` tokens at once: registers, and one input in the products' forms,
    which take `form` bytes for each number."""
    rows, width = -(-rows // 8) * 8, architecture.width
    places, widest = Places(), 0
    x = places.take(width)
    if architecture.embedding.positions is not None:
        places.give(places.take(width))
    extra = 0
    for _, block, _ in 2 * distinct(architecture):
        _through(places, block, width)
        inner = block.feedforward
        hidden = inner.each.hidden if isinstance(inner, Experts) else inner.hidden
        columns = [width, block.attention.heads * block.attention.head_dim]
        if isinstance(inner, Experts):  # rows sent to an expert, its answers, and a space of its own
            part = (2 if inner.each.gated else 1) * hidden + -(-max(width, hidden) // 256) * 256
            extra = max(extra, 2 * width + part)
        else:
            columns.append(hidden)
        widest = max(widest, -(-max(columns) // 256) * 256)
    places.give(x)
    places.take(width)
    return rows * (FLOAT * (sum(places.widths) + extra) + round(form * widest))


def _through(places: Places, block: Block, width: int) -> None:
    part, inner = block.attention, block.feedforward
    own, kept = part.heads * part.head_dim, part.kv_heads * part.head_dim
    norm = block.wiring != "post"
    if norm:
        places.take(width)
    q, k, v = places.take(own), places.take(kept), places.take(kept)
    if norm and block.wiring != "parallel":
        places.give(width)
    places.give(k, v)
    attended = places.take(own)
    places.give(q)
    if block.wiring == "parallel":  # the sum beside x, which another norm reads
        places.take(width)
    places.give(attended)
    if block.wiring == "pre" or (block.wiring == "parallel" and not block.shared_norm):
        places.take(width)
    if isinstance(inner, Experts):
        scores, answer = places.take(inner.count), places.take(width)
        places.give(scores, answer, width)
        return
    ups = [places.take(inner.hidden) for _ in range(2 if inner.gated else 1)]
    places.give(*ups)
    if block.wiring == "post":
        places.take(width)
        places.give(width)
    elif block.wiring == "parallel":
        places.give(*[width] * (2 if block.shared_norm else 3))
        places.take(width)
        places.give(width)
    else:
        places.give(width)


def angles(architecture: Architecture, tokens: int) -> int:
    """Bytes of a native program's cosines and sines, with the smaller tables that they are copied from as they grow."""
    found = {block.attention.position for _, block, _ in distinct(architecture)}
    each = [2 * FLOAT * (position.width // 2) for position in found if isinstance(position, Rope)]
    each += [2 * 2 * FLOAT * (position.width // 2) for position in found if isinstance(position, Rope2D)]
    return sum(each) * (tokens + min(tokens, 4096))


def torch_piece(architecture: Architecture, tokens: int, keys: int, itemsize: int, texts: int = 1) -> int:
    """Bytes of PyTorch's intermediate values in the block that takes most, for `tokens` of each of `texts` read at once
    beside `keys` in all: what a block's formula names, each once, and attention's scores where a bias is added."""
    width, largest = architecture.width, 0
    for _, block, _ in distinct(architecture):
        part, inner = block.attention, block.feedforward
        own, kept = part.heads * part.head_dim, part.kv_heads * part.head_dim
        attention = itemsize * tokens * (3 * width + 2 * own + 2 * kept)
        biased = isinstance(part.position, Buckets) or isinstance(architecture.mask, Prefix)
        scores = (FLOAT + itemsize) * part.heads * tokens * keys if biased else 0
        each = inner.each if isinstance(inner, Experts) else inner
        fed = itemsize * tokens * (3 * width + (3 if each.gated else 2) * each.hidden)
        largest = max(largest, attention + scores, fed)
    whole = isinstance(architecture.mask, Full)
    return largest * (texts if whole else 1)
