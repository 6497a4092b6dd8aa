"""What the catalogue's files say: assets (models, datasets, applications), the edges between them, and their sources.

A file is TOML with tables `[source.KEY]` and arrays of tables `[[model]]`, `[[dataset]]`, `[[application]]`.
Everything a field may hold is said here; docs/catalogue.md shows a whole entry. A fact that is not known is left out,
never guessed.
"""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from paddock.catalog.languages import known_code
from paddock.data.section import Section

IDENTIFIER = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
DATE = re.compile(r"[0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2})?)?")

Branch = Literal["encoder", "decoder", "encoder-decoder", "multimodal", "other"]
Access = Literal["open", "gated", "research", "closed"]  # weights for all; after a form; for researchers; not at all
Task = Literal[
    "base",
    "chat",
    "code",
    "maths",
    "reasoning",
    "embedding",
    "fill",
    "translation",
    "classification",
    "vision",
    "audio",
    "tools",
    "long context",
]
Method = Literal[
    "pre-training",
    "continued pre-training",
    "supervised",
    "LoRA",
    "QLoRA",
    "adapter",
    "RLHF",
    "preference",
    "reinforcement learning",
    "distillation",
    "context extension",
    "merging",
    "quantisation",
    "multimodal training",
]


def _identifier(text: str) -> str:
    if len(text) > 80 or not IDENTIFIER.fullmatch(text):
        raise ValueError(f"{text!r} is no name: lower case letters, digits, single dashes and dots")
    return text


def _date(text: str) -> str:
    """A year, a month or a day, as far as it is known."""
    try:
        if not DATE.fullmatch(text):
            raise ValueError
        datetime.date.fromisoformat(text + "-01-01"[len(text) - 4 :])
    except ValueError:
        raise ValueError(f"{text!r} is no date: 2023, 2023-02 or 2023-02-24") from None
    return text


def _language(text: str) -> str:
    if not known_code(text):
        raise ValueError(f"{text!r} is no code of a language: two letters of ISO 639-1, or three of ISO 639-3")
    return text


def _dated(value: Any) -> Any:
    """TOML's own dates count as what they say."""
    return value.isoformat() if type(value) is datetime.date else value


def _counted(value: Any) -> Any:
    """A count is a number: "7B" is how somebody puts it, and belongs into another field."""
    if isinstance(value, str | bool):
        raise ValueError(
            f"{value!r} is no count: a whole number, 7000000000 (a size as it is called goes into `stated`)"
        )
    return value


Identifier = Annotated[str, AfterValidator(_identifier)]
Date = Annotated[str, BeforeValidator(_dated), AfterValidator(_date)]
Language = Annotated[str, AfterValidator(_language)]
Words = Annotated[str, Field(min_length=1, max_length=600)]
Address = Annotated[str, Field(pattern=r"^https?://\S+$", max_length=300)]
Count = Annotated[int, BeforeValidator(_counted), Field(ge=1, le=10**16)]


class Source(Section):
    """Where facts come from. date: when it was published; noted: when facts were written down under it; read: when it
    was opened for that. What was noted without opening the source is knowledge of it, and not checked against it."""

    title: Words
    url: Address
    date: Date | None = None
    noted: Date | None = None
    read: Date | None = None

    @property
    def told(self) -> str:
        """Its dates, in words."""
        day = f"read {self.read}" if self.read is not None else f"noted {self.noted}"
        return f"{self.date}, {day}" if self.date is not None else day

    @model_validator(mode="after")
    def _dates_are_in_order(self) -> Source:
        if self.noted is None and self.read is None:
            raise ValueError("it has neither noted nor read: the day on which facts were taken from it")
        for what, day in (("noted", self.noted), ("read", self.read)):
            if self.date is not None and day is not None and self.date[: len(day)] > day[: len(self.date)]:
                raise ValueError(f"it was published on {self.date} and {what} on {day}, before that")
        return self


class Licence(Section):
    """Under what terms something may be used. commercial: whether they allow commercial use, None if they do not say or
    it depends; conditions: what they ask, in our words."""

    name: Words
    commercial: bool | None = None
    conditions: Words | None = None
    url: Address | None = None


class Tokenizer(Section):
    """kind: the algorithm and what it works on, "byte-level BPE". vocabulary: pieces, special ones included."""

    kind: Words
    vocabulary: Count | None = None


