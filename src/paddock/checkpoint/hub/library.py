"""The hub's own library, for what it knows best: addresses, the locks of its cache, and what may be deleted there."""

from __future__ import annotations

import logging
from types import ModuleType

from paddock.errors import UsageError


def library() -> ModuleType:
    """`huggingface_hub`, silent. Raises UsageError where it refuses the environment."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.utils
    except ValueError as error:  # it reads its numbers while it is imported
        raise UsageError(
            f"the hub's library cannot read a variable of the environment: {str(error)[:120]}",
            fix="look at those that begin with HF_",
        ) from None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return huggingface_hub
