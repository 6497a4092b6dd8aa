"""`paddock generate`: from the options to the printed answer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from paddock.cli import explaining, output
from paddock.cli.loading import load, piped_text
from paddock.cli.options import Loading
from paddock.cli.telling import rates, settings_table
from paddock.engine.defaults import Resolved
from paddock.engine.language_model import LanguageModel
from paddock.engine.planning import check_generates
from paddock.engine.request import Completion
from paddock.errors import UnsupportedError, UsageError


@dataclass(frozen=True)
class Asked:
    """What a user asked `generate` for."""

    loading: Loading
    prompt: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    speculate: str | LanguageModel | None = None  # "lookup", a model's name, and that model once it is open
    speculate_tokens: int | None = None
    ids: bool = False
    special: bool = False
    bare: bool = False
    echo: bool = False
    logprobs: int | None = None
    explain: bool = False
    show_settings: bool = False
    verbose: bool = False
    json: bool = False

    def call(self) -> dict[str, Any]:
        """Keywords for LanguageModel.generate and .stream."""
        return {
            **self.settings,
            "max_new_tokens": self.max_tokens,
            "stop": list(self.stop) or None,
            "logprobs": self.logprobs,
            "echo": self.echo,
            "trace": self.explain,
            "speculate": self.speculate,
            **({} if self.speculate_tokens is None else {"speculate_tokens": self.speculate_tokens}),
        }


def generate(asked: Asked) -> None:
    text = _prompt(asked.prompt)
    model, seconds = load(asked.loading)
    check_writes(model)
    prompt = _ids(model, text, asked)
    asked = replace(asked, speculate=_guesser(asked))
    resolved = model.settings(**asked.settings)
    if asked.show_settings and not asked.json:
        output.note(settings_table(resolved.values()))
    if asked.json:
        completion = model.generate(prompt, **asked.call())
        output.as_json(_record(model, completion, resolved, seconds))
        return
    completion = _answer(model, prompt, asked)
    if asked.logprobs is not None:
        output.result(explaining.logprobs_table(completion, model))
    if asked.max_tokens is None and completion.finish_reason == "length" and sys.stderr.isatty():
        output.note(f"(stopped after {completion.completion_tokens} tokens, the limit; -n N allows more)")
    if asked.verbose:
        guesses = (completion.proposed_tokens, completion.accepted_tokens)
        output.note(rates(completion, seconds, guesses if asked.speculate is not None else None))
    if completion.seed is not None and (asked.verbose or asked.explain):
        output.note(f"--seed {completion.seed} draws the same again")


def _answer(model: LanguageModel, prompt: str | list[int], asked: Asked) -> Completion:
    """Prints the answer as it comes, or step by step where that was asked."""
    if asked.explain or asked.settings.get("num_beams", 1) > 1:
        completion = model.generate(prompt, **asked.call())
        if asked.explain:
            explaining.show(completion, model)
        output.result(_text(completion, model))
        return completion
    running, has_tokenizer = model.stream(prompt, **asked.call()), _has_tokenizer(model)
    try:
        for event in running:
            output.piece(event.text if has_tokenizer else f"{event.token} ")
    finally:
        output.result("")  # also after Ctrl-C: what follows begins a line of its own
    return running.completion()


def _guesser(asked: Asked) -> str | LanguageModel | None:
    """What guesses ahead: a model named for it is opened as the one it serves."""
    if asked.speculate is None and asked.speculate_tokens is not None:
        raise UsageError("--speculate-tokens says how many guesses, and nothing guesses", fix="add --speculate lookup")
    if not isinstance(asked.speculate, str) or asked.speculate == "lookup":
        return asked.speculate
    return load(replace(asked.loading, model=asked.speculate, tokenizer=None, ignore_config=()))[0]


def _text(completion: Completion, model: LanguageModel) -> str:
    return completion.text if _has_tokenizer(model) else " ".join(map(str, completion.ids))


def _has_tokenizer(model: LanguageModel) -> bool:
    return explaining.Pieces(model).tokenizer is not None


def _prompt(given: str | None) -> str:
    """The prompt's text, from the command line or from standard input."""
    if given is not None and given != "-":
        return given
    if given is None and sys.stdin.isatty():
        raise UsageError("there is no prompt", fix='write it in quotes, or pipe it in; "" begins from nothing')
    text = piped_text()
    if not text and given is None:
        raise UsageError("there is no prompt, and standard input is empty", fix='"" begins from nothing')
    return text


def _ids(model: LanguageModel, text: str, asked: Asked) -> str | list[int]:
    """The prompt as the engine takes it: text to be encoded as usual, or ids where something else was asked."""
    if asked.ids:
        if asked.special or asked.bare:
            raise UsageError("--ids takes the ids as they are", fix="leave out --special and --no-bos")
        words = text.replace(",", " ").split()
        if not all(word.isascii() and word.isdigit() for word in words):
            raise UsageError(f"--ids with the prompt {text[:60]!r}", expected="whole numbers, blanks between")
        return [int(word) for word in words]
    if asked.bare:
        return model.tokenizer.encode(text, "parse" if asked.special else "plain", add_special=False)
    if asked.special:
        source = model.architecture.encoder is not None
        return model.tokenizer.encode(text, "parse") if source else model.tokenizer.encode_rendered(text)
    return text


def check_writes(model: LanguageModel) -> None:
    """An encoder does not write on; say which verb it is for."""
    try:
        check_generates(model.architecture)
    except UnsupportedError as error:
        fixes = 'paddock fill "... [MASK] ..."' if model.architecture.head is not None else 'paddock embed "..."'
        raise UnsupportedError(error.what, fix=f"use {fixes} -m {model.checkpoint.path.name}") from None


def _record(model: LanguageModel, completion: Completion, resolved: Resolved, seconds: float) -> dict[str, Any]:
    """The JSON of one generation."""
    pieces = explaining.Pieces(model)
    return {
        "model": str(model.checkpoint.path),
        "text": completion.text,
        "ids": completion.ids,
        "finish_reason": completion.finish_reason,
        "stop_reason": completion.stop_reason,
        "usage": {
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        },
        "timings": {
            "load_seconds": seconds,
            "prompt_seconds": completion.timings.prompt,
            "decode_seconds": completion.timings.decode,
            "tokens_per_second": completion.tokens_per_second,
        },
        "speculation": {"proposed": completion.proposed_tokens, "accepted": completion.accepted_tokens},
        "seed": completion.seed,
        "score": completion.score,
        "settings": {name: {"value": value, "from": origin} for name, (value, origin) in resolved.values().items()},
        "logprobs": explaining.logprobs_record(completion, pieces),
        "steps": explaining.steps_record(completion, pieces),
    }
