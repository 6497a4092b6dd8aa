"""Figures that tests note down, printed as one table at the end of a run with PADDOCK_TABLE=1."""

from __future__ import annotations

import os

import pytest
import torch

torch.set_num_threads(1)  # models this small only wait for each other's threads
FIGURES = pytest.StashKey[dict[str, dict[str, str]]]()
COLUMNS = ("fp32", "bf16", "cached", "batch", "saved", "greedy", "changed")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if os.environ.get("PADDOCK_TABLE") != "1" or not config.stash[FIGURES]:
        return
    terminalreporter.section("families against their oracles: relative L2, greedy choices")
    terminalreporter.write_line(f"{'row':36}" + "".join(f"{column:>9}" for column in COLUMNS))
    for name, figures in config.stash[FIGURES].items():
        terminalreporter.write_line(f"{name:36}" + "".join(f"{figures.get(c, '-'):>9}" for c in COLUMNS))


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> dict[str, dict[str, str]]:
    """Row name to column to figure."""
    return request.config.stash[FIGURES]
