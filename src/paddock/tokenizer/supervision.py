"""Which tokens of a conversation a model is to learn: what it has to write after the prompts that it will be given.

An answer is what the template writes behind the prompt that inference encodes for the messages before it, up to the
token (or string) that ends generation. So for each answer both are rendered, and the answer's text must go on from the
prompt's text, or the two differ and the template is refused. Ids are made so that those before an answer are the
prompt's own, to the last one: where a token would lie across that border, prompt and answer are encoded apart.

Most templates leave a turn as it was when others follow, and one sequence teaches all answers of a conversation. Some
do not (ChatGLM's rounds, an end that only the last answer has): an answer whose prompt and text are not found in the
sequence of a later one gets a sequence of its own.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from paddock.errors import TemplateError, UsageError
from paddock.tokenizer.chat import (
    Memo,
    Message,
    Prompt,
    Span,
    Stops,
    encode_inside,
    encode_prompt,
    encode_stretches,
    render_marked,
    stops,
    stretches,
)
from paddock.tokenizer.template import Template
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.toolcalls import history

End = Literal["template", "eos", "missing"]
NEXT: Message = {"role": "user", "content": "?"}  # some templates end an answer with the beginning of the next turn
SHOWN = 40  # characters of a text in a message


@dataclass(frozen=True)
class Supervised:
    """One sequence. ids: as at inference, and open or ended as training has it. asked: spans (start, stop) of `ids`
    that are to be learned, in order."""

    ids: tuple[int, ...]
    asked: tuple[Span, ...]

    @property
    def count(self) -> int:
        """How many ids are to be learned."""
        return sum(stop - start for start, stop in self.asked)


@dataclass
class _Sequence:
    ids: list[int]
    asked: list[Span] = field(default_factory=list)


@dataclass(frozen=True)
class _Answer:
    """An answer as rendered. prompt: what it goes on from. text: up to the end that is learned; ends: whether one is
    there."""

    prompt: Prompt
    text: Prompt
    ends: bool


class Supervisor:
    """Makes sequences of conversations with one template.

    end: `template`: an answer ends as the template writes it, and one that writes no end is refused; `eos`: such an
    answer gets the tokenizer's end of text; `missing`: it is learned without one. opening: how every answer that is
    learned begins, and the template's generation prompt ends; it is given, not learned.
    """

    def __init__(self, tokenizer: Tokenizer, template: Template, end: End = "template", opening: str = "") -> None:
        if end == "eos":
            _end_of_text(tokenizer)
        self.tokenizer, self.template, self.end, self.opening = tokenizer, template, end, opening

    def sequences(
        self, messages: Sequence[Message], learned: Sequence[int], tools: Sequence[Message] | None = None
    ) -> list[Supervised]:
        """The sequences in which each of the messages numbered `learned` (from 0) is learned once.

        Of an assistant that is its text, calls included, and the end behind it; of other roles their text, and the
        end behind it if the template writes one there. Raises TemplateError for messages that the template does not
        take, renders that differ between training and inference, an end that is missing, text that is left out.
        """
        memo: Memo = {}
        answers = [number for number in learned if messages[number].get("role") == "assistant"]
        others = [number for number in learned if number not in answers]
        found = [self._others(messages, others, tools, memo)] if others else []
        for number in reversed(answers):
            prompt, answer = self._answer(messages, number, tools, memo)
            ids = [*prompt, *answer]
            home = next((each for each in found if each.ids[: len(ids)] == ids), None)
            if home is None:
                home = _Sequence(ids)
                found.append(home)
            home.asked.append((len(prompt), len(ids)))
        return [Supervised(tuple(each.ids), tuple(sorted(each.asked))) for each in reversed(found)]

    def stop_inside(self, text: str) -> str | None:
        """A string that ends generation and stands in `text`, which a model cannot write to its end then."""
        strings = self.template.stop if not self.template.control else self._stops.strings
        return next((stop for stop in strings if stop in text), None)

    # Text

    def _rendered(self, messages: Sequence[Message], tools: Sequence[Message] | None, open_: bool) -> Prompt:
        turns = history(self.template, messages)
        return render_marked(self.tokenizer, self.template, turns, add_generation_prompt=open_, tools=tools)

    def _answer(
        self, messages: Sequence[Message], number: int, tools: Sequence[Message] | None, memo: Memo
    ) -> tuple[list[int], list[int]]:
        """Ids of the prompt of answer `number`, and of the answer."""
        found = self._located(messages, number, tools)
        prompt = encode_prompt(self.tokenizer, self.template, found.prompt, memo)
        whole = encode_prompt(self.tokenizer, self.template, found.text, memo)
        if whole[: len(prompt)] == prompt:
            answer = whole[len(prompt) :]
        else:
            answer = self._apart(_cut(found.text, len(found.prompt.text)), memo)
        return prompt, answer if found.ends or self.end != "eos" else [*answer, _end_of_text(self.tokenizer)]

    def _located(self, messages: Sequence[Message], number: int, tools: Sequence[Message] | None) -> _Answer:
        prompt = self._rendered(messages[:number], tools, True)
        whole = self._rendered(messages[: number + 1], tools, False)
        if not whole.text.startswith(prompt.text):
            raise self._differing(prompt.text, whole.text, number)
        last, dressed = self._last(messages[number], whole, len(prompt.text), number)
        ended = self._ended(whole, last, dressed) or self._ended_by_the_next(messages, number, tools, whole, last)
        if ended is None and self.end == "template":
            raise self._endless(whole.text[last:], number)
        return _Answer(prompt, ended or _until(whole, last), ended is not None)

    def _last(self, message: Message, whole: Prompt, start: int, number: int) -> tuple[int, bool]:
        """Where in the text the answer's content ends, and whether calls or thoughts are written around it."""
        given = message.get("content")
        content = given.removeprefix(self.opening) if isinstance(given, str) else ""
        written = whole.text[start:]
        if any(value for key, value in message.items() if key not in ("role", "content")):
            core = content.strip()
            at = whole.text.rfind(core, start) if core else start
            ended = self._ended(whole, start, True)
            if at < 0 or (ended is not None and len(ended.text) < at):
                raise self._rewritten(written, number)
            return at + len(core), True
        size = _past(written, content)
        if size is None:
            raise self._rewritten(written, number)
        return start + size, False

    def _ended(self, whole: Prompt, last: int, dressed: bool) -> Prompt | None:
        """The text up to the end behind `last`, which follows at once unless there is more to write; None if there is
        none."""
        if not dressed:
            match = self._end.match(whole.text, last)
            return _until(whole, match.end()) if match else None
        for match in self._end.finditer(whole.text, last):
            if not any(start < match.end() and match.start() < stop for start, stop in whole.foreign):
                return _until(whole, match.end())
        return None

    def _ended_by_the_next(
        self,
        messages: Sequence[Message],
        number: int,
        tools: Sequence[Message] | None,
        whole: Prompt,
        last: int,
    ) -> Prompt | None:
        try:
            longer = self._rendered([*messages[: number + 1], NEXT], tools, False)
        except TemplateError:  # a format of one question and its answer
            return None
        return self._ended(longer, last, False) if longer.text.startswith(whole.text[:last]) else None

    @functools.cached_property
    def _stops(self) -> Stops:
        return stops(self.tokenizer, self.template)

    @functools.cached_property
    def _end(self) -> re.Pattern[str]:
        """What ends generation, behind any blanks."""
        texts = list(self.template.stop)
        if self.template.control:
            texts += [*self._stops.strings, *map(self.tokenizer.piece, self._stops.ids)]
        longest = sorted({text for text in texts if text}, key=len, reverse=True)
        return re.compile(rf"\s*?(?:{'|'.join(map(re.escape, longest))})" if longest else r"(?!)")

    # Ids

    def _apart(self, answer: Prompt, memo: Memo) -> list[int]:
        """Ids of an answer that are encoded behind its prompt, not with it."""
        plain = functools.partial(self.tokenizer.encode, specials="plain", add_special=False)
        if not self.template.control:
            return encode_inside(plain, answer.text)
        first, *rest = stretches(self.tokenizer, self.template, answer)
        ids = encode_inside(plain, first.text) if first.text else []
        return ids + [id for part in encode_stretches(self.tokenizer, rest, memo) for id in part]

    def _others(
        self, messages: Sequence[Message], learned: Sequence[int], tools: Sequence[Message] | None, memo: Memo
    ) -> _Sequence:
        """The whole conversation as one sequence, with the texts of messages that are no answers."""
        whole = self._rendered(messages, tools, False)
        ids = encode_prompt(self.tokenizer, self.template, whole, memo)
        found, place = _Sequence(ids), 0
        for number, message in enumerate(messages):
            text = str(message.get("content") or "").strip()
            spans = [span for span in whole.foreign if span[0] >= place and whole.text[slice(*span)] == text]
            if spans:
                place = spans[0][1]
            if number not in learned:
                continue
            if not spans:
                raise self._rewritten(whole.text[place:], number)
            start, stop = (self._tokens(whole, cut, ids, memo) for cut in spans[0])
            found.asked.append((start, stop + (stop < len(ids) and ids[stop] in self._stops.ids)))
        return found

    def _tokens(self, whole: Prompt, size: int, ids: Sequence[int], memo: Memo) -> int:
        """How many of `ids` the first `size` characters take."""
        part = encode_prompt(self.tokenizer, self.template, _until(whole, size), memo)
        return next((n for n, (a, b) in enumerate(zip(part, ids, strict=False)) if a != b), min(len(part), len(ids)))

    # Refusals

    def _differing(self, prompt: str, whole: str, number: int) -> TemplateError:
        place = next((i for i, (a, b) in enumerate(zip(whole, prompt, strict=False)) if a != b), len(whole))
        options = ", ".join(sorted(self.template.options))
        return TemplateError(
            f"chat template {self.template.name!r} asks for an answer with {prompt[place:][-SHOWN:]!r} at inference, "
            f"and writes message {number + 1} (assistant) after {whole[:place][-SHOWN:]!r} as {whole[place:][:SHOWN]!r}"
            " in training: a model would be asked for what it never learned",
            fix=f"give one of the template's options ({options}) so that both agree"
            if options
            else "use a template whose generation prompt is how its answers begin",
        )

    def _endless(self, rest: str, number: int) -> TemplateError:
        ends = dict.fromkeys([*self.template.stop, *map(self.tokenizer.piece, self.tokenizer.eos_ids)])
        known = ", ".join(map(repr, ends))
        return TemplateError(
            f"chat template {self.template.name!r} writes no end behind message {number + 1} (assistant), but "
            f"{rest[:SHOWN]!r}: a model would not learn to stop",
            expected=f"one of {known or 'some end token'}",
            fix="end: eos puts the tokenizer's end of text there; end: missing learns the answers without an end",
        )

    def _rewritten(self, written: str, number: int) -> TemplateError:
        return TemplateError(
            f"chat template {self.template.name!r} does not write message {number + 1} as it is behind its prompt, but "
            f"{written[:SHOWN]!r}",
            fix="leave this example out, or use a template that writes answers whole and at once",
        )


