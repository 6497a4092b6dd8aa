"""Plain lists of characters (`*.vocab`, `source_vocabulary.txt`): one a line, the line number its id."""

from __future__ import annotations

from pathlib import Path

from paddock.errors import TokenizerError
from paddock.tokenizer.decoding import BYTE_PIECE, SPACE, SpacedDecoding
from paddock.tokenizer.files import read_bytes, read_lines
from paddock.tokenizer.merging import Joining, find_byte_ids
from paddock.tokenizer.segmented import Segmented, check_pieces
from paddock.tokenizer.specials import Added, Special, Wrapping, usual_roles
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.trees import BARE


def load_characters(path: Path) -> Tokenizer:
    """Reads a list of characters, byte pieces `<0xXX>` and control tokens `<...>`.

    A list that has U+2581 is SentencePiece's kind: that character stands for a blank, one blank is put before the text,
    and BOS before that. Any other list is taken as it is, and nothing is put around a text.
    """
    data = read_bytes(path)
    pieces = read_lines(data, path.name)
    check_pieces(pieces, path.name)
    byte_ids = find_byte_ids(pieces)
    controls, ids = {}, {}
    for id, piece in enumerate(pieces):
        if len(piece) == 1:
            ids[piece] = id
        elif piece.startswith("<") and piece.endswith(">") and not (byte_ids and BYTE_PIECE.match(piece)):
            controls[piece] = id
        elif byte_ids is None or id not in byte_ids:
            raise TokenizerError(
                f"{path.name}, line {id + 1}: {piece[:60]!r}",
                expected="a single character, as the file does not say how words are cut into longer pieces",
            )
    roles = usual_roles(controls)
    spaced = SPACE in ids
    wrapping = Wrapping((roles["bos"],)) if spaced and "bos" in roles else BARE
    speller = Joining(ids, [0.0] * len(pieces), byte_ids, roles.get("unk"), SPACE if spaced else " ", prefix=spaced)
    space, leading = (SPACE, "one") if spaced else (" ", "none")
    added = [Added(id, text, control=True) for text, id in controls.items()]
    backend = Segmented(
        "characters", pieces, added, speller, lambda: SpacedDecoding(space, leading, byte_ids is not None)
    )
    special = Special(roles, controls, (roles["eos"],) if "eos" in roles else (), wrapping)
    return Tokenizer(backend, special, path.name, lambda: {path.name: data})
