"""The text that ids add after a prompt, as it becomes certain."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from paddock.engine.grammar import Grammar, matcher_of
from paddock.tokenizer import Tokenizer

UNFINISHED = "\ufffd"  # what bytes that are no character yet decode to


class Continuation:
    """Decodes ids that follow `prompt`: prompt text + what `push` and `finish` give = the text of all ids together.

    A piece may read differently at the start of a text (SentencePiece drops its first blank), so the decoder reads the
    prompt first, and what it would still give for that is left out. A character whose bytes begin in the prompt comes
    with the piece that ends it: `prompt` stops before it. `shown` are control tokens that are told as they are spelt,
    such as those that begin a call of a tool. `matcher` keeps the answer in `grammar`, if there is one; a grammar that
    was not compiled before is now, which may take a second. Raises UsageError and TokenizerError as `matcher_of`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Iterable[int] = (),
        shown: Collection[int] = (),
        grammar: Grammar | None = None,
    ) -> None:
        self._tokenizer, self._shown = tokenizer, frozenset(shown)
        self._stream, alone = tokenizer.stream(), tokenizer.stream()
        given = whole = ""
        for id in prompt:
            given += self._stream.push(id)
            whole += alone.push(id)
        self.prompt = whole + alone.finish().rstrip(UNFINISHED)
        self._due = self.prompt[len(given) :]
        self.matcher = None if grammar is None else matcher_of(grammar, tokenizer, fresh=not self.prompt)

    def push(self, id: int) -> str:
        if id in self._shown:
            return self._tokenizer.piece(id)
        return self._own(self._stream.push(id))

    def finish(self) -> str:
        return self._own(self._stream.finish())

    def _own(self, text: str) -> str:
        if self._due and text:
            text, self._due = text.removeprefix(self._due), ""
        return text
