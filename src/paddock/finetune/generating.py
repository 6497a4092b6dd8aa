"""What a model answers while it is trained: many prompts at once, always the likeliest token."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paddock.engine.memory import cache_place, memory_for
from paddock.errors import UsageError
from paddock.model.cache import Cache
from paddock.model.step import Step
from paddock.model.transformer import Transformer

ROWS = 32  # prompts that run side by side


@dataclass(frozen=True)
class Answering:
    """How answers are written. ends: ids of which each ends one. start: what a decoder begins with, where an encoder
    reads the prompt. most: tokens of an answer, its end included. vocabulary: ids from here on stand for nothing."""

    ends: tuple[int, ...]
    start: int | None
    most: int
    vocabulary: int


@dataclass(frozen=True)
class Answer:
    """ids: without the end. ended: whether there was one, within the tokens it was given."""

    ids: tuple[int, ...]
    ended: bool


def answers(model: Transformer, prompts: Sequence[Sequence[int]], how: Answering) -> list[Answer]:
    """The greedy answer to each prompt, as the model is now: nothing of it, nor of random numbers, is changed.

    Prompts of like length run together, padded on their left; in the last bits a result may depend on its neighbours.
    Raises UsageError for a model that lies in shards: no process has it to write with.
    """
    if any(hasattr(parameter, "placements") for parameter in model.parameters()):
        raise UsageError(
            "answers are written by a whole model, and here each process has shards",
            fix="training.evaluate_every=0; paddock eval scores the saved steps, which are whole",
        )
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    found: dict[int, Answer] = {}
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), _one_type(model), memory_for("to answer so many prompts at once"):
            for start in range(0, len(order), ROWS):
                some = order[start : start + ROWS]
                found |= zip(some, _together(model, [prompts[at] for at in some], how), strict=True)
    finally:
        model.train(training)
    return [found[at] for at in range(len(prompts))]


def _one_type(model: Transformer) -> contextlib.AbstractContextManager[object]:
    """What lets a base in bfloat16 and learned parts in float32 compute together, as they do in training."""
    dtype, device = cache_place(model)
    types = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    mixed = len(types) > 1 and dtype != torch.float32
    return torch.autocast(device.type, dtype=dtype) if mixed else contextlib.nullcontext()


def _together(model: Transformer, prompts: Sequence[Sequence[int]], how: Answering) -> list[Answer]:
    step, logits = _read(model, prompts, how)
    logits[:, how.vocabulary :] = -torch.inf
    written = [logits.argmax(-1)]
    ends = torch.tensor(how.ends, device=logits.device)
    done = torch.isin(written[0], ends)
    while not bool(done.all()) and len(written) < how.most:
        step = step.next(model.architecture)
        logits = model.logits(model.hidden(written[-1][:, None], step)[:, -1])
        logits[:, how.vocabulary :] = -torch.inf
        written.append(logits.argmax(-1))
        done |= torch.isin(written[-1], ends)
    return [_cut(row, how.ends) for row in torch.stack(written, 1).tolist()]


def _read(model: Transformer, prompts: Sequence[Sequence[int]], how: Answering) -> tuple[Step, Tensor]:
    """The prompts read: the last step, and logits (prompts, vocabulary) of what comes first."""
    architecture, (dtype, device) = model.architecture, cache_place(model)
    encodes = architecture.encoder is not None
    wide = max(map(len, prompts))
    ids = torch.zeros(len(prompts), wide, dtype=torch.long)
    real = torch.zeros(len(prompts), wide, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        # An encoder-decoder's source is padded as in training, behind it.
        place = slice(0, len(prompt)) if encodes else slice(wide - len(prompt), wide)
        ids[row, place], real[row, place] = torch.tensor(prompt), True
    ids, padding = ids.to(device), None if bool(real.all()) else real.to(device)
    more = {}
    if encodes:
        more = {"memory": model.encode(ids, padding), "memory_padding": padding}
        ids, padding = torch.full((len(prompts), 1), how.start or 0, dtype=torch.long, device=device), None
    cache = Cache(architecture, len(prompts), ids.shape[1] + how.most, dtype, device)
    step = Step.begin(architecture, ids, cache=cache, padding=padding, **more)
    return step, model.logits(model.hidden(ids, step)[:, -1])


def _cut(row: Sequence[int], ends: Sequence[int]) -> Answer:
    """A row of written ids up to its first end."""
    for at, id in enumerate(row):
        if id in ends:
            return Answer(tuple(row[:at]), ended=True)
    return Answer(tuple(row), ended=False)
