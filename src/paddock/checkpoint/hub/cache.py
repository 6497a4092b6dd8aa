"""The hub's cache on this disk: which models lie in it, whole. Nothing here reaches a network or writes.

    models--ORG--NAME/
        blobs/DIGEST               a file's bytes, named by their SHA-256 (large files) or git hash
        refs/main                  the commit that a branch or tag meant when it was downloaded
        snapshots/COMMIT/config.json -> ../../blobs/DIGEST

Other tools share it: a snapshot that one of them left half-way is not taken for a model.
"""

from __future__ import annotations

import re
from pathlib import Path

from paddock.checkpoint import jsonfile
from paddock.errors import PaddockError

MAIN = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # git's SHA-1 of a small file, SHA-256 of a large one
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPO = re.compile(rf"{_PART}(?:/{_PART})?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
_PREFIX = "models--"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in the order in which a folder's weights are looked for


def is_repo(text: str) -> bool:
    """Whether `text` is ORG/NAME (or the bare NAME of the hub's first models), as the hub allows names."""
    return bool(_REPO.fullmatch(text)) and "--" not in text and ".." not in text


def is_revision(text: str) -> bool:
    """Whether `text` can be a branch, a tag or a commit, and cannot lead out of a folder."""
    return len(text) <= 200 and ".." not in text and bool(_REVISION.fullmatch(text))


def folder_of(cache: Path, repo: str) -> Path:
    """Where a repository's files lie."""
    return cache / (_PREFIX + repo.replace("/", "--"))


def commit_of(cache: Path, repo: str, revision: str = MAIN) -> str | None:
    """The commit that `revision` meant when it was downloaded, or None."""
    if COMMIT.fullmatch(revision):
        return revision
    try:
        with (folder_of(cache, repo) / "refs" / revision).open("rb") as file:
            text = file.read(100).decode("ascii", "replace").strip()
    except OSError:
        return None
    return text if COMMIT.fullmatch(text) else None


def snapshot(cache: Path, repo: str, revision: str = MAIN) -> Path | None:
    """The folder of a revision that has been downloaded, whole or not."""
    commit = commit_of(cache, repo, revision)
    folder = folder_of(cache, repo) / "snapshots" / commit if commit else None
    return folder if folder is not None and folder.is_dir() else None


def models_in(folder: Path) -> list[Path]:
    """The models of a snapshot: the folder itself if it is one and whole, else each GGUF file."""
    if is_whole(folder):
        return [folder]
    return sorted(path for path in folder.rglob("*.gguf") if path.is_file())


def is_whole(folder: Path) -> bool:
    """Whether a folder has a config.json and every file of weights that it speaks of."""
    if not (folder / "config.json").is_file():
        return False
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _has_shards(folder, index)
        if (folder / name).is_file():
            return True
    return False


def _has_shards(folder: Path, index: Path) -> bool:
    try:
        where = jsonfile.read(index).get("weight_map")
    except PaddockError:
        return False
    shards = set(where.values()) if isinstance(where, dict) else set()
    return bool(shards) and all(isinstance(shard, str) and (folder / shard).is_file() for shard in shards)


def repositories(cache: Path) -> dict[str, Path]:
    """Every repository of models in the cache: its name and its folder."""
    try:
        folders = sorted(path for path in cache.iterdir() if path.name.startswith(_PREFIX) and path.is_dir())
    except OSError:
        return {}
    named = {folder.name.removeprefix(_PREFIX).replace("--", "/"): folder for folder in folders}
    return {repo: folder for repo, folder in named.items() if is_repo(repo)}


def cached(cache: Path) -> dict[str, Path]:
    """Every whole model whose main revision lies in the cache, by ORG/NAME, several GGUF files as ORG/NAME/FILE."""
    found: dict[str, Path] = {}
    for repo in repositories(cache):
        folder = snapshot(cache, repo)
        models = models_in(folder) if folder is not None else []
        if len(models) == 1:
            found[repo] = models[0]
        else:
            found |= {f"{repo}/{path.relative_to(folder).as_posix()}": path for path in models if folder is not None}
    return found
