"""Documents to token shards: encoded, begun and ended, divided into what is trained on and what is kept back."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddock.data.document import Document
from paddock.data.reading import Options, Report, read_documents
from paddock.data.shard_writing import SHARD_TOKENS, ShardWriter, whole_folder, write_tokenizer
from paddock.data.shards import Index, fingerprint
from paddock.data.tokens import Tokens, Vocabulary
from paddock.errors import DataError, TokenizerError, UsageError
from paddock.tokenizer.tokenizer import Tokenizer

TRAIN, VALIDATION = "train", "validation"
DOCUMENTS, CHARACTERS = 1000, 2**20  # encoded at once


@dataclass(frozen=True)
class Plan:
    """How documents become ids. validation: the share of documents that is kept back, by their content."""

    tokenizer: Tokenizer
    vocabulary: Vocabulary
    validation: float = 0.0
    shard_tokens: int = SHARD_TOKENS

    def encode(self, documents: Sequence[Document]) -> list[list[int]]:
        """Each document's ids, with what begins and ends it.

        Raises DataError, naming its place, for a text that the vocabulary cannot spell.
        """
        try:
            encoded = self.tokenizer.encode_many(document.text for document in documents)
        except TokenizerError as error:
            if len(documents) > 1:  # which one?
                return [self.encode([document])[0] for document in documents]
            raise DataError(f"{documents[0].place}: {error.what}", expected=error.expected, fix=error.fix) from None
        begin, end = (() if id is None else (id,) for id in (self.vocabulary.begin, self.vocabulary.end))
        return [[*begin, *ids, *end] for ids in encoded]


def vocabulary_of(tokenizer: Tokenizer, end: bool = True, begin: bool | None = None) -> Vocabulary:
    """What a tokenizer's ids are, and what is put around every document.

    end: after each the tokenizer's own end of text, where it has one. begin: before each its beginning of text; None:
    where the tokenizer puts one before prompts too, so that the model has learned what a prompt begins with.
    Raises UsageError for a beginning that the tokenizer does not have.
    """
    if begin and tokenizer.bos_id is None:
        raise UsageError(f"{tokenizer.source} has no id that begins a text", fix="leave --begin out")
    ends = tokenizer.eos_ids[:1] if end else ()
    begins = tokenizer.bos_id if (tokenizer.adds_bos if begin is None else begin) else None
    return Vocabulary(len(tokenizer), fingerprint(tokenizer), ends[0] if ends else None, begins)


def encode_texts(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    around: bool = True,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Tokens:
    """A recipe's texts as ids; `around`: with what `pack_files` puts around a document, so that both train alike.
    told: hears how many of how many are done."""
    words = vocabulary_of(tokenizer) if around else Vocabulary(len(tokenizer))
    name = "the recipe's documents"
    documents, plan = [Document(text, name) for text in texts], Plan(tokenizer, words)
    ids: list[np.ndarray] = []
    for start in range(0, len(documents), DOCUMENTS):
        told(start, len(documents))
        some = plan.encode(documents[start : start + DOCUMENTS])
        ids += [np.asarray(document, dtype=np.uint32) for document in some]
    ends = np.cumsum([len(document) for document in ids], dtype=np.int64)
    return Tokens(np.concatenate(ids) if ids else np.zeros(0, np.uint32), ends, words, name)


def kept_back(text: str, share: float) -> bool:
    """Whether a document is among the `share` that is not trained on.

    Its words alone decide (white space does not count), so copies of one document are on the same side, whatever else
    there is and in whatever order. About `share` of many documents.
    """
    if not share:
        return False
    digest = hashlib.blake2b(" ".join(text.split()).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2**64


def pack_files(
    paths: Sequence[str],
    folder: str | Path,
    plan: Plan,
    reading: Options,
    *,
    replace: bool = False,
    report: Report | None = None,
    told: Callable[[int, int], None] = lambda documents, tokens: None,
) -> dict[str, Index]:
    """Writes the documents of files as shards into `folder`, which appears whole or not at all; gives the indexes.

    Without validation the folder itself holds the shards (the index is under ""); with it `folder/train` and
    `folder/validation` do. Each named file, folder or pattern is a source. `told` hears of documents and tokens so far.
    Raises DataError for broken documents, and where a side would have none.
    """
    with whole_folder(folder, replace) as partial, contextlib.ExitStack() as open_writers:
        sides = (TRAIN, VALIDATION) if plan.validation else ("",)
        writers = [
            open_writers.enter_context(ShardWriter(partial / side, plan.vocabulary, plan.shard_tokens))
            for side in sides
        ]
        done = tokens = 0
        for source, some in _sourced(paths, reading, report):
            for document, ids in zip(some, plan.encode(some), strict=True):
                writers[kept_back(document.text, plan.validation)].add(ids, source)
                done, tokens = done + 1, tokens + len(ids)
            told(done, tokens)
        _check_sides(writers, plan, done)
        open_writers.close()
        for side in sides:
            write_tokenizer(partial / side, plan.tokenizer.files())
        return {side: writer.index for side, writer in zip(sides, writers, strict=True)}


def _sourced(paths: Sequence[str], reading: Options, report: Report | None) -> Iterator[tuple[str, list[Document]]]:
    """Documents, as many at once as keep every core busy, and the input they are of."""
    for path in paths:
        some: list[Document] = []
        characters = 0
        for document in read_documents(path, reading, report):
            some.append(document)
            characters += len(document.text)
            if len(some) == DOCUMENTS or characters >= CHARACTERS:
                yield str(path), some
                some, characters = [], 0
        if some:
            yield str(path), some


def _check_sides(writers: Sequence[ShardWriter], plan: Plan, documents: int) -> None:
    if not documents:
        raise DataError("there are no documents in what was named", expected="at least one that is not empty")
    for writer, side in zip(writers, ("to train on", "to keep back"), strict=False):
        if plan.validation and not writer.documents:
            what = f"of {documents} documents none is left {side}"
            raise DataError(what, fix="give more documents (--split lines or paragraphs), or another share")
