"""The vocabulary a model is described in: frozen values, no tensors, nothing imported from PyTorch.

    Architecture
    ├── embedding   Embedding(positions, segments, norm, scale)
    ├── block       Block, or one Block per layer where layers differ
    │   ├── attention    Attention(heads, kv_heads, head_dim, position, ...)
    │   ├── cross        Attention over the encoder's output
    │   ├── feedforward  FeedForward, or Experts of them
    │   ├── norm         RMSNorm | LayerNorm
    │   └── wiring       how norms, sublayers and residuals meet: pre, post, parallel, deepnorm
    ├── mask        Causal | Full | Prefix: who may see whom
    ├── head        Head (token logits), pooler (one vector, or class scores, per text)
    └── encoder     an Architecture of its own, for encoder-decoders

*Position* is what an encoding sees, *slot* is where the cache keeps a token; no part here knows about slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from paddock.model.rotary import DynamicScaling, FactorScaling, Scaling
from paddock.model.rotary import LinearScaling as LinearScaling
from paddock.model.rotary import Llama3Scaling as Llama3Scaling
from paddock.model.rotary import PowerScaling as PowerScaling
from paddock.model.rotary import TruncatedScaling as TruncatedScaling
from paddock.model.rotary import YarnScaling as YarnScaling
from paddock.model.rotary import require as _require

Activation = Literal["relu", "silu", "gelu", "gelu_tanh"]
Wiring = Literal["pre", "post", "parallel", "deepnorm"]


@dataclass(frozen=True)
class RMSNorm:
    """x / rms(x) * weight, computed in float32 and cast back before the weight is applied (LLaMA's order)."""

    eps: float


@dataclass(frozen=True)
class LayerNorm:
    """(x - mean) / sqrt(variance + eps) * weight + bias (arXiv 1607.06450)."""

    eps: float
    bias: bool = True


Norm = RMSNorm | LayerNorm


@dataclass(frozen=True)
class Rope:
    """Rotary positions (arXiv 2104.09864) on the first `width` features of a head.

    Half rotation pairs feature i with i + width/2 (Hugging Face's layout); `interleaved` pairs 2i with 2i + 1.
    """

    theta: float
    width: int
    interleaved: bool = False
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        least = 4 if isinstance(self.scaling, DynamicScaling) else 2
        right = self.width >= least and self.width % 2 == 0
        _require(right, f"{self.width} features of a head rotate", f"an even number from {least}")
        _require(self.theta > 1, f"the rotary base is {self.theta}", "more than 1")
        if isinstance(self.scaling, FactorScaling):
            found = len(self.scaling.factors)
            _require(found == self.width // 2, f"{found} rotary factors", f"one for each of {self.width // 2} pairs")


@dataclass(frozen=True)
class Rope2D:
    """ChatGLM-6B: the first half of a head turns by position stream one, the second by stream two.

    `half_tables` computes angles in float16 as the published code did; float32 angles are truer but not bit-equal.
    """

    theta: float
    width: int
    half_tables: bool = False

    def __post_init__(self) -> None:
        _require(self.width >= 2 and self.width % 2 == 0, f"half a head of {self.width} features", "an even number")


@dataclass(frozen=True)
class Alibi:
    """Linear distance penalties (arXiv 2108.12409), slopes from 2^(-bias_max / heads) down.

    `before_scale`: the bias is divided by sqrt(head_dim) together with the scores (Falcon-RW).
    `rounded`: slopes, absolute key positions and their product are rounded to bfloat16, as Falcon-RW was trained.
    """

    bias_max: float = 8.0
    before_scale: bool = False
    rounded: bool = False


@dataclass(frozen=True)
class Buckets:
    """T5: a learned bias per head and bucket of distance, one table for all layers of a stack."""

    count: int
    max_distance: int
    both_ways: bool

    def __post_init__(self) -> None:
        _require(self.exact >= 1, f"{self.count} buckets of distance", "at least 2, and 4 where both ways count")
        _require(
            self.max_distance > self.exact, f"a largest distance of {self.max_distance}", f"more than {self.exact}"
        )

    @property
    def exact(self) -> int:
        """How many of the nearest distances have a bucket of their own, each way."""
        return self.count // (4 if self.both_ways else 2)


Position = Rope | Rope2D | Alibi | Buckets


@dataclass(frozen=True)
class Attention:
    """Scaled dot products (arXiv 1706.03762); several query heads may share a key-value head (arXiv 2305.13245).

    Weights: q (heads * head_dim, width), k and v (kv_heads * head_dim, width), out (width, heads * head_dim).
    """

    heads: int
    kv_heads: int
    head_dim: int
    position: Position | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    window: int | None = None  # a query sees this many latest keys, itself included
    scale: float | None = None  # what scores are multiplied by; 1/sqrt(head_dim) if None
    clip: float | None = None  # q, k, v clamped to [-clip, clip] (MPT's clip_qkv)

    def __post_init__(self) -> None:
        _require(min(self.heads, self.kv_heads, self.head_dim) > 0, f"{self.heads} heads of {self.head_dim}", "some")
        _require(
            self.heads % self.kv_heads == 0,
            f"{self.heads} query heads cannot share {self.kv_heads} key-value heads",
            "heads to be a multiple of kv_heads",
        )
        turned = self.position.width if isinstance(self.position, Rope) else 0
        turned = 2 * self.position.width if isinstance(self.position, Rope2D) else turned
        _require(turned <= self.head_dim, f"{turned} features rotate", f"at most {self.head_dim}, a head's")

    @property
    def multiplier(self) -> float:
        return self.head_dim**-0.5 if self.scale is None else self.scale


@dataclass(frozen=True)
class FeedForward:
    """down(activation(up x)), or down(activation(gate x) * up x) if gated."""

    hidden: int
    activation: Activation
    gated: bool
    bias: bool = False


@dataclass(frozen=True)
class Experts:
    """A router picks `active` of `count` feed-forwards per token; their softmax weights are made to sum to 1."""

    count: int
    active: int
    each: FeedForward

    def __post_init__(self) -> None:
        _require(0 < self.active <= self.count, f"{self.active} active experts", f"from 1 to {self.count}, all of them")


@dataclass(frozen=True)
class Block:
    """One layer: sublayers, each with a norm of its own kind `norm`, joined as `wiring` says."""

    attention: Attention
    feedforward: FeedForward | Experts
    norm: Norm
    wiring: Wiring = "pre"
    shared_norm: bool = False  # parallel wiring with one norm for both sublayers (Falcon-7B, CodeGen)
    cross: Attention | None = None
    residual_scale: float = 1.0  # deepnorm's alpha


@dataclass(frozen=True)
class Learned:
    """A table of absolute positions."""

    count: int


@dataclass(frozen=True)
class Sinusoidal:
    """Fixed waves. Sines and cosines alternate (the paper) or fill a half each (tensor2tensor, Marian).

    `inclusive`: wavelengths end exactly at 10,000 · 2π (divisor width/2 - 1, tensor2tensor) instead of just below.
    """

    interleaved: bool = False
    inclusive: bool = False
    start: int = 0  # the first token's position


@dataclass(frozen=True)
class Embedding:
    """Token ids to vectors: token * scale + position + segment, then the norm."""

    positions: Learned | Sinusoidal | None = None
    segments: int = 0  # BERT's sentence A/B table
    norm: Norm | None = None  # right after lookup (BLOOM, BERT)
    scale: float = 1.0  # what token vectors are multiplied by (the original Transformer: sqrt(width))


@dataclass(frozen=True)
class Causal:
    """A token sees itself and what came before."""


@dataclass(frozen=True)
class Full:
    """All tokens see each other."""


@dataclass(frozen=True)
class Prefix:
    """ChatGLM-6B: everything before the start token sees each other; the start token and later are causal.

    The prompt must hold one of `mask_tokens` (the first kind that is there counts) and then `start_token`; positions
    are counted from them (Rope2D).
    """

    mask_tokens: tuple[int, ...]
    start_token: int


Mask = Causal | Full | Prefix


@dataclass(frozen=True)
class Transform:
    """BERT's masked-token head: dense, activation, norm before the vocabulary."""

    activation: Activation
    norm: Norm


@dataclass(frozen=True)
class Head:
    """Hidden states to token logits. `scale` multiplies the logits (T5: width^-0.5, MPT: logit_scale)."""

    tied: bool
    bias: bool = False
    scale: float = 1.0
    transform: Transform | None = None


@dataclass(frozen=True)
class Pooler:
    """tanh(dense(first token)), then `labels` class scores if there are any.

    `next_sentence`: BERT's two scores for "B follows A", kept beside the masked-token head it was pre-trained with.
    """

    labels: int = 0
    next_sentence: bool = False


@dataclass(frozen=True)
class LastToken:
    """`labels` class scores of the last token's vector, without a bias: how decoders classify (`score` in their files).

    It takes the place of the head over the vocabulary.
    """

    labels: int


@dataclass(frozen=True)
class Architecture:
    """What a model is. Two equal values are the same function of their weights."""

    family: str
    vocabulary: int
    width: int
    blocks: int
    block: Block | tuple[Block, ...]
    context: int | None  # the longest text it was made for; None where only memory limits it
    embedding: Embedding = Embedding()
    final_norm: Norm | None = None
    mask: Mask = Causal()
    head: Head | None = None
    pooler: Pooler | LastToken | None = None
    encoder: Architecture | None = None
    shared_embedding: bool = False  # the encoder reads the decoder's token table

    def __post_init__(self) -> None:
        described = len(self.block) if isinstance(self.block, tuple) else self.blocks
        _require(described == self.blocks, f"{described} layers are described", f"{self.blocks}")
        if self.encoder is not None and self.shared_embedding:
            found = (self.encoder.vocabulary, self.encoder.width)
            what = f"a shared table of {found[0]} tokens and width {found[1]}"
            _require(found == (self.vocabulary, self.width), what, f"{self.vocabulary} and {self.width}, the decoder's")
        if isinstance(self.embedding.positions, Sinusoidal):
            least = 4 if self.embedding.positions.inclusive else 2
            right = self.width % 2 == 0 and self.width >= least
            _require(right, f"sines and cosines of width {self.width}", f"an even number from {least}")

    def layer(self, index: int) -> Block:
        """Layer `index`, counted from 0."""
        return self.block[index] if isinstance(self.block, tuple) else self.block

    @property
    def layers(self) -> tuple[Block, ...]:
        return tuple(self.layer(i) for i in range(self.blocks))

    # What an engine asks before it plans.

    @property
    def generates(self) -> bool:
        """Whether it can write text (an encoder only reads)."""
        return self.head is not None and not isinstance(self.mask, Full)

    @property
    def can_cut_prompt(self) -> bool:
        """Whether a prompt may be read in pieces: not where its tokens see later ones."""
        return isinstance(self.mask, Causal)

    @property
    def can_share_prefix(self) -> bool:
        """Whether two prompts with an equal beginning may share its cache."""
        return isinstance(self.mask, Causal) and self.encoder is None

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Per layer, how many latest keys a query sees; None for all."""
        return tuple(layer.attention.window for layer in self.layers)

    def cache_values_per_token(self) -> int:
        """Numbers the KV cache keeps for each token, over all layers (self-attention only)."""
        return sum(2 * layer.attention.kv_heads * layer.attention.head_dim for layer in self.layers)
