"""Models the engine's tests share: a tiny random one saved by transformers (the oracle), and the bundled one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engine_models import Pair, save_llama

import paddock

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("llama")
    model = save_llama(folder)
    return Pair(paddock.load(folder), model)


@pytest.fixture(scope="session")
def bundled() -> Any:
    return paddock.load()
