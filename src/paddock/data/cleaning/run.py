"""Cleaning, in streaming passes that can be killed at any point: the result is that of an unbroken run, byte for byte.

A pass reads documents one after another, takes each through its stages and writes those that stay, in chunks. A pass
ends where a stage must have seen all documents before it can judge one (MinHash); the next one reads what it left. What
stages remember is written with each chunk, so a run that goes on restores it and begins with the chunk that is not
there. In memory are one document and what the stages say they remember.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.checkpoint.writing import write_text
from paddock.data.cleaning import publish
from paddock.data.cleaning.build import build, prepare, trained_on
from paddock.data.cleaning.chunks import Chunks, to_line
from paddock.data.cleaning.near import Collect, NearDuplicates, decide, row_bytes
from paddock.data.cleaning.recipe import CleaningRecipe, Near, Section
from paddock.data.cleaning.source import Source, accept, described, from_documents, from_files
from paddock.data.cleaning.stage import Item, Outcome, Stage
from paddock.data.cleaning.tally import Samples, Tally
from paddock.data.document import Document
from paddock.errors import DataError, UsageError

WORK = ".work"
CHUNK_CHARACTERS = 32 * 2**20  # a chunk of long texts ends early
Told = Callable[[str, int], None]  # what is done, and how far: documents, or bands compared


def clean_files(
    paths: Iterable[str | Path], recipe: CleaningRecipe, output: Path, *, told: Told | None = None, force: bool = False
) -> dict[str, Any]:
    """Cleans the documents of files into the folder `output`; returns its manifest (see `publish.py`).

    A run that was killed goes on; one that is done is only looked at. Raises UsageError where the folder holds another
    run, or what is no run (`force`: begins anew), DataError for broken inputs, ResourceError for a full disk.
    """
    return _clean(from_files(paths, recipe.read.options()), recipe, output, told, force)


def clean(
    documents: Iterable[Document],
    recipe: CleaningRecipe,
    output: Path,
    *,
    told: Told | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """`clean_files` for documents of a program's own, which must come in the same order when a killed run goes on."""
    return _clean(from_documents(documents), recipe, output, told, force)


def _clean(source: Source, recipe: CleaningRecipe, output: Path, told: Told | None, force: bool) -> dict[str, Any]:
    job = {"recipe_digest": recipe.digest(), "inputs": list(source.inputs), "trained_on": _trained_on(recipe)}
    if force:
        publish.remove(output)
    if (found := publish.finished(output, job)) is not None:
        shutil.rmtree(output / WORK, ignore_errors=True)
        return found
    with _working(output, job) as work:
        run = _Run(source, recipe, work, told or (lambda what, count: None))
        manifest = run.whole(output, job)
    shutil.rmtree(work)
    return manifest


def _trained_on(recipe: CleaningRecipe) -> list[dict[str, Any]]:
    """Every file that a classifier learns from or lies in: another content is another run."""
    from paddock.data.reading.opening import find_files

    names = [name for stage in recipe.stages for files in trained_on(stage).values() for name in files]
    return [described(path) for path in find_files(names)] if names else []


@contextlib.contextmanager
def _working(output: Path, job: dict[str, Any]) -> Iterator[Path]:
    """The folder of a run under way, which is nobody else's. Raises UsageError."""
    work = output / WORK
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file", expected="a folder to write into")
    if output.is_dir() and not work.is_dir() and any(output.iterdir()):
        raise UsageError(f"{output} holds other files", fix="name an empty folder, or one that is not there yet")
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"another process is cleaning into {output}", fix="wait for it, or name another folder"
            ) from None
        path = work / "job.json"
        if not path.exists():
            write_text(path, json.dumps(job, ensure_ascii=False, sort_keys=True))
        publish.same_job(json.loads(path.read_text(encoding="utf-8")), job, output)
        yield work


@dataclass
class _Place:
    """A stage at work and where its books are kept."""

    number: int
    stage: Stage


