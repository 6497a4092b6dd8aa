"""What `paddock data clean` does."""

from __future__ import annotations

import itertools
import tempfile
import textwrap
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.cli import output
from paddock.cli.progress import Progress
from paddock.data.cleaning.publish import MANIFEST, read_removed
from paddock.data.cleaning.recipe import CleaningRecipe, parse_recipe
from paddock.data.cleaning.run import Told, clean_files
from paddock.data.cleaning.run import clean as clean_documents
from paddock.data.reading import read_documents
from paddock.errors import UsageError, did_you_mean
from paddock.training import recipe_files

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
    recipe = parse_recipe(recipe_files.override(recipe_files.read(path), asked.settings), str(path))
    if asked.dry_run is None:
        _finish(asked, _real(asked, recipe), Path(asked.output))
        return
    with tempfile.TemporaryDirectory(prefix="paddock-clean-") as folder:
        target = Path(folder) / "dry"
        documents = itertools.islice(read_documents(asked.files, recipe.read.options()), asked.dry_run)
        started = time.monotonic()
        with Progress("cleaning") as progress:
            manifest = clean_documents(documents, recipe, target, told=_telling(progress))
        _rate(manifest, started)
        _finish(asked, manifest, target)


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


def _rate(manifest: dict[str, Any], started: float) -> None:
    seconds = time.monotonic() - started
    count = manifest["documents_in"]
    output.note(f"{count:,} documents in {seconds:.1f} s, {count / max(seconds, 1e-9):,.0f} a second")


def _finish(asked: Asked, manifest: dict[str, Any], folder: Path) -> None:
    if asked.show_removed is not None:
        _show_removed(asked, manifest, read_removed(folder))
    elif asked.json:
        output.as_json(manifest)
    else:
        output.result(_table(manifest))
        if asked.dry_run is None:
            output.result(_written(manifest, folder))
        else:
            output.result("nothing was written: --dry-run")


def _table(manifest: dict[str, Any]) -> str:
    rows = []
    for stage in manifest["stages"]:
        gone = stage["documents_in"] - stage["documents_out"]
        counts = [stage["documents_in"], stage["documents_out"], gone, stage["documents_changed"]]
        rows.append([f"{stage['number']} {stage['stage']}", *(f"{count:,}" for count in counts), _characters(stage)])
        for reason, count in sorted(stage["reasons"].items(), key=lambda each: (-each[1], each[0])):
            rows.append([f"    {reason}", "", "", f"{count:,}", "", ""])
        for what, count in sorted(stage["changes"].items()):
            rows.append([f"    {what}", "", "", "", f"{count:,} x", ""])
    header = ("stage", "in", "out", "removed", "changed", "characters kept")
    notes = [said for stage in manifest["stages"] if (said := _classifier(stage))]
    return "\n".join([output.table(rows, header, right=(1, 2, 3, 4, 5)), *notes])


def _characters(stage: dict[str, Any]) -> str:
    if not stage["characters_in"]:
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
        if sample["like"] and "text" in sample["like"]:
            output.result(f"  it is like {sample['like']['place']}, which stays")
            output.result(textwrap.indent(_short(sample["like"]["text"]), "    | "))
        output.result("")


def _short(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, max_lines=4, placeholder=" ...")) or "(nothing)"
