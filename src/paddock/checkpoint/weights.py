"""Published tensors into the Transformer and back, by the family's rules. Nothing may be left over, on either side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from paddock.checkpoint.packing import Packing
from paddock.checkpoint.stored import Stored
from paddock.errors import CheckpointError, UnsupportedError, nearest
from paddock.kernels.packed import Packed
from paddock.model.linear import hold, weights_of
from paddock.model.rules import Drop, Rule, attention_at
from paddock.model.spec import Architecture, Attention, Experts
from paddock.model.transformer import Transformer

# A tied tensor has no parameter of its own; where a file stores it all the same, it must equal what it is tied to.
TIED = {"head.weight": "embedding.tokens.weight", "encoder.embedding.tokens.weight": "embedding.tokens.weight"}


@dataclass(frozen=True)
class Placed:
    """A published tensor, the rule about it, and the canonical parameters it holds."""

    name: str
    stored: Stored
    rule: Rule
    ours: tuple[str, ...]


def build(
    architecture: Architecture,
    tensors: Mapping[str, Stored],
    rules: Iterable[Rule],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    check_finite: bool = True,
    packing: Packing | None = None,
) -> Transformer:
    """A Transformer with these weights, for inference; all in `dtype`, which None leaves to `native_dtype`.

    With `packing`, quantised matrices are packed as it says, and all else is of the type that it names.

    Tensors that need no change stay views of the file's memory map; others are converted one at a time, so that memory
    peaks near the size of the result. Raises CheckpointError naming every missing, unknown or misshapen tensor, and the
    first that holds NaN, infinity or a number too large for `dtype` (unless `check_finite` is off).
    """
    dtype = packing.rest if packing else dtype or native_dtype(tensors)
    model = sketch(architecture, len(tensors))
    expected = {name: tuple(p.shape) for name, p in model.named_parameters()}
    rules = [rule for rule in rules if rule.when(architecture)]
    placed = [place(name, stored, rules, architecture, expected) for name, stored in tensors.items()]
    _check_complete(expected, placed)
    done: dict[str, Tensor | Packed] = {}

    def settle(name: str, part: Tensor) -> Tensor | Packed:
        held = packing.numbers(model, name, part) if packing else None
        return part.to(device=device, dtype=dtype).contiguous() if held is None else held

    for item in placed:
        if not item.ours:
            continue
        codes, attention = item.stored.codes, attention_at(architecture, item.ours[0])
        ours = [own for own in item.ours if own in expected]
        whole = packing.whole(model, ours[0], item.stored, item.rule) if packing and len(ours) == 1 else None
        if whole is not None:
            _put(done, ours[0], whole, item.name)
        elif packing and codes and len(ours) == len(item.ours) and packing.takes(model, ours, item.rule):
            columns = {own: expected[own][1] for own in ours}
            for own, matrix in packing.published(item.name, codes, item.rule, attention, columns).items():
                _put(done, own, matrix, item.name)
            item.stored.release()
        else:
            if check_finite:
                _check_range(item.stored.load(), item.name, dtype)
            _load(item, attention, expected, done, settle)
    for name, tensor in done.items():
        _assign(model, name, tensor)
    return model.eval()


def native_dtype(tensors: Mapping[str, Stored], preferred: torch.dtype | None = None) -> torch.dtype:
    """The one type that a checkpoint's numbers are loaded in unless another is asked for.

    Where all are stored in one type, that one, whatever the configuration says: nothing is rounded. Where types differ
    (ChatGLM-6B: float32 norms beside float16 matrices), `preferred` if it is among them, else what most bytes have.
    8-bit floats count as bfloat16, which holds each of their values exactly.
    """
    sizes: Counter[torch.dtype] = Counter()
    for stored in tensors.values():
        if stored.dtype.is_floating_point:
            dtype = stored.dtype if stored.dtype.itemsize > 1 else torch.bfloat16
            sizes[dtype] += math.prod(stored.shape) * dtype.itemsize
    if not sizes:
        return torch.float32
    return preferred if preferred and preferred in sizes else sizes.most_common(1)[0][0]


class _Unfilled(TorchFunctionMode):
    """Leaves new parameters as they are: initialising them on the meta device imports half of PyTorch (seconds)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


