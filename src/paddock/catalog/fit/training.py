"""What it takes to train a model on one device: weights, gradients, moments, and what a step keeps on its way.

The peak is of resident memory on a CPU; `benchmarks/fit_training.py` compares it with that of real runs, and
docs/fit.md has the figures. A step's blocks are counted one by one (`activations`), not by a rule of thumb.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from paddock.catalog.fit import budget
from paddock.catalog.fit.activations import GRADIENT, KEPT, LOGITS, PASSING, WORKING, Walk, Way
from paddock.catalog.fit.ledger import Ledger
from paddock.catalog.fit.plan import Component, Phase, Plan
from paddock.catalog.fit.subject import Subject
from paddock.catalog.fit.trained import LOW, METHODS, WHOLE, Tensor, Trained, trained
from paddock.checkpoint.held_nf4 import at_end, by_role
from paddock.errors import ContextLengthError, UsageError, did_you_mean
from paddock.kernels import q8
from paddock.kernels.nf4 import BLOCK, NESTED_BLOCK
from paddock.model.spec import Architecture, Experts, Full
from paddock.training.eight_bit import AT_ONCE, SMALL
from paddock.training.eight_bit import BLOCK as MOMENT_BLOCK
from paddock.training.recipe import RULES

FRAMEWORK = 420_000_000  # Python, PyTorch and a training run of next to nothing, its plots too; measured on Linux
OPENING = 310_000_000  # the same before its first step
HOLES = 0.26  # of what comes and goes in small blocks, measured: what the heap keeps between them (docs/fit.md)
NF4_BITS = 4 + 8 / BLOCK + 32 / (BLOCK * NESTED_BLOCK)
PLAIN_NF4_BITS = 4 + 32 / BLOCK
FLOAT32 = 4
BYTES = {"bfloat16": 2, "float32": 4}
UNPROMPTED = 2  # of the lowest layers have no prompts (model/prompts.py)
PROGRAMS, PROGRAM = 1024, 845_000  # that oneDNN keeps at the most, and bytes of one, measured on one mixture
MASKED = 0.15  # the share of tokens that a masked objective asks for
MOST_ROWS, LONGEST, MOST_RANK = 10**6, 2**20, 2**14


@dataclass(frozen=True)
class Settings:
    """What is asked for, in a recipe's words; None is for the plan to fill in.

    length: tokens of a row. batch: rows of a step; micro_batch: of them at once, all if 0. rank, roles: of low-rank
    matrices. tokens: virtual ones or prompts. double, vocabulary: of `QLoRA`. device: "cpu" or "cuda".
    """

    task: str = "lora"
    length: int = 512
    batch: int = 1
    micro_batch: int = 0
    precision: str = "bfloat16"
    optimizer: str = "adamw"
    recompute: bool = False
    rank: int = 8
    roles: str = "all"
    tokens: int | None = None
    double: bool = True
    vocabulary: str = "8bit"
    dropout: float = 0.0
    device: str = "cpu"
    budget: int | None = None
    framework: int | None = None

    @property
    def rows(self) -> int:
        """That go through the model at once."""
        return min(self.micro_batch or self.batch, self.batch)


def plan(subject: Subject | Architecture, settings: Settings = Settings()) -> Plan:
    """Phase by phase, with what would make it fit. Raises UsageError for what cannot be meant, ContextLengthError for
    rows longer than the model reads, UnsupportedError for a model that Paddock does not run."""
    need = Need(subject, settings)
    space = budget.free(settings.device) if settings.budget is None else settings.budget
    shown = {**asdict(settings), "budget": space}
    found = Plan(settings.task, need.name, settings.device, shown, need.phases, space, remarks=need.remarks)
    return found if found.peak <= space else replace(found, changes=tuple(changes(subject, settings, space)))


class Need:
    """The memory of one subject under some settings."""

    def __init__(self, subject: Subject | Architecture, settings: Settings) -> None:
        whole = isinstance(subject, Architecture)
        self.architecture: Architecture = subject if isinstance(subject, Architecture) else subject.known()
        self.name = subject.family if isinstance(subject, Architecture) else subject.name
        self.settings = settings
        _check(self.architecture, settings)
        self.told = () if whole else subject.remarks  # type: ignore[union-attr]

    @cached_property
    def trained(self) -> Trained:
        asked = self.settings
        return trained(self.architecture, asked.task, asked.rank, asked.roles, asked.tokens)

    @cached_property
    def shapes(self) -> tuple[Tensor, ...]:
        """Of the model itself."""
        return trained(self.architecture, "full").tensors

    @property
    def narrow(self) -> int:
        return BYTES[self.settings.precision]

    @property
    def learns(self) -> bool:
        return self.settings.task in WHOLE

    @property
    def remarks(self) -> tuple[str, ...]:
        found = [*self.told, f"{self.trained.numbers:,} numbers are trained"]
        if self.settings.device != "cpu":
            found.append("on a GPU other operations run, which keep more: the figures are those of the native ones")
        if self.settings.task in ("adapter-v2", "prefix", "prompt", "bitfit"):
            found.append(f"{self.settings.task} was not measured: what its vectors keep is estimated")
        if self.architecture.encoder is not None:
            found.append("the encoder is taken to read rows as long as the decoder's")
        return tuple(found)

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        asked = self.settings
        base = FRAMEWORK if asked.framework is None else asked.framework
        opening = min(OPENING, base)
        largest = max(self.shapes, key=lambda tensor: tensor.numbers)
        numbers = f"{largest.numbers:,} numbers of {largest.name}"
        opened = Phase(
            "opening the model",
            (
                Component("framework", opening, f"{opening / 1e6:,.0f} MB measured", "framework"),
                *self.weights,
                Component("one tensor", 6 * largest.numbers, f"{numbers} x (2 + 4) bytes", "transient"),
            ),
        )
        framework = Component("framework", base, f"{base / 1e6:,.0f} MB measured", "framework")
        parts = (framework, *self._programs, *self.weights, *self.moments)
        step, update = (tuple(part for part in found if part.bytes) for found in (self.step, self.update))
        return opened, Phase("a step", (*parts, *step)), Phase("the update", (*parts, *update))

    # What stays

    @cached_property
    def weights(self) -> tuple[Component, ...]:
        """The model, and what is put beside it."""
        total = sum(tensor.numbers for tensor in self.shapes)
        if self.learns:
            return (Component("weights", FLOAT32 * total, f"{total:,} x 4 bytes, float32", "weights"),)
        named = "float32" if self.narrow == FLOAT32 else "bfloat16"
        beside = FLOAT32 * self.trained.numbers
        own = Component("trained beside it", beside, f"{self.trained.numbers:,} x 4 bytes, float32", "weights")
        if self.settings.task != "qlora":
            return (
                Component("weights", self.narrow * total, f"{total:,} x {self.narrow} bytes, {named}", "weights"),
                own,
            )
        matrices = [tensor for tensor in self.shapes if by_role(tensor.name)]
        packed = sum(tensor.numbers for tensor in matrices)
        bits = NF4_BITS if self.settings.double else PLAIN_NF4_BITS
        formula = f"{packed:,} x {bits:.3f} / 8 bytes"
        found = [Component("matrices in NF4", round(packed * bits / 8), formula, "weights")]
        if ends := self.ends:
            formula = f"{ends:,} x {q8.BITS:g} / 8 bytes"
            found.append(Component("token table, head", round(ends * q8.BITS / 8), formula, "weights"))
        rest = total - packed - ends
        what = "tables, norms" if ends else "tables, norms, head"
        found.append(Component(what, self.narrow * rest, f"{rest:,} x {self.narrow} bytes, {named}", "weights"))
        return (*found, own)

    @property
    def ends(self) -> int:
        """Numbers of the token table and the head that QLoRA holds in 8 bits."""
        if self.settings.task != "qlora" or self.settings.vocabulary != "8bit":
            return 0
        held = [each for each in self.shapes if at_end(each.name) and each.shape[1] % q8.BLOCK == 0]
        return sum(tensor.numbers for tensor in held)

    @property
    def moments(self) -> tuple[Component, ...]:
        rule = self.settings.optimizer
        size = sum(moment_bytes(rule, tensor) for tensor in self.trained.tensors)
        formula = f"{self.trained.numbers:,} x {size / max(1, self.trained.numbers):.3g} bytes, {rule}"
        return (Component("optimiser", size, formula, "optimiser"),)

    @property
    def _programs(self) -> Iterator[Component]:
        """oneDNN keeps a program for each shape of product, and experts' rows differ at every step."""
        if self.settings.device == "cpu" and any(isinstance(b.feedforward, Experts) for b in self.architecture.layers):
            formula = f"{PROGRAMS:,} programs x {PROGRAM / 1e6:g} MB, measured: experts' rows differ at every step"
            yield Component("programs of products", PROGRAMS * PROGRAM, formula, "framework")

    # What comes and goes

    @property
    def way(self) -> Way:
        asked, task = self.settings, self.settings.task
        return Way(
            tokens=asked.rows * asked.length,
            length=asked.length,
            narrow=self.narrow,
            wide=FLOAT32 if self.learns else self.narrow,
            learns=self.learns,
            table=self.learns,
            head=self.learns and self.architecture.head is not None,
            ranks=self.trained.ranks,
            packed=task == "qlora",
            ends=bool(self.ends),
            recompute=asked.recompute,
            asked=MASKED if isinstance(self.architecture.mask, Full) and task == "pretrain" else 1.0,
            dropout=asked.dropout > 0 and task not in LOW,
            low_dropout=asked.dropout > 0 and task in LOW,
            scaled=self.trained.scaled,
            prompts=task in ("adapter-v1", "adapter-v2"),
            below=min(UNPROMPTED, self.architecture.blocks - 1) if task == "adapter-v1" else 0,
        )

    @cached_property
    def ledger(self) -> Ledger:
        """A step, played: two micro-batches where there are more than one, as gradients stay between them."""
        found = Ledger()
        for stack in (self.architecture.encoder, self.architecture):
            if stack is not None:
                walk = Walk(found, stack, self.way)
                for _ in range(1 if self.settings.rows >= self.settings.batch else 2):
                    walk.step()
        return found

    @property
    def step(self) -> Iterator[Component]:
        held, way = self.ledger.at_peak, self.way
        where = f"{way.tokens:,} tokens, {self.architecture.blocks} blocks"
        kept = "inputs of blocks, one block whole" if way.recompute else "what each operation saves"
        yield Component(KEPT, held[KEPT], f"{where}: {kept}", "activations")
        if held[WORKING]:
            yield Component(WORKING, held[WORKING], f"matrices in {way.narrow} bytes, for both passes", "activations")
        yield Component(GRADIENT, held[GRADIENT], "float32, those there when most is held", "gradients")
        yield Component(LOGITS, held[LOGITS], "chunks of 16 MiB, two at a time", "logits")
        yield Component(PASSING, held[PASSING], "gradients on their way, matrices made for a product", "transient")
        if not way.recompute and self.settings.device == "cpu":
            yield self._holes

    @property
    def update(self) -> Iterator[Component]:
        size = FLOAT32 * self.trained.numbers
        yield Component(GRADIENT, size, f"{self.trained.numbers:,} x 4 bytes, float32", "gradients")
        passing = passing_bytes(self.settings.optimizer, self.trained.tensors)
        yield Component(PASSING, passing, f"what {self.settings.optimizer} computes of a tensor", "transient")
        if not self.settings.recompute and self.settings.device == "cpu":
            yield self._holes

    @property
    def _holes(self) -> Component:
        small = self.ledger.small_at_peak
        formula = f"{HOLES:.0%} of {small / 1e6:,.0f} MB that come and go in blocks below 32 MiB, measured"
        return Component("holes in the heap", round(HOLES * small), formula, "transient")


