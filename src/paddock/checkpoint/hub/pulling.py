"""A model from a hub to this disk: what would be fetched, and fetching it, into the hub's cache or a plain folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from paddock.checkpoint.hub import cache
from paddock.checkpoint.hub.exchange import Hub
from paddock.checkpoint.hub.files import MAX_FILES, Choice, Remote, checked, choose
from paddock.checkpoint.hub.library import library
from paddock.checkpoint.hub.transfer import begun, digest_of, fetch
from paddock.checkpoint.writing import write_text
from paddock.errors import PaddockError, ResourceError, ServiceError, UsageError

SPARE = 64 * 2**20  # bytes of a disk that are left free
PARTIAL = ".paddock.incomplete"  # the hub's library counts and removes what ends so
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Listing:
    """What a hub says of a repository at a revision. licence: by its card, or None. gated: its terms are to be
    accepted first."""

    repo: str
    revision: str
    commit: str
    files: tuple[Remote, ...]
    licence: str | None = None
    gated: bool = False


@dataclass(frozen=True)
class Plan:
    """What is to be fetched and where to. folder: the files' folder, once they are there. plain: no part of the cache.
    have: bytes that are there already. free: bytes on that disk."""

    listing: Listing
    choice: Choice
    folder: Path
    plain: bool
    have: int
    free: int

    @property
    def missing(self) -> int:
        return self.choice.bytes - self.have


def ask(hub: Hub, repo: str, revision: str = cache.MAIN) -> Listing:
    """What lies in a repository. Raises ServiceError for an answer that is none, CheckpointError for hostile names."""
    if not cache.is_repo(repo):
        raise UsageError(f"{repo[:120]!r} is no name of a model on a hub", expected="ORGANISATION/NAME")
    if not cache.is_revision(revision):
        raise UsageError(f"{revision[:120]!r} is no revision", expected="a branch, a tag or a commit")
    told = hub.json(f"/api/models/{quote(repo)}/revision/{quote(revision, safe='')}?blobs=true")
    commit, siblings = told.get("sha"), told.get("siblings")
    if not isinstance(commit, str) or not cache.COMMIT.fullmatch(commit) or not isinstance(siblings, list):
        raise ServiceError(
            "the hub's answer names no commit and no files", fix="look at HF_ENDPOINT: this may be no hub"
        )
    if len(siblings) > MAX_FILES:
        raise ServiceError(f"the repository has {len(siblings)} files", expected=f"at most {MAX_FILES}")
    files = tuple(_listed(hub, repo, commit, entry) for entry in siblings)
    return Listing(repo, revision, commit, files, _licence(told), bool(told.get("gated")))


def plan(
    hub: Hub,
    listing: Listing,
    to: Path | None = None,
    format: str = "auto",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Plan:
    """What is to be fetched, and what is here already. Writes nothing. `to`: a plain folder, else the hub's cache."""
    choice = choose(listing.files, format, include, exclude)
    root = cache.folder_of(hub.settings.cache, listing.repo)
    folder = to if to is not None else root / "snapshots" / listing.commit
    have, known = 0, set[str]()
    for file in choice.files:
        if to is not None:
            _check_place(to, file)
            target, partial = to / file.path, _partial_beside(to, file)
        else:
            target, partial = root / "blobs" / file.digest, root / "blobs" / f"{file.digest}{PARTIAL}"
        twice = to is None and file.digest in known  # one blob under two names
        known.add(file.digest)
        have += file.size if twice or _is_there(target, file) else begun(partial, file.size)
    return Plan(listing, choice, folder, to is not None, have, _free(folder))


def carry_out(hub: Hub, planned: Plan, progress: Progress = lambda bytes: None) -> Path:
    """Fetches what is missing and returns the folder of the model. `progress` hears of bytes as they come.

    Raises ResourceError before anything is fetched where the disk has no room, and whatever `fetch` raises. What came
    is kept: the same call goes on from there. The revision's name is written last, so that a model of which parts are
    missing is nowhere taken for one.
    """
    if planned.missing + SPARE > planned.free and planned.missing:
        raise ResourceError(
            f"{planned.missing / 1e6:,.1f} MB are to come, and where {planned.folder} would lie"
            f" {planned.free / 1e6:,.1f} MB are free",
            fix="free some space, or put the cache elsewhere: HF_HOME, or --to FOLDER",
        )
    try:
        if planned.plain:
            _into_folder(hub, planned, progress)
        else:
            _into_cache(hub, planned, progress)
    except OSError as error:
        raise PaddockError(f"{error.filename or planned.folder}: {error.strerror or error}") from None
    return planned.folder