def sketch(architecture: Architecture, tensors: int | None = None) -> Transformer:
    """The model on the meta device: names and shapes, no numbers.

    `tensors`: how many the files hold, where there are files; what they could never fill is refused unbuilt, as
    building millions of modules takes minutes. Raises CheckpointError for that, and for sizes beyond 2^63.
    """
    if tensors is not None:
        _check_scale(architecture, tensors)
    try:
        with torch.device("meta"), _Unfilled():
            return Transformer(architecture)
    except (RuntimeError, OverflowError) as error:
        raise CheckpointError(
            f"config.json describes tensors that no file could hold ({str(error).splitlines()[0][:100]})"
        ) from None


def _check_scale(architecture: Architecture, tensors: int) -> None:
    """Refuses, before anything is built, more layers and experts than the files have tensors for."""
    parts = 0
    for layer in architecture.layers:
        parts += layer.feedforward.count if isinstance(layer.feedforward, Experts) else 1
    if parts > tensors:
        raise CheckpointError(
            f"config.json describes {architecture.blocks} layers with {parts} feed-forwards, but the files hold only "
            f"{tensors} tensors",
            fix="config.json and the weights may come from different models",
        )


def place(
    name: str,
    stored: Stored,
    rules: Iterable[Rule],
    architecture: Architecture,
    expected: Mapping[str, tuple[int, ...]],
) -> Placed:
    """Finds the one rule about a published tensor and checks its shape before any byte of it is read."""
    for rule in rules:
        ours = rule.read(name)
        if ours is None:
            continue
        if isinstance(rule, Drop):
            return Placed(name, stored, rule, ())
        homes = [TIED.get(own, own) if own not in expected else own for own in ours]
        unknown = [own for own in homes if own not in expected]
        if unknown:
            raise CheckpointError(
                f"tensor {name[:120]!r} has no place in this model of {architecture.blocks} layers",
                fix="config.json and the weights may come from different models",
            )
        wanted = rule.shape([torch.Size(expected[own]) for own in homes])
        if stored.shape != wanted:
            raise CheckpointError(
                f"tensor {name[:120]!r} has the shape {list(stored.shape)}", expected=f"{list(wanted)} by config.json"
            )
        if not stored.dtype.is_floating_point:
            raise UnsupportedError(f"tensor {name[:120]!r} is stored as {stored.dtype}", expected="floating point")
        return Placed(name, stored, rule, ours)
    near = nearest(name, [rule.theirs for rule in rules])
    raise CheckpointError(
        f"tensor {name[:120]!r} is not one that {architecture.family} models have"
        + (f"; the nearest name it could be is {near!r}" if near else "")
    )


def _check_complete(expected: Mapping[str, tuple[int, ...]], placed: list[Placed]) -> None:
    held = {own for item in placed for own in item.ours}
    held |= {TIED[own] for own in held if own in TIED and own not in expected}
    missing = [name for name in expected if name not in held]
    if missing:
        shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        raise CheckpointError(f"the weights lack {shown}", fix="download or copy the model's files again")


def _load(
    item: Placed,
    attention: Attention | None,
    expected: Mapping[str, tuple[int, ...]],
    done: dict[str, Tensor | Packed],
    settle: Callable[[str, Tensor], Tensor | Packed],
) -> None:
    """Reads one tensor, and gives its parts the form they are kept in (`settle`)."""
    source = item.stored.load()
    parts = item.rule.split(source, attention)
    file_pages, copied = source.untyped_storage().data_ptr(), True
    for own, part in zip(item.ours, parts, strict=True):
        home = own if own in expected else TIED[own]
        kept = settle(home, part)
        if isinstance(kept, Tensor):
            copied &= kept.untyped_storage().data_ptr() != file_pages  # a rule may have copied already
        _put(done, home, kept, item.name)
    if copied:
        item.stored.release()


