"""llama2.c's `tokenizer.bin`: pieces with scores, blanks written as blanks.

Layout (Karpathy, llama2.c): int32 longest piece in bytes; then for each id a float32 score, an int32 length in bytes
and the piece. Little-endian; the number of pieces is not stored. Ids 0, 1, 2 are unknown, BOS and EOS, 3 to 258 bytes.
"""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path

from paddock.checkpoint.writing import write_bytes
from paddock.errors import TokenizerError, UsageError
from paddock.tokenizer.decoding import SPACE
from paddock.tokenizer.files import MAX_PIECE, MAX_PIECES, read_bytes
from paddock.tokenizer.merging import Joining, find_byte_ids
from paddock.tokenizer.modelproto import NORMAL
from paddock.tokenizer.scored import from_scored
from paddock.tokenizer.segmented import Segmented
from paddock.tokenizer.sidefiles import SideFiles
from paddock.tokenizer.specials import Added, Wrapping
from paddock.tokenizer.tokenizer import Tokenizer

CONTROLS = {"<unk>": 0, "<s>": 1, "</s>": 2}
CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
}
RECORD = struct.Struct("<fi")
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def load_llama2c(path: Path) -> Tokenizer:
    """Reads `tokenizer.bin`; TokenizerError unless its records fill the file exactly."""
    data = read_bytes(path)
    pieces, scores = _records(data, path.name)
    if len(pieces) < len(CONTROLS):
        raise TokenizerError(f"{path.name} has {len(pieces)} pieces", expected="at least <unk>, <s> and </s>")
    pieces[:3] = CONTROLS  # the file writes "\n<s>\n" for <s>, so that printing it starts a line
    return from_scored(
        pieces,
        scores,
        [NORMAL] * len(pieces),
        [Added(id, text, control=True) for text, id in CONTROLS.items()],
        SideFiles(config=CONFIG),
        Wrapping(before=(1,)),
        prefix=True,
        source=f"{path.name} (llama2.c)",
        space=" ",
    )


def _records(data: bytes, name: str) -> tuple[list[str], list[float]]:
    """Pieces and scores, by id."""
    pieces: list[str] = []
    scores: list[float] = []
    offset = 4
    while offset < len(data):
        if len(pieces) == MAX_PIECES:
            raise TokenizerError(f"{name} has over {MAX_PIECES} pieces")
        if offset + RECORD.size > len(data):
            raise TokenizerError(f"{name} is cut short in piece {len(pieces)}", fix="download or copy the file again")
        score, length = RECORD.unpack_from(data, offset)
        offset += RECORD.size
        if not 0 <= length <= MAX_PIECE or offset + length > len(data):
            raise TokenizerError(
                f"{name}: piece {len(pieces)} is said to be {length} bytes long",
                expected=f"at most the {len(data) - offset} bytes left in the file",
            )
        if not math.isfinite(score):
            raise TokenizerError(f"{name}: piece {len(pieces)} has score {score}", expected="a finite number")
        try:
            pieces.append(data[offset : offset + length].decode("utf-8"))
        except UnicodeDecodeError:
            raise TokenizerError(f"{name}: piece {len(pieces)} is not UTF-8 text") from None
        scores.append(score)
        offset += length
    return pieces, scores


def write_llama2c(path: str | Path, tokenizer: Tokenizer) -> None:
    """Writes a SentencePiece BPE tokenizer as `tokenizer.bin`.

    Raises UsageError for a tokenizer that the format cannot hold: another kind, or unknown, BOS, EOS and byte tokens
    at other ids than 0, 1, 2 and 3 to 258.
    """
    pieces, scores = _pieces_and_scores(tokenizer)
    roles = tokenizer.specials
    if [roles.get(role) for role in ("unk", "bos", "eos")] != [0, 1, 2]:
        raise UsageError("tokenizer.bin wants unknown, BOS and EOS at ids 0, 1 and 2")
    byte_ids = find_byte_ids(pieces)
    if byte_ids is not None and list(byte_ids) != list(range(3, 259)):
        raise UsageError("tokenizer.bin wants the byte tokens at ids 3 to 258")
    records = []
    for id, (piece, score) in enumerate(zip(pieces, scores, strict=True)):
        text = f"\n{piece}\n" if id in (1, 2) else piece
        records.append((score, text.encode("utf-8")))
    longest = max(len(text) for _, text in records)
    body = b"".join(RECORD.pack(score, len(text)) + text for score, text in records)
    write_bytes(path, struct.pack("<i", longest) + body)


def _pieces_and_scores(tokenizer: Tokenizer) -> tuple[list[str], list[float]]:
    """Every piece, with blanks as blanks, and the score by which pieces are joined: the higher, the sooner."""
    backend = tokenizer._backend
    if tokenizer.kind != "SentencePiece BPE":
        raise UsageError(f"a {tokenizer.kind} tokenizer has no tokenizer.bin form", expected="a SentencePiece BPE one")
    pieces = [piece or "" for piece in backend.pieces]
    if isinstance(backend, Segmented) and isinstance(backend.speller, Joining):
        space, known = backend.speller.space, backend.speller.scores
        scores = [known[id] if id < len(known) else 0.0 for id in range(len(pieces))]
    else:
        space, scores = SPACE, _scores_of_merges(pieces, tokenizer.files()["tokenizer.json"])
    return [piece.replace(space, " ") for piece in pieces], scores


def _scores_of_merges(pieces: list[str], tree: bytes) -> list[float]:
    """A score per piece that joins in the order of a tokenizer.json's merges: 0, -1, -2 ... by first appearance.

    What no merge makes comes after them in the order of ids, which is how SentencePiece scores single characters;
    control and byte tokens are never joined and score 0. (The first score is -0.0, as in published files.)
    """
    merges = json.loads(tree)["model"]["merges"]
    made = ("".join(merge if isinstance(merge, list) else merge.split(" ")) for merge in merges)
    order = {piece: rank for rank, piece in enumerate(dict.fromkeys(made))}
    scores, rest = [], len(order)
    for id, piece in enumerate(pieces):
        single = piece not in order and id > 2 and not BYTE.fullmatch(piece)
        scores.append(-float(rest) if single else -float(order[piece]) if piece in order else 0.0)
        rest += single
    return scores
