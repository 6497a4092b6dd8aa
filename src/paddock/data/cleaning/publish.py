"""The result of cleaning: shards, the manifest that accounts for every document, examples of what went, a plot.

    manifest.json    recipe, inputs, stages (in, out, changed, reasons), shards; SHA-256 of all; written last
    shard-00000.jsonl.zst ...    {"text", "meta"}
    holdout-00000.jsonl.zst ...  where the recipe asks for it
    removed.jsonl    up to 20 examples of each stage and reason
    funnel.png       how many documents were left after each stage

Nothing in these files says when or how fast: the same inputs and recipe give the same bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from paddock.checkpoint import jsonfile
from paddock.checkpoint.writing import atomic_write, write_text
from paddock.data.cleaning.chunks import Chunks, Line
from paddock.data.cleaning.private import Private
from paddock.data.cleaning.recipe import CleaningRecipe
from paddock.data.cleaning.tally import EXCERPT, Samples, Tally
from paddock.data.cleaning.words import digest, whole
from paddock.errors import CheckpointError, DataError, UsageError

MANIFEST, REMOVED, FUNNEL = "manifest.json", "removed.jsonl", "funnel.png"
VERSION = 1
LEVEL = 3  # of zstd
PATTERNS = (MANIFEST, REMOVED, FUNNEL, "shard-?????.jsonl*", "holdout-?????.jsonl*")
SAME = ("recipe_digest", "inputs", "trained_on")


@dataclass(frozen=True)
class Found:
    """What a run found out. tallies: of reading, then of each stage; prepared: classifiers by their stage's number."""

    recipe: CleaningRecipe
    job: dict[str, Any]
    tallies: list[Tally]
    samples: Samples
    prepared: dict[int, dict[str, Any]]


