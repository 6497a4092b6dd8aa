"""What all tests share."""

from __future__ import annotations

import signal
from pathlib import Path

import paddock  # noqa: F401 - before PyTorch, whose threads then sleep while they wait

# isort: split
import pytest
import torch

# A runner started in the background hands on that Ctrl-C is to be ignored; tests that send one need it to count.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real weights, tokenizers and texts beside the checkout; a fresh machine may lack it."""
    if not SHARED.is_dir():
        pytest.skip("the real weights and tokenizers (../shared/data) are not on this machine")
    return SHARED


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)
