"""Packing that begins before PyTorch: the same bits, the same refusals, and no thread that anything waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gguf_files
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from paddock.checkpoint import ahead
from paddock.checkpoint.ahead import Ahead
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.gguf_header import Header
from paddock.checkpoint.packing import Packing
from paddock.engine.loading import load
from paddock.errors import PaddockError
from paddock.kernels.native import library
from paddock.kernels.packed import Packed
from paddock.model.linear import weights_of

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels in this build")
IDS = [1, 5, 9, 3, 17, 2]


@pytest.fixture
def module() -> ModuleType:
    found = library()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("ahead"), "llama")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not imported PyTorch, on a machine without a GPU."""
    monkeypatch.setattr(ahead, "sys", SimpleNamespace(modules={}))
    monkeypatch.setattr(ahead, "GPU", ())
    monkeypatch.setattr(ahead, "_begun", [])


def made(folder: Path, case: str, kind: Kind = Kind.Q4_0) -> Path:
    chosen, path = gguf_files.CASES[case], folder / f"{case}.gguf"
    gguf_files.convert(chosen, *gguf_files.make(chosen, folder), path, kind)
    return path


def weights(path: Path, begun: Ahead | None) -> dict[str, torch.Tensor]:
    model = open_checkpoint(path, ahead=begun).model(packing=Packing())
    return {
        name: weight.dequantise() if isinstance(weight, Packed) else weight
        for name, weight in weights_of(model).items()
    }


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q8_0, Kind.Q5_1], ids=lambda kind: kind.name)
@pytest.mark.parametrize("case", ["llama", "llama-tied-mha", "qwen2"])
def test_everything_begun_is_taken_and_nothing_differs(
    tmp_path: Path, module: ModuleType, case: str, kind: Kind
) -> None:
    path = made(tmp_path, case, kind)
    begun, taken = Ahead(Header(path), module), []
    take = begun.take
    begun.take = lambda info: taken.append(take(info)) or taken[-1]  # type: ignore[method-assign]
    number = len(begun._numbers)
    assert number >= 10
    found, expected = weights(path, begun), weights(path, None)
    assert sum(weight is not None for weight in taken) == number and not begun._numbers
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_matrix_is_given_once(file: Path, module: ModuleType) -> None:
    begun = Ahead(Header(file), module)
    info = begun.header.tensors["output.weight"]
    assert begun.take(info).rows == info.shape[0]
    assert begun.take(info) is None
    assert begun.take(begun.header.tensors["blk.0.attn_q.weight"]) is None  # its rows are put in order first
    begun.close()
    assert begun.take(begun.header.tensors["blk.0.ffn_up.weight"]) is None
    assert all(torch.isfinite(tensor).all() for tensor in weights(file, begun).values())


