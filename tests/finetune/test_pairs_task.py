"""Translation and summarisation: what is learned of a pair, that transformers agrees, and what comes of it."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from pair_models import PAIRS, vocabulary, write

from paddock.checkpoint.weights import published
from paddock.data.batch import IGNORED, Batch
from paddock.data.instruct.records import Origin, Pair, Text
from paddock.data.preparing.supervised import ids_of
from paddock.engine.loading import load
from paddock.errors import DataError, UsageError
from paddock.finetune.generating import Answering, answers
from paddock.finetune.recipe import FineTuning
from paddock.finetune.stage import Prepared, finetune, prepare
from paddock.finetune.tasks.pair_rows import Room, Spelling, rows
from paddock.model.families import family
from paddock.training import journal
from paddock.training.parallel import Alone

THEIRS = {"t5": hf.T5ForConditionalGeneration, "marian": hf.MarianMTModel, "llama": hf.LlamaForCausalLM}
CPU = Alone(torch.device("cpu"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each family; T5's tokenizer puts an end behind a source, Marian's none."""
    there = tmp_path_factory.mktemp("models")
    open_, closed = vocabulary(), vocabulary(add_eos=True)
    found = {name: write(there / name, name, closed if name == "t5" else open_) for name in THEIRS}
    return found | {"gpt2": write(there / "gpt2", "gpt2", vocabulary("bpe", 340, "pad=<pad>"))}


def examples(path: Path, pairs: list[tuple[str, str]] = PAIRS) -> Path:
    lines = [json.dumps({"source": source, "target": target}) for source, target in pairs]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def recipe(model: Path, files: Path, task: dict[str, Any] | None = None, **changed: Any) -> FineTuning:
    values = {
        "model": str(model),
        "task": {"name": "translate", **(task or {})},
        "data": {"files": [str(files)], "length": 48, "validation": 0.0, **changed.pop("data", {})},
        "training": {"steps": 1, "batch": 6, "precision": "float32", **changed.pop("training", {})},
        **changed,
    }
    return FineTuning.model_validate(values)


def opened(path: Path, name: str, dtype: torch.dtype = torch.float64) -> Any:
    return THEIRS[name].from_pretrained(path, dtype=dtype).eval()


def learned(prepared: Prepared, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    """Our mean loss and its gradients by their published names, in float64 but for T5, whose bias is float32's."""
    model = prepared.tuned.model
    model = model if model.architecture.family == "t5" else model.double()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    sums = prepared.asked.loss(model, batch, batch.step(model.architecture))
    (sums.total / sums.count).backward()
    values = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        found = {
            each.name: each.tensor().clone()
            for each in published(model, family(dict(prepared.opened.base.config)).RULES)
        }
        for name, parameter in model.named_parameters():
            parameter.copy_(values[name])
    return float(sums.total.detach()) / sums.count, found


def check_gradients(ours: dict[str, torch.Tensor], theirs: Any, most: float) -> None:
    named = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    compared = 0
    for name, gradient in ours.items():
        if name in named:
            apart = (gradient - named[name].view(gradient.shape)).norm() / named[name].norm().clamp(min=1e-6)
            assert apart < most, f"{name}: {apart:.1e}"
            compared += 1
    assert compared >= 20


@pytest.mark.parametrize("name", ["t5", "marian"])
def test_loss_and_gradients_of_an_encoder_decoder(name: str, models: dict[str, Path], tmp_path: Path) -> None:
    """Padded rows; what transformers is given is spelt here anew, from the texts."""
    task = {"prefix": "a road: "}
    prepared = prepare(
        recipe(models[name], examples(tmp_path / "pairs.jsonl"), task, data={"shuffle": False}), tmp_path
    )
    tokenizer = prepared.opened.tokenizer
    batch = prepared.train.at(0)
    assert batch.source_padding is not None and not batch.source_padding.all()
    sources = [tokenizer.encode("a road: " + source) for source, _ in PAIRS[:6]]
    assert (sources[0][-1] == tokenizer.eos_ids[0]) == (name == "t5")
    targets = [[*tokenizer.encode(target, add_special=False), tokenizer.eos_ids[0]] for _, target in PAIRS[:6]]
    wide, high = (max(map(len, texts)) for texts in (sources, targets))
    ids = torch.tensor([[*text, *[tokenizer.pad_id] * (wide - len(text))] for text in sources])
    mask = torch.tensor([[1] * len(text) + [0] * (wide - len(text)) for text in sources])
    labels = torch.tensor([[*text, *[IGNORED] * (high - len(text))] for text in targets])
    other = opened(models[name], name, torch.float32 if name == "t5" else torch.float64)
    logits = other(input_ids=ids, attention_mask=mask, labels=labels).logits
    loss = torch.nn.functional.cross_entropy(logits[labels != IGNORED], labels[labels != IGNORED])
    loss.backward()
    ours, gradients = learned(prepared, batch)
    assert ours == pytest.approx(float(loss.detach()), rel=1e-6)
    check_gradients(gradients, other, 1e-5)


@pytest.mark.parametrize("packing", ["single", "fit"])
def test_loss_and_gradients_of_a_decoder(packing: str, models: dict[str, Path], tmp_path: Path) -> None:
    """Only the target and its end are asked for, padded or packed; transformers reads each pair by itself."""
    task = {"between": " => ", "packing": packing}
    training = {"batch": 20 if packing == "single" else 3}
    asked = recipe(models["llama"], examples(tmp_path / "p.jsonl"), task, training=training, data={"length": 63})
    prepared = prepare(asked, tmp_path)
    tokenizer, table = prepared.opened.tokenizer, prepared.train.table
    assert len(table) == 20 if packing == "single" else len(table) < 12
    whole = BatchOf(prepared, range(len(table)))
    other = opened(models["llama"], "llama")
    total, count = torch.zeros((), dtype=torch.float64), 0
    for source, target in PAIRS:
        before = tokenizer.encode(f"{source} => ")
        after = [*tokenizer.encode(target, add_special=False), tokenizer.eos_ids[0]]
        labels = torch.tensor([[IGNORED] * len(before) + after])
        logits = other(torch.tensor([before + after])).logits[:, :-1]
        total = total + torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum", ignore_index=IGNORED
        )
        count += len(after)
    (total / count).backward()
    ours, gradients = learned(prepared, whole.batch)
    assert whole.batch.supervised == count
    assert ours == pytest.approx(float(total.detach()) / count, rel=1e-7)
    check_gradients(gradients, other, 1e-6)  # sines of positions are float32 in both


