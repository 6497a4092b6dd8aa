"""Weight deltas: what a tuned model adds to its base, for weights whose base may not be handed on (Vicuna, Alpaca).

    config.json, *.safetensors   as of the tuned model, with differences for numbers: tuned - base
    exact.safetensors            where a sum would be rounded to another number than the tuned one: `<tensor>/at`,
                                 places in the flattened tensor, and `<tensor>/is`, the numbers themselves
    delta.json                   SHA-256 of base and tuned model, and with what a grown vocabulary was padded

A difference is stored in the tuned model's own type, where close numbers have an exact one (Sterbenz). Published deltas
have the first line only. Rows that the base lacks are zeros there (Vicuna), or the mean of its rows (Alpaca's [PAD]).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from paddock.checkpoint import folder as hf
from paddock.checkpoint import safetensors
from paddock.checkpoint.checkpoint import Checkpoint, understand
from paddock.checkpoint.jsonfile import read as read_json
from paddock.checkpoint.safetensors import Planned
from paddock.checkpoint.stored import Stored
from paddock.checkpoint.weights import TIED
from paddock.checkpoint.writing import write_text
from paddock.errors import CheckpointError, UnsupportedError
from paddock.model.families import family
from paddock.model.rules import Drop
from paddock.model.spec import Architecture

FILE, EXACT = hf.DELTA, "exact.safetensors"
Grown = Literal["zeros", "mean"]
ROWS = {"embedding.tokens.weight", "head.weight", "head.bias"}  # what has a row for each token
PLAIN = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
Progress = Callable[[int, int], None]


def _unseen(done: int, total: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Made:
    """A delta's own words. corrected: numbers of exact.safetensors. rows: of the base's vocabulary and the tuned's."""

    base: str
    base_sha256: str
    tuned_sha256: str
    grown: Grown
    rows: tuple[int, int]
    corrected: int


@dataclass(frozen=True)
class _Source:
    """A model's tensors by the parameters that they hold, whatever spelling they are published under."""

    path: Path
    config: Mapping[str, Any]
    architecture: Architecture
    tensors: Mapping[tuple[str, ...], tuple[str, Stored]]

    @classmethod
    def of(cls, path: Path, config: Mapping[str, Any], stored: Mapping[str, Stored]) -> _Source:
        architecture = understand(config, stored.keys())
        rules = [rule for rule in family(config).RULES if rule.when(architecture)]
        found: dict[tuple[str, ...], tuple[str, Stored]] = {}
        for name, each in stored.items():
            rule, ours = next(((rule, own) for rule in rules if (own := rule.read(name)) is not None), (None, ()))
            if rule is None:
                raise CheckpointError(f"{path.name}: {name[:120]!r} is no tensor of a {architecture.family} model")
            if each.dtype not in PLAIN or each.codes is not None:
                raise UnsupportedError(
                    f"{path.name}: {name[:120]!r} is quantised or stored as {each.dtype}",
                    expected="plain numbers",
                    fix="convert the model first (paddock convert)",
                )
            if not isinstance(rule, Drop):
                found[ours] = (name, each)
        return cls(path, config, architecture, found)

    @classmethod
    def at(cls, checkpoint: Checkpoint) -> _Source:
        return cls.of(checkpoint.path, checkpoint.config, checkpoint.tensors)

    def under(self, own: tuple[str, ...], name: str, other: Path) -> Stored:
        """The tensor of these parameters, or what it is tied to. Raises CheckpointError where there is none."""
        tied = tuple(TIED.get(each, each) for each in own)
        found = self.tensors.get(own) or self.tensors.get(tied)
        if found is None:
            raise CheckpointError(
                f"{self.path.name} has no {name[:120]!r}, which {other.name} has",
                fix="a delta is between models of one shape",
            )
        return found[1]


