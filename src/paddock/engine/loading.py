"""From a path or a name to a model ready to use. PyTorch is imported while matrices are packed, where they can be."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.checkpoint import ahead
from paddock.engine.locate import locate
from paddock.errors import PaddockError

if TYPE_CHECKING:
    import torch

    from paddock.engine.language_model import LanguageModel


def begin(
    path_or_name: str | Path | None = None, dtype: str | torch.dtype = "auto", device: str | torch.device = "auto"
) -> None:
    """Says that a model is about to be loaded, before PyTorch is imported for it: that is done here, and packing begins
    before it where it can, on threads of its own; `load` takes up what is there. What is wrong with the model is for
    `load` to say: this raises nothing."""
    if dtype == "auto" and device in ("auto", "cpu"):
        with contextlib.suppress(PaddockError):
            ahead.start(locate(path_or_name))
    with _kept():
        import paddock.engine.loaded  # noqa: F401 - for `load`


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
    with _kept():
        begin(path_or_name, dtype, device)
        from paddock.engine.loaded import loaded

        return loaded(path_or_name, dtype, device, quantize, ignore_config, tokenizer, template)


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """What is made inside stays for long, as modules and vocabularies do: nobody looks for garbage among it meanwhile,
    which would take a sixth of the time, nor at once afterwards."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()  # both together make what is young old, unlooked at
            gc.unfreeze()
        gc.enable()