class BatchOf:
    """Rows of a table as one batch."""

    def __init__(self, prepared: Prepared, numbers: range) -> None:
        stream = prepared.train
        self.batch = next(iter(type(stream)(stream.table, stream.prepare, len(numbers), 0, False).once()))


def test_what_is_learned_is_the_target_and_its_end(models: dict[str, Path], tmp_path: Path) -> None:
    for name in ("llama", "t5", "gpt2"):
        task = {"packing": "single"} if name != "t5" else {}
        prepared = prepare(
            recipe(models[name], examples(tmp_path / "p.jsonl"), task, data={"shuffle": False}), tmp_path
        )
        tokenizer = prepared.opened.tokenizer
        batch = prepared.train.at(1)
        for row, (source, target) in zip(range(batch.rows), PAIRS[6:12], strict=True):
            asked = batch.targets[row][batch.targets[row] != IGNORED].tolist()
            assert asked == [*tokenizer.encode(target, add_special=False), tokenizer.eos_ids[0]]
            assert tokenizer.decode(asked) == target
            read = batch.source[row] if batch.source is not None else batch.ids[row]
            assert source in tokenizer.decode(read.tolist())


def test_a_prompt_is_what_generate_would_read(models: dict[str, Path], tmp_path: Path) -> None:
    for name, path in models.items():
        model = load(path)
        prepared = prepare(recipe(path, examples(tmp_path / "p.jsonl"), {"prefix": "old: "}), tmp_path)
        between = "" if name in ("t5", "marian") else "\n"
        spelling = Spelling(prepared.opened.tokenizer, between == "", model.planner.ends, "old: ", between)
        assert spelling.prompts(["two dogs"]) == [list(model.planner.ids(f"old: two dogs{between}"))]


@pytest.mark.parametrize("name", ["t5", "llama", "gpt2"])
def test_answers_are_those_of_generate(name: str, models: dict[str, Path]) -> None:
    """Prompts of many lengths side by side, beside each alone through the engine."""
    model = load(models[name])
    tokenizer = model.tokenizer
    prompts = [model.planner.ids(" ".join(source for source, _ in PAIRS[:count])) for count in (1, 3, 2, 1, 4)]
    start = model.checkpoint.config.get("decoder_start_token_id")
    how = Answering(model.planner.ends, start, 9, len(tokenizer))
    state = torch.random.get_rng_state()
    found = answers(model.model, prompts, how)
    assert torch.equal(state, torch.random.get_rng_state())
    for prompt, answer in zip(prompts, found, strict=True):
        alone = model.generate(prompt, max_new_tokens=9, temperature=0)
        ids = [id for id in alone.ids if id not in model.planner.ends]
        assert list(answer.ids) == ids and answer.ended == (alone.finish_reason == "stop")


