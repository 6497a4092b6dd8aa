"""What a model that reads can tell: a text's vector, what stands behind a mask, the class of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paddock.data.preparing.labelled import layout_of
from paddock.engine.memory import memory_for
from paddock.engine.pooling import Pooling
from paddock.engine.reading import Reader
from paddock.engine.request import check_number
from paddock.engine.sampling import Bound, shown
from paddock.errors import ContextLengthError, UnsupportedError, UsageError
from paddock.model.linear import Linear
from paddock.model.spec import Architecture
from paddock.model.step import Step
from paddock.model.transformer import LastToken, Pooler, Transformer
from paddock.tokenizer import Tokenizer

BATCH_TOKENS = 8192  # of one batch, padding included: bounds memory
MAX_CANDIDATES = 1000


@dataclass(frozen=True)
class Candidate:
    """A token that may stand behind a mask. `text`: the whole text with it put in."""

    token: int
    piece: str
    probability: float
    text: str


@dataclass(frozen=True)
class Label:
    """A class and how likely it is (for a regression, the score itself)."""

    name: str
    score: float


def embed(
    reader: Reader, tokenizer: Tokenizer, texts: Sequence[str], pooling: Pooling, truncate: bool = False
) -> Tensor:
    """One vector per text, (texts, width) float32 on the CPU, wherever the model is.

    Texts are read in batches of similar length, padded on the right; a text's vector does not depend on the others.
    A text over the limit is refused with ContextLengthError, or cut if `truncate` asks for it.
    """
    model = reader.model
    check_embeds(model)
    ids = [fitted(text_ids(tokenizer, text, pooling), model, tokenizer, pooling, truncate) for text in checked(texts)]
    return vectors(reader, ids, pooling)


def check_embeds(model: Transformer) -> None:
    """Refuses what has no one vector for a text."""
    if model.architecture.encoder is not None:
        raise UnsupportedError("an encoder-decoder has no one vector for a text", fix="use an encoder such as BERT")


def vectors(reader: Reader, ids: Sequence[Sequence[int]], pooling: Pooling) -> Tensor:
    """One vector per text of token ids, none of them empty or too long: (texts, width) float32 on the CPU."""
    result = torch.zeros(len(ids), reader.model.architecture.width)
    for rows in batches([len(row) for row in ids]):
        result[rows] = _pooled(reader.hidden([ids[row] for row in rows]), pooling)
    return result


def fill(reader: Reader, tokenizer: Tokenizer, text: str, count: int = 5) -> list[list[Candidate]]:
    """For each mask token in `text`, the `count` likeliest tokens, likeliest first.

    The mask is written as the vocabulary spells it ([MASK]). Several masks are looked at one by one: each candidate's
    `text` fills its own mask only.
    """
    check_number("count", count, Bound(1, MAX_CANDIDATES, whole=True))
    mask = tokenizer.specials.get("mask")
    model = reader.model
    if model.head is None or mask is None:
        raise UnsupportedError("this model does not fill masks", expected="a masked language model such as BERT")
    spelling = tokenizer.piece(mask)
    parts = checked([text])[0].split(spelling)
    if len(parts) == 1:
        raise UsageError(f"the text has no {spelling}", fix=f"write {spelling} where a word is to be found")
    ids = list(tokenizer.before)
    for part in parts:
        ids += [*tokenizer.encode(part, add_special=False), mask]
    ids = [*ids[:-1], *tokenizer.after]
    check_length(len(ids), model.architecture.context, "a text")
    logits = reader.logits(ids).cpu()
    logits[:, len(tokenizer) :] = float("-inf")
    places = [place for place, id in enumerate(ids) if id == mask]
    return [_candidates(tokenizer, logits[place], parts, index, spelling, count) for index, place in enumerate(places)]


def check_classes(model: Transformer) -> tuple[Pooler | LastToken, Linear]:
    """What scores a text for the model's classes. Raises UnsupportedError for a model without."""
    pooler = model.pooler
    if pooler is None or pooler.classes is None:
        raise UnsupportedError(
            "this model has no classes",
            expected="a model fine-tuned for sequence classification",
            fix="`paddock finetune` makes one with task: classify",
        )
    return pooler, pooler.classes


def classify(
    reader: Reader,
    tokenizer: Tokenizer,
    text: str,
    config: Mapping[str, Any],
    second: str | None = None,
    truncate: bool = False,
) -> list[Label]:
    """The classes of config.json's id2label with their probabilities, likeliest first; of a text, or of two together.

    A text over the model's limit is refused with ContextLengthError, or cut if `truncate` asks for it: of two, the
    longer first.

    problem_type says how scores become probabilities: classes that exclude each other (softmax, the default), labels
    that do not (sigmoid), or none at all (regression: the raw scores).
    """
    model = reader.model
    pooler, classes = check_classes(model)
    hidden = _read(reader, tokenizer, checked([text] if second is None else [text, second]), truncate)
    with torch.no_grad():
        scores = classes(pooler(hidden.to(classes.weight.dtype).unsqueeze(0)))[0].float().cpu()
    kind = config.get("problem_type") or ("regression" if len(scores) == 1 else "single_label_classification")
    if kind == "single_label_classification":
        scores = scores.softmax(0)
    elif several_apply(config):
        scores = scores.sigmoid()
    elif kind != "regression":
        raise UnsupportedError(f"config.json: problem_type is {shown(kind)}")
    names = config.get("id2label") or {}
    labels = [
        Label(str(names.get(str(i), names.get(i, f"LABEL_{i}"))), score) for i, score in enumerate(scores.tolist())
    ]
    return sorted(labels, key=lambda label: -label.score)


