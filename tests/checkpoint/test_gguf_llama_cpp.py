"""llama.cpp, transformers and Paddock compute the same from the files that the other tests convert.

This is what makes `gguf_files.convert` an oracle: had it a name, an order of rows or a key wrong, llama.cpp would
refuse the file or compute something else.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf_files
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf_files import CASES, Case
from torch import Tensor

from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.model.step import Step

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed (extra slow-oracles)"
    ),
]
IDS = [1, 17, 42, 5, 93, 8, 61, 30, 30, 77, 12]
SOURCE = [9, 71, 23, 4, 50, 88, 2]
EXACT, GELU = 1e-5, 2e-3  # llama.cpp takes GELU from a table of float16
TOLERANCE = {"llama": EXACT, "qwen2": EXACT, "chatglm": EXACT}
PER_EXPERT = "mixtral-per-expert"  # written until 2024; llama.cpp of today refuses it, Paddock reads it


def llama_cpp(path: Path, what: str, source: list[int]) -> Tensor:
    """(tokens, vocabulary or width), from a process of its own."""
    runner = Path(__file__).with_name("llama_cpp_run.py")
    command = [sys.executable, str(runner), str(path), what, json.dumps(IDS), json.dumps(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return torch.tensor(json.loads(done.stdout))


@torch.no_grad()
def paddock(path: Path, what: str, source: list[int]) -> Tensor:
    model, ids = open_checkpoint(path).model(dtype="float32"), torch.tensor([IDS])
    rest = {"memory": model.encode(torch.tensor([source]))} if source else {}
    step = Step.begin(model.architecture, ids, **rest)
    return (model.hidden(ids, step) if what == "states" else model(ids, step))[0]


@torch.no_grad()
def transformers_result(model: Any, what: str, source: list[int]) -> Tensor:
    ids = torch.tensor([IDS])
    if source:
        return model(input_ids=torch.tensor([source]), decoder_input_ids=ids).logits[0]
    result = model(input_ids=ids)
    return result.last_hidden_state[0] if what == "states" else result.logits[0]


def difference(one: Tensor, other: Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


def written(case: Case, folder: Path, kind: Kind = Kind.F32) -> tuple[Any, Path]:
    model, tensors = gguf_files.make(case, folder)
    if case.architecture == "chatglm":
        tensors = gguf_files.as_chatglm2(tensors)
    gguf_files.convert(case, model, tensors, folder / "model.gguf", kind)
    return model, folder / "model.gguf"


@pytest.mark.parametrize("name", sorted(CASES.keys() - {PER_EXPERT}))
def test_three_programs_agree(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model, path = written(case, tmp_path)
    what, source = (
        ("states" if case.architecture == "bert" else "logits"),
        (SOURCE if case.architecture == "t5" else []),
    )
    reference = llama_cpp(path, what, source)
    if name == "t5":  # T5 divides by the root of its width before a tied head; llama.cpp leaves that out
        reference = reference * 64**-0.5
    ours, theirs = paddock(path, what, source), transformers_result(model, what, source)
    found = difference(ours, reference), difference(theirs, reference)
    print(f"{name}: paddock {found[0]:.1e}, transformers {found[1]:.1e}")
    assert max(found) < TOLERANCE.get(case.architecture, GELU)
    assert torch.equal(ours.argmax(-1), reference.argmax(-1))


def test_largest_alibi_bias_of_mpt(tmp_path: Path) -> None:
    """transformers 5 computes with 8 whatever the file says, so llama.cpp alone is the oracle."""
    config = CASES["mpt"].config | {"attn_config": {"alibi_bias_max": 4}}
    _, path = written(Case("Mpt", config, "mpt"), tmp_path)
    assert difference(paddock(path, "logits", []), llama_cpp(path, "logits", [])) < GELU


@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q5_1], ids=lambda kind: kind.name)
def test_quantised_files_compute_the_same(kind: Kind, tmp_path: Path) -> None:
    """llama.cpp rounds activations to the weights' precision, so nearness is all there is; another order is far."""
    _, path = written(CASES["mixtral"], tmp_path, kind)
    found = difference(paddock(path, "logits", []), llama_cpp(path, "logits", []))
    print(f"{kind.name}: {found:.1e}")
    assert found < 5e-2
