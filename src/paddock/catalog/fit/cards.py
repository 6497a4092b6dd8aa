"""Cards by name: what their makers state. A small table; any other card is given by its memory ("2x24GB").

From NVIDIA's data sheets of each product: memory in 10^9 bytes; dense matrix operations a second in bfloat16 with
float32 sums (float16 where `half`: the card has no bfloat16), without the doubling for sparse matrices; bytes a second
of memory, and of the link to a neighbour in one direction (NVLink, else PCIe), which is half of the total they print.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from paddock.catalog.fit import budget
from paddock.errors import UsageError, did_you_mean

MOST = 65_536


@dataclass(frozen=True)
class Card:
    """memory: bytes. rate: operations a second. read: bytes a second. link: bytes a second to a neighbour."""

    name: str
    memory: int
    rate: float
    read: float
    link: float
    half: bool = False


CARDS = (
    Card("A100-40GB", 40 * 10**9, 312e12, 1555e9, 300e9),
    Card("A100-80GB", 80 * 10**9, 312e12, 2039e9, 300e9),
    Card("H100", 80 * 10**9, 989e12, 3350e9, 450e9),
    Card("H200", 141 * 10**9, 989e12, 4800e9, 450e9),
    Card("L40S", 48 * 10**9, 362e12, 864e9, 32e9),
    Card("RTX3090", 24 * 10**9, 71e12, 936e9, 32e9),
    Card("RTX4090", 24 * 10**9, 165e12, 1008e9, 32e9),
    Card("T4", 16 * 10**9, 65e12, 320e9, 16e9, half=True),
    Card("V100-16GB", 16 * 10**9, 125e12, 900e9, 150e9, half=True),
    Card("V100-32GB", 32 * 10**9, 125e12, 900e9, 150e9, half=True),
)
KNOWN = {card.name.lower(): card for card in CARDS} | {
    "a100": CARDS[1], "3090": CARDS[5], "4090": CARDS[6], "v100": CARDS[9],
}  # fmt: skip


@dataclass(frozen=True)
class Devices:
    """`count` alike. card: None where only their memory is known."""

    count: int
    memory: int
    card: Card | None = None

    def __str__(self) -> str:
        return f"{self.count} x {self.card.name if self.card else f'{self.memory / 1e9:g} GB'}"


def parse(text: str) -> Devices:
    """ "8xH100", "2x24GB", "H100", "80GB". Raises UsageError."""
    found = re.fullmatch(r"\s*(?:(\d{1,6})\s*[x*]\s*)?([A-Za-z0-9][A-Za-z0-9 .\-]{0,30})\s*", text, re.ASCII)
    if found is None:
        raise UsageError(f"--devices {text[:40]!r}", expected="8xH100, 2x24GB, or a card")
    count, what = int(found[1] or 1), found[2].strip()
    if not 1 <= count <= MOST:
        raise UsageError(f"--devices: {count} of them", expected=f"from 1 to {MOST:,}")
    card = KNOWN.get(what.lower().replace(" ", ""))
    if card is not None:
        return Devices(count, card.memory, card)
    if re.fullmatch(r"\d+(\.\d+)?", what):
        raise UsageError(f"--devices {text[:40]}: which ones?", fix=f"say {what}x80GB, {what}xH100 or the like")
    if not what[0].isdigit():
        names = [each.name for each in CARDS]
        raise UsageError(
            f"no card is called {what!r} here", expected=", ".join(names), fix=did_you_mean(what.upper(), names)
        )
    return Devices(count, budget.parse(what))
