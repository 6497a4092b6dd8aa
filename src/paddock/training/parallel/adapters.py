"""Adapters beside a model that lies in shards: what is taken, and what is refused."""

from __future__ import annotations

from paddock.errors import UsageError
from paddock.kernels.packed import Packed
from paddock.model.ahead import Prompt
from paddock.model.linear import weights_of
from paddock.model.transformer import Transformer

WHOLE = "set parallel.mode: ddp and parallel.tensor: 1, which gives each process the whole model"


def check(model: Transformer, blocks: bool, parts: bool) -> None:
    """Refuses (UsageError) what cannot be cut by block (`blocks`: fsdp) or by role (`parts`: tensor parallelism)."""
    if any(isinstance(weight, Packed) for weight in weights_of(model).values()):
        raise UsageError("a base in NF4 has no numbers that processes could share", fix=WHOLE)
    if blocks and isinstance(model.ahead, Prompt):
        # Its vectors go through every block before the text does, and a block is gathered for one pass at a time.
        raise UsageError(
            "prompt tuning passes each block twice, which fsdp does not allow", fix=f"{WHOLE}, or use prefix"
        )
    if parts and model.ahead is not None:
        raise UsageError("tensor parallelism cuts heads, and virtual tokens have keys and values of all", fix=WHOLE)
