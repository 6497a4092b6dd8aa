"""From what a caller asks to a complete Request: prompt to ids, settings resolved, ends and limits known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from paddock.engine.constraints import Constraints
from paddock.engine.defaults import FILE, Resolved, heeded, ids_of, resolve
from paddock.engine.grammar import Grammar, matcher_of
from paddock.engine.request import DEFAULT_NEW_TOKENS, Request, planned_length, stop_strings, token_ids
from paddock.engine.sampling import shown
from paddock.errors import CheckpointError, ContextLengthError, TokenizerError, UnsupportedError, UsageError
from paddock.model.spec import Architecture
from paddock.tokenizer import Tokenizer


class Planner:
    """What all requests to one model share: its architecture, tokenizer and published defaults.

    `published` are the keys of generation_config.json, `config` those of config.json.
    """

    def __init__(
        self,
        architecture: Architecture,
        tokenizer: Tokenizer | None,
        published: Mapping[str, Any],
        config: Mapping[str, Any],
    ) -> None:
        self.architecture, self.tokenizer = architecture, tokenizer
        self.published, self.config = heeded(published), heeded(config)
        self.limit: int | None = None  # tokens a text may have here, where that is less than the context
        self._ends: tuple[int, ...] | None = None
        self._holes: tuple[int, ...] | None = None

    @property
    def context(self) -> int | None:
        """Tokens that prompt and answer may have together, None where nothing limits them."""
        limits = [limit for limit in (self.architecture.context, self.limit) if limit is not None]
        return min(limits, default=None)

    @property
    def ends(self) -> tuple[int, ...]:
        """Ids that end a text: those of generation_config.json (else config.json), and the tokenizer's own."""
        if self._ends is None:
            published = self.published.get("eos_token_id", self.config.get("eos_token_id"))
            own = self.tokenizer.eos_ids if self.tokenizer else ()
            ids = dict.fromkeys((*ids_of(published, "eos_token_id"), *own))
            self._ends = tuple(id for id in ids if id < self.architecture.vocabulary)
        return self._ends

    def resolve(self, requested: Mapping[str, Any]) -> Resolved:
        """Every setting with its origin; the model's padding rows are banned."""
        found = resolve(requested, self.published)
        return replace(found, constraints=self._bounded(found.constraints))

    def ids(self, prompt: str | Sequence[int]) -> tuple[int, ...]:
        """Token ids of a prompt to be continued, or of an encoder-decoder's source. Never cut.

        Special tokens spelt in the text stay text. What the tokenizer puts after every text is kept, but for an end of
        text before a continuation.
        """
        source = self.architecture.encoder
        vocabulary = (source or self.architecture).vocabulary
        if not isinstance(prompt, str):
            return token_ids(prompt, vocabulary)
        if self.tokenizer is None:
            raise UsageError("this model has no tokenizer to read text with", fix="give token ids, or name a tokenizer")
        ids = self.tokenizer.encode(prompt)
        after = self.tokenizer.after
        if source is None and after:
            ids = [*ids[: len(ids) - len(after)], *(id for id in after if id not in self.ends)]
        if not ids:
            raise UsageError(
                "the prompt is empty, and this model has no token to begin a text with", fix="write a word"
            )
        return token_ids(ids, vocabulary)

    def request(
        self,
        prompt: Sequence[int],
        settings: Resolved,
        *,
        max_new_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        logprobs: int | None = None,
        echo: bool = False,
        trace: bool = False,
        ends: Sequence[int] = (),
        template_stops: Sequence[str] = (),
        priority: int = 0,
        salt: str | None = "",
        grammar: Grammar | None = None,
        shown: Sequence[int] = (),
    ) -> Request:
        """A request for `prompt` ids under resolved `settings`.

        `ends` are ids that end it besides the model's own; `template_stops` are strings that do, whether `stop` or the
        published stop_strings count otherwise. A new `grammar` takes up to a second. Raises ContextLengthError where it
        does not fit.
        """
        settings.check()
        self._check_vocabulary(settings)
        if echo and self.architecture.encoder is not None:
            raise UsageError("echo puts the prompt before its continuation, and this model writes another text")
        start = self._start() if self.architecture.encoder is not None else ()
        before = len(start) or len(prompt)
        self._check_source(prompt)
        limit = planned_length(before, max_new_tokens, self.context, self._usual(before))
        shortest = max(settings.constraints.min_new_tokens, self.published.get("min_length", 0) - before)
        if shortest > limit:
            raise UsageError(f"min_new_tokens is {shortest}", expected=f"at most max_new_tokens, {limit}")
        stops = stop_strings(self.published.get("stop_strings") if stop is None else stop)
        if settings.search.num_beams > 1:
            _check_beam_stops(stops, stop is None, template_stops)
            if grammar is not None:
                raise UsageError("beam search follows no grammar", fix="use num_beams=1")
        if grammar is not None:
            self._check_grammar(grammar)
        return Request(
            prompt=tuple(prompt),
            max_new_tokens=limit,
            sampling=settings.sampling,
            constraints=replace(settings.constraints, min_new_tokens=shortest),
            stop=tuple(dict.fromkeys((*stops, *template_stops))),
            ends=tuple(dict.fromkeys((*self.ends, *ends))),
            logprobs=logprobs,
            echo=echo,
            trace=trace,
            start=start,
            priority=priority,
            salt=salt,
            grammar=grammar,
            shown=tuple(shown),
        )

    def _usual(self, before: int) -> int | None:
        """How many new tokens the model's own defaults ask for."""
        new, whole = self.published.get("max_new_tokens"), self.published.get("max_length")
        if new:
            return int(new)
        return min(int(whole) - before, DEFAULT_NEW_TOKENS) if whole and whole > before else None

    def _start(self) -> tuple[int, ...]:
        """What a decoder begins with."""
        for name in ("decoder_start_token_id", "bos_token_id"):
            for values in (self.published, self.config):
                if (found := ids_of(values.get(name), name)) and found[0] < self.architecture.vocabulary:
                    return found[:1]
        raise CheckpointError(f"neither {FILE} nor config.json has decoder_start_token_id", fix="add it to one of them")

    def _check_grammar(self, grammar: Grammar) -> None:
        """Compiles it now, which tells what is wrong with it; the answer's own is a copy."""
        if self.tokenizer is None:
            raise UsageError("a grammar needs a tokenizer, and this model has none")
        matcher_of(grammar, self.tokenizer)

    def _check_source(self, prompt: Sequence[int]) -> None:
        source = self.architecture.encoder
        if source is not None and source.context is not None and len(prompt) > source.context:
            raise ContextLengthError(
                f"a source text of {len(prompt)} tokens does not fit",
                expected=f"at most {source.context}, the encoder's context",
                fix="shorten the text, or split it",
            )

    def _check_vocabulary(self, settings: Resolved) -> None:
        size = self.architecture.vocabulary
        rules = settings.constraints
        forced = [id for id in (rules.forced_bos_token_id, rules.forced_eos_token_id) if id is not None]
        words = [id for word in rules.bad_words for id in word]
        for id in (*settings.sampling.logit_bias, *rules.banned, *rules.begin_suppress_tokens, *words, *forced):
            if id >= size:
                raise UsageError(f"a setting names token {id}", expected=f"ids below {size}, the vocabulary's size")

    def _bounded(self, constraints: Constraints) -> Constraints:
        """Rows of the weight matrix that no token has can be likely by accident, and must not be written."""
        if self.tokenizer is None:
            return constraints
        if self._holes is None:
            self._holes = _holes(self.tokenizer)
        limit = len(self.tokenizer) if len(self.tokenizer) < self.architecture.vocabulary else None
        return replace(constraints, vocabulary=limit, holes=self._holes)


