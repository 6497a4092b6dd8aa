"""The text that ids add after a prompt, as it becomes certain."""

from __future__ import annotations

from collections.abc import Iterable

from paddock.tokenizer import Tokenizer

UNFINISHED = "\ufffd"  # what bytes that are no character yet decode to


class Continuation:
    """Decodes ids that follow `prompt`: prompt text + what `push` and `finish` give = the text of all ids together.

    A piece may read differently at the start of a text (SentencePiece drops its first blank), so the decoder reads the
    prompt first, and what it would still give for that is left out. A character whose bytes begin in the prompt comes
    with the piece that ends it: `prompt` stops before it.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Iterable[int] = ()) -> None:
        self._stream, alone = tokenizer.stream(), tokenizer.stream()
        shown = whole = ""
        for id in prompt:
            shown += self._stream.push(id)
            whole += alone.push(id)
        self.prompt = whole + alone.finish().rstrip(UNFINISHED)
        self._due = self.prompt[len(shown) :]

    def push(self, id: int) -> str:
        return self._own(self._stream.push(id))

    def finish(self) -> str:
        return self._own(self._stream.finish())

    def _own(self, text: str) -> str:
        if self._due and text:
            text, self._due = text.removeprefix(self._due), ""
        return text
