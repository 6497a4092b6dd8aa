"""Files of generated texts, a text to a line, scored against files of references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paddock.errors import DataError
from paddock.training.scores import texts
from paddock.training.scores.texts import Tokenization


@dataclass(frozen=True)
class TextScores:
    """What some outputs come to. tokenization: how BLEU found words. empty: outputs without any sign."""

    outputs: int
    empty: int
    bleu: texts.Bleu
    chrf: float
    rouge: texts.Rouge
    tokenization: Tokenization

    def record(self) -> dict[str, Any]:
        """In JSON's types."""
        return asdict(self)


def score_files(
    outputs: Path,
    references: Sequence[Path],
    tokenization: Tokenization | None = None,
    source: Path | None = None,
) -> dict[str, TextScores]:
    """Line by line: "outputs" is what a model wrote, and where its `source` is given, what it has to beat: "copy" (the
    source as it is) and "lead" (its first sentence). tokenization: None takes `zh` for ideographs, else `13a`.

    Raises DataError for files that cannot be read, are no UTF-8 or do not have as many lines as each other.
    """
    files = [outputs, *references] + ([source] if source is not None else [])
    sides = [_lines(path) for path in files]
    for path, lines in zip(files[1:], sides[1:], strict=True):
        if len(lines) != len(sides[0]):
            raise DataError(
                f"{outputs} has {len(sides[0]):,} lines and {path} {len(lines):,}",
                expected="as many, each about the same text",
            )
    if not sides[0]:
        raise DataError(f"{outputs} is empty", expected="a text on each line")
    meant = [list(some) for some in zip(*sides[1 : 1 + len(references)], strict=True)]
    chosen = tokenization or texts.tokenization_of([text for some in meant for text in some])
    found = {"outputs": _scored(sides[0], meant, chosen)}
    if source is not None:
        found["copy"] = _scored(sides[-1], meant, chosen)
        found["lead"] = _scored([texts.first_sentence(text) for text in sides[-1]], meant, chosen)
    return found


def _scored(outputs: Sequence[str], references: texts.References, tokenization: Tokenization) -> TextScores:
    return TextScores(
        len(outputs),
        sum(not output.strip() for output in outputs),
        texts.bleu(outputs, references, tokenization),
        texts.chrf(outputs, references),
        texts.rouge(outputs, references),
        tokenization,
    )


def _lines(path: Path) -> list[str]:
    """A file's lines; only line feeds end one, as other signs may stand within a text."""
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(line.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}, line {number} is not UTF-8: byte 0x{line[error.start]:02x}",
                fix="convert it first, for example with iconv",
            ) from None
        if len(found[-1]) > texts.LONGEST:
            what = f"{path}, line {number} has {len(found[-1]):,} characters"
            raise DataError(what, expected=f"at most {texts.LONGEST:,}")
    return found
