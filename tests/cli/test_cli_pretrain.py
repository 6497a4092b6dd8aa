"""`paddock pretrain`, `recipe`, `batches` and `study` as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cli_streams import Run

RECIPE = """\
stage: pretrain
card: {about: lines that repeat}
model:
  model_type: gpt_neox
  hidden_size: 32
  intermediate_size: 64
  num_hidden_layers: 1
  num_attention_heads: 2
  max_position_embeddings: 32
sizes:
  small: {}
  large: {num_hidden_layers: 2}
tokenizer: {train: characters}
data:
  sources: [{files: [lines.txt], separator: "\\n"}]
  length: 16
  packing: stream
  validation: 0.2
training:
  steps: 6
  batch: 4
  checkpoints: log2
  evaluate_every: 3
prompts: [aa]
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.txt").write_text(
        "".join(f"{c * 3} {d * 4} {n % 7}\n" for n in range(9) for c in "abc" for d in "xyz")
    )
    path = tmp_path / "lines.yaml"
    path.write_text(RECIPE)
    return path


def test_a_suite_is_trained_looked_into_and_studied(paddock: Callable[..., Run], recipe: Path, tmp_path: Path) -> None:
    run = paddock("pretrain", recipe, "--output", "out", "--json")
    assert run.code == 0, run.err
    done = json.loads(run.out)
    assert [Path(one["folder"]).name for one in done] == ["small", "large"]
    assert all(one["step"] == 6 and one["validation"]["bits_per_byte"] > 0 for one in done)
    for name in ("recipe.yaml", "metrics.jsonl", "final/config.json", "plots/training.png", "step-000004"):
        assert (tmp_path / "out/small" / name).exists(), name

    shown = [
        json.loads(paddock("batches", "show", f"out/{size}", "--step", 3, "--json").out) for size in ("small", "large")
    ]
    assert shown[0]["digest"] == shown[1]["digest"] and len(shown[0]["shown"]) == 4
    assert "ccc yyyy 0" in paddock("batches", "show", "out/small", "--step", 3).out

    length = ("--k", 4, "--l", 2)
    asked = (*length, "--sequences", 20, "--foretells", "out/large", "--plot", "m.svg", "--json")
    found = paddock("study", "memorization", "out/small", *asked)
    assert found.code == 0, found.err
    rows = json.loads(found.out)["steps"]
    assert [row["step"] for row in rows] == [0, 1, 2, 4, 6] and all(row["sequences"] == 20 for row in rows)
    assert ElementTree.parse(tmp_path / "m.svg").getroot().tag.endswith("svg")
    assert "mean score" in paddock("study", "memorization", "out/small", *length, "--sequences", 9).out

    assert paddock("study", "order", "out/large", "--k", 4, "--l", 1, "--windows", 4, "--plot", "o.png").code == 0
    assert (tmp_path / "o.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "q.jsonl").write_text('{"prompt": "aaa xxxx", "answer": " 1", "terms": ["aaa", "xxxx"]}\n')
    told = json.loads(paddock("study", "terms", "out/small", "--questions", "q.jsonl", "--json").out)
    assert told["questions"] == 1 and 1 <= told["bins"][0]["low"] <= 9

    trained_as = tmp_path / "out/tokenizer/trained-as.json"
    before = json.loads(trained_as.read_text())
    del before["behind"]  # as a Paddock from before there was this key wrote it
    trained_as.write_text(json.dumps(before))
    again = paddock("pretrain", recipe, "--output", "out", "--size", "small")
    assert again.code == 0 and "going on from step 6 of 6" in again.err
    other = paddock("pretrain", recipe, "--output", "out", "--size", "small", "tokenizer.special=[more]")
    assert other.code == 2 and "out/tokenizer was trained as" in other.err, other.err


def test_a_dry_run_trains_nothing(paddock: Callable[..., Run], recipe: Path, tmp_path: Path) -> None:
    run = paddock("pretrain", recipe, "--dry-run", "--size", "large", "--json")
    (described,) = json.loads(run.out)
    assert described["targets_of_first_batch"] > 0 and described["rows"] > 0
    assert not (tmp_path / "out").exists()  # nor is a tokenizer left that a later recipe would find


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["pretrain", "tiny-shakespear"], 2, "did you mean 'tiny-shakespeare'?"),
        (["pretrain", "lines.yaml", "training.stepz=3"], 2, "did you mean 'steps'?"),
        (["pretrain", "lines.yaml", "training.steps"], 2, "key.sub=value"),
        (["pretrain", "lines.yaml", "--size", "larg"], 2, "did you mean 'large'?"),
        (["pretrain", "lines.yaml", "--resume", "maybe"], 2, "auto or never"),
        (["pretrain", "lines.yaml", "data.length=1000"], 2, "this gpt_neox reads 32"),
        (["pretrain", "lines.yaml", "data.sources=[{files: [folder]}]"], 2, "'folder' is a folder"),
        (["pretrain", "broken.yaml"], 3, "stage is None"),
        (["batches", "show", "nowhere", "--step", "1"], 2, "is no run"),
        (["study", "order", "nowhere"], 2, "is no run"),
        (["study", "memorization", "nowhere", "--plot", "x.gif"], 2, ".png or .svg"),
        (["recipe", "schema", "pretrian"], 2, "did you mean 'pretrain'?"),
    ],
)
def test_refusals(paddock: Callable[..., Run], recipe: Path, words: list[str], code: int, said: str) -> None:
    recipe.with_name("broken.yaml").write_text("steps: 3\n")
    recipe.with_name("folder").mkdir()
    run = paddock(*words)
    assert run.code == code and said in run.err, run.err


def test_recipes_are_listed_copied_and_checked(paddock: Callable[..., Run], recipe: Path, tmp_path: Path) -> None:
    rows = json.loads(paddock("recipe", "ls", "--json").out)
    assert {"tiny-shakespeare", "stories"} <= {row["name"] for row in rows} and all(row["about"] for row in rows)
    assert "tiny-shakespeare" in paddock("recipe", "ls").out
    assert paddock("recipe", "cp", "stories", "mine.yaml").code == 0
    assert (tmp_path / "mine.yaml").read_text().startswith("#")
    assert paddock("recipe", "cp", "stories", "mine.yaml").code == 2
    assert "can be meant" in paddock("recipe", "validate", "mine.yaml", "training.steps=5000").out
    resolved = paddock("recipe", "validate", "mine.yaml", "--resolved").out
    assert "on_nonfinite: stop" in resolved
    assert "training" in json.loads(paddock("recipe", "schema").out)["properties"]
