"""merge: adapters in, out, weighed and added; what they were made for; what came of it, written down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import paddock as api
from paddock.checkpoint import class_heads, safetensors
from paddock.checkpoint.adapters import CONFIG, WEIGHTS
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.engine.locate import bundled
from paddock.engine.merging import FILE
from paddock.training.methods import Base, LoRA

IDS = [1, 5, 300, 21, 44, 9, 83]


def adapter(folder: Path, seed: int, base: str = "stories260K", **settings: Any) -> Path:
    """An adapter to the bundled model, as after some training."""
    found = open_checkpoint(bundled())
    tuned = LoRA(**{"rank": 3, **settings}).attach(Base(found.model("float32"), found.config, {}, base), seed)
    torch.manual_seed(seed)
    for name, parameter in tuned.model.named_parameters():
        if name.endswith(".b"):
            parameter.data.normal_(0, 0.03)
        elif name.endswith(".magnitude"):
            parameter.data.mul_(1.1)
    tuned.write(folder, tuned.model)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter(tmp_path_factory.mktemp("one") / "one", 1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter(tmp_path_factory.mktemp("two") / "two", 2, roles="q,v,down", rank=5)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: stored.load() for name, stored in safetensors.read(folder / "model.safetensors").items()}


def logits(folder: Path, *adapters: Path) -> torch.Tensor:
    model = api.load(folder, dtype="float32")
    for each in adapters:
        model = model.with_adapter(each)
    return model.logits(IDS)


def test_an_adapter_is_shown(paddock: Callable, tmp_path: Path) -> None:
    one = adapter(tmp_path / "one", 1)
    told = json.loads(paddock("show", one, "--json").out)
    assert told["kind"] == "LORA" and told["for"] == "stories260K" and told["base"] == str(bundled())
    assert told["parameters"] == sum(p.numel() for p in safetensors_of(one).values())
    assert told["settings"]["r"] == 3
    elsewhere = adapter(tmp_path / "elsewhere", 1, base="nobody/none")
    shown = paddock("show", elsewhere)
    assert shown.code == 0 and "not here" in shown.out and "nobody/none" in shown.out


def safetensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: stored.load() for name, stored in safetensors.read(folder / WEIGHTS).items()}


@pytest.mark.parametrize("settings", [{}, {"dora": True}, {"rslora": True}])
def test_merged_is_unmerged(paddock: Callable, tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = adapter(tmp_path / "adapter", 3, **settings)
    run = paddock("merge", "stories260K", "--adapter", folder, "--output", tmp_path / "merged", "--json")
    assert run.code == 0, run.err
    card = run.json["parity"]
    assert card["bound"] == 1e-5 and card["greedy_equal"] == card["greedy_steps"] > 0
    want = logits(bundled(), folder)
    assert (logits(tmp_path / "merged") - want).abs().max() <= 1e-5 * want.abs().max()
    assert (logits(bundled()) - want).abs().max() > 0.1
    before, after = tensors(bundled()), tensors(tmp_path / "merged")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj." in name}
    made = json.loads((tmp_path / "merged" / FILE).read_text())
    assert made["base"] == "stories260K" and made["adapters"][0]["name"] == str(folder)


def test_twice_is_refused_and_out_again_is_the_base(paddock: Callable, tmp_path: Path, one: Path) -> None:
    assert paddock("merge", "stories260K", "--adapter", one, "--output", tmp_path / "merged").code == 0
    again = paddock("merge", tmp_path / "merged", "--adapter", one, "--output", tmp_path / "again")
    assert again.code == 2 and "was merged into this model already" in again.err
    assert not (tmp_path / "again").exists()
    out = paddock("merge", tmp_path / "merged", "--adapter", one, "--subtract", "--output", tmp_path / "back")
    assert out.code == 0, out.err
    before, after = tensors(bundled()), tensors(tmp_path / "back")
    assert max((before[name] - after[name]).abs().max() for name in before) < 1e-6
    assert json.loads((tmp_path / "back" / FILE).read_text())["adapters"] == []
    assert paddock("merge", tmp_path / "back", "--adapter", one, "--output", tmp_path / "once-more").code == 0


def test_several_with_weights_and_their_sum_as_one(paddock: Callable, tmp_path: Path, one: Path, two: Path) -> None:
    both = ("--adapter", f"{one}=0.7", "--adapter", f"{two}=-0.3")
    run = paddock("merge", "stories260K", *both, "--output", tmp_path / "model")
    assert run.code == 0, run.err
    before, after = tensors(bundled()), tensors(tmp_path / "model")
    parts = [{n: s.load() for n, s in safetensors.read(each / WEIGHTS).items()} for each in (one, two)]
    for name, weight in before.items():
        for part, factor, rank in zip(parts, (0.7, -0.3), (3, 5), strict=True):
            key = "base_model.model." + name.removesuffix(".weight")
            if key + ".lora_A.weight" in part:
                weight = weight + factor * 16 / rank * part[key + ".lora_B.weight"] @ part[key + ".lora_A.weight"]
        torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-6)
    run = paddock("merge", "stories260K", *both, "--output", tmp_path / "sum", "--as-adapter")
    assert run.code == 0, run.err
    assert sorted(path.name for path in (tmp_path / "sum").iterdir()) == [CONFIG, WEIGHTS]
    want = logits(tmp_path / "model")
    assert (logits(bundled(), tmp_path / "sum") - want).abs().max() <= 1e-5 * want.abs().max()
    told = json.loads((tmp_path / "sum" / CONFIG).read_text())
    assert {told["r"], *told["rank_pattern"].values()} == {3, 8}


def test_a_quantised_base_becomes_numbers_and_it_is_said(paddock: Callable, tmp_path: Path, one: Path) -> None:
    assert paddock("quantize", "--to", "q8_0", "--output", tmp_path / "q.gguf", "--no-card").code == 0
    run = paddock("merge", tmp_path / "q.gguf", "--adapter", one, "--output", tmp_path / "merged")
    assert run.code == 2 and "was made for stories260K, and this model is" in run.err
    run = paddock("merge", tmp_path / "q.gguf", "--adapter", one, "--output", tmp_path / "merged", "--another-base")
    assert run.code == 0, run.err
    assert "dequantised" in run.err
    assert set(paddock("show", tmp_path / "merged", "--json").json["stored_as"]) <= {"float32", "float16", "bfloat16"}


def test_other_types_are_asked_for(paddock: Callable, tmp_path: Path, one: Path) -> None:
    run = paddock("merge", "stories260K", "--adapter", one, "--output", tmp_path / "m", "--dtype", "bfloat16")
    assert run.code == 0, run.err
    assert "rounded to the base's type" in run.out
    assert {tensor.dtype for tensor in tensors(tmp_path / "m").values()} == {torch.bfloat16}


BAD: list[tuple[list[str], int, str]] = [
    ([], 2, "there is no --adapter"),
    (["--adapter", "{one}"], 2, "there is no --output"),
    (["--adapter", "{one}=0", "-o", "out"], 2, "weight is 0"),
    (["--adapter", "{one}=nan", "-o", "out"], 2, "weight is nan"),
    (["--adapter", "{one}=much", "-o", "out"], 2, "FOLDER=WEIGHT"),
    (["--adapter", "{one}", "--adapter", "{one}=0.5", "-o", "out"], 2, "named twice"),
    (["--adapter", "{one}", "-o", "out", "--subtract", "--as-adapter"], 2, "writes none"),
    (["--adapter", "{one}", "-o", "out.gguf"], 2, "merge writes a folder"),
    (["--adapter", "{dora}", "--adapter", "{one}", "-o", "out"], 2, "magnitudes"),
    (["--adapter", "{dora}=0.5", "-o", "out"], 2, "magnitudes"),
    (["--adapter", "{base}", "-o", "out"], 3, "adapter_config.json"),
    (["--adapter", "nowhere", "-o", "out"], 3, "is no folder"),
    (["--adapter", "{wide}", "-o", "out"], 3, "made for a matrix of"),
    (["--adapter", "{foreign}", "-o", "out"], 2, "was made for meta/llama"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), BAD)
def test_what_cannot_be_meant(
    paddock: Callable, tmp_path: Path, one: Path, arguments: list[str], code: int, words: str, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"one": str(one), "base": str(bundled())}
    for key, settings in (("dora", {"dora": True}), ("foreign", {"base": "meta/llama"}), ("wide", {})):
        if any("{" + key in text for text in arguments):
            names[key] = str(adapter(tmp_path / key, 1, **settings))
    if "wide" in names:
        path = tmp_path / "wide" / WEIGHTS
        found = {name: stored.load().clone() for name, stored in safetensors.read(path).items()}
        name = next(name for name in found if name.endswith("lora_B.weight"))
        safetensors.write(path, found | {name: torch.zeros(65, 3)})
    run = paddock("merge", "stories260K", *(text.format(**names) for text in arguments))
    assert run.code == code and words in run.err, run.err
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".paddock*"))


def test_damaged_papers_are_refused(paddock: Callable, tmp_path: Path, one: Path) -> None:
    assert paddock("merge", "stories260K", "--adapter", one, "--output", tmp_path / "merged").code == 0
    for text in ("{", "[]", '{"base": 1}', '{"base": "x", "adapters": [{"name": "a"}]}', '{"adapters": 3, "base": ""}'):
        (tmp_path / "merged" / FILE).write_text(text)
        run = paddock("merge", tmp_path / "merged", "--adapter", one, "--output", tmp_path / "again", "--another-base")
        assert run.code == 3, (text, run.err)


def test_a_head_over_classes_comes_along(paddock: Callable, tmp_path: Path, bert: Path) -> None:
    """The base is a masked language model, the adapter a classifier's."""
    found = open_checkpoint(bert)
    names = {"id2label": {"0": "dull", "1": "lively"}, "label2id": {"dull": 0, "lively": 1}}
    config = {**found.config, **names, "architectures": ["BertForSequenceClassification"]}
    model, blank = class_heads.with_head(found.model("float32"), config)
    for name, parameter in model.named_parameters():
        if name in blank:
            parameter.data.normal_()
    tuned = LoRA().attach(Base(model, config, {}, "bert", frozenset(blank)), 0)
    for name, parameter in tuned.model.named_parameters():
        if name.endswith(".b"):
            parameter.data.normal_(0, 0.3)
    tuned.write(tmp_path / "adapter", tuned.model)
    for name, data in class_heads.described(config).items():
        (tmp_path / "adapter" / name).write_bytes(data)
    base = api.load(bert)
    text = "the cat sat ."
    want = [label.score for label in base.with_adapter(tmp_path / "adapter").classify(text)]
    run = paddock("merge", bert, "--adapter", tmp_path / "adapter", "--output", tmp_path / "merged")
    assert run.code == 0, run.err
    run = paddock("merge", bert, "--adapter", tmp_path / "adapter", "--output", tmp_path / "one", "--as-adapter")
    assert run.code == 0, run.err
    for model_ in (api.load(tmp_path / "merged"), base.with_adapter(tmp_path / "one")):
        labels = model_.classify(text)
        assert {label.name for label in labels} == {"dull", "lively"}
        assert [label.score for label in labels] == pytest.approx(want, abs=1e-6)
    half = paddock("merge", bert, "--adapter", f"{tmp_path / 'adapter'}=0.5", "--output", tmp_path / "half")
    assert half.code == 2 and "cannot be weighed" in half.err


