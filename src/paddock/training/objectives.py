"""Objectives by name: what a recipe may say of them, and what they need of a model and its tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from paddock.data.preparing.blanks import Blanks
from paddock.data.preparing.causal import Causal
from paddock.data.preparing.masked import Masked
from paddock.data.preparing.paired import Paired
from paddock.data.preparing.prefixed import Prefixed, PrefixedPairs
from paddock.data.preparing.spans import Spans
from paddock.data.samples import Prepare
from paddock.data.section import Section
from paddock.errors import TokenizerError, UsageError
from paddock.model.spec import Architecture, Experts, Full, Learned, Pooler, Prefix
from paddock.model.spec import Causal as CausalMask
from paddock.tokenizer import Tokenizer
from paddock.training.losses import Loss, WeightedLoss, token_loss
from paddock.training.recipe import Fraction
from paddock.training.sentence_ends import sentence_signs

BALANCE = 0.01  # of a model with experts, where a recipe says nothing (Switch, arXiv 2101.03961)
MAX_SENTINELS = 4096

Weight = Annotated[float, Field(ge=0, le=1e3)]
Share = Annotated[float, Field(gt=0, le=0.9)]
Part = Annotated[float, Field(ge=0, le=1)]

OWN: dict[str, tuple[str, ...]] = {  # the settings that are of some objectives only
    "causal": (),
    "masked": ("share", "whole_words", "next_sentence"),
    "blanks": ("share", "mean_span", "long", "sentences"),
    "spans": ("share", "mean_span"),
    "prefix": (),
    "pairs": (),
}
EVERYWHERE = ("name", "z_loss", "label_smoothing", "load_balancing", "router_z", "token_gradient")


@dataclass(frozen=True)
class Rows:
    """What `objective` is told of rows beside what they are made for."""

    length: int
    isolated: bool
    start: int | None


class Objective(Section):
    """What a model is asked for in training.

    name: `causal` the next token; `masked` hidden tokens (BERT); `blanks` GLM's blank infilling; `spans` T5's span
    corruption; `prefix` the rest of a text whose beginning sees all of itself; `pairs` the second text of a pair.
    share: of the tokens that is hidden. mean_span: tokens of a hidden stretch on average. whole_words: hide them whole.
    next_sentence: ask too whether B followed A. long: the share of GLM's rows that end in one long [gMASK];
    sentences: of those whose blanks are whole sentences.
    The others are weights of `training.losses.WeightedLoss`; `load_balancing` is 0.01 for a model with experts unless
    said.
    """

    name: Literal["causal", "masked", "blanks", "spans", "prefix", "pairs"] = "causal"
    share: Share = 0.15
    mean_span: Annotated[float, Field(ge=1, le=1000)] = 3.0
    whole_words: bool = False
    next_sentence: bool = False
    long: Part = 0.5
    sentences: Part = 0.0
    z_loss: Weight = 0.0
    label_smoothing: Fraction = 0.0
    load_balancing: Weight | None = None
    router_z: Weight = 0.0
    token_gradient: Part = 1.0

    @model_validator(mode="after")
    def known(self) -> Objective:
        for key in sorted(self.model_fields_set - {*EVERYWHERE, *OWN[self.name]}):
            raise ValueError(f"{key} is not a setting of the objective {self.name!r}")
        if self.name == "blanks" and self.long + self.sentences > 1:
            raise ValueError(
                f"long and sentences are shares of the rows, and {self.long:g} + {self.sentences:g} is more than 1"
            )
        return self

    @model_serializer(mode="wrap")
    def resolved(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only what is a setting of this objective, so that a resolved recipe can be read again."""
        return {key: value for key, value in write(self).items() if key in {*EVERYWHERE, *OWN[self.name]}}


def objective(
    recipe: Objective,
    tokenizer: Tokenizer,
    architecture: Architecture,
    length: int,
    *,
    isolated: bool = True,
    start: int | None = None,
) -> tuple[Prepare, Loss]:
    """How samples become batches, and what is made small, for rows of `length` tokens (of an encoder's side, if any).

    Samples are to have at most `Prepare.takes` tokens. `isolated`: documents of a row do not see each other, where the
    objective keeps them apart (`causal`, `masked`); the others read a row as one text.
    `start`: what a decoder's input begins with, config.json's decoder_start_token_id; None: `decoder_start`.
    Raises UsageError where the model or its tokenizer cannot do what is asked.
    """
    check_length(architecture, length)
    check_vocabulary(tokenizer, architecture)
    rows = Rows(length, isolated, start)
    return PREPARES[recipe.name](recipe, tokenizer, architecture, rows), weighted(recipe, architecture)


