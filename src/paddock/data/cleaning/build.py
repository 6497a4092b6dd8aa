"""From settings to stages at work; classifiers are trained here, or read where they were trained before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from paddock.checkpoint.writing import write_text
from paddock.data.cleaning import recipe as r
from paddock.data.cleaning.classify import Classifier, Language, train_classifier, train_languages
from paddock.data.cleaning.codefiles import Code, Licence
from paddock.data.cleaning.exact import Exact, Lines
from paddock.data.cleaning.latex import Latex
from paddock.data.cleaning.linear import Linear, load
from paddock.data.cleaning.private import Private
from paddock.data.cleaning.quality import Quality, merged
from paddock.data.cleaning.questions import Questions
from paddock.data.cleaning.scripts import Scripts
from paddock.data.cleaning.signals import PRESETS
from paddock.data.cleaning.simhash import SimHash
from paddock.data.cleaning.stage import Stage
from paddock.data.cleaning.unicodeforms import Forms


def build(asked: r.Section, model: Path) -> Stage:
    """The stage a recipe asks for. `model`: where its classifier lies, if it has one (see `prepare`).

    Near duplicates are no stage of one pass: `run.py` makes two of it.
    """
    match asked:
        case r.Forms():
            return Forms(asked.form, asked.line_ends, asked.unseen)
        case r.Exact():
            return Exact()
        case r.Lines():
            return Lines(asked.unit, asked.shortest, asked.characters)
        case r.Sim():
            return SimHash(asked.shingle, asked.distance)
        case r.Quality():
            return Quality(merged(PRESETS[asked.preset], asked.limits), frozenset(asked.stop_words), asked.annotate)
        case r.Scripts():
            return Scripts(asked.keep, asked.share)
        case r.Licence():
            return Licence(asked.allow, asked.unknown == "keep")
        case r.Code():
            settings = asked.model_dump(exclude={"stage"})
            return Code(**settings)
        case r.Questions():
            return Questions(**asked.model_dump(exclude={"stage"}))
        case r.Latex():
            return Latex(**asked.model_dump(exclude={"stage"}))
        case r.Private():
            return Private(asked.kinds, asked.placeholder)
        case r.Classifier():
            return Classifier(load(model), asked.threshold)
        case r.Language():
            return Language(load(model), asked.keep, asked.threshold)
    raise AssertionError(f"no stage is built for {type(asked).__name__}")


def prepare(asked: r.Section, model: Path) -> dict[str, Any] | None:
    """Puts the classifier of a stage at `model`, trained or copied, and says how it did; None for other stages.

    What was prepared before stands: a run that goes on judges by the classifier it began with.
    """
    if not isinstance(asked, r.Classifier | r.Language):
        return None
    report = model.with_suffix(".json")
    if report.exists():
        return dict(json.loads(report.read_text(encoding="utf-8")))
    if asked.model is not None:
        found: Linear = load(Path(asked.model))
        said: dict[str, Any] = {"labels": list(found.labels), "model": asked.model}
    else:
        make = (
            partial(train_classifier, _paths(asked.good), _paths(asked.bad))
            if isinstance(asked, r.Classifier)
            else partial(train_languages, {name: _paths(files) for name, files in asked.files.items()})
        )
        trained = make()
        found = trained.model
        said = {
            "labels": list(found.labels),
            "texts": trained.texts,
            "held_out": trained.held_out,
            "right": trained.right,
        }
    found.save(model)
    write_text(report, json.dumps(said, ensure_ascii=False, sort_keys=True))
    return said


def trained_on(asked: r.Section) -> Mapping[str, tuple[str, ...]]:
    """The files a stage reads besides the inputs."""
    match asked:
        case r.Classifier():
            return {"model": (asked.model,)} if asked.model else {"good": asked.good, "bad": asked.bad}
        case r.Language():
            return {"model": (asked.model,)} if asked.model else asked.files
    return {}


def _paths(names: tuple[str, ...]) -> list[Path]:
    return [Path(name) for name in names]
