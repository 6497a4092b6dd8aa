"""benchmarks/shapes.py and peers.py: files that readers agree on, turns, failures that become rows."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import gguf
import numpy as np
import pytest
import torch

import paddock
from paddock.model.linear import weights_of

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "benchmarks"
FILES = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q4_K_M"]


@pytest.fixture(scope="module")
def scripts() -> ModuleType:
    """benchmarks/, where a program's own folder is on the path."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("peers")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def models(scripts: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return scripts.shapes.make("tiny", tmp_path_factory.mktemp("models"), ["bf16", *FILES])


@pytest.mark.parametrize("name", FILES)
def test_the_gguf_library_reads_tame_weights(models: dict[str, Path], name: str) -> None:
    tensors = gguf.GGUFReader(models[name]).tensors
    assert len(tensors) == 2 * 9 + 3
    for tensor in tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if "norm" in tensor.name:
            assert (values == 1).all()
        else:
            assert 0.015 < values.std() < 0.025 and abs(values.mean()) < 0.003, tensor.name
    kinds = {tensor.name: tensor.tensor_type.name for tensor in tensors}
    assert kinds["output.weight"] == ("Q6_K" if name.startswith("Q4") else name)
    assert kinds["token_embd.weight"] == name.removesuffix("_M")


@pytest.mark.parametrize("name", ["bf16", *FILES])
def test_paddock_reads_them_and_writes(scripts: ModuleType, models: dict[str, Path], name: str) -> None:
    model = paddock.load(models[name])
    count = sum(weight.shape.numel() for weight in weights_of(model.model).values())
    assert count == scripts.shapes.SHAPES["tiny"].parameters
    assert len(model.tokenizer) == 1000 and model.tokenizer.bos_id == 1
    assert len(model.generate([1, 300, 400], 4, temperature=0).ids) == 4


