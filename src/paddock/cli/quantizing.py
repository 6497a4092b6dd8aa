"""`paddock quantize`: smaller weights whole or not at all, and the card that says what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paddock import kernels
from paddock.checkpoint.writing import atomic_write
from paddock.cli import output
from paddock.cli.cardprint import card_text
from paddock.cli.converting import check_target, keep, licence_key, put_folder, scratch, tokenizer_of, write_papers
from paddock.cli.loading import load
from paddock.cli.options import Loading
from paddock.cli.parityprint import parity_text
from paddock.cli.perplexity import _text as read_text
from paddock.cli.progress import Progress
from paddock.engine import parity as gate
from paddock.engine.language_model import LanguageModel
from paddock.engine.locate import locate
from paddock.engine.parity_card import EMPTY, KEY, Parity
from paddock.errors import PaddockError, UsageError
from paddock.quantize import quality
from paddock.quantize.card import Card
from paddock.quantize.gguf_file import Written, write_gguf
from paddock.quantize.importance import importance
from paddock.quantize.kinds import FOLDER_KINDS, GGUF_KINDS, KINDS, kind_named

UNCALIBRATED = ("q8_0", "f16", "bf16", "f32", "int8", "nf4")


@dataclass(frozen=True)
class Asked:
    """What a user asked `quantize` for. `target`, `calibrate`, `text`: paths, None for the usual."""

    loading: Loading
    to: str
    target: str | None
    calibrate: str | None
    text: str | None
    card: bool
    force: bool
    json: bool


@dataclass(frozen=True)
class Plan:
    """A request that can be meant: the kind, the model, the place, and the texts as ids."""

    kind: str
    model: LanguageModel
    source: Path
    goal: Path
    calibration: list[list[int]] | None
    text: quality.Text | None


def quantize(asked: Asked) -> None:
    kind = _kind(asked)
    source = locate(asked.loading.model)
    goal = _goal(asked.target, source, kind)
    check_target(source, goal, asked.force)
    output.note(f"reading {source}")
    model, _ = load(asked.loading)
    _check_source(model)
    plan = Plan(kind, model, source, goal, _calibration(asked, model), _text(asked, model))
    output.note(f"writing {goal}")
    done, parity, card = (_gguf if kind in GGUF_KINDS else _folder)(plan)
    if asked.json:
        output.as_json(_record(plan, done, parity, card))
    else:
        output.result(_said(plan, done, parity, card))


def _kind(asked: Asked) -> str:
    if not asked.to:
        raise UsageError("there is no --to", expected=", ".join(KINDS), fix="for example --to q4_k")
    kind = kind_named(asked.to)
    if asked.calibrate is not None and kind in UNCALIBRATED:
        raise UsageError(f"{kind} is not calibrated", fix="leave --calibrate out, or choose fewer bits")
    if asked.text is not None and not asked.card:
        raise UsageError("--text is what the quality card is measured on, and --no-card asks for none")
    return kind


def _goal(target: str | None, source: Path, kind: str) -> Path:
    ending = ".gguf" if kind in GGUF_KINDS else ""
    if target is None:
        return Path(f"{source.stem if source.is_file() else source.name}-{kind}{ending}")
    goal = Path(target).expanduser()
    if (goal.suffix == ".gguf") != (ending == ".gguf"):
        kinds = ", ".join(GGUF_KINDS if goal.suffix == ".gguf" else FOLDER_KINDS)
        raise UsageError(
            f"{kind} is written as a {'GGUF file' if ending else 'folder'}, and the output is {goal.name}",
            expected=kinds,
            fix=f"name the output {goal.stem}{ending}, or choose another kind",
        )
    return goal


def _check_source(model: LanguageModel) -> None:
    """What is quantised already was rounded once, and is rounded again: that is said, not refused."""
    if model.checkpoint.quantised:
        output.note("the source is quantised already: its rounding stays, and the card compares with that")


def _calibration(asked: Asked, model: LanguageModel) -> list[list[int]] | None:
    if asked.calibrate is None:
        return None
    quality.check_predicts(model)
    return quality.windows_of(model, read_text(asked.calibrate), asked.calibrate, quality.CALIBRATED).windows


def _text(asked: Asked, model: LanguageModel) -> quality.Text | None:
    if not asked.card:
        return None
    quality.check_predicts(model)
    try:
        model.tokenizer  # noqa: B018 - only to hear whether there is one
    except PaddockError as error:
        fix = "--tokenizer PATH names one, --no-card writes the model without a quality card"
        raise UsageError(f"quality is measured on a text, and there is no tokenizer ({error.what})", fix=fix) from None
    if asked.text is None:
        return quality.windows_of(model, quality.PROSE.read_text(encoding="utf-8"), "prose (bundled)")
    return quality.windows_of(model, read_text(asked.text), Path(asked.text).name)


def _gguf(plan: Plan) -> tuple[Any, Parity, Card | None]:
    """The file with empty cards, which are filled in once the file can be run."""
    weights = None if plan.calibration is None else _watched("calibrating", importance, plan.model, plan.calibration)
    empty = None if plan.text is None else _card(plan, plan.text)
    with atomic_write(plan.goal) as part:
        with Progress("writing, tensor bytes") as progress:
            done = write_gguf(
                plan.model.checkpoint,
                part,
                plan.kind,
                tokenizer=tokenizer_of(plan.model),
                template=plan.model.template,
                importance=weights,
                extra=licence_key(plan.model.checkpoint) | {KEY: EMPTY} | ({} if empty is None else empty.metadata()),
                progress=lambda name, written, total: progress.at(written, total, name),
            )
        _tell_losses(plan, done)
        after = _opened(part)
        parity, card = _compared(plan, after), None
        keep(parity, part, done)
        if empty is not None and plan.text is not None:
            size = part.stat().st_size
            card = replace(_measured(plan, plan.text, after, empty), bytes=size, bits_per_weight=done.bits_per_weight)
            numbers = {key: value for key, value in card.metadata().items() if not isinstance(value, str | bool)}
            done.fill(part, numbers)
    return done, parity, card


def _tell_losses(plan: Plan, done: Written) -> None:
    """What a GGUF file has no place for."""
    if done.dropped:
        output.note(f"GGUF has no place for the pooler, so it is left out: {', '.join(done.dropped)}")
    kept = {"bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "_from_model_config"}
    lost = {name: value for name, value in plan.model.checkpoint.generation.items() if name not in kept}
    if lost:
        output.note(f"GGUF has no place for generation defaults, so they are left out: {', '.join(lost)}")


def _folder(plan: Plan) -> tuple[Any, Parity, Card | None]:
    from paddock.quantize import folders

    with scratch(plan.goal.parent) as place:
        new = place / "new"
        with Progress("quantising, weights") as progress:
            done = folders.write(
                plan.model.checkpoint,
                new,
                plan.kind,
                plan.calibration,
                lambda name, written, total: progress.at(written, total, name),
            )
        write_papers(plan.model.checkpoint, new)
        after = _opened(new)
        parity, card = _compared(plan, after), None
        keep(parity, new, None)
        if plan.text is not None:
            size = sum(path.stat().st_size for path in new.glob("*.safetensors"))
            weights = sum(math.prod(stored.shape) for stored in plan.model.checkpoint.tensors.values())
            card = _measured(plan, plan.text, after, _card(plan, plan.text))
            card = replace(card, bytes=size, bits_per_weight=8 * size / weights)
            card.write(new)
        put_folder(new, plan.goal)
    return done, parity, card


def _opened(written: Path) -> LanguageModel:
    """The model just written, loaded as any user would load it."""
    return load(Loading(str(written)))[0]


def _compared(plan: Plan, after: LanguageModel) -> Parity:
    """Quantising rounds: how far is measured and told, not bound."""
    output.note("comparing both")
    return _watched("comparing, prompts", gate.compare, plan.model, after, "quantize", None)


def _watched(what: str, work: Callable[..., Any], *arguments: Any) -> Any:
    with Progress(what) as progress:
        return work(*arguments, progress.at)


def _card(plan: Plan, text: quality.Text) -> Card:
    """All that is known before the measurement."""
    zeros = dict.fromkeys(Card.__dataclass_fields__, 0.0)
    known = {
        "kind": plan.kind,
        "source": plan.source.name,
        "text": text.name,
        "text_sha256": text.sha256,
        "calibrated": plan.calibration is not None,
        "machine": kernels.chosen(),
        "tokens": 0,
        "window": len(text.windows[0]),
        "bytes": 0,
    }
    return Card(**(zeros | known))  # type: ignore[arg-type]


def _measured(plan: Plan, text: quality.Text, after: LanguageModel, empty: Card) -> Card:
    """The card with what was found."""
    output.note("measuring")
    found = _watched("measuring, windows", quality.compare, plan.model, after, text)
    prompt, decode = quality.speeds(after, text)
    return replace(
        empty,
        tokens=found.tokens,
        perplexity_before=found.before[0],
        perplexity_before_stderr=found.before[1],
        perplexity_after=found.after[0],
        perplexity_after_stderr=found.after[1],
        kl_mean=found.kl_mean,
        kl_p99=found.kl_p99,
        top1=found.top1,
        prompt_tokens_per_second=prompt,
        decode_tokens_per_second=decode,
    )


def _record(plan: Plan, done: Any, parity: Parity, card: Card | None) -> dict[str, Any]:
    return {
        "source": str(plan.source),
        "target": str(plan.goal),
        "kind": plan.kind,
        "types": getattr(done, "types", None),
        "bits_per_weight": done.bits_per_weight,
        "quality": card,
        "parity": parity,
    }


def _said(plan: Plan, done: Any, parity: Parity, card: Card | None) -> str:
    lines = [f"wrote {plan.goal}"]
    if isinstance(done, Written):
        lines.append("tensors: " + ", ".join(f"{count} {name}" for name, count in done.types.items()))
    else:
        kept = f"; {len(done.plain)} do not fit {plan.kind} and stay as they were" if done.plain else ""
        lines.append(f"{done.matrices} matrices, {done.group} weights to a scale{kept}")
    if card is None:
        what = "weight" if isinstance(done, Written) else "quantised weight"
        lines.append(f"{done.bits_per_weight:.2f} bits per {what}; no quality card was asked for")
    else:
        lines += ["", card_text(card)]
    lines += ["", parity_text(parity)]
    return "\n".join(lines)
