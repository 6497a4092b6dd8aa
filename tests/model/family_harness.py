"""What every family is asked: logits of texts read whole, through a cache and in a batch, and greedy choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paddock.model.cache import Cache
from paddock.model.spec import Architecture, Prefix
from paddock.model.step import Step
from paddock.model.transformer import Transformer

SOURCE, GREEDY = 40, 64  # tokens of an encoder's text, and of what is written
CLEAR = 1e-4  # a top choice this close to the second may fall either way: the comparison of choices ends there


@dataclass(frozen=True)
class Inputs:
    """ids (batch, tokens); for encoders their padding and segments; for encoder-decoders the target's ids too."""

    ids: Tensor
    padding: Tensor | None = None
    segments: Tensor | None = None
    target: Tensor | None = None


def texts(architecture: Architecture, tokens: int) -> Inputs:
    ids = torch.randint(0, 90, (2, tokens))
    if isinstance(architecture.mask, Prefix):  # two kinds of blank, at different places
        gap, blank = architecture.mask.mask_tokens
        ids[0, 7], ids[0, 8] = gap, architecture.mask.start_token
        ids[1, 3], ids[1, 12] = blank, architecture.mask.start_token
    if architecture.encoder is not None:
        padding = torch.ones(2, SOURCE, dtype=torch.bool)
        padding[1, 30:] = False
        return Inputs(torch.randint(0, 90, (2, SOURCE)), padding, target=ids)
    if not architecture.generates:
        padding = torch.ones(2, tokens, dtype=torch.bool)
        padding[1, 17:] = False
        return Inputs(ids, padding, torch.randint(0, architecture.embedding.segments, (2, tokens)))
    return Inputs(ids)


@torch.inference_mode()
def computed(model: Transformer, inputs: Inputs) -> list[Tensor]:
    """What Paddock makes of the texts, whole: logits, or what stands in their place."""
    a = model.architecture
    if a.encoder is not None:
        assert inputs.target is not None
        memory = model.encode(inputs.ids, inputs.padding)
        return [model(inputs.target, Step.begin(a, inputs.target, memory=memory, memory_padding=inputs.padding))]
    if a.generates:
        return [model(inputs.ids, Step.begin(a, inputs.ids))]
    step = Step.begin(a, inputs.ids, padding=inputs.padding, segments=inputs.segments)
    if a.pooler is not None and a.pooler.labels:
        return [model.classify(inputs.ids, step)]
    hidden = model.hidden(inputs.ids, step)
    found = [(model.logits(hidden) if a.head else hidden)[inputs.padding]]
    if model.pooler is not None:
        pooled = model.pooler(hidden)
        found.append(model.pooler.next_sentence(pooled) if model.pooler.next_sentence else pooled)
    return found


def rebuilt(model: Transformer, architecture: Architecture) -> Transformer:
    with torch.device("meta"):
        other = Transformer(architecture)
    weights = {name: tensor for name, tensor in model.state_dict().items() if name in other.state_dict()}
    other.load_state_dict(weights, assign=True)
    return other.eval()


def distance(found: list[Tensor], expected: list[Tensor]) -> float:
    """Relative L2, the worst of all outputs."""
    pairs = list(zip(found, expected, strict=True))
    assert all(a.shape == b.shape for a, b in pairs), [(a.shape, b.shape) for a, b in pairs]
    return max(float((a.double() - b.double()).norm() / b.double().norm()) for a, b in pairs)


@torch.inference_mode()
def piecewise(model: Transformer, inputs: Inputs, first: int) -> list[Tensor]:
    """The logits of texts read through a cache: two pieces where the model allows it, then token by token."""
    a = model.architecture
    ids = inputs.ids if inputs.target is None else inputs.target
    rest: dict[str, Any] = {}
    if inputs.target is not None:
        rest = {"memory": model.encode(inputs.ids, inputs.padding), "memory_padding": inputs.padding}
    cache = Cache(a, len(ids), ids.shape[1], next(model.parameters()).dtype, "cpu")
    ends = [first, first + 4] if a.can_cut_prompt else [first]
    found, start = [], 0
    for end in ends:
        step = Step.begin(a, ids[:, start:end], cache=cache, **rest)
        found.append(model(ids[:, start:end], step))
        start = end
    for i in range(start, ids.shape[1]):
        step = step.next(a)
        found.append(model(ids[:, i : i + 1], step))
    return [torch.cat(found, dim=1)]


@torch.inference_mode()
def choices(model: Transformer, prompt: Tensor, start: int | None, whole_only: bool) -> tuple[list[int], int]:
    """Greedy ids, and how many of them were clear choices before the first that was not."""
    a = model.architecture
    rest = {"memory": model.encode(prompt)} if a.encoder is not None else {}
    ids = prompt if start is None else torch.tensor([[start]])
    cache = None if whole_only else Cache(a, 1, ids.shape[1] + GREEDY, torch.float32, "cpu")
    step = Step.begin(a, ids, cache=cache, **rest)
    chosen: list[int] = []
    clear, count = True, 0
    read = ids
    while len(chosen) < GREEDY:
        best = model(read, step)[0, -1].topk(2)
        chosen.append(int(best.indices[0]))
        clear = clear and float(best.values[0] - best.values[1]) > CLEAR
        count += clear
        read = best.indices[:1].unsqueeze(0)
        if whole_only:
            ids = torch.cat((ids, read), dim=1)
            read, step = ids, Step.begin(a, ids)
        else:
            step = step.next(a)
    return chosen, count


@torch.inference_mode()
def padded(model: Transformer, texts: list[Tensor], extra: Tensor, left: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Logits of texts read alone, and in one batch with padding at a side; then of `extra` tokens read after them."""
    a = model.architecture
    longest, more = max(map(len, texts)), len(extra)

    def read(ids: Tensor, padding: Tensor | None) -> Tensor:
        cache = Cache(a, len(ids), longest + more, torch.float32, "cpu")
        step = Step.begin(a, ids, cache=cache, padding=padding)
        found = [model(ids, step)]
        for token in extra:
            step = step.next(a)
            found.append(model(token.expand(len(ids), 1), step))
        return torch.cat(found, dim=1)

    alone = [read(text.unsqueeze(0), None)[0] for text in texts]
    ids, padding = (
        torch.zeros(len(texts), longest, dtype=torch.long),
        torch.zeros(len(texts), longest, dtype=torch.bool),
    )
    for row, text in enumerate(texts):
        where = slice(longest - len(text), longest) if left else slice(0, len(text))
        ids[row, where], padding[row, where] = text, True
    real = torch.cat((padding, torch.ones(len(texts), more, dtype=torch.bool)), dim=1)
    together = [row[mine] for row, mine in zip(read(ids, padding), real, strict=True)]
    return together, alone


def prompt_end(architecture: Architecture, ids: Tensor) -> int:
    """How many tokens a first piece must hold: all of the prompt, where its tokens see later ones."""
    if isinstance(architecture.mask, Prefix):
        return max(row.tolist().index(architecture.mask.start_token) for row in ids) + 1
    return 9
