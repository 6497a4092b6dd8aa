"""One of several processes: the same methods as one alone, and what makes their results equal to its."""

from __future__ import annotations

import atexit
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from paddock.checkpoint.weights import elsewhere
from paddock.errors import Interrupted, PaddockError, UsageError
from paddock.model.initialise import First
from paddock.model.transformer import Transformer
from paddock.model.twin import empty, twin_of
from paddock.training.parallel import adapters, codes, cutting, state
from paddock.training.parallel.alone import Alone, Fetch
from paddock.training.parallel.reduction import summed
from paddock.training.parallel.section import Parallel
from paddock.training.parallel.watch import Watch, leave, lost

DATA, TENSOR = "data", "tensor"


@dataclass(frozen=True)
class Places:
    """Who computes what: rank r has the rows of share r // tensor, and of each matrix the part r % tensor.

    mesh: the processes on the axes `data` and `tensor`, those of them that are longer than one. patient: a group on
    which others may be waited for as long as they live.
    """

    rank: int
    world: int
    tensor: int
    mesh: DeviceMesh
    patient: dist.ProcessGroup

    def axis(self, name: str) -> DeviceMesh | None:
        """The mesh of the processes that differ from this one in `name` only; None where there is but one."""
        return self.mesh[name] if name in (self.mesh.mesh_dim_names or ()) else None

    def group(self, name: str) -> dist.ProcessGroup | None:
        mesh = self.axis(name)
        return None if mesh is None else mesh.get_group()


class Together(Alone):
    """What `Alone` says, over the processes of `places`. Ends with them: see `__exit__`."""

    def __init__(self, section: Parallel, device: torch.device, places: Places, watch: Watch, holds: bool) -> None:
        super().__init__(device, places.rank // places.tensor, places.world // places.tensor, main=places.rank == 0)
        self.section, self.places, self.watch, self.holds = section, places, watch, holds
        self.data, self.tensor = places.group(DATA), places.group(TENSOR)
        self.in_shards = section.mode != "ddp" or places.tensor > 1

    def __enter__(self) -> Together:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends all processes alike: with the first failure's exit code, whichever of them it came to."""
        if error is None or isinstance(error, Interrupted):  # all are interrupted at the same step
            self.barrier()
            self.watch.close(self.holds)
            dist.destroy_process_group()
            return
        code = _code(error)
        if lost(error):
            failure = self.watch.failure or self.watch.tell(code, f"it lost contact with another ({_line(error)})")
        else:
            failure = self.watch.tell(code, _line(error))
        # Threads that wait in a collective would keep the process from ending.
        atexit.register(leave, failure.code)
        if lost(error) or failure.code != code:
            raise failure.error(self.places.world) from error

    # Rows

    def check(self, rows: int) -> None:
        if rows % self.data_ranks:
            raise UsageError(
                f"{rows} rows a step cannot be shared by {self.data_ranks} processes evenly",
                fix=f"set training.batch to a multiple of {self.data_ranks}",
            )

    # A model in parts

    def spread(self, model: Transformer, first: First | None = None) -> Transformer:
        """Without `first` the main process's weights count; those of the others may be none (the meta device)."""
        if self.in_shards:
            adapters.check(model, self.section, self.tensor is not None, self.device)
        self.bare = twin_of(model)  # as one process has it, to be filled by `whole`
        empty(self.bare)
        tensor, data = self.places.axis(TENSOR), self.places.axis(DATA)
        if data is not None and self.section.mode == "fsdp":
            codes.in_shards(model)
        weights = {name: p.detach() for name, p in model.named_parameters()} if self.main and first is None else {}
        absent = any(p.is_meta for p in model.parameters())
        learns = {name: p.requires_grad for name, p in model.named_parameters()}
        if tensor is not None:
            cutting.by_role(model, tensor)
            for name, parameter in model.named_parameters():  # PyTorch's parts of matrices all ask for gradients
                parameter.requires_grad_(learns[name])
        if data is not None and self.section.mode == "fsdp":
            cutting.by_block(model, data, torch.bfloat16 if self.section.gather == "bfloat16" else None)
        if first is not None:
            return super().spread(model, first)
        model = state.with_room(model, self.device) if absent else model.to(self.device)
        self._share(model, weights)
        return model

    def _share(self, model: Transformer, weights: Mapping[str, Tensor], names: Collection[str] | None = None) -> None:
        for name, parameter in model.named_parameters():
            if names is not None and name not in names:
                continue
            whole = self._from_main(weights.get(name), parameter.shape, parameter.dtype)
            state.fill(parameter, whole)

    def _from_main(self, tensor: Tensor | None, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """The main process's tensor on all of them, on the device."""
        if self.main:
            assert tensor is not None
            whole = tensor.to(self.device, dtype).contiguous()
        else:
            whole = torch.empty(tuple(shape), dtype=dtype, device=self.device)
        dist.broadcast(whole, 0)
        return whole

    # A step

    @contextmanager
    def accumulating(self, model: Transformer, last: bool) -> Iterator[None]:
        if self.data is None:
            yield
        elif self.section.mode == "fsdp":
            assert isinstance(model, FSDPModule)
            model.set_requires_gradient_sync(last)
            model.set_is_last_backward(last)
            yield
        elif last:
            with summed(model.parameters(), self.data):
                yield
        else:
            yield

    def totals(self, values: Sequence[float]) -> list[float]:
        if self.data is None:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums, group=self.data)
        return sums.tolist()

    def agreed(self, flag: bool) -> bool:
        return self._most(int(flag)) > 0

    def barrier(self) -> None:
        self._most(0)

    def _most(self, number: int) -> int:
        # Others may be at something long (the main process at a save): their beat says that they live.
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MAX, group=self.places.patient)
        return int(value)

    def gradient_norm(self, parameters: Sequence[Tensor]) -> Tensor:
        # Squares by whether a gradient lies in parts over data (the row) and over tensor (the column).
        squares = torch.zeros(2, 2, dtype=torch.float64, device=self.device)
        for parameter in parameters:
            if parameter.grad is not None:
                norm = torch.linalg.vector_norm(state.local(parameter.grad), dtype=torch.float32)
                cut = _cut_over(parameter.grad)
                squares[int(DATA in cut), int(TENSOR in cut)] += norm.double().square()
        for group, part in ((self.tensor, squares[:, 1]), (self.data, squares[1])):
            if group is not None:
                sums = part.clone()
                dist.all_reduce(sums, group=group)
                part.copy_(sums)
        return squares.sum().sqrt().float()

    def scale_gradients(self, parameters: Sequence[Tensor], factor: Tensor) -> None:
        torch._foreach_mul_([state.local(p.grad) for p in parameters if p.grad is not None], factor)

    # At rest

    def held(self, model: Transformer, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Tensor]:
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # after an evaluation the outermost weights may still be whole
        return super().held(model, optimizer)

    @contextmanager
    def lending(self, tensors: Mapping[str, Tensor]) -> Iterator[Fetch]:
        names = [name for name, tensor in tensors.items() if state.sharded(tensor)]
        places = {name: place for place, name in enumerate(names)}

        def fetch(name: str) -> Tensor:
            if name not in places:
                return tensors[name]
            self._called(places[name])
            return state.gathered(tensors[name]).cpu()

        if not names:
            yield fetch
        elif self.main:
            try:
                yield fetch
            finally:
                self._called(-1)
        else:
            yield fetch
            while (place := self._called()) >= 0:
                state.gathered(tensors[names[place]])

    def _called(self, place: int = 0) -> int:
        """Which tensor the main process wants next. It may be writing the one before, for as long as it lives."""
        value = torch.tensor(place)
        dist.broadcast(value, 0, group=self.places.patient)
        return int(value)

    def whole(self, model: Transformer, fetch: Fetch, names: Collection[str] | None = None) -> Transformer:
        own = dict(model.named_parameters())
        if not any(state.sharded(parameter) for parameter in own.values()):
            return model
        if names is not None:
            return _filled(self.bare, {n: nn.Parameter(fetch(n), requires_grad=False) for n in own if n in names})
        return _filled(self.bare, {n: elsewhere(p.shape, p.dtype, partial(fetch, n)) for n, p in own.items()})

    def restore(
        self,
        model: Transformer,
        optimizer: torch.optim.Optimizer | None,
        weights: Mapping[str, Tensor],
        moments: Mapping[str, Mapping[str, Any]],
        learns: Collection[str] | None = None,
    ) -> None:
        if self.main:
            state.check(model, weights, moments, learns)
        self._share(model, weights, learns)
        if optimizer is None:
            return
        own, groups = dict(model.named_parameters()), state.groups_of(optimizer)
        for name, items in self.told(_described(moments) if self.main else None).items():
            parameter = own[name]
            optimizer.state[parameter] = {
                key: state.kept(self._value(item, moments.get(name, {}).get(key)), parameter, groups[id(parameter)])
                for key, item in items.items()
            }

    def _value(self, item: Any, given: Any) -> Any:
        """A number as it is told, or the main process's tensor of the type and shape that are told."""
        if not isinstance(item, list):
            return item
        return self._from_main(given, item[1:], getattr(torch, item[0]))

    def told(self, value: Any) -> Any:
        data = torch.tensor(list(json.dumps(value).encode()) if self.main else [], dtype=torch.uint8)
        size = self._from_main(torch.tensor([len(data)]), [1], torch.int64)
        return json.loads(bytes(self._from_main(data, [int(size)], torch.uint8).tolist()))


