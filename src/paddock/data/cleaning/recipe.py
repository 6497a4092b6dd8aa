"""What can be asked of cleaning: a list of stages, in order, each with its settings; and how to read and write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from paddock.data.cleaning.codefiles import ALLOWED, EXTENSIONS
from paddock.data.cleaning.private import KINDS
from paddock.data.cleaning.scripts import NAMES
from paddock.data.cleaning.signals import PRESETS, SIGNALS, STOP_WORDS
from paddock.data.reading import Options
from paddock.data.section import Section
from paddock.errors import UsageError, nearest

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Words = Annotated[int, Field(ge=1, le=64)]
Files = Annotated[tuple[str, ...], Field(min_length=1)]
Limit = tuple[float | None, float | None]


class Forms(Section):
    """One spelling of each character; unseen characters out."""

    stage: Literal["unicode"]
    form: Literal["NFC", "NFKC", "none"] = "NFC"
    line_ends: bool = True
    unseen: bool = True


class Exact(Section):
    """Removes documents whose text came before."""

    stage: Literal["exact"]


class Lines(Section):
    """Takes out lines or paragraphs that came before in any document; drops what has fewer than `characters` left."""

    stage: Literal["lines"]
    unit: Literal["line", "paragraph"] = "paragraph"
    shortest: Annotated[int, Field(ge=1)] = 20
    characters: Count = 200


class Near(Section):
    """Removes near duplicates by MinHash: Jaccard similarity of word shingles, estimated, of at least `threshold`."""

    stage: Literal["minhash"]
    shingle: Words = 5
    permutations: Annotated[int, Field(ge=8, le=1024)] = 128
    bands: Annotated[int, Field(ge=1, le=256)] = 20
    rows: Annotated[int, Field(ge=1, le=256)] = 6
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    seed: Count = 1

    @model_validator(mode="after")
    def _fits(self) -> Near:
        if self.bands * self.rows > self.permutations:
            raise ValueError(f"{self.bands} bands of {self.rows} rows need {self.bands * self.rows} permutations")
        return self


class Sim(Section):
    """Removes near copies of long texts by SimHash."""

    stage: Literal["simhash"]
    shingle: Words = 6
    distance: Annotated[int, Field(ge=0, le=16)] = 5


class Quality(Section):
    """Removes what is outside the limits of a preset, and of one's own: signal: [least, most], or null for none."""

    stage: Literal["quality"]
    preset: Literal["gopher", "any", "none"] = "gopher"
    limits: dict[str, Limit | None] = Field(default_factory=dict)
    stop_words: Annotated[tuple[str, ...], Field(max_length=10_000)] = tuple(sorted(STOP_WORDS))
    annotate: bool = False

    @model_validator(mode="after")
    def _known(self) -> Quality:
        for name, limit in self.limits.items():
            if name not in SIGNALS:
                hint = nearest(name, SIGNALS)
                raise ValueError(f"a signal; {name!r} is none" + (f", did you mean {hint!r}?" if hint else ""))
            if limit and None not in limit and limit[0] > limit[1]:  # type: ignore[operator]
                raise ValueError(f"a least and a most value; {name} has {limit[0]:g} and {limit[1]:g}")
        if not self.annotate and not PRESETS[self.preset] and not any(self.limits.values()):
            raise ValueError("limits, where the preset has none")
        return self


class Classifier(Section):
    """Keeps what is more like the `good` files than like the `bad` ones; or by a `model` trained before."""

    stage: Literal["classifier"]
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    model: str | None = None
    threshold: Share = 0.25

    @model_validator(mode="after")
    def _either(self) -> Classifier:
        if (self.model is None) != bool(self.good and self.bad) or (self.model and (self.good or self.bad)):
            raise ValueError("either files under good and under bad, or a model")
        return self


class Language(Section):
    """Keeps documents in the languages `keep`, told by a classifier trained on files of each language, or a `model`."""

    stage: Literal["language"]
    keep: Files
    files: dict[str, Files] = Field(default_factory=dict)
    model: str | None = None
    threshold: Share = 0.5

    @model_validator(mode="after")
    def _either(self) -> Language:
        if (self.model is None) != bool(self.files):
            raise ValueError("either files of each language, or a model")
        if self.files and len(self.files) < 2:
            raise ValueError("files of two languages or more: what is to be told apart from what")
        if self.files and (missing := [name for name in self.keep if name not in self.files]):
            raise ValueError(f"files of every language that is kept; {missing[0]!r} has none")
        return self


class Scripts(Section):
    """Keeps documents most of whose letters are of some scripts; nothing to train."""

    stage: Literal["script"]
    keep: Annotated[tuple[Literal[NAMES], ...], Field(min_length=1)]  # type: ignore[valid-type]
    share: Share = 0.8


class Licence(Section):
    """Keeps documents under allowed licences."""

    stage: Literal["licence"]
    allow: Files = ALLOWED
    unknown: Literal["drop", "keep"] = "drop"


class Code(Section):
    """Keeps source code that looks written by people; takes off its header."""

    stage: Literal["code"]
    extensions: Files = EXTENSIONS
    longest_line: Count = 1000
    mean_line: Annotated[float, Field(gt=0)] = 100
    alphanumeric: Share = 0.25
    letters_per_token: Annotated[float, Field(ge=0)] = 1.5
    strip_header: bool = True


