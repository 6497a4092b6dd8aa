"""llama2.c model files: read versions 0, 1 and 2, write them from a LLaMA model that they can hold.

The format has no place for anything but sizes: rope theta 10000, RMSNorm epsilon 1e-5, no biases and ids 1 and 2 for
begin and end of text are what its programs (`run.c`, `runq.c`) assume. `llama2c_layout` says what lies where.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from paddock.checkpoint.llama2c_layout import (
    CLASSIFIER,
    EMBEDDING,
    HEADER_BYTES,
    MAGIC,
    ROPE_TABLES,
    Header,
)
from paddock.checkpoint.mapped import MappedFile
from paddock.checkpoint.rows import half_rotation, interleaved_rotation
from paddock.checkpoint.stored import Stored
from paddock.checkpoint.writing import atomic_write
from paddock.errors import CheckpointError, UnsupportedError, UsageError

SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
)


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Stored]]:
    """A llama2.c file as a Hugging Face LLaMA config dictionary and tensors under their Hugging Face names.

    Version 2 weights are dequantised to float32 as they are loaded. Raises CheckpointError when the file is not
    exactly as long as its header says, UnsupportedError for a version above 2.
    """
    file = MappedFile(path)
    header = _header(file)
    expected = header.size()
    if expected != file.size:
        state = "cut short" if file.size < expected else "followed by bytes that do not belong to it"
        raise CheckpointError(
            f"{file.name} is {state}: {file.size} bytes",
            expected=f"{expected} bytes by its own header {header}",
            fix="download or copy the file again",
        )
    stored = {
        full: _stored(file, header, name, full, offset)
        for full, name, offset in header.tensors()
        if name != ROPE_TABLES
    }
    return _config(header), stored


def group_of(path: str | Path) -> int:
    """How many weights share a scale in an int8 file; 0 in a float32 one."""
    return _header(MappedFile(path)).group


def _header(file: MappedFile) -> Header:
    (first,) = struct.unpack("<I", file.bytes(0, 4, "the first field"))
    if first != MAGIC:
        width, hidden, layers, heads, kv_heads, vocab, context = struct.unpack("<7i", file.bytes(0, 28, "the header"))
        header = Header(0, width, hidden, layers, heads, kv_heads, abs(vocab), context, tied=vocab > 0)
        return _checked(file, header)
    (version,) = struct.unpack("<i", file.bytes(4, 4, "the version"))
    if version not in (1, 2):
        raise UnsupportedError(f"{file.name} is a llama2.c file of version {version}", expected="version 0, 1 or 2")
    head = file.bytes(0, 256, "the header")
    width, hidden, layers, heads, kv_heads, vocab, context = struct.unpack("<7i", head[8:36])
    tied, group = struct.unpack("<Bi", head[36:41])  # the group size follows one byte: it is not aligned
    if tied not in (0, 1) or any(head[41 if version == 2 else 37 :]):
        raise CheckpointError(f"{file.name}: the header is corrupt: its flag or padding is not what is always written")
    group = group if version == 2 else 0
    return _checked(file, Header(version, width, hidden, layers, heads, kv_heads, vocab, context, bool(tied), group))


def _checked(file: MappedFile, header: Header) -> Header:
    wrong = header.wrong()
    if wrong:
        raise CheckpointError(
            f"{file.name} is not a llama2.c model: {wrong}; its header reads as {header}",
            expected="7 int32 sizes (version 0), or the magic 0x616b3432 and a version",
        )
    return header


def _config(header: Header) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": header.width,
        "intermediate_size": header.hidden,
        "num_hidden_layers": header.layers,
        "num_attention_heads": header.heads,
        "num_key_value_heads": header.kv_heads,
        "head_dim": header.head_width,
        "vocab_size": header.vocab,
        "max_position_embeddings": header.context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": header.tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": "float32",
    }


def _stored(file: MappedFile, header: Header, name: str, full: str, offset: int) -> Stored:
    return Stored(
        header.shape(name),
        torch.float32,
        load=partial(_load, file, header, name, full, offset),
        release=partial(file.forget, offset, header.nbytes(name)),
        viewed=not header.group and not header.rotated_heads(name),
    )


def _load(file: MappedFile, header: Header, name: str, full: str, offset: int) -> Tensor:
    shape = header.shape(name)
    if header.group and len(shape) == 2:
        weight = _dequantised(file, offset, shape, header.group, full)
    else:
        weight = file.tensor(offset, torch.float32, shape, full)
    heads = header.rotated_heads(name)
    if not heads:
        return weight
    turned = half_rotation(weight, heads)
    file.forget(offset, header.nbytes(name))
    return turned


def _dequantised(file: MappedFile, offset: int, shape: tuple[int, ...], group: int, full: str) -> Tensor:
    """Groups run over the flattened matrix: where a row is not a multiple of the group, one group spans two rows."""
    count = math.prod(shape)
    values = file.tensor(offset, torch.int8, (count // group, group), full)
    scales = file.tensor(offset + count, torch.float32, (count // group, 1), f"the scales of {full}")
    return (values * scales).view(shape)


def write(
    path: str | Path,
    config: Mapping[str, object],
    tensors: Mapping[str, Tensor],
    version: int = 0,
    group_size: int | None = None,
) -> None:
    """Writes a LLaMA model, given as a Hugging Face config and tensors with Hugging Face names, whole or not at all.

    Version 2 quantises matrices to int8 in groups of `group_size`, which must divide the rows, as `runq.c` walks them;
    None is 64, halved until it does. Raises UsageError for another version or group size, UnsupportedError when the
    format has no place for something the model has, and CheckpointError when tensors are missing, unexpected or of
    another shape than the config says.
    """
    header = _header_of(config, version, group_size)
    tensors = _complete(header, tensors)
    with atomic_write(path) as partial_path, partial_path.open("wb") as file:
        file.write(_header_bytes(header))
        for full, name, offset in header.tensors():
            assert file.tell() == offset
            if name == ROPE_TABLES:
                _put(file, _rope_tables(header))
                continue
            heads = header.rotated_heads(name)
            weight = tensors[full].detach().cpu().float()
            weight = interleaved_rotation(weight, heads) if heads else weight
            if header.group and weight.ndim == 2:
                for part in quantised(weight, header.group, full):
                    _put(file, part)
            else:
                _put(file, weight)


def _header_of(config: Mapping[str, object], version: int, group_size: int | None) -> Header:
    """The header for this config, once nothing in it is beyond the format."""
    if version not in HEADER_BYTES:
        raise UsageError(f"llama2.c version {version} is not known", expected="0, 1 or 2")
    for what, found, wanted in _fixed(config):
        if found not in wanted:
            raise UnsupportedError(f"llama2.c cannot hold this model: {what} is {found!r}", expected=repr(wanted[0]))
    config = {"num_key_value_heads": config.get("num_attention_heads"), **config}
    sizes = [config.get(key) for key in SIZES]
    width, hidden, layers, heads, kv_heads, vocab, context = (
        size if isinstance(size, int) and not isinstance(size, bool) else 0 for size in sizes
    )
    tied = bool(config.get("tie_word_embeddings", False))
    if version != 2 and group_size is not None:
        raise UsageError(
            f"llama2.c version {version} has no groups", fix="leave the group size out, or ask for version 2"
        )
    group = _group(width, hidden, group_size) if version == 2 else 0
    header = Header(version, width, hidden, layers, heads, kv_heads, vocab, context, tied, group)
    wrong = header.wrong()
    if not wrong and config.get("head_dim") not in (None, header.head_width):
        wrong = f"head_dim {config['head_dim']} is not hidden_size / num_attention_heads"
    if wrong:
        raise UnsupportedError(f"llama2.c cannot hold this model: {wrong}; its sizes are {header}")
    return header


def _fixed(config: Mapping[str, object]) -> list[tuple[str, object, tuple[object, ...]]]:
    """(what, its value here, the values that llama2.c's programs assume), a missing key being transformers' default."""
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or {}
    if not isinstance(rope, dict) or not isinstance(scaling, dict):
        raise CheckpointError("rope_parameters or rope_scaling of the config is not a dictionary")
    eps = config.get("rms_norm_eps", 1e-6)
    close = isinstance(eps, float) and math.isclose(eps, 1e-5, rel_tol=1e-6)  # 1e-5 that went through float32 is it
    return [
        ("model_type", config.get("model_type"), ("llama",)),
        ("hidden_act", config.get("hidden_act", "silu"), ("silu", "swish")),
        ("rms_norm_eps", 1e-5 if close else eps, (1e-5,)),
        ("rope_theta", rope.get("rope_theta", config.get("rope_theta", 10000.0)), (10000.0,)),
        ("rope_scaling", (rope | scaling).get("rope_type", scaling.get("type", "default")), ("default",)),
        ("partial_rotary_factor", rope.get("partial_rotary_factor", 1.0), (1.0,)),
        ("attention_bias", config.get("attention_bias", False), (False,)),
        ("mlp_bias", config.get("mlp_bias", False), (False,)),
        ("bos_token_id", config.get("bos_token_id", 1), (1,)),
        ("eos_token_id", config.get("eos_token_id", 2), (2, [2], [2, 1], [1, 2])),  # its programs end at 1, too
    ]


def _group(width: int, hidden: int, group_size: int | None) -> int:
    if group_size is not None:
        if group_size < 2:
            raise UsageError(f"a group size of {group_size} saves nothing", expected="2 or more, usually 64")
        if width % group_size or hidden % group_size:
            fits = ", ".join(str(size) for size in range(2, 257) if width % size == hidden % size == 0)
            raise UsageError(
                f"groups of {group_size} do not divide the widths {width} and {hidden}",
                expected=fits or "no size does; version 1 needs none",
            )
        return group_size
    group = 64
    while width % group or hidden % group:
        group //= 2
        if group < 2:
            raise UnsupportedError(f"no group size up to 64 divides the widths {width} and {hidden}")
    return group


def _complete(header: Header, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Exactly the tensors of the file; a classifier that repeats the tied embedding is left out."""
    wanted = {full: header.shape(name) for full, name, _ in header.tensors() if name != ROPE_TABLES}
    given = dict(tensors)
    classifier = given.pop(CLASSIFIER, None) if header.tied else None
    if classifier is not None and not torch.equal(classifier, given.get(EMBEDDING, torch.empty(0))):
        raise CheckpointError(f"{CLASSIFIER} differs from {EMBEDDING}, though tie_word_embeddings is true")
    for problem, names in (("missing", wanted.keys() - given), ("unexpected", given.keys() - wanted)):
        if names:
            raise CheckpointError(f"{len(names)} tensors are {problem}: {', '.join(sorted(names)[:5])}")
    for full, shape in wanted.items():
        if tuple(given[full].shape) != shape:
            raise CheckpointError(f"{full} has the shape {list(given[full].shape)}", expected=f"{list(shape)}")
        if given[full].dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise UnsupportedError(f"{full} is {given[full].dtype}", expected="float32, float16 or bfloat16")
    return given


def _header_bytes(header: Header) -> bytes:
    vocab = header.vocab if header.version or header.tied else -header.vocab
    sizes = struct.pack(
        "<7i", header.width, header.hidden, header.layers, header.heads, header.kv_heads, vocab, header.context
    )
    if header.version == 0:
        return sizes
    head = struct.pack("<Ii", MAGIC, header.version) + sizes + struct.pack("<B", header.tied)
    if header.version == 2:
        head += struct.pack("<i", header.group)
    return head.ljust(HEADER_BYTES[header.version], b"\0")


def _rope_tables(header: Header) -> Tensor:
    """(2, context, head width / 2): cosines, then sines, in float32 steps as the original exporter takes them."""
    pairs = torch.arange(0, header.head_width, 2).float() / header.head_width
    angles = torch.outer(torch.arange(header.context).float(), 1.0 / 10000.0**pairs)
    return torch.stack((angles.cos(), angles.sin()))


def quantised(weight: Tensor, group: int, what: str) -> tuple[Tensor, Tensor]:
    """int8 values (groups, group) and float32 scales (groups,), symmetric: the largest magnitude becomes ±127."""
    if not weight.isfinite().all():
        raise CheckpointError(f"{what} holds values that are not finite, which int8 cannot hold")
    groups = weight.reshape(-1, group)
    scales = groups.abs().amax(1) / 127.0
    values = groups / scales.where(scales > 0, 1.0).unsqueeze(1)
    return values.round().to(torch.int8), scales


def _put(file: BinaryIO, values: Tensor) -> None:
    array = values.contiguous().numpy()
    file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
