"""Every operation the models are made of, in plain PyTorch. What a faster kernel must equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def embed(ids: Tensor, table: Tensor) -> Tensor:
    """Ids (...) and a table (rows, width) to rows (..., width)."""
    return F.embedding(ids, table)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(..., in) and (out, in) to (..., out)."""
    return F.linear(x, weight, bias)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last axis, in float32; cast back before the weight, as LLaMA does."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """LayerNorm (arXiv 1607.06450) over the last axis; weight and bias are of its length."""
    return F.layer_norm(x, (x.shape[-1],), weight, bias, eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Turns pairs of features of `x` (batch, heads, tokens, head_dim) by the angles of each token.

    cos, sin: (batch, 1, tokens, width / 2), float32; features past `width` are left alone.
    Computed in the type of `x`, as the published models do.
    """
    width = 2 * cos.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    if interleaved:
        even, odd = turned[..., 0::2], turned[..., 1::2]
        pair = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
        turned = pair.flatten(-2)
    else:
        first, second = turned.chunk(2, dim=-1)
        turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned if rest.shape[-1] == 0 else torch.cat((turned, rest), dim=-1)


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool, scale: float, starts: Tensor | None = None
) -> Tensor:
    """Softmax attention: q (batch, heads, queries, d) over k, v (batch, kv_heads, keys, d) to q's shape.

    `bias` is boolean (True = may be seen) or added to the scaled scores; `causal` says that queries and keys are the
    same tokens and each sees itself and earlier ones, which kernels do without a tensor. `starts` (batch, queries) goes
    with `causal`: a query sees no key before that one (documents that share a row).
    """
    if starts is not None:
        keys = torch.arange(k.shape[2], device=q.device)
        bias = ((keys >= starts[:, :, None]) & (keys <= keys[:, None])).unsqueeze(1)
        causal = False
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal, scale=scale, enable_gqa=grouped)


LOGITS_AT_ONCE = 2**22  # numbers: a chunk of float32 logits of this many is 16 MiB


def cross_entropy(x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(losses, log_sums), each (rows,): -log softmax(x W^T + b)[target] and log sum exp of a row.

    x (rows, width), weight (vocabulary, width), targets (rows,); results are float32, or float64 if x is. Rows go
    through in chunks, and a chunk's logits are computed again in the backward pass, so that no more than LOGITS_AT_ONCE
    of them are ever held.
    """
    rows = max(1, LOGITS_AT_ONCE // weight.shape[0])
    pieces = zip(x.split(rows), targets.split(rows), strict=True)
    parts = [checkpoint(_row_losses, piece, weight, bias, part, use_reentrant=False) for piece, part in pieces]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _row_losses(x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits = F.linear(x, weight, bias)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    log_sums = logits.logsumexp(-1)
    return log_sums - logits.gather(1, targets[:, None]).squeeze(1), log_sums


def mixture(x: Tensor, scores: Tensor, active: int, experts: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """Sparse experts (Mixtral, arXiv 2401.04088): x (..., width), scores (..., experts) to x's shape.

    The softmax is over all experts in float32; the weights of the `active` highest are then divided by their sum.
    """
    flat = x.flatten(0, -2)
    weights, chosen = scores.flatten(0, -2).float().softmax(-1).topk(active, dim=-1)
    weights = (weights / weights.sum(-1, keepdim=True)).to(x.dtype)
    result = torch.zeros_like(flat)
    for number in chosen.unique().tolist():
        rows, rank = (chosen == number).nonzero(as_tuple=True)
        result.index_add_(0, rows, experts[number](flat[rows]) * weights[rows, rank, None])
    return result.view_as(x)
