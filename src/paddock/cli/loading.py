"""Loading a model for a verb, with one live line where it takes a while."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import paddock
from paddock.cli import output
from paddock.cli.options import Loading
from paddock.engine.locate import locate
from paddock.errors import DataError

if TYPE_CHECKING:
    from paddock.engine.language_model import LanguageModel


def load(asked: Loading, template: str | None = None) -> tuple[LanguageModel, float]:
    """The model, and the seconds it took. `template`: a chat template to use instead of its own."""
    started = time.perf_counter()
    path = locate(asked.model)
    with output.waiting(f"loading {path.name}"):
        model = paddock.load(
            path,
            asked.dtype,
            asked.device,
            ignore_config=asked.ignore_config,
            tokenizer=asked.tokenizer,
            template=template,
        )
        if asked.adapter is not None:
            model = model.with_adapter(asked.adapter)
    return model, time.perf_counter() - started


def piped_text() -> str:
    """All of standard input as text, less one final line break."""
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise DataError(
            f"standard input is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}",
            fix="convert it first, for example with iconv",
        ) from None
