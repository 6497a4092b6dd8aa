"""Steps through the one Transformer in PyTorch: on any machine, for any architecture.

On the CPU every sequence runs by itself and always in the same forwards: its prompt in pieces of 512 tokens counted
from its first, then one token at a time, also when it is read again after it had to give way. PyTorch's matrix products
round a row differently when other rows stand beside it, so this is what makes a result independent of the batch. The
one exception is a row of guesses: they are checked in one forward, and may come out differently in the last bit.

On a GPU the tokens of all sequences that write run as one batch, and results depend on it in the last bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor

from paddock.engine.blocks import BLOCK
from paddock.engine.memory import PIECE, cache_place, memory_for, source_blocks
from paddock.engine.pages import Page, Pages, Pile
from paddock.engine.runner import Carried, Rows, scales_with_length
from paddock.kernels.threads import threads_for
from paddock.model.several import Places, Span, several
from paddock.model.spec import Prefix
from paddock.model.step import Step
from paddock.model.transformer import Transformer

EXPERTS = ".experts."  # in the path of a matrix that sees some of a batch's tokens only, in an order of its own


class State:
    """What a sequence has besides its blocks: an encoder's output and what cross-attention made of it, and the step
    that read a prompt whose tokens see later ones."""

    __slots__ = ("cross", "memory", "prompt")

    def __init__(self) -> None:
        self.cross: dict[int, tuple[Tensor, Tensor]] = {}
        self.memory: Tensor | None = None
        self.prompt: Step | None = None


class TorchRunner:
    """blocks: how many the cache has. together: run those that write as one batch; by default on a GPU only. sources:
    blocks of source texts, and bytes of each (engine/memory.py)."""

    def __init__(
        self,
        model: Transformer,
        blocks: int,
        together: bool | None = None,
        sources: tuple[int, int] | None = None,
    ) -> None:
        self.model, self.architecture, self.blocks = model, model.architecture, blocks
        self.dtype, self.device = cache_place(model)
        self.together = self.device.type != "cpu" if together is None else together
        self.chunk = None if self.together else PIECE
        self.block_bytes = BLOCK * self.architecture.cache_values_per_token() * self.dtype.itemsize
        self.source_blocks, self.source_block_bytes = sources or source_blocks(model, self.dtype.itemsize, 1)
        self.pages = Pages(self.architecture, blocks, self.dtype, self.device)
        self._states: dict[int, State] = {}
        self._models = {0: model}  # by the numbers of their adapters
        self._mixed: tuple[Transformer, Places] | None = None  # all of them in one, where rows of a batch stay in place
        self._alike = not scales_with_length(self.architecture) and self.architecture.encoder is None

    @torch.inference_mode()
    def run(self, batch: Sequence[Rows]) -> Tensor:
        with memory_for("to read this prompt" if any(rows.start < rows.prompt for rows in batch) else "to write on"):
            for rows in batch:
                self.pages.reserve(max(rows.table))
            pile = [rows for rows in batch if self.together and self._alike and len(rows.ids) == 1 <= rows.logits
                    and rows.start >= rows.prompt]  # fmt: skip
            piled = self._piled(pile) if pile[1:] else {}
            found = [piled[rows.key][None] if rows.key in piled else self._run_alone(rows) for rows in batch]
            return torch.cat([logits for logits in found if logits is not None]).float() if found else torch.empty(0)

    def forget(self, key: int) -> None:
        self._states.pop(key, None)

    def carry(self, adapters: Mapping[int, Carried]) -> None:
        ranks = {number: carried.ranks for number, carried in adapters.items()}
        apart = any(EXPERTS in path for each in ranks.values() for path in each)
        self._mixed = several(self.model, ranks) if ranks and not apart else None
        self._models = {0: self.model} | {number: carried.twin for number, carried in adapters.items()}

    def _piled(self, pile: Sequence[Rows]) -> dict[int, Tensor]:
        """Logits (vocabulary,) of rows that write, by their keys: as one batch, or as one for each adapter."""
        pile = sorted(pile, key=lambda rows: rows.adapter)
        groups = [(number, list(rows)) for number, rows in groupby(pile, lambda rows: rows.adapter)]
        if len(groups) == 1 or self._mixed is None:
            parts = [self._run_together(rows, self._models[number]) for number, rows in groups]
        else:
            model, places = self._mixed
            places.spans = _spans(groups)
            parts = [self._run_together(pile, model)]
        return dict(zip((rows.key for rows in pile), torch.cat(parts), strict=True))

    def _run_alone(self, rows: Rows) -> Tensor:
        """Logits (rows.logits, vocabulary)."""
        if rows.start == 0:
            self.forget(rows.key)
        state, model = self._states.setdefault(rows.key, State()), self._models[rows.adapter]
        if rows.source and not state.cross:
            state.memory = model.encode(torch.tensor([rows.source], device=self.device))
        hidden, ids = None, torch.tensor([rows.ids], device=self.device)
        for start, stop in self._pieces(rows):
            page = Page(self.pages, rows.table, start, rows.length, state.cross)
            piece = ids[:, start - rows.start : stop - rows.start]
            if start < rows.prompt:
                hidden = self._read(model, state, piece, page)
            else:
                with threads_for(model.weight_bytes):
                    hidden = self._write(model, state, piece, page)
                    if rows.logits and stop == rows.start + len(rows.ids):
                        return model.logits(hidden[0, -rows.logits :])
        state.memory = None  # from here on it is in `cross`
        assert hidden is not None, "rows hold at least one token"
        return model.logits(hidden[:, -1]) if rows.logits else hidden.new_empty(0, self.architecture.vocabulary)

    def _pieces(self, rows: Rows) -> Iterator[tuple[int, int]]:
        """The forwards that read these rows, as slots from and to."""
        start, end = rows.start, rows.start + len(rows.ids)
        while start < end:
            if start >= rows.prompt:
                stop = end if rows.logits > 1 or self.together else start + 1
            elif not self.architecture.can_cut_prompt:
                stop = rows.prompt
            else:
                stop = min(end, rows.prompt, (start // PIECE + 1) * PIECE)
            yield start, stop
            start = stop

    def _read(self, model: Transformer, state: State, ids: Tensor, page: Page) -> Tensor:
        """A piece of a prompt: hidden states (1, tokens, width)."""
        step = Step.begin(self.architecture, ids, cache=page, memory=state.memory)
        if step.prefix is not None:
            state.prompt = replace(step, cache=None, memo={})
        return model.hidden(ids, step)

    def _write(self, model: Transformer, state: State, ids: Tensor, page: Page) -> Tensor:
        """Written tokens: hidden states (1, tokens, width)."""
        if state.prompt is None:
            step = Step.begin(self.architecture, ids, cache=page, memory=state.memory)
        else:
            first = page.length - state.prompt.tokens
            positions = self._after(state.prompt, first, ids.shape[1])
            step = replace(state.prompt, positions=positions, start=page.length, cache=page, memo={})
        return model.hidden(ids, step)

    def _after(self, prompt: Step, first: int, count: int) -> Tensor:
        """Two-part positions (1, count, 2) of written tokens from number `first` on: only the second part counts on."""
        on = torch.arange(first + 1, first + count + 1, device=self.device)
        return prompt.positions[:, -1:] + torch.stack((torch.zeros_like(on), on), dim=1)

    def _run_together(self, batch: Sequence[Rows], model: Transformer) -> Tensor:
        """One written token of each: logits (batch, vocabulary)."""
        pile = Pile(self.pages, [rows.table for rows in batch], [rows.start for rows in batch])
        ids = torch.tensor([rows.ids for rows in batch], device=self.device)
        positions = torch.tensor([[rows.start] for rows in batch], device=self.device)
        if isinstance(self.architecture.mask, Prefix):
            prompts = [self._states[rows.key].prompt for rows in batch]
            positions = torch.cat([
                self._after(prompt, rows.start - prompt.tokens, 1)
                for rows, prompt in zip(batch, prompts, strict=True) if prompt is not None
            ])  # fmt: skip
        # A written token sees all that came before, whatever the mask: only what fills up the rows is hidden.
        step = Step(positions, start=pile.length, cache=pile, padding=pile.padding, length=pile.capacity)
        return model.logits(model.hidden(ids, step)[:, -1])


def _spans(groups: Sequence[tuple[int, Sequence[Rows]]]) -> list[Span]:
    """Where the rows of each adapter stand in a batch that holds one group after another."""
    spans, place = [], 0
    for number, rows in groups:
        spans.append(Span(place, place + len(rows), number))
        place += len(rows)
    return spans
