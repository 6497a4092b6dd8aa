"""What /v1/chat/completions and /v1/completions have in common: how to choose tokens, and how to answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from paddock.engine.request import MAX_PRIORITY, MAX_STOP_LENGTH, MAX_STOPS
from paddock.engine.sampling import BIAS, MAX_BIASES
from paddock.serve.asking import MAX_CHOICES, MAX_SEED, biases
from paddock.serve.bodies import Body, Part
from paddock.serve.refusals import BadRequest
from paddock.serve.schemas.parts import (
    MAX_MEMBERS,
    Count,
    Least,
    Members,
    Name,
    Penalty,
    Portion,
    Shift,
    Temperature,
    Text,
    few,
    form_of,
)
from paddock.serve.structured import FIELDS, field_of, grammar_of

HARMLESS = frozenset(
    ["user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"]
)

Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]
Stops = Annotated[
    Annotated[Stop, Tag("text")] | Annotated[list[Stop], Field(max_length=MAX_STOPS), Tag("list")],
    Discriminator(form_of),
]
Bias = Annotated[float, Field(ge=BIAS.low, le=BIAS.high)]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,10}$")]


class StreamOptions(Part):
    include_usage: bool | None = None

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return frozenset(("include_obfuscation",))


class SampledBody(Body):
    """Fields are OpenAI's as far as `logit_bias`; bounds are those of Paddock's sampler.

    top_k: 0 or -1 is off. truncation: "auto" drops what is oldest where a prompt is too long, and says so.
    glass_box: the answer comes with what the model was given and how each token was chosen. structured_outputs,
    guided_...: what the answer must be, as vLLM spells it.
    """

    model: Name | None = None
    max_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Portion | None = None
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    stop: Stops | None = None
    seed: int | None = Field(None, ge=0, lt=MAX_SEED)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Shift | None = None
    frequency_penalty: Shift | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=MAX_BIASES), few(MAX_BIASES)] | None = None
    top_k: int | None = Field(None, ge=-1, le=2**31)
    min_p: Least | None = None
    typical_p: Portion | None = None
    repetition_penalty: Penalty | None = None
    min_tokens: int | None = Field(None, ge=0, le=2**31)
    ignore_eos: bool | None = None
    priority: int | None = Field(None, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    truncation: Literal["auto", "disabled"] | None = None
    glass_box: bool | None = None
    structured_outputs: Members | None = None
    guided_json: Text | Members | None = None
    guided_json_object: bool | None = None
    guided_regex: Text | None = None
    guided_choice: Annotated[list[Text], Field(max_length=MAX_MEMBERS)] | None = None
    guided_grammar: Text | None = None

    @classmethod
    def harmless(cls) -> frozenset[str]:
        return HARMLESS

    @property
    def include_usage(self) -> bool:
        return bool(self.stream and self.stream_options and self.stream_options.include_usage)

    def common(self) -> dict[str, Any]:
        """Fields of `Asked` that both bodies fill alike. Raises BadRequest."""
        if self.stream_options is not None and not self.stream:
            raise BadRequest("stream_options without stream", param="stream_options", fix="set stream to true")
        settings = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": None if self.top_k is None else max(self.top_k, 0),
            "min_p": self.min_p,
            "typical_p": self.typical_p,
            "repetition_penalty": self.repetition_penalty,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "min_new_tokens": self.min_tokens,
            "logit_bias": biases(self.logit_bias),
        }
        form = self.model_dump(include=set(FIELDS), by_alias=True, exclude_none=True)
        return {
            "n": self.n or 1,
            "stop": self.stop,
            "seed": self.seed,
            "settings": {name: value for name, value in settings.items() if value is not None},
            "priority": self.priority or 0,
            "truncation": self.truncation or "disabled",
            "ignore_eos": bool(self.ignore_eos),
            "grammar": grammar_of(form),
            "grammar_field": field_of(form),
            "trace": bool(self.glass_box),
        }
