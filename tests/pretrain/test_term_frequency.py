"""Counts of terms and answers, by hand and by a model that is made to know one answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paddock.checkpoint.weights import sketch
from paddock.errors import DataError
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.pretrain.characters import write_characters
from paddock.pretrain.memorization import scores
from paddock.pretrain.term_frequency import Question, answered, by_count, counts, question
from paddock.tokenizer.load import load


def test_counts_are_of_documents_with_all_terms_as_words() -> None:
    questions = [Question("3 + 4 =", " 7", ("3", "4")), Question("x", "y", ("Cat",)), Question("x", "y", ("a.b",))]
    documents = ["3 and 4 and 3", "34", "the cat; 3", "CATS", "a.b a+b", "axb"]
    assert counts(questions, documents) == [1, 1, 1]


def test_broken_questions_are_refused() -> None:
    for bad in ([], {"prompt": "x"}, {"prompt": "x", "answer": "", "terms": ["y"]}, {"prompt": 1}, None):
        with pytest.raises(DataError, match=r"q\.jsonl, line 3 is no question"):
            question(bad, "q.jsonl, line 3")


def test_bins_double() -> None:
    bins, correlation = by_count([0, 1, 2, 3, 4, 9], [False, False, False, True, True, True])
    assert [(b.low, b.high, b.questions, b.right) for b in bins] == [
        (0, 0, 1, 0),
        (1, 1, 1, 0),
        (2, 3, 2, 1),
        (4, 7, 1, 1),
        (8, 15, 1, 1),
    ]
    assert correlation is not None and correlation > 0.8
    assert by_count([1, 1], [True, False])[1] is None


def test_an_answer_is_right_where_greedy_writing_gives_it(tmp_path: Path) -> None:
    write_characters(["abcdefgh "], tmp_path)
    tokenizer = load(tmp_path)
    config = {"model_type": "gpt_neox", "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64}
    config |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32}
    model = initialise(blank(sketch(describe(config))), seed=1, deviation=0.4).eval()
    prompts = ["ab", "abc d", "h", "ffff"]
    told = []
    for prompt in prompts:
        ids = tokenizer.encode(prompt)
        for last in range(len(tokenizer)):
            row = torch.tensor([[*ids, last]]).numpy()
            if scores(model, row, len(ids))[0] == 1.0:
                told.append(last)
    right = [Question(prompt, tokenizer.decode([last]), ("x",)) for prompt, last in zip(prompts, told, strict=True)]
    usable = [q for q, last in zip(right, told, strict=True) if tokenizer.encode(q.answer) == [last]]
    assert usable and all(answered(model, tokenizer, usable))
    wrong = [Question(q.prompt, "a" if q.answer != "a" else "b", ("x",)) for q in usable]
    assert not any(answered(model, tokenizer, wrong))
