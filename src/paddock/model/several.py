"""Several adapters on one model at once: in a batch every row has the adapter of its own text, or none.

The base's product is computed for all rows together; then each adapter's low ranks add to the rows that have it, as
they would on a model with that adapter alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from paddock import kernels
from paddock.kernels.packed import Packed
from paddock.kernels.record import Recorded
from paddock.model.linear import weights_of
from paddock.model.lora import adapted, plain_weights
from paddock.model.transformer import Transformer
from paddock.model.twin import twin_of


class Rank(NamedTuple):
    """What an adapter adds to one matrix: (scale * x a^T) b^T, with a (rank, in) and b (out, rank)."""

    a: Tensor | Packed
    b: Tensor | Packed
    scale: float


class Span(NamedTuple):
    """Texts of a batch, from the first to the one before `stop`, and the number of their adapter."""

    start: int
    stop: int
    number: int


Ranks = Mapping[str, Rank]  # by the paths of matrices in the plain model


def ranks_of(model: Transformer, twin: Transformer) -> Ranks | None:
    """What `twin` adds to `model`, which it shares its weights with; None where it differs by more than low ranks."""
    found = dict(adapted(twin))
    if twin.architecture != model.architecture or any(module.magnitude is not None for module in found.values()):
        return None
    plain, rest = weights_of(model), plain_weights(twin)
    same = plain.keys() == rest.keys() and all(weight is rest[name] for name, weight in plain.items())
    if not same or _modules(model) != _modules(twin):
        return None
    return {path: Rank(module.a, module.b, module.scale) for path, module in found.items()}


def _modules(model: Transformer) -> dict[str, type]:
    """What each module below an adapter is, by its path in the plain model."""
    on = {path for path, _ in adapted(model)}
    found = {}
    for path, module in model.named_modules():
        home = path.removesuffix(".base")
        if path not in on:
            found[home if home in on else path] = type(module)
    return found


class Places:
    """Where the texts of the batch that is computed now lie; all of a model's `Several` look here."""

    def __init__(self) -> None:
        self.spans: Sequence[Span] = ()


class Several(nn.Module):
    """A linear and what each adapter adds to it: (texts, tokens, in) to (texts, tokens, out)."""

    def __init__(self, base: nn.Module, ranks: Mapping[int, Rank], places: Places) -> None:
        super().__init__()
        self.base, self.ranks, self._places = base, dict(ranks), places

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        if isinstance(x, Recorded):
            return kernels.add_ranks(y, x, self.ranks)
        for start, stop, number in self._places.spans:
            if number in self.ranks:
                a, b, scale = self.ranks[number]
                inner = x[start:stop].to(a.dtype)
                low = kernels.linear(inner, a, None) * scale
                y[start:stop] += kernels.linear(low, b, None).to(y.dtype)
        return y


def several(model: Transformer, ranks: Mapping[int, Ranks]) -> tuple[Transformer, Places]:
    """A Transformer like `model` with adapters by their numbers, and where it is told which texts have which."""
    places, twin = Places(), twin_of(model)
    for path in dict.fromkeys(path for each in ranks.values() for path in each):
        parent_path, _, leaf = path.rpartition(".")
        parent = twin.get_submodule(parent_path)
        held = {number: each[path] for number, each in ranks.items() if path in each}
        parent._modules[leaf] = Several(parent.get_submodule(leaf), held, places)
    return twin, places
