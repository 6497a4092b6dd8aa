"""What of a tokenizer.json Paddock checks and reads before the library gets it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from paddock.errors import TokenizerError, did_you_mean
from paddock.tokenizer.charsmap import check_charsmap_text
from paddock.tokenizer.files import MAX_DEPTH, MAX_PIECE, MAX_PIECES
from paddock.tokenizer.segmented import place
from paddock.tokenizer.sidefiles import parse_added
from paddock.tokenizer.specials import Added, Wrapping

MODELS = ("BPE", "Unigram", "WordPiece", "WordLevel")
MAX_NODES = 10_000
MAX_INSERT = 256  # characters that one rule may put into the text: each blank of it can become so many
INSERTS = ("content", "prepend", "prefix", "suffix", "continuing_subword_prefix", "end_of_word_suffix", "unk_token")
PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


def check_tree(tree: dict[str, Any], name: str) -> None:
    """Refuses a tree whose shape or size the rest relies on; fills in the model's `type` that old files leave out."""
    model = tree.get("model")
    if not isinstance(model, dict):
        raise TokenizerError(f"{name} has no model", expected="model: an object with type and vocab")
    if "type" not in model:
        model["type"] = _untyped(model)
    if model["type"] not in MODELS:
        fix = did_you_mean(str(model["type"]), MODELS)
        raise TokenizerError(f"{name}: model type {str(model['type'])[:40]!r}", expected=", ".join(MODELS), fix=fix)
    if model.get("dropout"):
        raise TokenizerError(
            f"{name} drops merges at random (dropout {model['dropout']!r}), which only training wants",
            fix="set dropout to null",
        )
    _check_vocab(model, name)
    if model["type"] == "BPE":
        _check_merges(model, name)
    _check_inserts(model, name)
    for part in PARTS:
        for node in _nodes(tree.get(part), f"{name}: {part}"):
            _check_inserts(node, name)
            if "precompiled_charsmap" in node:
                check_charsmap_text(node["precompiled_charsmap"], name)
    if not isinstance(tree.get("added_tokens") or [], list):
        raise TokenizerError(f"{name}: added_tokens is {type(tree['added_tokens']).__name__}", expected="a list")


def _check_inserts(node: dict[str, Any], name: str) -> None:
    for key in INSERTS:
        text = node.get(key)
        if isinstance(text, str) and len(text) > MAX_INSERT:
            raise TokenizerError(f"{name}: {key} has {len(text)} characters", expected=f"at most {MAX_INSERT}")


def _untyped(model: dict[str, Any]) -> str:
    if "merges" in model:
        return "BPE"
    return "WordPiece" if "continuing_subword_prefix" in model else "Unigram" if "unk_id" in model else "WordLevel"


def _check_vocab(model: dict[str, Any], name: str) -> None:
    vocab = model.get("vocab")
    if model["type"] == "Unigram":
        if not isinstance(vocab, list) or not all(_scored(entry) for entry in vocab):
            raise TokenizerError(f"{name}: vocab is not a list of pieces with finite scores")
    elif not isinstance(vocab, dict):
        raise TokenizerError(f"{name}: vocab is {type(vocab).__name__}", expected="pieces with their ids")
    if not 0 < len(vocab) <= MAX_PIECES:
        raise TokenizerError(f"{name} has {len(vocab)} pieces", expected=f"1 to {MAX_PIECES}")


def _scored(entry: Any) -> bool:
    if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
        return False
    return isinstance(entry[1], (int, float)) and not isinstance(entry[1], bool) and math.isfinite(entry[1])


def _check_merges(model: dict[str, Any], name: str) -> None:
    merges = model.setdefault("merges", [])
    if not isinstance(merges, list) or len(merges) > 4 * MAX_PIECES:
        raise TokenizerError(f"{name}: merges is not a list of at most {4 * MAX_PIECES} pairs")
    vocab, end = model["vocab"], len(str(model.get("continuing_subword_prefix") or ""))
    for place_, pair in enumerate(merges):
        parts = pair.split(" ") if isinstance(pair, str) else pair
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise TokenizerError(f"{name}: merge {place_} is not a pair: {str(pair)[:60]!r}")
        left, right = parts
        if left not in vocab or right not in vocab or left + right[end:] not in vocab:  # the library says so too, late
            raise TokenizerError(f"{name}: merge {place_}, {str(pair)[:60]!r}, joins what the vocabulary does not have")


