"""Plans for memory as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from paddock.catalog.fit.chatglm import Row
from paddock.catalog.fit.plan import Component, Phase, Plan
from paddock.catalog.fit.subject import Subject
from paddock.cli import output

SAID = {"fits": "fits", "fits if": "does not fit as asked", "does not fit": "does not fit"}


def text(plan: Plan, subject: Subject, reach: Mapping[str, int]) -> str:
    """The verdict, the phase of the peak line by line, the others in a line, what would change it."""
    lines = [_head(plan, subject), ""]
    lines.append(phase_text(plan.worst))
    others = [f"{phase.name} {output.size(phase.bytes)}" for phase in plan.phases if phase is not plan.worst]
    lines += ["", f"elsewhere: {', '.join(others)}"] if others else []
    lines += ["", verdict_text(plan)]
    lines += [f"largest {name}: {_reach(name, count)}" for name, count in reach.items()]
    lines += [f"note: {remark}" for remark in plan.remarks]
    return "\n".join(lines)


def _reach(name: str, count: int) -> str:
    if not count:
        return "none fits"
    return f"{count:,} tokens" if name == "context" else f"{count:,} texts at once"


def _head(plan: Plan, subject: Subject) -> str:
    asked = {name: value for name, value in plan.settings.items() if name in SHOWN and value is not None}
    settings = ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in asked.items()
    )
    count = output.number(subject.parameters)
    sparse = subject.active is not None and subject.active < subject.parameters
    active = f", {output.number(subject.active or 0)} of them for each token" if sparse else ""
    return f"{plan.model} ({count} parameters{active}) · {plan.task} on {plan.device} · {settings}"


SHOWN = ("context", "concurrency", "batch", "quantize", "dtype", "devices")


def phase_text(phase: Phase) -> str:
    """A line for each component: what, bytes, how they come about."""
    rows = [[each.name, output.size(each.bytes), each.formula] for each in _merged(phase.components)]
    rows.append(["together, " + phase.name, output.size(phase.bytes), ""])
    return output.table(rows, right=(1,))


def _merged(components: Sequence[Component]) -> list[Component]:
    """What takes less than a thousandth of the largest, of weights, goes into one line."""
    least = max((each.bytes for each in components), default=0) // 1000
    small = [each for each in components if each.role == "weights" and each.bytes < least]
    if len(small) < 2:
        return list(components)
    merged = Component("other weights", sum(each.bytes for each in small), _named(small), "weights")
    kept = [each for each in components if each not in small]
    last = max((place for place, each in enumerate(kept) if each.role == "weights"), default=-1)
    return [*kept[: last + 1], merged, *kept[last + 1 :]]


def _named(parts: Sequence[Component], most: int = 3) -> str:
    names = list(dict.fromkeys(each.name for each in parts))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def verdict_text(plan: Plan) -> str:
    need, have = output.size(plan.peak), output.size(plan.budget)
    lines = [f"{SAID[plan.verdict]}: {need} at the peak ({plan.worst.name}), {have} there are"]
    if plan.verdict == "fits if":
        lines += ["it would fit with one of"] + [f"  {change}" for change in plan.changes]
    return "\n".join(lines)


def record(plan: Plan, subject: Subject, reach: Mapping[str, int]) -> dict[str, Any]:
    """A plan as JSON: bytes are whole numbers."""
    return {
        "model": plan.model,
        "parameters": subject.parameters,
        "parameters_active": subject.active,
        "task": plan.task,
        "device": plan.device,
        "settings": dict(plan.settings),
        "verdict": plan.verdict,
        "peak_bytes": plan.peak,
        "budget_bytes": plan.budget,
        "phases": [
            {"name": phase.name, "bytes": phase.bytes, "components": list(phase.components)} for phase in plan.phases
        ],
        "changes": list(plan.changes),
        "largest": dict(reach),
        "remarks": list(plan.remarks),
    }


def tell(plan: Plan, subject: Subject, reach: Mapping[str, int], json: bool) -> None:
    """Prints a plan. Raises typer.Exit(4) where it does not fit as asked."""
    output.as_json(record(plan, subject, reach)) if json else output.result(text(plan, subject, reach))
    if plan.verdict != "fits":
        raise typer.Exit(4)


def weights_text(subject: Subject, sizes: Mapping[int, int]) -> str:
    """What is known of a model that Paddock does not run."""
    rows = [[f"{bits} bits", output.size(size)] for bits, size in sizes.items()]
    return "\n".join([
        f"{subject.name}: Paddock does not run it ({subject.why})",
        f"Its {output.number(subject.parameters)} parameters alone would take, without cache or anything else:",
        output.table(rows, right=(1,), indent=2),
    ])  # fmt: skip


def chatglm_text(rows: Sequence[Row], counts: Mapping[str, tuple[int, int]]) -> str:
    """The published table beside ours, then why each differs."""
    header = ("", "task", "published", "ours, alike", "weights", "Paddock here")
    cells = [
        [row.precision, row.task, row.published, f"{row.bytes / 1e9:.2f} GB", f"{row.weights / 1e9:.2f} GB", row.here]
        for row in rows
    ]
    lines = ["ChatGLM-6B", "", output.table(cells, header, right=(2, 3, 4, 5)), ""]
    lines += [f"{row.precision}, {row.task}: {row.why}" for row in rows]
    lines += ["", "Exact counts"]
    told = [[name, f"{ours:,}", "as published" if ours == theirs else f"published {theirs:,}"]
            for name, (ours, theirs) in counts.items()]  # fmt: skip
    return "\n".join([*lines, output.table(told, right=(1,), indent=2)])
