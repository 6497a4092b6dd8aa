"""`paddock delta`: differences written and added, whole or not at all."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

from paddock.checkpoint import delta as files
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.delta import Grown
from paddock.cli import output
from paddock.cli.converting import check_target, put_folder, scratch
from paddock.cli.progress import Progress
from paddock.cli.vouching import LICENCE_FILES
from paddock.engine.locate import locate
from paddock.engine.saving import READ
from paddock.errors import UsageError, did_you_mean
from paddock.tokenizer.load import IN_ORDER

GROWN = ("zeros", "mean")


def make(base: str, tuned: str, target: str | None, grown: str, force: bool, json: bool) -> None:
    below, above = locate(base), locate(tuned)
    goal = _goal(target, (below, above), force)
    padding = _padding(grown)
    one, two = open_checkpoint(below), open_checkpoint(above)
    with scratch(goal.parent) as place, Progress("tensor") as progress:
        output.note(f"writing {goal}")
        made = files.make(one, two, place / "new", padding, progress.at)
        _beside(place / "new", above)
        put_folder(place / "new", goal)
    if json:
        return output.as_json({"base": str(below), "tuned": str(above), "target": str(goal), **asdict(made)})
    said = [f"wrote {goal}: with {below.name}, every bit of {above.name}"]
    if made.rows[0] != made.rows[1]:
        said.append(f"the vocabulary grew from {made.rows[0]:,} to {made.rows[1]:,}; new rows stand over {grown}")
    said.append(f"numbers kept beside their difference: {made.corrected:,}")
    return output.result("\n".join(said))


def apply(base: str, delta: str, target: str | None, grown: str | None, force: bool, json: bool) -> None:
    below, folder = locate(base), Path(delta).expanduser()
    if not folder.is_dir():
        raise UsageError(f"{delta[:200]} is no folder", expected="a delta: config.json and tensors")
    goal = _goal(target, (below, folder), force)
    one = open_checkpoint(below)
    padding = None if grown is None else _padding(grown)
    with scratch(goal.parent) as place, Progress("tensor") as progress:
        output.note(f"writing {goal}")
        made = files.apply(one, folder, place / "new", padding, progress.at)
        own = any(any(folder.glob(name)) for name in IN_ORDER)
        _beside(place / "new", folder if own else below)
        open_checkpoint(place / "new")
        put_folder(place / "new", goal)
    if made is None:
        output.note("the delta says nothing of its base or its sum, so neither was checked")
    if json:
        checked = None if made is None else made.tuned_sha256
        return output.as_json({"base": str(below), "delta": str(folder), "target": str(goal), "sha256": checked})
    return output.result(
        f"wrote {goal}" + ("" if made is None else ", bit for bit the model that the delta was made of")
    )


def _goal(target: str | None, sources: tuple[Path, ...], force: bool) -> Path:
    if target is None:
        raise UsageError("there is no --output", fix="for example --output delta")
    goal = Path(target).expanduser()
    if goal.suffix in (".gguf", ".bin"):
        raise UsageError(f"delta writes a folder, and the output is {goal.name}", fix=f"--output {goal.stem}")
    for source in sources:
        check_target(source, goal, force)
    return goal


def _padding(grown: str) -> Grown:
    if grown not in GROWN:
        raise UsageError(f"--grown {grown[:80]}", expected=" or ".join(GROWN), fix=did_you_mean(grown, GROWN))
    return cast(Grown, grown)


def _beside(new: Path, source: Path) -> None:
    """Tokenizer, template, licence and model card go where the numbers go."""
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        wanted = path.name in ("README.md", *LICENCE_FILES) or any(fnmatchcase(path.name, name) for name in READ)
        if wanted and path.is_file():
            shutil.copyfile(path, new / path.name)
