"""What instruction tuning did to a model: held-out loss, answers that end, and how often the tuned answer is nearer.

    paddock finetune alpaca data.files=alpaca.json data.validation=0.05 -o out/alpaca
    python benchmarks/instruction.py out/alpaca --answers 100

Base and tuned model answer the same held-out questions greedily, in the format that the tuned one learned. A win is an
answer whose ROUGE-L with the reference is higher than the other's; equal ones count half. That measures likeness and
judges no quality: a small model wins by answering in the right form.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

import paddock
from paddock.data.instruct.records import Conversation
from paddock.errors import ContextLengthError
from paddock.finetune.stage import reopen
from paddock.training.parallel import Alone
from paddock.training.scores.texts import rouge


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares a base with what instruction tuning made of it.")
    parser.add_argument("run", type=Path, help="a run of `paddock finetune` with task chat")
    parser.add_argument("--answers", type=int, default=100, help="held-out questions that are answered")
    parser.add_argument("--tokens", type=int, default=96, help="of an answer at most")
    asked = parser.parse_args()
    prepared = reopen(asked.run)
    final = asked.run / "final"
    tuned, base = paddock.load(final), paddock.load(prepared.opened.path, template=final / "chat_template.jinja")
    measure = prepared.measure
    assert measure is not None, "the run kept no examples back"
    loss = measure(prepared.trainer(Alone(torch.device("cpu"))))["loss"]
    rows: list[tuple[str, str, str]] = []
    ended = [0, 0]
    for example in prepared.kept:
        if len(rows) == asked.answers or not isinstance(example, Conversation) or len(example.messages) != 2:
            continue
        question, reference = example.messages
        try:
            answers = [each.chat([question.plain()], asked.tokens, temperature=0) for each in (base, tuned)]
        except ContextLengthError:
            continue
        ended = [count + (each.finish_reason == "stop") for count, each in zip(ended, answers, strict=True)]
        rows.append((reference.content, answers[0].text, answers[1].text))
    print(json.dumps({"loss_before": loss, "answers": len(rows), "ended": ended, **compared(rows)}, indent=2))
    for reference, before, after in rows[:3]:
        print(f"\nreference  {reference[:120]!r}\nbase       {before[:120]!r}\ntuned      {after[:120]!r}")


def compared(rows: Sequence[tuple[str, str, str]]) -> dict[str, float]:
    """Wins of the tuned answers, and both models' mean ROUGE-L."""
    scores = [tuple(rouge([answer], [reference]).rouge_l for answer in both) for reference, *both in rows]
    wins = sum((after > before) + 0.5 * (after == before) for before, after in scores)
    means = [sum(each) / len(scores) for each in zip(*scores, strict=True)]
    return {"win_rate": wins / len(scores), "rouge_l_base": means[0], "rouge_l_tuned": means[1]}


if __name__ == "__main__":
    main()
