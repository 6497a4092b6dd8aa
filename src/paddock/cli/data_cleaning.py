"""What `paddock data clean` does."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import textwrap
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.checkpoint.writing import write_text
from paddock.cli import output
from paddock.cli.progress import Progress
from paddock.data.cleaning.publish import MANIFEST, read_removed
from paddock.data.cleaning.recipe import CleaningRecipe, parse_recipe, refuse_unknown_stages
from paddock.data.cleaning.run import Told, clean_files
from paddock.data.cleaning.run import clean as clean_documents
from paddock.data.instruct.cleaning.recipe import STAGES, ExampleRecipe
from paddock.data.instruct.cleaning.run import clean as clean_examples
from paddock.data.instruct.cleaning.run import manifest_of, samples_of
from paddock.data.instruct.reading import Report, examples
from paddock.data.instruct.writing import container_of, write_examples
from paddock.data.reading import read_documents
from paddock.engine.locate import locate
from paddock.errors import UsageError, did_you_mean
from paddock.tokenizer.load import load as load_tokenizer
from paddock.training import recipe_files
from paddock.training.manifest import sha256

WIDTH = 116  # of an example


@dataclass(frozen=True)
class Asked:
    """What a user asked `data clean` for."""

    files: list[str]
    recipe: str
    output: str
    settings: list[str]
    dry_run: int | None
    show_removed: str | None
    force: bool
    json: bool


def clean(asked: Asked) -> None:
    path = Path(asked.recipe)
    values = recipe_files.override(recipe_files.read(path), asked.settings)
    if values.get("of") == "examples":
        _examples(asked, values)
        return
    recipe = parse_recipe(values, str(path))
    if asked.dry_run is None:
        manifest = _real(asked, recipe)
        _finish(asked, manifest, read_removed(Path(asked.output)), _written(manifest, Path(asked.output)))
        return
    with tempfile.TemporaryDirectory(prefix="paddock-clean-") as folder:
        target = Path(folder) / "dry"
        documents = itertools.islice(read_documents(asked.files, recipe.read.options()), asked.dry_run)
        started = time.monotonic()
        with Progress("cleaning") as progress:
            manifest = clean_documents(documents, recipe, target, told=_telling(progress))
        _rate(manifest, started)
        _finish(asked, manifest, read_removed(target), "nothing was written: --dry-run")


def _examples(asked: Asked, values: dict[str, Any]) -> None:
    refuse_unknown_stages(values, STAGES, asked.recipe)
    recipe = recipe_files.validated(ExampleRecipe, values, asked.recipe)
    target = Path(asked.output)
    if asked.dry_run is None:
        container_of(target)
        if os.path.lexists(target) and not asked.force:
            raise UsageError(f"{target} is there already", fix="--force replaces it")
    report = Report()
    read = examples(asked.files, limit=asked.dry_run, report=report, **recipe.read.options())
    started = time.monotonic()
    with Progress("cleaning") as progress:
        found = clean_examples(read, recipe, lambda model: load_tokenizer(locate(model or None)), _telling(progress))
    output.note(report.told)
    manifest = manifest_of(found, recipe, report)
    if not found.examples:
        _finish(asked, manifest, samples_of(found), "nothing was written: no example is left")
        return
    said = "nothing was written: --dry-run"
    if asked.dry_run is None:
        written = write_examples(found.examples, target, recipe.to)
        beside = target.with_name(target.name + ".manifest.json")
        write_text(
            beside, json.dumps(manifest | {"output_sha256": sha256(target)}, ensure_ascii=False, indent=1) + "\n"
        )
        said = f"{target}: {written.told}"
    _rate(manifest, started, "examples")
    _finish(asked, manifest, samples_of(found), said)


def _real(asked: Asked, recipe: CleaningRecipe) -> dict[str, Any]:
    target = Path(asked.output)
    done_before = (target / MANIFEST).exists() and not asked.force
    started = time.monotonic()
    try:
        with Progress("cleaning") as progress:
            manifest = clean_files(asked.files, recipe, target, told=_telling(progress), force=asked.force)
    except KeyboardInterrupt:
        output.note("what was done is kept: the same command goes on from there")
        raise
    if done_before:
        output.note(f"{target} was cleaned before, by this recipe from these inputs")
    else:
        _rate(manifest, started)
    return manifest


def _telling(progress: Progress) -> Told:
    def told(what: str, count: int) -> None:
        progress.at(count, None, what)

    return told


def _rate(manifest: dict[str, Any], started: float, what: str = "documents") -> None:
    seconds = time.monotonic() - started
    count = manifest[f"{what}_in"]
    output.note(f"{count:,} {what} in {seconds:.1f} s, {count / max(seconds, 1e-9):,.0f} a second")


def _finish(asked: Asked, manifest: dict[str, Any], samples: list[dict[str, Any]], said: str) -> None:
    if asked.show_removed is not None:
        _show_removed(asked, manifest, samples)
    elif asked.json:
        output.as_json(manifest)
    else:
        output.result(_table(manifest))
        output.result(said)


def _table(manifest: dict[str, Any]) -> str:
    rows = []
    what = "documents" if "documents_in" in manifest else "examples"
    for stage in manifest["stages"]:
        gone = sum(stage["reasons"].values())
        counts = [stage[f"{what}_in"], stage[f"{what}_out"], gone, stage[f"{what}_changed"]]
        rows.append([f"{stage['number']} {stage['stage']}", *(f"{count:,}" for count in counts), _characters(stage)])
        for reason, count in sorted(stage["reasons"].items(), key=lambda each: (-each[1], each[0])):
            rows.append([f"    {reason}", "", "", f"{count:,}", "", ""])
        for change, count in sorted(stage["changes"].items()):
            rows.append([f"    {change}", "", "", "", f"{count:,} x", ""])
    header = ("stage", "in", "out", "removed", "changed", "characters kept")
    columns = len(header) - (what == "examples")
    notes = [said for stage in manifest["stages"] if (said := _classifier(stage))]
    table = output.table([row[:columns] for row in rows], header[:columns], right=tuple(range(1, columns)))
    return "\n".join([table, *notes])


def _characters(stage: dict[str, Any]) -> str:
    if not stage.get("characters_in"):
        return "-"
    return f"{stage['characters_out'] / stage['characters_in']:.1%}"


def _classifier(stage: dict[str, Any]) -> str:
    found = stage.get("classifier")
    if not found or "texts" not in found:
        return ""
    texts = ", ".join(f"{count} {label}" for label, count in found["texts"].items())
    held = found["held_out"]
    right = f"{found['right']:.1%} right of {held} held out" if held else "too few to hold any out"
    return f"stage {stage['number']} {stage['stage']} learned from {texts} texts: {right}"


def _written(manifest: dict[str, Any], folder: Path) -> str:
    shards = manifest["shards"]
    held = sum(shard["documents"] for shard in manifest["holdout"])
    lines = [
        f"{manifest['documents_out']:,} of {manifest['documents_in']:,} documents in {len(shards)} shards of {folder}"
        + (f", {held:,} of them held out" if manifest["holdout"] else ""),
        "why the others went: manifest.json, funnel.png, or --show-removed REASON",
    ]
    return "\n".join(lines)


def _show_removed(asked: Asked, manifest: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    """Examples of one reason, or of all; the reasons there are where the one asked for is not among them."""
    wanted = asked.show_removed
    chosen = [sample for sample in samples if wanted in ("all", sample["reason"])]
    if not chosen and wanted != "all":
        reasons = Counter({reason: n for stage in manifest["stages"] for reason, n in stage["reasons"].items()})
        known = [*reasons, *(["changed"] if any(s["reason"] == "changed" for s in samples) else [])]
        raise UsageError(
            f"nothing was removed for the reason {wanted!r}",
            expected=", ".join(known) or "no reason at all: nothing was removed",
            fix=did_you_mean(str(wanted), known),
        )
    if asked.json:
        output.as_json(chosen)
        return
    for sample in chosen:
        output.result(f"{sample['place']}  stage {sample['stage']} {sample['name']}: {sample['reason']}")
        if sample["detail"]:
            output.result(f"    {sample['detail']}")
        output.result(textwrap.indent(_short(sample["text"]), "    | "))
        if sample.get("like") and "text" in sample["like"]:
            output.result(f"  it is like {sample['like']['place']}, which stays")
            output.result(textwrap.indent(_short(sample["like"]["text"]), "    | "))
        output.result("")


def _short(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, max_lines=4, placeholder=" ...")) or "(nothing)"
