"""A model at rest as a Hugging Face folder: what is in it, and how one is written."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from paddock.checkpoint import safetensors, torchbin
from paddock.checkpoint.jsonfile import read as read_json
from paddock.checkpoint.safetensors import Planned
from paddock.checkpoint.stored import Stored
from paddock.checkpoint.weights import published
from paddock.checkpoint.writing import atomic_write, flush
from paddock.errors import CheckpointError
from paddock.model.families import family
from paddock.model.transformer import Transformer

CONFIG, GENERATION = "config.json", "generation_config.json"
DELTA = "delta.json"  # beside differences to another model (checkpoint/delta.py)
# Where the first GPTQ and AWQ folders kept what is now config.json's quantization_config.
_PACKING = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
SHARD_BYTES = 5 * 10**9
_READERS: list[tuple[str, Callable[[str | Path], dict[str, Stored]]]] = [
    ("model.safetensors", safetensors.read),
    ("pytorch_model.bin", torchbin.read),
]
# The files of a model that `write` replaces or removes; what else lies in the folder is not its business.
_READ = re.compile(r"config\.json|generation_config\.json|model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


def read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if folder.is_dir() and not path.exists() and not path.is_symlink():
        expected = "a Hugging Face folder with it, or a .gguf or llama2.c .bin file"
        raise CheckpointError(f"{path} is missing", expected=expected, fix=_instead(folder))
    if (folder / DELTA).is_file():
        raise CheckpointError(
            f"{folder} holds no model but the difference to one", fix=f"paddock delta apply BASE {folder} -o MODEL"
        )
    return read_json(path)


def _instead(folder: Path) -> str | None:
    """What somebody who named a folder that is no model may have meant."""
    if (folder / "adapter_config.json").exists():
        return "this is an adapter: `paddock merge BASE --adapter FOLDER` makes one model of it and its base"
    files = [file for file in folder.iterdir() if file.suffix in (".gguf", ".bin")]
    names = sorted(file.name for file in files if not file.name.startswith("pytorch_model"))
    return f"name one of the files that lie there: {', '.join(names[:3])}" if names else None


def read_generation(folder: Path) -> dict[str, Any]:
    """generation_config.json, or nothing where there is none."""
    path = folder / GENERATION
    return read_json(path) if path.exists() or path.is_symlink() else {}


def read_quantization(folder: Path, config: Mapping[str, Any], tensors: Iterable[str]) -> Any:
    """What the folder says about how its matrices are packed, unchecked; None where they are plain."""
    if config.get("quantization_config") is not None or not any(name.endswith(".qweight") for name in tensors):
        return config.get("quantization_config")
    for name, method in _PACKING.items():
        if (folder / name).exists():
            return {"quant_method": method} | read_json(folder / name)
    return None


def read_tensors(folder: Path) -> dict[str, Stored]:
    """Every tensor of the folder: safetensors if there are any, else `.bin`; whole or in shards with an index.

    Files may be links to anywhere, as those of a download cache are; names in an index may not lead out of the folder.
    """
    for name, reader in _READERS:
        if (folder / f"{name}.index.json").exists():
            return _read_shards(folder, folder / f"{name}.index.json", reader)
        if (folder / name).exists() or (folder / name).is_symlink():
            return reader(folder / name)
    found = sorted(p.name for p in folder.iterdir() if p.suffix in {".safetensors", ".bin", ".pth", ".gguf", ".pt"})
    raise CheckpointError(
        f"{folder} holds no weights" + (f" under a known name, only {', '.join(found[:5])}" if found else ""),
        expected=" or ".join(name for name, _ in _READERS) + ", or their shards with an index",
    )


def _read_shards(folder: Path, index: Path, reader: Callable[[str | Path], dict[str, Stored]]) -> dict[str, Stored]:
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(shard, str) for shard in where.values()):
        raise CheckpointError(f"{index.name} has no weight_map", expected="tensor names and their shards")
    listed: defaultdict[str, set[str]] = defaultdict(set)
    for name, shard in where.items():
        listed[shard].add(name)
    for shard in listed:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", shard) or shard.startswith("."):
            raise CheckpointError(f"{index.name} names the shard {shard[:80]!r}", expected="a file of the same folder")
        if not (folder / shard).is_file():
            raise CheckpointError(f"{folder} lacks the shard {shard}", fix="download or copy the missing file")
    result: dict[str, Stored] = {}
    for shard in sorted(listed):
        tensors = reader(folder / shard)
        if wrong := sorted(listed[shard] ^ tensors.keys()):
            raise CheckpointError(
                f"{shard} and {index.name} disagree about {wrong[0][:120]!r}"
                + (f" and {len(wrong) - 1} more tensors" if len(wrong) > 1 else ""),
                fix="the shards may come from different downloads; get them again",
            )
        result.update(tensors)
    return result


def write(
    folder: str | Path, model: Transformer, config: dict[str, Any], generation: dict[str, Any] | None = None
) -> None:
    """Writes config, weights and generation defaults as `write_tensors` does. `model` may be mapped from the very files
    it replaces."""
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    config = {**config, ("dtype" if "dtype" in config else "torch_dtype"): dtype}
    tensors = {t.name: Planned(t.shape, t.dtype, t.tensor) for t in published(model, family(config).RULES)}
    write_tensors(folder, config, tensors, generation)


def write_tensors(
    folder: str | Path,
    config: dict[str, Any],
    tensors: Mapping[str, Planned],
    generation: dict[str, Any] | None = None,
) -> None:
    """Writes config, tensors (in shards where large) and generation defaults, over whatever model was there.

    Every file is written whole under a temporary name first, and only then are all renamed: an old model survives a
    full disk. Weights of the old model that the new one does not replace are removed, as a reader would prefer them.
    The old configuration goes before the first renaming and the new one comes last: a folder cut off between the two
    has none, and is refused rather than read as a mixture.

    Raises ResourceError when the disk is full, PaddockError for any other refusal of the file system.
    """
    folder = Path(folder)
    files = {CONFIG: config}
    if generation:
        files[GENERATION] = generation
    shards = _shards(tensors)
    if len(shards) > 1:
        files["model.safetensors.index.json"] = _index(shards)

    def retire(failure: type[BaseException] | None, *_: object) -> None:
        if failure is None:
            _retire(folder, {*files, *shards} - {CONFIG})

    with contextlib.ExitStack() as renaming:  # files are renamed in the reverse of the order in which they enter
        for name, content in files.items():
            _fill(renaming.enter_context(atomic_write(folder / name)), content)
        for name, shard in shards.items():
            part = renaming.enter_context(atomic_write(folder / name))
            safetensors.save(part, shard)
        renaming.push(retire)


def _fill(path: Path, content: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())  # a disk that is full says so here, before anything is renamed


def _retire(folder: Path, new: set[str]) -> None:
    """Removes what was read until now and is not replaced; first the old configuration, whose successor comes last."""
    stale = [path for path in folder.iterdir() if _READ.fullmatch(path.name) and path.name not in new]
    for path in sorted(stale, key=lambda path: path.name != CONFIG):
        path.unlink()
    flush(folder)


def _index(shards: dict[str, dict[str, Planned]]) -> dict[str, Any]:
    return {
        "metadata": {"total_size": sum(_nbytes(t) for shard in shards.values() for t in shard.values())},
        "weight_map": {tensor: name for name, shard in shards.items() for tensor in shard},
    }


def _nbytes(tensor: Planned) -> int:
    return math.prod(tensor.shape) * tensor.dtype.itemsize


def _shards(tensors: Mapping[str, Planned]) -> dict[str, dict[str, Planned]]:
    """File names and what goes into each, in the model's order."""
    shards: list[dict[str, Planned]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + _nbytes(tensor) > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += _nbytes(tensor)
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {f"model-{i:05d}-of-{len(shards):05d}.safetensors": shard for i, shard in enumerate(shards, 1)}
