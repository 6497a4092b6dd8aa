"""Recipes from text to model: what a run leaves, what it reads, that the same recipe gives the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import paddock
from paddock.data.encoding import vocabulary_of
from paddock.data.mixture_file import write_mixture
from paddock.data.shard_writing import write_shards
from paddock.engine.locate import bundled
from paddock.errors import DataError, UsageError
from paddock.pretrain.recipe import Pretraining
from paddock.pretrain.stage import prepare, pretrain, reopen
from paddock.training import journal, recipe_files
from paddock.training.parallel import Alone
from paddock.training.run import RunFolder

CPU = Alone(torch.device("cpu"))
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "the",
    "mat",
    "and",
    "the",
    "dog",
    "ran",
    "to",
    "the",
    "red",
    "house",
    "by",
    "the",
    "sea",
]


def text(documents: int = 40) -> str:
    lines = [" ".join(WORDS[(n * k) % 17 % len(WORDS)] for k in range(1, 9 + n % 5)) for n in range(documents)]
    return "\n".join(f"{number} {line}" for number, line in enumerate(lines)) + "\n"


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "text.txt").write_text(text())
    return folder


def tiny(**changes: Any) -> Pretraining:
    values: dict[str, Any] = {
        "stage": "pretrain",
        "model": {
            "model_type": "llama",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 32,
        },
        "tokenizer": {"train": "characters"},
        "data": {"sources": [{"files": ["text.txt"], "separator": "\n"}], "length": 32, "validation": 0.2},
        "training": {"steps": 4, "batch": 4, "checkpoints": "every:2"},
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return recipe_files.validated(Pretraining, values, "tiny")


def losses(run: Path) -> list[str]:
    return [record["loss"].hex() for record in journal.read(RunFolder(run).metrics) if "loss" in record]


def test_a_run_leaves_a_model_that_others_open(beside: Path, tmp_path: Path) -> None:
    final = pretrain(tiny(), beside, tmp_path / "run", CPU)
    ours = paddock.load(final)
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(final), AutoTokenizer.from_pretrained(final)
    sentence = "the cat sat on the sea 12"
    ids = ours.tokenizer.encode(sentence)
    assert tokenizer(sentence).input_ids == ids
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0]
    assert torch.allclose(ours.logits(ids), expected, atol=1e-5)
    assert RunFolder(tmp_path / "run").steps() == [2, 4]


def test_the_same_recipe_gives_the_same_run_and_a_stopped_one_goes_on(beside: Path, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stopping(prepared: Any, trainer: Any) -> list[Any]:
        def stop(report: Any) -> None:
            if report.step == 3:
                raise Enough

        return [stop]

    recipe = tiny(training={"dropout": 0.1})
    pretrain(recipe, beside, tmp_path / "whole", CPU)
    with pytest.raises(Enough):
        pretrain(recipe, beside, tmp_path / "cut", CPU, watching=stopping)
    pretrain(recipe, beside, tmp_path / "cut", CPU)
    assert len(losses(tmp_path / "whole")) == 4
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    weights = [(tmp_path / run / "final/model.safetensors").read_bytes() for run in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_every_size_of_a_suite_reads_the_same_batches(beside: Path, tmp_path: Path) -> None:
    recipe = tiny(sizes={"small": {}, "large": {"hidden_size": 32, "training": {"optimizer": {"learning_rate": 1e-4}}}})
    sizes = [prepare(recipe.of_size(name), beside, tmp_path) for name in recipe.sizes]
    assert sizes[0].start.model.architecture.width == 16 and sizes[1].start.model.architecture.width == 32
    for step in (0, 3, 17, 1000):
        digests = {size.train.at(step).digest() for size in sizes}
        assert len(digests) == 1
    with pytest.raises(UsageError, match="did you mean 'small'"):
        recipe.of_size("smal")


def test_a_run_is_opened_again_as_it_was(beside: Path, tmp_path: Path) -> None:
    recipe = tiny()
    pretrain(recipe, beside, tmp_path / "run", CPU)
    again = reopen(tmp_path / "run")
    first = prepare(recipe, beside, tmp_path / "other")
    assert again.data == first.data and again.train.at(7).digest() == first.train.at(7).digest()
    with pytest.raises(UsageError, match="is no run"):
        reopen(tmp_path)


def test_what_is_kept_back_is_never_trained_on(beside: Path, tmp_path: Path) -> None:
    (beside / "text.txt").write_text(text(60) + text(60))  # every document twice
    prepared = prepare(tiny(), beside, tmp_path)
    assert prepared.validation is not None
    sides = [
        {tuple(document.tolist()) for number in range(len(table)) for document in table.texts(number)}
        for table in (prepared.train.table, prepared.validation.table)
    ]
    assert all(sides) and not sides[0] & sides[1]


def test_sources_are_mixed_by_weight(beside: Path, tmp_path: Path) -> None:
    (beside / "other.txt").write_text(text().upper())
    sources = [
        {"files": ["text.txt"], "separator": "\n", "weight": 3},
        {"files": ["other.txt"], "separator": "\n", "weight": 1},
    ]
    prepared = prepare(tiny(data={"sources": sources, "packing": "single"}), beside, tmp_path)
    texts = [prepared.tokenizer.decode(prepared.train.sample(place).texts[0].tolist()) for place in range(1000)]
    assert sum(any(c.isupper() for c in text) for text in texts) == 250
    with pytest.raises(UsageError, match="a weight for each source, or for none"):
        tiny(data={"sources": [sources[0], {"files": ["other.txt"]}]})


def test_token_shards_are_read_as_the_texts_they_were(beside: Path, tmp_path: Path) -> None:
    first = prepare(tiny(), beside, tmp_path / "run")
    tokenizer = first.tokenizer
    documents = ([*tokenizer.encode(text), tokenizer.eos_ids[0]] for text in text().splitlines())
    words = vocabulary_of(tokenizer)
    write_shards(documents, beside / "shards", words)
    sources = {"sources": [{"shards": "shards"}], "validation": 0}
    path = {"tokenizer": {"path": str(tmp_path / "run/tokenizer"), "train": None}}
    packed = prepare(tiny(data=sources, **path), beside, tmp_path)
    whole = prepare(tiny(data={"validation": 0}, **path), beside, tmp_path)
    assert packed.train.at(3).digest() == whole.train.at(3).digest()
    assert list(packed.documents()[0].training_texts(tokenizer)) == text().splitlines()
    with pytest.raises(DataError, match=r"another tokenizer|vocabulary of"):
        prepare(tiny(data=sources, tokenizer={"path": str(bundled()), "train": None}), beside, tmp_path)
    with pytest.raises(UsageError, match="cannot be trained on token shards"):
        prepare(tiny(data=sources), beside, tmp_path / "new")


def test_a_mixture_s_file_says_what_the_sources_are(beside: Path, tmp_path: Path) -> None:
    tokenizer = prepare(tiny(), beside, tmp_path / "run").tokenizer
    words = vocabulary_of(tokenizer)
    ids = [[*tokenizer.encode(line), tokenizer.eos_ids[0]] for line in text().splitlines()]
    for name, documents in (("web/train", ids[:25]), ("web/validation", ids[25:30]), ("books", ids[30:])):
        (beside / name).parent.mkdir(exist_ok=True)
        write_shards(documents, beside / name, words)
    write_mixture(beside / "mix.json", [(str(beside / "web/train"), 3), (str(beside / "books"), 1)])
    path = {"tokenizer": {"path": str(tmp_path / "run/tokenizer"), "train": None}}
    sources = [{"shards": "web", "weight": 3}, {"shards": "books", "weight": 1}]
    named = prepare(tiny(data={"sources": sources}, **path), beside, tmp_path)
    mixed = prepare(tiny(data={"sources": [], "mix": "mix.json"}, **path), beside, tmp_path)
    assert [mixed.train.at(step).digest() for step in (0, 7)] == [named.train.at(step).digest() for step in (0, 7)]
    assert mixed.validation is not None and named.validation is not None
    assert mixed.validation.at(0).digest() == named.validation.at(0).digest()
    assert mixed.data == named.data
    with pytest.raises(UsageError, match=r"'no\.json' is not in"):
        prepare(tiny(data={"sources": [], "mix": "no.json"}, **path), beside, tmp_path)
    with pytest.raises(UsageError, match="one of sources and mix"):
        tiny(data={"mix": "mix.json"})


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"data": {"sources": [{"files": ["none.txt"]}]}}, UsageError, "'none.txt' is not in"),
        ({"data": {"sources": [{"files": ["*"], "second": ["text.txt", "text.txt"]}]}}, DataError, "holds 1 documents"),
        ({"model": {"vocab_size": 3}}, UsageError, "vocab_size is 3, but the tokenizer has"),
        ({"model": {"hidden_size": 33}}, UsageError, "33, which 2 heads cannot share evenly"),
        ({"model": {"hiden_size": 16}}, UsageError, "hiden_size"),
        ({"model": {"num_hidden_layers": 10**9}}, UsageError, "num_hidden_layers"),
        ({"model": {"from": "x"}}, UsageError, "leave model_type out"),
        ({"objective": {"name": "masked"}}, UsageError, "this llama is none"),
        ({"data": {"length": 64}}, UsageError, "rows of 64 tokens, but this llama reads 32"),
        ({"tokenizer": {"path": "nowhere"}}, UsageError, "one of tokenizer.path and tokenizer.train"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    changes: dict[str, Any], error: type[Exception], said: str, beside: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        pretrain(tiny(**changes), beside, tmp_path / "run", CPU)


def test_shipped_recipes_can_be_meant() -> None:
    names = recipe_files.shipped()
    assert {"tiny-shakespeare", "stories", "chinese-classics", "bert-tiny", "glm-tiny", "t5-tiny"} <= set(names)
    for name, path in names.items():
        if recipe_files.read(path)["stage"] != "pretrain":
            continue
        recipe = recipe_files.validated(Pretraining, recipe_files.read(path), name)
        assert recipe.card is not None and recipe.card.about
        for size in recipe.sizes:
            recipe.of_size(size)


def test_next_word_probabilities_are_the_shares_of_the_sentences(tmp_path: Path) -> None:
    path = recipe_files.find("next-word")
    recipe = recipe_files.validated(Pretraining, recipe_files.read(path), "next-word")
    model = paddock.load(pretrain(recipe, path.parent, tmp_path / "run", CPU))
    chances = model.logits(model.tokenizer.encode("I like to eat"))[-1].softmax(-1)
    for word, share in (("apple", 18 / 48), ("banana", 7 / 48), ("bread", 6 / 48), ("cake", 2 / 48)):
        (id,) = model.tokenizer.encode(f" {word}")
        assert abs(float(chances[id]) - share) < 0.01, word


def test_a_tokenizer_is_trained_again_on_texts_that_changed_before_anything_was_saved(
    beside: Path, tmp_path: Path
) -> None:
    first = prepare(tiny(), beside, tmp_path)
    (beside / "text.txt").write_text(text() + "".join(f"ÄÖÜ {n}\n" for n in range(40)))
    again = prepare(tiny(), beside, tmp_path)
    assert len(again.tokenizer) > len(first.tokenizer)
    (tmp_path / "step-000001").mkdir()
    (beside / "text.txt").write_text(text() + "".join(f"λμν {n}\n" for n in range(40)))
    kept = prepare(tiny(data={"validation": 0.0}), beside, tmp_path)
    assert kept.tokenizer.files() == again.tokenizer.files()


def test_a_tokenizer_that_is_not_there_is_named(beside: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tokenizer\.path 'none'"):
        prepare(tiny(tokenizer={"path": "none", "train": None}), beside, tmp_path)


def test_a_file_is_no_folder_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is a file"), RunFolder(tmp_path / "file").hold():
        pass
