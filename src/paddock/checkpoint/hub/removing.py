"""Taking a model out of the hub's cache: one revision, and the bytes that no other revision has."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paddock.checkpoint.hub import cache
from paddock.checkpoint.hub.library import library
from paddock.errors import PaddockError


@dataclass(frozen=True)
class Removal:
    """What is to go. freed: bytes that the disk gets back. others: revisions of the same model that stay."""

    what: str
    paths: tuple[Path, ...]
    freed: int
    others: int
    execute: Callable[[], None]


def removal(folder: Path, repo: str) -> Removal:
    """How to remove a repository that came only in part (`folder` is models--*), or one snapshot of one that came.

    The hub's library works out what else refers to a blob: it knows how its cache is built in each of its versions.
    """
    if folder.parent.name != "snapshots":
        return Removal(f"the parts of {repo} that came", (folder,), _bytes_in(folder), 0, lambda: _remove(folder))
    root, commit = folder.parent.parent, folder.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = library().scan_cache_dir(root.parent)
    ours = [known for known in found.repos if known.repo_path.name == root.name]
    others = len({revision.commit_hash for known in ours for revision in known.revisions} - {commit})
    if not ours or not any(revision.commit_hash == commit for known in ours for revision in known.revisions):
        raise PaddockError(f"the cache's part for {repo} is damaged", fix=f"delete {root}, and pull it again")
    strategy = found.delete_revisions(commit)
    left = sum(file.size_on_disk for file in found.incomplete_files if file.file_path.parent.parent.name == root.name)
    freed = strategy.expected_freed_size + (0 if others else left)

    def execute() -> None:
        strategy.execute()
        if folder.exists():
            raise PaddockError(f"{folder} could not be deleted", fix="look at who owns it")

    return Removal(f"{repo} at {commit[:10]}", (folder if others else root,), freed, others, execute)


def place_of(settings_cache: Path, repo: str, revision: str = cache.MAIN) -> Path | None:
    """What `removal` takes: the snapshot of a revision, or the whole folder where none ever came in full."""
    found = cache.snapshot(settings_cache, repo, revision)
    if found is not None:
        return found
    root = cache.folder_of(settings_cache, repo)
    snapshots = root / "snapshots"
    named = (root / "refs").exists()
    return (
        root
        if root.is_dir()
        and not root.is_symlink()
        and not named
        and revision == cache.MAIN
        and (not snapshots.exists() or not any(cache.models_in(path) for path in snapshots.iterdir()))
        else None
    )


def _bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise PaddockError(f"{error.filename or folder} could not be deleted: {error.strerror or error}") from None
