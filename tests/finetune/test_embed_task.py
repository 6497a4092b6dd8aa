"""Vectors of texts that belong together: groups, the loss beside sentence-transformers', and the folder it reads."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_readers import asked, prepared, write_reader

import paddock
from paddock.data.preparing.contrastive import grouped
from paddock.engine.pooling import read_pooling
from paddock.errors import DataError, PaddockError, UsageError
from paddock.finetune.stage import finetune
from paddock.training.journal import read as read_journal
from paddock.training.loop import learning
from paddock.training.metrics import Metrics
from paddock.training.parallel import Alone
from paddock.training.run import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore")  # the oracle's own
CPU = Alone(torch.device("cpu"))
WORDS = ("the", "cat", "dog", "sat", "good", "bad", "film")
PAIRS = [(f"a {a} {b}", f"{b} {a} .") for a, b in itertools.permutations(WORDS, 2)]
EMBED = {"name": "embed", "group": 8}
READ = {"data": {"format": "pairs"}}


def write_pairs(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text("".join(json.dumps({"source": a, "target": b}) + "\n" for a, b in pairs))
    return path


@pytest.mark.parametrize(("name", "pooling"), [("bert", "mean"), ("bert", "cls"), ("llama", "last")])
def test_loss_and_vectors_equal_sentence_transformers(name: str, pooling: str, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model = write_reader(tmp_path / "base", name)
    examples = write_pairs(tmp_path / "x.jsonl", PAIRS[:16])
    task = {**EMBED, "pooling": pooling, "normalise": pooling == "mean"}
    made = prepared(model, examples, task, training={"batch": 2}, **READ)
    made.publish(tmp_path / "start", made.tuned.model)
    theirs = SentenceTransformer(str(tmp_path / "start"), device="cpu")
    theirs[0].auto_model.eval()
    if name == "llama":
        theirs.tokenizer.pad_token = theirs.tokenizer.unk_token
    texts = [text for pair in PAIRS[:3] for text in pair]
    ours = paddock.load(tmp_path / "start")
    assert ours.pooling.mode == pooling and ours.pooling.normalise == (pooling == "mean")
    # Without the tokenizer's wrapping of one list of texts, which differs between versions
    found = np.stack([theirs.encode(text) for text in texts])
    assert np.abs(found - ours.embed(texts).numpy()).max() <= 1e-5

    batch, trainer = made.train.at(0), made.trainer(CPU)
    with learning(trainer.model, trainer.learns):
        sums = trainer.sums(batch)
        assert sums.count == batch.supervised == 16
        (sums.total / sums.count).backward()
        whole = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
        trainer.model.zero_grad()
        for piece in batch.split(1):
            (trainer.sums(piece).total / batch.supervised).backward()
        for n, p in trainer.model.named_parameters():
            assert p.grad is None or float((p.grad - whole[n]).abs().max()) <= 1e-6, n

    judge = MultipleNegativesRankingLoss(theirs, scale=20)
    losses = []
    for row in batch.split(1):
        ids, real = (part.view(16, -1) for part in (row.ids, row.padding))  # type: ignore[union-attr]
        sides = [{"input_ids": ids[half], "attention_mask": real[half].long()} for half in (slice(8), slice(8, 16))]
        losses.append(judge(sides, None))
    loss = sum(losses) / 2
    assert float(sums.total) / 16 == pytest.approx(float(loss), abs=1e-5)
    loss.backward()
    theirs_grad = dict(theirs[0].auto_model.named_parameters())
    key = "embeddings.word_embeddings.weight" if name == "bert" else "embed_tokens.weight"
    assert float((whole["embedding.tokens.weight"] - theirs_grad[key].grad).abs().max()) <= 1e-5


def test_groups_hold_no_text_twice_and_depend_on_the_seed_alone() -> None:
    pairs = [(f"q{n % 40}", f"a{n}") for n in range(100)]
    groups = grouped(pairs, 8, 3)
    assert groups == grouped(pairs, 8, 3) != grouped(pairs, 8, 4)
    for group in groups:
        assert len(group) == 8 and len({text for number in group for text in pairs[number]}) == 16
    used = [number for group in groups for number in group]
    assert len(used) == len(set(used)) >= 80
    assert grouped([("q", "a")] * 5000, 2, 0) == [] and grouped([], 2, 0) == []


def test_a_run_brings_pairs_together_and_is_measured(tmp_path: Path) -> None:
    model = write_reader(tmp_path / "base", "bert")
    train, kept = (write_pairs(tmp_path / f"{n}.jsonl", part) for n, part in (("t", PAIRS[:32]), ("k", PAIRS[32:])))
    recipe = asked(
        model,
        train,
        EMBED,
        data={"format": "pairs", "validation": [str(kept)]},
        training={"batch": 2, "steps": 20, "evaluate_every": 1, "optimizer": {"learning_rate": 2e-3}},
    )
    final = finetune(recipe, Path(), tmp_path / "run", CPU, watching=lambda p, t: [Metrics(t, measure=p.measure)])
    log = list(read_journal(RunFolder(tmp_path / "run").metrics))
    first, last = log[0]["validation"], log[-1]["validation"]
    assert last["loss"] < first["loss"] and last["targets"] == 8 and last["chance"] == 1 / 8
    assert 0 <= last["accuracy"] <= last["reciprocal_rank"] <= 1
    assert log[-1]["parts"]["accuracy"] >= log[0]["parts"]["accuracy"]
    config = json.loads((final / "config.json").read_text())
    assert config["architectures"] == ["BertModel"] and read_pooling(final).mode == "mean"


def test_the_files_of_a_model_stay_as_they_are(tmp_path: Path) -> None:
    model = write_reader(tmp_path / "base", "bert")
    (model / "1_Pooling").mkdir()
    flags = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True}
    (model / "1_Pooling/config.json").write_text(json.dumps(flags))
    modules = [{"path": "", "type": "st.Transformer"}, {"path": "1_Pooling", "type": "st.Pooling"}]
    (model / "modules.json").write_text(json.dumps(modules))
    made = prepared(model, write_pairs(tmp_path / "x.jsonl", PAIRS), EMBED, **READ)
    assert json.loads(made.asked.files["modules.json"]) == modules
    assert any("cls" in line for line in made.asked.told)
    again = prepared(model, tmp_path / "x.jsonl", {**EMBED, "pooling": "mean"}, **READ)
    assert json.loads(again.asked.files["1_Pooling/config.json"])["pooling_mode_mean_tokens"] is True


BAD: dict[str, tuple[list[tuple[str, str]], dict[str, Any], type[PaddockError], str]] = {
    "too few": (PAIRS[:5], {}, DataError, "5 pairs make no group of 8"),
    "one answer": ([(a, "the film") for a, _ in PAIRS], {}, DataError, "without a text that comes twice"),
    "too long": ([("a cat", "the dog " * 20)], {}, DataError, r"x\.jsonl:1: a text of 42 tokens; expected at most 32"),
    "longer than the model": (PAIRS, {"data": {"format": "pairs", "length": 64}}, UsageError, "this bert reads 48"),
}


@pytest.mark.parametrize("case", BAD)
def test_pairs_that_cannot_be_meant(case: str, tmp_path: Path) -> None:
    pairs, changed, error, words = BAD[case]
    model = write_reader(tmp_path / "base", "bert")
    with pytest.raises(error, match=words):
        prepared(model, write_pairs(tmp_path / "x.jsonl", pairs), EMBED, **{**READ, **changed})


def test_texts_that_are_cut_or_dropped(tmp_path: Path) -> None:
    model = write_reader(tmp_path / "base", "bert")
    examples = write_pairs(tmp_path / "x.jsonl", [*PAIRS[:17], ("a", "the dog " * 20)])
    cut = prepared(model, examples, EMBED, data={"format": "pairs", "too_long": "cut"})
    assert any("1 pairs with a text cut to 32 tokens" in line for line in cut.asked.told)
    drop = prepared(model, examples, EMBED, data={"format": "pairs", "too_long": "drop"})
    assert len(drop.train.table) == 2 and any("1 pairs that filled none" in line for line in drop.asked.told)
    assert any("1 pairs with a text over 32 tokens are left out" in line for line in drop.asked.told)