def publish(chunks: Chunks, found: Found, output: Path, told: Callable[[int], None]) -> dict[str, Any]:
    """Writes everything into `output`, the manifest last, and returns it."""
    for path in output.glob(".*.partial"):  # what a killed run was writing
        path.unlink()
    samples = found.samples.in_order()
    wanted = {sample["like"] for sample in samples if sample["like"] is not None}
    seen: dict[int, dict[str, Any]] = {}

    def lines(holdout: bool) -> Iterator[Line]:
        numbers = itertools.count(1)
        for number, record in enumerate(chunks.records()):
            for line in chunks.lines(number, record):
                if _is_holdout(line, found.recipe.holdout) == holdout:
                    if line.number in wanted:
                        text = line.item().document.text[:EXCERPT]
                        seen[line.number] = {"number": line.number, "place": line.place, "text": text}
                    told(next(numbers))
                    yield line

    shards = list(_shards(lines(False), "shard", found.recipe, output))
    held = list(_shards(lines(True), "holdout", found.recipe, output)) if found.recipe.holdout else []
    _write_removed(output, samples, seen, found.recipe)
    manifest = _manifest(found, shards, held)
    from paddock.data.cleaning.funnel import draw  # matplotlib takes a second to import

    draw(manifest, output / FUNNEL)
    write_text(output / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
    return manifest


def _is_holdout(line: Line, share: float) -> bool:
    """Drawn from the text alone: a document stays on its side whatever else is cleaned with it."""
    if not share:
        return False
    return int.from_bytes(digest(f"holdout {whole(line.item().document.text)}", 8), "little") < share * 2**64


def _shards(lines: Iterator[Line], name: str, recipe: CleaningRecipe, output: Path) -> Iterator[dict[str, Any]]:
    """Writes lines into files of about `shard_megabytes` and says what each holds."""
    most = int(recipe.shard_megabytes * 1e6)
    for number in itertools.count():
        first = next(lines, None)
        if first is None:
            return
        path = output / f"{name}-{number:05}.{recipe.format}"
        said: dict[str, Any] = {"file": path.name, "documents": 0, "characters": 0, "bytes": 0}
        with atomic_write(path) as part, part.open("wb") as file:
            # Without a size known before, a frame's window is the level's: any reader of zstd takes it.
            packed = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(file, closefd=False)
            out = packed if recipe.format == "jsonl.zst" else file
            for line in itertools.chain([first], lines):
                out.write(line.output + b"\n")
                said["documents"] += 1
                said["characters"] += line.characters
                said["bytes"] += len(line.output) + 1
                if said["bytes"] >= most:
                    break
            if out is packed:
                packed.close()
        with path.open("rb") as file:
            said["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        yield said


def _write_removed(
    output: Path, samples: list[dict[str, Any]], seen: dict[int, dict[str, Any]], recipe: CleaningRecipe
) -> None:
    """Where the recipe takes private data out, it is in no example either, at whatever stage that went."""
    names = ["read", *(stage.stage for stage in recipe.stages)]
    scrubs = [Private(stage.kinds, stage.placeholder) for stage in recipe.stages if stage.stage == "pii"]
    rows = []
    for sample in samples:
        for scrub in scrubs:
            sample["text"] = scrub.scrub(sample["text"])[0]
        like = None if sample["like"] is None else seen.get(sample["like"], {"number": sample["like"]})
        # In this order, whether an example comes from memory or from a chunk of an earlier run.
        row = {name: sample[name] for name in ("stage", "reason", "number", "place", "detail", "text")}
        row = {**row, "name": names[sample["stage"]], "like": like}
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_text(output / REMOVED, "".join(rows))


def _manifest(found: Found, shards: list[dict[str, Any]], held: list[dict[str, Any]]) -> dict[str, Any]:
    stages = []
    settings = [found.recipe.read.model_dump(mode="json"), *(s.model_dump(mode="json") for s in found.recipe.stages)]
    for number, (tally, asked) in enumerate(zip(found.tallies, settings, strict=True)):
        tally.check()
        name = asked.pop("stage", "read")
        stage = {"number": number, "stage": name, "settings": asked, **tally.as_dict()}
        if number in found.prepared:
            stage["classifier"] = found.prepared[number]
        stages.append(stage)
    written = sum(shard["documents"] for shard in [*shards, *held])
    assert written == found.tallies[-1].documents_out, "every document that stays is in a shard"
    return {
        "version": VERSION,
        **found.job,
        "recipe": found.recipe.model_dump(mode="json"),
        "documents_in": found.tallies[0].documents_in,
        "documents_out": written,
        "characters_in": found.tallies[0].characters_in,
        "characters_out": found.tallies[-1].characters_out,
        "stages": stages,
        "shards": shards,
        "holdout": held,
    }


def finished(output: Path, job: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of a run that is done; None where there is none.

    Raises UsageError for another run's, DataError where a shard is gone.
    """
    path = output / MANIFEST
    if not path.exists():
        return None
    manifest = read_manifest(output)
    same_job(manifest, job, output)
    for shard in [*manifest["shards"], *manifest["holdout"]]:
        if not (output / shard["file"]).is_file():
            raise DataError(
                f"{output / shard['file']} is gone, though the manifest lists it", fix="start over: --force"
            )
    return manifest


def read_manifest(output: Path) -> dict[str, Any]:
    """The manifest in a folder. Raises DataError."""
    try:
        manifest = jsonfile.read(output / MANIFEST, 1 << 28)
    except CheckpointError as problem:
        raise DataError(problem.what, expected=problem.expected) from None
    if missing := {"stages", "shards", "holdout", *SAME} - manifest.keys():
        raise DataError(
            f"{output / MANIFEST} has no {', '.join(sorted(missing))}", expected="a manifest of `data clean`"
        )
    return manifest


def read_removed(output: Path) -> list[dict[str, Any]]:
    """The examples in a folder. Raises DataError."""
    try:
        text = (output / REMOVED).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line]
    except (OSError, ValueError) as error:
        raise DataError(f"{output / REMOVED} cannot be read: {str(error)[:80]}") from None


def same_job(held: dict[str, Any], job: dict[str, Any], output: Path) -> None:
    """Raises UsageError unless a folder's run is of the same recipe over the same inputs."""
    for key in SAME:
        if held.get(key) != job[key]:
            what = {"recipe_digest": "another recipe", "inputs": "other inputs"}.get(key, "other files to learn from")
            if key == "inputs":
                what += _which(held.get(key), job[key])
            raise UsageError(
                f"{output} holds a run of {what}", fix="name another --output, or start over there: --force"
            )


def _which(held: Any, now: list[dict[str, Any]]) -> str:
    before = {each.get("file"): each for each in held or () if isinstance(each, dict)}
    changed = [each["file"] for each in now if before.get(each["file"]) != each] or [
        name for name in before if name not in {each["file"] for each in now}
    ]
    return f" ({changed[0]} differs)" if changed else ""


def remove(output: Path) -> None:
    """Takes away what cleaning wrote into a folder, and nothing else."""
    shutil.rmtree(output / ".work", ignore_errors=True)
    for pattern in PATTERNS:
        for path in output.glob(pattern):
            path.unlink()