class _Run:
    """One recipe over one source, in a working folder."""

    def __init__(self, source: Source, recipe: CleaningRecipe, work: Path, told: Told) -> None:
        self.source, self.recipe, self.work, self.told = source, recipe, work, told
        self.tallies = [Tally() for _ in range(1 + len(recipe.stages))]  # the first is of reading
        self.samples = Samples()
        self.prepared = {
            number: said
            for number, asked in enumerate(recipe.stages, 1)
            if (said := self._prepare(number, asked)) is not None
        }

    def whole(self, output: Path, job: dict[str, Any]) -> dict[str, Any]:
        """Every pass, then the shards and the manifest."""
        chunks: Chunks | None = None
        for number, stages in enumerate(_passes(self.recipe)):
            chunks = self._pass(number, stages, chunks)
        assert chunks is not None
        found = publish.Found(self.recipe, job, self.tallies, self.samples, self.prepared)
        return publish.publish(chunks, found, output, lambda count: self.told("writing", count))

    def _prepare(self, number: int, asked: Section) -> dict[str, Any] | None:
        self.told("preparing", number)
        return prepare(asked, self._model(number))

    def _model(self, number: int) -> Path:
        return self.work / f"classifier-{number}.safetensors"

    def _pass(self, number: int, stages: list[tuple[int, Section]], before: Chunks | None) -> Chunks:
        """One pass: from the source or the chunks `before` it to its own; what is there already is not done again."""
        folder = self.work / f"pass-{number}"
        folder.mkdir(exist_ok=True)
        chunks, done = Chunks(folder), folder / "done.json"
        if done.exists():
            self._recall(chunks)
        else:
            places = self._places(stages, before is None, number)
            ready = self._restore(chunks, places)
            self._write(chunks, self._inputs(before, ready), ready, places, number)
            write_text(done, json.dumps(dict(sorted(self.source.dropped().items())) if before is None else {}))
        if before is None:
            self._count_dropped(json.loads(done.read_text(encoding="utf-8")))
        last = stages[-1][1]
        if isinstance(last, Near) and (len(stages) > 1 or not number) and not (folder / "near.npy").exists():
            self._decide(last, chunks)
        if before is not None:
            before.drop()
        return chunks

    def _places(self, stages: list[tuple[int, Section]], first: bool, number: int) -> list[_Place]:
        """The stages of a pass at work. One that begins with MinHash drops what the pass before found; one that ends
        with it collects."""
        places = [_Place(0, _Accept())] if first else []
        for at, (place, asked) in enumerate(stages):
            if not isinstance(asked, Near):
                places.append(_Place(place, build(asked, self._model(place))))
            elif at == 0 and number:
                places.append(_Place(place, NearDuplicates(self.work / f"pass-{number - 1}")))
            else:
                places.append(_Place(-1, Collect(asked)))
        return places

    def _recall(self, chunks: Chunks) -> list[dict[str, Any]]:
        records = list(chunks.records())
        for record in records:
            for place, said in record["tallies"].items():
                self.tallies[int(place)].add(said)
            self.samples.add(record["samples"])
        return records

    def _restore(self, chunks: Chunks, places: list[_Place]) -> list[dict[str, Any]]:
        records = self._recall(chunks)
        for number, record in enumerate(records):
            for place, data in zip(places, chunks.learned(number, record), strict=True):
                place.stage.restore(data)
        return records

    def _inputs(self, before: Chunks | None, ready: list[dict[str, Any]]) -> Iterator[Iterator[Item]]:
        """The documents of each chunk from the first that is not there."""
        if before is not None:
            for number, record in enumerate(before.records()):
                if number >= len(ready):
                    yield (line.item() for line in before.lines(number, record))
            return
        items = itertools.starmap(Item, enumerate(self.source.open()))
        for record in ready:  # the same documents again, unless the input is another
            seen = _Seen(itertools.islice(items, record["documents"]))
            for _ in seen:
                pass
            if seen.record() != {name: record[name] for name in ("documents", "input")}:
                raise DataError("the documents are not those that this run began with", fix="start over: --force")
        for first in items:
            yield _chunk(itertools.chain([first], items), self.recipe.chunk)

    def _write(
        self,
        chunks: Chunks,
        inputs: Iterator[Iterator[Item]],
        ready: list[dict[str, Any]],
        places: list[_Place],
        number: int,
    ) -> None:
        done = sum(record["documents"] for record in ready)
        for at, items in enumerate(inputs, len(ready)):
            seen, tallies, samples = _Seen(items), {p.number: Tally() for p in places if p.number >= 0}, Samples()

            def close(seen: _Seen = seen, tallies: dict[int, Tally] = tallies, samples: Samples = samples) -> Any:
                said = {str(place): tally.as_dict() for place, tally in tallies.items()}
                record = {**seen.record(), "tallies": said, "samples": samples.as_list()}
                return record, [place.stage.learned() for place in places]

            def told(count: int, done: int = done) -> None:
                self.told(f"pass {number + 1}", done + count)

            chunks.write(at, _through(seen, places, tallies, samples, told), close)
            for place, tally in tallies.items():
                self.tallies[place].add(tally.as_dict())
            self.samples.add(samples.as_list())
            done += seen.documents
        if number == 0:
            self.source.unchanged()

    def _count_dropped(self, dropped: dict[str, int]) -> None:
        """What reading itself left out stands in the books of the first stage."""
        self.tallies[0].reasons.update(dropped)
        self.tallies[0].documents_in += sum(dropped.values())

    def _decide(self, asked: Near, chunks: Chunks) -> None:
        records = list(chunks.records())
        documents = sum(record["learned"][-1] for record in records) // row_bytes(asked)
        parts = (chunks.learned(number, record)[-1] for number, record in enumerate(records))
        decide(
            asked, documents, parts, chunks.folder, lambda band: self.told(f"comparing, of {asked.bands} bands", band)
        )