class Questions(Section):
    """StackExchange: keeps questions by score, joins their answers, best first."""

    stage: Literal["stackexchange"]
    score_field: str = "question_score"
    least: float = 0
    least_answer: float = 0
    answers: Annotated[int, Field(ge=0, le=1000)] = 5
    strip_html: bool = True


class Latex(Section):
    """LaTeX papers: comments out, macros without arguments written out, the body alone."""

    stage: Literal["latex"]
    comments: bool = True
    macros: bool = True
    head: bool = True
    tail: bool = True
    characters: Count = 200


class Private(Section):
    """Replaces private data: e-mail, phone, IP, cards, IBANs, keys."""

    stage: Literal["pii"]
    kinds: Annotated[tuple[Literal[KINDS], ...], Field(min_length=1)] = KINDS  # type: ignore[valid-type]
    placeholder: Annotated[str, Field(max_length=100)] = "<{kind}>"


AnyStage = (
    Forms
    | Exact
    | Lines
    | Near
    | Sim
    | Quality
    | Classifier
    | Language
    | Scripts
    | Licence
    | Code
    | Questions
    | Latex
    | Private
)
STAGES: dict[str, type[Section]] = {
    get_args(kind.model_fields["stage"].annotation)[0]: kind for kind in get_args(AnyStage)
}


class Reading(Section):
    """How the inputs are read: see `data.reading.Options`."""

    format: str = "auto"
    text_field: str = "text"
    split: str = "auto"
    separator: str | None = None
    encoding: str = "utf-8"
    errors: str = "strict"
    on_error: str = "stop"
    limit: Annotated[int, Field(ge=1)] = Options.limit

    def options(self) -> Options:
        return Options(**self.model_dump())


class CleaningRecipe(Section):
    """stages: what is done, in order. read: how inputs are read. format: what is written, in shards of about
    `shard_megabytes` uncompressed. holdout: the share of documents put aside for validation, after every stage.
    chunk: documents between two marks that a killed run goes on from."""

    stages: Annotated[tuple[Annotated[AnyStage, Field(discriminator="stage")], ...], Field(min_length=1, max_length=64)]
    read: Reading = Reading()
    format: Literal["jsonl.zst", "jsonl"] = "jsonl.zst"
    shard_megabytes: Annotated[float, Field(ge=0.001, le=100_000)] = 256
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0
    chunk: Annotated[int, Field(ge=1, le=10**6)] = 2000

    def digest(self) -> str:
        """SHA-256 (hex) of all settings, defaults too."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def refuse_unknown_stages(values: Mapping[str, Any], known: Mapping[str, type[Section]], source: str) -> None:
    """Raises UsageError for a stage that is not known, with the nearest."""
    stages = values.get("stages")
    for number, stage in enumerate(stages if isinstance(stages, list | tuple) else (), 1):
        kind = stage.get("stage") if isinstance(stage, Mapping) else None
        if not isinstance(kind, str) or kind not in known:
            elsewhere = isinstance(kind, str) and kind in STAGES
            said = f", {kind}, is for documents" if elsewhere else f" is {str(stage if kind is None else kind)[:80]!r}"
            hint = None if elsewhere else nearest(str(kind), known)
            raise UsageError(
                f"{source}: stage {number}{said}",
                expected=f"stage: one of {', '.join(known)}",
                fix=f"did you mean {hint!r}?" if hint else None,
            )


def parse_recipe(values: Mapping[str, Any], source: str = "the recipe") -> CleaningRecipe:
    """The typed recipe. Raises UsageError naming the key that is wrong, what was found, and the nearest known one."""
    refuse_unknown_stages(values, STAGES, source)
    try:
        recipe = CleaningRecipe.model_validate(values)
    except ValidationError as error:
        raise _refusal(error, values, source) from None
    if recipe.holdout and not any(isinstance(stage, Exact | Near) for stage in recipe.stages):
        raise UsageError(
            f"{source}: a holdout without a stage that removes duplicates would hold copies of what is trained on",
            fix="add a stage exact or minhash",
        )
    recipe.read.options()  # refuses what cannot be read so
    return recipe


def _refusal(error: ValidationError, values: Mapping[str, Any], source: str) -> UsageError:
    complaints = error.errors(include_url=False, include_context=False)
    first = complaints[0]
    path = list(first["loc"])
    known: type[BaseModel] = CleaningRecipe
    if path[:1] == ["stages"] and len(path) > 2:
        known = STAGES[str(path[2])]
        where = ".".join([f"stage {int(path[1]) + 1} ({path[2]})", *map(str, path[3:])])
    else:
        known = Reading if path[:1] == ["read"] and len(path) > 1 else CleaningRecipe
        where = ".".join(map(str, path)) or "the recipe"
    more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
    if first["type"] == "extra_forbidden":
        hint = nearest(str(path[-1]), known.model_fields)
        return UsageError(
            f"{source}: there is no key {where}{more}",
            fix=f"did you mean {hint!r}?" if hint else f"the keys are {', '.join(known.model_fields)}",
        )
    if first["type"] == "missing":
        return UsageError(f"{source}: {where} is missing{more}")
    message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return UsageError(f"{source}: {where} is {str(first.get('input'))[:80]}{more}", expected=message)