def make(base: Checkpoint, tuned: Checkpoint, folder: Path, grown: Grown = "zeros", tell: Progress = _unseen) -> Made:
    """Writes what `tuned` adds to `base` into `folder`.

    grown: what stands for the rows that the base's vocabulary lacks. tell: hears of tensors done, and how many there
    are. Raises CheckpointError naming a tensor that one has and the other lacks, or has in another shape.
    """
    below, above = _Source.at(base), _Source.at(tuned)
    pairs = _paired(below, above)
    seen, sums, exact = _Sum(), _Sum(), dict[str, Tensor]()

    def planned(own: tuple[str, ...]) -> Planned:
        name, stored, under = pairs[own]

        def differ() -> Tensor:
            t, b = _numbers(stored, name, above.path), _numbers(under, name, below.path)
            seen.add(own, t)
            sums.add(own, b)
            difference, at = subtracted(t, _grown(b, t.shape, grown))
            if len(at):
                exact[name + "/at"], exact[name + "/is"] = at, t.flatten()[at].clone()
            stored.release()
            tell(len(seen.parts), len(pairs))
            return difference

        return Planned(stored.shape, stored.dtype, differ)

    tensors = {name: planned(own) for own, (name, _, _) in pairs.items()}
    hf.write_tensors(folder, dict(tuned.config), tensors, dict(tuned.generation))
    safetensors.write(folder / EXACT, exact)
    rows = (below.architecture.vocabulary, above.architecture.vocabulary)
    corrected = sum(len(each) for name, each in exact.items() if name.endswith("/at"))
    made = Made(base.path.name, sums.digest(), seen.digest(), grown, rows, corrected)
    write_text(folder / FILE, json.dumps({"format": 1, **asdict(made)}, indent=2, ensure_ascii=False) + "\n")
    return made


def apply(
    base: Checkpoint, delta: Path, folder: Path, grown: Grown | None = None, tell: Progress = _unseen
) -> Made | None:
    """Writes base + delta into `folder`, and gives what the delta says of itself; None for one that says nothing.

    grown: as of `make`; None: as the delta says, else zeros. Raises CheckpointError where the delta was made for
    another base, and where the sum is not the model that it was made of; `folder` is then not to be used.
    """
    made = read(delta)
    config = read_json(delta / hf.CONFIG)
    above, below = _Source.of(delta, config, hf.read_tensors(delta)), _Source.at(base)
    pairs, exact = _paired(below, above), _Exact.of(delta)
    padding = grown or (made.grown if made else "zeros")
    seen, sums = _Sum(), _Sum()

    def planned(own: tuple[str, ...]) -> Planned:
        name, stored, under = pairs[own]

        def add() -> Tensor:
            d, b = _numbers(stored, name, delta), _numbers(under, name, below.path)
            sums.add(own, b)
            result = exact.put(name, added(_grown(b, d.shape, padding), d))
            seen.add(own, result)
            stored.release()
            tell(len(seen.parts), len(pairs))
            return result

        return Planned(stored.shape, stored.dtype, add)

    exact.check(pairs)
    tensors = {name: planned(own) for own, (name, _, _) in pairs.items()}
    hf.write_tensors(folder, config, tensors, hf.read_generation(delta))
    if made is not None:
        _verify(made, base, sums.digest(), seen.digest(), padding)
    return made


def read(delta: Path) -> Made | None:
    """What a delta says of itself, None where it says nothing, as published ones do. Raises CheckpointError."""
    path = delta / FILE
    if not path.is_file():
        return None
    table = read_json(path)
    if table.pop("format", None) != 1:
        raise CheckpointError(f"{path} is of a format to come", expected="format 1")
    try:
        made = Made(**{**table, "rows": tuple(table["rows"])})
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{path} does not describe a delta ({error})") from None
    texts = (made.base, made.base_sha256, made.tuned_sha256)
    if not all(isinstance(text, str) for text in texts) or made.grown not in ("zeros", "mean"):
        raise CheckpointError(f"{path} does not describe a delta")
    return made


def subtracted(tuned: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """tuned - base in the type of `tuned`, and the places (in the flattened tensor) where `added` to the base it is not
    `tuned` to the bit; it is 0 there."""
    wide = _wide(tuned, base)
    difference = (tuned.to(wide) - base.to(wide)).to(tuned.dtype)
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tuned.dtype.itemsize]
    wrong = added(base, difference).view(bits) != tuned.contiguous().view(bits)
    return difference.masked_fill(wrong, 0), wrong.flatten().nonzero().flatten()


def added(base: Tensor, difference: Tensor) -> Tensor:
    """base + difference, rounded once to the type of `difference`."""
    wide = _wide(difference, base)
    return (base.to(wide) + difference.to(wide)).to(difference.dtype).contiguous()


def _wide(one: Tensor, two: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(one.dtype, two.dtype), torch.float32)


