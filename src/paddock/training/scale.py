"""What training costs, in closed form: parameters, operations.

Everything here follows from an `Architecture` and a few sizes, without building a model, so that the same formulas tell
a running trainer its share of the machine's speed and a reader what a model too large for this machine would need.
"""

from __future__ import annotations

from paddock.model.spec import (
    Architecture,
    Attention,
    Block,
    Buckets,
    Causal,
    Experts,
    FeedForward,
    LayerNorm,
    Learned,
    Norm,
)


def parameters(architecture: Architecture) -> int:
    """How many numbers are learned; tied ones count once."""
    return _tables(architecture) + _rest(architecture)


def multiplied(architecture: Architecture) -> int:
    """The numbers of the matrices that one token is multiplied with: of experts the active ones, the head, no table.

    Without those of the encoder, which reads other tokens.
    """
    width = architecture.width
    total = sum(_multiplied_in(block, architecture) for block in architecture.layers)
    if architecture.head is not None:
        total += architecture.vocabulary * width
        total += width * width if architecture.head.transform is not None else 0
    return total


def flops_per_token(architecture: Architecture, length: int, source: int | None = None) -> float:
    """Floating-point operations that training needs for each token of texts of `length` tokens: forward and backward.

    Two for each number of a matrix in the forward pass and four in the backward pass, and the same for attention's
    scores and sums over the keys a token sees (arXiv 2204.02311, appendix B, which counts keys that a causal mask hides
    too; here they do not count). Recomputed activations count once, as in MFU. `source`: tokens that an encoder reads
    for each text, `length` if not said; its share is put on the decoder's tokens.
    """
    total = 6.0 * multiplied(architecture)
    for block in architecture.layers:
        total += 12.0 * _features(block.attention) * _keys(architecture, block.attention, length)
    if architecture.encoder is None:
        return total
    read = length if source is None else source
    total += flops_per_token(architecture.encoder, read) * read / length
    for block in architecture.layers:
        if block.cross is not None:  # keys and values of the source are made once for each of its tokens
            made = 2 * block.cross.kv_heads * block.cross.head_dim * architecture.encoder.width
            total += 6.0 * made * read / length + 12.0 * _features(block.cross) * read
    return total


def _keys(architecture: Architecture, attention: Attention, length: int) -> float:
    """How many keys a token sees on average."""
    if not isinstance(architecture.mask, Causal):
        return float(length)
    window = min(attention.window or length, length)
    return (window * (window + 1) / 2 + (length - window) * window) / length


def _features(attention: Attention) -> int:
    return attention.heads * attention.head_dim


def _multiplied_in(block: Block, architecture: Architecture) -> int:
    width, attention = architecture.width, block.attention
    total = 2 * width * (_features(attention) + attention.kv_heads * attention.head_dim)
    if block.cross is not None:  # its keys and values are made of other tokens
        total += 2 * width * _features(block.cross)
    if isinstance(block.feedforward, Experts):
        return (
            total
            + width * block.feedforward.count
            + block.feedforward.active * _matrices(block.feedforward.each, width)
        )
    return total + _matrices(block.feedforward, width)


def _matrices(part: FeedForward, width: int) -> int:
    return (3 if part.gated else 2) * width * part.hidden


def _tables(architecture: Architecture) -> int:
    """What is looked up by token, position, segment or distance."""
    part, position = architecture.embedding, architecture.layer(0).attention.position
    rows = architecture.vocabulary + part.segments
    rows += part.positions.count if isinstance(part.positions, Learned) else 0
    distances = position.count * architecture.layer(0).attention.heads if isinstance(position, Buckets) else 0
    return rows * architecture.width + distances


def _rest(architecture: Architecture) -> int:
    width, head, pooler = architecture.width, architecture.head, architecture.pooler
    total = sum(_block(block, architecture) for block in architecture.layers)
    total += _norm(architecture.embedding.norm, width) + _norm(architecture.final_norm, width)
    if head is not None:
        total += 0 if head.tied else architecture.vocabulary * width
        total += architecture.vocabulary if head.bias else 0
        total += width * width + width + _norm(head.transform.norm, width) if head.transform is not None else 0
    if pooler is not None:
        outputs = width + pooler.labels + (2 if pooler.next_sentence else 0)
        total += outputs * (width + 1)
    if architecture.encoder is not None:
        shared = architecture.vocabulary * width if architecture.shared_embedding else 0
        total += parameters(architecture.encoder) - shared
    return total


def _block(block: Block, architecture: Architecture) -> int:
    width = architecture.width
    total = _attention(block.attention, width, width)
    norms = 1 if block.shared_norm else 2
    if block.cross is not None:
        assert architecture.encoder is not None, "cross-attention needs an encoder"
        total += _attention(block.cross, width, architecture.encoder.width)
        norms += 1
    total += norms * _norm(block.norm, width)
    if isinstance(block.feedforward, Experts):
        return (
            total
            + width * block.feedforward.count
            + block.feedforward.count * _feedforward(block.feedforward.each, width)
        )
    return total + _feedforward(block.feedforward, width)


def _attention(part: Attention, width: int, memory: int) -> int:
    own, kept = _features(part), part.kv_heads * part.head_dim
    biases = (own + 2 * kept if part.qkv_bias else 0) + (width if part.out_bias else 0)
    return 2 * width * own + 2 * memory * kept + biases


def _feedforward(part: FeedForward, width: int) -> int:
    biases = width + part.hidden * (2 if part.gated else 1) if part.bias else 0
    return _matrices(part, width) + biases


def _norm(part: Norm | None, width: int) -> int:
    if part is None:
        return 0
    return 2 * width if isinstance(part, LayerNorm) and part.bias else width
