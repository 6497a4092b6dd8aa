"""What SST-2 takes without a language model: the commonest class, and a bag of words under a logistic regression.

    python benchmarks/sst2.py --train sst2/train.tsv --dev sst2/dev.tsv

Beside them stand the runs that are named (`--run out/sst2-minilm`), by what their logs measured last.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score


def main() -> None:
    parser = argparse.ArgumentParser(description="Baselines of SST-2, beside runs of Paddock.")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--run", type=Path, action="append", default=[])
    asked = parser.parse_args()
    train, dev = labelled(asked.train), labelled(asked.dev)
    commonest = Counter(label for _, label in train).most_common(1)[0][0]
    found = {"commonest class": scores(dev, [commonest] * len(dev))}
    for words in (1, 2):
        found[f"bag of words, up to {words}"] = scores(dev, bag(train, dev, words))
    for run in asked.run:
        found[str(run)] = last(run)
    print(json.dumps(found, indent=1))


def labelled(path: Path) -> list[tuple[str, str]]:
    """(sentence, label) of each line."""
    lines = (line.rsplit("\t", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return [(text, label) for text, label in lines]


def bag(train: list[tuple[str, str]], dev: list[tuple[str, str]], words: int) -> list[str]:
    """What a logistic regression says that knows which runs of up to `words` words a sentence has. The strength of its
    prior is the best of three on the sentences it is measured on, which is to its advantage."""
    counts = CountVectorizer(binary=True, ngram_range=(1, words), token_pattern=r"\S+")
    seen = counts.fit_transform(text for text, _ in train)
    asked, truth = counts.transform(text for text, _ in dev), [label for _, label in dev]
    told = [
        list(LogisticRegression(C=prior, max_iter=2000).fit(seen, [label for _, label in train]).predict(asked))
        for prior in (0.1, 0.3, 1.0)
    ]
    return max(told, key=lambda each: accuracy_score(truth, each))


def scores(dev: list[tuple[str, str]], told: list[str]) -> dict[str, float]:
    truth = [label for _, label in dev]
    return {"accuracy": accuracy_score(truth, told), "macro_f1": f1_score(truth, told, average="macro")}


def last(run: Path) -> dict[str, Any]:
    """The last validation in a run's log."""
    with (run / "metrics.jsonl").open(encoding="utf-8") as log:
        found = [json.loads(line) for line in log if '"validation"' in line]
    return {name: found[-1]["validation"][name] for name in ("accuracy", "macro_f1")} | {"step": found[-1]["step"]}


if __name__ == "__main__":
    main()
