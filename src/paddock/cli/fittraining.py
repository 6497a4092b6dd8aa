"""`paddock fit --task lora` and the like, and `--devices`: plans of training and over several devices, and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from paddock.catalog.fit import budget, cards, devices, timing, training
from paddock.catalog.fit.plan import Plan
from paddock.catalog.fit.subject import Subject
from paddock.catalog.fit.trained import WHOLE
from paddock.catalog.fit.training import Settings
from paddock.cli import fitprint
from paddock.errors import UsageError

if TYPE_CHECKING:
    from paddock.cli.fitting import Asked

LENGTH = 512  # tokens of a row, as recipes have it
MOST_TOKENS = 10**16
OURS = ("micro_batch", "optimizer", "rank", "roles", "tokens")


def train(found: Subject, asked: Asked, json: bool) -> None:
    """Plans and prints. Raises typer.Exit(4) where it does not fit as asked."""
    shared_by = None if asked.devices is None else cards.parse(asked.devices)
    settings = settings_of(asked, 1 if shared_by is None else shared_by.count)
    if asked.tokens is not None and not 0 < asked.tokens <= MOST_TOKENS:
        raise UsageError(f"--tokens {asked.tokens}", expected=f"from 1 to {MOST_TOKENS:,}")
    if shared_by is None:
        plan = training.plan(found, settings)
        reach = reaches(found, settings, plan.budget)
    else:
        plan, reach = devices.plan(found, settings, shared_by), {}
    plan = replace(plan, remarks=(*plan.remarks, *_time(found, settings, asked, shared_by)))
    fitprint.tell(plan, found, reach, json)


def settings_of(asked: Asked, rows: int = 1) -> Settings:
    """rows: of a step where the user states none."""
    if asked.quantize is not None:
        raise UsageError(f"--quantize {asked.quantize[:20]} with --task {asked.task}", fix="say --task qlora, or none")
    if asked.dtype not in ("auto", *training.BYTES):
        raise UsageError(f"--dtype {asked.dtype[:20]} in training", expected=", ".join(training.BYTES))
    wanted: dict[str, Any] = {
        "task": asked.task,
        "length": LENGTH if asked.context is None else asked.context,
        "batch": rows if asked.batch is None else asked.batch,
        "recompute": asked.recompute,
        "device": asked.device,
        "budget": None if asked.budget is None else budget.parse(asked.budget),
        "precision": "bfloat16" if asked.dtype == "auto" else asked.dtype,
    }
    wanted |= {name: getattr(asked, name) for name in OURS[:-1] if getattr(asked, name) is not None}
    return Settings(**wanted)


def reaches(found: Subject, settings: Settings, space: int) -> Mapping[str, int]:
    """The longest rows, and the most rows at once, that fit with nothing else changed."""
    limit = found.context or training.LONGEST
    rows = replace(settings, batch=4096, micro_batch=1)
    return {
        "context": training.largest(found, settings, "length", min(limit, training.LONGEST), space) or 0,
        "rows at once": training.largest(found, rows, "micro_batch", 4096, space) or 0,
    }


def _time(found: Subject, settings: Settings, asked: Asked, shared_by: cards.Devices | None) -> list[str]:
    """How long `--tokens` of them take: by the card's figures, or what is measured here and now."""
    if asked.tokens is None:
        return []
    if shared_by is not None and shared_by.card is None:
        raise UsageError(f"--tokens with --devices {asked.devices}: how fast are they?", fix="name the card: 2xRTX4090")
    if shared_by is not None and shared_by.card is not None:
        card, count, share = shared_by.card, shared_by.count, timing.ASSUMED
        speed = timing.Speed(card.rate, card.read, card.name)
    else:
        from paddock.bench.machine import measure

        machine, count, share = measure(asked.device), 1, 1.0
        kind = "bf16" if settings.precision == "bfloat16" else "f32"
        speed = timing.Speed(2 * (machine.rate(kind) or 0.0), machine.read, machine.source)
    done = timing.estimate(
        found.known(),
        speed,
        length=settings.length,
        batch=settings.batch,
        tokens=asked.tokens,
        devices=count,
        share=share,
        recompute=settings.recompute,
        frozen=settings.task not in WHOLE,
    )
    how = "at the least" if share == 1 else f"at {share:.0%} of its rate, which is assumed"
    rate = f"{speed.rate / 1e12:,.3g} x 10^12 operations a second ({speed.source})"
    return [f"{asked.tokens:,} tokens take {done.seconds / 3600:,.3g} hours, a step {done.step:,.3g} s, {how}: {rate}"]


# Serving


def refuse_for_serving(asked: Asked) -> None:
    """Options that mean nothing there are refused, not passed over."""
    given = [name for name in OURS if getattr(asked, name) is not None] + ["recompute"] * asked.recompute
    if given:
        raise UsageError(f"--{given[0].replace('_', '-')} is for training", fix="say which: --task lora")


def space(asked: Asked) -> int | None:
    """Bytes that `--budget` or one of `--devices` has; None where neither is said."""
    if asked.budget is not None:
        return budget.parse(asked.budget)
    return None if asked.devices is None else cards.parse(asked.devices).memory


def shared(found: Subject, plan: Plan, asked: Asked) -> Plan:
    """With what each of several devices would hold, and how fast one could write."""
    if asked.devices is None:
        return plan
    several, worst = cards.parse(asked.devices), plan.worst
    weights = sum(part.bytes for part in worst.components if part.role in ("weights", "scales"))
    cache = sum(part.bytes for part in worst.components if part.role == "cache")
    remarks = list(plan.remarks)
    if several.count > 1:
        each = devices.serving_share(found, weights, cache, several.count) + worst.bytes - weights - cache
        says = "fits" if each <= devices.USABLE * several.memory else "does not fit"
        remarks.append(f"with matrices and cache shared by {several}, each would hold {each / 1e9:,.2f} GB: {says}")
        remarks.append("Paddock's own engine serves on one device; the verdict above is for one")
    if several.card is not None:
        speed = timing.Speed(several.card.rate, several.card.read, several.card.name)
        bound = timing.serving(found.known(), speed, weights, cache)
        said = f"at most {bound.decode:,.0f} tokens a second of one text, and {bound.prompt:,.0f} of a prompt"
        remarks.append(f"one {several.card.name}: {said} (bounds by its figures; docs/fit.md)")
    return replace(plan, remarks=tuple(remarks))
