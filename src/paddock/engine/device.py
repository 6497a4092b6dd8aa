"""Where a model may live: the CPU, or a CUDA device that is there."""

from __future__ import annotations

import torch

from paddock.engine.sampling import shown
from paddock.errors import UsageError


def chosen_device(asked: str | torch.device) -> torch.device:
    """The device meant by "auto" (a CUDA device if there is one, else the CPU), "cpu", "cuda" or "cuda:N".

    Raises UsageError for any other, and for CUDA devices that this machine does not have.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = (
        "auto or cpu, as this machine has no CUDA device" if not count else f"auto, cpu or cuda:0 to cuda:{count - 1}"
    )
    if isinstance(asked, str) and asked == "auto":
        return torch.device("cuda" if count else "cpu")
    try:
        device = torch.device(asked)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise UsageError(f"unknown device {shown(asked)}", expected=here) from None
    if device.type not in ("cpu", "cuda") or (device.index or 0) >= (count if device.type == "cuda" else 1):
        raise UsageError(f"there is no device {str(device)!r} to run on", expected=here)
    return device
