"""A tokenizer from texts: byte-level BPE and WordPiece by our own exact learner, SentencePiece by its library."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from paddock.errors import UsageError
from paddock.tokenizer.decoding import BYTES_TO_CHARACTERS
from paddock.tokenizer.library import from_tree
from paddock.tokenizer.sidefiles import SideFiles
from paddock.tokenizer.specials import Added, Wrapping
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.training.counting import (
    Progress,
    common_characters,
    count_bert_words,
    count_words,
    quiet,
    some_text,
)
from paddock.tokenizer.training.merges import learn
from paddock.tokenizer.training.plan import SENTENCEPIECE, Plan
from paddock.tokenizer.training.sentences import sentencepiece_tree
from paddock.tokenizer.trees import byte_level_tree, wordpiece_tree

CONTINUED = "##"


def train(texts: Iterable[str], plan: Plan, progress: Progress = quiet) -> Tokenizer:
    """Learns a vocabulary from `texts`; `.save(folder)` writes it so that transformers reads it too.

    Equal texts in equal order give equal files, on every machine; for byte-level BPE and WordPiece the order does not
    matter. A vocabulary may come out smaller than asked for where the texts hold no more pairs. Control tokens spelt in
    the texts are cut out of them.

    Raises UsageError for a size that its own alphabet does not fit in, DataError where there is no text.
    """
    if plan.kind in SENTENCEPIECE:
        tree = sentencepiece_tree(texts, plan)
    elif plan.kind == "bpe":
        tree = _byte_level(texts, plan, progress)
    else:
        tree = _wordpiece(texts, plan, progress)
    return from_tree(tree, SideFiles(config(plan)), "tokenizer.json")


def config(plan: Plan) -> dict[str, Any]:
    """tokenizer_config.json: which token has which role."""
    others = [text for text in plan.controls if text not in plan.roles.values()]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{role}_token": text for role, text in plan.roles.items()},
        **({"additional_special_tokens": others} if others else {}),
        "clean_up_tokenization_spaces": False,
    }


def added(plan: Plan) -> list[Added]:
    return [Added(id, text, control=True) for id, text in enumerate(plan.controls)]


def wrapping(plan: Plan) -> Wrapping:
    before, after = plan.around
    ids = {text: id for id, text in enumerate(plan.controls)}
    return Wrapping(tuple(ids[text] for text in before), tuple(ids[text] for text in after))


def _byte_level(texts: Iterable[str], plan: Plan, progress: Progress) -> dict[str, Any]:
    """GPT-2's: control tokens, the 256 bytes, then the merges."""
    _room(plan, 256, "bytes")
    words = some_text(count_words(texts, plan.way, plan.controls))
    first = len(plan.controls)
    ids = {byte: first + place for place, byte in enumerate(BYTES_TO_CHARACTERS)}
    pieces = [*plan.controls, *BYTES_TO_CHARACTERS.values()]
    keys = [b""] * first + [bytes([byte]) for byte in BYTES_TO_CHARACTERS]
    spelled = [[ids[byte] for byte in word.encode("utf-8")] for word in words]
    merges = _merge(spelled, list(words.values()), pieces, keys, plan, progress, "")
    vocab = {piece: id for id, piece in enumerate(pieces)}
    return byte_level_tree(vocab, merges, plan.way, added(plan), wrapping(plan))


def _wordpiece(texts: Iterable[str], plan: Plan, progress: Progress) -> dict[str, Any]:
    """BERT's: pieces found by BPE merges, as the tokenizers library's trainer does, encoded by longest match.

    (Google's own trainer was never published.) A word with a character that is no piece teaches nothing.
    """
    words = some_text(count_bert_words(texts, plan.lowercase, plan.split_chinese, plan.controls))
    known = set(common_characters(words, plan.coverage))
    counted = {word: count for word, count in words.items() if known.issuperset(word)}
    starts = {word[0] for word in counted}
    inside = {character for word in counted for character in word[1:]}
    alphabet = [*sorted(starts), *(CONTINUED + character for character in sorted(inside))]
    _room(plan, len(alphabet), "characters")
    pieces = [*plan.controls, *alphabet]
    ids = {piece: id for id, piece in enumerate(pieces)}
    keys = [piece.removeprefix(CONTINUED).encode("utf-8") for piece in pieces]
    spelled = [[ids[word[0]], *(ids[CONTINUED + c] for c in word[1:])] for word in counted]
    _merge(spelled, list(counted.values()), pieces, keys, plan, progress, CONTINUED)
    vocab = {piece: id for id, piece in enumerate(pieces)}
    return wordpiece_tree(
        vocab, added(plan), wrapping(plan), plan.roles["unk"], plan.lowercase, None, plan.split_chinese
    )


def _merge(
    words: list[list[int]],
    counts: list[int],
    pieces: list[str],
    keys: list[bytes],
    plan: Plan,
    progress: Progress,
    prefix: str,
) -> list[list[str]]:
    """Fills `pieces` up to the plan's size, and gives the merges as pairs of pieces."""
    ids = {piece: id for id, piece in enumerate(pieces)}
    merges: list[list[str]] = []

    def join(left: int, right: int) -> int:
        piece = pieces[left] + pieces[right].removeprefix(prefix)
        if piece not in ids:
            ids[piece] = len(pieces)
            pieces.append(piece)
            keys.append(keys[left] + keys[right])
        return ids[piece]

    start = len(pieces)
    if start == plan.size:
        return merges
    for merge in learn(words, counts, keys, join, plan.least):
        merges.append([pieces[merge.left], pieces[merge.right]])
        progress("pieces", len(pieces) - start, plan.size - start)
        if len(pieces) >= plan.size:
            break
    return merges


def _room(plan: Plan, alphabet: int, of: str) -> None:
    needed = len(plan.controls) + alphabet
    if plan.size < needed:
        raise UsageError(
            f"{plan.size} pieces do not hold {len(plan.controls)} special tokens and {alphabet} {of}",
            fix=f"--vocab-size {needed} or more" + (", or a lower --coverage" if of == "characters" else ""),
        )
