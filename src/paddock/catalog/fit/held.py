"""In what form a model's weights lie in memory once they are loaded, and what loading takes beside them.

On the CPU matrices are repacked into the native kernels' tiles, quantised ones as they were published. A number stays
where it lay only if something still reads it there: the token table of an unquantised model, and what PyTorch runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from paddock.catalog.fit import formats
from paddock.catalog.fit.groups import Group
from paddock.catalog.fit.subject import Subject
from paddock.checkpoint.packing import ENDS, Packing
from paddock.kernels.native import library
from paddock.kernels.record import NotRecordable, Rehearsal
from paddock.model.recording import RecordingStep
from paddock.model.spec import Architecture

ENCODING = (
    24 << 20
)  # bytes that a search for good scales keeps per thread (checkpoint/encoding.py: 2^17 weights at once)


@dataclass(frozen=True)
class Held:
    """A group in memory.

    kind: as it is computed with. codes, scales: bytes of that, of all its tensors. kept: bytes of the numbers that stay
    beside a repacked copy. passing: bytes that one tensor takes more while it is loaded.
    """

    group: Group
    kind: str
    codes: int
    scales: int = 0
    kept: int = 0
    passing: int = 0

    @property
    def bytes(self) -> int:
        return self.codes + self.scales + self.kept


def runs_natively(architecture: Architecture) -> bool:
    """Whether the native kernels would run it, asked of its description (`engine.reading` asks the model)."""
    if library() is None:
        return False
    with contextlib.suppress(NotRecordable):
        for stack in (architecture, architecture.encoder):
            if stack is not None:
                RecordingStep(Rehearsal(), stack)
        return True
    return False


def packing_of(subject: Subject, quantize: str | None, dtype: str, device: str) -> Packing | None:
    """What `engine.loading.load` packs, by the same rules."""
    if quantize is not None:
        return Packing.named(quantize)
    return Packing() if device == "cpu" and dtype == "auto" and subject.quantised and library() else None


def held(subject: Subject, packing: Packing | None, dtype: str, device: str) -> Iterator[Held]:
    """Every group as `load` and the engine hold it. dtype: a type's name, for what is not packed."""
    architecture = subject.known()
    native = device == "cpu" and runs_natively(architecture)
    plain = formats.DTYPES["float32" if packing else subject.dtype if dtype == "auto" else dtype]
    for group in subject.groups:
        kind = None if packing is None else _packed_kind(group, packing)
        if kind is not None:
            yield _tiles(group, kind)
            continue
        numbers = group.numbers * formats.PLAIN[plain]
        own = group.kind == plain and group.view  # it is read where it lies in the file
        one = 0 if own or device != "cpu" else group.stored // group.count
        if native and multiplied(group, architecture):
            tiles = group.count * formats.packed_bytes(plain, group.rows, group.columns)
            table = group.role == "embedding.tokens"  # its rows are looked up where they lie, with their neighbours
            kept = numbers if table or not own else 0
            yield Held(group, plain, tiles, kept=kept, passing=max(one, numbers // group.count))
        else:
            yield Held(group, plain, numbers, passing=one)


def _packed_kind(group: Group, packing: Packing) -> str | None:
    """The kind that a matrix is packed as, None for what stays numbers."""
    if not group.matrix:
        return None
    if group.kind not in formats.PLAIN and group.by_rows and formats.fits_kernels(group.kind, group.columns):
        return group.kind
    kind = packing.kind
    if kind is not None and kind.nbytes * ENDS.weights < ENDS.nbytes * kind.weights:
        table = group.role.startswith(("embedding.", "encoder.embedding.")) or group.role == "head"
        kind = ENDS if table or group.columns % kind.weights else kind
    if kind is not None and group.columns % kind.weights == 0:
        return kind.name.lower()
    return group.kind if group.kind in ("f16", "bf16") else None


def _tiles(group: Group, kind: str) -> Held:
    rows, columns = group.rows, group.columns
    codes, whole = formats.code_bytes(kind, rows, columns), formats.packed_bytes(kind, rows, columns)
    passing = formats.file_bytes(group.kind, rows, columns)
    if kind != group.kind:  # rounded as it is loaded: its codes in the published order as well, and the search
        passing += formats.file_bytes(kind, rows, columns)
    return Held(group, kind, group.count * codes, group.count * (whole - codes), passing=passing)


def multiplied(group: Group, architecture: Architecture) -> bool:
    """Whether a native program multiplies with the matrix: a table of rows only where it is the head as well."""
    if not group.matrix or group.role.startswith("pooler"):
        return False
    if not group.role.startswith(("embedding.", "encoder.embedding.")):
        return True
    tied = architecture.head is not None and architecture.head.tied
    return tied and group.role == "embedding.tokens"