def _paired(below: _Source, above: _Source) -> dict[tuple[str, ...], tuple[str, Stored, Stored]]:
    """The tensors of `above` by their parameters, with their names, and those of `below` that they are added to."""
    one, two = below.architecture, above.architecture
    if one.family != two.family:
        raise CheckpointError(f"{below.path.name} is a {one.family} model and {above.path.name} a {two.family} one")
    pairs = {own: (name, stored, below.under(own, name, above.path)) for own, (name, stored) in above.tensors.items()}
    for own, (name, _) in below.tensors.items():
        if own not in pairs and not any(each in TIED for each in own):
            raise CheckpointError(
                f"{above.path.name} has no {name[:120]!r}, which {below.path.name} has",
                fix="a delta is between models of one shape",
            )
    for own, (name, stored, under) in pairs.items():
        grows = len(own) == 1 and own[0] in ROWS and stored.shape[0] > under.shape[0]
        if stored.shape != ((stored.shape[0], *under.shape[1:]) if grows else under.shape):
            raise CheckpointError(
                f"{name[:120]!r} has the shape {list(stored.shape)} in {above.path.name}",
                expected=f"{list(under.shape)}, as in {below.path.name}" + (", or more rows" if own[0] in ROWS else ""),
            )
    return pairs


def _numbers(stored: Stored, name: str, path: Path) -> Tensor:
    tensor = stored.load()
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"{path.name}: {name[:120]!r} holds values that are not numbers")
    return tensor


def _grown(base: Tensor, shape: torch.Size, how: Grown) -> Tensor:
    """The base's rows, and as many more as the tuned model has."""
    missing = shape[0] - base.shape[0] if shape else 0
    if not missing:
        return base
    row = base.float().mean(0, keepdim=True) if how == "mean" else torch.zeros(1, *base.shape[1:])
    wide = torch.promote_types(base.dtype, torch.float32) if how == "mean" else base.dtype
    return torch.cat((base.to(wide), row.to(wide).expand(missing, *base.shape[1:])))


@dataclass(frozen=True)
class _Exact:
    """Numbers that a sum would miss, by tensor."""

    stored: Mapping[str, Stored] = field(default_factory=dict)

    @classmethod
    def of(cls, delta: Path) -> _Exact:
        return cls(safetensors.read(delta / EXACT)) if (delta / EXACT).is_file() else cls()

    def check(self, pairs: Mapping[tuple[str, ...], tuple[str, Stored, Stored]]) -> None:
        known = {name for name, _, _ in pairs.values()}
        for full in self.stored:
            name, _, kind = full.rpartition("/")
            if name not in known or kind not in ("at", "is"):
                raise CheckpointError(f"{EXACT} speaks of {full[:120]!r}, which the delta does not have")

    def put(self, name: str, tensor: Tensor) -> Tensor:
        at, values = (self.stored.get(f"{name}/{kind}") for kind in ("at", "is"))
        if at is None and values is None:
            return tensor
        where = f"{EXACT}: what it says of {name[:120]!r}"
        if at is None or values is None or at.shape != values.shape or len(at.shape) != 1:
            raise CheckpointError(f"{where} is not complete")
        if at.dtype != torch.int64 or values.dtype != tensor.dtype:
            raise CheckpointError(f"{where} is stored as {at.dtype} and {values.dtype}")
        places = at.load()
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < tensor.numel():
            raise CheckpointError(f"{where} lies outside of its {tensor.numel()} numbers")
        tensor.view(-1)[places] = values.load()
        return tensor


@dataclass
class _Sum:
    """A SHA-256 over tensors, in whatever order they come; of their values, so that a wider type is the same."""

    parts: dict[str, str] = field(default_factory=dict)

    def add(self, own: tuple[str, ...], tensor: Tensor) -> None:
        seen = hashlib.sha256(str(list(tensor.shape)).encode())
        for piece in tensor.reshape(-1).split(2**22):
            wide = piece.to(torch.promote_types(piece.dtype, torch.float32)).contiguous()
            seen.update(wide.view(torch.uint8).numpy().data)
        self.parts["+".join(own)] = seen.hexdigest()

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()


def _verify(made: Made, base: Checkpoint, below: str, above: str, padding: Grown) -> None:
    if below != made.base_sha256:
        raise CheckpointError(
            f"the delta was made for another base ({made.base[:120]}) than {base.path.name}: their numbers differ",
            fix="use the very model that it was made for",
        )
    if above != made.tuned_sha256:
        raise CheckpointError(
            "base and delta together are not the model that the delta was made of: a file was changed"
            + ("" if padding == made.grown else f", or {padding} are not what the new rows were padded with"),
            fix="get the delta again",
        )