def weighted(recipe: Objective, architecture: Architecture) -> Loss:
    """The loss of a recipe; the plain token loss where nothing is added to it."""
    experts = any(isinstance(layer.feedforward, Experts) for layer in architecture.layers)
    if not experts and (recipe.load_balancing or recipe.router_z):
        raise UsageError(
            f"{architecture.family} has no experts to balance",
            fix="leave out objective.load_balancing and objective.router_z",
        )
    given = WeightedLoss(
        z=recipe.z_loss,
        smoothing=recipe.label_smoothing,
        next_sentence=float(recipe.next_sentence),
        balance=(BALANCE if recipe.load_balancing is None else recipe.load_balancing) if experts else 0.0,
        router_z=recipe.router_z,
        token_gradient=recipe.token_gradient,
    )
    return token_loss if given == WeightedLoss() else given


def check_length(architecture: Architecture, length: int) -> None:
    """Raises UsageError for rows longer than the positions that a model has, or than it was made for."""
    for side in (architecture, architecture.encoder):
        table = side.embedding.positions if side is not None else None
        most = table.count if isinstance(table, Learned) else side.context if side is not None else None
        if most is not None and length > most:
            raise UsageError(
                f"rows of {length} tokens, but this {architecture.family} reads {most}",
                fix=f"set data.length to at most {most}, or give the model more positions",
            )


def _causal(recipe: Objective, tokenizer: Tokenizer, a: Architecture, rows: Rows) -> Prepare:
    _check_decoder(recipe.name, a)
    if isinstance(a.mask, Prefix):
        raise UsageError(
            f"{a.family} reads what stands before its start token as a whole: the next token is no question to it",
            fix="use objective.name: blanks",
        )
    return Causal(rows.length, padding(tokenizer), rows.isolated)


def _masked(recipe: Objective, tokenizer: Tokenizer, a: Architecture, rows: Rows) -> Prepare:
    if a.head is None or not isinstance(a.mask, Full):
        raise UsageError(
            f"masked tokens are asked of an encoder with a head over the vocabulary, and this {a.family} is none",
            fix='use a BERT ("architectures": ["BertForMaskedLM"] or ["BertForPreTraining"]), or another objective',
        )
    if recipe.next_sentence and (not isinstance(a.pooler, Pooler) or not a.pooler.next_sentence):
        raise UsageError(
            "the model has no head for the next sentence",
            fix='set "architectures": ["BertForPreTraining"] in model, or objective.next_sentence: false',
        )
    if recipe.next_sentence and a.embedding.segments < 2:
        raise UsageError(f"the model tells {a.embedding.segments} segments apart", expected="2: type_vocab_size")
    if rows.length < 8:
        raise UsageError(
            f"rows of {rows.length} tokens leave no room for text between the marks", fix="raise data.length"
        )
    first, last, mask = (_role(tokenizer, role, "masked") for role in ("cls", "sep", "mask"))
    return Masked(
        rows.length,
        mask,
        first,
        last,
        padding(tokenizer),
        ordinary(tokenizer),
        continuing(tokenizer),
        recipe.share,
        recipe.whole_words,
        recipe.next_sentence,
        rows.isolated,
        _marks(tokenizer),
    )


