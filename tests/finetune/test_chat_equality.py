"""The same conversations, the same masks, the same loss and gradient as transformers: padded and packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from torch import Tensor

import paddock
from paddock.checkpoint import folder
from paddock.checkpoint.weights import published, sketch
from paddock.data.instruct.records import Conversation, Message
from paddock.data.samples import Sample
from paddock.finetune.tasks import ChatTask
from paddock.finetune.tasks.asked import Asked, Material
from paddock.model.families import describe, family
from paddock.model.initialise import blank, initialise
from paddock.model.transformer import Transformer
from paddock.tokenizer.template_registry import registered
from paddock.training.losses import token_loss

CONFIG = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
LENGTH = 160
TALKS = [
    ["Who are you?", "A story."],
    ["你好", "你好，我在。"],
    ["One", "1", "Two", "2 of them", "Three", "(3)"],
    ["A long question about a cat", "It sat."],
    ["x", "y"],
]


@pytest.fixture(scope="module")
def ours() -> Transformer:
    torch.manual_seed(5)
    return initialise(blank(sketch(describe(CONFIG))), seed=5, config=CONFIG, deviation=0.2).double()


@pytest.fixture(scope="module")
def theirs(ours: Transformer, tmp_path_factory: pytest.TempPathFactory) -> hf.LlamaForCausalLM:
    path = tmp_path_factory.mktemp("tiny")
    folder.write(path, ours, CONFIG)
    return hf.LlamaForCausalLM.from_pretrained(path, dtype=torch.float64, attn_implementation="eager").train()


def asked(packing: str) -> Asked:
    tokenizer = paddock.load(device="cpu").tokenizer
    roles = ["user", "assistant"]
    talks = [Conversation(tuple(Message(roles[n % 2], text) for n, text in enumerate(talk))) for talk in TALKS]
    template = registered("koala")
    given = Material(talks, [], tokenizer, template, describe(CONFIG), {}, LENGTH, "refuse", 0, Path("."))
    return ChatTask(packing=packing).ask(given)


def labelled(texts: tuple[np.ndarray, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A row as transformers takes it: ids, labels at the tokens themselves, positions, and who sees whom."""
    whole = torch.from_numpy(np.concatenate(texts))
    number = torch.repeat_interleave(torch.arange(len(texts)), torch.tensor([len(text) for text in texts]))
    places = torch.cat([torch.arange(len(text)) for text in texts])
    sees = (number[:, None] == number[None, :]) & torch.ones(len(whole), len(whole)).tril().bool()
    return torch.where(whole < 0, ~whole, whole), torch.where(whole < 0, -100, whole), places, sees


def their_loss(model: hf.LlamaForCausalLM, rows: list[tuple[np.ndarray, ...]]) -> tuple[Tensor, int]:
    """The sum over all labels."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for texts in rows:
        ids, labels, places, sees = labelled(texts)
        bias = torch.zeros(sees.shape, dtype=torch.float64).masked_fill(~sees, torch.finfo(torch.float64).min)
        asked_for = int((labels[1:] != -100).sum())
        found = model(ids[None], attention_mask=bias[None, None], position_ids=places[None], labels=labels[None])
        total, count = total + found.loss * asked_for, count + asked_for
    return total, count


@pytest.mark.parametrize("packing", ["single", "fit"])
def test_loss_and_gradient_are_those_of_transformers(
    ours: Transformer, theirs: hf.LlamaForCausalLM, packing: str
) -> None:
    task = asked(packing)
    rows = [task.train.texts(number) for number in range(len(task.train))]
    assert (max(map(len, rows)) > 1) == (packing == "fit")
    batch = task.prepare([Sample(texts, n, np.random.default_rng(0)) for n, texts in enumerate(rows)])
    for parameter in ours.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    sums = token_loss(ours, batch, batch.step(ours.architecture))
    (sums.total / sums.count).backward()
    theirs.zero_grad()
    total, count = their_loss(theirs, rows)
    (total / count).backward()
    assert sums.count == count
    assert sums.total.item() == pytest.approx(total.item(), rel=1e-6)  # their loss rounds logits to float32
    kept = {name: parameter.detach().clone() for name, parameter in ours.named_parameters()}
    expected = dict(theirs.named_parameters())
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(parameter.grad)  # published() then names and joins gradients as it does weights
        for tensor in published(ours, family(CONFIG).RULES):
            wanted = expected[tensor.name].grad
            assert (tensor.tensor() - wanted).norm() <= 1e-5 * wanted.norm(), tensor.name
        for name, parameter in ours.named_parameters():
            parameter.copy_(kept[name])
