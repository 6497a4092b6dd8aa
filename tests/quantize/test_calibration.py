"""Calibration: every matrix is rounded for what it really reads, after blocks that are rounded already."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from paddock.checkpoint.weights import published
from paddock.model.families import describe, family
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.quantize import calibration
from paddock.quantize.gptq import Rounded, nearest
from paddock.quantize.matrices import matrices

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "num_attention_heads": 2, "vocab_size": 32, "num_hidden_layers": 2,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip


def test_each_matrix_is_given_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    model = Transformer(describe(CONFIG)).requires_grad_(False).eval()
    found, texts = matrices(published(model, family(CONFIG).RULES)), torch.randint(0, 32, (3, 20)).tolist()
    given: list[Tensor] = []

    def seen(weight: Tensor, hessian: Tensor, bits: int, group: int) -> Rounded:
        given.append(hessian)
        return nearest(weight, bits, group)

    monkeypatch.setattr(calibration, "gptq", seen)
    results = list(calibration.calibrated(model, found, texts, 4, 32))
    assert [matrix.name for matrix, _ in results] == [matrix.name for matrix in found]
    for matrix, rounded in results[:7]:  # block 0 as the second block saw it; block 1 is read before it is rounded
        model.get_parameter(matrix.ours[0]).copy_(rounded.weight())
    second = {matrix.ours[0]: hessian for (matrix, _), hessian in zip(results[7:], given[7:], strict=True)}
    for own, hessian in second.items():
        read: list[Tensor] = []
        layer = model.get_submodule(own.removesuffix(".weight"))
        hook = layer.register_forward_pre_hook(lambda _, inputs, read=read: read.append(inputs[0][0]))
        for text in texts:
            model(torch.tensor([text]), Step.begin(model.architecture, torch.tensor([text])))
        hook.remove()
        x = torch.cat(read)
        assert torch.allclose(hessian, x.T @ x / len(x), rtol=1e-3, atol=1e-5), own
