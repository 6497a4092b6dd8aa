"""`paddock bench`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paddock.bench import machine
from paddock.bench.machine import Machine
from paddock.bench.run import Row
from paddock.cli import bench

MACHINE = Machine(30e9, {"int8": 3e12, "f32": 1e11}, 2, "made up")
QUICK = ("-p", "16", "-n", "4", "-r", "2")


@pytest.fixture(autouse=True)
def _known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "measure", lambda device: MACHINE)


@pytest.mark.parametrize(("reads", "used"), [(1e15, "0% of reading"), (1e3, "from caches")])
def test_more_than_memory_gives_came_from_caches(
    paddock: Callable, monkeypatch: pytest.MonkeyPatch, reads: float, used: str
) -> None:
    made_up = Machine(reads, MACHINE.multiply_adds, 2, "made up")
    monkeypatch.setattr(machine, "measure", lambda device: made_up)
    assert paddock("bench", *QUICK).out.splitlines()[5].endswith(used)


def test_a_table_with_a_line_for_each_test(paddock: Callable) -> None:
    run = paddock("bench", *QUICK, "--depth", "0,32", "-c", "2")
    assert run.code == 0 and run.err == ""
    head, rows = run.out.splitlines()[:3], [line.split() for line in run.out.splitlines()[4:]]
    assert head[0].startswith("kernels: ") and "reads 30.0 GB/s" in head[1] and "int8 3,000, f32 100" in head[1]
    assert [row[5] for row in rows] == ["pp16", "tg4", "pp16@d32", "tg4@d32", "2x(16+4)"]
    assert rows[0][0] == "stories260K" and rows[0][4] == "2" and rows[0][7] == "±"
    assert run.out.splitlines()[4].endswith("of f32")
    assert run.out.splitlines()[5].endswith(("of reading", "from caches"))
    assert len({line.index("±") for line in run.out.splitlines() if "±" in line}) == 1 or len(rows) == 5


def test_json_has_the_names_of_llama_bench_and_vllm(paddock: Callable) -> None:
    run = paddock("bench", *QUICK, "-c", "2", "--json")
    assert run.code == 0 and run.out.count("\n") == 1
    found = run.json
    assert found["machine"]["read"] == 30e9 and found["model_n_params"] == 260032
    pp, tg, crowd = found["tests"]
    assert (pp["n_prompt"], pp["n_gen"], tg["n_prompt"], tg["n_gen"]) == (16, 0, 0, 4)
    assert len(pp["samples_ts"]) == len(pp["samples_ns"]) == 2
    assert pp["avg_ts"] == pytest.approx(sum(pp["samples_ts"]) / 2)
    assert pp["samples_ts"][0] == pytest.approx(16e9 / pp["samples_ns"][0], rel=1e-3)
    assert tg["sampled_ts"] and tg["bandwidth_used"] > 0 and pp["rate_used"] > 0
    assert crowd["concurrency"] == 2 and crowd["output_throughput"] == pytest.approx(crowd["median_ts"])
    assert crowd["p99_ttft_ms"] >= crowd["median_ttft_ms"] > 0 and crowd["p99_itl_ms"] > 0


def test_jsonl_is_a_line_for_each_test(paddock: Callable) -> None:
    run = paddock("bench", *QUICK, "--jsonl")
    lines = [json.loads(line) for line in run.out.splitlines()]
    assert [line["test"] for line in lines] == ["pp16", "tg4"]
    assert all(line["model_n_params"] == 260032 and line["kernels"] for line in lines)


@pytest.mark.parametrize("form", [(), ("--json",), ("--jsonl",)])
def test_ctrl_c_keeps_what_is_there(paddock: Callable, monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...]) -> None:
    measure = bench.measure

    def broken_off(*arguments: object) -> Iterator[Row]:
        yield next(measure(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "measure", broken_off)
    run = paddock("bench", *QUICK, *form)
    assert run.code == 130 and "interrupted" in run.err
    assert "pp16" in run.out and "tg4" not in run.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("-p", "x"), 2, "--prompt x; expected whole numbers"),
        (("-p", "0", "-n", "0"), 2, "nothing to measure"),
        (("-n", "0", "-c", "4"), 2, "concurrency needs"),
        (("-r", "0"), 2, "repeats is 0"),
        (("-t", "0"), 2, "--threads 0"),
        (("--depth", "4096"), 2, "at most 512, this model's context"),
        (("no-such-model",), 2, "no model is called"),
    ],
)
def test_what_is_refused(paddock: Callable, arguments: tuple[str, ...], code: int, said: str) -> None:
    run = paddock("bench", *arguments)
    assert run.code == code and said in run.err and run.out == ""


def test_encoders_are_not_measured(paddock: Callable, bert: Path) -> None:
    run = paddock("bench", bert)
    assert run.code == 3 and "does not write" in run.err
