"""This process as torchrun's environment describes it: alone, or one of several."""

from __future__ import annotations

import os

import torch

from paddock.errors import UsageError
from paddock.training.parallel.alone import Alone
from paddock.training.parallel.section import Parallel


def from_environment(section: Parallel | None = None, device: torch.device | str = "cpu") -> Alone:
    """`Alone`, or `Together` where torchrun started this process (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
    MASTER_PORT). On CUDA, each process of a machine takes the device of its LOCAL_RANK.

    Enter it as a context. Raises UsageError for a number of processes that the section cannot be meant for,
    PaddockError where the others do not come within the section's timeout.
    """
    section, device = section or Parallel(), torch.device(device)
    world = _number("WORLD_SIZE", 1)
    if section.tensor > 1 and (world < section.tensor or world % section.tensor):
        raise UsageError(
            f"parallel.tensor is {section.tensor}, and the number of processes {world}",
            fix=f"start a multiple of {section.tensor} with torchrun --nproc-per-node, or set parallel.tensor=1",
        )
    if section.mode == "tp" and section.tensor not in (1, world):
        raise UsageError(
            f"parallel.mode is tp, which all {world} processes share, and parallel.tensor {section.tensor}",
            fix="leave parallel.tensor out, or set parallel.mode to ddp or fsdp for the other axis",
        )
    if world == 1:
        return Alone(device)
    # PyTorch's distributed parts take a second to import, which one process need not wait for.
    from paddock.training.parallel.meeting import Seat, meet

    rank = _number("RANK", None)
    if device.type == "cuda":
        device = torch.device("cuda", _number("LOCAL_RANK", rank))
        torch.cuda.set_device(device)
    host = os.environ.get("MASTER_ADDR") or "127.0.0.1"
    held_by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = _number("TORCHELASTIC_RESTART_COUNT", 0)
    return meet(section, device, Seat(rank, world, host, _number("MASTER_PORT", None), held_by_agent, attempt))


def _number(name: str, default: int | None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal() or len(text) > 9:
        raise UsageError(
            f"the environment has {name}={text!r:.40}", expected="a number, as torchrun sets it",
            fix="start with torchrun --nproc-per-node N -m paddock ..., or unset WORLD_SIZE for one process",
        )  # fmt: skip
    return int(text)