def test_the_words_it_was_trained_in_come_along(paddock: Callable, tmp_path: Path, one: Path, two: Path) -> None:
    """A template and a tokenizer of the adapter's own, and what ends an answer of that template."""
    folders = [Path(shutil.copytree(each, tmp_path / each.name)) for each in (one, two)]
    for folder, mark in zip(folders, ("user: ", "you: "), strict=True):
        source = "{% for m in messages %}" + mark + "{{ m.content }}</s>{% endfor %}"
        (folder / "chat_template.jinja").write_text(source)
        shutil.copy(bundled() / "tokenizer.json", folder)
    both = [text for folder in folders for text in ("--adapter", folder)]
    run = paddock("merge", "stories260K", *both, "--output", tmp_path / "merged")
    assert run.code == 0 and "different chat templates; that of one is taken" in run.err, run.err
    written = (tmp_path / "merged/chat_template.jinja").read_text()
    assert written == (folders[0] / "chat_template.jinja").read_text()
    assert api.load(tmp_path / "merged").chat([{"role": "user", "content": "Hi"}], max_new_tokens=3).ids
    for more in ([], ["--force"]):
        assert paddock("merge", "stories260K", *both, "--output", tmp_path / "sum", "--as-adapter", *more).code == 0
    assert (tmp_path / "sum/chat_template.jinja").read_text() == written
    assert (tmp_path / "sum/tokenizer.json").is_file()
    table = json.loads((folders[1] / "tokenizer.json").read_text())
    table["normalizer"]["normalizers"].pop(0)  # no space before the first word
    (folders[1] / "tokenizer.json").write_text(json.dumps(table))
    run = paddock("merge", "stories260K", *both, "--output", tmp_path / "other")
    assert run.code == 2 and "different tokenizers" in run.err, run.err
