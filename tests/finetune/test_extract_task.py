"""Summaries of a text's own sentences: what is learned of a pair, what is measured, what a tuned model picks."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from small_readers import prepared, write_reader

import paddock
from paddock.engine.extracting import MOST, SCORE, extract, split, views
from paddock.errors import DataError, UnsupportedError, UsageError
from paddock.finetune.stage import finetune
from paddock.training import journal
from paddock.training.metrics import Metrics
from paddock.training.parallel import Alone
from paddock.training.scores.texts import LONGEST, first_sentence, rouge, sentences

CPU = Alone(torch.device("cpu"))
TEXTS = [
    ("The cat sat. A dog sat. The good film.", "a good film"),
    ("A good dog. The bad film. The cat sat.", ["bad film", "the good dog"]),
    ("The dog.", "the dog"),
] * 3
EXTRACT = {"name": "extract"}


def pairs(path: Path, found: list[tuple[object, object]] = TEXTS) -> Path:
    path.write_text("".join(json.dumps({"source": source, "target": target}) + "\n" for source, target in found))
    return path


def test_sentences_are_found() -> None:
    assert sentences("We follow J. Smith et al. in this. It works, e.g. here!  好。再来。 \n\n Done") == [
        "We follow J. Smith et al. in this.", "It works, e.g. here!", "好。", "再来。", "Done",
    ]  # fmt: skip
    assert sentences(" \n ") == [] and first_sentence("  ") == ""
    assert first_sentence(" One. Two.") == "One."
    assert views(["a", "b", "c"]) == [("a", "1 / 3"), ("b", "2 / 3"), ("c", "3 / 3")]


def test_sentences_are_learned_by_how_much_more_than_average_they_say(tmp_path: Path) -> None:
    made = prepared(
        write_reader(tmp_path / "base", "bert"), pairs(tmp_path / "x.jsonl"), EXTRACT, data={"format": "auto"}
    )
    batch = made.train.at(0)
    assert len(made.asked.train) == 18 and made.asked.counts == {
        "texts": 6,
        "sentences": 18,
    }  # one alone teaches nothing
    assert batch.labels is not None and batch.segments is not None

    first = TEXTS[0]
    points = np.array([sum(asdict(rouge([one], [[first[1]]])).values()) / 300 for one in split(first[0])])
    assert points.argmax() == 2 and points.std() > 0.1
    np.testing.assert_allclose(batch.labels[:3].numpy(), 10 * (points - points.mean()), atol=1e-6)
    words = made.opened.tokenizer
    assert words.decode(batch.ids[1].tolist(), skip_special=True) == words.decode(
        words.encode("A dog sat. 2 / 3"), skip_special=True
    )
    held = [first[0], "The bad film. A good dog."]  # of several references the better one counts
    assert rouge([held[1]], [TEXTS[1][1]]).rouge1 == rouge([held[1]], [[TEXTS[1][1][1]]]).rouge1


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_run_picks_the_best_sentences_and_reloads(name: str, tmp_path: Path) -> None:
    model, files = write_reader(tmp_path / "base", name, max_position_embeddings=64), pairs(tmp_path / "x.jsonl")
    recipe = prepared(
        model,
        files,
        EXTRACT,
        data={"format": "auto", "length": 64, "validation": [str(files)], "shuffle": True, "too_long": "cut"},
        training={"steps": 40, "optimizer": {"learning_rate": 5e-3, "weight_decay": 0.0}, "evaluate_every": 40},
    ).recipe
    finetune(recipe, Path(), tmp_path / "run", CPU, watching=lambda p, t: [Metrics(t, measure=p.measure)])
    last, sources = list(journal.read(tmp_path / "run/metrics.jsonl"))[-1]["validation"], [text for text, _ in TEXTS]
    meant = [[target] if isinstance(target, str) else target for _, target in TEXTS]
    assert last["baseline"] == asdict(rouge([first_sentence(text) for text in sources], meant))
    assert last["best"]["rouge1"] == last["rouge1"] > last["baseline"]["rouge1"]
    assert last["picked"] == [2, 1, 0] * 3 and last["answered"] == 9 and len(last["texts"]) == 3

    again = paddock.load(tmp_path / "run/final")
    found = [extract(again, text)[0] for text in sources]
    assert [each.place for each in found] == last["picked"]
    assert [each.text for each in found] == [split(text)[at] for text, at in zip(sources, last["picked"], strict=True)]
    two = extract(again, sources[0], 2)
    assert len(two) == 2 and two[0].place < two[1].place == 2  # in the text's order
    assert len(extract(again, sources[0], 100)) == 3

    theirs = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "run/final").eval()
    assert theirs.config.id2label == {0: SCORE} and theirs.config.problem_type == "regression"
    with torch.no_grad():
        row = recipe_row(again, split(sources[0]))
        assert float(theirs(**row).logits) == pytest.approx(extract(again, sources[0], 3)[1].score, abs=1e-4)


def recipe_row(model: paddock.LanguageModel, found: list[str]) -> dict[str, torch.Tensor]:
    """The second sentence as transformers would be given it."""
    tokenizer, (one, beside) = model.tokenizer, views(found)[1]
    if model.architecture.family == "bert":
        first = tokenizer.encode(one)
        second = [*tokenizer.encode(beside, add_special=False), *tokenizer.after]
        segments = torch.tensor([[0] * len(first) + [1] * len(second)])
        return {"input_ids": torch.tensor([[*first, *second]]), "token_type_ids": segments}
    parts = [id for text in (one, "\n", beside) for id in tokenizer.encode(text, add_special=False)]
    return {"input_ids": torch.tensor([[*tokenizer.before, *parts, *tokenizer.after]])}


def test_what_is_refused(tmp_path: Path) -> None:
    base = write_reader(tmp_path / "base", "bert")
    for name, found, said in [
        ("blank", [("The cat.", "the cat")] * 2, "every text is a single sentence"),
        ("long", [("A dog. " * (MOST + 1), "a dog")], f"{MOST + 1:,} sentences"),
        ("huge", [("a" * LONGEST + " b", "a dog")], "characters"),
    ]:
        with pytest.raises(DataError, match=said):
            prepared(base, pairs(tmp_path / f"{name}.jsonl", found), EXTRACT, data={"format": "auto"})
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text('{"text": "the cat", "label": "good"}\n')
    with pytest.raises(DataError, match=r"labelled\.jsonl:1: a labelled"):
        prepared(base, labelled, EXTRACT, data={"format": "auto"})
    with pytest.raises(DataError, match="tokens"):
        prepared(base, pairs(tmp_path / "x.jsonl"), EXTRACT, data={"format": "auto", "length": 8})

    model = paddock.load()
    with pytest.raises(UnsupportedError, match="not fine-tuned to pick sentences"):
        extract(model, "One. Two.")
    with pytest.raises(UsageError, match="0 sentences"):
        extract(model, "One. Two.", 0)
    for text in ("", " \n"):
        with pytest.raises(DataError, match="0 sentences"):
            split(text)
