"""First weights: drawn from a seed and each parameter's own name, so that adding a part changes no other.

    family                    matrices                                             onto the residual (out, down)
    gpt2, llama and others    normal, initializer_range (0.02)                     / sqrt(2 layers)  (GPT-2)
    gpt_neox                  normal, sqrt(2 / (5 width))  (small init)            normal, 2 / (layers sqrt(width))
    mpt                       normal, sqrt(2 / inputs)  (Kaiming)                  / sqrt(2 layers)
    bert                      normal, initializer_range, cut at twice that         the same
    chatglm                   Glorot normal; v, out, up and down / sqrt(2 layers)  (GLM-130B, arXiv 2210.02414)
    t5                        normal, 1 / sqrt(inputs); q / sqrt(head_dim) beside  the same (initializer_factor)
    marian, transformer       Glorot uniform; tables normal, 1 / sqrt(width)       the same

Norms begin as ones, biases as zeros. Sources: the papers and published training settings; where a family's own are not
known (Falcon, BLOOM's sizes, LLaMA), GPT-2's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from paddock.errors import CheckpointError
from paddock.model.spec import Architecture
from paddock.model.transformer import Norm, Transformer

RESIDUAL = ("out", "down")
TABLES = ("tokens", "positions", "segments", "head")
# Rough bounds: anything outside is a slip of the pen.
LARGEST = 10.0

Draw = Callable[[Tensor, torch.Generator], None]  # fills a matrix
First = Callable[[str], Tensor]  # a parameter's first weights, by its name


def initialise(
    model: Transformer,
    seed: int,
    config: Mapping[str, Any] | None = None,
    deviation: float | None = None,
    only: Collection[str] | None = None,
) -> Transformer:
    """Fills every parameter as the model's family was begun (the table above). In place; gives the model back.

    `config`: the model's config.json, whose initializer_range (T5: initializer_factor) counts where the table names it.
    `deviation`: a normal one for everything instead, smaller by sqrt(2 * layers) onto the residual. `only`: the names
    of the parameters that are filled, each as it would be among all; None for every one.
    Raises CheckpointError for a range that is no positive number.
    """
    fill = _filling(model, seed, config, deviation)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if only is None or name in only:
                fill(name, parameter)
    return model


def first_weights(model: Transformer, seed: int, config: Mapping[str, Any] | None = None) -> First:
    """What `initialise` fills in, a parameter at a time by its name, for a model that no process may have room for.

    `model` may be on the meta device, and must not be cut up yet: names and shapes are noted here. Float32, on the CPU.
    """
    fill = _filling(model, seed, config, None)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}

    def first(name: str) -> Tensor:
        with torch.no_grad():
            weight = torch.empty(shapes[name])
            fill(name, weight)
        return weight

    return first


def _filling(
    model: Transformer, seed: int, config: Mapping[str, Any] | None, deviation: float | None
) -> Callable[[str, Tensor], None]:
    """What fills a parameter of `model`, given by its name, in place."""
    norms = {
        f"{path}.{leaf}"
        for path, module in model.named_modules()
        if isinstance(module, Norm)
        for leaf, _ in module.named_parameters()
    }
    draws: dict[str, Draw | float] = {}
    for name, parameter in model.named_parameters():
        if name in norms or name.endswith(".bias"):
            draws[name] = 0.0 if name.endswith(".bias") else 1.0
        else:
            draws[name] = _plan(model.architecture, name, parameter, config or {}, deviation)

    def fill(name: str, parameter: Tensor) -> None:
        how = draws[name]
        if isinstance(how, float):
            parameter.fill_(how)
        else:
            how(parameter, drawn(seed, name))

    return fill


def blank(model: Transformer) -> Transformer:
    """The same model with room for its numbers, from one on the meta device."""
    return model.to_empty(device="cpu")


def _plan(a: Architecture, name: str, matrix: Tensor, config: Mapping[str, Any], deviation: float | None) -> Draw:
    """How one matrix is drawn, by the family and the matrix's role."""
    role = name.split(".")[-2]
    stack = a.encoder if name.startswith("encoder.") and a.encoder is not None else a
    shrink = 1 / math.sqrt(2 * stack.blocks) if role in RESIDUAL else 1.0
    rows, columns = matrix.shape
    if deviation is not None:
        return _normal(deviation * shrink)
    match a.family:
        case "gpt_neox":
            wang = 2 / (stack.blocks * math.sqrt(a.width))
            return _normal(wang if role in RESIDUAL else math.sqrt(2 / (5 * a.width)))
        case "mpt":
            return _normal(math.sqrt(2 / columns) * shrink)
        case "bert":
            return _cut(_range(config, "initializer_range", 0.02))
        case "chatglm" if role not in TABLES:
            calm = 1 / math.sqrt(2 * stack.blocks) if role in ("v", "out", "up", "down") else 1.0
            return _normal(calm * math.sqrt(2 / (rows + columns)))
        case "t5":
            return _normal(_range(config, "initializer_factor", 1.0) * _t5(role, stack, columns))
        case "marian" | "transformer":
            return _normal(a.width**-0.5) if role in TABLES else _glorot
    return _normal(_range(config, "initializer_range", 0.02) * shrink)


def _t5(role: str, stack: Architecture, columns: int) -> float:
    """Scores are not scaled in T5, so its queries begin smaller by what would scale them."""
    match role:
        case "tokens" | "head":
            return 1.0
        case "q":
            return (stack.width * stack.layer(0).attention.head_dim) ** -0.5
        case "relative_bias":
            return stack.width**-0.5
    return columns**-0.5


def _range(config: Mapping[str, Any], name: str, usual: float) -> float:
    """What config.json says of the deviation."""
    found = usual if config.get(name) is None else config[name]
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= LARGEST:
        raise CheckpointError(f"config.json: {name} is {str(found)[:40]!r}", expected=f"a number up to {LARGEST:g}")
    return float(found)


def _normal(deviation: float) -> Draw:
    return lambda matrix, random: matrix.normal_(0.0, deviation, generator=random)  # type: ignore[return-value]


def _cut(deviation: float) -> Draw:
    """Normal, and nothing further out than two deviations (BERT's truncated normal)."""

    def draw(matrix: Tensor, random: torch.Generator) -> None:
        edge = math.erf(2 / math.sqrt(2))
        matrix.uniform_(-edge, edge, generator=random).erfinv_().mul_(deviation * math.sqrt(2))

    return draw


def _glorot(matrix: Tensor, random: torch.Generator) -> None:
    """Uniform, of variance 2 / (inputs + outputs) (Glorot and Bengio 2010)."""
    edge = math.sqrt(6 / sum(matrix.shape))
    matrix.uniform_(-edge, edge, generator=random)


def drawn(seed: int, name: str) -> torch.Generator:
    """The random numbers of one parameter, from the seed and its name alone."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
