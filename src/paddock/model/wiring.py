"""How norms, sublayers and residuals meet. A block is a list of (norm, sublayer) pairs and one of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Pairs = Sequence[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]


def pre(x: Tensor, pairs: Pairs, scale: float) -> Tensor:
    """LLaMA, GPT-2, BLOOM, MPT, T5: normalise on the way in."""
    for norm, sublayer in pairs:
        x = x + sublayer(norm(x))
    return x


def post(x: Tensor, pairs: Pairs, scale: float) -> Tensor:
    """BERT and the original Transformer: normalise the sum."""
    for norm, sublayer in pairs:
        x = norm(x + sublayer(x))
    return x


def parallel(x: Tensor, pairs: Pairs, scale: float) -> Tensor:
    """Pythia, Falcon, CodeGen: all sublayers read the same x; a norm that they share is computed once."""
    total, last, normed = x, None, x
    for norm, sublayer in pairs:
        if norm is not last:
            last, normed = norm, norm(x)
        total = total + sublayer(normed)
    return total


def deepnorm(x: Tensor, pairs: Pairs, scale: float) -> Tensor:
    """ChatGLM-6B: the residual is the *normalised* value, times alpha; post-norm DeepNorm seen one norm later."""
    for norm, sublayer in pairs:
        normed = norm(x)
        x = scale * normed + sublayer(normed)
    return x


WIRINGS = {"pre": pre, "post": post, "parallel": parallel, "deepnorm": deepnorm}
