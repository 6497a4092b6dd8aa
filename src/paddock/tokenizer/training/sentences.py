"""SentencePiece's own trainer, and its models as a tokenizer.json that gives the same ids."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

import sentencepiece

from paddock.errors import DataError, UsageError
from paddock.tokenizer.decoding import SPACE
from paddock.tokenizer.files import guarded
from paddock.tokenizer.modelproto import BYTE, CONTROL, NORMAL, ModelProto, parse_model
from paddock.tokenizer.specials import Added, Wrapping
from paddock.tokenizer.training.plan import Plan
from paddock.tokenizer.trees import Tree, scored_tree, tree

LONGEST = 2**14  # characters of a line: the library passes over long ones without a word, so that they are cut
THREADS = 2  # of Unigram's counting; a fixed number, as sums depend on it


def sentencepiece_tree(texts: Iterable[str], plan: Plan) -> dict[str, Any]:
    """A tokenizer.json for pieces that SentencePiece learns: LLaMA's way, text as it is with a blank before it."""
    model = parse_model(_train(texts, plan), "the trained model")
    pieces = [piece.text for piece in model.pieces]
    controls = [piece.text for piece in model.pieces if piece.type not in (NORMAL, BYTE)]
    missing = set(plan.controls) - set(controls)
    assert not missing, missing
    added = [Added(pieces.index(text), text, control=True) for text in plan.controls]
    ids = {token.text: token.id for token in added}
    before, after = plan.around
    wrapping = Wrapping(tuple(ids[text] for text in before), tuple(ids[text] for text in after))
    if plan.kind == "unigram":
        return _unigram(model, added, wrapping, plan)
    vocab = {text: id for id, text in enumerate(pieces)}
    joinable = [piece.text for piece in model.pieces if piece.type == NORMAL]
    scores = [piece.score for piece in model.pieces]
    made = scored_tree(vocab, scores, joinable, added, wrapping, True, plan.byte_fallback, plan.roles["unk"])
    made["model"]["fuse_unk"] = True  # as the library does: a run of unknown characters is one token
    return made


def _train(texts: Iterable[str], plan: Plan) -> bytes:
    lines = _lines(texts, plan.controls)
    first = next(lines, None)
    if first is None:
        raise DataError("there is no text to learn a vocabulary from", fix="name files that hold some")
    placed = {role: plan.roles[role] for role in ("unk", "bos", "eos", "pad") if role in plan.roles}
    options: dict[str, Any] = {
        **{f"{role}_id": -1 for role in ("bos", "eos", "pad")},
        **{f"{role}_id": plan.controls.index(text) for role, text in placed.items()},
        **{f"{role}_piece": text for role, text in placed.items()},
        "model_type": "unigram" if plan.kind == "unigram" else "bpe",
        "vocab_size": plan.size,
        "character_coverage": plan.coverage,
        "byte_fallback": plan.byte_fallback,
        "split_digits": plan.split_digits,
        "control_symbols": [text for text in plan.controls if text not in placed.values()],
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "max_sentence_length": 4 * LONGEST,
        "num_threads": THREADS,
        "minloglevel": 2,
    }
    out = io.BytesIO()
    with guarded("SentencePiece cannot learn this vocabulary"):
        try:
            sentences = itertools.chain([first], lines)
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=sentences, model_writer=out, **options)
        except RuntimeError as error:
            raise UsageError(f"{plan.size} pieces cannot be learnt: {_why(str(error))}") from None
    return out.getvalue()


def _lines(texts: Iterable[str], controls: Iterable[str]) -> Iterator[str]:
    """Lines, without control tokens spelt in them and without NUL, which ends a string of the library's."""
    pattern = re.compile("|".join([*map(re.escape, sorted(controls, key=len, reverse=True)), "\n", "\0"]))
    for text in texts:
        for line in pattern.split(text):
            for start in range(0, len(line), LONGEST):
                if part := line[start : start + LONGEST].strip("\r"):
                    yield part


def _why(message: str) -> str:
    """The library's reason without its source line."""
    text = message.rpartition("] ")[2] or message
    return " ".join(text.split())[:300].rstrip(".") or "the library gives no reason"


def _unigram(model: ModelProto, added: list[Added], wrapping: Wrapping, plan: Plan) -> dict[str, Any]:
    """Kudo 2018. Control pieces take part in the vocabulary by number only: `added` finds them first."""
    pieces = [piece.text for piece in model.pieces]
    lowest = min((piece.score for piece in model.pieces if piece.type == NORMAL), default=0.0)
    vocab = [
        [piece.text, piece.score if piece.type == NORMAL else lowest - 100 if piece.type == CONTROL else 0.0]
        for piece in model.pieces
    ]
    escape: list[Tree] = [
        {"type": "Prepend", "prepend": SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    ]
    steps: list[Tree] = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}]
    steps += [
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return tree(
        {
            "type": "Unigram",
            "unk_id": pieces.index(plan.roles["unk"]),
            "vocab": vocab,
            "byte_fallback": plan.byte_fallback,
        },
        {"type": "Sequence", "normalizers": escape},
        None,
        {"type": "Sequence", "decoders": steps},
        added,
        wrapping,
        pieces,
    )
