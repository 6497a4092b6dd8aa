"""What is done to an example: changed, cut into several, or removed for a reason."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from paddock.data.cleaning import recipe as documents
from paddock.data.cleaning.build import build, prepare
from paddock.data.cleaning.near import Collect, NearDuplicates, decide
from paddock.data.cleaning.stage import Item, Stage
from paddock.data.cleaning.words import digest, whole
from paddock.data.document import Document
from paddock.data.instruct.cleaning import recipe as r
from paddock.data.instruct.cleaning.markdown import markdown
from paddock.data.instruct.records import (
    Conversation,
    Example,
    Feedback,
    Labelled,
    Message,
    Pair,
    Preference,
    Ranked,
    Text,
    parts_of,
)
from paddock.errors import DataError
from paddock.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Outcome:
    """examples: what comes of one; none: it was removed for `reason`, `detail` of which was found."""

    examples: tuple[Example, ...]
    reason: str = ""
    detail: str = ""
    changes: Mapping[str, int] = field(default_factory=dict)


Work = Callable[[int, Example], Outcome]
Tokenizers = Callable[[str], Tokenizer]  # of a model's name


def kept(example: Example, changes: Mapping[str, int] | None = None) -> Outcome:
    return Outcome((example,), changes=changes or {})


def gone(reason: str, detail: str = "") -> Outcome:
    return Outcome((), reason, detail)


def work_of(asked: r.Section, examples: Sequence[Example], tokenizers: Tokenizers) -> Work:
    """The stage at work; `examples`: all that it will see, in order, for stages that look at them twice."""
    match asked:
        case r.Markdown():
            return _markdown(asked)
        case r.Blocked():
            return _blocked(asked)
        case r.Openings():
            return _openings(asked)
        case r.Lengths():
            return _lengths(asked)
        case r.Split():
            return _split(asked, tokenizers(asked.model))
        case documents.Near():
            return _judged(_near(asked, examples))
    with tempfile.TemporaryDirectory(prefix="paddock-clean-") as folder:
        model = Path(folder) / "classifier.safetensors"
        prepare(asked, model)
        stage = build(asked, model)
    return _each_text(stage) if isinstance(asked, documents.Forms | documents.Private) else _judged(stage)


def said(example: Example) -> str:
    """All texts of an example, one below the other."""
    parts = (part for _, part in parts_of(example))
    return "\n\n".join(p if isinstance(p, str) else "\n\n".join(m.content for m in p) for p in parts)


def _turns(example: Example) -> Iterator[Message]:
    """Everything said in it, as messages: sources are asked and targets answered."""
    for name, part in parts_of(example):
        if isinstance(part, str):
            yield Message("assistant" if name in ("target", "response") else "user", part)
        else:
            yield from part


def _mapped(example: Example, change: Callable[[str, str], str]) -> Example:
    """The example with `change(role, text)` of every text in it."""

    def each(messages: Sequence[Message]) -> tuple[Message, ...]:
        return tuple(replace(m, content=change(m.role, m.content)) for m in messages)

    match example:
        case Conversation() | Feedback():
            return replace(example, messages=each(example.messages))
        case Preference():
            chosen, rejected = each(example.chosen), each(example.rejected)
            return replace(example, prompt=each(example.prompt), chosen=chosen, rejected=rejected)
        case Ranked():
            responses = tuple(change("assistant", text) for text in example.responses)
            return replace(example, prompt=each(example.prompt), responses=responses)
        case Pair():
            return replace(example, source=change("user", example.source), target=change("assistant", example.target))
        case Labelled():
            return replace(example, texts=tuple(change("user", text) for text in example.texts))
        case Text():
            return replace(example, text=change("assistant", example.text))


def _markdown(asked: r.Markdown) -> Work:
    def work(number: int, example: Example) -> Outcome:
        deep: list[str] = []

        def change(role: str, text: str) -> str:
            made = markdown(text) if role in asked.roles else text
            deep.extend([] if made is not None else [role])
            return text if made is None else made

        made = _mapped(example, change)
        if deep:
            return gone("HTML nested too deeply", f"in what the {deep[0]} says")
        if not all(message.says for message in _turns(made)):
            return gone("nothing left of its HTML")
        return kept(made, {"HTML": 1} if made != example else None)

    return work


def _blocked(asked: r.Blocked) -> Work:
    phrases = [phrase.casefold() for phrase in asked.phrases]

    def work(number: int, example: Example) -> Outcome:
        for message in _turns(example):
            text = message.content.casefold() if message.role in asked.roles else ""
            if found := next((phrase for phrase in phrases if phrase in text), None):
                return gone("blocked phrase", f"{found!r}, said by the {message.role}")
        return kept(example)

    return work


def _openings(asked: r.Openings) -> Work:
    seen: dict[bytes, int] = {}

    def work(number: int, example: Example) -> Outcome:
        turns = [message for message in _turns(example) if message.role != "system"][: asked.turns]
        before = seen.setdefault(digest(whole("\0".join(m.content for m in turns)), 16), number)
        return kept(example) if before == number else gone("opening came before", f"as that of example {before}")

    return work


def _lengths(asked: r.Lengths) -> Work:
    def out(what: str, found: int, limit: r.Range) -> Outcome | None:
        least, most = limit
        if least is not None and found < least:
            return gone(f"too few {what}" if what == "messages" else f"{what} too short", f"{found:,}, least {least:,}")
        if most is not None and found > most:
            return gone(f"too many {what}" if what == "messages" else f"{what} too long", f"{found:,}, most {most:,}")
        return None

    def work(number: int, example: Example) -> Outcome:
        turns = list(_turns(example))
        found = out("messages", len(turns), asked.messages)
        for message in turns:
            limit = {"user": asked.user, "assistant": asked.assistant}.get(message.role)
            if found is None and limit is not None:
                found = out(message.role, len(message.content), limit)
        return found or kept(example)

    return work


def _split(asked: r.Split, tokenizer: Tokenizer) -> Work:
    def size(message: Message) -> int:
        return len(tokenizer.encode(message.content, add_special=False)) + asked.each

    def work(number: int, example: Example) -> Outcome:
        if not isinstance(example, Conversation):
            return kept(example)
        pieces, lost = _pieces(example.messages, asked.tokens, size)
        if not pieces:
            return gone("no exchange fits", f"none has at most {asked.tokens:,} tokens")
        if len(pieces) == 1 and not lost:
            return kept(example)
        name = example.origin.id
        made = tuple(
            replace(
                example,
                messages=piece,
                origin=replace(
                    example.origin, id=f"{name}/{place}" if name else None, group=example.origin.group or name
                ),
            )
            for place, piece in enumerate(pieces)
        )
        changes = {"pieces": len(pieces)} | ({"exchanges that do not fit": lost} if lost else {})
        return Outcome(made, changes=changes)

    return work


def _pieces(
    messages: Sequence[Message], most: int, size: Callable[[Message], int]
) -> tuple[list[tuple[Message, ...]], int]:
    """Runs of whole exchanges, a user's message and all that answers it, of at most `most` tokens, each with the system
    message before it; and how many exchanges are longer alone, and left out."""
    system = tuple(messages[:1]) if messages and messages[0].role == "system" else ()
    around = sum(map(size, system))
    pieces: list[tuple[Message, ...]] = []
    open_: list[Message] = []
    tokens, lost = around, 0
    for exchange in _exchanges(messages[len(system) :]):
        length = sum(map(size, exchange))
        if open_ and tokens + length > most:
            pieces.append((*system, *open_))
            open_, tokens = [], around
        if around + length > most:  # and what follows does not go on from what came before
            lost += 1
            continue
        open_ += exchange
        tokens += length
    return pieces + ([(*system, *open_)] if open_ else []), lost


def _exchanges(messages: Sequence[Message]) -> Iterator[list[Message]]:
    exchange: list[Message] = []
    for message in messages:
        if message.role == "user" and exchange and exchange[-1].role != "user":
            yield exchange
            exchange = []
        exchange.append(message)
    if exchange:
        yield exchange


def _each_text(stage: Stage) -> Work:
    """A stage of documents that changes texts, on every text of an example."""

    def work(number: int, example: Example) -> Outcome:
        changes: Counter[str] = Counter()

        def change(role: str, text: str) -> str:
            outcome = stage.apply(Item(number, Document(text, example.origin.place)))
            if outcome.document is None:
                raise DataError(f"{example.origin.place}: a stage that changes texts removed one")
            changes.update(outcome.changes)
            return outcome.document.text

        return kept(_mapped(example, change), changes)

    return work


def _judged(stage: Stage) -> Work:
    """A stage of documents that removes some, on all that is said in an example."""

    def work(number: int, example: Example) -> Outcome:
        outcome = stage.apply(Item(number, _document(example)))
        return kept(example) if outcome.document is not None else gone(outcome.reason, outcome.detail)

    return work


def _document(example: Example) -> Document:
    return Document(said(example), example.origin.place)


def _near(asked: documents.Near, examples: Sequence[Example]) -> Stage:
    collect = Collect(asked)
    for number, example in enumerate(examples):
        collect.apply(Item(number, _document(example)))
    with tempfile.TemporaryDirectory(prefix="paddock-clean-") as folder:
        decide(asked, len(examples), [collect.learned()], Path(folder))
        return NearDuplicates(Path(folder))
