"""GLM's blanks that are whole sentences: where those end, by real vocabularies, and which mask they get."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paddock.data.preparing.sentences import sentences
from paddock.data.samples import Sample
from paddock.model.step import blank_positions
from paddock.pretrain.starting import start
from paddock.tokenizer.training.plan import Plan
from paddock.tokenizer.training.training import train
from paddock.training.objectives import Objective, objective
from paddock.training.sentence_ends import sentence_signs

GLM = {
    "model_type": "chatglm",
    "hidden_size": 32,
    "inner_hidden_size": 64,
    "num_layers": 1,
    "num_attention_heads": 4,
    "position_encoding_2d": True,
    "max_sequence_length": 64,
}


def test_sentences_end_where_their_pieces_say() -> None:
    texts = ['He swam. She said "No." Pi is 3.14! 鹅在湖上游。鸭子去了？\n\nYes'] * 4
    for plan in (Plan("bpe", 340), Plan("sentencepiece-bpe", 330)):
        tokenizer = train(texts, plan)
        ids = np.array(tokenizer.encode(texts[0]))
        found = [tokenizer.decode(ids[start:stop]).strip() for start, stop in sentences(ids, sentence_signs(tokenizer))]
        assert found == ["He swam.", 'She said "No."', "Pi is 3.14!", "鹅在湖上游。", "鸭子去了？", "Yes"], plan.kind


@pytest.mark.parametrize("third", [True, False], ids=["[sMASK]", "[MASK]"])
def test_whole_sentences_have_the_mask_that_the_model_knows(third: bool) -> None:
    special = ("mask=[MASK]", "[gMASK]", *(["[sMASK]"] if third else []), "bos=<sop>", "eos=<eop>", "pad=<pad>")
    tokenizer = train(["He swam. She ran. It was cold."] * 4, Plan("bpe", 280, special))
    begun = start({**GLM, "bos_token_id": tokenizer.bos_id}, tokenizer, 1)
    asked = Objective(name="blanks", long=0.0, sentences=1.0)
    prepare, _ = objective(asked, tokenizer, begun.model.architecture, 64)
    text = np.array(tokenizer.encode("He swam. She ran. It was cold."), np.uint32)
    batch = prepare([Sample((text,), 0, np.random.Generator(np.random.PCG64(2)))])
    mask = tokenizer.id_of("[sMASK]" if third else "[MASK]")
    assert (batch.ids == mask).sum() == 1 and batch.prefix is not None
    read = int(batch.prefix) + batch.supervised
    positions, prefix = blank_positions(begun.model.architecture.mask, batch.ids[:, :read])  # as the engine fills it
    assert torch.equal(positions, batch.positions[:, :read]) and torch.equal(prefix, batch.prefix)