def _nodes(value: Any, where: str) -> Iterator[dict[str, Any]]:
    """Every object under one part of the tree, within bounds."""
    stack: list[tuple[Any, int]] = [(value, 0)]
    seen = 0
    while stack:
        node, depth = stack.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_NODES:
            raise TokenizerError(f"{where} is too deep or too large", expected=f"at most {MAX_NODES} values")
        if isinstance(node, dict):
            yield node
            stack += [(item, depth + 1) for key, item in node.items() if key != "precompiled_charsmap"]
        elif isinstance(node, list):
            stack += [(item, depth + 1) for item in node]
        elif isinstance(node, str) and len(node) > MAX_PIECE:
            raise TokenizerError(f"{where} holds a string of {len(node)} characters", expected=f"at most {MAX_PIECE}")


def added_tokens(tree: dict[str, Any], name: str) -> list[Added]:
    """The file's added tokens; two of one id or one spelling are refused."""
    entries = tree.get("added_tokens") or []
    tokens = [parse_added(entry, entry.get("id") if isinstance(entry, dict) else None, name) for entry in entries]
    if len({token.text for token in tokens}) < len(tokens) or len({token.id for token in tokens}) < len(tokens):
        raise TokenizerError(f"{name}: two added tokens share an id or a spelling")
    return tokens


def vocabulary(tree: dict[str, Any], added: Iterable[Added], name: str) -> list[str | None]:
    """Pieces by id, added tokens included; an id that nothing has is None."""
    vocab = tree["model"]["vocab"]
    numbered = enumerate(piece for piece, _ in vocab) if isinstance(vocab, list) else ((v, k) for k, v in vocab.items())
    pieces: list[str | None] = [None] * len(vocab)
    for id, piece in numbered:
        if isinstance(id, bool) or not isinstance(id, int):
            raise TokenizerError(f"{name}: piece {piece[:40]!r} has id {str(id)[:40]!r}", expected="a whole number")
        if 0 <= id < len(pieces) and pieces[id] is not None:
            raise TokenizerError(f"{name}: {pieces[id]!r} and {piece!r} share id {id}")
        place(pieces, id, piece, name)
    for token in added:
        place(pieces, token.id, token.text, name)
    return pieces


def wrapping_of(tree: dict[str, Any]) -> Wrapping:
    """The ids that the file's `post_processor` puts around a single text."""
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    for node in _nodes(tree.get("post_processor"), "post_processor"):
        match node.get("type"):
            case "TemplateProcessing":
                before, after = _template(node)
            case "BertProcessing" | "RobertaProcessing":
                before, after = (_pair_id(node.get("cls")),), (_pair_id(node.get("sep")),)
    return Wrapping(before, after)


def _template(node: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    sides: tuple[list[int], list[int]] = ([], [])
    place_ = 0
    try:
        for item in node["single"]:
            if "Sequence" in item:
                place_ = 1
            else:
                sides[place_].extend(int(id) for id in node["special_tokens"][item["SpecialToken"]["id"]]["ids"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise TokenizerError("post_processor: the template names a special token it does not define") from None
    return tuple(sides[0]), tuple(sides[1])


def _pair_id(pair: Any) -> int:
    if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], int):
        return pair[1]
    raise TokenizerError("post_processor: cls and sep are not pairs of a spelling and an id")


def kind_of(tree: dict[str, Any]) -> str:
    """The kind of vocabulary, in the field's words."""
    model = tree["model"]["type"]
    if model != "BPE":
        return {"Unigram": "SentencePiece unigram", "WordPiece": "WordPiece", "WordLevel": "words"}[model]
    types = [node.get("type") for part in ("pre_tokenizer", "decoder") for node in _nodes(tree.get(part), part)]
    if "ByteLevel" in types:
        return "byte-level BPE"
    return "SentencePiece BPE" if tree["model"].get("byte_fallback") or "Metaspace" in types else "BPE"
