"""NF4 with double quantisation (QLoRA, arXiv 2305.14314), in bitsandbytes' container. The numbers: kernels/nf4.py."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from paddock.kernels.nf4 import BLOCK, NESTED_BLOCK, NF4_LEVELS, Nf4, Scales


def pack(name: str, weight: Tensor) -> dict[str, Tensor]:
    """A matrix (outputs, inputs) as the tensors that bitsandbytes reads under `name` ("….weight")."""
    rounded = Nf4.rounded(weight)
    nested = rounded.scales
    assert isinstance(nested, Scales)
    state = {
        "quant_type": "nf4",
        "blocksize": BLOCK,
        "dtype": str(weight.dtype).removeprefix("torch."),
        "shape": list(weight.shape),
        "nested_blocksize": NESTED_BLOCK,
        "nested_dtype": "float32",
        "nested_offset": nested.offset,
    }
    return {
        name: rounded.codes[:, None],
        f"{name}.absmax": nested.codes,
        f"{name}.quant_map": torch.tensor(NF4_LEVELS),
        f"{name}.nested_absmax": nested.coarse,
        f"{name}.nested_quant_map": nested.levels,
        f"{name}.quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
    }