def _blanks(recipe: Objective, tokenizer: Tokenizer, a: Architecture, rows: Rows) -> Prepare:
    if not isinstance(a.mask, Prefix) or len(a.mask.mask_tokens) < 2:
        raise UsageError(
            f"blanks need positions in two parts and a text that sees all of itself, and {a.family} has neither",
            fix="use a ChatGLM-6B (model_type: chatglm), or objective.name: spans or prefix",
        )
    long_mask, mask, *others = a.mask.mask_tokens
    sentence_mask = (others or [mask])[0]  # ChatGLM-6B's own code knows no third kind
    ids = {"gmask_token_id": long_mask, "mask_token_id": mask, "smask_token_id": sentence_mask}
    for key, id in (ids | {"bos_token_id": a.mask.start_token}).items():
        if id >= len(tokenizer) or not tokenizer.is_control(id):
            found = tokenizer.piece(id) if id < len(tokenizer) else "beyond the tokenizer's ids"
            raise UsageError(
                f"{key} is {id}, which is {found!r} and no control token of this tokenizer",
                expected="the ids of [gMASK], [MASK] and <sop>",
                fix="train the tokenizer with these as special tokens, and write their ids into model",
            )
    if rows.length < 8:
        raise UsageError(f"rows of {rows.length} tokens leave no room for blanks", fix="raise data.length")
    return Blanks(
        rows.length,
        mask,
        long_mask,
        a.mask.start_token,
        _end(tokenizer, recipe.name),
        padding(tokenizer),
        recipe.share,
        recipe.mean_span,
        recipe.long,
        marks=_marks(tokenizer),
        whole=recipe.sentences,
        sentence_mask=sentence_mask,
        signs=sentence_signs(tokenizer) if recipe.sentences else None,
    )


def _spans(recipe: Objective, tokenizer: Tokenizer, a: Architecture, rows: Rows) -> Prepare:
    _check_encoder_decoder(recipe.name, a)
    if rows.length < 4:
        raise UsageError(f"rows of {rows.length} tokens leave no room for holes", fix="raise data.length")
    found = sentinels(tokenizer)
    made = Spans(
        rows.length,
        found,
        _start(rows, tokenizer, a),
        _end(tokenizer, recipe.name),
        padding(tokenizer),
        recipe.share,
        recipe.mean_span,
        _marks(tokenizer),
    )
    if made.holes > len(found):
        raise UsageError(
            f"a row of {rows.length} tokens has {made.holes} holes, and the tokenizer {len(found)} sentinels for them",
            expected=f"<extra_id_0> to <extra_id_{made.holes - 1}>",
            fix="train the tokenizer with them as special tokens, or make data.length or objective.share smaller",
        )
    check_length(a, max(made.sizes(made.takes)))
    return made


def _prefix(recipe: Objective, tokenizer: Tokenizer, a: Architecture, rows: Rows) -> Prepare:
    if a.encoder is not None:
        start, end = _start(rows, tokenizer, a), _end(tokenizer, recipe.name)
        return PrefixedPairs(rows.length, start, end, padding(tokenizer), _marks(tokenizer))
    _check_decoder(recipe.name, a)
    if not isinstance(a.mask, CausalMask):
        raise UsageError(f"{a.family} marks the end of its prefix by a token", fix="use objective.name: blanks")
    return Prefixed(rows.length, padding(tokenizer))


def _pairs(recipe: Objective, tokenizer: Tokenizer, a: Architecture, rows: Rows) -> Prepare:
    _check_encoder_decoder(recipe.name, a)
    start, end = _start(rows, tokenizer, a), _end(tokenizer, recipe.name)
    closed = tokenizer.after[-1:] == (end,)  # a source is read as a prompt will be
    return Paired(rows.length, start, end, padding(tokenizer), closed, _marks(tokenizer), tokenizer.before)


Maker = Callable[[Objective, Tokenizer, Architecture, Rows], Prepare]
PREPARES: dict[str, Maker] = {
    "causal": _causal,
    "masked": _masked,
    "blanks": _blanks,
    "spans": _spans,
    "prefix": _prefix,
    "pairs": _pairs,
}


def check_vocabulary(tokenizer: Tokenizer, architecture: Architecture) -> None:
    """Raises UsageError for a tokenizer with ids that the model has no row for."""
    for side in (architecture, architecture.encoder):
        if side is not None and side.vocabulary < len(tokenizer):
            raise UsageError(
                f"the tokenizer has {len(tokenizer)} ids, and the model a vocabulary of {side.vocabulary}",
                fix=f"set model.vocab_size to at least {len(tokenizer)}",
            )


def ordinary(tokenizer: Tokenizer) -> np.ndarray:
    """(vocabulary,) True for the ids that stand for text."""
    found = [piece is not None and not tokenizer.is_control(id) for id, piece in enumerate(_pieces(tokenizer))]
    return np.array(found, bool)


