"""PyTorch's threads sleep while they wait, unless a user has said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SAID = "import os, paddock; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "PASSIVE None"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
        ({"GOMP_SPINCOUNT": "1000"}, "None 1000"),
    ],
)
def test_what_a_user_says_counts(given: dict[str, str], found: str) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    run = subprocess.run([sys.executable, "-c", SAID], env=plain | given, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == found, run.stderr
