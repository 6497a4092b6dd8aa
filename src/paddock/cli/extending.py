"""`paddock extend`: a folder of the same weights that reads longer texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from paddock.cli import output
from paddock.cli.converting import check_target, in_numbers, put_folder, scratch, write_papers
from paddock.cli.options import Loading
from paddock.cli.valueprint import value_text
from paddock.engine.language_model import LanguageModel
from paddock.engine.locate import locate
from paddock.errors import UsageError
from paddock.finetune.extending import Extended, Extension, Kind
from paddock.finetune.extending import extend as write


def extend(
    asked: Loading,
    rope: str,
    scale: float | None,
    exponent: float | None,
    cutoff: float | None,
    target: str | None,
    *,
    force: bool,
    json: bool,
) -> None:
    if scale is None:
        raise UsageError("there is no --scale", fix="for example --scale 4: texts four times as long")
    wanted = Extension(cast("Kind", rope), scale, exponent, cutoff)
    if target is None:
        raise UsageError("there is no --output", fix="name the folder of the longer model: --output FOLDER")
    source, goal = locate(asked.model), Path(target).expanduser()
    if goal.suffix in (".gguf", ".bin"):
        raise UsageError(f"{goal.name} is a file", fix="name a folder; `paddock convert` makes a file of it")
    check_target(source, goal, force)
    output.note(f"reading {source}")
    model = in_numbers(asked)
    with scratch(goal.parent) as place:
        output.note(f"writing {goal}")
        made = write(model, place / "new", wanted)
        write_papers(model.checkpoint, place / "new")
        put_folder(place / "new", goal)
    if json:
        output.as_json(_record(source, goal, made))
    else:
        output.result(_said(goal, made, model))


def _record(source: Path, goal: Path, made: Extended) -> dict[str, Any]:
    return {
        "source": str(source),
        "target": str(goal),
        "context_before": made.before,
        "context": made.after,
        "rope": made.rope,
        "rope_scaling": made.config.get("rope_scaling") or made.config.get("rope_parameters"),
    }


def _said(goal: Path, made: Extended, model: LanguageModel) -> str:
    each = model.architecture.cache_values_per_token() * model.model.embedding.tokens.weight.dtype.itemsize
    rows = [
        ["context", f"{made.before:,} tokens before, {made.after:,} now"],
        ["cache, full", f"{output.size(each * made.after)} for one text of {made.after:,} tokens"],
    ]
    lines = [f"wrote {goal}", output.table(rows), value_text(made.rope)]
    lines.append(
        f"next: paddock finetune extend-text model={goal} data.files=LONG.jsonl data.length={made.after}; "
        f"paddock eval lines {goal}"
    )
    return "\n".join(lines)