def continuing(tokenizer: Tokenizer) -> np.ndarray:
    """(vocabulary,) True for the pieces that go on with the word before them.

    WordPiece says so; in the other vocabularies a word's first piece begins with a blank, and a piece that begins with
    a letter or digit of an alphabet goes on. Marks and ideographs stand alone.
    """
    if tokenizer.kind == "WordPiece":
        return np.array([piece is not None and piece.startswith("##") for piece in _pieces(tokenizer)], bool)
    first = [(piece or " ")[0] for piece in _pieces(tokenizer)]
    found = [letter.isalnum() and letter < "\u2e80" for letter in first]
    return np.array(found, bool)


def sentinels(tokenizer: Tokenizer) -> tuple[int, ...]:
    """T5's tokens that stand for holes, <extra_id_0> first."""
    found: list[int] = []
    while len(found) < MAX_SENTINELS and (id := tokenizer.id_of(f"<extra_id_{len(found)}>")) is not None:
        found.append(id)
    return tuple(found)


def _pieces(tokenizer: Tokenizer) -> list[str | None]:
    pieces: list[str | None] = []
    for id in range(len(tokenizer)):
        try:
            pieces.append(tokenizer.piece(id))
        except TokenizerError:  # an id between two that have pieces
            pieces.append(None)
    return pieces


def _check_decoder(name: str, a: Architecture) -> None:
    if a.encoder is not None or not a.generates:
        kind = "an encoder-decoder" if a.encoder is not None else "an encoder"
        other = "spans, prefix or pairs" if a.encoder is not None else "masked"
        raise UsageError(
            f"objective {name!r} is for a decoder, and {a.family} is {kind}", fix=f"use objective.name: {other}"
        )


def _check_encoder_decoder(name: str, a: Architecture) -> None:
    if a.encoder is None:
        raise UsageError(
            f"objective {name!r} is for an encoder-decoder, and {a.family} has one stack",
            fix="use model_type t5, marian or transformer, or another objective",
        )


def _role(tokenizer: Tokenizer, role: str, name: str) -> int:
    found = tokenizer.specials.get(role)
    if found is None:
        raise UsageError(
            f"objective {name!r} needs a {role} token, and {tokenizer!r} has none",
            fix="train the tokenizer with [CLS], [SEP] and [MASK] as special tokens",
        )
    return found


def padding(tokenizer: Tokenizer) -> int:
    """What stands behind a row's end, where nothing looks and nothing is asked."""
    if tokenizer.pad_id is not None:
        return tokenizer.pad_id
    return tokenizer.eos_ids[0] if tokenizer.eos_ids else 0


def _end(tokenizer: Tokenizer, name: str) -> int:
    ends = [tokenizer.id_of("<eop>"), *tokenizer.eos_ids] if name == "blanks" else list(tokenizer.eos_ids)
    for id in ends:
        if id is not None:
            return id
    raise UsageError(
        f"objective {name!r} writes an end behind each text, and {tokenizer!r} has none",
        fix="train the tokenizer with an eos token (</s>, for blanks <eop>)",
    )


def decoder_start(tokenizer: Tokenizer) -> int | None:
    """A decoder's first token where a configuration does not say: the padding token, as T5's and Marian's; else BOS."""
    return tokenizer.pad_id if tokenizer.pad_id is not None else tokenizer.bos_id


def _start(rows: Rows, tokenizer: Tokenizer, a: Architecture) -> int:
    found = decoder_start(tokenizer) if rows.start is None else rows.start
    if found is None or not 0 <= found < a.vocabulary:
        raise UsageError(
            f"a decoder's input begins with the token {found}, which the model does not have",
            expected=f"an id below {a.vocabulary}",
            fix="set model.decoder_start_token_id, or train the tokenizer with a pad or a bos token",
        )
    return found


def _marks(tokenizer: Tokenizer) -> tuple[int, ...]:
    """What may stand at the ends of a document and is no text."""
    roles = [tokenizer.specials.get(role) for role in ("bos", "eos", "cls", "sep", "pad")]
    return tuple(sorted({id for id in (*roles, *tokenizer.before, *tokenizer.after) if id is not None}))
