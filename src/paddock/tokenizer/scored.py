"""A tokenizer from pieces with scores, as GGUF and llama2.c hold LLaMA vocabularies, and what it is saved as."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from paddock.errors import UsageError
from paddock.tokenizer.decoding import SPACE, SpacedDecoding
from paddock.tokenizer.merging import Joining, find_byte_ids
from paddock.tokenizer.modelproto import NORMAL
from paddock.tokenizer.segmented import Segmented
from paddock.tokenizer.sidefiles import SideFiles, resolve
from paddock.tokenizer.specials import Added, Wrapping
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.trees import dump, scored_tree


def from_scored(
    pieces: Sequence[str],
    scores: Sequence[float],
    types: Sequence[int],
    added: Sequence[Added],
    side: SideFiles,
    wrapping: Wrapping,
    prefix: bool,
    source: str,
    ends: Iterable[int] = (),
    space: str = SPACE,
) -> Tokenizer:
    """SentencePiece BPE over `pieces`, of which those of type NORMAL are joined from text.

    `prefix`: a blank is put before the text, and before each stretch after an added token.
    """
    byte_ids = find_byte_ids(pieces)
    outside = {token.id for token in added} | set(byte_ids or ())
    joinable = {
        piece: id for id, piece in reversed(list(enumerate(pieces))) if types[id] == NORMAL and id not in outside
    }
    joinable.pop("", None)
    ids = {piece: id for id, piece in reversed(list(enumerate(pieces)))}
    special = resolve(ids, added, side, wrapping, {})
    special = replace(special, ends=tuple(dict.fromkeys((*special.ends, *ends))))
    speller = Joining(joinable, scores, byte_ids, special.roles.get("unk"), space, prefix)
    leading = "one" if prefix else "none"
    backend = Segmented(
        "SentencePiece BPE", pieces, added, speller, lambda: SpacedDecoding(space, leading, byte_ids is not None)
    )
    return Tokenizer(backend, special, source, _saver(backend, side, wrapping))


def _saver(backend: Segmented, side: SideFiles, wrapping: Wrapping) -> Callable[[], Mapping[str, bytes]]:
    def files() -> Mapping[str, bytes]:
        return {"tokenizer.json": dump(as_tree(backend, wrapping)), **side.files()}

    return files


def as_tree(backend: Segmented, wrapping: Wrapping) -> dict[str, object]:
    """The tokenizer.json with the same ids: blanks as U+2581, scores as merges.

    Where a vocabulary writes blanks as blanks (llama2.c), the two differ on texts that hold U+2581 itself.
    """
    speller = backend.speller
    assert isinstance(speller, Joining)
    spelled = [(piece or "").replace(speller.space, SPACE) for piece in backend.pieces]
    for token in backend.added:
        spelled[token.id] = token.text
    vocab = {piece: id for id, piece in enumerate(spelled)}
    if len(vocab) < len(spelled):
        raise UsageError("this vocabulary spells two ids alike, which tokenizer.json cannot hold")
    joinable = [spelled[id] for id in speller.ids.values()]
    unknown = None if speller.unknown is None else spelled[speller.unknown]
    return scored_tree(
        vocab, speller.scores, joinable, backend.added, wrapping, speller.prefix, speller.byte_ids is not None, unknown
    )