def _into_cache(hub: Hub, planned: Plan, progress: Progress) -> None:
    listing, root = planned.listing, cache.folder_of(hub.settings.cache, planned.listing.repo)
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    for file in planned.choice.files:
        blob = root / "blobs" / file.digest
        if not _is_there(blob, file):
            with _locked(hub.settings.cache / ".locks" / root.name / f"{file.digest}.lock", hub):
                if _is_there(blob, file):  # another program fetched it meanwhile
                    progress(file.size)
                else:
                    partial = blob.with_name(f"{file.digest}{PARTIAL}")
                    fetch(hub, _address(hub, listing, file), file, partial, progress)
                    partial.replace(blob)
        _link(planned.folder / file.path, blob)
    if not cache.COMMIT.fullmatch(listing.revision):
        write_text(root / "refs" / listing.revision, listing.commit)


def _into_folder(hub: Hub, planned: Plan, progress: Progress) -> None:
    """As plain files. What is there already with the right bytes stays; other bytes under the same name are refused."""
    listing, folder = planned.listing, planned.folder
    for file in planned.choice.files:
        target = folder / file.path
        if target.exists() and (target.stat().st_size != file.size or digest_of(target, file) != file.digest):
            raise UsageError(f"{target} is there, and is another file", fix="name an empty folder with --to")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".paddock-pull.lock", hub, remove=True):
        for file in planned.choice.files:
            target = folder / file.path
            if target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            _check_place(folder, file)
            partial = _partial_beside(folder, file)
            blob = cache.folder_of(hub.settings.cache, listing.repo) / "blobs" / file.digest
            if _is_there(blob, file) and not begun(partial, file.size):
                shutil.copyfile(blob, partial)
                progress(file.size)
            fetch(hub, _address(hub, listing, file), file, partial, progress)
            partial.replace(target)


def _address(hub: Hub, listing: Listing, file: Remote) -> str:
    address = library().hf_hub_url
    return str(address(listing.repo, file.path, revision=listing.commit, endpoint=hub.settings.endpoint))


@contextlib.contextmanager
def _locked(path: Path, hub: Hub, remove: bool = False) -> Iterator[None]:
    """One program at a time: with the lock of the hub's own library, so that others which use it wait too."""
    lock = library().utils.WeakFileLock
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(path, timeout=0.2))
        except TimeoutError:
            hub.told("another program fetches the same file; waiting for it")
            stack.enter_context(lock(path))
        yield
        if remove:
            path.unlink(missing_ok=True)


def _link(pointer: Path, blob: Path) -> None:
    """Makes the file of a snapshot: a link to its bytes, or a copy where the file system knows no links."""
    target = os.path.relpath(blob, pointer.parent)
    if pointer.is_symlink() and os.readlink(pointer) == target:
        return
    pointer.parent.mkdir(parents=True, exist_ok=True)
    new = pointer.with_name(f".{secrets.token_hex(6)}.new")
    try:
        try:
            new.symlink_to(target)
        except OSError:
            shutil.copyfile(blob, new)
        new.replace(pointer)
    finally:
        new.unlink(missing_ok=True)


def _is_there(path: Path, file: Remote) -> bool:
    try:
        return path.is_file() and path.stat().st_size == file.size
    except OSError:
        return False


def _partial_beside(folder: Path, file: Remote) -> Path:
    target = folder / file.path
    return target.with_name(f".{file.digest}{PARTIAL}")


def _check_place(folder: Path, file: Remote) -> None:
    """A link inside the user's folder must not lead what is written out of it."""
    target = folder / file.path
    inside = target.parent.resolve().is_relative_to(folder.resolve())
    if not inside or target.is_symlink():
        raise UsageError(f"{target} is a link out of {folder}", fix="name an empty folder with --to")


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _listed(hub: Hub, repo: str, commit: str, entry: Any) -> Remote:
    """One file as the hub lists it; where it lists names only (some mirrors do), it is asked for the rest."""
    if not isinstance(entry, dict):
        raise ServiceError("the hub's answer lists something that is no file", fix="look at HF_ENDPOINT")
    path, large = entry.get("rfilename"), entry.get("lfs")
    if isinstance(large, dict):
        return checked(path, large.get("size"), large.get("sha256"))
    if "blobId" in entry:
        return checked(path, entry.get("size"), entry["blobId"])
    checked(path, 0, commit)
    headers = hub.head(f"{hub.settings.endpoint}/{quote(repo)}/resolve/{commit}/{quote(str(path))}")
    digest = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/").strip('"')
    size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
    return checked(path, int(size) if size.isascii() and size.isdigit() and len(size) < 20 else None, digest)


def _licence(told: dict[str, Any]) -> str | None:
    card = told.get("cardData")
    named = card.get("license_name") or card.get("license") if isinstance(card, dict) else None
    return named[:100] if isinstance(named, str) else None
