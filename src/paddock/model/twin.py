"""A second model around the parameters of a first: what every adapter is put on, so that it costs only its own size."""

from __future__ import annotations

import copy
from typing import Any


def twin_of(module: Any) -> Any:
    """New modules around the same parameters: what is put into one of them is not in the original's."""
    twin = copy.copy(module)
    twin.__dict__.pop("weight_bytes", None)  # what was computed of the model before
    twin._parameters, twin._buffers = dict(module._parameters), dict(module._buffers)
    twin._modules = {name: None if child is None else twin_of(child) for name, child in module._modules.items()}
    return twin
