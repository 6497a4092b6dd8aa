"""Where a generation's settings come from: the request, then the model's generation_config.json, then neutral ones.

Nothing published with a model is dropped unseen. A key is either resolved here, or known to change no output
(HARMLESS), or refused when generation starts, unless its value is the one that does nothing (INERT).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from paddock.engine.constraints import Constraints
from paddock.engine.request import stop_strings
from paddock.engine.sampling import BOUNDS, Bound, Sampling, shown
from paddock.errors import CheckpointError, UnsupportedError, UsageError, did_you_mean

Origin = Literal["request", "model", "default"]
FILE = "generation_config.json"
# The likeliest token at each step, whatever a model's own defaults say: what measuring asks for.
GREEDY: Mapping[str, Any] = {
    "temperature": 0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
}


@dataclass(frozen=True)
class Search:
    """Beam search; one beam is none. What the words mean is in `beam.py`."""

    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False


COUNT = Bound(0, 2**31, whole=True)
NUMBERS: dict[str, Bound] = {
    **BOUNDS,
    "num_beams": Bound(1, 64, whole=True),
    "length_penalty": Bound(-10.0, 10.0),
    "no_repeat_ngram_size": COUNT,
    "min_new_tokens": COUNT,
    "forced_bos_token_id": COUNT,
    "forced_eos_token_id": COUNT,
    "max_length": COUNT,
    "max_new_tokens": COUNT,
    "min_length": COUNT,
    "decoder_start_token_id": COUNT,
}
SAMPLING = {field.name for field in fields(Sampling)}
SEARCH = {field.name for field in fields(Search)}
CONSTRAINTS = {"no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "min_new_tokens"}
FORCED = {"forced_bos_token_id", "forced_eos_token_id"}
IDS = {"eos_token_id", "bos_token_id", "pad_token_id", "decoder_start_token_id"}
LENGTHS = {"max_length", "max_new_tokens", "min_length", "stop_strings"}
REQUESTABLE = SAMPLING | SEARCH | CONSTRAINTS
OPTIONS = {"max_new_tokens", "stop", "logprobs", "echo", "trace"}  # what a call takes besides settings
DRAWING = {"temperature", "top_k", "top_p", "min_p", "typical_p"}  # asking for one of these is asking to sample

# Values that change nothing; any other value of these keys is refused.
INERT: dict[str, tuple[Any, ...]] = {
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "diversity_penalty": (0,),
    "encoder_repetition_penalty": (1,),
    "encoder_no_repeat_ngram_size": (0,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "penalty_alpha": (0,),
    "guidance_scale": (1,),
    "renormalize_logits": (False,),
    "token_healing": (False,),
    "top_h": (),
    "exponential_decay_length_penalty": (),
    "sequence_bias": (),
    "constraints": (),
    "force_words_ids": (),
    "watermarking_config": (),
    "dola_layers": (),
    "max_time": (),
}
# Speed, output format, book-keeping: the tokens are the same whatever these say.
_HARMLESS = """
    _from_model_config _name_or_path transformers_version model_type use_cache cache_implementation cache_config
    max_cache_len return_legacy_cache output_attentions output_hidden_states output_scores output_logits
    return_dict_in_generate low_memory compile_config disable_compile continuous_batching_config prefill_chunk_size
    remove_invalid_values is_assistant use_mtp num_assistant_tokens num_assistant_tokens_schedule
    assistant_confidence_threshold prompt_lookup_num_tokens max_matching_ngram_size assistant_early_exit
    assistant_lookbehind target_lookbehind assistant_ensemble_weight speculation_type transformers_weights
    """
HARMLESS = frozenset(_HARMLESS.split())
KNOWN = REQUESTABLE | FORCED | IDS | LENGTHS | INERT.keys() | HARMLESS | {"do_sample"}


@dataclass(frozen=True)
class Resolved:
    """Settings in full. `origins`: where each value came from. `unsupported`: published keys that stop a generation."""

    sampling: Sampling
    constraints: Constraints
    search: Search
    origins: Mapping[str, Origin]
    unsupported: Mapping[str, Any]

    def check(self) -> None:
        """Raises UnsupportedError if the model's published settings ask for something Paddock does not do."""
        if self.unsupported:
            name, value = next(iter(self.unsupported.items()))
            raise UnsupportedError(
                f"{FILE} sets {', '.join(self.unsupported)} ({name} is {shown(value)}), which Paddock does not do",
                fix="to go on without, name them in ignore_config=[...] (--ignore-config KEY on the command line)",
            )

    def values(self) -> dict[str, tuple[Any, Origin]]:
        """Every setting with its value and origin, for display."""
        found: dict[str, Any] = {name: getattr(self.sampling, name) for name in sorted(SAMPLING)}
        found |= {name: getattr(self.search, name) for name in sorted(SEARCH)}
        ours = {"suppress_tokens": "banned", "bad_words_ids": "bad_words"}
        found |= {name: getattr(self.constraints, ours.get(name, name)) for name in sorted(CONSTRAINTS | FORCED)}
        return {name: (value, self.origins.get(name, "default")) for name, value in found.items()}


def heeded(published: Mapping[str, Any]) -> dict[str, Any]:
    """What of `published` counts: null says nothing."""
    return {name: value for name, value in published.items() if value is not None}