def test_transformers_reads_the_folder(models: dict[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    ids = [1, 300, 400, 500]
    with torch.no_grad():
        oracle = transformers.AutoModelForCausalLM.from_pretrained(models["bf16"], dtype=torch.float32)
        wanted = oracle(torch.tensor([ids])).logits[0]
    found = paddock.load(models["bf16"], dtype="float32").logits(ids)
    assert (found - wanted).norm() / wanted.norm() < 1e-4
    assert transformers.AutoTokenizer.from_pretrained(models["bf16"]).convert_ids_to_tokens([1, 300]) == ["<s>", "▁w40"]


def test_real_sizes(scripts: ModuleType) -> None:
    """The 4-bit file of the 1.1 B shape takes 640 MB, as a real one does."""
    shape, forms = scripts.shapes.SHAPES["1.1b"], scripts.shapes.FORMATS
    assert 1.09e9 < shape.parameters < 1.11e9
    sizes = [
        rows * columns // form.weights * form.nbytes
        for name, rows, columns in shape.matrices()
        for form in [forms[scripts.shapes.tensor_format(shape, "Q4_0", name)]]
    ]
    assert 630e6 < sum(sizes) < 645e6


ENGINE = """
import sys
sys.path.insert(0, {workers!r})
from protocol import Clock, serve
class Engine:
    def load(self, path, threads, **options):
        print("noise on standard output")
        return {{"version": "1"}}
    def complete(self, prompts, new):
        clock = Clock()
        clock.first()
        {body}
        return clock.answer([[300] * new for _ in prompts])
serve(Engine)
"""


def run(scripts: ModuleType, work: Path, body: str, monkeypatch: pytest.MonkeyPatch, **more: object) -> dict:
    """peers.py's whole run with a made-up engine; gives its record."""
    workers = work / "workers"
    workers.mkdir(parents=True)
    engine = ENGINE.format(workers=str(BENCHMARKS / "workers"), body=body)
    (workers / "odd_worker.py").write_text(engine)
    (workers / "even_worker.py").write_text(ENGINE.format(workers=str(BENCHMARKS / "workers"), body="pass"))
    engines = sys.modules["engines"]
    entries = tuple(engines.Entry("4-bit", name, "Q4_0", "Q4_0", None, name) for name in ("odd", "even"))
    monkeypatch.setattr(engines, "WORKERS", workers)
    monkeypatch.setattr(sys.modules["reporting"], "_limits", lambda threads: {"failed": "not asked"})
    monkeypatch.setattr(scripts, "ENTRIES", entries)
    for name, value in more.items():
        monkeypatch.setattr(scripts, name, value)
    record = work / "record.json"
    arguments = ["peers.py", "--work", str(work), "--quick", "-r", "1", "--json", str(record)]
    monkeypatch.setattr(sys, "argv", arguments)
    scripts.main()
    return json.loads(record.read_text())


def test_a_run_makes_rows_with_ratios(
    scripts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run(scripts, tmp_path, "pass", monkeypatch)
    rows = record["rows"]
    tests = [
        "seconds to first token",
        "resident MB",
        "peak MB",
        "prompt 64",
        "decode 16",
        "4 at once",
        "4 at once, decode",
    ]
    assert [row["test"] for row in rows] == [test for test in tests for _ in range(2)]
    assert all(row["median"] > 0 for row in rows) and max(row["of_paddock"] for row in rows) >= 1
    assert {"commit", "cpu", "threads", "date"} <= record["about"].keys()
    assert capsys.readouterr().out.count("| 4-bit |") == len(rows)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('no such thing')", "no such thing"),
        ("sys.exit(7)", "code 7"),
        ("import os; os.kill(os.getpid(), 9)", "code -9"),
        ("new -= 1", "asked for 1 x"),
        ("import time; time.sleep(60)", "no answer to complete in 3 s"),
    ],
)
def test_whoever_fails_is_a_row_and_the_others_go_on(
    scripts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    record = run(scripts, tmp_path, body, monkeypatch, LIMIT=3.0)
    (failed,) = [row for row in record["rows"] if "failed" in row]
    assert failed["engine"] == "odd" and said in failed["failed"]
    assert [row["engine"] for row in record["rows"] if row.get("test") == "decode 16"] == ["even"]


def test_a_file_that_cannot_be_made_is_a_row(scripts: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"vocab_size": 300}')
    subjects = sys.modules["subjects"]
    subject = subjects.Subject.real(tmp_path, tmp_path / "made")
    assert subject.vocabulary == 300 and (subject.file("bf16") / "config.json").exists()
    with pytest.raises(subjects.NotMade, match="no Q8_0 file: error"):
        subject.file("Q8_0")


def test_an_environment_that_cannot_be_made_is_a_row(
    scripts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments = sys.modules["environments"]
    monkeypatch.setitem(
        environments.ENVIRONMENTS, "none", environments.Environment(("no-such-package-at-all",), "import no_such")
    )
    monkeypatch.setattr(environments, "_run", lambda *arguments: "No matching distribution found")
    with pytest.raises(environments.NotInstalled, match="No matching distribution"):
        environments.python_of("none", tmp_path)


def test_a_worker_that_is_spoken_to_answers_in_json(tmp_path: Path, scripts: ModuleType) -> None:
    models = scripts.shapes.make("tiny", tmp_path, ["Q4_0"])
    asked = [
        {"do": "load", "path": str(models["Q4_0"]), "threads": 1},
        {"do": "complete", "prompts": [[300, 301], [302, 303], [300, 301]], "new": 3},
        {"do": "complete", "prompts": [[300, 301]], "new": 3},
    ]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "workers" / "paddock_worker.py")],
        input="".join(json.dumps(line) + "\n" for line in asked),
        capture_output=True,
        text=True,
        timeout=120,
    )
    loaded, three, one = map(json.loads, done.stdout.splitlines())
    assert loaded["version"].startswith("paddock") and loaded["memory"]["peak"] >= loaded["memory"]["now"] > 1e7
    assert three["ids"][0] == three["ids"][2] == one["ids"][0] and np.shape(three["ids"]) == (3, 3)
    assert three["first"] + three["rest"] == pytest.approx(three["total"], rel=1e-6)