@pytest.mark.parametrize("method", ["lora", "adapter-v2", "prompt"])
def test_adapters_answer_too(method: str, models: dict[str, Path], tmp_path: Path) -> None:
    """A base in bfloat16 with learned parts in float32, or with tokens of its own before the text."""
    data = examples(tmp_path / "p.jsonl", PAIRS[:4])
    held, training = {"validation": [str(data)]}, {"precision": "bfloat16"}
    asked = recipe(models["llama"], data, data=held, training=training, method={"name": method})
    prepared = prepare(asked, tmp_path)
    assert prepared.measure is not None
    trainer = prepared.trainer(CPU)
    record = prepared.measure(trainer)
    assert {p.dtype for p in trainer.model.parameters()} == {torch.bfloat16, torch.float32}
    assert record["answered"] == 4 and 0 <= record["bleu"] <= 100


@pytest.mark.parametrize("name", ["t5", "llama"])
def test_twenty_pairs_are_learned_by_heart(name: str, models: dict[str, Path], tmp_path: Path) -> None:
    """The loss goes to near 0, and the written model reproduces the targets and stops."""
    data = examples(tmp_path / "pairs.jsonl")
    rate = {"t5": 1e-2, "llama": 8e-3}[name]
    training = {
        "steps": 70,
        "batch": 20 if name == "t5" else 7,
        "optimizer": {"learning_rate": rate, "weight_decay": 0.0},
        "schedule": {"warmup": 5},
        "evaluate_every": 70,
        "checkpoints": "every:70",
    }
    held = {"validation": [str(data)], "shuffle": name == "llama"}
    asked = recipe(models[name], data, {"answers": 20, "samples": 2}, training=training, data=held)

    def watching(prepared: Prepared, trainer: Any) -> list[Any]:
        from paddock.training.metrics import Metrics

        return [Metrics(trainer, measure=prepared.measure)]

    final = finetune(asked, tmp_path, tmp_path / "run", CPU, watching=watching)
    records = [record for record in journal.read(tmp_path / "run" / "metrics.jsonl") if "loss" in record]
    score = records[-1]["validation"]
    assert records[-1]["loss"] < 0.1 and score["loss"] < 0.1
    assert score["bleu"] == pytest.approx(100) and score["chrf"] == pytest.approx(100)
    assert (score["answered"], score["ended"]) == (20, 1.0)
    assert score["baseline"]["bleu"] < 20
    assert score["texts"][0] == {"source": PAIRS[0][0], "reference": PAIRS[0][1], "output": PAIRS[0][1]}
    model = load(final)
    between = "" if name == "t5" else "\n"
    for source, target in PAIRS[:5]:
        told = model.generate(source + between, temperature=0, max_new_tokens=30)
        assert (told.text.strip(), told.finish_reason) == (target, "stop")


def test_summaries_are_scored_by_rouge_beside_the_first_sentence(models: dict[str, Path], tmp_path: Path) -> None:
    pairs = [(f"{source}. {other.capitalize()}.", source) for (source, _), (other, _) in pairwise(PAIRS)]
    data = examples(tmp_path / "p.jsonl", pairs)
    held = {"validation": [str(data)]}
    prepared = prepare(recipe(models["t5"], data, {"name": "summarise", "answers": 5}, data=held), tmp_path)
    assert prepared.measure is not None
    record = prepared.measure(prepared.trainer(CPU))
    assert record["baseline"] == {
        "rouge1": pytest.approx(100),
        "rouge2": pytest.approx(100),
        "rouge_l": pytest.approx(100),
    }
    assert record["rouge1"] < 50 and record["answered"] == 5 and len(record["texts"]) == 3
    assert record["loss"] > 0 and record["targets"] > 19 * 2


def pair(source: str, target: str, place: str = "f, line 1") -> Pair:
    return Pair(source, target, Origin(place))


def spelt(room: Room, some: list[Any], encodes: bool = False) -> tuple[list[Any], Counter[str]]:
    tokenizer, counts = vocabulary(), Counter[str]()
    return rows(
        some, Spelling(tokenizer, encodes, tokenizer.eos_ids, "", "" if encodes else " the"), room, counts
    ), counts


