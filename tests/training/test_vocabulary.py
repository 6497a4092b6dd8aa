"""Models with more tokens: the old ones say what they said."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from paddock.data.batch import Batch
from paddock.errors import UsageError
from paddock.model.families import describe
from paddock.model.transformer import Transformer
from paddock.training.vocabulary import grow

LLAMA = {
    "model_type": "llama", "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 32,
}  # fmt: skip
T5 = {
    "model_type": "t5", "vocab_size": 40, "d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 1, "num_heads": 2,
    "relative_attention_num_buckets": 8,
}  # fmt: skip


def model(config: dict[str, Any]) -> Transformer:
    made = Transformer(describe(config))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3)
    return made.eval()


@pytest.mark.parametrize("tied", [True, False])
def test_old_logits_stay_and_new_rows_are_means(tied: bool) -> None:
    config = {**LLAMA, "tie_word_embeddings": tied}
    old = model(config)
    new, changed = grow(old, config, 38, [[1, 2], [5], [3, 4, 9], [], [7, 7, 8]])
    assert changed == {**config, "vocab_size": 43} and new.architecture.vocabulary == 43
    ids = torch.randint(0, 38, (2, 12))
    step = Batch(ids, ids).step(old.architecture)
    with torch.no_grad():
        assert torch.equal(new(ids, step)[..., :38], old(ids, step)[..., :38])
        before, after = old.embedding.tokens.weight, new.embedding.tokens.weight
        assert torch.equal(after[38], before[[1, 2]].mean(0)) and torch.equal(after[39], before[5])
        assert torch.allclose(after[41], before[:38].mean(0)) and torch.isfinite(after).all()
        if not tied:
            assert torch.equal(new.head.weight[40], old.head.weight[[3, 4, 9]].mean(0))
    kept = {name: each for name, each in old.named_parameters() if "tokens" not in name and name != "head.weight"}
    assert all(torch.equal(dict(new.named_parameters())[name], each) for name, each in kept.items())


def test_rows_kept_free_are_used_first() -> None:
    old = model(LLAMA)
    new, changed = grow(old, LLAMA, 30, [[1, 2]])
    assert changed == LLAMA and torch.equal(
        new.embedding.tokens.weight[30], old.embedding.tokens.weight[[1, 2]].mean(0)
    )
    assert torch.equal(new.embedding.tokens.weight[31:], old.embedding.tokens.weight[31:])
    assert not torch.equal(new.embedding.tokens.weight[30], old.embedding.tokens.weight[30])


def test_an_embedding_that_two_stacks_share() -> None:
    old = model(T5)
    new, _ = grow(old, T5, 40, [[1]])
    assert new.encoder is not None and new.encoder.embedding.tokens is new.embedding.tokens
    assert torch.equal(new.embedding.tokens.weight[40], old.embedding.tokens.weight[1])


def test_another_tokenizer_is_refused() -> None:
    old = model(LLAMA)
    for first, spelled in ((41, []), (38, [[38]]), (38, [[-1]])):
        with pytest.raises(UsageError, match="the model's own tokenizer"):
            grow(old, LLAMA, first, spelled)
