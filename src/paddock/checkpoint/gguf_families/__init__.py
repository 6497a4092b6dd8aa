"""GGUF files as Hugging Face models: a config dictionary, and tensors under their published names and layouts.

llama.cpp's converter renamed every tensor, reordered some and kept what it needs of the configuration. Each family's
file here undoes that, so that the rest of Paddock knows one spelling of each model. Source of the facts:
ggml-org/llama.cpp, `convert_hf_to_gguf.py` (later `conversion/`) and `gguf-py/gguf/tensor_mapping.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.checkpoint.blocks import DTYPES
from paddock.checkpoint.gguf import GGUFFile
from paddock.checkpoint.gguf_families import bert, bloom, chatglm, falcon, gpt2, gpt_neox, llama, mpt, t5
from paddock.checkpoint.gguf_families.metadata import MAX_BLOCKS, Change, Family, Metadata
from paddock.checkpoint.gguf_header import TensorInfo
from paddock.checkpoint.rows import ROW_ORDERS
from paddock.checkpoint.stored import Codes, Stored
from paddock.errors import CheckpointError, UnsupportedError, did_you_mean

FAMILIES: dict[str, Family] = {
    "llama": llama.LLAMA,
    "qwen2": llama.QWEN2,
    "falcon": falcon.FAMILY,
    "mpt": mpt.FAMILY,
    "bloom": bloom.FAMILY,
    "gptneox": gpt_neox.FAMILY,
    "gpt2": gpt2.FAMILY,
    "bert": bert.FAMILY,
    "chatglm": chatglm.FAMILY,
    "t5": t5.FAMILY,
}
# Tables that every reader computes for itself, or that became part of the configuration.
_NOT_WEIGHTS = {"rope_freqs", "blk.{i}.attn_rot_embd"}


def read(path: str | Path | GGUFFile) -> tuple[dict[str, Any], dict[str, Stored]]:
    """A GGUF file as a Hugging Face config dictionary and tensors under Hugging Face names, nothing loaded yet.

    Raises UnsupportedError for an architecture, a setting, a tensor or a number type that Paddock does not run, and
    CheckpointError for a file that is not sound.
    """
    file = path if isinstance(path, GGUFFile) else GGUFFile(path)
    metadata = Metadata(file)
    family = FAMILIES.get(metadata.architecture)
    if family is None:
        raise UnsupportedError(
            f"{metadata.name} holds a model of the architecture {metadata.architecture[:60]!r}",
            expected=", ".join(FAMILIES),
            fix=did_you_mean(metadata.architecture, FAMILIES),
        )
    config = {**family.config(metadata), **_tokens(metadata), "dtype": _dtype(file)}
    tensors = _translated(metadata, family)
    metadata.finish()
    return config, tensors


def _tokens(metadata: Metadata) -> dict[str, Any]:
    """Special ids. A chat model ends its turn with `eot` or `eom`, which then count as ends beside `eos`."""
    ends = [token for token in map(metadata.id, ("eos", "eot", "eom")) if token is not None]
    ends = list(dict.fromkeys(ends))
    return {
        "bos_token_id": metadata.id("bos"),
        "eos_token_id": ends if len(ends) > 1 else ends[0] if ends else None,
        "pad_token_id": metadata.id("padding"),
    }


def _dtype(file: GGUFFile) -> str:
    """The type that most weights are loaded as: block types dequantise to float32."""
    sizes: dict[torch.dtype, int] = {}
    for info in file.tensors.values():
        dtype = DTYPES.get(info.type.name, torch.float32)
        sizes[dtype] = sizes.get(dtype, 0) + info.nbytes
    return str(max(sizes, key=lambda dtype: sizes[dtype], default=torch.float32)).removeprefix("torch.")


def _translated(metadata: Metadata, family: Family) -> dict[str, Stored]:
    names, changes, file = family.names(metadata), family.changes(metadata), metadata.file
    tensors: dict[str, Stored] = {}
    for name, info in file.tensors.items():
        base, suffix, numbers = _parsed(name)
        if base in _NOT_WEIGHTS:
            continue
        if base not in names or suffix not in ("weight", "bias"):
            raise UnsupportedError(
                f"{metadata.name}: {name[:120]!r} is not a tensor that Paddock knows in {metadata.architecture} files"
            )
        target, change = f"{names[base]}.{suffix}", changes.get(base)
        for numbered, part in _parts(info, target, numbers):
            if numbered in tensors:
                raise CheckpointError(f"{metadata.name} stores {numbered} twice, as {name[:120]!r} and otherwise")
            stored = file.stored(part)
            tensors[numbered] = _changed(stored, change, metadata, name) if change else stored
    return tensors


def _parsed(name: str) -> tuple[str, str, dict[str, str]]:
    """A tensor's name as (name with `{i}` and `{e}` for its numbers, "weight" or "bias", the numbers)."""
    base, _, suffix = name.rpartition(".")
    parts = base.split(".")
    numbers: dict[str, str] = {}
    for at, part in enumerate(parts):
        if part.isascii() and part.isdigit() and len(numbers) < 2:
            hole = "e" if numbers else "i"
            numbers[hole] = part
            parts[at] = "{" + hole + "}"
    return ".".join(parts), suffix, numbers


def _parts(info: TensorInfo, target: str, numbers: dict[str, str]) -> list[tuple[str, TensorInfo]]:
    """The published names that a tensor's numbers go under: one, or one per expert where all are stored together."""
    if any(len(number) > 4 or int(number) >= MAX_BLOCKS for number in numbers.values()):
        raise UnsupportedError(f"tensor {info.name[:120]!r} counts too far", expected=f"fewer than {MAX_BLOCKS} layers")
    if "{e}" in target and "e" not in numbers:
        if len(info.shape) != 3 or info.shape[0] > MAX_BLOCKS:
            raise CheckpointError(f"{info.name!r} has the shape {list(info.shape)}", expected="one matrix per expert")
        return [(target.format(**numbers, e=expert), info.part(expert)) for expert in range(info.shape[0])]
    return [(target.format(**numbers), info)]


def _changed(stored: Stored, change: Change, metadata: Metadata, name: str) -> Stored:
    """The tensor as it was before the converter changed it; its shape is found without reading it."""
    try:
        shape = change(torch.empty(stored.shape, dtype=stored.dtype, device="meta")).shape
    except RuntimeError:  # heads do not divide the rows
        raise CheckpointError(
            f"{metadata.name}: {name!r} has the shape {list(stored.shape)}, which does not fit the heads"
        ) from None

    def load() -> Tensor:
        source = stored.load()
        result = change(source)
        if result.data_ptr() != source.data_ptr():
            stored.release()
        return result

    codes, ordered = stored.codes, stored.codes
    if codes is not None:
        by_rows = getattr(change, "func", change) in ROW_ORDERS
        ordered = Codes(codes.format, lambda: tuple(change(part) for part in codes.load())) if by_rows else None
    return Stored(tuple(shape), stored.dtype, load, stored.release, ordered)
