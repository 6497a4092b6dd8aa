"""The Python API: a model, its tokenizer and its defaults as one object."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint
from paddock.checkpoint.packing import Packing
from paddock.engine import encoders
from paddock.engine.beam import BeamSearch
from paddock.engine.continuation import Continuation
from paddock.engine.defaults import Resolved, published_defaults
from paddock.engine.device import chosen_device
from paddock.engine.engine import Engine
from paddock.engine.generate import Generation
from paddock.engine.guessing import Guessers
from paddock.engine.locate import locate
from paddock.engine.memory import memory_for
from paddock.engine.opening import Beside
from paddock.engine.planning import Planner, check_generates
from paddock.engine.pooling import Pooling, read_pooling
from paddock.engine.reading import Reader
from paddock.engine.request import Completion, id_rows, is_batch
from paddock.engine.runners import engine_for
from paddock.engine.sampling import shown
from paddock.engine.saving import TEMPLATE, write_side_files
from paddock.engine.speculative import COUNT, Speculator
from paddock.errors import ContextLengthError, TokenizerError, UsageError
from paddock.kernels.native import library
from paddock.model.spec import Architecture
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.tokenizer import Tokenizer
from paddock.tokenizer.chat import encode_chat, stops
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_registry import no_template
from paddock.tokenizer.template_source import PROVIDED

Message = dict[str, Any]
Ids = Sequence[int] | Sequence[Sequence[int]] | Tensor
OURS = PROVIDED - {"documents"} | {"now", "tokenizer", "template"}  # variables of a template that chat itself sets


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

    dtype: "auto" keeps the stored type, and on the CPU what was published quantised stays quantised; else float32,
    bfloat16 or float16 (a name or a torch.dtype). device: "cpu", "cuda" or "cuda:N"; "auto" is a CUDA device if there
    is one, else the CPU. quantize: round what is not quantised to q8_0, q6_k, q5_k, q5_1, q5_0, q4_k, q4_1 or q4_0 as
    it is read (on the CPU, by the native kernels; `paddock quantize` writes a file, and measures what it costs).
    ignore_config: keys of config.json or generation_config.json to pass over. tokenizer: a file or folder to read it
    from, where it does not lie beside the weights. template: a chat template to use instead of the model's own, a
    bundled name or a file.

    Raises UsageError for what cannot be meant, an InputError for files that are not what they should be, ResourceError
    where the weights do not fit the device.
    """
    where = chosen_device(device)
    packing = None if quantize is None else _quantised(quantize, dtype, where)
    checkpoint = open_checkpoint(locate(path_or_name), ignore_config)
    beside = Beside.of(checkpoint)
    found, chat = beside.tokenizer(tokenizer), beside.template(template)
    with memory_for("for the weights of this model"):
        if packing is None and dtype == "auto" and where.type == "cpu" and checkpoint.quantised and library():
            packing = Packing()
        model = checkpoint.model(dtype, where, packing=packing)
    return LanguageModel(checkpoint, model, found, chat)


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
    ) -> None:
        self.checkpoint = checkpoint
        self.model = model
        self.generation = published_defaults(checkpoint.generation, checkpoint.config)
        self.template = template
        self._pooling: Pooling | None = None
        self._tokenizer = tokenizer
        self._engine: Engine | None = None
        self._making = threading.Lock()
        known = tokenizer if isinstance(tokenizer, Tokenizer) else None
        self._planner = Planner(self.architecture, known, self.generation, checkpoint.config)
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
        """What answers all requests to this model, those of other threads too; `engine.stats` tells what it did."""
        with self._making:
            if self._engine is None:
                self._engine = engine_for(self.model)
            return self._engine

    @cached_property
    def reader(self) -> Reader:
        """What reads whole texts with this model."""
        return Reader(self.model)

    @property
    def device(self) -> torch.device:
        return self.model.embedding.tokens.weight.device

    def settings(self, **settings: Any) -> Resolved:
        """What generation would use if called with `settings`: every value and where it came from (`.values()`)."""
        return self._planner.resolve(settings)

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
            result = torch.stack([self.reader.logits(row) for row in rows.tolist()])
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
        speculate: str | LanguageModel | None = None,
        speculate_tokens: int = COUNT,
        **settings: Any,
    ) -> Completion:
        """Writes on after `prompt` (text, or token ids), or answers it with an encoder-decoder.

        max_new_tokens: as asked or refused, never lowered; None is what the model publishes, else up to 256 as fits.
        stop: strings that end the text and are cut off it. logprobs: how many likely alternatives to report per token.
        echo: put the prompt before the text. trace: keep every stage of sampling (`paddock.engine.explain` reads it).
        speculate: guess up to `speculate_tokens` ahead and check them together, which changes the speed, not the text:
        "lookup" copies what followed the last words before, a smaller model of the same vocabulary writes ahead.

        Raises UsageError for settings that cannot be meant, ContextLengthError where the text does not fit the model,
        UnsupportedError for a model that does not write or publishes settings that Paddock does not do, TokenizerError
        for text that its tokenizer cannot encode, ResourceError where the memory does not suffice, PaddockError for
        logits that are not numbers.
        """
        options: dict[str, Any] = {"stop": stop, "logprobs": logprobs, "echo": echo, "trace": trace}
        options["speculator"] = self._guessers.choose(speculate, speculate_tokens)
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
        speculate: str | LanguageModel | None = None,
        speculate_tokens: int = COUNT,
        **settings: Any,
    ) -> Generation | BeamSearch:
        """As generate, token by token: an iterator of events, each with its `text`; `.completion()` is the whole.

        Raises what generate does: requests are checked here, running out of memory and broken logits show as it runs.
        """
        options: dict[str, Any] = {"stop": stop, "logprobs": logprobs, "echo": echo, "trace": trace}
        options["speculator"] = self._guessers.choose(speculate, speculate_tokens)
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
        speculate: str | LanguageModel | None = None,
        speculate_tokens: int = COUNT,
        **settings: Any,
    ) -> Completion:
        """The model's answer to a conversation: `messages` of {"role": ..., "content": ...}, the last one a user's.

        They are rendered with the model's chat template; the template's own stops count besides `stop`.
        `template_options` are the template's own variables. Raises what generate does, and TemplateError where there is
        no template, or it does not take these messages.
        """
        options: dict[str, Any] = {"stop": stop, "logprobs": logprobs, "trace": trace}
        options["speculator"] = self._guessers.choose(speculate, speculate_tokens)
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
        speculate: str | LanguageModel | None = None,
        speculate_tokens: int = COUNT,
        **settings: Any,
    ) -> Generation | BeamSearch:
        """As chat, token by token, like stream."""
        options: dict[str, Any] = {"stop": stop, "logprobs": logprobs, "trace": trace}
        options["speculator"] = self._guessers.choose(speculate, speculate_tokens)
        return self._answer(messages, max_new_tokens, tools, template_options, options, settings)

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

    def classify(self, text: str) -> list[encoders.Label]:
        """The classes the model was fine-tuned for with their probabilities, likeliest first.

        Raises UnsupportedError for a model without classes, ContextLengthError, TokenizerError and ResourceError as
        embed does.
        """
        return encoders.classify(self.reader, self.tokenizer, text, self.checkpoint.config)

    def save(self, path: str | Path) -> None:
        """Writes a Hugging Face folder: weights, config, generation defaults, and `side_files()`, over whatever model,
        tokenizer, template and pooling were there.

        Raises ResourceError when the disk is full, PaddockError for any other refusal of the file system, and what
        `side_files` raises.
        """
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
        variables = _variables(template_options)
        ids = encode_chat(self.tokenizer, self.template, messages, tools=tools, **variables)
        ends = stops(self.tokenizer, self.template)
        options |= {"ends": ends.ids, "template_stops": ends.strings}
        return self._start(self._planner.ids(ids), limit, options, settings)

    def _start(
        self, ids: tuple[int, ...], limit: int | None, options: dict[str, Any], settings: dict[str, Any]
    ) -> Generation | BeamSearch:
        check_generates(self.architecture)
        chosen = self.settings(**settings)
        speculator: Speculator | None = options.pop("speculator")
        request = self._planner.request(ids, chosen, max_new_tokens=limit, **options)
        decoder = None
        if isinstance(self._tokenizer, Tokenizer):
            decoder = partial(Continuation, self._tokenizer, () if self.architecture.encoder else ids)
        if chosen.search.num_beams > 1:
            if speculator is not None:
                raise UsageError("beam search takes no guesses", fix="use num_beams=1, or leave out speculate")
            return BeamSearch(self.model, request, chosen.search, decoder)
        return Generation(self.engine, request, decoder() if decoder else None, speculator)

    def _rows(self, ids: Ids, architecture: Architecture) -> Tensor:
        """(batch, tokens) ids on the model's device, checked."""
        rows = id_rows(ids, architecture.vocabulary)
        if architecture.context is not None and len(rows[0]) > architecture.context:
            raise ContextLengthError(
                f"{len(rows[0])} tokens do not fit", expected=f"at most {architecture.context}, this model's context"
            )
        return torch.tensor(rows, dtype=torch.long, device=self.device)


def _quantised(kind: str, dtype: str | torch.dtype, device: torch.device) -> Packing:
    packing = Packing.named(kind)
    if device.type != "cpu" or library() is None:
        where = f"on {device}" if device.type != "cpu" else "without the native kernels (paddock doctor says why)"
        raise UsageError(f"quantize={kind!r} is not possible {where}", fix="leave it out, or use the CPU's kernels")
    if dtype != "auto":
        raise UsageError(f"dtype={str(dtype)!r} and quantize={kind!r} ask for different things", fix="give one of them")
    return packing


def _variables(options: Any) -> dict[str, Any]:
    """The template's own variables, checked to be none of those that chat sets."""
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise UsageError(f"template_options is {shown(options)}", expected="a dictionary from names to values")
    if taken := sorted(OURS & options.keys()):
        raise UsageError(f"template_options names {taken[0]!r}, which chat sets itself", fix=f"leave out {taken[0]!r}")
    return dict(options)