def _holes(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Ids below the vocabulary's size that no piece has."""
    found = []
    for id in range(len(tokenizer)):
        try:
            tokenizer.piece(id)
        except TokenizerError:
            found.append(id)
    return tuple(found)


def _check_beam_stops(stops: Sequence[str], published: bool, template_stops: Sequence[str]) -> None:
    """A beam search ends at tokens only; whoever put stop strings into the request is named."""
    if template_stops:
        raise UsageError(
            f"beam search knows no stop strings, and the chat template ends at {shown(template_stops[0])}",
            fix="use num_beams=1, or a template that ends with a token",
        )
    if stops and published:
        raise UsageError(
            f"beam search knows no stop strings, and {FILE} sets stop_strings",
            fix="use num_beams=1, or stop=[] to go on without them",
        )
    if stops:
        raise UsageError("beam search knows no stop strings", fix="use num_beams=1, or cut the text yourself")


def check_generates(architecture: Architecture) -> None:
    """Refuses to write text with a model that only reads."""
    if not architecture.generates:
        if architecture.pooler is not None and architecture.pooler.labels:
            raise UnsupportedError(
                f"this {architecture.family} tells classes, and writes no text", fix="paddock classify"
            )
        raise UnsupportedError(
            f"a {architecture.family} encoder does not write text", fix="use it with embed, fill or classify"
        )