def pair(tokenizer: Tokenizer, source: str, target: str, end: End = "template") -> Supervised:
    """A text and how it goes on, without a template: `target` is learned behind `source` as `generate` reads it, and
    the tokenizer's end of text behind it unless `end` is `missing`.

    Raises UsageError for a tokenizer without one, TokenizerError for text that it cannot spell.
    """
    plain = functools.partial(tokenizer.encode, specials="plain", add_special=False)
    prompt, whole = ([*tokenizer.before, *plain(text)] for text in (source, source + target))
    answer = whole[len(prompt) :] if whole[: len(prompt)] == prompt else encode_inside(plain, target)
    if end != "missing":
        answer = [*answer, _end_of_text(tokenizer)]
    return Supervised((*prompt, *answer), ((len(prompt), len(prompt) + len(answer)),))


def _end_of_text(tokenizer: Tokenizer) -> int:
    if not tokenizer.eos_ids:
        fix = "end: missing learns answers without an end"
        raise UsageError(f"{tokenizer!r} has no token that ends a text", fix=fix)
    return tokenizer.eos_ids[0]


def _past(written: str, content: str) -> int | None:
    """Where `content` ends in `written`, which may begin with blanks and have others in it; None if it is not there.

    Templates trim messages, and some take blank lines out of them; whatever else they change is a loss.
    """
    core = content.strip()
    start = len(written) - len(written.lstrip())
    if written.startswith(core, start):
        return start + len(core) if core else 0
    place = start
    for character in core:
        if character.isspace():
            continue
        while place < len(written) and written[place].isspace():
            place += 1
        if place == len(written) or written[place] != character:
            return None
        place += 1
    return place


def _until(prompt: Prompt, size: int) -> Prompt:
    """Its first `size` characters."""
    spans = ((start, min(stop, size)) for start, stop in prompt.foreign)
    return Prompt(prompt.text[:size], tuple(span for span in spans if span[0] < span[1]))


def _cut(prompt: Prompt, start: int) -> Prompt:
    """What follows its first `start` characters."""
    spans = ((max(first, start) - start, stop - start) for first, stop in prompt.foreign)
    return Prompt(prompt.text[start:], tuple(span for span in spans if span[0] < span[1]))
