"""`paddock fit`: reads what was asked, plans, prints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import typer

from paddock.catalog.fit import budget, limits, serving, subject
from paddock.catalog.fit.serving import Settings
from paddock.catalog.fit.subject import Subject
from paddock.catalog.fit.trained import METHODS
from paddock.cli import fitprint, fittraining, output
from paddock.errors import UsageError, did_you_mean

TASKS = ("serve", *METHODS)


@dataclass(frozen=True)
class Asked:
    """What a user asked `fit` for, as typed."""

    model: str | None
    task: str = "serve"
    quantize: str | None = None
    dtype: str = "auto"
    context: int | None = None
    batch: int | None = None
    device: str = "cpu"
    devices: str | None = None
    budget: str | None = None
    micro_batch: int | None = None
    optimizer: str | None = None
    rank: int | None = None
    roles: str | None = None
    recompute: bool = False
    tokens: int | None = None


def fit(asked: Asked, json: bool) -> None:
    if asked.task not in TASKS:
        fix = did_you_mean(asked.task, TASKS)
        raise UsageError(f"--task {asked.task[:40]}", expected=", ".join(TASKS), fix=fix)
    found = subject.read(asked.model)
    if found.architecture is None:
        _unknown(found, asked, json)
    elif asked.task != "serve":
        fittraining.train(found, asked, json)
    else:
        _serve(found, asked, json)


def _serve(found: Subject, asked: Asked, json: bool) -> None:
    fittraining.refuse_for_serving(asked)
    settings = settings_of(asked)
    plan = fittraining.shared(found, serving.plan(found, settings), asked)
    reach = {
        "context": limits.largest_context(found, settings, plan.budget),
        "concurrency": limits.largest_concurrency(found, settings, plan.budget),
    }
    fitprint.tell(plan, found, reach, json)


def settings_of(asked: Asked) -> Settings:
    """The settings of serving on this machine, with its threads."""
    settings = Settings(
        context=asked.context,
        concurrency=1 if asked.batch is None else asked.batch,
        quantize=None if asked.quantize is None else asked.quantize.lower(),
        dtype=asked.dtype,
        device=asked.device,
        budget=fittraining.space(asked),
    )
    return replace(settings, threads=torch.get_num_threads())


def _unknown(found: Subject, asked: Asked, json: bool) -> None:
    """A model that Paddock does not run: what its numbers alone weigh, said to be no more than that."""
    size = None if asked.budget is None else budget.parse(asked.budget)
    if not found.parameters:
        found.known()
    rows = {bits: found.parameters * bits // 8 for bits in (32, 16, 8, 4)}
    if json:
        record: dict[str, Any] = {"model": found.name, "verdict": "unknown", "why": found.why}
        output.as_json({**record, "parameters": found.parameters, "weights_bytes": rows, "budget": size})
    else:
        output.result(fitprint.weights_text(found, rows))
    raise typer.Exit(3)


def table(asked: Asked, json: bool) -> None:
    """The published table of ChatGLM-6B beside ours."""
    from paddock.catalog.fit import chatglm

    if asked.model is not None and Path(asked.model).name.lower() not in ("chatglm-6b", "chatglm"):
        raise UsageError(f"there is no published table for {asked.model[:60]!r}", fix="paddock fit chatglm-6b --table")
    output.as_json(chatglm.record()) if json else output.result(fitprint.chatglm_text(chatglm.rows(), chatglm.counts()))
