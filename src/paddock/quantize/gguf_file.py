"""A checkpoint into a GGUF file, one tensor after another: what `paddock quantize` and `paddock convert` write."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from paddock.checkpoint.block_types import TensorType
from paddock.checkpoint.checkpoint import Checkpoint
from paddock.checkpoint.encoding import encode
from paddock.checkpoint.gguf_saving import Outgoing, outline
from paddock.checkpoint.gguf_write import Entry, Value, overwrite, size_of, write
from paddock.engine.defaults import ids_of
from paddock.errors import CheckpointError, ResourceError
from paddock.quantize.kinds import GGUF_KINDS
from paddock.quantize.mix import type_of
from paddock.tokenizer import Tokenizer
from paddock.tokenizer.gguf_write import to_gguf
from paddock.tokenizer.template import Template

AT_ONCE = 1 << 22  # weights handed to the encoder at a time, 16 MB of float32
QUANTIZATION_VERSION = 2  # of ggml's block layouts

Importance = Mapping[str, Tensor]  # by module ("blocks.0.attention.q"), (columns,)
Progress = Callable[[str, int, int], None]  # a tensor's name, bytes written before it, bytes in all


@dataclass(frozen=True)
class Written:
    """types: tensors by ggml type. weights, bytes: of all tensors. dropped: parameters that GGUF has no place for.

    places: where in the file each number and text of the metadata lies.
    """

    types: dict[str, int]
    weights: int
    bytes: int
    dropped: list[str]
    places: dict[str, int]

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.bytes / self.weights

    def fill(self, path: Path, values: Mapping[str, Value]) -> None:
        """Puts metadata into the file as it is known now: numbers of the type, texts of the length written before."""
        known = {key: value for key, value in values.items() if isinstance(value, np.generic | str)}
        overwrite(path, self.places, known)


def write_gguf(
    checkpoint: Checkpoint,
    path: Path,
    kind: str,
    *,
    tokenizer: Tokenizer | None = None,
    template: Template | None = None,
    importance: Importance | None = None,
    extra: Mapping[str, Value] | None = None,
    progress: Progress | None = None,
) -> Written:
    """Fills the file at `path` with the model in this kind ("q4_k", "f16", ...; see `kinds`).

    `tokenizer`, `template`: what lies beside the weights; without a tokenizer the file says that it has none.
    `importance`: by module, how much each input column counts. `extra`: further metadata. The caller writes atomically.

    Raises UnsupportedError for a model, TokenizerError for a vocabulary that GGUF cannot hold, CheckpointError for
    weights that are not finite or do not fit the type, ResourceError where the disk has too little room.
    """
    plan = outline(checkpoint)
    chosen = GGUF_KINDS[kind]
    types = {tensor.name: type_of(tensor, chosen, checkpoint.architecture) for tensor in plan.tensors}
    entries = [
        Entry(t.name, types[t.name], t.shape, partial(_blocks, t, types[t.name], importance or {}))
        for t in plan.tensors
    ]
    metadata: dict[str, Value] = dict(plan.metadata) | _general(checkpoint, chosen.file_type)
    metadata |= _vocabulary(checkpoint, plan.architecture, tokenizer, template) | dict(extra or {})
    total = size_of(metadata, entries)
    _check_room(path, total)
    before = Counter[str]()

    def tell(entry: Entry) -> None:
        if progress is not None:
            progress(entry.name, before["bytes"], total)
        before["bytes"] += entry.nbytes

    places = write(path, metadata, entries, tell)
    names = Counter(entry.type.name for entry in entries)
    weights = sum(math.prod(entry.shape) for entry in entries)
    return Written(dict(names.most_common()), weights, sum(e.nbytes for e in entries), plan.dropped, places)


def _general(checkpoint: Checkpoint, file_type: int) -> dict[str, Value]:
    return {
        "general.type": "model",
        "general.name": checkpoint.path.stem,
        "general.file_type": file_type,
        "general.quantization_version": QUANTIZATION_VERSION,
    }


def _vocabulary(
    checkpoint: Checkpoint, architecture: str, tokenizer: Tokenizer | None, template: Template | None
) -> dict[str, Value]:
    part = checkpoint.architecture
    if tokenizer is None:
        return {"tokenizer.ggml.model": "no_vocab", f"{architecture}.vocab_size": part.vocabulary}
    stated = (checkpoint.config.get("eos_token_id"), checkpoint.generation.get("eos_token_id"))
    ends = [id for value in stated for id in ids_of(value, "eos_token_id")]
    found = to_gguf(tokenizer, part.vocabulary, architecture, ends)
    return found if template is None else found | {"tokenizer.chat_template": template.source}


def _blocks(tensor: Outgoing, kind: TensorType, importance: Importance) -> Iterator[Tensor]:
    """The tensor's bytes, some rows at a time."""
    for own, piece in zip(tensor.ours or ("",), tensor.pieces, strict=True):
        loaded = piece.load()
        rows = loaded.reshape(-1, loaded.shape[-1])
        weights = importance.get(_module(own))
        step = max(1, AT_ONCE // rows.shape[1])
        for start in range(0, len(rows), step):
            try:
                yield encode(kind, rows[start : start + step], weights)
            except CheckpointError as error:
                raise CheckpointError(f"{tensor.name} {error.what}", fix=error.fix) from None
        piece.release()


def _module(own: str) -> str:
    """The module whose input a parameter multiplies: a table of tokens that is also the head counts as the head."""
    return "head" if own == "embedding.tokens.weight" else own.rpartition(".")[0]


def _check_room(path: Path, total: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < total:
        raise ResourceError(
            f"{path.parent} has {free / 1e9:.1f} GB free, and the file takes {total / 1e9:.1f} GB",
            fix="free some space, or write elsewhere",
        )
