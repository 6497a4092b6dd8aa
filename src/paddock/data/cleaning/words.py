"""Words of a text as comparing sees them, and their hashes: equal on every machine and in every process."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

CACHED = 1_000_000  # words whose hash is remembered, about 150 bytes each
FACTOR = 0x9E3779B97F4A7C15  # odd; 2^64 divided by the golden ratio
MASK = 2**64 - 1

# Scripts written without spaces: each character is a word. Ideographs, kana, Thai, Lao, Myanmar, Khmer, Tibetan.
UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]++")
_ASCII = bytes(c if chr(c).isalnum() else 32 for c in bytes(range(128)).lower()) + bytes(128)
_SPACE = re.compile(r"\s+")


class _Hashes(dict[str, int]):
    """The hash of a word; forgets all when it holds too many, so that memory is bounded whatever comes."""

    def __missing__(self, word: str) -> int:
        if len(self) >= CACHED:
            self.clear()
        number = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        self[word] = number
        return number


_HASHES = _Hashes()


def words(text: str) -> list[str]:
    """Runs of letters and digits in lower case, compatible forms folded (NFKC); no punctuation. Unspaced scripts: a
    word is a character."""
    if text.isascii():
        return text.encode().translate(_ASCII).decode().split()
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.lower())


def word_hashes(found: Iterable[str]) -> np.ndarray:
    """64-bit hashes (words,) uint64 of words, by BLAKE2b."""
    return np.fromiter(map(_HASHES.__getitem__, found), np.uint64)


def shingles(hashes: np.ndarray, size: int) -> np.ndarray:
    """A hash (windows,) uint64 of every window of `size` words, where the order of words counts.

    A text of fewer words than that is one window; a text of none has none.
    """
    if not len(hashes):
        return hashes
    size = min(size, len(hashes))
    windows = len(hashes) - size + 1
    mixed = hashes[:windows].copy()
    for place in range(1, size):
        # Multiplying what came before makes a polynomial of the words: swapped words give another number.
        mixed *= np.uint64(FACTOR)
        mixed += hashes[place : place + windows]
    return mix(mixed)


def mix(numbers: np.ndarray) -> np.ndarray:
    """Spreads every bit of (n,) uint64 over all 64, in place (the finaliser of MurmurHash3)."""
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (33, 0xC4CEB9FE1A85EC53)):
        numbers ^= numbers >> np.uint64(shift)
        numbers *= np.uint64(factor)
    numbers ^= numbers >> np.uint64(33)
    return numbers


def whole(text: str) -> str:
    """A text as exact comparison sees it: composed (NFC), every run of white space one blank."""
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split())


def bare(line: str) -> str:
    """A line as cc_net compares it: lower case, digits all 0, no accents, no punctuation."""
    if line.isascii():
        return line.encode().translate(_BARE, _DROPPED).decode()
    kept = []
    for character in unicodedata.normalize("NFD", line.lower()):
        kind = unicodedata.category(character)
        if kind == "Nd":
            kept.append("0")
        elif kind != "Mn" and kind[0] not in "PCS":
            kept.append(character)
    return "".join(kept)


_BARE = bytes(48 if chr(c).isdigit() else c for c in bytes(range(128)).lower()) + bytes(128)
_DROPPED = bytes(c for c in range(128) if unicodedata.category(chr(c))[0] in "PCS")


def digest(text: str, size: int) -> bytes:
    """BLAKE2b of a text; lone surrogates, which are no characters, count as themselves."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
