"""The Python API: a model, its tokenizer and its defaults as one object."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint
from paddock.checkpoint.writing import write_text
from paddock.engine import encoders
from paddock.engine.beam import BeamSearch
from paddock.engine.continuation import Continuation
from paddock.engine.defaults import Resolved, published_defaults
from paddock.engine.generate import Generation
from paddock.engine.locate import locate
from paddock.engine.opening import Beside
from paddock.engine.planning import Planner, check_generates
from paddock.engine.pooling import Pooling, read_pooling
from paddock.engine.request import Completion, id_rows, is_batch, stop_strings
from paddock.errors import ContextLengthError, TokenizerError, UsageError
from paddock.model.spec import Architecture
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.tokenizer import Tokenizer
from paddock.tokenizer.chat import encode_chat, stops
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_registry import no_template

Message = dict[str, Any]
Ids = Sequence[int] | Sequence[Sequence[int]] | Tensor


def load(
    path_or_name: str | Path | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    quantize: str | None = None,
    ignore_config: Collection[str] = (),
    tokenizer: str | Path | None = None,
    template: str | Path | None = None,
) -> LanguageModel:
    """Opens a model folder, `.gguf` or llama2.c file, or a model by name; with no argument the bundled one.

    dtype: "auto" keeps the stored types, else float32, bfloat16 or float16. device: "auto" is a CUDA device if there is
    one, else the CPU. ignore_config: keys of config.json or generation_config.json to pass over. tokenizer: a file or
    folder to read it from, where it does not lie beside the weights. template: a chat template to use instead of the
    model's own, a bundled name or a file.

    Raises UsageError for what cannot be meant and an InputError for files that are not what they should be.
    """
    if quantize is not None:
        raise UsageError(f"quantize={quantize!r} is not supported", expected="None, the only value so far")
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else _device(device))
    checkpoint = open_checkpoint(locate(path_or_name), ignore_config)
    beside = Beside.of(checkpoint)
    found, chat = beside.tokenizer(tokenizer), beside.template(template)
    return LanguageModel(checkpoint, checkpoint.model(dtype, where), found, chat, ignore_config)


class LanguageModel:
    """A model ready to use. `template` is its chat template, or None; `generation` what was published as defaults.

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
        ignore_config: Collection[str] = (),
    ) -> None:
        self.checkpoint = checkpoint
        self.model = model
        self.generation = published_defaults(checkpoint.generation, checkpoint.config)
        self.template = template
        self._pooling: Pooling | None = None
        self._tokenizer = tokenizer
        known = tokenizer if isinstance(tokenizer, Tokenizer) else None
        self._planner = Planner(self.architecture, known, self.generation, checkpoint.config, ignore_config)

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
            raise self._tokenizer
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        return self.model.embedding.tokens.weight.device

    def settings(self, **settings: Any) -> Resolved:
        """What generation would use if called with `settings`: every value and where it came from (`.values()`)."""
        return self._planner.resolve(settings)

    def logits(self, ids: Ids, source: Ids | None = None) -> Tensor:
        """What the model says comes after each of `ids`: (tokens,) to (tokens, vocabulary) float32, and (batch, tokens)
        to (batch, tokens, vocabulary).

        An encoder-decoder also needs the ids of its `source` text, of the same rank. No padding: texts of a batch are
        equally long. Raises UsageError for ids outside the vocabulary, ContextLengthError past the model's context.
        """
        if self.model.head is None:
            raise UsageError(f"this {self.architecture.family} model has no head over the vocabulary")
        encoder = self.architecture.encoder
        if (source is None) != (encoder is None):
            raise UsageError("an encoder-decoder needs source ids, and no other model takes them")
        rows = self._rows(ids, self.architecture)
        with torch.no_grad():
            memory = None if source is None or encoder is None else self.model.encode(self._rows(source, encoder))
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
        **settings: Any,
    ) -> Completion:
        """Writes on after `prompt` (text, or token ids), or answers it with an encoder-decoder.

        max_new_tokens: as asked or refused, never lowered; None is what the model publishes, else up to 256 as fits.
        stop: strings that end the text and are cut off it. logprobs: how many likely alternatives to report per token.
        echo: put the prompt before the text. trace: keep every stage of sampling (`paddock.engine.explain` reads it).
        """
        options = {"stop": stop, "logprobs": logprobs, "echo": echo, "trace": trace}
        return self._start(self._planner.ids(prompt), max_new_tokens, options, settings).completion()

    def stream(
        self,
        prompt: str | Sequence[int],
        max_new_tokens: int | None = None,
        *,
        stop: str | Sequence[str] | None = None,
        logprobs: int | None = None,
        echo: bool = False,
        trace: bool = False,
        **settings: Any,
    ) -> Generation | BeamSearch:
        """As generate, token by token: an iterator of events, each with its `text`; `.completion()` is the whole."""
        options = {"stop": stop, "logprobs": logprobs, "echo": echo, "trace": trace}
        return self._start(self._planner.ids(prompt), max_new_tokens, options, settings)

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
        **settings: Any,
    ) -> Completion:
        """The model's answer to a conversation: `messages` of {"role": ..., "content": ...}, the last one a user's.

        They are rendered with the model's chat template; the template's own stops count besides `stop`.
        `template_options` are the template's own variables. Raises TemplateError where there is no template, or it does
        not take these messages.
        """
        options = {"stop": stop, "logprobs": logprobs, "trace": trace}
        return self._answer(messages, max_new_tokens, tools, template_options, options, settings).completion()

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
        **settings: Any,
    ) -> Generation | BeamSearch:
        """As chat, token by token, like stream."""
        options = {"stop": stop, "logprobs": logprobs, "trace": trace}
        return self._answer(messages, max_new_tokens, tools, template_options, options, settings)

    @property
    def pooling(self) -> Pooling:
        """How `embed` makes one vector of a text, and where that was read (`origin`)."""
        if self._pooling is None:
            path = self.checkpoint.path
            self._pooling = read_pooling(path) if path.is_dir() else Pooling()
        return self._pooling

    def embed(self, texts: Sequence[str], truncate: bool = False) -> Tensor:
        """One vector per text: (texts, width) float32, pooled as `pooling` says. Too long a text is refused, or cut if
        `truncate`."""
        return encoders.embed(self.model, self.tokenizer, texts, self.pooling, truncate)

    def fill(self, text: str, count: int = 5) -> list[list[encoders.Candidate]]:
        """The `count` likeliest tokens behind each mask ([MASK]) of `text`, likeliest first."""
        return encoders.fill(self.model, self.tokenizer, text, count)

    def classify(self, text: str) -> list[encoders.Label]:
        """The classes the model was fine-tuned for with their probabilities, likeliest first."""
        return encoders.classify(self.model, self.tokenizer, text, self.checkpoint.config)

    def save(self, path: str | Path) -> None:
        """Writes a Hugging Face folder: weights, config, generation defaults, tokenizer, and the published template."""
        folder.write(path, self.model, dict(self.checkpoint.config), dict(self.checkpoint.generation))
        if isinstance(self._tokenizer, Tokenizer):
            self._tokenizer.save(path)
        if self.template is not None:
            write_text(Path(path) / "chat_template.jinja", self.template.source)

    def _answer(
        self,
        messages: Sequence[Message],
        limit: int | None,
        tools: Sequence[Message] | None,
        template_options: Mapping[str, Any] | None,
        options: dict[str, Any],
        settings: dict[str, Any],
    ) -> Generation | BeamSearch:
        if self.template is None:
            raise no_template(self.checkpoint.path.name)
        ids = encode_chat(self.tokenizer, self.template, messages, tools=tools, **(template_options or {}))
        ends = stops(self.tokenizer, self.template)
        options |= {"stop": (*stop_strings(options["stop"]), *ends.strings), "ends": ends.ids}
        return self._start(self._planner.ids(ids), limit, options, settings)

    def _start(
        self, ids: tuple[int, ...], limit: int | None, options: dict[str, Any], settings: dict[str, Any]
    ) -> Generation | BeamSearch:
        check_generates(self.architecture)
        chosen = self.settings(**settings)
        request = self._planner.request(ids, chosen, max_new_tokens=limit, **options)
        decoder = None
        if isinstance(self._tokenizer, Tokenizer):
            decoder = partial(Continuation, self._tokenizer, () if self.architecture.encoder else ids)
        if chosen.search.num_beams > 1:
            return BeamSearch(self.model, request, chosen.search, decoder)
        return Generation(self.model, request, decoder() if decoder else None)

    def _rows(self, ids: Ids, architecture: Architecture) -> Tensor:
        """(batch, tokens) ids on the model's device, checked."""
        rows = id_rows(ids, architecture.vocabulary)
        if architecture.context is not None and len(rows[0]) > architecture.context:
            raise ContextLengthError(
                f"{len(rows[0])} tokens do not fit", expected=f"at most {architecture.context}, this model's context"
            )
        return torch.tensor(rows, dtype=torch.long, device=self.device)


def _device(device: str | torch.device) -> torch.device:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise UsageError(f"unknown device {device!r}", expected="auto, cpu, cuda or cuda:N") from None
