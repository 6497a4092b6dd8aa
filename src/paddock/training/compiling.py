"""`compile: true`: blocks through torch.compile, where that can work."""

from __future__ import annotations

import os
import shutil

import torch

from paddock.errors import UsageError
from paddock.model.transformer import Transformer

COMPILERS = ("g++", "clang++", "c++")


def compile_blocks(model: Transformer, device: torch.device) -> None:
    """Compiles every block in place; equal blocks share what is compiled. Raises UsageError where nothing can be."""
    refuse_without(device)
    for stack in (model, model.encoder):
        for block in stack.blocks if stack is not None else ():
            block.compile(dynamic=False)


def refuse_without(device: torch.device) -> None:
    """torch.compile writes C++ for a CPU and Triton for a GPU, and needs what makes programs of them."""
    if device.type == "cpu":
        wanted = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
        if not any(shutil.which(name) for name in wanted):
            raise UsageError(
                f"compile is asked for, and there is no C++ compiler ({', '.join(wanted)})",
                fix="install one, or leave training.compile out",
            )
    elif not torch.utils._triton.has_triton():
        raise UsageError("compile is asked for, and Triton is not installed", fix="leave training.compile out")
