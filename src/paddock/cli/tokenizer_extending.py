"""What `paddock tokenizer extend` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paddock.checkpoint import folder as hf
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.writing import write_bytes
from paddock.cli import output
from paddock.cli.progress import Progress
from paddock.cli.tokenizer_training import refuse_taken, texts, told_files
from paddock.cli.tokenizing import find_tokenizer
from paddock.cli.vouching import LICENCE_FILES
from paddock.data.reading import Options, Report
from paddock.engine.locate import locate
from paddock.errors import UsageError
from paddock.tokenizer.files import read_bytes, read_lines
from paddock.tokenizer.training.extending import Extended, Extension
from paddock.training.vocabulary import grow

BESIDE = ("chat_template.jinja", *LICENCE_FILES)


@dataclass(frozen=True)
class Wanted:
    """What to add: pieces of a file, control tokens, pieces learnt from documents until there are `size`."""

    add: str | None
    special: tuple[str, ...]
    train_on: tuple[str, ...]
    size: int | None
    coverage: float
    least: int


def extend(model: str, wanted: Wanted, options: Options, target: str, force: bool, json: bool) -> None:
    if not (wanted.add or wanted.special or wanted.train_on):
        raise UsageError(
            "there is nothing to add", fix="--add FILE, --special TOKEN, or --train-on FILE --vocab-size N"
        )
    if bool(wanted.train_on) != (wanted.size is not None):
        raise UsageError("--train-on and --vocab-size go together", fix="give both, or neither")
    refuse_taken(target, force)
    path = locate(model)
    if path.exists() and Path(target).exists() and path.samefile(target):
        raise UsageError(f"{target} is the model itself", fix="choose another --output")
    extension, report = Extension(find_tokenizer(model)), Report()
    known = extension.add(wanted.special, control=True)
    if wanted.add:
        lines = read_lines(read_bytes(Path(wanted.add)), wanted.add)
        known += extension.add(dict.fromkeys(line for line in lines if line.strip()))
    if wanted.size is not None:
        with Progress("learning") as progress:
            found = texts(wanted.train_on, options, report)
            extension.learn(
                found, wanted.size, wanted.coverage, wanted.least, lambda _, done, total: progress.at(done, total)
            )
    extended = extension.finish()
    rows = _write(path, extended, target)
    if json:
        output.as_json(
            {
                "output": target,
                "size": len(extended.tokenizer),
                "new": len(extended.spelled),
                "known": known,
                "rows": rows,
                "documents": report.kept,
            }
        )
        return
    told_files(report)
    if known:
        output.note(f"pieces already: {', '.join(map(repr, known[:10]))}" + (" ..." if len(known) > 10 else ""))
    output.result(
        f"{target}: {len(extended.spelled):,} new pieces, {len(extended.tokenizer):,} in all"
        + (f", {rows:,} rows in the model" if rows else "; no model beside the tokenizer, so none was grown")
    )


def _write(path: Path, extended: Extended, target: str) -> int | None:
    """The tokenizer, and the model where there is one; how many rows that has."""
    rows = None
    is_model = (path / hf.CONFIG).is_file() if path.is_dir() else path.suffix == ".gguf"
    if is_model:
        checkpoint = open_checkpoint(path)
        with output.waiting(f"growing {path.name}"):
            grown, config = grow(checkpoint.model(), checkpoint.config, extended.first, extended.spelled)
            hf.write(target, grown, config, dict(checkpoint.generation))
        rows = grown.architecture.vocabulary
    extended.tokenizer.save(target)
    for name in BESIDE if path.is_dir() else ():
        if (path / name).is_file():
            write_bytes(Path(target) / name, (path / name).read_bytes())
    return rows
