"""The parity card: how far what came out of a hand-over speaks like what went in, kept with what came out.

In a folder it is `parity.json`, in a GGUF file one text under the key `paddock.parity`, the same JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from paddock.checkpoint import jsonfile
from paddock.checkpoint.writing import write_text
from paddock.errors import CheckpointError, PaddockError

FILE = "parity.json"
KEY = "paddock.parity"
ROOM = 2048  # bytes that a GGUF file keeps for the card, which is known only once the file can be run
LONGEST = 200  # characters of a text in a card
MERGED = 1e-5  # of a merge in float32, by the largest: see `parity.merged`
RESTATED = 1e-4  # rotary frequencies that another format states as divisors in float32 (Llama 3 in GGUF)
RERUN = 1e-5  # equal weights run by PyTorch, whose sums depend on where a matrix lies in memory

Outputs = Literal["logits", "hidden states"]


@dataclass(frozen=True)
class Parity:
    """Two models on the same prompts.

    kind: the hand-over ("convert", "merge", "quantize", "compare"). source: the model before. before_sha256,
    after_sha256: of all weights, as `parity.fingerprint` has them. prompts_sha256: of the ids. outputs: what is
    compared, of `tokens` tokens. largest_difference: between two numbers; largest_output: the largest of the first
    model's. kl_mean, kl_max: divergence (nats) of the second's predictions; top1: the share of tokens after which both
    find the same one likeliest; all None for hidden states. greedy_equal: how many tokens both write alike, greedily,
    before they part, of greedy_steps. tokens_equal: whether both tokenizers read the prompts alike, None where one is
    missing. bound: what largest_difference / largest_output may be; None where the hand-over rounds.
    """

    kind: str
    source: str
    before_sha256: str
    after_sha256: str
    prompts_sha256: str
    prompts: int
    tokens: int
    outputs: Outputs
    largest_difference: float
    largest_output: float
    kl_mean: float | None
    kl_max: float | None
    top1: float | None
    greedy_equal: int
    greedy_steps: int
    tokens_equal: bool | None
    bound: float | None

    @property
    def same_weights(self) -> bool:
        """Whether both hold the same numbers, bit for bit, in the same type."""
        return self.before_sha256 == self.after_sha256

    @property
    def holds(self) -> bool:
        """Whether the difference is within the bound. Where nothing is bound, it is."""
        return self.bound is None or self.largest_difference <= self.bound * max(1.0, self.largest_output)

    def check(self, what: str, fix: str | None = None) -> None:
        """Raises PaddockError where the difference is beyond the bound; `what` was written."""
        if not self.holds:
            raise PaddockError(
                f"{what} does not compute what {self.source} does: its {self.outputs} differ by up to "
                f"{self.largest_difference:.3g} (the largest is {self.largest_output:.3g})",
                expected=f"at most {self.bound:g} of the largest",
                fix=fix,
            )

    def write(self, folder: Path) -> None:
        write_text(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")

    def text(self) -> str:
        """The card in a GGUF file: filled up with blanks, as the file has kept the room for it."""
        return json.dumps(asdict(self)).ljust(ROOM)


EMPTY = " " * ROOM  # what stands in a GGUF file until the card is known


def read(path: Path, metadata: Mapping[str, Any] | None) -> Parity | None:
    """The card of a GGUF file (`metadata`) or of a folder, None where there is none. Raises CheckpointError."""
    if metadata is not None:
        text = metadata.get(KEY)
        if text is not None and not isinstance(text, str):
            raise CheckpointError(f"{path.name}: {KEY} is no text", expected="a parity card")
        return _checked(jsonfile.parse(text.encode("utf-8", "surrogateescape"), KEY), KEY) if text else None
    file = path / FILE
    return _checked(jsonfile.read(file), FILE) if path.is_dir() and file.is_file() else None


def _checked(values: Mapping[str, Any], where: str) -> Parity:
    known = {field.name: str(field.type) for field in fields(Parity)}
    if values.keys() != known.keys():
        wrong = sorted(values.keys() ^ known.keys())[0]
        raise CheckpointError(f"{where}: the parity card and this version of Paddock disagree about {wrong[:60]!r}")
    return Parity(**{name: _of_kind(values[name], kind, f"{where}: {name}") for name, kind in known.items()})


def _of_kind(value: Any, kind: str, what: str) -> Any:
    if value is None and kind.endswith(" | None"):
        return None
    right = {
        "Outputs": value in ("logits", "hidden states"),
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63,
        "float": isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
    }[kind.removesuffix(" | None")]
    if not right:
        raise CheckpointError(f"{what} of the parity card is {str(value)[:60]!r}", expected=kind)
    return value[:LONGEST] if isinstance(value, str) else value