def _described(moments: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Tensors as [type, *shape], so that others can make room for them."""
    return {
        name: {
            key: [str(value.dtype).removeprefix("torch."), *value.shape] if isinstance(value, Tensor) else value
            for key, value in items.items()
        }
        for name, items in moments.items()
    }


def _filled(bare: Transformer, weights: Mapping[str, nn.Parameter]) -> Transformer:
    """A model like `bare`, with these weights where it has none; parameters without one stay on the meta device."""
    model: Transformer = twin_of(bare)
    own = dict(model.named_parameters())
    new = {id(own[name]): weight for name, weight in weights.items()}
    for module in model.modules():
        for leaf, parameter in module._parameters.items():
            if parameter is not None:  # one that several modules share goes into all of them
                module._parameters[leaf] = new.get(id(parameter), parameter)
    return model.eval()


def _cut_over(tensor: Tensor) -> tuple[str, ...]:
    """The axes over which a tensor lies in parts."""
    if not isinstance(tensor, DTensor):
        return ()
    names = tensor.device_mesh.mesh_dim_names or ()
    return tuple(name for name, placement in zip(names, tensor.placements, strict=True) if not placement.is_replicate())


def _code(error: BaseException) -> int:
    """The exit code that the command line gives an error."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    code = getattr(error, "exit_code", getattr(error, "code", 1))
    return code if isinstance(code, int) and code else 1


def _line(error: BaseException) -> str:
    """An error in one line."""
    text = error.what if isinstance(error, PaddockError) else str(error) or type(error).__name__
    return text.splitlines()[0][:500]
