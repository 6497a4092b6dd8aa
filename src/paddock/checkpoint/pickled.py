"""The pickles that torch.save writes for a state dictionary, read as data: no name in them is ever imported or called.

A pickle is a program for a small stack machine. This one knows only the opcodes that a dictionary of tensors needs,
and answers calls from a table of four names by building plain descriptions. PyTorch's restricted unpickler
(weights_only=True) is not used: 32 bytes make it allocate gigabytes (a bytearray of any length), and it was escaped
twice (CVE-2025-32434, CVE-2026-24747). Opcodes: Python's pickletools; what torch.save writes: torch/_utils.py.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from paddock.errors import CheckpointError, UnsupportedError

OPCODES = 400_000  # a tensor takes 32: twelve thousand in one file

DTYPES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
    "torch.storage UntypedStorage": torch.uint8,
    "torch float8_e4m3fn": torch.float8_e4m3fn,
    "torch float8_e5m2": torch.float8_e5m2,
}


@dataclass(frozen=True)
class Named:
    """A name that the pickle asks for, as "module name"; a token, never looked up."""

    name: str


@dataclass(frozen=True)
class Storage:
    """`count` numbers in the archive's member `key`."""

    key: str
    dtype: torch.dtype
    count: int

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class View:
    """A tensor: a strided view of a storage, in elements of `dtype`."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class Mark:
    """Where a group of stack items begins."""


class Refused(Exception):
    """The program does something that no state dictionary needs; the reader adds the file's name."""


def tensors(program: bytes, name: str) -> dict[str, View]:
    """The state dictionary that a pickle describes.

    Raises CheckpointError, UnsupportedError for a sound pickle of something else. `name` is the file's.
    """
    try:
        value = _run(program)
    except Refused as problem:
        raise CheckpointError(
            f"{name} is not opened: {problem}", fix="use the model's safetensors files, or ask its publisher for them"
        ) from None
    # genops raises ValueError for broken opcodes; an empty stack and a missing memo entry raise the others
    except (ValueError, IndexError, KeyError, TypeError) as problem:
        raise CheckpointError(f"{name} holds a broken pickle: {str(problem)[:120]}") from None
    if not isinstance(value, dict) or not all(isinstance(item, View) for item in value.values()):
        raise UnsupportedError(f"{name} is not a dictionary of named tensors", expected="a saved state_dict")
    return value


def _run(program: bytes) -> Any:
    """Interprets a pickle of protocol 2."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(program)):
        if count == OPCODES:
            raise Refused(f"it has more than {OPCODES} steps")
        match opcode.name:
            case "STOP" if len(stack) == 1:
                return stack[0]
            case "STOP":
                raise Refused("it ends with other than one value")
            case "PROTO":
                continue
            case "MARK":
                stack.append(Mark)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_named(argument))
            case other if other in _VALUES:
                stack.append(_VALUES[other](argument))
            case other if other in _STEPS:
                _STEPS[other](stack)
            case other:
                raise Refused(f"it uses the pickle opcode {other}")
    raise Refused("it has no end")


def _named(name: str) -> Named:
    if name not in DTYPES and name not in _CALLS:
        raise Refused(f"it asks for the code {name[:80]!r}, which no state dictionary needs")
    return Named(name)


# Opcodes that push a value.
_VALUES: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "BININT": lambda value: value,
    "BININT1": lambda value: value,
    "BININT2": lambda value: value,
    "LONG1": lambda value: value,
    "BINFLOAT": lambda value: value,
    "BINUNICODE": lambda value: value,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
}


def _group(stack: list[Any]) -> list[Any]:
    """Takes everything above the last mark, and the mark."""
    items = []
    while (item := stack.pop()) is not Mark:
        items.append(item)
    return items[::-1]


def _tuple(stack: list[Any]) -> None:
    stack.append(tuple(_group(stack)))


def _short_tuple(size: int) -> Callable[[list[Any]], None]:
    def step(stack: list[Any]) -> None:
        items = [stack.pop() for _ in range(size)]
        stack.append(tuple(items[::-1]))

    return step


def _set_items(stack: list[Any], items: list[Any]) -> None:
    target, keys = stack[-1], items[::2]
    if not isinstance(target, dict) or len(items) % 2 or not all(isinstance(key, str) for key in keys):
        raise Refused("it fills something other than a dictionary with text keys")
    if len(set(keys)) < len(keys) or any(key in target for key in keys):
        raise Refused("it holds the same name twice")
    target.update(zip(keys, items[1::2], strict=True))


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _set_items(stack, [key, value])


def _append(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise Refused("it appends to something other than a list")
    stack[-1].extend(items)


def _build(stack: list[Any]) -> None:
    """Attributes set on an object: the only ones known are a state dictionary's version numbers, which say nothing."""
    state = stack.pop()
    if not isinstance(stack[-1], dict) or not isinstance(state, dict) or set(state) != {"_metadata"}:
        raise Refused("it sets attributes of objects")


