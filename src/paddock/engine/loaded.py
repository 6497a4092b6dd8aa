"""From a path or a name to a model ready to use: the part of loading.py that needs PyTorch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch

from paddock.checkpoint.ahead import claim
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint
from paddock.checkpoint.packing import Packing
from paddock.engine.adapted import Adapted, is_adapter
from paddock.engine.device import chosen_device
from paddock.engine.language_model import LanguageModel
from paddock.engine.locate import locate
from paddock.engine.memory import memory_for
from paddock.engine.opening import Beside
from paddock.errors import UsageError
from paddock.kernels.memory import give_back_freed_memory
from paddock.kernels.native import library
from paddock.model.transformer import Transformer


def loaded(
    path_or_name: str | Path | None,
    dtype: str | torch.dtype,
    device: str | torch.device,
    quantize: str | None,
    ignore_config: Collection[str],
    tokenizer: str | Path | None,
    template: str | Path | None,
) -> LanguageModel:
    """What `loading.load` says."""
    where = chosen_device(device)
    packing = None if quantize is None else _quantised(quantize, dtype, where)
    path = locate(path_or_name)
    if is_adapter(path):
        found = Adapted.at(path)
        base = loaded(
            found.base, dtype, device, quantize, ignore_config, tokenizer or found.tokenizer, template or found.template
        )
        return base.with_adapter(path)
    ahead = claim(path)
    try:
        checkpoint = open_checkpoint(path, ignore_config, ahead)
        beside = Beside.of(checkpoint, None if ahead is None else ahead.header.metadata)
        words, chat = beside.tokenizer(tokenizer), beside.template(template)
        model = _model(checkpoint, dtype, where, packing)
    finally:
        if ahead is not None:
            ahead.close()
    give_back_freed_memory()  # up to 100 MB of holes are left by tensors that were read and repacked
    return LanguageModel(checkpoint, model, words, chat)


@memory_for("for the weights of this model")
def _model(
    checkpoint: Checkpoint, dtype: str | torch.dtype, where: torch.device, packing: Packing | None
) -> Transformer:
    if packing is None and dtype == "auto" and where.type == "cpu" and checkpoint.quantised and library():
        packing = Packing()
    return checkpoint.model(dtype, where, packing=packing)


def _quantised(kind: str, dtype: str | torch.dtype, device: torch.device) -> Packing:
    packing = Packing.named(kind)
    if device.type != "cpu" or library() is None:
        where = f"on {device}" if device.type != "cpu" else "without the native kernels (paddock doctor says why)"
        raise UsageError(f"quantize={kind!r} is not possible {where}", fix="leave it out, or use the CPU's kernels")
    if dtype != "auto":
        raise UsageError(f"dtype={str(dtype)!r} and quantize={kind!r} ask for different things", fix="give one of them")
    return packing
