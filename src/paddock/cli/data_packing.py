"""What `paddock data pack`, `paddock data show` and `paddock data mix` do."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.cli import output
from paddock.cli.data_options import weighted
from paddock.cli.progress import Progress
from paddock.cli.tokenizing import find_tokenizer
from paddock.data import mixture_file
from paddock.data.encoding import TRAIN, VALIDATION, Plan, pack_files, vocabulary_of
from paddock.data.packing import Fit, Single, Stream
from paddock.data.reading import Options, Report
from paddock.data.shards import INDEX, TOKENIZER, check_tokenizer, open_tokens, read_index
from paddock.data.tokens import Tokens
from paddock.errors import DataError, UsageError
from paddock.tokenizer import Tokenizer, load

WIDTH = 2000  # characters of one document that are shown


@dataclass(frozen=True)
class Asked:
    """What a user asked `data pack` for."""

    files: list[str]
    tokenizer: str
    output: str
    validation: str
    context: int | None
    end: bool
    begin: bool | None
    shard_tokens: int
    force: bool
    reading: Options
    json: bool


def pack(asked: Asked) -> None:
    tokenizer = find_tokenizer(asked.tokenizer)
    plan = Plan(
        tokenizer, vocabulary_of(tokenizer, asked.end, asked.begin), _share(asked.validation), asked.shard_tokens
    )
    output.note(_around(plan))
    report, started = Report(), time.monotonic()
    with Progress("document") as progress:
        written = pack_files(
            asked.files,
            asked.output,
            plan,
            asked.reading,
            replace=asked.force,
            report=report,
            told=lambda documents, tokens: progress.at(documents, None, f"{output.number(tokens)} tokens"),
        )
    seconds = time.monotonic() - started
    told = {side or "all": _described(Path(asked.output) / side, asked.context) for side in written}
    if asked.json:
        record = {"output": asked.output, "seconds": seconds, "dropped": dict(report.dropped), "shards": told}
        output.as_json(record)
        return
    tokens = sum(index.tokens for index in written.values())
    output.result(
        f"{asked.output}: {output.number(tokens)} tokens in {seconds:.1f} s ({tokens / seconds:,.0f} a second)"
    )
    if report.dropped:
        output.result("dropped: " + ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.items()))
    for side, record in told.items():
        _print(side, record)


def show(shards: str, context: int, packing: str, row: int, tokenizer: str | None, verify: bool, json: bool) -> None:
    path = Path(shards)
    if path.suffix == ".json":
        _show_mixture(path, context, packing, json)
        return
    parts = [path / side for side in (TRAIN, VALIDATION) if (path / side / INDEX).is_file()] or [path]
    records = {}
    for part in parts:
        tokens = open_tokens(part, verify)
        record = _described(part, context, tokens) | {"verified": verify}
        record["row"] = _row(tokens, context, packing, row, _tokenizer(tokenizer, part, tokens))
        records[part.name if part is not path else "all"] = record
    if json:
        output.as_json(records)
        return
    for side, record in records.items():
        _print(side, record)
        output.result(f"  row {row} of {record['row']['rows']:,} ({packing}, {context} tokens):")
        for document in record["row"]["documents"]:
            said = document.get("text", " ".join(map(str, document["ids"])))
            output.result(f"    [{len(document['ids'])} tokens] {said[:WIDTH]!r}")


def mix(
    sources: Sequence[str], target: str, tokens: float | None, context: int, packing: str, force: bool, json: bool
) -> None:
    named = [weighted(source, "SHARDS") for source in sources]
    goal = Path(target)
    if goal.suffix != ".json":
        raise UsageError(
            f"{target} is no name for a mixture", expected="a name in .json (token shards) or .jsonl (examples)"
        )
    if os.path.lexists(goal) and not force:
        raise UsageError(f"{goal} is there already", fix="--force replaces it")
    opened = [(open_tokens(name), weight) for name, weight in named]
    mixture_file.check_alike([each for each, _ in opened])
    uses = _uses(opened, context, packing, tokens)
    mixture_file.write_mixture(goal, named)
    if json:
        output.as_json({"output": target, "sources": uses})
        return
    output.result(f"{target}: {len(named)} sources")
    _print_uses(uses)


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise UsageError(f"--validation {text}", expected="a share of the documents: 1% or 0.01")
    return share


def _around(plan: Plan) -> str:
    """What is put around a document, and how ids are stored: nobody should have to guess."""
    words, tokenizer = plan.vocabulary, plan.tokenizer
    begin, end = (None if id is None else f"{tokenizer.piece(id)} ({id})" for id in (words.begin, words.end))
    put = " and ".join(filter(None, (begin and f"begins with {begin}", end and f"ends with {end}")))
    kind = "uint16" if words.size <= 2**16 else "uint32"
    return f"{tokenizer.source}: {words.size:,} tokens, stored as {kind}; each document {put or 'is put as it is'}"


def _described(path: Path, context: int | None, tokens: Tokens | None = None) -> dict[str, Any]:
    tokens = tokens or open_tokens(path)
    record: dict[str, Any] = {
        "path": str(path),
        "tokens": len(tokens.ids),
        "documents": len(tokens),
        "dtype": tokens.ids.dtype.name,
        "vocabulary": tokens.vocabulary,
    }
    if (path / INDEX).is_file():
        index = read_index(path)
        record["files"] = len(index.files)
        record["sources"] = {name: source.model_dump() for name, source in index.sources.items()}
    if context is not None:
        record["context"] = context
        record["packings"] = {name: _filled(kind, tokens, context) for name, kind in mixture_file.PACKINGS.items()}
    return record


def _filled(kind: type[Fit | Single | Stream], tokens: Tokens, context: int) -> dict[str, Any] | None:
    try:
        table = kind(tokens, context)
    except DataError:  # too few tokens for a row
        return None
    return {"rows": len(table), "efficiency": table.efficiency}


def _print(side: str, record: dict[str, Any]) -> None:
    words = record["vocabulary"]
    vocabulary = (
        f"a vocabulary of {words.size:,}, fingerprint {words.fingerprint[:12]}" if words else "of no stated vocabulary"
    )
    files = f" in {record['files']} files" if record.get("files", 1) > 1 else ""
    counts = f"{record['tokens']:,} tokens in {record['documents']:,} documents"
    output.result(f"{side}: {counts}, {record['dtype']}{files}, {vocabulary}")
    sources = record.get("sources", {})
    if len(sources) > 1:
        rows = [[name, f"{each['documents']:,}", f"{each['tokens']:,}"] for name, each in sources.items()]
        output.result(output.table(rows, ("source", "documents", "tokens"), right=(1, 2), indent=2))
    packings = [(name, each) for name, each in record.get("packings", {}).items() if each]
    if packings:
        rows = [[name, f"{each['rows']:,}", f"{each['efficiency']:.1%}"] for name, each in packings]
        header = (f"rows of {record['context']}", "rows", "filled")
        output.result(output.table(rows, header, right=(1, 2), indent=2))


def _tokenizer(named: str | None, path: Path, tokens: Tokens) -> Tokenizer | None:
    if named is None and not (path / TOKENIZER).is_dir():
        return None
    tokenizer = find_tokenizer(named) if named is not None else load(path / TOKENIZER)
    check_tokenizer(tokens, tokenizer)
    return tokenizer


def _row(tokens: Tokens, context: int, packing: str, row: int, tokenizer: Tokenizer | None) -> dict[str, Any]:
    table = mixture_file.mixture([(tokens, 1.0)], context, packing)
    if row >= len(table):
        raise UsageError(f"--row {row}", expected=f"0 to {len(table) - 1}: there are {len(table)} rows")
    documents = []
    for text in table.texts(row):
        shown: dict[str, Any] = {"ids": text.tolist()}
        if tokenizer is not None:
            shown["text"] = tokenizer.decode(text.tolist(), skip_special=False)
        documents.append(shown)
    return {"number": row, "rows": len(table), "documents": documents}


def _uses(opened: Sequence[tuple[Tokens, float]], context: int, packing: str, tokens: float | None) -> list[Any]:
    table = mixture_file.mixture(opened, context, packing)
    budget = tokens if tokens is not None else sum(len(each.ids) for each, _ in opened)
    return table.use(max(1, round(budget / context)))


def _print_uses(uses: Sequence[Any]) -> None:
    header = ("source", "weight", "share", "rows", "tokens", "epochs")
    rows = [
        [use.name, f"{use.weight:g}", f"{use.share:.2%}", f"{use.samples:,}", f"{use.tokens:,}", f"{use.epochs:.2f}"]
        for use in uses
    ]
    output.result(output.table(rows, header, right=(1, 2, 3, 4, 5), indent=2))


def _show_mixture(path: Path, context: int, packing: str, json: bool) -> None:
    uses = _uses(mixture_file.read_mixture(path), context, packing, None)
    if json:
        output.as_json({"sources": uses})
        return
    output.result(f"{path}: {len(uses)} sources; of as many tokens as they hold together:")
    _print_uses(uses)
