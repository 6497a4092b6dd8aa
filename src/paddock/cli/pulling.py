"""`paddock pull`: from a name to a model that is there and sound."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.catalog.catalogue import Found, catalogue, folded
from paddock.catalog.schema import Model
from paddock.checkpoint.hub import cache
from paddock.checkpoint.hub.exchange import Closed, Hub, Missing
from paddock.checkpoint.hub.files import SeveralModels
from paddock.checkpoint.hub.pulling import Plan, ask, carry_out, plan
from paddock.checkpoint.hub.settings import ENDPOINT, Settings, shown_address
from paddock.cli import output
from paddock.engine.named import give_name, link_of, target_of
from paddock.errors import Interrupted, PaddockError, UsageError, nearest

if TYPE_CHECKING:
    from paddock.model.spec import Architecture

MUCH = 10 * 10**9  # bytes to fetch that are worth a question
LIVE, PLAIN, RECENT = 0.1, 10.0, 5.0  # seconds between lines, live and plain; over which a rate is taken


@dataclass(frozen=True)
class Asked:
    """What the user wants."""

    name: str
    revision: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    format: str = "auto"
    to: str | None = None

    @property
    def command(self) -> str:
        """The command that asks for this."""
        words = ["paddock", "pull", self.name]
        for option, values in (
            ("--revision", [self.revision]),
            ("--include", self.include),
            ("--exclude", self.exclude),
            ("--format", [self.format if self.format != "auto" else None]),
            ("--to", [self.to]),
        ):
            words += [word for value in values if value is not None for word in (option, value)]
        return shlex.join(words)


@dataclass(frozen=True)
class Wanted:
    """A repository and what the model is to be called here; licence: what the catalogue knows of it."""

    repo: str
    revision: str
    short: str
    licence: str | None


def pull(asked: Asked, dry_run: bool, offline: bool, yes: bool, json: bool) -> None:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    settings = Settings.of_environment()
    wanted = resolve(asked)
    if offline or settings.offline:
        _here(asked, wanted, settings, json)
        return
    with Hub(settings, told=output.note) as hub:
        try:
            planned = _planned(hub, asked, wanted)
        except Missing as error:
            raise _unknown(error, wanted.repo) from None
        except Closed as error:
            raise _terms(error, settings, wanted.repo) from None
        _announce(planned, wanted, settings)
        if dry_run:
            _end(asked, planned, wanted, None, json)
            return
        question = f"fetch {output.size(planned.missing)}?"
        if planned.missing > MUCH and not yes and can_ask() and not agreed(question):
            raise UsageError("nothing was fetched", fix=f"{asked.command} --yes")
        try:
            with Transfer(wanted.short, planned) as transfer:
                hub.told = transfer.say
                folder = carry_out(hub, planned, transfer.came)
        except Closed as error:
            raise _terms(error, settings, wanted.repo) from None
        except KeyboardInterrupt:
            came = output.size(planned.have + transfer.new)
            raise Interrupted(
                f"stopped; {came} of {output.size(planned.choice.bytes)} are kept", fix=asked.command
            ) from None
    _end(asked, planned, wanted, folder, json)


def resolve(asked: Asked) -> Wanted:
    """The repository that a name means: ORG/NAME as it is, another name by the catalogue."""
    text = asked.name.strip().removeprefix("hf://").removeprefix(f"{ENDPOINT}/").rstrip("/")
    text, at, revision = text.partition("@")
    if at and asked.revision not in (None, revision):
        raise UsageError(f"two revisions are named, {revision} and {asked.revision}", fix="name one")
    revision = asked.revision or (revision if at else cache.MAIN)
    found = catalogue().names.get(folded(text))
    if found is None:
        if text.count("/") != 1:
            _refuse_unknown(text)
        return Wanted(text, revision, _short(text.split("/")[1], revision), None)
    return Wanted(_address(found), revision, _short(found.name, revision), _licence(found))


def _refuse_unknown(text: str) -> None:
    """Raises UsageError with the nearest names that can be fetched."""
    known = {name: found for name, found in catalogue().names.items() if found.size is not None and found.size.hub}
    near = nearest(folded(text), known)
    raise UsageError(
        f"the catalogue has no {text[:100]!r}" + (f"; the nearest known is {known[near].name!r}" if near else ""),
        expected="a name of the catalogue, or ORGANISATION/NAME on the hub",
        fix=f"paddock pull {known[near].name}" if near else "`paddock catalog ls` lists what it has",
    )


def _address(found: Found) -> str:
    if found.size is not None and found.size.hub:
        return found.size.hub
    sizes = found.asset.sizes if isinstance(found.asset, Model) else ()
    named = [f"{found.asset.id}-{size.name}" for size in sizes if size.hub]
    if found.size is None and named:
        raise UsageError(
            f"{found.asset.name} has several sizes", expected=", ".join(named), fix=f"paddock pull {named[0]}"
        )
    raise UsageError(
        f"the catalogue does not know where {found.name} lies on a hub", fix=f"`paddock catalog show {found.name}`"
    )


def _licence(found: Found) -> str | None:
    licence = found.asset.licence
    if licence is None:
        return None
    if licence.commercial is False:
        return f"{licence.name}: no commercial use"
    return f"{licence.name}: {licence.conditions}" if licence.conditions else licence.name


def _short(name: str, revision: str) -> str:
    return name if revision == cache.MAIN else f"{name}@{revision.replace('/', '-')}"


def _planned(hub: Hub, asked: Asked, wanted: Wanted) -> Plan:
    listing = ask(hub, wanted.repo, wanted.revision)
    to = Path(asked.to).expanduser() if asked.to is not None else None
    if to is not None and to.exists() and not to.is_dir():
        raise UsageError(f"{to} is no folder", fix="name a folder with --to")
    try:
        return plan(hub, listing, to, asked.format, asked.include, asked.exclude)
    except SeveralModels as several:
        output.note(f"{wanted.repo} has these GGUF files:")
        rows = [(file.path, output.size(file.size)) for file in several.files]
        output.note(output.table(rows, right=(1,), indent=2))
        raise


def _unknown(error: Missing, repo: str) -> PaddockError:
    """What a hub without such a model may have been meant to have."""
    if error.kind == "model":
        hubs = [size.hub for model in catalogue().models for size in model.sizes if size.hub]
        near = nearest(repo, hubs) or nearest(repo.split("/")[-1], [hub.split("/")[-1] for hub in hubs])
        near = next((hub for hub in hubs if near and hub.endswith(near)), None)
        error.fix = f"did you mean {near}?" if near else "look at the name; a private model needs HF_TOKEN"
    elif error.kind == "revision":
        error.fix = "leave --revision out for the current one"
    return error


def _terms(error: Closed, settings: Settings, repo: str) -> PaddockError:
    """How to be let in."""
    page = f"{shown_address(settings.endpoint)}/{repo}"
    error.what += f" ({repo})"
    if error.gated or not error.known:
        error.fix = f"accept its terms at {page} (signed in)" + (
            f"; {error.fix}" if error.fix and not error.known else ""
        )
    return error


def _announce(planned: Plan, wanted: Wanted, settings: Settings) -> None:
    listing, choice = planned.listing, planned.choice
    at = "" if listing.commit == listing.revision else f" at {listing.revision}"
    licence = wanted.licence or listing.licence or "its card says none"
    here = f"; {output.size(planned.have)} of them are here" if planned.have else ""
    rows = [
        ("licence", licence + (", terms to be accepted at the hub" if listing.gated else "")),
        ("files", f"{len(choice.files)} ({choice.format}), {output.size(choice.bytes)}{here}"),
        ("into", f"{output.shown_path(planned.folder)} ({output.size(planned.free)} free)"),
    ]
    output.note(f"{listing.repo}{at} ({listing.commit[:10]}) from {shown_address(settings.endpoint)}")
    output.note(output.table(rows, indent=2))
    for remark in choice.notes:
        output.note(f"  note: {remark}")


def _here(asked: Asked, wanted: Wanted, settings: Settings, json: bool) -> None:
    """Without a network: whether the model is here. Raises UsageError where it is not."""
    folder = cache.snapshot(settings.cache, wanted.repo, wanted.revision)
    models = cache.models_in(folder) if folder is not None else []
    if not models:
        raise UsageError(
            f"{wanted.repo} is not here, and no hub is asked",
            fix="without --offline and HF_HUB_OFFLINE: " + asked.command,
        )
    found = {"name": wanted.repo, "path": str(models[0]), "offline": True}
    output.as_json(found) if json else output.result(f"{wanted.repo} is here: {output.shown_path(models[0])}")


def _end(asked: Asked, planned: Plan, wanted: Wanted, folder: Path | None, json: bool) -> None:
    """Looks at what came, gives it a name, and says how to use it. `folder`: None after a dry run."""
    listing = planned.listing
    told: dict[str, Any] = {
        "repo": listing.repo,
        "revision": listing.revision,
        "commit": listing.commit,
        "licence": wanted.licence or listing.licence,
        "format": planned.choice.format,
        "files": [{"path": file.path, "bytes": file.size, "digest": file.digest} for file in planned.choice.files],
        "bytes": planned.choice.bytes,
        "here_before": planned.have,
        "folder": str(planned.folder),
        "dry_run": folder is None,
        "name": None,
        "family": None,
    }
    used: list[tuple[str, str]] = []  # names, and the verb to begin with
    for model in _models(planned, asked) if folder is not None else ():
        architecture = _architecture(model, asked)
        told["family"] = architecture.family
        used.append((_named(model, planned, wanted), "chat" if architecture.generates else "show"))
    told["name"] = used[0][0] if used else None
    if json:
        output.as_json(told)
    elif folder is None:
        output.result(output.table([(f["path"], output.size(f["bytes"])) for f in told["files"]], right=(1,)))
    elif not used:
        output.result(f"{len(planned.choice.files)} files are in {output.shown_path(folder)}")
    else:
        for name, verb in used:
            output.result(f"{name} is here and sound ({told['family']} family): paddock {verb} {shlex.quote(name)}")


def _models(planned: Plan, asked: Asked) -> list[Path]:
    """What came and is a model: the folder, or GGUF files in it. Nothing where an adapter or chosen files came."""
    folder = planned.folder
    found = [path for path in cache.models_in(folder) if path == folder or _was_chosen(path, planned)]
    if found or asked.include or (folder / "adapter_config.json").exists():
        return found
    return [folder]  # whatever it lacks is said when it is opened


def _was_chosen(path: Path, planned: Plan) -> bool:
    return path.relative_to(planned.folder).as_posix() in {file.path for file in planned.choice.files}


def _architecture(model: Path, asked: Asked) -> Architecture:
    """Opens what came, its descriptions only. Raises what is wrong with it, which is no fault of the way here."""
    from paddock.checkpoint.checkpoint import open_checkpoint

    try:
        return open_checkpoint(model).architecture
    except PaddockError as error:
        error.what = f"every file came as the hub has it, but {error.what}"
        named = asked.name if asked.revision is None else f"{asked.name}@{asked.revision}"
        delete = f"`paddock rm {shlex.quote(named)}` deletes it" if asked.to is None else f"the files are in {asked.to}"
        error.fix = error.fix or delete
        raise


def _named(model: Path, planned: Plan, wanted: Wanted) -> str:
    """What to call the model from now on: a short name, or its path where it is no part of the cache."""
    if planned.plain:
        return str(model)
    short = wanted.short if model == planned.folder else model.stem
    full = wanted.repo if wanted.revision == cache.MAIN else f"{wanted.repo}@{wanted.revision}"
    link = link_of(short)
    if link is not None and link.is_symlink() and link.exists():
        before = target_of(link)
        if not before.is_relative_to(planned.folder.parent.resolve()):  # another repository's: it keeps its name
            output.note(f"note: {short} means {output.shown_path(before)} already, so this one has its long name alone")
            return full
    try:
        give_name(short, model)
    except PaddockError as error:
        output.note(f"note: it has no short name, as {error.what}")
        return full
    return short


def can_ask() -> bool:
    """Whether somebody is there who sees a question and can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agreed(question: str) -> bool:
    """Whether the user says yes."""
    sys.stderr.write(output.printable(f"{question} [y/N] "))
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