def _put(done: dict[str, Tensor | Packed], home: str, kept: Tensor | Packed, name: str) -> None:
    """A parameter's numbers, which no second tensor may contradict."""
    if home in done and not torch.equal(_numbers(done[home]), _numbers(kept)):
        raise CheckpointError(
            f"tensor {name[:120]!r} differs from the one config.json says it is tied to",
            fix='set "tie_word_embeddings": false in config.json if the stored tensor is meant',
        )
    done.setdefault(home, kept)


def _numbers(kept: Tensor | Packed) -> Tensor:
    return kept.dequantise() if isinstance(kept, Packed) else kept


def _check_range(tensor: Tensor, name: str, dtype: torch.dtype) -> None:
    """One pass without a copy: the extremes are NaN if any number is."""
    if tensor.numel() == 0:
        return
    whole = tensor if tensor.dtype.itemsize > 1 else tensor.to(torch.bfloat16)
    largest = max(abs(extreme.item()) for extreme in whole.aminmax())
    if not math.isfinite(largest):
        count = int((~whole.isfinite()).sum())
        raise CheckpointError(
            f"tensor {name[:120]!r} holds {count} values that are not numbers (NaN or infinite)",
            fix="the file is corrupt or its training diverged; get another copy",
        )
    if largest > torch.finfo(dtype).max:
        raise CheckpointError(
            f"tensor {name[:120]!r} holds {largest:g}, too large for {str(dtype).removeprefix('torch.')}",
            fix="load the model in bfloat16 or float32",
        )


def _assign(model: nn.Module, name: str, tensor: Tensor | Packed) -> None:
    path, _, leaf = name.rpartition(".")
    if isinstance(tensor, Packed):
        hold(model.get_submodule(path), leaf, tensor)
    else:
        setattr(model.get_submodule(path), leaf, nn.Parameter(tensor, requires_grad=False))


class Elsewhere(nn.Parameter):
    """A parameter on the meta device, whose numbers `fetch` gives when they are written."""

    fetch: Callable[[], Tensor]


def elsewhere(shape: torch.Size, dtype: torch.dtype, fetch: Callable[[], Tensor]) -> Elsewhere:
    """A parameter of a model that is too large to be whole in one process."""
    parameter = Elsewhere(torch.empty(shape, dtype=dtype, device="meta"), requires_grad=False)
    parameter.fetch = fetch
    return parameter


@dataclass(frozen=True)
class Published:
    """One tensor to be written: its published name, the canonical parameters it is joined from, its size."""

    name: str
    rule: Rule
    parts: tuple[Tensor | Packed, ...]
    model: Transformer
    ours: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rule.shape([part.shape for part in self.parts])

    @property
    def dtype(self) -> torch.dtype:
        return self.parts[0].dtype

    @property
    def nbytes(self) -> int:
        return sum(part.numel() * part.dtype.itemsize for part in self.parts)

    def tensor(self) -> Tensor:
        """The numbers; those of packed matrices as float32."""
        parts = [part.fetch() if isinstance(part, Elsewhere) else _numbers(part) for part in self.parts]
        return self.rule.join(parts, attention_at(self.model.architecture, self.ours[0])).detach()


def published(model: Transformer, rules: Iterable[Rule]) -> list[Published]:
    """The model's weights as they will be written, in the model's order: the inverse of `build`, not yet joined."""
    rules = [rule for rule in rules if rule.when(model.architecture)]
    own = weights_of(model)
    result: list[Published] = []
    written: set[str] = set()
    for name in own:
        if name in written:
            continue
        answers = ((rule, answer) for rule in rules if (answer := rule.write(name)) is not None)
        rule, (theirs, ours) = next(answers)
        result.append(Published(theirs, rule, tuple(own[part] for part in ours), model, ours))
        written.update(ours)
    return result
