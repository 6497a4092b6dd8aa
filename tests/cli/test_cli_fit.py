"""`paddock fit`: what it prints, its exit codes, its JSON, its refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

CONFIG = {
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048, "torch_dtype": "float16",
}  # fmt: skip


def test_the_bundled_model_line_by_line(paddock: Callable) -> None:
    run = paddock("fit", "--budget", "2GB")
    assert run.code == 0 and run.err == ""
    for said in (
        "stories260K (260,032 parameters) · serve on cpu · context 512, concurrency 1, dtype float32",
        "keys and values",
        "1 x 512 tokens x (5 layers x 2 x 4 heads x 8) x 4 bytes",
        "together, answering",
        "elsewhere: loading",
        "2.0 GB there are",
        "largest context: 512 tokens",
    ):
        assert said in run.out, said


def test_json_adds_up(paddock: Callable) -> None:
    run = paddock(
        "fit", "llama-1-7b", "--budget", "64GB", "--context", 1000, "--batch", 2, "--quantize", "Q4_K", "--json"
    )
    record = json.loads(run.out)
    assert run.code == 0 and record["verdict"] == "fits"
    assert record["settings"]["context"] == 1000 and record["settings"]["concurrency"] == 2
    for phase in record["phases"]:
        assert phase["bytes"] == sum(part["bytes"] for part in phase["components"])
    assert record["peak_bytes"] == max(phase["bytes"] for phase in record["phases"])
    assert record["largest"]["context"] == 2048 and record["largest"]["concurrency"] > 2
    assert record["parameters"] == 6_738_415_616


def test_what_does_not_fit_says_what_would_and_ends_with_4(paddock: Callable, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG))
    run = paddock("fit", file, "--budget", "8GB")
    assert run.code == 4 and "does not fit as asked" in run.out
    change = run.out.split("one of\n")[1].splitlines()[0].split()
    assert change == ["--quantize", "q6_k"]
    assert paddock("fit", file, "--budget", "8GB", *change).code == 0
    least = paddock("fit", file, "--budget", "500MB")
    assert least.code == 4 and "largest context: none fits" in least.out and "one of" not in least.out


def test_the_published_table(paddock: Callable) -> None:
    run = paddock("fit", "chatglm-6b", "--table")
    assert run.code == 0
    for said in ("8 GB (article: 10)", "12.35 GB", "6.71 GB", "3.89 GB", "176,247,271,424", "as published"):
        assert said in run.out, said
    record = json.loads(paddock("fit", "--table", "--json").out)
    assert [row["published_gb"] for row in record["rows"]] == [13, 14, 8, 9, 6, 7]
    assert paddock("fit", "llama-1-7b", "--table").code == 2


def test_a_model_that_is_not_run_says_what_its_numbers_weigh(paddock: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "strange"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "mamba"}')
    run = paddock("fit", folder)
    assert run.code == 3 and "mamba" in run.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["lama-1-7b"], 2, "llama-1-7b"),
        (["--budget", "8"], 2, "8GiB"),
        (["--budget", "lots"], 2, "a number and a unit"),
        (["--context", "0"], 2, "context is 0"),
        (["--context", "100000"], 2, "at most 512"),
        (["--batch", "-1"], 2, "concurrency is -1"),
        (["--quantize", "q4k"], 2, "q4_k"),
        (["--task", "sevre"], 2, "serve"),
        (["--device", "tpu"], 2, "cpu or cuda"),
        (["./missing.gguf"], 3, "missing"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_refusals(paddock: Callable, words: list[str], code: int, said: str) -> None:
    run = paddock("fit", *words)
    assert run.code == code, run.err
    assert said in run.err and "Traceback" not in run.err
