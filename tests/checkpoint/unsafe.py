"""What a careless reader would do, to prove that the watch in audited.py sees it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any


def unpickle(path: Path) -> Any:
    return pickle.loads(path.read_bytes())
