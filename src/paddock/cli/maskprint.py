"""What is learned of the examples, shown before a run: in colour on a terminal, between ⟦ and ⟧ elsewhere."""

from __future__ import annotations

import sys
from typing import TextIO

from paddock.cli import output
from paddock.finetune.gate import Preview, Shown

LEARNED = "32"


def show(preview: Preview, stream: TextIO | None = None) -> None:
    """Writes statistics and samples, to standard error unless said."""
    stream = stream or sys.stderr
    colour = output.coloured(stream)
    stream.write(f"what is learned ({'green' if colour else '⟦between these⟧'}): {preview.statistics.told}\n")
    for sample in preview.samples:
        stream.write(sample_text(sample, colour) + "\n")
    stream.flush()


def sample_text(sample: Shown, colour: bool) -> str:
    """One sequence, set in, with its learned parts marked."""
    parts = [(output.printable(text), learned) for text, learned in sample.parts]
    body = "".join(_marked(text, colour) if learned else text for text, learned in parts).replace("\n", "\n  | ")
    return f"  {sample.place}: {sample.supervised} of {sample.tokens} tokens\n  | {body}"


def _marked(text: str, colour: bool) -> str:
    if not colour:
        return f"⟦{text}⟧"
    return "\n".join(output.painted(line, LEARNED) for line in text.split("\n"))
