"""`paddock rm`: deletes a model that has a name here, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paddock.catalog.catalogue import catalogue, folded
from paddock.checkpoint.hub import cache
from paddock.checkpoint.hub.removing import place_of, removal
from paddock.checkpoint.hub.settings import cache_folder
from paddock.cli import output
from paddock.cli.pulling import agreed, can_ask
from paddock.engine.locate import BUNDLED, names
from paddock.engine.named import link_of, links_to, target_of
from paddock.errors import PaddockError, UsageError, nearest


@dataclass(frozen=True)
class Deletion:
    """What is to go: lines that say so, bytes that are freed, and how to do it."""

    lines: tuple[str, ...]
    freed: int
    execute: Callable[[], None]


def rm(name: str, yes: bool, json: bool) -> None:
    planned = deletion(name)
    for line in planned.lines:
        output.note(line)
    if not yes:
        if not can_ask():
            raise UsageError(f"{name} would be deleted, and nobody can be asked", fix=f"paddock rm {name} --yes")
        if not agreed(f"delete it and free {output.size(planned.freed)}?"):
            raise UsageError("nothing was deleted")
    planned.execute()
    if json:
        output.as_json({"name": name, "freed": planned.freed})
    else:
        output.result(f"{name} is deleted; {output.size(planned.freed)} are free again")


def deletion(name: str) -> Deletion:
    """What deleting `name` means. Raises UsageError for what is no model of ours or of the cache."""
    if name == BUNDLED:
        raise UsageError(f"{BUNDLED} comes with Paddock and stays")
    own = link_of(name)
    if own is not None:
        return _of_link(own) if own.is_symlink() else _of_own(own)
    repo, at, revision = name.partition("@")
    if not cache.is_repo(repo) or (at and not cache.is_revision(revision)):
        raise _refusal(name)
    place = place_of(cache_folder(), repo, revision or cache.MAIN)
    if place is None and (found := catalogue().names.get(folded(repo))) and found.size is not None and found.size.hub:
        repo = found.size.hub
        place = place_of(cache_folder(), repo, revision or cache.MAIN)
    if place is None:
        raise _refusal(name)
    return _of_cache(place, repo)


def _refusal(name: str) -> PaddockError:
    if Path(name).expanduser().exists():
        return UsageError(f"{name} is a path of yours; models are deleted by name", fix="delete it as any other file")
    known = [other for other in names() if other != BUNDLED]
    near = nearest(name, known)
    return UsageError(
        f"no model here is called {name[:200]!r}" + (f"; the nearest known is {near!r}" if near else ""),
        fix="`paddock ls` shows what is here",
    )


def _of_link(link: Path) -> Deletion:
    """A name that `pull` made: the name and the revision behind it; of a link to elsewhere only the link."""
    target = target_of(link)
    snapshot = _snapshot_above(target)
    if snapshot is None:
        rest = f"{target}, which it means, stays" if target.exists() else "what it meant is gone already"
        return Deletion((f"the name {link.name} goes; {rest}",), 0, link.unlink)
    return _of_cache(snapshot, snapshot.parent.parent.name.removeprefix("models--").replace("--", "/"))


def _snapshot_above(path: Path) -> Path | None:
    """The snapshot of the hub's cache that a path is or lies in, or None."""
    root = cache_folder().resolve()
    for folder in (path, *path.parents):
        if folder.parent.name == "snapshots" and folder.parent.parent.parent == root and folder.is_dir():
            return folder
    return None


def _of_cache(place: Path, repo: str) -> Deletion:
    gone = removal(place, repo)
    links = links_to(place)
    called = f", called {', '.join(sorted({link.stem if link.suffix == '.gguf' else link.name for link in links}))}"
    lines = [f"{gone.what}{called if links else ''}: {output.shown_path(gone.paths[0])}"]
    if gone.others:
        lines.append(f"{gone.others} more of its revisions stay, and every byte that they have too")

    def execute() -> None:
        for link in links:
            link.unlink(missing_ok=True)
        gone.execute()

    return Deletion(tuple(lines), gone.freed, execute)


def _of_own(path: Path) -> Deletion:
    """A folder or file that somebody put into PADDOCK_HOME/models. Links inside are deleted, not what they mean."""
    if path.is_dir() and not (path / "config.json").exists():
        raise UsageError(f"{path} is no model: it has no config.json", fix="delete it as any other folder")
    inside = [found for found in path.rglob("*") if found.is_file()] if path.is_dir() else [path]
    freed = sum(found.lstat().st_size for found in inside if not found.is_symlink())

    def execute() -> None:
        try:
            shutil.rmtree(path) if path.is_dir() else os.unlink(path)
        except OSError as error:
            raise PaddockError(f"{error.filename or path} could not be deleted: {error.strerror or error}") from None

    return Deletion((f"{len(inside)} files: {output.shown_path(path)}",), freed, execute)
