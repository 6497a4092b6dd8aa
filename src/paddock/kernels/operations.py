"""Every operation a model is made of. Each runs at once in PyTorch, runs natively on packed matrices, or is recorded.

x is            the matrix is     what happens
a Tensor        a Tensor          reference.py; for a gradient gradients.py and gradients_products.py, if they can
a Tensor        Packed            the native kernel, at once; for a gradient gradients_packed.py
Recorded        either            noted in the recording's program
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from paddock.kernels import gradients, gradients_adapted, gradients_packed, gradients_products, reference
from paddock.kernels.gradients_adapted import Part
from paddock.kernels.packed import Packed
from paddock.kernels.record import Ids, Recorded, Zeros


def embed(ids: Tensor, table: Tensor | Packed) -> Tensor:
    """Ids (...) and a table (rows, width) to rows (..., width)."""
    if isinstance(ids, Ids | Zeros):
        return ids.tape.embed(ids, table)  # type: ignore[return-value]
    return table.take(ids) if isinstance(table, Packed) else reference.embed(ids, table)


def linear(x: Tensor, weight: Tensor | Packed, bias: Tensor | None) -> Tensor:
    """(..., in) and (out, in) to (..., out)."""
    if isinstance(x, Recorded):
        return x.tape.linear(x, weight, bias)
    if isinstance(weight, Packed):
        return gradients_packed.linear(x, weight, bias) if gradients_packed.wanted(x, bias) else weight.linear(x, bias)
    return reference.linear(x, weight, bias)


def linears(x: Tensor, weights: Sequence[Tensor | Packed], biases: Sequence[Tensor | None]) -> Sequence[Tensor]:
    """`linear` of one x and several matrices; in training one product."""
    if not isinstance(x, Recorded) and gradients_products.multiplies(x, weights, biases):
        return gradients_products.linears(x, weights, biases)  # type: ignore[arg-type]
    return [linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True)]


def add_ranks(y: Tensor, x: Tensor, ranks: Mapping[int, Any]) -> Tensor:
    """In a recording: onto y, which a linear has just made of x, what the adapter of each row adds (`Tape.adapt`)."""
    assert isinstance(y, Recorded) and isinstance(x, Recorded)
    return y.tape.adapt(y, x, ranks)


def adapts(x: Tensor, parts: Sequence[Part]) -> bool:
    """Whether `adapted` takes these: a gradient is asked for, and not of the matrices."""
    return not isinstance(x, Recorded) and gradients_adapted.adapts(x, parts)


def adapted(x: Tensor, parts: Sequence[Part]) -> Sequence[Tensor]:
    """Linears of one x that stay as they are, each with what an adapter adds to it; formula in gradients_adapted.py."""
    return gradients_adapted.adapted(x, parts)


def rms_norm(x: Tensor, weight: Tensor, eps: float, narrow: bool = False) -> Tensor:
    """RMSNorm over the last axis. `narrow`: only matrix products read it, so what those compute in is wide enough."""
    if isinstance(x, Recorded):
        return x.tape.norm(x, weight, None, eps, rms=True)
    if gradients.norms(x, weight, None):
        return gradients.norm(x, weight, None, eps, rms=True, narrow=narrow)
    return reference.rms_norm(x, weight, eps)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, narrow: bool = False) -> Tensor:
    """LayerNorm over the last axis; weight and bias are of its length. `narrow` as of `rms_norm`."""
    if isinstance(x, Recorded):
        return x.tape.norm(x, weight, bias, eps, rms=False)
    if gradients.norms(x, weight, bias):
        return gradients.norm(x, weight, bias, eps, rms=False, narrow=narrow)
    return reference.layer_norm(x, weight, bias, eps)


def activate(kind: str, x: Tensor) -> Tensor:
    """One of ACTIVATIONS, number by number."""
    if isinstance(x, Recorded):
        return x.tape.activate(kind, x)
    return gradients.gate(kind, x, None) if gradients.gates(kind, x, None) else reference.ACTIVATIONS[kind](x)


def gate(kind: str, gate: Tensor, up: Tensor) -> Tensor:
    """activation(gate) * up."""
    if isinstance(gate, Recorded):
        return gate.tape.gate(kind, gate, up)
    if gradients.gates(kind, gate, up):
        return gradients.gate(kind, gate, up)
    return reference.ACTIVATIONS[kind](gate) * up


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, first: int = 0) -> Tensor:
    """Turns pairs of features by the angles of each token, from feature `first` on; shapes in `reference.rotate`."""
    if isinstance(x, Recorded):
        return x.tape.rotate(x, cos, interleaved, first)
    if first:
        return torch.cat((x[..., :first], rotate(x[..., first:], cos, sin, interleaved)), dim=-1)
    if gradients.rotates(x, cos, sin):
        return gradients.rotate(x, cos, sin, interleaved)
    return reference.rotate(x, cos, sin, interleaved)


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Any, causal: bool, scale: float, starts: Tensor | None = None
) -> Tensor:
    """Softmax attention; shapes and what `bias` may be in `reference.attend`."""
    if isinstance(q, Recorded):
        return q.tape.attend(q, k, bias, scale)
    if gradients.attends(q, k, v, bias, causal, starts):
        return gradients.attend(q, k, v, causal, scale, starts)
    return reference.attend(q, k, v, bias, causal, scale, starts)


def mixture(x: Tensor, scores: Tensor, active: int, experts: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """Each row of x (..., width) through the `active` experts that its scores (..., experts) are highest for."""
    if isinstance(x, Recorded):
        return x.tape.mixture(x, scores, active, experts)
    return reference.mixture(x, scores, active, experts)


def cross_entropy(x: Tensor, weight: Tensor | Packed, bias: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
    """What the vocabulary's logits of x say about targets, without the logits ever being whole in memory; shapes and
    results in `reference.cross_entropy`."""
    if gradients_products.enters(x, weight, bias, targets):
        return gradients_products.cross_entropy(x, weight, bias, targets)
    if isinstance(weight, Packed):
        weight = weight.dense(gradients.narrow_type(x))
    return reference.cross_entropy(x, weight, bias, targets)