@pytest.mark.usefixtures("fresh")
def test_what_was_begun_is_for_that_file_only(tmp_path: Path, file: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(file.read_bytes())
    ahead.start(copy)
    assert ahead.claim(file) is None
    ahead.start(copy)
    os.utime(copy, ns=(1, 1))
    assert ahead.claim(copy) is None
    ahead.start(copy)
    copy.unlink()
    assert ahead.claim(copy) is None
    ahead.start(file)
    ahead.start(file)  # the first gives way
    found = ahead.claim(file)
    assert found is not None and ahead.claim(file) is None
    assert found.take(found.header.tensors["output.weight"]) is not None


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("case", ["gpt2", "falcon-7b", "bert"])
def test_families_whose_matrices_change_are_left_alone(tmp_path: Path, case: str) -> None:
    path = made(tmp_path, case, Kind.Q8_0)
    ahead.start(path)
    assert ahead.claim(path) is None


@pytest.mark.usefixtures("fresh")
def test_nothing_begins_where_it_may_be_in_vain(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "GPU", (str(file),))
    ahead.start(file)
    assert ahead.claim(file) is None
    monkeypatch.setattr(ahead, "GPU", ())
    monkeypatch.setenv("PADDOCK_KERNELS", "reference")
    ahead.start(file)
    monkeypatch.setenv("PADDOCK_KERNELS", "none such")
    ahead.start(file)
    monkeypatch.delenv("PADDOCK_KERNELS")
    with monkeypatch.context() as little:
        little.setattr(ahead.system_memory, "available", lambda: ahead.SPARE)
        ahead.start(file)
    with monkeypatch.context() as limited:
        limited.setattr(ahead.resource, "getrlimit", lambda _: (1 << 33, 1 << 33))
        ahead.start(file)
    monkeypatch.setattr(ahead, "sys", sys)
    ahead.start(file)
    assert ahead.claim(file) is None


def said(path: Path) -> str:
    with pytest.raises(PaddockError) as refused:
        load(path).logits(IDS)
    return f"{type(refused.value).__name__}: {refused.value}"


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("damage", ["truncated", "header", "scales", "empty", "text", "folder", "missing", "type"])
def test_broken_files_are_refused_as_ever(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    path, data = tmp_path / "broken.gguf", bytearray(file.read_bytes())
    info = Header(file).tensors["blk.1.ffn_down.weight"]
    if damage == "scales":
        data[info.offset + 36 : info.offset + 38] = b"\x00\x7e"
    elif damage == "type":
        at = data.index(b"blk.1.ffn_down.weight") + len("blk.1.ffn_down.weight") + 4 + 16
        data[at] = 16
    short = {
        "truncated": data[: info.offset + 100],
        "header": data[:700],
        "empty": b"",
        "text": b"a story, not a model",
    }
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(short.get(damage, data))
    found = said(path)
    assert ahead._begun == []
    monkeypatch.setattr(ahead, "sys", sys)  # now nothing is begun
    assert found == said(path)
    if damage == "scales":
        assert "scales that are not numbers" in found


@pytest.mark.parametrize(
    "place",
    [
        ("q4_0", 4, 64, -1), ("q4_0", 4, 64, 10_000), ("q4_0", 4, 63, 0), ("q4_0", 0, 64, 0), ("q4_0", 10_000, 64, 0),
        ("q4_0", 2**62, 2**62 // 32 * 32, 0), ("nf4", 4, 64, 0), ("q9", 4, 64, 0), ("q4_0", 4, 64, 2**63 - 1),
    ],
)  # fmt: skip
def test_places_outside_of_the_bytes_are_refused(module: ModuleType, place: tuple[str, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"matrix|published|format"):
        module.Ahead(np.zeros(5000, np.uint8), [("q4_0", 4, 64, 0), place])
    with pytest.raises(ValueError, match="uint8"):
        module.Ahead(np.zeros(5000, np.float32), [])
    assert module.Ahead(np.zeros(5000, np.uint8), [("q4_0", 4, 64, 0)]).take(1) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_packs_for_itself(file: Path, module: ModuleType) -> None:
    blocks = np.zeros(256 * 1152 * 64, np.uint8)  # of 2048 columns: long enough to be at work at the fork
    busy = module.Ahead(blocks, [("q4_0", 256, 2048, at * 256 * 1152) for at in range(64)])
    begun = Ahead(Header(file), module)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that waits for a thread it does not have must not wait for ever
        alone = busy.take(63) is None and begun.take(begun.header.tensors["output.weight"]) is None
        del busy
        os._exit(0 if alone and weights(file, begun) and module.Ahead(blocks, [("q4_0", 4, 64, 0)]).take(0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert busy.take(63).rows == 256


def test_letting_go_does_not_wait_for_the_rest(module: ModuleType) -> None:
    rows, columns, times = 512, 2048, 400
    blocks = np.zeros(rows * columns // 32 * 18, np.uint8)
    began = time.thread_time(), time.process_time()
    busy = module.Ahead(blocks, [("q4_0", rows, columns, 0)] * times)
    assert busy.take(0).columns == columns
    del busy
    packed = time.process_time() - began[1] - (time.thread_time() - began[0])
    whole = module.Ahead(blocks, [("q4_0", rows, columns, 0)] * 20)
    before = time.process_time()
    assert whole.take(19) is not None
    assert packed < (time.process_time() - before) / 20 * times / 2


OVERLAPPED = """
import sys
from pathlib import Path
from paddock.checkpoint import ahead
ahead.GPU = ()
from paddock.engine.loading import load
assert "torch" not in sys.modules
given = []
take = ahead.Ahead.take
ahead.Ahead.take = lambda self, info: given.append(take(self, info)) or given[-1]
if "claimed" in sys.argv:
    model = load(sys.argv[1])
    print(sum(weight is not None for weight in given), model.generate([1, 5, 9], max_new_tokens=6, temperature=0).ids)
else:
    ahead.start(Path(sys.argv[1]))
    print("torch" in sys.modules, len(ahead._begun), end="")
    sys.exit(7)
"""


@pytest.mark.parametrize("use", ["claimed", "left"])
def test_a_fresh_process_packs_while_it_imports(file: Path, use: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", OVERLAPPED, str(file), use], capture_output=True, text=True, timeout=120
    )
    assert run.stderr == ""
    if use == "left":  # nobody ever claimed it: the process ends as it would have
        assert (run.returncode, run.stdout) == (7, "False 1")
        return
    expected: Any = load(file).generate([1, 5, 9], max_new_tokens=6, temperature=0).ids
    assert (run.returncode, run.stdout) == (0, f"12 {expected}\n")