class _Accept(Stage):
    """Reading's own stage: what comes in must be text."""

    def apply(self, item: Item) -> Outcome:
        return accept(item)


class _Seen:
    """Documents on their way, counted and known again by a hash of their texts."""

    def __init__(self, items: Iterator[Item]) -> None:
        self._items, self._hash, self.documents = items, hashlib.sha256(), 0

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            text = repr(item.document.text) if not isinstance(item.document.text, str) else item.document.text
            data = text.encode("utf-8", "surrogatepass")
            self._hash.update(b"%d:" % len(data) + data)
            self.documents += 1
            yield item

    def record(self) -> dict[str, Any]:
        return {"documents": self.documents, "input": self._hash.hexdigest()}


def _passes(recipe: CleaningRecipe) -> list[list[tuple[int, Section]]]:
    """The stages (and their numbers from 1) of each pass; a MinHash stage ends one and begins the next."""
    passes: list[list[tuple[int, Section]]] = [[]]
    for number, asked in enumerate(recipe.stages, 1):
        passes[-1].append((number, asked))
        if isinstance(asked, Near):
            passes.append([(number, asked)])
    return passes


def _chunk(items: Iterator[Item], most: int) -> Iterator[Item]:
    characters = 0
    for item in itertools.islice(items, most):
        yield item
        characters += len(item.document.text) if isinstance(item.document.text, str) else 0
        if characters >= CHUNK_CHARACTERS:
            return


def _through(
    seen: _Seen, places: list[_Place], tallies: dict[int, Tally], samples: Samples, told: Callable[[int], None]
) -> Iterator[bytes]:
    """Every document through the stages; the lines of those that stay."""
    for item in seen:
        for place in places:
            outcome = place.stage.apply(item)
            if place.number >= 0:
                tallies[place.number].count(item, outcome)
                if outcome.document is not item.document:
                    samples.see(place.number, item, outcome)
            if outcome.document is None:
                break
            if outcome.document is not item.document:
                item = Item(item.number, outcome.document)
        else:
            yield to_line(item)
        told(seen.documents)
