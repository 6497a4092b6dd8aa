"""The native module and its variants, for tests that skip where it was not built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from paddock.kernels import native

FORCED = os.environ.get(native.KERNELS)
VARIANTS = [name for name in native.available() if name != native.REFERENCE and FORCED in (None, "", name)]


def module_or_skip() -> ModuleType:
    if FORCED == native.REFERENCE:
        pytest.skip("PADDOCK_KERNELS=reference: the native kernels are not to be used")
    if missing := native.absence():
        pytest.skip(f"{missing}: {native.FIX}")
    module = native.library()
    assert module is not None
    return module


@pytest.fixture
def module() -> ModuleType:
    """The extension module, as it comes."""
    return module_or_skip()


@pytest.fixture(params=VARIANTS or ["none"])
def kernels(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The module set to each variant of this machine in turn (or to the one that PADDOCK_KERNELS forces)."""
    module = module_or_skip()
    before = module.current()
    module.use(request.param)
    yield module
    module.use(before)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)
