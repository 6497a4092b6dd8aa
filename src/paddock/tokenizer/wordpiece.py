"""BERT's `vocab.txt`: one WordPiece a line, the line number its id."""

from __future__ import annotations

from pathlib import Path

from paddock.errors import TokenizerError
from paddock.tokenizer.files import read_bytes, read_lines
from paddock.tokenizer.library import from_tree
from paddock.tokenizer.segmented import check_pieces
from paddock.tokenizer.sidefiles import SideFiles
from paddock.tokenizer.specials import Added, Wrapping
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.trees import wordpiece_tree

CONTROLS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def load_wordpiece(path: Path) -> Tokenizer:
    """Reads `vocab.txt`. As in transformers, case is folded unless tokenizer_config.json has `do_lower_case: false`."""
    data = read_bytes(path)
    pieces = read_lines(data, path.name)
    check_pieces(pieces, path.name)
    side = SideFiles.beside(path.parent)
    vocab = {piece: id for id, piece in enumerate(pieces)}
    texts = side.role_texts()
    unknown, first, last = (texts.get(role, f"[{role.upper()}]") for role in ("unk", "cls", "sep"))
    for text in (unknown, first, last):
        if text not in vocab:
            raise TokenizerError(f"{path.name} has no {text}, which a BERT vocabulary needs")
    lowercase, split_chinese = side.flag("do_lower_case"), side.flag("tokenize_chinese_chars")
    tree = wordpiece_tree(
        vocab,
        [Added(vocab[text], text, control=True) for text in CONTROLS if text in vocab],
        Wrapping((vocab[first],), (vocab[last],)),
        unknown,
        lowercase is not False,
        side.flag("strip_accents"),
        split_chinese is not False,
    )
    return from_tree(tree, side, path.name)
