"""Which model for a task, with this much memory: sizes ranked by a score whose every part is told.

The unit of the score is a doubling: an advantage of 1 is worth a model of twice the size.

    size       log2(parameters / 10^9), about as many as its name says where the number is not known; of a mixture of
               experts sqrt(parameters x active) counts
    age        2 for each year after 2020-01-01. What a size can do grows with time: the compute that a level needs has
               halved about every 8 months (arXiv 2403.05812), the parameters every 3.3 months (arXiv 2412.04315); 6
               months lies between
    task       2 if it is the first that the model is for
    language   1 if it is one of the model's first two; -0.5 if it is one of more than 30
    rounding   0 at 16 bits, -0.1 at 8, -0.5 at 4
    reports    -0.5 to 0.5: the share of the others that it is better than, less a half, where candidates of at least
               three models report the same benchmark of the task (BENCHMARKS) in the same setting and metric; the mean
               over such benchmarks. Who reports none stands in the middle
    terms      -0.5 where commercial use is asked for and the licence, or one of what it was made from, has conditions
    access     -0.5 where weights come after a form, -1 where for research alone
    Paddock    -2 where Paddock does not run its architecture

Sizes of the same score are ordered by their names. What is not for the task, the language, the terms, the context or
the memory at 4 bits is ruled out, and counted by the reason.
"""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

from paddock.catalog import languages
from paddock.catalog.catalogue import Catalogue, Found
from paddock.catalog.comparing import about, about_active, runnable
from paddock.catalog.filters import earliest, one_of
from paddock.catalog.lineage import commercial, terms
from paddock.catalog.schema import Model, Score, Size, Task
from paddock.errors import UsageError

EPOCH = datetime.date(2020, 1, 1)
YEARLY = 2.0  # doublings
ROUNDING = {"bf16": 0.0, "8 bits": -0.1, "4 bits": -0.5}
ACCESS = {"open": 0.0, "gated": -0.5, "research": -1.0}
LOWER_IS_BETTER = ("perplexity", "loss", "error", "bits")
FIRST = 2.0
NOT_RUN = "Paddock does not run its architecture, or does not know its shape"
COMPARABLE = 3  # models that report the same benchmark before a rank among them says something
# What reported results say about a task, by how names of benchmarks begin.
BENCHMARKS = {
    "base": ("MMLU", "HellaSwag", "ARC", "C-Eval", "CMMLU", "BBH", "LAMBADA"),
    "chat": ("MMLU", "MT-Bench", "AlpacaEval", "Arena", "IFEval", "C-Eval", "CMMLU", "Vicuna"),
    "code": ("HumanEval", "MBPP", "LiveCodeBench", "MultiPL", "SWE", "DS-1000", "Codeforces"),
    "maths": ("GSM8K", "MATH", "AIME", "MGSM", "CMATH"),
    "reasoning": ("AIME", "GPQA", "MATH", "GSM8K", "BBH", "ARC", "LiveCodeBench"),
    "embedding": ("MTEB", "C-MTEB", "BEIR", "STS"),
    "fill": ("GLUE", "SuperGLUE", "SQuAD", "XNLI", "CLUE"),
    "classification": ("GLUE", "SuperGLUE", "XNLI", "CLUE", "MTEB"),
    "translation": ("WMT", "FLORES", "BLEU", "COMET", "chrF", "Tatoeba"),
    "vision": ("MMMU", "VQA", "MMBench", "POPE", "OK-VQA", "COCO", "ImageNet", "DocVQA"),
    "audio": ("LibriSpeech", "WER", "FLEURS"),
    "tools": ("BFCL", "ToolBench", "API-Bank"),
    "long context": ("RULER", "LongBench", "SCROLLS"),
}
MANY = 30  # languages, of which each had little


