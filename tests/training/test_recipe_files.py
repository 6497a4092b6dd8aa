"""Recipes as files: what YAML may say, what is refused and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddock.errors import DataError, UsageError
from paddock.training import recipe_files
from paddock.training.recipe import Training


def test_numbers_are_numbers() -> None:
    values = recipe_files.parse("steps: 10\noptimizer: {learning_rate: 1e-4, eps: 1E-8, name: rmsprop}\n", "r")
    recipe = recipe_files.validated(Training, values, "r")
    assert (recipe.optimizer.learning_rate, recipe.optimizer.eps, recipe.optimizer.name) == (1e-4, 1e-8, "rmsprop")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", "duplicate key"),
        ("a: &x [1]\nb: *x", "line 1 has an anchor"),
        ("a: !!python/object/apply:os.system [x]", "line 1 has the tag"),
        ("- 1\n- 2", "holds list"),
        ("a: [1", "expected a recipe in YAML"),
        ("[" * 40, "nested more than 16 deep"),
        ("", "holds NoneType"),
    ],
)
def test_what_is_not_a_plain_recipe_is_refused(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        recipe_files.parse(text, "r.yaml")


def test_files_that_are_no_text_or_too_long(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(DataError, match=r"not UTF-8 \(byte 3\)"):
        recipe_files.read(path)
    path.write_bytes(b"a" * (recipe_files.MAX_BYTES + 1))
    with pytest.raises(DataError, match="larger than"):
        recipe_files.read(path)
    with pytest.raises(DataError, match="Is a directory"):
        recipe_files.read(tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"steps": 5, "optimiser": {}}, r"there is no key optimiser\n  fix: did you mean 'optimizer'\?"),
        (
            {"steps": 5, "optimizer": {"learning_rte": 1}},
            r"optimizer.learning_rte\n  fix: did you mean 'learning_rate'",
        ),
        ({"steps": "x"}, "steps is x; expected a whole number"),
        ({"steps": 1e99}, "steps is 1e.99; expected a smaller whole number"),
        ({"steps": 5, "optimizer": 3}, "optimizer is 3; expected keys with values"),
        ({"steps": 5, "checkpoints": "weekly"}, "checkpoints: 'weekly' is no schedule of saves: every:N"),
        ({"steps": 5, "schedule": {"warmup": 9}}, "the recipe: schedule.warmup and schedule.decay take 9 steps"),
        ({}, "steps is missing"),
        ({"step": 5}, r"there is no key step \(and 1 more\)\n  fix: did you mean 'steps'"),
        ({"steps": 5, "optimizer": {"learning_rate": float("nan")}}, "optimizer.learning_rate is nan"),
    ],
)
def test_refusals_name_the_key(values: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        recipe_files.validated(Training, values, "r.yaml")


def test_settings_go_over_the_file() -> None:
    values = {"steps": 5, "optimizer": {"name": "sgd"}}
    changed = recipe_files.override(values, ["optimizer.learning_rate=1e-2", "steps=7", "name=a=b"])
    assert changed == {"steps": 7, "optimizer": {"name": "sgd", "learning_rate": 0.01}, "name": "a=b"}
    assert values == {"steps": 5, "optimizer": {"name": "sgd"}}
    for bad in ("steps", "=3", "steps.more=1"):
        with pytest.raises(UsageError):
            recipe_files.override(values, [bad])


def test_what_is_written_reads_back() -> None:
    values = {"b": 1, "a": {"rate": 1e-05, "on": True, "text": "yes", "none": None, "list": [1, 2.5, "3"]}}
    assert recipe_files.parse(recipe_files.write(values), "r") == values
    assert list(recipe_files.parse(recipe_files.write(values), "r")) == ["b", "a"]


def test_names_are_found(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="there is no recipe 'tiny-shakespear'\n  fix: did you mean 'tiny-shakespeare'"
    ):
        recipe_files.find("tiny-shakespear")
    with pytest.raises(UsageError, match="there is no recipe file"):
        recipe_files.find(str(tmp_path / "none.yaml"))