class Transfer:
    """Says how far a transfer is: one live line on a terminal, plain lines now and then elsewhere."""

    def __init__(self, name: str, planned: Plan) -> None:
        self.name, self.total, self.done = name, planned.choice.bytes, planned.have
        self.new = 0
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._told = time.monotonic()
        self._seen: deque[tuple[float, int]] = deque([(self._told, 0)])

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *unused: object) -> None:
        self._wipe()

    def _wipe(self) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def say(self, text: str) -> None:
        """A remark between two states of the line."""
        self._wipe()
        output.note(text)

    def came(self, bytes: int) -> None:
        """So many bytes more are there."""
        self.new += bytes
        now = time.monotonic()
        if now - self._told < (LIVE if self._live else PLAIN):
            return
        self._told = now
        self._seen.append((now, self.new))
        while now - self._seen[0][0] > RECENT and len(self._seen) > 2:
            self._seen.popleft()
        line = output.printable(self._line(now))
        sys.stderr.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        sys.stderr.flush()

    def _line(self, now: float) -> str:
        then, before = self._seen[0]
        rate = max(self.new - before, 0) / max(now - then, 1e-3)
        done = self.done + self.new
        left = f", {(self.total - done) / rate:.0f} s left" if rate else ""
        share = 100 * done // self.total if self.total else 100
        return f"{self.name} {share} %, {output.size(done)} of {output.size(self.total)}, {output.size(rate)}/s{left}"
