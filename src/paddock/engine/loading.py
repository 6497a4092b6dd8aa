"""From a path or a name to a model ready to use."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch

from paddock.checkpoint.checkpoint import open_checkpoint
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


def load(
    path_or_name: str | Path | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    quantize: str | None = None,
    ignore_config: Collection[str] = (),
    tokenizer: str | Path | None = None,
    template: str | Path | None = None,
) -> LanguageModel:
    """Opens a model folder, `.gguf` or llama2.c file, or a model by name; with no argument the bundled one.

    The folder of an adapter opens the base that it names, with the adapter on it.

    dtype: "auto" keeps the stored type, and on the CPU what was published quantised stays quantised; else float32,
    bfloat16 or float16 (a name or a torch.dtype). device: "cpu", "cuda" or "cuda:N"; "auto" is a CUDA device if there
    is one, else the CPU. quantize: round what is not quantised to q8_0, q6_k, q5_k, q5_1, q5_0, q4_k, q4_1 or q4_0 as
    it is read (on the CPU, by the native kernels; `paddock quantize` writes a file, and measures what it costs).
    ignore_config: keys of config.json or generation_config.json to pass over. tokenizer: a file or folder to read it
    from, where it does not lie beside the weights. template: a chat template to use instead of the model's own, a
    bundled name or a file.

    Raises UsageError for what cannot be meant, an InputError for files that are not what they should be, ResourceError
    where the weights do not fit the device.
    """
    where = chosen_device(device)
    packing = None if quantize is None else _quantised(quantize, dtype, where)
    path = locate(path_or_name)
    if is_adapter(path):
        found = Adapted.at(path)
        base = load(
            found.base, dtype, device, quantize, ignore_config, tokenizer or found.tokenizer, template or found.template
        )
        return base.with_adapter(path)
    checkpoint = open_checkpoint(path, ignore_config)
    beside = Beside.of(checkpoint)
    words, chat = beside.tokenizer(tokenizer), beside.template(template)
    with memory_for("for the weights of this model"):
        if packing is None and dtype == "auto" and where.type == "cpu" and checkpoint.quantised and library():
            packing = Packing()
        model = checkpoint.model(dtype, where, packing=packing)
    give_back_freed_memory()  # up to 100 MB of holes are left by tensors that were read and repacked
    return LanguageModel(checkpoint, model, words, chat)


def _quantised(kind: str, dtype: str | torch.dtype, device: torch.device) -> Packing:
    packing = Packing.named(kind)
    if device.type != "cpu" or library() is None:
        where = f"on {device}" if device.type != "cpu" else "without the native kernels (paddock doctor says why)"
        raise UsageError(f"quantize={kind!r} is not possible {where}", fix="leave it out, or use the CPU's kernels")
    if dtype != "auto":
        raise UsageError(f"dtype={str(dtype)!r} and quantize={kind!r} ask for different things", fix="give one of them")
    return packing