APPLIES = 0.5  # from which probability on a class that does not exclude others is said to apply


def several_apply(config: Mapping[str, Any]) -> bool:
    """Whether several of a model's classes may apply to one text, or none."""
    return config.get("problem_type") == "multi_label_classification"


def class_names(config: Mapping[str, Any]) -> list[str]:
    """The names in a config.json's id2label, in the order of their ids; none where it says nothing of them."""
    table = config.get("id2label")
    if not isinstance(table, Mapping) or sorted(table, key=str) != sorted(map(str, range(len(table)))):
        return []
    return [str(table[str(number)]) for number in range(len(table))]


def tokens_of(tokenizer: Tokenizer, architecture: Architecture, texts: Sequence[str]) -> int:
    """How many tokens `classify` reads of one text or two, with what stands around them."""
    layout = layout_of(tokenizer, architecture.embedding.segments)
    return layout.around(len(texts)) + sum(len(tokenizer.encode(text, add_special=False)) for text in texts)


def _read(reader: Reader, tokenizer: Tokenizer, texts: Sequence[str], truncate: bool) -> Tensor:
    """The hidden states, (tokens, width), of one text or of two as they were fine-tuned together."""
    model, architecture = reader.model, reader.model.architecture
    layout = layout_of(tokenizer, architecture.embedding.segments)
    parts: Sequence[Sequence[int]] = [tokenizer.encode(text, add_special=False) for text in texts]
    if truncate and architecture.context is not None:
        parts = layout.cut(parts, architecture.context)
    ids, begin = layout.join(parts)
    if not ids:
        raise UsageError("a text is empty, and this tokenizer puts nothing around it", fix="leave it out")
    check_length(len(ids), architecture.context, "a text")
    if begin == len(ids) or not layout.segments:
        return reader.hidden([ids])[0]
    row = torch.tensor([ids], device=model.embedding.tokens.weight.device)
    segments = (torch.arange(len(ids), device=row.device) >= begin).long().unsqueeze(0)
    with torch.no_grad(), memory_for("to read these two texts"):
        return model.hidden(row, Step.begin(architecture, row, segments=segments))[0]


def checked(texts: Any) -> list[str]:
    """A list of strings, or a refusal."""
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"the texts are {shown(texts)}", expected="a list of strings")
    return list(texts)


def text_ids(tokenizer: Tokenizer, text: str, pooling: Pooling) -> list[int]:
    """What a text's vector is read from, however long."""
    text = pooling.prefix + text
    return tokenizer.encode(text.lower() if pooling.lower else text)


def fitted(
    ids: list[int],
    model: Transformer,
    tokenizer: Tokenizer,
    pooling: Pooling,
    truncate: bool = False,
    most: int | None = None,
) -> list[int]:
    """`ids` if the model takes so many; else cut at the end where `truncate` asks for it. `most`: a lower limit.

    What the tokenizer puts after a text stays at its end. Raises ContextLengthError, UsageError for no ids at all.
    """
    limits = [limit for limit in (pooling.limit, model.architecture.context, most) if limit is not None]
    if not ids:
        raise UsageError("a text is empty, and this tokenizer puts nothing around it", fix="leave it out")
    if not limits or len(ids) <= min(limits):
        return ids
    if not truncate:
        check_length(len(ids), min(limits), "a text")
    after = list(tokenizer.after)
    after = after if after and ids[-len(after) :] == after else []
    if min(limits) <= len(after):
        raise UsageError(f"texts are to be cut to {min(limits)} tokens", expected=f"more than {len(after)}")
    return [*ids[: min(limits) - len(after)], *after]


def check_length(tokens: int, limit: int | None, what: str) -> None:
    if limit is not None and tokens > limit:
        raise ContextLengthError(
            f"{what} of {tokens} tokens does not fit",
            expected=f"at most {limit}",
            fix="split it into shorter texts, or ask for truncate=True where that is offered",
        )


def batches(lengths: Sequence[int], most: int | None = None) -> list[list[int]]:
    """Indices of texts grouped by similar length, each group within `most` tokens (BATCH_TOKENS) once padded."""
    limit = BATCH_TOKENS if most is None else most
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        # The first of a group is its longest.
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= limit:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _pooled(texts: Sequence[Tensor], pooling: Pooling) -> Tensor:
    """Hidden states of several texts, (tokens, width) each, to one vector each, on the CPU."""
    hidden = torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True)
    lengths = torch.tensor([[len(text)] for text in texts], device=hidden.device)
    return pooling(hidden, torch.arange(hidden.shape[1], device=hidden.device) < lengths).cpu()


def _candidates(
    tokenizer: Tokenizer, logits: Tensor, parts: Sequence[str], index: int, spelling: str, count: int
) -> list[Candidate]:
    probabilities, ids = logits.softmax(0).topk(min(count, len(logits)))
    before, after = spelling.join(parts[: index + 1]), spelling.join(parts[index + 1 :])
    found = []
    for token, probability in zip(ids.tolist(), probabilities.tolist(), strict=True):
        piece = tokenizer.decode([token], skip_special=False).strip()
        found.append(Candidate(token, tokenizer.piece(token), probability, before + piece + after))
    return found
