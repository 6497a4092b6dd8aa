"""Ordinary use of Paddock, for audited.py to watch."""

from __future__ import annotations

from pathlib import Path

import torch

import paddock


def load_and_write(folder: Path) -> None:
    """Loads a model folder and writes a few tokens, greedily and by chance."""
    torch.set_num_threads(1)
    model = paddock.load(folder)
    greedy = model.generate("Once upon a time", max_new_tokens=8, temperature=0)
    chance = model.generate("Once upon a time", max_new_tokens=8, temperature=0.9, top_p=0.9, seed=3)
    assert greedy.text and chance.text


def look_around(folder: Path) -> None:
    """What a careless loader might do with a folder: proof that the watch would see it."""
    (folder / "trace").write_text("x")
    __import__("wave")
    eval("1")
