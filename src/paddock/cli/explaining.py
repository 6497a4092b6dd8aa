"""What happened at each step of a generation, as tables a person reads and records a program reads."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from paddock.cli import output
from paddock.engine.explain import StageRow, StepRow, explain
from paddock.engine.request import Completion
from paddock.engine.sampler import TRACED
from paddock.errors import TokenizerError

if TYPE_CHECKING:
    from rich.table import Table

    from paddock.engine.language_model import LanguageModel
    from paddock.tokenizer import Tokenizer

GONE, UNKNOWN = "–", "…"


class Pieces:
    """Token ids as text to show; of a model without a tokenizer, nothing."""

    def __init__(self, model: LanguageModel) -> None:
        self.tokenizer: Tokenizer | None = None
        with contextlib.suppress(TokenizerError):  # a model may come without one
            self.tokenizer = model.tokenizer

    def __call__(self, id: int) -> str | None:
        """The vocabulary's own spelling; None where there is no vocabulary, or no such token in it."""
        if self.tokenizer is None:
            return None
        try:
            return self.tokenizer.piece(id)
        except TokenizerError:
            return None

    def shown(self, id: int) -> str:
        """The text `id` stands for, in quotes; a control token by its spelling, bytes that are no text in hex."""
        piece = self(id)
        if piece is None or self.tokenizer is None:
            return f"#{id}"
        if self.tokenizer.is_control(id):
            return piece
        data = self.tokenizer.bytes_of(id)
        try:
            return output.printable(repr(data.decode("utf-8")))
        except UnicodeDecodeError:
            return " ".join(f"{byte:02X}" for byte in data)


def show(completion: Completion, model: LanguageModel) -> None:
    """Prints a table per step: candidates down, stages of sampling across."""
    from rich.console import Console

    colour = output.coloured(sys.stdout)
    console = Console(
        file=sys.stdout,
        force_terminal=colour,
        no_color=not colour,
        width=None if sys.stdout.isatty() else 160,
        highlight=False,
        markup=False,
        emoji=False,
    )
    pieces = Pieces(model)
    output.note(f"({GONE} filtered out; {UNKNOWN} still in, but not among the {TRACED} likeliest)")
    for step in explain(completion.traces, pieces.tokenizer, TRACED):
        console.print(f"step {step.step} of {len(completion.traces)}", style="bold")
        console.print(_table(step, pieces))
        console.print(verdict(step, pieces) + "\n")


def _table(step: StepRow, pieces: Pieces) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("token", no_wrap=True)
    table.add_column("id", justify="right")
    for stage in step.stages:
        table.add_column(f"{stage.name}\n{stage.survivors:,} left", justify="right", no_wrap=True)
    for id in rows(step):
        chosen = id == step.chosen.token
        cells = [cell(stage, id) for stage in step.stages]
        style = "bold" if chosen else "dim" if cells[-1] == GONE else ""
        texts = [">" if chosen else "", pieces.shown(id), str(id), *cells]
        table.add_row(*(Text(text) for text in texts), style=style)
    return table


def rows(step: StepRow) -> list[int]:
    """The ids worth a row: the raw favourites, then what later stages brought up, the chosen one in any case."""
    ids = [option.token for option in step.stages[0].top]
    late = [option.token for stage in step.stages[1:] for option in stage.top[:3]]
    return list(dict.fromkeys([*ids, *late, step.chosen.token]))


def cell(stage: StageRow, id: int) -> str:
    """A candidate's probability after a stage, or that it is gone, or below what the trace keeps."""
    found = next((option.probability for option in stage.top if option.token == id), None)
    if found is None:
        return GONE if stage.survivors <= TRACED else UNKNOWN
    return f"{found:.2%}" if found >= 0.001 else f"{found:.4%}" if found >= 1e-5 else "<0.001%"


def verdict(step: StepRow, pieces: Pieces) -> str:
    """How the token came to be chosen, in one line."""
    token = pieces.shown(step.chosen.token)
    if step.draw is None:
        return f"greedy: the likeliest, {token}"
    below, above = step.interval
    return f"drew {step.draw:.6f}: {token} holds {below:.6f} to {above:.6f} ({step.chosen.probability:.2%})"


def logprobs_table(completion: Completion, model: LanguageModel) -> str:
    """A line per token: its log-probability, and its rivals."""
    pieces = Pieces(model)
    lines = []
    for entry in completion.logprobs or ():
        rivals = "  ".join(f"{pieces.shown(id)} {logprob:.3f}" for id, logprob in entry.top)
        lines.append([str(entry.token), pieces.shown(entry.token), f"{entry.logprob:.4f}", rivals])
    return output.table(lines, ("id", "token", "logprob", "likeliest"), right=(0, 2))


def logprobs_record(completion: Completion, pieces: Pieces) -> list[dict[str, Any]] | None:
    if completion.logprobs is None:
        return None
    return [
        {
            "id": entry.token,
            "piece": pieces(entry.token),
            "logprob": entry.logprob,
            "top": [{"id": id, "piece": pieces(id), "logprob": logprob} for id, logprob in entry.top],
        }
        for entry in completion.logprobs
    ]


def steps_record(completion: Completion, pieces: Pieces) -> list[StepRow] | None:
    """Every stage of every step; None where no trace was asked for."""
    return explain(completion.traces, pieces.tokenizer, TRACED) or None