@dataclass(frozen=True)
class Question:
    """What somebody needs. memory: bytes; context: tokens, None for what a conversation usually takes.

    runnable: Paddock must run it.
    """

    task: str
    memory: int
    language: str | None = None
    commercial: bool = False
    context: int | None = None
    runnable: bool = False

    def __post_init__(self) -> None:
        one_of("task", self.task, get_args(Task))
        if self.context is not None and self.context < 1:
            raise UsageError(f"--context is {self.context}", expected="a number of tokens, 1 or more")


@dataclass(frozen=True)
class Fit:
    """How a size fits: the least rounded of ROUNDING that does, what it takes, and whether that is a whole plan, or for
    want of a known architecture the weights alone."""

    rounding: str
    bytes: int
    planned: bool


Fits = Callable[[Found, Question], Fit | None]


@dataclass(frozen=True)
class Reason:
    """A part of a score, and what it is for: below zero it speaks against."""

    points: float
    text: str


@dataclass(frozen=True)
class Candidate:
    """A size that can be had, with what speaks for and against it."""

    found: Found
    fit: Fit
    reasons: tuple[Reason, ...]

    @property
    def model(self) -> Model:
        assert isinstance(self.found.asset, Model)
        return self.found.asset

    @property
    def size(self) -> Size:
        assert self.found.size is not None
        return self.found.size

    @property
    def score(self) -> float:
        return round(sum(reason.points for reason in self.reasons), 6)


@dataclass(frozen=True)
class Choice:
    """The answer: candidates, the best first, and how many sizes were ruled out why."""

    question: Question
    candidates: tuple[Candidate, ...]
    ruled_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def by_model(self) -> list[list[Candidate]]:
        """Candidates by their model, in the order of each model's best."""
        models: dict[str, list[Candidate]] = {}
        for one in self.candidates:
            models.setdefault(one.model.id, []).append(one)
        return list(models.values())


def choose(known: Catalogue, question: Question, fits: Fits) -> Choice:
    """Every size of every model, ruled out for the first reason that holds or ranked."""
    ruled_out: Counter[str] = Counter()
    candidates = []
    for found in every_size(known):
        against = _against(known, found, question)
        fit = fits(found, question) if against is None else None
        if against is not None:
            ruled_out[against] += 1
        elif fit is None:
            ruled_out[f"more than {question.memory / 1e9:.1f} GB even in 4 bits"] += 1
        else:
            candidates.append(Candidate(found, fit, tuple(_reasons(known, found, question, fit))))
    ranked = sorted(_with_reports(candidates, question.task), key=lambda one: (-one.score, one.found.name))
    return Choice(question, tuple(ranked), dict(ruled_out.most_common()))


def every_size(known: Catalogue) -> Iterator[Found]:
    """Each size of each model."""
    for model in known.models:
        for size in model.sizes:
            yield Found(model, size)


def _against(known: Catalogue, found: Found, question: Question) -> str | None:
    """Why a size is not for this question at all, whatever the memory."""
    model, size = found.asset, found.size
    assert isinstance(model, Model) and size is not None
    if model.access == "closed":
        return "weights not to be had"
    if question.task not in model.tasks:
        return f"not for {question.task}"
    if question.language is not None and not model.languages:
        return "languages not listed"
    if question.language is not None and question.language not in model.languages:
        return f"not known to read {languages.called(question.language)}"
    if question.commercial and commercial(model, known.assets) != "yes":
        return "licence, or one of what it was made from, does not allow commercial use or does not say"
    if question.runnable and not runnable(size):
        return NOT_RUN
    if about(size) is None:
        return "number of parameters not known"
    context = size.context or model.context
    if question.context is not None and (context is None or context < question.context):
        return f"context shorter than {question.context:,} tokens, or not known"
    return None


