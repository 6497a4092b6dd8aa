"""Small models, batches and runs that the tests of adapter methods share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_runs import CONFIG, CPU, documents, recipe, records

from paddock.checkpoint import adapter_kinds
from paddock.checkpoint.weights import sketch
from paddock.data.batch import IGNORED, Batch
from paddock.data.packing import Stream
from paddock.data.preparing.causal import Causal
from paddock.data.samples import Sample
from paddock.data.stream import BatchStream
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.training.conduct import Origin, conduct
from paddock.training.loop import Trainer, learning
from paddock.training.losses import token_loss
from paddock.training.methods import Base, Tuned
from paddock.training.run import RunFolder

SMALL = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**CONFIG, "num_hidden_layers": 4},
    "gpt_neox": {"model_type": "gpt_neox", **SMALL, "intermediate_size": 24, "rotary_pct": 0.5,
                 "max_position_embeddings": 32},
    "falcon": {"model_type": "falcon", **SMALL, "alibi": True, "multi_query": True},
    "mpt": {"model_type": "mpt", "vocab_size": 61, "d_model": 16, "n_layers": 3, "n_heads": 4, "max_seq_len": 32,
            "attn_config": {"clip_qkv": 0.05, "alibi": True}},
    "mistral": {**CONFIG, "model_type": "mistral", "num_hidden_layers": 3, "sliding_window": 5},
    "gpt2": {"model_type": "gpt2", "vocab_size": 61, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 32},
    "bert": {"model_type": "bert", **SMALL, "intermediate_size": 24, "max_position_embeddings": 32,
             "architectures": ["BertForMaskedLM"]},
}  # fmt: skip


def tiny(family: str = "llama", seed: int = 0, **changed: Any) -> Base:
    config = {**FAMILIES[family], **changed}
    model = initialise(blank(sketch(describe(config))), seed)
    with torch.no_grad():  # the usual first weights are so small that every gradient is nearly nothing
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
    return Base(model, config, {}, "tiny")


def logits(model: Transformer, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids, Step.begin(model.architecture, ids))


def hashes(model: Transformer, names: Iterable[str] | None = None) -> dict[str, str]:
    """A SHA-256 for each parameter."""
    found = {name: p.detach() for name, p in model.named_parameters() if names is None or name in set(names)}
    return {name: hashlib.sha256(p.contiguous().numpy().tobytes()).hexdigest() for name, p in found.items()}


def texts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(3, 61, (count,), generator=generator).tolist() for count in (9, 5, 7)]


def packed() -> Batch:
    """Three documents in one row."""
    import numpy as np

    return Causal(24)([Sample(tuple(np.array(text) for text in texts()), 0, np.random.default_rng(0))])


def padded(left: bool = False) -> Batch:
    """The same, a row each."""
    ids, targets = torch.zeros(3, 12, dtype=torch.long), torch.full((3, 12), IGNORED)
    real = torch.zeros(3, 12, dtype=torch.bool)
    positions = torch.zeros(3, 12, dtype=torch.long)
    for row, text in enumerate(texts()):
        first = 12 - len(text) if left else 0
        ids[row, first : first + len(text)] = torch.tensor(text)
        targets[row, first : first + len(text) - 1] = torch.tensor(text[1:])
        real[row, first : first + len(text)] = True
        positions[row, first : first + len(text)] = torch.arange(len(text))
    return Batch(ids, targets, padding=real, positions=positions)


def alone() -> list[Batch]:
    """The same, each by itself."""
    return [Batch(torch.tensor([text]), torch.tensor([[*text[1:], IGNORED]])) for text in texts()]


def gradients(tuned: Tuned, *batches: Batch, noise: float = 0.0) -> tuple[float, dict[str, Tensor]]:
    """The mean loss over all targets, and its gradients."""
    assert tuned.learns is not None
    tuned.model.zero_grad(set_to_none=True)
    with learning(tuned.model, tuned.learns):
        found = [token_loss(tuned.model, batch, batch.step(tuned.model.architecture, noise=noise)) for batch in batches]
        count = sum(sums.count for sums in found)
        total = torch.stack([sums.total for sums in found]).sum() / count
        total.backward()
    return float(total.detach()), {n: p.grad for n, p in tuned.model.named_parameters() if p.grad is not None}


def assert_same(one: tuple[float, dict[str, Tensor]], other: tuple[float, dict[str, Tensor]], bound: float) -> None:
    assert one[0] == pytest.approx(other[0], abs=bound)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        assert (gradient - other[1][name]).abs().max() <= bound * max(1.0, float(other[1][name].abs().max())), name


def assert_packing_changes_nothing(tuned: Tuned, bound: float = 1e-5) -> None:
    """Documents that share a row, rows that are filled up at either end, and texts by themselves."""
    want = gradients(tuned, *alone())
    for batch in (packed(), padded(), padded(left=True)):
        assert_same(gradients(tuned, batch), want, bound)


def trainer(tuned: Tuned, steps: int = 6, loss: Any = token_loss, **changed: Any) -> Trainer:
    usual = {"optimizer": {"learning_rate": 0.01}, "checkpoints": "every:2"}
    asked = recipe(steps=steps, **usual | changed)
    batches = BatchStream(Stream(documents(), 12), Causal(12), asked.batch, seed=1)
    return Trainer(tuned.model, batches, loss, asked, CPU, learns=tuned.learns, rates=tuned.rates)


def go(path: Path, tuned: Tuned, die: int = 0, **changed: Any) -> Tuned:
    """A run of 6 steps in `path`, or what is left of it."""
    return conducted(path, tuned, trainer(tuned, **changed), die)


def conducted(path: Path, tuned: Tuned, running: Trainer, die: int = 0) -> Tuned:
    """The run in `path`, killed after step `die` if that is one."""

    def each(report: Any) -> None:
        if report.step == die:
            raise KeyboardInterrupt

    conduct(running, RunFolder(path), tuned.write, Origin("x", "data"), read=tuned.read, hooks=[each])
    return tuned


def assert_goes_on_bit_for_bit(method: Any, family: str, folder: Path, **changed: Any) -> Tuned:
    """A killed run comes to the same numbers, and the base stays what it was; gives the whole run's model."""
    base = tiny(family)
    before = hashes(base.model)
    tuned = method.attach(base, 3)
    started = hashes(tuned.model)
    whole = go(folder / "whole", tuned, **changed)
    for step in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            go(folder / "broken", method.attach(tiny(family), 3), die=step, **changed)
    go(folder / "broken", method.attach(tiny(family), 3), **changed)
    assert records(folder / "whole") == records(folder / "broken")
    names = sorted(path.name for path in (folder / "whole/final").iterdir() if path.name != "manifest.json")
    assert names
    for name in names:
        assert (folder / "whole/final" / name).read_bytes() == (folder / "broken/final" / name).read_bytes(), name
    assert whole.learns is not None
    after = hashes(whole.model)
    assert {name for name in after if after[name] != started[name]} == whole.learns
    if whole.adapter:
        assert hashes(base.model) == before
    return whole


def reopened(base: Base, folder: Path) -> Transformer:
    """What lies in a folder, put on the base as users do."""
    return adapter_kinds.put(base.model, folder, base.config)
