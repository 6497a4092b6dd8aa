"""The Python API: a model, its tokenizer and its defaults as one object (`loading.load` makes it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import Checkpoint
from paddock.engine import encoders
from paddock.engine.adapting import as_adapted, check_plain, with_adapter
from paddock.engine.beam import BeamSearch
from paddock.engine.continuation import Continuation
from paddock.engine.defaults import Resolved, published_defaults
from paddock.engine.engine import Engine
from paddock.engine.generate import Generation
from paddock.engine.grammar import Grammar
from paddock.engine.guessing import Guessers
from paddock.engine.memory import memory_for
from paddock.engine.planning import Planner, check_generates
from paddock.engine.pooling import Pooling, read_pooling
from paddock.engine.reading import Reader
from paddock.engine.request import Completion, Request, id_rows, is_batch
from paddock.engine.runners import Home
from paddock.engine.sampling import shown
from paddock.engine.saving import TEMPLATE, write_side_files
from paddock.engine.speculative import COUNT, Speculator
from paddock.engine.working import Working
from paddock.errors import ContextLengthError, TokenizerError, UsageError
from paddock.model.spec import Architecture
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.tokenizer import Tokenizer
from paddock.tokenizer.chat import Stops, encode_chat, stops
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_registry import no_template
from paddock.tokenizer.template_source import PROVIDED
from paddock.tokenizer.toolcalls import history

Message = dict[str, Any]


class ChatPrompt(NamedTuple):
    """A rendered conversation: its ids, and what ends the answer."""

    ids: tuple[int, ...]
    ends: Stops


Ids = Sequence[int] | Sequence[Sequence[int]] | Tensor
OURS = PROVIDED - {"documents"} | {"now", "tokenizer", "template"}  # variables of a template that chat itself sets


class LanguageModel:
    """A model ready to use. `template` is its chat template, or None; `generation` what was published as defaults;
    `planner` turns what is asked into requests, and may be given a limit below the model's context. `base` is the model
    that this one is with an adapter on it: one engine answers for both where that adds low ranks only.

    Settings that generate, stream and chat take by keyword: temperature (0 is greedy), top_k, top_p, min_p, typical_p,
    repetition_penalty, presence_penalty, frequency_penalty, logit_bias, seed, no_repeat_ngram_size, bad_words_ids,
    suppress_tokens, begin_suppress_tokens, min_new_tokens, num_beams, length_penalty, early_stopping. What is not given
    comes from the model's generation_config.json, and `settings()` shows the result. Without a seed a fresh one is
    drawn, and the completion tells it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: Transformer,
        tokenizer: Tokenizer | TokenizerError,
        template: Template | None = None,
        base: LanguageModel | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.model = model
        self.generation = published_defaults(checkpoint.generation, checkpoint.config)
        self.template = template
        self._pooling: Pooling | None = None
        self._tokenizer = tokenizer
        self._home: Home = Home(model, None if base is None else base._home)
        self._reader = Working(model, lambda: Reader(model))
        known = tokenizer if isinstance(tokenizer, Tokenizer) else None
        self.planner = Planner(self.architecture, known, self.generation, checkpoint.config)
        self._guessers = Guessers(self.architecture, known)

    def __repr__(self) -> str:
        weight = self.model.embedding.tokens.weight
        return (
            f"LanguageModel({self.checkpoint.path.name}, {self.architecture.family}, {weight.dtype}, {weight.device})"
        )

    @property
    def architecture(self) -> Architecture:
        return self.model.architecture

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises TokenizerError for a model that came without one."""
        if isinstance(self._tokenizer, TokenizerError):
            raise self._tokenizer.with_traceback(None)  # one error raised again and again would collect tracebacks
        return self._tokenizer

    @property
    def engine(self) -> Engine:
        """What answers all requests to this model and to its low-rank adapters; `engine.stats` tells what it did."""
        return self._home.find()[0]

    @property
    def reader(self) -> Reader:
        """What reads whole texts with this model."""
        return self._reader.get()

    @property
    def device(self) -> torch.device:
        return self.model.embedding.tokens.weight.device

    def settings(self, **settings: Any) -> Resolved:
        """What generation would use if called with `settings`: every value and where it came from (`.values()`)."""
        return self.planner.resolve(settings)

    def logits(self, ids: Ids, source: Ids | None = None) -> Tensor:
        """What the model says comes after each of `ids`: (tokens,) to (tokens, vocabulary) float32, and (batch, tokens)
        to (batch, tokens, vocabulary).

        An encoder-decoder also needs the ids of its `source` text, or of one for each text. No padding: the texts of a
        batch are equally long. Raises UsageError for ids outside the vocabulary or sources that do not go with `ids`,
        ContextLengthError past the model's context, ResourceError where the memory does not suffice.
        """
        if self.model.head is None:
            raise UsageError(f"this {self.architecture.family} model has no head over the vocabulary")
        encoder = self.architecture.encoder
        if (source is None) != (encoder is None):
            raise UsageError("an encoder-decoder needs source ids, and no other model takes them")
        rows = self._rows(ids, self.architecture)
        sources = None if source is None or encoder is None else self._rows(source, encoder)
        if sources is not None and (is_batch(source), len(sources)) != (is_batch(ids), len(rows)):
            raise UsageError(
                f"source has the shape {tuple(sources.shape)} and ids {tuple(rows.shape)}",
                expected="one source for each text, both as a batch or neither",
            )
        if self.reader.native:
            read = [()] * len(rows) if sources is None else sources.tolist()
            result = torch.stack([self.reader.logits(*pair) for pair in zip(rows.tolist(), read, strict=True)])
        else:
            with torch.no_grad(), memory_for("for the logits of these texts"):
                memory = None if sources is None else self.model.encode(sources)
                result = self.model(rows, Step.begin(self.architecture, rows, memory=memory)).float()
        return result if is_batch(ids) else result[0]

    def generate(
        self,
        prompt: str | Sequence[int],
        max_new_tokens: int | None = None,
        *,
        stop: str | Sequence[str] | None = None,
        logprobs: int | None = None,
        echo: bool = False,
        trace: bool = False,
        grammar: Grammar | None = None,
        speculate: str | LanguageModel | None = None,
        speculate_tokens: int = COUNT,
        **settings: Any,
    ) -> Completion:
        """Writes on after `prompt` (text, or token ids), or answers it with an encoder-decoder.

        max_new_tokens: as asked or refused, never lowered; None is what the model publishes, else up to 256 as fits.
        stop: strings that end the text and are cut off it. logprobs: how many likely alternatives to report per token.
        echo: put the prompt before the text. trace: keep every stage of sampling (`paddock.engine.explain` reads it).
        grammar: what the text must be (`paddock.engine.grammar`), as long as the limit does not cut it.
        speculate: guess up to `speculate_tokens` ahead and check them together, which changes the speed, not the text:
        "lookup" copies what followed the last words before, a smaller model of the same vocabulary writes ahead.

        Raises UsageError for settings that cannot be meant, ContextLengthError where the text does not fit the model,
        UnsupportedError for a model that does not write or publishes settings that Paddock does not do, TokenizerError
        for text that its tokenizer cannot encode, ResourceError where the memory does not suffice, PaddockError for
        logits that are not numbers.
        """
        options: dict[str, Any] = {"stop": stop, "logprobs": logprobs, "echo": echo, "trace": trace, "grammar": grammar}
        options["speculator"] = self._guessers.choose(speculate, speculate_tokens)
        return self._start(prompt, max_new_tokens, options, settings).completion()

    def stream(
        self,
        prompt: str | Sequence[int],
        max_new_tokens: int | None = None,
        *,
        stop: str | Sequence[str] | None = None,
        logprobs: int | None = None,
        echo: bool = False,
        trace: bool = False,
        grammar: Grammar | None = None,
        speculate: str | LanguageModel | None = None,
        speculate_tokens: int = COUNT,
        **settings: Any,
    ) -> Generation | BeamSearch:
        """As generate, token by token: an iterator of events, each with its `text`; `.completion()` is the whole.

        Raises what generate does: requests are checked here, running out of memory and broken logits show as it runs.
        """
        options: dict[str, Any] = {"stop": stop, "logprobs": logprobs, "echo": echo, "trace": trace, "grammar": grammar}
        options["speculator"] = self._guessers.choose(speculate, speculate_tokens)
        return self._start(prompt, max_new_tokens, options, settings)

    def chat(
        self,
        messages: Sequence[Message],
        max_new_tokens: int | None = None,
        *,
        tools: Sequence[Message] | None = None,
        template_options: Mapping[str, Any] | None = None,
        stop: str | Sequence[str] | None = None,
        logprobs: int | None = None,
        trace: bool = False,
        grammar: Grammar | None = None,
        speculate: str | LanguageModel | None = None,
        speculate_tokens: int = COUNT,
        **settings: Any,
    ) -> Completion:
        """The model's answer to a conversation: `messages` of {"role": ..., "content": ...}, the last one a user's.

        They are rendered with the model's chat template; the template's own stops count besides `stop`.
        `template_options` are the template's own variables. Raises what generate does, and TemplateError where there is
        no template, or it does not take these messages.
        """
        options: dict[str, Any] = {"stop": stop, "logprobs": logprobs, "trace": trace, "grammar": grammar}
        options["speculator"] = self._guessers.choose(speculate, speculate_tokens)
        prompt = self.chat_prompt(messages, tools, template_options)
        return self._start(prompt, max_new_tokens, options, settings).completion()

    def stream_chat(
        self,
        messages: Sequence[Message],
        max_new_tokens: int | None = None,
        *,
        tools: Sequence[Message] | None = None,
        template_options: Mapping[str, Any] | None = None,
        stop: str | Sequence[str] | None = None,
        logprobs: int | None = None,
        trace: bool = False,
        grammar: Grammar | None = None,
        speculate: str | LanguageModel | None = None,
        speculate_tokens: int = COUNT,
        **settings: Any,
    ) -> Generation | BeamSearch:
        """As chat, token by token, like stream."""
        options: dict[str, Any] = {"stop": stop, "logprobs": logprobs, "trace": trace, "grammar": grammar}
        options["speculator"] = self._guessers.choose(speculate, speculate_tokens)
        prompt = self.chat_prompt(messages, tools, template_options)
        return self._start(prompt, max_new_tokens, options, settings)

    def plan(
        self,
        prompt: str | Sequence[int] | ChatPrompt,
        max_new_tokens: int | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Request:
        """The request that `generate` or `chat` would run, complete and checked, for whoever runs an engine himself.

        `options` are those of `Planner.request`. Raises what generate does.
        """
        check_generates(self.architecture)
        if isinstance(prompt, ChatPrompt):
            options |= {"ends": prompt.ends.ids, "template_stops": prompt.ends.strings}
            prompt = prompt.ids
        chosen = self.settings(**(settings or {}))
        return self.planner.request(self.planner.ids(prompt), chosen, max_new_tokens=max_new_tokens, **options)

    def prompt_ids(self, prompt: str | Sequence[int]) -> tuple[int, ...]:
        """A prompt to be continued as ids, as `generate` reads it. Raises TokenizerError and UsageError."""
        return self.planner.ids(prompt)

    def chat_prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Message] | None = None,
        template_options: Mapping[str, Any] | None = None,
    ) -> ChatPrompt:
        """A conversation as ids, open for the answer. Raises TemplateError, TokenizerError and UsageError as chat."""
        if self.template is None:
            raise no_template(self.checkpoint.path.name)
        if isinstance(messages, list | tuple):
            messages = history(self.template, messages)
        ids = encode_chat(self.tokenizer, self.template, messages, tools=tools, **_variables(template_options))
        return ChatPrompt(tuple(ids), stops(self.tokenizer, self.template))

    def decoder(self, request: Request) -> Continuation | None:
        """What turns the ids that answer `request` into text; None without a tokenizer."""
        if not isinstance(self._tokenizer, Tokenizer):
            return None
        before = () if self.architecture.encoder else request.prompt
        return Continuation(self._tokenizer, before, request.shown, request.grammar)

    @property
    def pooling(self) -> Pooling:
        """How `embed` makes one vector of a text, and where that was read (`origin`)."""
        if self._pooling is None:
            path = self.checkpoint.path
            self._pooling = read_pooling(path) if path.is_dir() else Pooling()
        return self._pooling

    def embed(self, texts: Sequence[str], truncate: bool = False) -> Tensor:
        """One vector per text: (texts, width) float32 on the CPU, wherever the model is, pooled as `pooling` says.

        Raises ContextLengthError for too long a text unless `truncate` cuts it, UsageError for what is no list of
        texts, UnsupportedError for encoder-decoders and pooling that Paddock does not run, TokenizerError for text that
        cannot be encoded or a model without tokenizer, ResourceError where the memory does not suffice.
        """
        return encoders.embed(self.reader, self.tokenizer, texts, self.pooling, truncate)

    def fill(self, text: str, count: int = 5) -> list[list[encoders.Candidate]]:
        """The `count` likeliest tokens behind each mask ([MASK]) of `text`, likeliest first.

        Raises UnsupportedError for a model that fills no masks, UsageError for a text without one or a senseless count,
        ContextLengthError, TokenizerError and ResourceError as embed does.
        """
        return encoders.fill(self.reader, self.tokenizer, text, count)

    def classify(self, text: str, second: str | None = None, truncate: bool = False) -> list[encoders.Label]:
        """The classes the model was fine-tuned for with their probabilities, likeliest first: of a text, or of two.

        Raises UnsupportedError for a model without classes, and ContextLengthError, TokenizerError and ResourceError as
        embed does."""
        return encoders.classify(self.reader, self.tokenizer, text, self.checkpoint.config, second, truncate)

    def with_adapter(self, path: str | Path) -> LanguageModel:
        """This model with an adapter on it, from a folder of PEFT's or of ours; the weights are shared, not copied.

        Raises CheckpointError for an adapter that is corrupt or was made for another model, UnsupportedError for one of
        a kind that is not read, UsageError on a model that carries one already.
        """
        twin = with_adapter(self.model, path, self.checkpoint.config)
        return LanguageModel(as_adapted(self.checkpoint, twin, path), twin, self._tokenizer, self.template, self)

    def save(self, path: str | Path) -> None:
        """Writes a Hugging Face folder: weights, config, generation defaults, and `side_files()`, over whatever model,
        tokenizer, template and pooling were there.

        Raises ResourceError when the disk is full, PaddockError for any other refusal of the file system, and what
        `side_files` raises.
        """
        check_plain(self.model, "saved")
        beside = self.side_files()
        folder.write(path, self.model, dict(self.checkpoint.config), dict(self.checkpoint.generation))
        write_side_files(Path(path), beside)

    def side_files(self) -> dict[str, bytes]:
        """What belongs beside the weights, by its path in a model's folder: the tokenizer, the chat template in use
        (the one given to `load`, if one was), and how vectors are pooled.

        Raises UsageError for a vocabulary that no file format can hold, UnsupportedError for pooling that Paddock does
        not run and so cannot vouch for.
        """
        files = self._tokenizer.files() if isinstance(self._tokenizer, Tokenizer) else {}
        if self.template is not None:
            files[TEMPLATE] = self.template.source.encode("utf-8")
        return files | self.pooling.files()

    def _start(
        self,
        prompt: str | Sequence[int] | ChatPrompt,
        limit: int | None,
        options: dict[str, Any],
        settings: dict[str, Any],
    ) -> Generation | BeamSearch:
        speculator: Speculator | None = options.pop("speculator")
        request = self.plan(prompt, limit, settings=settings, **options)
        search = self.settings(**settings).search
        if search.num_beams > 1:
            if speculator is not None:
                raise UsageError("beam search takes no guesses", fix="use num_beams=1, or leave out speculate")
            return BeamSearch(self.model, request, search, partial(self.decoder, request))
        engine, adapter = self._home.find()
        return Generation(engine, request, self.decoder(request), speculator, adapter)

    def _rows(self, ids: Ids, architecture: Architecture) -> Tensor:
        """(batch, tokens) ids on the model's device, checked."""
        rows = id_rows(ids, architecture.vocabulary)
        if architecture.context is not None and len(rows[0]) > architecture.context:
            raise ContextLengthError(
                f"{len(rows[0])} tokens do not fit", expected=f"at most {architecture.context}, this model's context"
            )
        return torch.tensor(rows, dtype=torch.long, device=self.device)


def _variables(options: Any) -> dict[str, Any]:
    """The template's own variables, checked to be none of those that chat sets."""
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise UsageError(f"template_options is {shown(options)}", expected="a dictionary from names to values")
    if taken := sorted(OURS & options.keys()):
        raise UsageError(f"template_options names {taken[0]!r}, which chat sets itself", fix=f"leave out {taken[0]!r}")
    return dict(options)