def moment_bytes(rule: str, tensor: Tensor) -> int:
    """What an optimiser keeps for one tensor (training/optimizers.py)."""
    count = tensor.numbers
    if rule in ("adam", "adamw"):
        return 8 * count + FLOAT32
    if rule == "adamw8bit":
        return 8 * count if count < SMALL else 2 * (count + FLOAT32 * -(-count // MOMENT_BLOCK))
    if rule == "muon":
        matrix = len(tensor.shape) == 2 and not tensor.looked_up and not tensor.name.startswith("head.")
        return FLOAT32 * count if matrix else 8 * count
    if rule == "adafactor":
        return FLOAT32 * (sum(tensor.shape) if len(tensor.shape) > 1 else count)
    return {"lion": FLOAT32, "rmsprop": FLOAT32, "sgd": 0}[rule] * count


def passing_bytes(rule: str, tensors: tuple[Tensor, ...]) -> int:
    """What an update makes and frees, at the most."""
    largest = max((tensor.numbers for tensor in tensors), default=0)
    if rule == "lion":  # directions of all at once
        return FLOAT32 * sum(tensor.numbers for tensor in tensors)
    if rule == "adamw8bit":
        return 6 * FLOAT32 * min(largest, AT_ONCE)
    return {"muon": 6, "adafactor": 2, "rmsprop": 1, "sgd": 1}.get(rule, 0) * FLOAT32 * largest


def changes(subject: Subject | Architecture, settings: Settings, space: int) -> Iterator[str]:
    """Options, the smallest first, each of which alone makes it fit."""

    def fits(**other: object) -> bool:
        tried = replace(settings, budget=space, **other)  # type: ignore[arg-type]
        return max(phase.bytes for phase in Need(subject, tried).phases) <= space

    if not settings.recompute and fits(recompute=True):
        yield "--recompute"
    if settings.rows > 1 and (rows := largest(subject, settings, "micro_batch", settings.rows - 1, space)):
        yield f"--micro-batch {rows}"
    if length := largest(subject, settings, "length", settings.length - 1, space):
        yield f"--context {length}"
    if settings.optimizer != "adamw8bit" and settings.task in WHOLE and fits(optimizer="adamw8bit"):
        yield "--optimizer adamw8bit"
    one = {"micro_batch": 1, "recompute": True}
    if fits(**one):
        yield "--micro-batch 1 --recompute"
    order = ("full", "lora", "qlora")
    if settings.task in order:
        for task in order[order.index(settings.task) + 1 :]:
            if fits(task=task):
                yield f"--task {task}"
            elif fits(task=task, **one):
                yield f"--task {task} --micro-batch 1 --recompute"


def largest(subject: Subject | Architecture, settings: Settings, what: str, most: int, space: int) -> int | None:
    """The largest `length`, `batch` or `micro_batch` up to `most` that fits into `space` bytes; None where one does
    not. Nothing else is changed."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        tried = replace(settings, **{what: middle})  # type: ignore[arg-type]
        if max(phase.bytes for phase in Need(subject, tried).phases) <= space:
            low = middle
        else:
            high = middle - 1
    return low or None


def _check(architecture: Architecture, asked: Settings) -> None:
    _known("--task", asked.task, METHODS)
    _known("precision", asked.precision, tuple(BYTES))
    _known("optimizer", asked.optimizer, tuple(RULES))
    limits = {"length": LONGEST, "batch": MOST_ROWS, "rank": MOST_RANK}
    for name, most in limits.items():
        value = getattr(asked, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise UsageError(f"{name} is {str(value)[:40]}", expected=f"a whole number from 1 to {most:,}")
    if not isinstance(asked.micro_batch, int) or not 0 <= asked.micro_batch <= asked.batch:
        raise UsageError(f"micro_batch is {asked.micro_batch}", expected=f"from 0 (all) to the batch, {asked.batch}")
    limit = architecture.context
    if limit is not None and asked.length > limit and asked.task != "pretrain":
        raise ContextLengthError(
            f"rows of {asked.length:,} tokens for a model that reads {limit:,}", fix=f"at most --context {limit}"
        )


def _known(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise UsageError(f"{what} {str(given)[:40]!r}", expected=", ".join(known), fix=did_you_mean(str(given), known))
