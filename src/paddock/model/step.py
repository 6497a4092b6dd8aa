"""One forward's coordinates: which tokens, at which positions, in which slots, and who is padding."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from paddock.errors import ContextLengthError, UsageError
from paddock.model.cache import Cache
from paddock.model.routing import Routing
from paddock.model.spec import Architecture, Learned, Prefix


@dataclass(frozen=True, eq=False)
class Ahead:
    """Keys and values (1, kv_heads, count, head_dim), layer by layer, of tokens before every text, at positions from 0
    to count - 1 and without slots in a cache."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def count(self) -> int:
        return self.keys[0].shape[2]

    def before(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's k, v (batch, kv_heads, tokens, head_dim) behind its own."""
        return _joined(self.keys[layer], k), _joined(self.values[layer], v)


def _joined(first: Tensor, rest: Tensor) -> Tensor:
    """(1, heads, count, width) before (batch, heads, tokens, width), in the type of the latter."""
    return torch.cat((first.to(rest.dtype).expand(len(rest), -1, -1, -1), rest), dim=2)


@dataclass(frozen=True, eq=False)
class Step:
    """What a forward needs to know besides the token ids.

    positions (batch, tokens), or (batch, tokens, 2) for two-part encodings: what encodings see.
    start: the slot of the first token; a cache holds `start` slots already.
    prefix (batch,): slots below it see each other (prefix masks only).
    padding (batch, start + tokens) bool: True for real tokens, over all slots; None if there is no padding.
    documents (batch, tokens): the document each token is of, where rows are packed with several (training): tokens see
    their own document only, and positions begin anew in each. Documents lie one after another; never with a cache.
    segments (batch, tokens): BERT's sentence A/B; zeros if None.
    memory (batch, source, width), memory_padding (batch, source): an encoder's output, for cross-attention.
    ahead: what stands before every text and was put here by the stack itself; positions count from behind it.
    relative_bias (buckets, heads): the stack's table of learned distances (T5), put here by the stack itself.
    noise: NEFTune's alpha (arXiv 2310.05914): how far from their places tokens are looked up (training).
    dropout: the share of embedded and sublayers' outputs that is zeroed (training).
    recompute: keep only the blocks' inputs for the backward pass and compute the rest again (training).
    token_gradient: the share of the gradient that reaches the table of tokens through the lookup (training; GLM: 0.1).
    routing: takes the routers' scores where a loss wants them (training).
    length: how long the whole text is planned to become (dynamic rotary scaling looks at it).
    memo: tables derived from the above, computed by the first layer that needs them and shared by the rest.
    """

    positions: Tensor
    start: int = 0
    cache: Cache | None = None
    prefix: Tensor | None = None
    padding: Tensor | None = None
    documents: Tensor | None = None
    segments: Tensor | None = None
    memory: Tensor | None = None
    memory_padding: Tensor | None = None
    ahead: Ahead | None = None
    relative_bias: Tensor | None = None
    noise: float = 0.0
    dropout: float = 0.0
    recompute: bool = False
    token_gradient: float = 1.0
    routing: Routing | None = None
    length: int = 0
    memo: dict[Any, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.positions.shape[1]

    @staticmethod
    def begin(
        architecture: Architecture,
        ids: Tensor,
        *,
        cache: Cache | None = None,
        padding: Tensor | None = None,
        **rest: Any,
    ) -> Step:
        """The step that reads `ids` (batch, tokens), after whatever `cache` holds.

        `padding` (batch, tokens) marks real tokens, at either side; with a filled cache it covers the cached slots too.
        Raises UsageError for a prompt whose mask tokens are missing, ContextLengthError past a position table's end.
        """
        start = cache.length if cache else 0
        batch, tokens = ids.shape
        length = max(cache.capacity if cache else 0, start + tokens)
        prefix = None
        if isinstance(architecture.mask, Prefix):
            if start:
                raise UsageError("this model's prompt cannot be read in pieces: its tokens see later ones")
            positions, prefix = blank_positions(architecture.mask, ids, padding)
        elif padding is None:
            positions = torch.arange(start, start + tokens, device=ids.device).expand(batch, -1)
        else:
            positions = (padding.long().cumsum(1) - 1).clamp(min=0)[:, start:]
        _check_table(architecture, int(start + tokens))
        return Step(positions, start=start, cache=cache, prefix=prefix, padding=padding, length=length, **rest)

    def next(self, architecture: Architecture) -> Step:
        """The step of one more token for every text, after this one."""
        last = self.positions[:, -1:]
        if isinstance(architecture.mask, Prefix):
            positions = last + torch.tensor([0, 1], device=last.device)  # only the second part counts on
        else:
            positions = last + 1
        padding = self.padding
        if padding is not None:
            padding = torch.cat((padding, padding.new_ones(len(padding), 1)), dim=1)
        start = self.start + self.tokens
        _check_table(architecture, start + 1)
        return replace(self, positions=positions, start=start, padding=padding, segments=None, memo={})


def blank_positions(mask: Prefix, ids: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Two-part positions (batch, tokens, 2) and prefix lengths (batch,) of blank-infilling prompts (GLM, 2103.10360).

    Part one counts the context and then stays at the mask token; part two is 0 in the context and counts from the start
    token on, beginning with 1.
    """
    batch, tokens = ids.shape
    positions = torch.zeros(batch, tokens, 2, dtype=torch.long, device=ids.device)
    prefix = torch.zeros(batch, dtype=torch.long, device=ids.device)
    for row in range(batch):
        text = ids[row].tolist()
        first = 0 if padding is None else int(padding[row].long().argmax())
        masks = [text.index(token) for token in mask.mask_tokens if token in text]  # the preferred kind first
        start = text.index(mask.start_token) if mask.start_token in text else -1
        if not masks or masks[0] > start:
            raise UsageError(
                f"the prompt lacks a mask token {list(mask.mask_tokens)} and then the start token {mask.start_token}",
                fix="encode the prompt with the model's own tokenizer or chat template, which append them",
            )
        positions[row, first:start, 0] = torch.arange(start - first, device=ids.device)
        positions[row, start:, 0] = masks[0] - first
        positions[row, start:, 1] = torch.arange(1, tokens - start + 1, device=ids.device)
        prefix[row] = start
    return positions, prefix


def _check_table(architecture: Architecture, stop: int) -> None:
    table = architecture.embedding.positions
    if isinstance(table, Learned) and stop > table.count:
        raise ContextLengthError(
            f"{stop} tokens, but this model has learned {table.count} positions",
            fix="shorten the prompt or ask for fewer new tokens",
        )
