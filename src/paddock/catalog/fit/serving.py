"""What it takes to answer requests with a model: weights as they are held, the cache, what computing needs beside them.

The peak is of resident memory (on Linux VmHWM): anonymous memory, and pages of model files that are read where they
lie. `benchmarks/fit.py` compares it with what fresh processes took; docs/fit.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from paddock.catalog.fit import budget, formats, held, working
from paddock.catalog.fit.groups import distinct
from paddock.catalog.fit.plan import Component, Phase, Plan
from paddock.catalog.fit.subject import Subject
from paddock.checkpoint.packing import Packing
from paddock.engine.blocks import BLOCK, blocks_for
from paddock.engine.encoders import BATCH_TOKENS
from paddock.engine.memory import PIECE, SHARE, source_block_bytes
from paddock.engine.runners import SEQUENCES
from paddock.errors import ContextLengthError, UsageError
from paddock.kernels.native import library
from paddock.model.spec import Architecture

FRAMEWORK = 264_000_000  # Python, PyTorch's CPU build and Paddock after a first answer, measured on Linux (docs/fit.md)
FRAMEWORK_CUDA = 500_000_000  # a GPU's context and the libraries' kernels on it: assumed, cards and drivers differ
WORD = 600  # bytes of an entry of a vocabulary, both ways: 370 to 860 measured, unigram models 1,400
HUGE_PAGE, HUGE_FROM = 2 << 20, 1 << 28  # kernels/cpp/cache.cpp: caches from this size on lie in huge pages
UNLIMITED = 4096  # tokens planned for where the model has no limit and the user states none
SAMPLING = 6  # vectors over the vocabulary that choosing one token takes beside the logits (engine/sampler.py)
MOST_TEXTS = 65_536


@dataclass(frozen=True)
class Settings:
    """What is asked for; None is for the plan to fill in.

    context: tokens of each text, prompt and answer together; the model's own if not said. concurrency: texts at once.
    quantize: round the weights to this kind as they are loaded. dtype: as of `engine.loading.load`. device: "cpu" or
    "cuda". budget: bytes; what is free here if not said. framework: bytes of an empty process.
    """

    context: int | None = None
    concurrency: int = 1
    quantize: str | None = None
    dtype: str = "auto"
    device: str = "cpu"
    budget: int | None = None
    framework: int | None = None
    threads: int = 2


def plan(subject: Subject, settings: Settings = Settings()) -> Plan:
    """What serving takes, phase by phase, with what would make it fit. Raises UsageError for what cannot be meant,
    UnsupportedError for a model that Paddock does not run."""
    from paddock.catalog.fit.limits import changes

    need = Need(subject, settings)
    remarks = (*subject.remarks, *need.remarks)
    shown = {**asdict(settings), "context": need.context, "dtype": need.dtype, "budget": need.budget}
    found = Plan("serve", subject.name, settings.device, shown, need.phases, need.budget, remarks=remarks)
    return found if found.peak <= need.budget else replace(found, changes=changes(subject, settings, need.budget))


class Need:
    """The memory of one subject under some settings."""

    def __init__(self, subject: Subject, settings: Settings) -> None:
        self.subject, self.settings, self.architecture = subject, settings, subject.known()
        _check(subject, settings)
        self.packing = held.packing_of(subject, settings.quantize, settings.dtype, settings.device)
        self.native = settings.device == "cpu" and held.runs_natively(self.architecture)
        self.context = settings.context or self.architecture.context or UNLIMITED
        self.budget = budget.free(settings.device) if settings.budget is None else settings.budget
        self.remarks = tuple(self._remarks())

    @property
    def dtype(self) -> str:
        """The type of what is not packed."""
        if self.packing is not None:
            return "float32"
        return self.subject.dtype if self.settings.dtype == "auto" else self.settings.dtype

    @cached_property
    def weights(self) -> list[held.Held]:
        return list(held.held(self.subject, self.packing, self.settings.dtype, self.settings.device))

    @property
    def phases(self) -> tuple[Phase, ...]:
        common = (*self._framework(), *self._weights())
        largest = max(self.weights, key=lambda each: each.passing, default=None)
        loading = []
        if largest is not None and largest.passing:
            what = "one tensor as it is read, beside what is made of it"
            formula = (
                f"{largest.group.role}: {largest.group.rows} x {largest.group.columns}, the largest that is copied"
            )
            loading.append(Component(what, largest.passing, formula, "transient"))
            if self.settings.quantize is not None:
                threads = self.settings.threads
                formula = f"{threads} threads x {held.ENCODING >> 20} MiB"
                loading.append(Component("the search for scales", threads * held.ENCODING, formula, "transient"))
        return Phase("loading", (*common, *loading)), Phase("answering", (*common, *self._answering()))

    def _framework(self) -> Iterator[Component]:
        given = self.settings.framework
        if self.settings.device != "cpu":
            yield Component("CUDA context and kernels", FRAMEWORK_CUDA, "assumed, not measured", "framework")
            return
        size = FRAMEWORK if given is None else given
        yield Component("Python, PyTorch and Paddock", size, "an empty process, measured", "framework")
        count = self.architecture.vocabulary
        yield Component("vocabulary", count * WORD, f"{count} entries x {WORD} bytes", "framework")

    def _weights(self) -> Iterator[Component]:
        """A line for each role; then scales, and numbers that lie twice."""
        roles: dict[tuple[str, str], list[int]] = {}
        scales = kept = 0
        for each in self.weights:
            row = roles.setdefault((each.group.role, each.kind), [0, 0])
            row[0] += each.group.numbers
            row[1] += each.codes
            scales, kept = scales + each.scales, kept + each.kept
        for (role, kind), (numbers, size) in roles.items():
            yield Component(role, size, f"{numbers:,} numbers x {8 * size / numbers:.3g} bits ({kind})", "weights")
        if scales:
            yield Component("scales", scales, "of the quantised matrices, in the kernels' tiles", "scales")
        if kept:
            what = "numbers that stay beside their repacked copies"
            yield Component(
                what, kept, "matrices that the loader put together; a table that is the head too", "weights"
            )
        if self.subject.adapter:
            yield Component("adapter", self.subject.adapter, "the size of its files", "weights")

    def _answering(self) -> Iterator[Component]:
        if self.architecture.generates:
            yield from self._cache()
        yield from (self._natively() if self.native else self._in_torch())

    # The cache.

    @property
    def cache_type(self) -> str:
        if self.packing is not None:
            return "float16" if self.native else "float32"
        return self.dtype

    @property
    def block_bytes(self) -> int:
        values = sum(
            2 * b.attention.kv_heads * b.attention.head_dim * count for _, b, count in distinct(self.architecture)
        )
        return BLOCK * values * formats.PLAIN[formats.DTYPES[self.cache_type]]

    def _cache(self) -> Iterator[Component]:
        texts, each = self.settings.concurrency, blocks_for(self.context)
        size = texts * each * self.block_bytes
        item = formats.PLAIN[formats.DTYPES[self.cache_type]]
        parts = " + ".join(
            f"{count} layers x 2 x {b.attention.kv_heads} heads x {b.attention.head_dim}"
            for _, b, count in distinct(self.architecture)[:3]
        )
        formula = f"{texts} x {each * BLOCK} tokens x ({parts}) x {item} bytes"
        yield Component("keys and values", size, formula, "cache")
        pages = self._in_pages(texts * each) if self.native else size
        if pages > size:
            yield Component(
                "cache, to whole pages", pages - size, "2 MiB pages of each layer's keys and values", "cache"
            )
        yield from self._cross()

    def _in_pages(self, blocks: int) -> int:
        """Bytes of the pages that the first `blocks` of each layer's keys and values touch."""
        capacity = self.capacity
        if capacity * self.block_bytes < HUGE_FROM:
            return 0
        total = at = 0
        item = formats.PLAIN[formats.DTYPES[self.cache_type]]
        for _, block, count in distinct(self.architecture):
            one = BLOCK * block.attention.kv_heads * block.attention.head_dim * item
            for _ in range(2 * count):
                total += (at + blocks * one - 1) // HUGE_PAGE - at // HUGE_PAGE + 1
                at += -(-capacity * one // 4096) * 4096
        return total * HUGE_PAGE

    @property
    def capacity(self) -> int:
        """Blocks that the engine's cache may have here, as `engine.memory.cache_blocks` has it."""
        return self._capacity(self.architecture.context, self.block_bytes)

    @property
    def source_capacity(self) -> int:
        """The same of an encoder-decoder's source texts, as `engine.memory.source_blocks` has it."""
        encoder = self.architecture.encoder
        assert encoder is not None, "only encoder-decoders have sources"
        item = formats.PLAIN[formats.DTYPES[self.cache_type]]
        return self._capacity(encoder.context, source_block_bytes(self.architecture, item))

    def _capacity(self, context: int | None, block_bytes: int) -> int:
        share = int(self.budget * SHARE) // (1 if self.architecture.encoder is None else 2) // block_bytes
        one = share if context is None else blocks_for(context)
        most = share if context is None else min(share, one * SEQUENCES)
        return max(one, most, 1)

    def _cross(self) -> Iterator[Component]:
        if self.architecture.encoder is None:
            return
        item = formats.PLAIN[formats.DTYPES[self.cache_type]]
        values = sum(2 * b.cross.kv_heads * b.cross.head_dim * n for _, b, n in distinct(self.architecture) if b.cross)
        tokens = blocks_for(self.context) * BLOCK
        size = self.settings.concurrency * tokens * values * item
        formula = f"{self.settings.concurrency} x {tokens} source tokens x {values} values x {item} bytes"
        yield Component("keys and values of the source", size, formula, "cache")

    # What computing takes.

    def _natively(self) -> Iterator[Component]:
        texts, width, vocabulary = self.settings.concurrency, self.architecture.width, self.architecture.vocabulary
        if self.architecture.generates:
            rows = min(PIECE, texts * self.context) if self.architecture.can_cut_prompt else self.context
        else:
            rows = min(BATCH_TOKENS, texts * self.context)
            blocks = texts * blocks_for(self.context)
            size = min(blocks, blocks_for(BATCH_TOKENS)) * self.block_bytes
            yield Component("keys and values of one batch", size, f"{rows} tokens, of all layers", "cache")
        form = working.form_bytes(each.kind for each in self.weights if each.group.matrix)
        size = working.native(self.architecture, rows, form)
        yield Component(
            "activations", size, f"{rows} tokens x {size // rows:,} bytes, one layer at a time", "activations"
        )
        if self.architecture.encoder is not None:
            yield from self._reading_sources(self.architecture.encoder, form)
        scratch = self.settings.threads * working.THREAD_SCRATCH + working.angles(self.architecture, self.context)
        yield Component("scores and angles", scratch, "48 x 512 scores a thread; cosines and sines", "activations")
        if self.architecture.generates:
            yield self._logits(texts, vocabulary, 4)
        else:
            formula = f"{rows} tokens x {width} x 4 bytes, twice"
            yield Component("hidden states", 2 * rows * width * 4, formula, "logits")

    def _reading_sources(self, encoder: Architecture, form: float) -> Iterator[Component]:
        """The encoder's own program and cache (engine/sources.py): a text at once, or several short ones."""
        rows = max(self.context, min(PIECE, self.settings.concurrency * self.context))
        size = working.native(encoder, rows, form) + rows * encoder.width * 4
        formula = f"{rows} source tokens x {size // rows:,} bytes, one layer at a time"
        yield Component("activations of the encoder", size, formula, "activations")
        item = formats.PLAIN[formats.DTYPES[self.cache_type]]
        values = sum(2 * b.attention.kv_heads * b.attention.head_dim * n for _, b, n in distinct(encoder))
        size = BLOCK * blocks_for(rows) * values * item
        yield Component("keys and values of the encoder", size, f"{rows} tokens, of all layers", "cache")

    def _in_torch(self) -> Iterator[Component]:
        item = formats.PLAIN[formats.DTYPES[self.dtype]]
        texts, architecture = self.settings.concurrency, self.architecture
        tokens = min(PIECE, self.context) if architecture.can_cut_prompt else self.context
        if not architecture.generates:
            texts, tokens = min(texts, max(BATCH_TOKENS // self.context, 1)), self.context
        size = working.torch_piece(architecture, tokens, self.context, item, texts)
        if architecture.encoder is not None:
            size = max(size, working.torch_piece(architecture.encoder, self.context, self.context, item))
        yield Component("activations", size, f"{tokens} tokens of the widest layer, in {self.dtype}", "activations")
        if architecture.generates:
            yield self._logits(self.settings.concurrency, architecture.vocabulary, item + 4)

    def _logits(self, texts: int, vocabulary: int, item: int) -> Component:
        size = vocabulary * (texts * item + SAMPLING * 4)
        formula = f"{texts} x {vocabulary} x {item} bytes, and {SAMPLING} such rows to choose from one"
        return Component("logits", size, formula, "logits")

    def _remarks(self) -> Iterator[str]:
        if self.settings.context is None and self.architecture.context is None:
            yield f"the model states no limit of length: {UNLIMITED} tokens are planned for"
        if not self.architecture.generates:
            return
        rooms = {"tokens in its cache": self.capacity}
        if self.architecture.encoder is not None:
            rooms["tokens of source texts"] = self.source_capacity
        for what, blocks in rooms.items():
            if self.settings.device == "cpu" and blocks * BLOCK < self.settings.concurrency * self.context:
                part = "half" if len(rooms) == 1 else "a quarter"
                yield (
                    f"the engine keeps at most {blocks * BLOCK:,} {what} here ({part} of the free memory): of "
                    f"{self.settings.concurrency} texts of {self.context} tokens some will wait"
                )


def _check(subject: Subject, settings: Settings) -> None:
    """Refuses what cannot be meant, before anything is worked out."""
    for name in ("context", "concurrency", "budget"):
        value = getattr(settings, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UsageError(f"{name} is {str(value)[:40]}", expected="a whole number from 1")
    if settings.concurrency > MOST_TEXTS:
        raise UsageError(f"{settings.concurrency} texts at once", expected=f"at most {MOST_TEXTS}")
    limit = subject.context
    if settings.context is not None and settings.context > (limit or 2**31):
        raise ContextLengthError(
            f"a context of {settings.context} tokens is beyond the model's", expected=f"at most {limit or 2**31}"
        )
    if settings.device not in ("cpu", "cuda"):
        raise UsageError(f"device is {settings.device[:40]!r}", expected="cpu or cuda")
    if settings.dtype not in ("auto", *formats.DTYPES):
        raise UsageError(f"unknown dtype {settings.dtype[:40]!r}", expected="auto, " + ", ".join(formats.DTYPES))
    if settings.quantize is None:
        return
    Packing.named(settings.quantize)
    if settings.device != "cpu" or library() is None:
        raise UsageError(f"quantize={settings.quantize!r} needs the CPU's native kernels", fix="leave it out")
    if settings.dtype != "auto":
        raise UsageError(
            f"dtype {settings.dtype} and quantize {settings.quantize} ask for different things", fix="give one"
        )


def fits(subject: Subject, settings: Settings, budget: int) -> bool:
    """Whether the peak under these settings is within `budget` bytes."""
    return max(phase.bytes for phase in Need(subject, replace(settings, budget=budget)).phases) <= budget


def cache_values(architecture: Architecture) -> int:
    """Numbers that the cache keeps for each token, counted by kinds of layers."""
    return sum(2 * b.attention.kv_heads * b.attention.head_dim * n for _, b, n in distinct(architecture))