def _persistent(stack: list[Any]) -> None:
    kind, named, key, _, count = stack.pop()
    if kind != "storage" or not isinstance(named, Named) or not isinstance(key, str) or not _counts(count):
        raise Refused("it refers to something other than a storage")
    stack.append(Storage(key, DTYPES[named.name], count))


def _reduce(stack: list[Any]) -> None:
    arguments, function = stack.pop(), stack.pop()
    if not isinstance(function, Named) or function.name not in _CALLS or not isinstance(arguments, tuple):
        raise Refused("it calls something that no state dictionary needs")
    stack.append(_CALLS[function.name](*arguments))


def _counts(*values: Any) -> bool:
    return all(type(value) is int and 0 <= value < 2**50 for value in values)


def _view(storage: Any, offset: Any, shape: Any, stride: Any, dtype: torch.dtype) -> View:
    """Checked against its storage: no element outside it, and no more elements than it has."""
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise Refused("it builds a tensor from something other than a storage, a shape and strides")
    if not _counts(offset, *shape, *stride) or len(shape) != len(stride) or len(shape) > 16:
        raise Refused("it builds a tensor whose shape or strides are not short lists of whole numbers")
    count, numel = storage.nbytes // dtype.itemsize, math.prod(shape)
    reach = offset + sum((extent - 1) * step for extent, step in zip(shape, stride, strict=True)) + 1
    if numel > count or (numel and reach > count) or offset > count:
        raise Refused(f"it builds a tensor of the shape {list(shape)} from a storage of {count} numbers")
    return View(storage, offset, shape, stride, dtype)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> View:
    return _view(storage, offset, shape, stride, storage.dtype if isinstance(storage, Storage) else torch.uint8)


def _typed_tensor(storage: Any, offset: Any, shape: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any) -> View:
    if not isinstance(dtype, Named) or dtype.name not in DTYPES:
        raise Refused("it builds a tensor of no type")
    return _view(storage, offset, shape, stride, DTYPES[dtype.name])


def _parameter(data: Any, _grad: Any, _hooks: Any) -> Any:
    return data


def _ordered_dict(*items: Any) -> dict[str, Any]:
    if items:
        raise Refused("it fills a dictionary by a call")
    return {}


# The only names that may be called, and what stands in for them.
_CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_tensor_v3": _typed_tensor,
    "torch._utils _rebuild_parameter": _parameter,
}

_STEPS: dict[str, Callable[[list[Any]], None]] = {
    "TUPLE": _tuple,
    "TUPLE1": _short_tuple(1),
    "TUPLE2": _short_tuple(2),
    "TUPLE3": _short_tuple(3),
    "SETITEM": _set_item,
    "SETITEMS": lambda stack: _set_items(stack, _group(stack)),
    "APPEND": lambda stack: _append(stack, [stack.pop()]),
    "APPENDS": lambda stack: _append(stack, _group(stack)),
    "BUILD": _build,
    "BINPERSID": _persistent,
    "REDUCE": _reduce,
}
