"""A model at rest as a Hugging Face folder: what is in it, and how one is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from paddock.checkpoint import safetensors, torchbin
from paddock.checkpoint.jsonfile import read as read_json
from paddock.checkpoint.stored import Stored
from paddock.checkpoint.weights import Published, published
from paddock.checkpoint.writing import write_text
from paddock.errors import CheckpointError
from paddock.model.families import family
from paddock.model.transformer import Transformer

CONFIG, GENERATION = "config.json", "generation_config.json"
SHARD_BYTES = 5 * 10**9
_READERS: list[tuple[str, Callable[[str | Path], dict[str, Stored]]]] = [
    ("model.safetensors", safetensors.read),
    ("pytorch_model.bin", torchbin.read),
]


def read_config(folder: Path) -> dict[str, Any]:
    return read_json(folder / CONFIG)


def read_generation(folder: Path) -> dict[str, Any]:
    """generation_config.json, or nothing where there is none."""
    return read_json(folder / GENERATION) if (folder / GENERATION).exists() else {}


def read_tensors(folder: Path) -> dict[str, Stored]:
    """Every tensor of the folder: safetensors if there are any, else `.bin`; whole or in shards with an index."""
    for name, reader in _READERS:
        if (folder / f"{name}.index.json").exists():
            return _read_shards(folder, folder / f"{name}.index.json", reader)
        if (folder / name).exists():
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
    result: dict[str, Stored] = {}
    for shard in sorted(set(where.values())):
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", shard) or shard.startswith("."):
            raise CheckpointError(f"{index.name} names the shard {shard[:80]!r}", expected="a file of the same folder")
        if not (folder / shard).is_file():
            raise CheckpointError(f"{folder} lacks the shard {shard}", fix="download or copy the missing file")
        tensors = reader(folder / shard)
        listed = {name for name, home in where.items() if home == shard}
        if wrong := sorted(listed ^ tensors.keys()):
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
    """Writes config, weights (in shards where large) and generation defaults; each file whole or not at all.

    The configuration goes last: a folder cut off half way has none, and is refused rather than half loaded.
    """
    folder = Path(folder)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    config = {**config, ("dtype" if "dtype" in config else "torch_dtype"): dtype}
    _write_weights(folder, published(model, family(config).RULES))
    if generation:
        write_text(folder / GENERATION, json.dumps(generation, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def _write_weights(folder: Path, tensors: list[Published]) -> None:
    shards = _shards(tensors)
    if len(shards) == 1:
        safetensors.write(folder / "model.safetensors", {t.name: t.tensor() for t in tensors})
        return
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        safetensors.write(folder / name, {t.name: t.tensor() for t in shard})
        where.update({t.name: name for t in shard})
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors)}, "weight_map": where}
    write_text(folder / "model.safetensors.index.json", json.dumps(index, indent=2) + "\n")


def _shards(tensors: Iterable[Published]) -> list[list[Published]]:
    shards: list[list[Published]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.nbytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.nbytes
    return shards