def test_what_is_too_long_or_empty() -> None:
    long = " ".join(source for source, _ in PAIRS)
    some = [pair("a red house", "it rains"), pair(" ", "x"), pair("a", "\n"), pair(long, "it rains", "g, line 9")]
    for encodes, room in ((True, {"each": 20}), (False, {"both": 21})):
        kept, counts = spelt(Room("drop", **room), some, encodes)
        assert (len(kept), counts["empty side"], counts["too long"]) == (1, 2, 1)
        with pytest.raises(DataError, match=r"1 of 4 pairs are too long; the longest, g, line 9") as refused:
            spelt(Room("refuse", **room), some, encodes)
        assert "data.length=" in str(refused.value)
        kept, counts = spelt(Room("cut", **room), some, encodes)
        assert (len(kept), counts["source cut"]) == (2, 1)
        cut = kept[1]
        assert long.startswith(cut.pair.source) and len(cut.pair.source) > 10
        assert len(cut.prompt) <= Room("cut", **room).most(len(cut.target))
        text = vocabulary().decode(ids_of(cut.prompt).tolist())
        assert text.endswith(" the") or encodes  # the frame around the source is not cut
    kept, counts = spelt(Room("cut", both=21), [pair("it rains", long), pair("a car", "x")])
    assert len(kept) == 1 and counts["too long"] == 1  # a target is never cut


def test_the_length_that_a_refusal_names_suffices(models: dict[str, Path], tmp_path: Path) -> None:
    data = examples(tmp_path / "p.jsonl")
    for name in ("t5", "llama"):
        with pytest.raises(DataError) as refused:
            prepare(recipe(models[name], data, data={"length": 8}), tmp_path)
        length = int(str(refused.value).split("data.length=")[1].split()[0])
        assert len(prepare(recipe(models[name], data, data={"length": length}), tmp_path).train.table)
        with pytest.raises(DataError):
            prepare(recipe(models[name], data, data={"length": length - 1}), tmp_path)


def test_what_cannot_be_asked(models: dict[str, Path], tmp_path: Path) -> None:
    data = examples(tmp_path / "p.jsonl")
    with pytest.raises(UsageError, match="keeps source and target apart by itself"):
        prepare(recipe(models["t5"], data, {"between": " "}), tmp_path)
    with pytest.raises(UsageError, match="rows of 65 tokens, but this llama reads 64"):
        prepare(recipe(models["llama"], data, data={"length": 65}), tmp_path)
    endless = write(tmp_path / "endless", "llama", vocabulary("bpe", 300, "bos=<s>", "eos="))
    with pytest.raises(UsageError, match="no token that ends a text"):
        prepare(recipe(endless, data), tmp_path)
    with pytest.raises(DataError, match="no pair is left to train on"):
        prepare(recipe(models["t5"], data, data={"length": 2, "too_long": "drop"}), tmp_path)
    with pytest.raises(DataError, match="a text") as refused:
        spelt(Room("drop", each=9), [Text("a house", Origin("f, line 3"))])
    assert "f, line 3" in str(refused.value)


def test_files_of_lines_go_together_or_not_at_all(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("a house\n\ntwo dogs\nit rains\n", encoding="utf-8")
    (tmp_path / "a.de").write_text("ein Haus\nleer\nzwei Hunde\nes regnet\n", encoding="utf-8")
    (tmp_path / "b.de").write_text("ein Haus\nzwei Hunde\n", encoding="utf-8")
    told: list[str] = []
    asked = recipe(models["t5"], tmp_path / "a.en", data={"second": [str(tmp_path / "a.de")], "shuffle": False})
    prepared = prepare(asked, tmp_path, told.append)
    assert len(prepared.train.table) == 3 and "empty source" in " ".join(told)
    written = [prepared.opened.tokenizer.decode(prepared.train.table.texts(n)[1].tolist()) for n in range(3)]
    assert written == ["ein Haus", "zwei Hunde", "es regnet"]
    with pytest.raises(DataError, match=r"b\.de has 2 lines, and .*a\.en 4"):
        prepare(recipe(models["t5"], tmp_path / "a.en", data={"second": [str(tmp_path / "b.de")]}), tmp_path)


def test_a_tokenizer_without_padding(tmp_path: Path) -> None:
    """Nothing looks at padding, and nothing is asked of it."""
    path = write(tmp_path / "m", "llama", vocabulary("bpe", 300, "bos=<s>", "eos=</s>"))
    prepared = prepare(recipe(path, examples(tmp_path / "p.jsonl"), {"packing": "single"}), tmp_path)
    assert prepared.opened.tokenizer.pad_id is None
    batch = prepared.train.at(0)
    after = np.array([row.tolist() for row in batch.targets])
    assert (after == IGNORED).any() and batch.supervised == (after != IGNORED).sum()
