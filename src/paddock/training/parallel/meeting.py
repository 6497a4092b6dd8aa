"""Several processes become one run: they meet, and learn who computes what."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from paddock.errors import PaddockError
from paddock.training.parallel.section import Parallel
from paddock.training.parallel.together import DATA, TENSOR, Places, Together
from paddock.training.parallel.watch import Watch, leave

MEETINGS = itertools.count()  # of this process; a store remembers what was said at the one before
LONG = timedelta(days=7)  # what is waited for on the patient group ends by the watch, not by the clock


@dataclass(frozen=True)
class Seat:
    """Which process this is, and where the others are met.

    held_by_agent: the store they meet at lives in torchrun, not in process 0. attempt: how often torchrun started the
    group anew.
    """

    rank: int
    world: int
    host: str
    port: int
    held_by_agent: bool
    attempt: int


def meet(section: Parallel, device: torch.device, seat: Seat) -> Together:
    """Waits for the others, and begins to watch them. Raises PaddockError where they do not come in time."""
    limit = timedelta(seconds=section.timeout)
    try:
        backend = "nccl" if device.type == "cuda" else "gloo"
        # A connection of its own for each of the two: what the watch asks must not wait for what collectives ask.
        stores = [_store(seat, limit, holds) for holds in (seat.rank == 0 and not seat.held_by_agent, False)]
        prefix = f"attempt/{seat.attempt}/{next(MEETINGS)}"
        dist.init_process_group(
            backend, store=dist.PrefixStore(f"{prefix}/group", stores[0]),
            rank=seat.rank, world_size=seat.world, timeout=limit,
        )  # fmt: skip
        places = _places(seat, section, device, limit)
        watch = Watch(dist.PrefixStore(f"{prefix}/watch", stores[1]), seat.rank, seat.world, section.timeout, leave)
        together = Together(section, device, places, watch, seat.rank == 0 and not seat.held_by_agent)
        together.barrier()
    except (RuntimeError, ValueError) as error:
        raise PaddockError(
            f"process {seat.rank} of {seat.world} did not meet the others at {seat.host}:{seat.port} within "
            f"{section.timeout:g} s: {str(error).splitlines()[0][:300]}",
            fix="start all of them with torchrun, with the same rendezvous",
        ) from None
    watch.start()
    return together


def _store(seat: Seat, limit: timedelta, holds: bool) -> dist.Store:
    return dist.TCPStore(
        seat.host, seat.port, seat.world, is_master=holds, timeout=limit, wait_for_workers=False, multi_tenant=True
    )


def _places(seat: Seat, section: Parallel, device: torch.device, limit: timedelta) -> Places:
    """Neighbours share matrices, as what they send is most: they should be of one machine."""
    world, tensor = seat.world, seat.world if section.mode == "tp" else section.tensor
    patient = dist.new_group(backend="gloo", timeout=LONG)
    everybody = dist.group.WORLD
    assert everybody is not None
    if tensor in (1, world):
        names = (DATA if tensor == 1 else TENSOR,)
        mesh = DeviceMesh.from_group(everybody, device.type, mesh_dim_names=names)
    else:
        order = torch.arange(world).view(-1, tensor)
        over_data, _ = dist.new_subgroups_by_enumeration(order.T.tolist(), timeout=limit)
        over_tensor, _ = dist.new_subgroups_by_enumeration(order.tolist(), timeout=limit)
        mesh = DeviceMesh.from_group([over_data, over_tensor], device.type, order, mesh_dim_names=(DATA, TENSOR))
    return Places(seat.rank, world, tensor, mesh, patient)
