"""`paddock perplexity`: a file's text scored, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paddock.cli import output
from paddock.cli.loading import load, piped_text
from paddock.cli.options import Loading
from paddock.cli.progress import Progress
from paddock.engine.language_model import LanguageModel
from paddock.errors import DataError
from paddock.evaluate.perplexity import Perplexity
from paddock.evaluate.perplexity import perplexity as measure


@dataclass(frozen=True)
class Asked:
    """What a user asked `perplexity` for."""

    loading: Loading
    file: str
    context: int | None
    stride: int | None
    chunks: bool
    json: bool


def perplexity(asked: Asked) -> None:
    text = _text(asked.file)
    model, _ = load(asked.loading)
    with Progress("perplexity") as progress:
        found = measure(
            model,
            text,
            asked.context,
            asked.stride,
            chunks=asked.chunks,
            on_window=lambda done, total, value: progress.at(done, total, f"{value:.4f} so far"),
        )
    if asked.json:
        output.as_json(_record(model, asked.file, found))
    else:
        output.result(_table(found))


def _text(file: str) -> str:
    if file == "-":
        return piped_text()
    try:
        data = Path(file).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}",
            fix="convert it first, for example with iconv",
        ) from None


def _table(found: Perplexity) -> str:
    if found.windows == 1:
        way = "one window"
    elif found.chunks:
        way = f"{found.windows} windows of {found.context} tokens side by side, the first half of each only read"
    else:
        way = f"{found.windows} windows of {found.context} tokens, {found.stride} apart"
    rows = [
        ["perplexity", f"{found.value:.4f} ± {found.stderr:.4f}"],
        ["bits per token", f"{found.bits_per_token:.4f}"],
        ["scored", f"{found.tokens:,} of {found.text_tokens:,} tokens, {way}"],
    ]
    if found.bits_per_byte is not None:
        rows.insert(1, ["bits per byte", f"{found.bits_per_byte:.4f}"])
    if found.left_out:
        rows.append(["left out", f"{found.left_out:,} tokens at the end, which fill no window"])
    return output.table(rows)


def _record(model: LanguageModel, file: str, found: Perplexity) -> dict[str, object]:
    return {
        "model": str(model.checkpoint.path),
        "file": file,
        "perplexity": found.value,
        "stderr": found.stderr,
        "nll": found.nll,
        "bits_per_token": found.bits_per_token,
        "bits_per_byte": found.bits_per_byte,
        "tokens": found.tokens,
        "bytes": found.bytes,
        "text_tokens": found.text_tokens,
        "left_out": found.left_out,
        "windows": found.windows,
        "context": found.context,
        "stride": found.stride,
        "chunks": found.chunks,
    }
