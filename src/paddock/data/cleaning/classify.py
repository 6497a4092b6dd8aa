"""Stages that judge by a trained classifier: is this like what I want, and which language is it in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from paddock.data.cleaning.linear import CHARACTERS, WORDS, Features, Linear, Trained, train
from paddock.data.cleaning.stage import Item, Outcome, Stage, removed
from paddock.data.reading import documents
from paddock.errors import UsageError

GOOD, BAD = "good", "bad"
MOST = 100_000  # examples of a class
PIECE = {"word": 5_000, "character": 400}  # characters of an example: books are cut up, so that they teach like pages


class Classifier(Stage):
    """Keeps a document whose probability of being good is at least `threshold` (RedPajama: 0.25)."""

    def __init__(self, model: Linear, threshold: float) -> None:
        if model.labels != (BAD, GOOD):
            raise UsageError(f"the classifier tells {', '.join(model.labels)[:80]}", expected=f"{BAD} and {GOOD}")
        self.model, self.threshold = model, threshold

    def apply(self, item: Item) -> Outcome:
        good = float(self.model.scores(item.document.text)[1])
        if good >= self.threshold:
            return Outcome(item.document)
        return removed("like the bad examples", f"P(good) {good:.3f}, least {self.threshold:g}")


class Language(Stage):
    """Keeps a document of a language in `keep`, told with a probability of at least `threshold`."""

    def __init__(self, model: Linear, keep: Sequence[str], threshold: float) -> None:
        if missing := [name for name in keep if name not in model.labels]:
            raise UsageError(
                f"the classifier does not know the language {missing[0]!r}", expected=", ".join(model.labels)[:200]
            )
        self.model, self.keep, self.threshold = model, frozenset(keep), threshold

    def apply(self, item: Item) -> Outcome:
        scores = self.model.scores(item.document.text)
        best = int(scores.argmax())
        name, share = self.model.labels[best], float(scores[best])
        if name not in self.keep:
            return removed(f"language {name}", f"P({name}) {share:.3f}")
        if share < self.threshold:
            return removed("language unsure", f"P({name}) {share:.3f}, least {self.threshold:g}")
        return Outcome(item.document)


def train_classifier(good: Sequence[Path], bad: Sequence[Path]) -> Trained:
    """A quality classifier from files of good and of bad documents."""
    return train({BAD: _examples(bad, WORDS), GOOD: _examples(good, WORDS)}, WORDS)


def train_languages(files: Mapping[str, Sequence[Path]]) -> Trained:
    """A language classifier from files of each language. Languages are taken in alphabetical order."""
    return train({name: _examples(files[name], CHARACTERS) for name in sorted(files)}, CHARACTERS)


def _examples(paths: Sequence[Path], features: Features) -> list[str]:
    return list(islice(pieces((each.text for each in documents(list(paths))), PIECE[features.unit]), MOST))


def pieces(texts: Iterable[str], size: int) -> Iterator[str]:
    """Texts cut into pieces of at most `size` characters, at a blank where there is one in the last tenth."""
    for text in texts:
        start = 0
        while len(text) - start > size:
            stop = max(text.rfind(mark, start + size - size // 10, start + size) for mark in " \n") + 1 or start + size
            yield text[start:stop]
            start = stop
        yield text[start:]
