"""What training costs, in closed form: parameters, operations, memory, messages.

Everything here follows from an `Architecture` and a few sizes, without building a model, so that the same formulas tell
a running trainer its share of the machine's speed and a reader what a model too large for this machine would need.
"""

from __future__ import annotations

from dataclasses import dataclass

from paddock.model.spec import (
    Architecture,
    Attention,
    Block,
    Buckets,
    Causal,
    Experts,
    FeedForward,
    LastToken,
    LayerNorm,
    Learned,
    Norm,
)


def parameters(architecture: Architecture) -> int:
    """How many numbers are learned; tied ones count once."""
    return _tables(architecture) + _rest(architecture)


def active_parameters(architecture: Architecture) -> int:
    """What one token passes through: every parameter but those of the experts it is not sent to."""
    idle = 0
    for block in architecture.layers:
        if isinstance(part := block.feedforward, Experts):
            idle += (part.count - part.active) * _feedforward(part.each, architecture.width)
    if architecture.encoder is not None:
        idle += parameters(architecture.encoder) - active_parameters(architecture.encoder)
    return parameters(architecture) - idle


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


@dataclass(frozen=True)
class Sharing:
    """How `devices` share a model: each matrix in `tensor` parts, the rest of them each a share of the batch.

    shards: whether weights, gradients and moments lie in parts over those too (FSDP), or whole (DDP).
    """

    devices: int
    tensor: int = 1
    shards: bool = True

    @property
    def data(self) -> int:
        return self.devices // self.tensor


@dataclass(frozen=True)
class Piece:
    """What goes through a model at once: rows of `length` tokens. recompute: only blocks' inputs are kept."""

    rows: int
    length: int
    recompute: bool = True


@dataclass(frozen=True)
class Memory:
    """Bytes on one device. state: weights, gradients and AdamW's two moments, in float32. working: weights as they are
    multiplied and gradients as they are sent. activations: what the backward pass needs, and one chunk of logits."""

    state: float
    working: float
    activations: float

    @property
    def total(self) -> float:
        return self.state + self.working + self.activations


@dataclass(frozen=True)
class Traffic:
    """Bytes that one device sends for each step, to those of other rows (data) and of the same ones (tensor)."""

    data: float
    tensor: float


STATE, FLOAT32, BFLOAT16 = 16, 4, 2  # bytes; STATE: weight, gradient, two moments
LOGITS = 3 * FLOAT32 * 2**22  # bytes of one chunk of the loss: logits, their softmax, its gradient


def memory(architecture: Architecture, sharing: Sharing, piece: Piece) -> Memory:
    """What one device holds at the peak of a step in bfloat16 with float32 weights, of a model without an encoder."""
    here, block, root = _held(architecture, sharing)
    if sharing.shards and sharing.data > 1:
        # Two blocks (the next one is on its way), what is outside of blocks, and the gradients of one, to be sent.
        working = BFLOAT16 * (2 * block + root) + FLOAT32 * max(block, root)
        state = STATE * here / sharing.data
    else:
        # A copy to multiply with; the messages of all gradients.
        working = BFLOAT16 * here + (FLOAT32 * here if sharing.data > 1 else 0)
        state = STATE * here
    tokens, width = piece.rows * piece.length, architecture.width
    each = [BFLOAT16 * tokens * _kept(layer, width, sharing.tensor) for layer in architecture.layers]
    inputs = BFLOAT16 * tokens * width * architecture.blocks
    return Memory(state, working, LOGITS + (inputs + max(each) if piece.recompute else sum(each)))


def traffic(architecture: Architecture, sharing: Sharing, piece: Piece, pieces: int) -> Traffic:
    """What one device sends in a step of `pieces` micro-batches, by rings: (n - 1) / n of a message of n parts.

    DDP sums float32 gradients once a step. FSDP gathers each block in bfloat16 for both passes of each micro-batch, the
    rest once, and scatters the sums of the last. Tensor parallelism sums each sublayer's output and its input's
    gradient, and outputs once more where they are recomputed; what the token table gives, and the gradient of what the
    head is given (of the loss itself, three numbers a token, which are left out).
    """
    here, _, root = _held(architecture, sharing)
    ring = (sharing.data - 1) / sharing.data
    if sharing.shards:
        data = ring * (pieces * BFLOAT16 * (2 * (here - root) + root) + FLOAT32 * here)
    else:
        data = 2 * ring * FLOAT32 * here
    sums = 2 * architecture.blocks * (3 if piece.recompute else 2) + 2
    message = BFLOAT16 * piece.rows * piece.length * architecture.width
    return Traffic(data, pieces * sums * 2 * (sharing.tensor - 1) / sharing.tensor * message)


def seconds(architecture: Architecture, length: int, tokens: float, devices: int, flops: float, share: float) -> float:
    """How long `devices` of `flops` operations a second need for `tokens`, at a `share` of it that training uses."""
    return flops_per_token(architecture, length) * tokens / (devices * flops * share)


def _held(architecture: Architecture, sharing: Sharing) -> tuple[float, float, float]:
    """Parameters of one device before they are sharded: all, of the largest block, and outside of blocks."""
    blocks = [
        _block(layer, architecture) - _cut(layer, architecture.width) * (1 - 1 / sharing.tensor)
        for layer in architecture.layers
    ]
    root = parameters(architecture) - sum(_block(layer, architecture) for layer in architecture.layers)
    outside = root - _vocabulary(architecture) * (1 - 1 / sharing.tensor)
    return outside + sum(blocks), max(blocks), outside


def _vocabulary(architecture: Architecture) -> int:
    """The numbers outside of blocks that tensor parallelism divides: the token table and the head, by rows."""
    head = architecture.head
    columns = architecture.width
    if head is not None:
        columns += (0 if head.tied else architecture.width) + bool(head.bias)
    return architecture.vocabulary * columns


def _cut(block: Block, width: int) -> int:
    """The numbers of a block that tensor parallelism divides: its matrices, without the router."""
    part, attention = block.feedforward, block.attention
    if isinstance(part, Experts):
        fed = part.count * _matrices(part.each, width)
    else:
        fed = _matrices(part, width)
    return 2 * width * (_features(attention) + attention.kv_heads * attention.head_dim) + fed


def _kept(block: Block, width: int, tensor: int) -> float:
    """Numbers that a block keeps for each token: residual and its norm twice, q, k, v, what attention gives, and the
    feed-forward's inputs to each product."""
    attention, part = block.attention, block.feedforward
    inner = 2 * _features(attention) + 2 * attention.kv_heads * attention.head_dim
    each = part.each if isinstance(part, Experts) else part
    active = part.active if isinstance(part, Experts) else 1
    return 4 * width + (inner + active * (4 if each.gated else 2) * each.hidden) / tensor


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
    if isinstance(pooler, LastToken):
        total += pooler.labels * width
    elif pooler is not None:
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
