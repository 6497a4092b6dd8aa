"""Weights changed in place, and forked children: nobody is answered by what was made before."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import paddock
from paddock.kernels import native
from paddock.model.step import Step

IDS = [1, 5, 9, 20]


def test_weights_changed_in_place_are_the_ones_that_answer() -> None:
    model = paddock.load()
    before, engine, reader = model.logits(IDS), model.engine, model.reader
    written = model.generate(IDS, 8).ids
    assert model.engine is engine and model.reader is reader
    assert torch.equal(model.logits(IDS), before)
    with torch.no_grad():
        for name, weight in model.model.named_parameters():
            if "norm" in name or "down" in name:
                weight.mul_(1.5)
        rows = torch.tensor([IDS])
        wanted = model.model(rows, Step.begin(model.architecture, rows))[0].float()
    assert torch.allclose(model.logits(IDS), wanted, atol=1e-3) and not torch.allclose(before, wanted, atol=1e-1)
    assert model.engine is not engine  # whose cache holds what the old weights made of a prompt
    assert model.generate(IDS, 8).ids != written
    assert model.generate(IDS, 1).ids[0] == int(wanted[-1].argmax())


FORKED = """
import os, signal, threading, time
import paddock
model = paddock.load()
wanted = model.generate([1, 5, 9], 4).ids
def forever():
    while True:
        model.generate([1, 5, 9], 60)
        model.logits([1, 5, 9, 20] * 40)
for _ in range(2):
    threading.Thread(target=forever, daemon=True).start()
for _ in range(6):
    time.sleep(0.05)
    child = os.fork()
    if child == 0:
        signal.alarm(50)
        found = model.generate([1, 5, 9], 4).ids
        model.logits([1, 5, 9])
        os._exit(0 if found == wanted else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        os._exit(100 + abs(code))
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.skipif(native.library() is None, reason="PyTorch's own threads do not come along in a fork")
def test_a_forked_child_answers_while_threads_of_its_parent_do() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, (run.returncode, run.stderr)
