"""One process: the plain case."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from paddock.model.initialise import First
from paddock.model.transformer import Transformer
from paddock.training.parallel import state

Fetch = Callable[[str], Tensor]  # a tensor by its name, whole


@dataclass(eq=False)
class Alone:
    """One process. `Together` has the same attributes and methods; those marked * every process must call.

    device: where the model and its batches go. data_rank, data_ranks: which rows of a batch are this process's, of how
    many shares. main: whether this process writes files and tells the user. in_shards: whether it holds parts of the
    model only.
    """

    device: torch.device
    data_rank: int = 0
    data_ranks: int = 1
    main: bool = True
    in_shards: bool = False

    def __enter__(self) -> Alone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def check(self, rows: int) -> None:
        """Refuses (UsageError) a number of rows per step that cannot be shared out evenly."""

    def spread(self, model: Transformer, first: First | None = None) -> Transformer:
        """* The model as this process holds it, on its device: whole, a replica, or a shard. In place.

        first: what `model`, which is on the meta device, begins with; every process draws its own part of it, and none
        ever holds more than that and one parameter whole.
        """
        if first is None:
            return model.to(self.device)
        model = state.with_room(model, self.device)
        for name, parameter in model.named_parameters():
            state.fill(parameter, first(name))
        return model

    @contextmanager
    def accumulating(self, model: Transformer, last: bool) -> Iterator[None]:
        """* Around each micro-batch: gradients need to meet those of other processes after the last one only."""
        yield

    def totals(self, values: Sequence[float]) -> list[float]:
        """* Each value summed over the processes that read different rows (float64; equal on all of them)."""
        return list(values)

    def agreed(self, flag: bool) -> bool:
        """* True on all processes as soon as one of them says so: when to stop, when to save."""
        return flag

    def told(self, value: Any) -> Any:
        """* The main process's value, of JSON's types, on all of them."""
        return value

    def gradient_norm(self, parameters: Sequence[Tensor]) -> Tensor:
        """* The 2-norm of the whole gradient, over all shards, as a plain float32 scalar."""
        norms = [torch.linalg.vector_norm(p.grad, dtype=torch.float32) for p in parameters if p.grad is not None]
        return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros((), device=self.device)

    def scale_gradients(self, parameters: Sequence[Tensor], factor: Tensor) -> None:
        """Multiplies every gradient, shards too, by a scalar that is equal on all processes."""
        torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], factor)

    def barrier(self) -> None:
        """* Returns when all processes have come here, however long a save takes; refuses where one does not answer."""

    def held(self, model: Transformer, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Tensor]:
        """* What this process holds of all weights, by name, and of the optimizer's tensors, as `name/key`."""
        tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
        for name, items in (self.moments(model, optimizer) if optimizer is not None else {}).items():
            tensors |= {f"{name}/{key}": value for key, value in items.items() if isinstance(value, Tensor)}
        return tensors

    @contextmanager
    def lending(self, tensors: Mapping[str, Tensor]) -> Iterator[Fetch]:
        """* Around what the main process does with tensors that lie in parts (`held`): what it is given makes one of
        them whole at a time. The others do nothing in the body, and give their parts until the main process is done.
        """
        yield tensors.__getitem__

    def whole(self, model: Transformer, fetch: Fetch, names: Collection[str] | None = None) -> Transformer:
        """The model as one process has it, for the main process to write while tensors are lent (`fetch`).

        A weight that lies in parts is put together when it is written, and then let go. names: of what is written, if
        not all: these are there at once, and the rest of a model in shards is left on the meta device.
        """
        return model

    def moments(self, model: Transformer, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
        """What this process holds of the optimizer's state, by the names of parameters."""
        return {name: dict(optimizer.state[p]) for name, p in model.named_parameters() if p in optimizer.state}

    def restore(
        self,
        model: Transformer,
        optimizer: torch.optim.Optimizer | None,
        weights: Mapping[str, Tensor],
        moments: Mapping[str, Mapping[str, Any]],
        learns: Collection[str] | None = None,
    ) -> None:
        """* Puts back whole weights and the optimizer's whole state, whatever number of processes they were saved by.

        learns: the parameters that were trained, which are all that `weights` has; None: every one.
        Only the main process's `weights` and `moments` count. Raises CheckpointError where they are not this model's.
        """
        state.check(model, weights, moments, learns)
        groups = state.groups_of(optimizer) if optimizer is not None else {}
        for name, parameter in model.named_parameters():
            if name not in weights:
                continue
            state.fill(parameter, weights[name])
            if optimizer is not None and name in moments:
                group = groups[id(parameter)]
                optimizer.state[parameter] = {k: state.kept(v, parameter, group) for k, v in moments[name].items()}