def _reasons(known: Catalogue, found: Found, question: Question, fit: Fit) -> Iterator[Reason]:
    """The parts of a score that do not depend on other candidates."""
    model, size = found.asset, found.size
    assert isinstance(model, Model) and size is not None
    yield _of_size(size)
    if (date := size.released or model.released) is not None:
        years = (datetime.date.fromisoformat(earliest(date)) - EPOCH).days / 365.25
        yield Reason(round(YEARLY * years, 2), f"released {date}")
    else:
        yield Reason(0.0, "no date of release known")
    if model.tasks[0] == question.task:
        yield Reason(FIRST, f"made for {question.task} first of all")
    if question.language is not None:
        yield from _of_language(model, question.language)
    yield Reason(ROUNDING[fit.rounding], _memory_text(fit))
    yield _of_terms(known, model, question.commercial)
    if points := ACCESS[model.access]:
        how = "after a form is signed" if model.access == "gated" else "for research alone"
        yield Reason(points, f"weights {how}")
    if not runnable(size):
        yield Reason(-2.0, NOT_RUN)


def _of_size(size: Size) -> Reason:
    count, active = about(size), about_active(size)
    assert count is not None
    text = f"{'' if size.parameters else 'about '}{_billions(count)} parameters"
    if active is not None and active < count:
        text += f", {_billions(active)} of them for each token"
        count = round(math.sqrt(count * active))
    return Reason(round(math.log2(count / 1e9), 2), text)


def _of_language(model: Model, language: str) -> Iterator[Reason]:
    name = languages.called(language)
    if language in model.languages[:2]:
        yield Reason(1.0, f"{name} is one of its main languages")
    elif len(model.languages) > MANY:
        yield Reason(-0.5, f"{name} is one of {len(model.languages)} languages")


def _of_terms(known: Catalogue, model: Model, commercial: bool) -> Reason:
    """The licence, and the first that has conditions where commercial use is asked for."""
    if commercial:
        for asset, licence in terms(model, known.assets):
            if licence.conditions:
                whose = "" if asset is model else f" of {asset.id}, which it was made from"
                return Reason(-0.5, f"{licence.name}{whose}: {licence.conditions}")
    return Reason(0.0, model.licence.name if model.licence is not None else "no licence known")


def _memory_text(fit: Fit) -> str:
    where = {"bf16": "in 16 bits", "8 bits": "in 8 bits", "4 bits": "in 4 bits"}[fit.rounding]
    if fit.planned:
        return f"needs {fit.bytes / 1e9:.1f} GB {where}"
    return f"weights alone {fit.bytes / 1e9:.1f} GB {where}, its shape is not known here"


def _billions(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 10**9 else f"{count / 1e6:.0f} M"


def _with_reports(candidates: list[Candidate], task: str) -> list[Candidate]:
    """Candidates with what their reported scores say for or against them, where other models report the same."""
    groups: dict[tuple[str, str, str | None], dict[int, float]] = {}
    for place, one in enumerate(candidates):
        for score in one.size.scores:
            if score.benchmark.startswith(BENCHMARKS[task]):
                groups.setdefault(_kind(score), {})[place] = score.value
    said: dict[int, list[Reason]] = {}
    for (benchmark, metric, setting), values in groups.items():
        if len({candidates[place].model.id for place in values}) < COMPARABLE:
            continue
        turned = any(word in f"{benchmark} {metric}".lower() for word in LOWER_IS_BETTER)
        how = f" ({setting})" if setting else ""
        for place, value in values.items():
            beaten = sum((other > value) if turned else (other < value) for other in values.values())
            text = f"{benchmark} {value:g}{how}, better than {beaten} of {len(values) - 1} others here"
            said.setdefault(place, []).append(Reason(beaten / (len(values) - 1) - 0.5, text))
    return [
        replace(one, reasons=(*one.reasons, *(replace(r, points=round(r.points / len(told), 2)) for r in told)))
        if (told := said.get(place))
        else one
        for place, one in enumerate(candidates)
    ]


def _kind(score: Score) -> tuple[str, str, str | None]:
    return score.benchmark, score.metric, score.setting
