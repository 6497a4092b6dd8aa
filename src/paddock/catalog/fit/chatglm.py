"""The one table of memory that the articles print, ChatGLM-6B's, worked out again from its shape.

Published (THUDM/ChatGLM-6B, README; the articles copy it): the least memory of a GPU for answering and for P-tuning.
Nothing is said there of lengths; ours are answers up to the full 2,048 tokens, and the P-tuning of its own script
(ptuning/train.sh: 128 prefix tokens, texts of 64 + 64 tokens, one at a time).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

from paddock.catalog.catalogue import catalogue
from paddock.catalog.fit import serving, subject
from paddock.catalog.fit.plan import Component
from paddock.catalog.fit.serving import Settings
from paddock.catalog.fit.subject import Subject
from paddock.model.spec import Block

Precision = Literal["FP16", "INT8", "INT4"]
Work = Literal["inference", "tuning"]
NAME = "chatglm-6b"
SOURCE = "https://github.com/THUDM/ChatGLM-6B"
GIB = 2**30
BITS: dict[Precision, int] = {"FP16": 16, "INT8": 8, "INT4": 4}
PUBLISHED: dict[tuple[Precision, Work], int] = {
    ("FP16", "inference"): 13, ("FP16", "tuning"): 14, ("INT8", "inference"): 8, ("INT8", "tuning"): 9,
    ("INT4", "inference"): 6, ("INT4", "tuning"): 7,
}  # fmt: skip
STALE = 10  # the article's INT8 inference: an older row of the same README (9, then 10, since 2023-03-31 8)
PREFIX, TEXT = 128, 128  # P-tuning: prefix tokens of every layer; source and target
STATE = 16  # bytes for each number that is tuned: itself, its gradient, two moments, in float32
CONTEXT = 500_000_000  # a GPU's context and libraries, before any tensor
# Numbers kept for the backward pass of a layer, in bytes per token and width: 34 + 5 heads x keys / width, in 16 bits
# (arXiv 2205.05198, section 4.1).
KEPT, KEPT_SCORES = 34, 5


@dataclass(frozen=True)
class Row:
    """A cell of the table. bytes: ours; weights: of those; here: what Paddock takes; why: where they differ."""

    precision: Precision
    task: Work
    published: str
    bytes: int
    weights: int
    parts: tuple[Component, ...]
    here: str
    why: str

    @property
    def gib(self) -> int:
        """Ours as a GPU's size: whole GiB, rounded up."""
        return -(-self.bytes // GIB)


@cache
def model() -> Subject:
    return subject.of_entry(catalogue().find(NAME))


def weights(bits: int) -> int:
    """Bytes as its published code holds them: matrices of blocks in `bits` bits with a float16 scale for each row, all
    else in float16, the head tied to the token table."""
    total = 0
    for group in model().groups:
        inside = group.matrix and group.name.startswith("blocks.")
        if bits < 16 and inside:
            total += group.numbers * bits // 8 + 2 * group.count * group.rows
        else:
            total += 2 * group.numbers
    return total


def parts(precision: Precision, task: Work) -> Iterator[Component]:
    """What is held at once, line by line."""
    bits, architecture = BITS[precision], model().known()
    block, layers, width = architecture.block, architecture.blocks, architecture.width
    assert isinstance(block, Block) and architecture.context is not None
    yield Component("weights", weights(bits), f"matrices of layers at {bits} bits, the rest in float16", "weights")
    yield Component("CUDA context", CONTEXT, "assumed: cards and drivers differ", "framework")
    if bits < 16:
        largest = max(group.rows * group.columns for group in model().groups if group.name.startswith("blocks."))
        yield Component("one matrix expanded", 2 * largest, "to float16, as it is multiplied", "transient")
    if task == "inference":
        values = serving.cache_values(architecture)
        size = 2 * values * architecture.context
        yield Component("keys and values", size, f"{architecture.context} tokens x {values} x 2 bytes", "cache")
        return
    tuned = PREFIX * 2 * layers * width
    yield Component("prefix, gradient, moments", STATE * tuned, f"{tuned:,} numbers x {STATE} bytes", "optimiser")
    keys = PREFIX + TEXT
    each = TEXT * (KEPT * width + KEPT_SCORES * block.attention.heads * keys)
    yield Component("activations", layers * each, f"{layers} layers x {each:,} bytes", "activations")
    size = TEXT * architecture.vocabulary * (2 + 3 * 4)
    yield Component("logits", size, "in float16; in float32 with softmax and gradient", "logits")


def rows() -> list[Row]:
    """The table, row by row."""
    return [_row(precision, task) for precision in BITS for task in ("inference", "tuning")]


def _row(precision: Precision, task: Work) -> Row:
    held = tuple(parts(precision, task))
    size = sum(part.bytes for part in held)
    published = PUBLISHED[precision, task]
    said = f"{published} GB"
    if (precision, task) == ("INT8", "inference"):
        said = f"{published} GB (article: {STALE})"
    row = Row(precision, task, said, size, held[0].bytes, held, _here(precision, task), "")
    return Row(**{**{name: getattr(row, name) for name in row.__dataclass_fields__}, "why": _why(row, published)})


def _here(precision: Precision, task: Work) -> str:
    """What Paddock takes for the same: on the CPU, with the kinds of its own that are as wide."""
    if task == "tuning":
        return ""
    kind = {"FP16": None, "INT8": "q8_0", "INT4": "q4_0"}[precision]
    settings = Settings(quantize=kind, dtype="float16" if kind is None else "auto", budget=1)
    phases = serving.Need(model(), settings).phases
    return f"{max(phase.bytes for phase in phases) / 1e9:.2f} GB ({kind or 'float16'}, CPU)"


def _why(row: Row, published: int) -> str:
    size, gib = f"{row.bytes / 1e9:.2f} GB", f"{row.bytes / GIB:.2f} GiB"
    text = f"{size} is {gib}"
    if row.gib == published:
        text += f", which needs a card of {published} GB, as published (cards count in GiB)."
    else:
        text += f", a card of {row.gib} GB; {published} was published."
    if row.task == "inference" and row.precision == "INT8":
        text += f" The article's {STALE} is an older row of the same page, from before its cache was mended."
    if row.task == "inference" and row.precision == "INT4":
        text += " The rest of the card is for longer prompts' logits, which its code makes for every token."
    if row.task == "tuning" and row.precision == "INT4":
        text += (
            " What must be held does not explain the last GB; memory that PyTorch's allocator keeps between steps, with"
            " expanded matrices of four shapes in it, probably does."
        )
    if row.task == "tuning" and row.precision == "FP16":
        text += " Tuning takes less than answering at full length here: its texts have 128 tokens, not 2,048."
    return text


def _counts() -> Iterator[tuple[str, tuple[int, int]]]:
    """(ours, published) for shapes whose exact counts somebody published."""
    known = catalogue()
    for title, name, published in (
        ("ChatGLM-6B, its head tied", NAME, 6_173_286_400),
        ("BLOOM", "bloom-176b", 176_247_271_424),
        ("Mixtral 8x7B, all", "mixtral-8x7b", 46_702_792_704),
    ):
        yield title, (subject.of_entry(known.find(name)).parameters, published)
    yield "Mixtral 8x7B, for one token", (subject.of_entry(known.find("mixtral-8x7b")).active or 0, 12_879_925_248)


def counts() -> dict[str, tuple[int, int]]:
    """Exact counts beside published ones."""
    return dict(_counts())


def record() -> dict[str, Any]:
    """The table as JSON."""
    told = [{**asdict(row), "published_gb": PUBLISHED[row.precision, row.task], "gib": row.gib} for row in rows()]
    return {"model": NAME, "source": SOURCE, "rows": told, "counts": {n: list(pair) for n, pair in counts().items()}}
