"""The kernels of 64-bit ARM, compiled and run under emulation where this machine has what that takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EMULATE, MISSING = Path(__file__).with_name("emulate.py"), 77


@pytest.mark.slow
def test_the_kernels_of_arm_compute_what_they_must() -> None:
    run = subprocess.run([sys.executable, str(EMULATE)], capture_output=True, text=True, timeout=3600)
    if run.returncode == MISSING:
        pytest.skip(run.stdout.strip())
    assert run.returncode == 0, run.stdout + run.stderr