def resolve(requested: Mapping[str, Any], generation: Mapping[str, Any]) -> Resolved:
    """Each setting from `requested` if it is there (None counts as absent), else from the model, else neutral.

    A model that says do_sample: false is greedy (temperature 0) unless the request names a temperature or a filter;
    beam search never samples.
    Raises UsageError for what a request cannot mean, CheckpointError for what generation_config.json cannot.
    """
    published = heeded(generation)
    asked = {k: v for k, v in requested.items() if v is not None}
    _check_names(asked)
    for name, value in published.items():
        _check_published(name, value)
    for name, value in asked.items():
        _check_asked(name, value)
    beams = asked.get("num_beams", published.get("num_beams", 1)) > 1
    if beams:
        _check_beams(asked, published)
    if beams or not _samples(asked, published):
        published = {k: v for k, v in published.items() if k not in DRAWING} | {"temperature": 0.0}
    values = {**{k: v for k, v in published.items() if k in REQUESTABLE | FORCED}, **asked}
    origins: dict[str, Origin] = {name: "request" if name in asked else "model" for name in values}
    return Resolved(
        Sampling(**{name: values[name] for name in SAMPLING & values.keys()}),
        _constraints(values),
        Search(**{name: values[name] for name in SEARCH & values.keys()}),
        origins,
        {k: v for k, v in published.items() if k not in KNOWN or (k in INERT and v not in INERT[k])},
    )


def published_defaults(generation: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What a model publishes about generation: its generation_config.json, or where there is none, the same keys in
    config.json (the older habit, which Hugging Face reads too)."""
    if generation:
        return dict(generation)
    known = KNOWN - HARMLESS - {"seed", "logit_bias"}
    return {name: value for name, value in config.items() if name in known and value is not None}


def also_ending(published: Mapping[str, Any], config: Mapping[str, Any], ids: Iterable[int]) -> dict[str, Any]:
    """What is published, with further ids that end a text; as it is where they do so already."""
    found = published_defaults(published, config)
    known = ids_of(found.get("eos_token_id"), "eos_token_id")
    ends = dict.fromkeys([*known, *ids])
    return dict(published) if set(ends) == set(known) else {**found, "eos_token_id": list(ends)}


def ids_of(value: Any, name: str) -> tuple[int, ...]:
    """One published token id, several, or none."""
    if value is None:
        return ()
    ids = value if isinstance(value, list) else [value]
    if not all(COUNT.holds(id) for id in ids):
        raise CheckpointError(f"{FILE}: {name} is {shown(value)}", expected="a token id, or a list of them")
    return tuple(ids)


def _samples(asked: Mapping[str, Any], published: Mapping[str, Any]) -> bool:
    return published.get("do_sample", True) or bool(DRAWING & asked.keys())


def _check_beams(asked: Mapping[str, Any], published: Mapping[str, Any]) -> None:
    drawing = sorted(name for name in DRAWING & asked.keys() if (name, asked[name]) != ("temperature", 0))
    if drawing:
        raise UsageError(
            f"beam search does not sample, so {drawing[0]} would mean nothing",
            fix=f"leave out {drawing[0]}, or num_beams=1",
        )
    if published.get("do_sample") and "num_beams" not in asked:
        raise UnsupportedError(
            f"{FILE} asks for beam search with sampling, which Paddock does not do", fix="name num_beams yourself"
        )


def _constraints(values: Mapping[str, Any]) -> Constraints:
    return Constraints(
        banned=tuple(values.get("suppress_tokens", ())),
        bad_words=tuple(tuple(word) for word in values.get("bad_words_ids", ())),
        no_repeat_ngram_size=values.get("no_repeat_ngram_size", 0),
        begin_suppress_tokens=tuple(values.get("begin_suppress_tokens", ())),
        min_new_tokens=values.get("min_new_tokens", 0),
        forced_bos_token_id=values.get("forced_bos_token_id"),
        forced_eos_token_id=values.get("forced_eos_token_id"),
    )


def _check_names(asked: Mapping[str, Any]) -> None:
    for name in asked:
        if name not in REQUESTABLE:
            hint = "temperature=0 is greedy, anything above samples" if name == "do_sample" else None
            raise UsageError(
                f"unknown setting {shown(name)}",
                expected=", ".join(sorted(REQUESTABLE)),
                fix=hint or did_you_mean(str(name), REQUESTABLE | OPTIONS),
            )


def _wrong(name: str, value: Any) -> str | None:
    """What a value should have been, if it is not that."""
    if name in NUMBERS:
        return None if NUMBERS[name].holds(value) else str(NUMBERS[name])
    if name == "do_sample":
        return None if isinstance(value, bool) else "true or false"
    if name == "early_stopping":
        return None if isinstance(value, bool) or value == "never" else 'true, false or "never"'
    if name in ("suppress_tokens", "begin_suppress_tokens"):
        return None if _is_ids(value) else "a list of token ids"
    if name == "bad_words_ids":
        right = isinstance(value, list | tuple) and all(_is_ids(word) and len(word) for word in value)
        return None if right else "a list of lists of token ids"
    return _wrong_stops(value) if name == "stop_strings" else None


def _wrong_stops(value: Any) -> str | None:
    try:
        stop_strings(value)
    except UsageError as refusal:
        return refusal.expected
    return None


def _is_ids(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(COUNT.holds(id) for id in value)


def _check_asked(name: str, value: Any) -> None:
    if expected := _wrong(name, value):
        raise UsageError(f"{name} is {shown(value)}", expected=expected)


def _check_published(name: str, value: Any) -> None:
    if expected := _wrong(name, value):
        raise CheckpointError(f"{FILE}: {name} is {shown(value)}", expected=expected)