class Score(Section):
    """A result that is reported. setting: shots, prompts, what else it takes to compare. source: a source's key."""

    benchmark: Words
    value: float
    metric: Words = "accuracy, %"
    setting: Words | None = None
    source: Identifier


class Size(Section):
    """One released size of a model.

    parameters: the exact number, tied tensors counted once. Where `config` is there, it is what the architecture gives
    (a test computes it again); else it is the publisher's. active: those a token passes, of a mixture of experts.
    stated: how the publisher puts it, "7B". published: an exact number that somebody published, where there is one, to
    be compared with the computed one; it needs a source. config: the keys of its config.json that say the shape.
    hub: where its weights lie on the Hugging Face hub. sources: of fields of this size that have other ones than the
    model's. notes: why `stated` is far from the count, and what else is true of this size alone.
    """

    name: Identifier
    parameters: Count | None = None
    active: Count | None = None
    stated: Words | None = None
    published: Count | None = None
    config: dict[str, Any] | None = None
    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$", max_length=120)] | None = None
    context: Count | None = None
    training_tokens: Count | None = None
    released: Date | None = None
    hardware: Words | None = None
    cost: Words | None = None
    scores: tuple[Score, ...] = ()
    notes: tuple[Words, ...] = ()
    sources: dict[str, Identifier] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_sound(self) -> Size:
        if self.active is not None and self.parameters is not None and self.active > self.parameters:
            raise ValueError(f"{self.active:,} parameters are active of {self.parameters:,} in all")
        unknown = [field for field in self.sources if field not in type(self).model_fields]
        if unknown:
            raise ValueError(f"sources are given for {', '.join(unknown)}, which are no fields of a size")
        return self


class Asset(Section):
    """What models, datasets and applications have in common.

    sources: for each field (of a model: its sizes' too) the key of the source that says it; `default` is for all fields
    not named. notes: what a reader should know and no field holds.
    """

    id: Identifier
    name: Words
    aliases: tuple[Words, ...] = ()
    organisation: Words
    released: Date | None = None
    about: Words
    url: Address | None = None
    access: Access = "open"
    languages: tuple[Language, ...] = ()
    licence: Licence | None = None  # of a model its weights', of a dataset its records', of an application its own
    licence_code: Licence | None = None
    notes: tuple[Words, ...] = ()
    sources: dict[str, Identifier]

    @model_validator(mode="after")
    def _sources_are_of_fields(self) -> Asset:
        known = {"default", *type(self).model_fields, *(Size.model_fields if isinstance(self, Model) else ())}
        unknown = [field for field in self.sources if field not in known]
        if unknown:
            raise ValueError(f"sources are given for {', '.join(unknown)}, which are no fields")
        if "default" not in self.sources:
            raise ValueError("sources has no default")
        return self


class Model(Asset):
    """A released model, all its sizes.

    family: what it is built like, "LLaMA"; branch: where it stands in the evolution tree. base: models that its
    training began with; teachers: models that wrote its data or taught it; data: datasets it was trained on. tasks:
    what it is for.
    """

    family: Words
    branch: Branch
    tasks: tuple[Task, ...]
    method: tuple[Method, ...]
    base: tuple[Identifier, ...] = ()
    teachers: tuple[Identifier, ...] = ()
    data: tuple[Identifier, ...] = ()
    tokenizer: Tokenizer | None = None
    context: Count | None = None
    training_tokens: Count | None = None
    hardware: Words | None = None
    cost: Words | None = None
    sizes: tuple[Size, ...] = ()

    @model_validator(mode="after")
    def _sizes_have_names_of_their_own(self) -> Model:
        names = [size.name for size in self.sizes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sizes are called {twice[0]!r}")
        return self


class Dataset(Asset):
    """Texts, instructions or preferences. made_with: models that wrote it; made_from: what it was made from."""

    kind: Literal["text", "instructions", "conversations", "preferences", "images and text", "evaluation", "other"]
    size: Words | None = None
    records: Count | None = None
    tokens: Count | None = None
    made_with: tuple[Identifier, ...] = ()
    made_from: tuple[Identifier, ...] = ()


class Application(Asset):
    """A program, a service or a tool that stands on models or datasets."""

    uses: tuple[Identifier, ...] = ()


class File(Section):
    """One file of the catalogue."""

    source: dict[Identifier, Source] = Field(default_factory=dict)
    model: tuple[Model, ...] = ()
    dataset: tuple[Dataset, ...] = ()
    application: tuple[Application, ...] = ()
