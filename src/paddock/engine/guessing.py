"""Who guesses ahead for one model's requests: the setting `speculate`, checked and kept."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from paddock.engine.planning import check_generates
from paddock.engine.request import check_number
from paddock.engine.runners import runner_for
from paddock.engine.sampling import Bound, shown
from paddock.engine.speculative import MOST, Draft, Lookup, Speculator
from paddock.errors import TokenizerError, UsageError
from paddock.model.spec import Architecture
from paddock.model.transformer import Transformer
from paddock.tokenizer import Tokenizer

TEXTS = 8  # that a draft model's cache has room for at full length


class Opened(Protocol):
    """What is asked of a model that is open (`LanguageModel`)."""

    model: Transformer

    @property
    def architecture(self) -> Architecture: ...

    @property
    def tokenizer(self) -> Tokenizer: ...


class Guessers:
    """For requests to a model of this architecture and tokenizer. Each draft model that was used has a cache here."""

    def __init__(self, architecture: Architecture, tokenizer: Tokenizer | None) -> None:
        self._architecture, self._tokenizer = architecture, tokenizer
        self._drafts: dict[tuple[int, int], Draft] = {}  # (id of a model that the draft keeps alive, guesses at once)
        self._lock = threading.Lock()

    def choose(self, wanted: Any, count: int) -> Speculator | None:
        """`wanted` is None, "lookup" or an open model; `count` guesses at once.

        Raises UsageError for anything else, and for a model that does not write this one's tokens.
        """
        check_number("speculate_tokens", count, Bound(1, MOST, whole=True))
        if wanted is None:
            return None
        if isinstance(wanted, str) and wanted == "lookup":
            return Lookup(count)
        if not isinstance(getattr(wanted, "model", None), Transformer):
            raise UsageError(f"speculate is {shown(wanted)}", expected="'lookup', a smaller model, or None")
        self._check(wanted)
        with self._lock:
            key = (id(wanted.model), count)
            if key not in self._drafts:
                self._drafts[key] = Draft(runner_for(wanted.model, TEXTS), count, wanted.architecture.context)
            return self._drafts[key]

    def _check(self, draft: Opened) -> None:
        check_generates(draft.architecture)
        one, two = self._architecture, draft.architecture
        if one.encoder is not None or not two.can_share_prefix:
            raise UsageError("a draft model reads and writes from left to right, and so must the model it guesses for")
        names = {tokenizer.fingerprint() for tokenizer in (self._tokenizer, _tokenizer(draft)) if tokenizer}
        if one.vocabulary != two.vocabulary or len(names) > 1:
            raise UsageError(
                f"the draft model has another vocabulary ({two.vocabulary} tokens against {one.vocabulary})",
                fix="guess with a smaller model of the same family, or speculate='lookup'",
            )


def _tokenizer(model: Opened) -> Tokenizer | None:
    try:
        return model.tokenizer
    except TokenizerError:
        return None
