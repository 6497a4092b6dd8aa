"""Perplexity beside a float64 computation, transformers' own loss (and beside llama.cpp in tests/cli)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import paddock
from paddock.checkpoint import folder
from paddock.engine.language_model import LanguageModel
from paddock.errors import DataError, PaddockError, UnsupportedError, UsageError
from paddock.evaluate.perplexity import perplexity
from paddock.model.families import describe
from paddock.model.transformer import Transformer

TEXT = (
    "Once upon a time, there was a little dog. He liked to run in the park and play with his ball. "
    "One day, he saw a big cat on a tree. The cat was sad, so the dog helped her to get down."
)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return paddock.load()


def losses(model: LanguageModel, read: list[int]) -> np.ndarray:
    """-log p of read[1:] in float64 by NumPy."""
    logits = model.logits(read).numpy().astype(np.float64)[:-1]
    logits -= logits.max(1, keepdims=True)
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(read) - 1), read[1:]]


def test_one_window_is_the_mean_of_all_losses(model: LanguageModel) -> None:
    ids = model.tokenizer.encode(TEXT)
    wanted = losses(model, ids)
    found = perplexity(model, TEXT)
    assert found.tokens == len(ids) - 1 == len(wanted) and found.windows == 1 and found.left_out == 0
    assert found.value == pytest.approx(math.exp(wanted.mean()), rel=1e-6)
    assert found.stderr == pytest.approx(found.value * wanted.std(ddof=1) / math.sqrt(len(wanted)), rel=1e-6)
    assert found.bits_per_token == pytest.approx(wanted.mean() / math.log(2), rel=1e-6)
    assert found.bytes is not None and abs(found.bytes - len(TEXT)) <= 1  # the blank some vocabularies put in front
    assert found.bits_per_byte == pytest.approx(wanted.sum() / math.log(2) / found.bytes, rel=1e-6)


@pytest.mark.parametrize(("context", "stride"), [(16, 4), (16, 15), (16, 8), (10, 7), (33, 1)])
def test_sliding_windows_score_each_token_once(model: LanguageModel, context: int, stride: int) -> None:
    ids = model.tokenizer.encode(TEXT)
    wanted, at = [], 1
    for start in range(0, len(ids), stride):
        if at < len(ids):
            part = losses(model, ids[start : start + context])
            wanted += list(part[at - start - 1 :])
            at = start + len(part) + 1
    assert len(wanted) == len(ids) - 1
    found = perplexity(model, TEXT, context, stride)
    assert found.tokens == len(wanted)
    assert found.nll == pytest.approx(np.mean(wanted), rel=1e-5)


@pytest.mark.parametrize("context", [16, 17, 30])
def test_chunks_score_the_second_half_after_bos(model: LanguageModel, context: int) -> None:
    ids = model.tokenizer.encode(TEXT)
    wanted = []
    for start in range(0, len(ids) - context + 1, context):
        read = [model.tokenizer.bos_id, *ids[start + 1 : start + context]]
        wanted += list(losses(model, read)[context // 2 :])
    found = perplexity(model, TEXT, context, chunks=True)
    assert found.windows == len(ids) // context > 1 and found.left_out == len(ids) % context
    assert found.tokens == len(wanted) == found.windows * (context - context // 2 - 1)
    assert found.nll == pytest.approx(np.mean(wanted), rel=1e-5)
    assert found.stderr == pytest.approx(found.value * np.std(wanted, ddof=1) / math.sqrt(len(wanted)), rel=1e-5)


def test_transformers_gives_the_same_loss(model: LanguageModel, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model.save(tmp_path)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([model.tokenizer.encode(TEXT)])
    with torch.no_grad():
        loss = oracle(ids, labels=ids).loss.item()
    assert perplexity(model, TEXT).nll == pytest.approx(loss, rel=1e-5)


def test_ids_are_as_good_as_text(model: LanguageModel) -> None:
    ids = model.tokenizer.encode(TEXT)
    assert perplexity(model, ids) == perplexity(model, torch.tensor(ids)) == perplexity(model, TEXT)


def test_progress_is_told(model: LanguageModel) -> None:
    told: list[tuple[int, int, float]] = []
    found = perplexity(model, TEXT, 16, 8, on_window=lambda *at: told.append(at))
    assert [at[0] for at in told] == list(range(1, found.windows + 1)) and {at[1] for at in told} == {found.windows}
    assert told[-1][2] == found.value != told[0][2]


def test_a_model_that_knows_nothing_costs_the_vocabulary(tmp_path: Path) -> None:
    made = tiny(tmp_path, zero=True)
    found = perplexity(made, [1, 2, 3, 4, 5, 6, 7], 4)
    assert found.value == pytest.approx(64) and found.stderr == pytest.approx(0, abs=1e-4)
    assert found.bytes is None and found.bits_per_byte is None


def tiny(path: Path, zero: bool = False, **more: object) -> LanguageModel:
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 64, "hidden_size": 16,
        "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32,
        "rms_norm_eps": 1e-5,
    } | more  # fmt: skip
    made = Transformer(describe(config))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_() if zero else parameter.normal_(0, 0.3)
    folder.write(path, made, config)
    return paddock.load(path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"context": 3}, "context is 3"),
        ({"context": True}, "context is True"),
        ({"context": 513}, "at most 512, this model's context"),
        ({"stride": 0}, "stride is 0"),
        ({"context": 16, "stride": 16}, "so that no token is lost"),
        ({"stride": 4, "chunks": True}, "chunks do not overlap"),
    ],
)
def test_windows_that_cannot_be_meant(model: LanguageModel, settings: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        perplexity(model, TEXT, **settings)


@pytest.mark.parametrize(("text", "chunks"), [("", False), (" \n", False), ([1], False), ("Once upon", True)])
def test_too_little_text(model: LanguageModel, text: str | list[int], chunks: bool) -> None:
    with pytest.raises(DataError, match=r"empty|at least"):
        perplexity(model, text, chunks=chunks)


def test_several_texts_are_refused(model: LanguageModel) -> None:
    with pytest.raises(UsageError, match="2 texts"):
        perplexity(model, [[1, 2, 3], [1, 2, 4]])


def test_logits_that_are_no_numbers(tmp_path: Path) -> None:
    made = tiny(tmp_path)
    with torch.no_grad():
        made.model.embedding.tokens.weight[5] = math.nan
    with pytest.raises(PaddockError, match="not numbers"):
        perplexity(made, [1, 2, 5, 3, 4])


def test_encoders_are_refused(tmp_path: Path) -> None:
    config = {
        "model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 64, "hidden_size": 16,
        "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 40,
        "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    }  # fmt: skip
    with pytest.raises(UnsupportedError, match="no perplexity"):
        perplexity(tiny_of(config, tmp_path), [1, 2, 3])


def tiny_of(config: dict, path: Path) -> LanguageModel:
    folder.write(path, Transformer(describe(config)), config)
    return paddock.load(path)


def test_encoder_decoders_are_refused(tmp_path: Path) -> None:
    config = {
        "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 64, "d_model": 16,
        "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 16, "feed_forward_proj": "relu", "tie_word_embeddings": True,
        "is_encoder_decoder": True, "decoder_start_token_id": 0, "eos_token_id": 2, "layer_norm_epsilon": 1e-6,
    }  # fmt: skip
    with pytest.raises(UnsupportedError, match="source text"):
        perplexity(tiny_of(config, tmp_path), [1, 2, 3])
