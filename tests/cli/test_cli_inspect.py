"""show, ls, tokens, doctor."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli_models import MIXTRAL, write_model

from paddock.catalog.weighing import part_of
from paddock.cli.valueprint import value_record, value_text
from paddock.engine.locate import bundled
from paddock.model import spec

LLAMA2C = "weights/llama2c"


def test_show_says_everything_of_the_bundled_model(paddock: Callable) -> None:
    run = paddock("show")
    assert run.code == 0 and run.err == ""
    for said in (
        "parameters  260,032",
        "mit (README.md and LICENSE)",
        "Rope(theta=10000.0, width=8)",
        "feedforward.down        5      55,040  21.2%",
        "cache, full       655.4 kB  one text of 512 tokens",
        "bos 1, eos 2",
        "chat template   none",
        "do_sample     False",
        "ok    vocabulary: 512 pieces for 512 rows",
    ):
        assert said in run.out, said
    assert "fail" not in run.out


def test_show_as_json(paddock: Callable) -> None:
    found = paddock("show", "stories260K", "--json").json
    assert found["parameters"]["total"] == 260_032 == sum(part["parameters"] for part in found["parameters"]["parts"])
    assert found["memory"]["weights_bytes"] == 4 * 260_032 and found["memory"]["cache_bytes_per_token"] == 1280
    assert found["architecture"]["type"] == "Architecture" and found["architecture"]["block"]["attention"]["heads"] == 8
    assert found["kind"] == "folder" and found["licence"]["name"] == "mit" and found["template"] is None
    assert found["tokenizer"]["pieces"] == 512 and found["generation"]["do_sample"] is False
    assert {finding["level"] for finding in found["health"]} == {"ok"}


def test_show_reads_no_weights(paddock: Callable, storyteller: Path, tmp_path: Path) -> None:
    """Numbers that are none stop a model from running, not from being looked at."""
    path = tmp_path / "broken"
    shutil.copytree(storyteller, path)
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-4096:] = b"\xff" * 4096
    (path / "model.safetensors").write_bytes(data)
    assert paddock("show", path).code == 0
    assert paddock("generate", "x", "-m", path).code == 3


def test_show_on_every_kind_of_file(paddock: Callable, shared_data: Path, bert: Path, t5: Path) -> None:
    for name in ("stories260K.bin", "stories260K-q8.bin"):
        found = paddock("show", shared_data / LLAMA2C / name, "--json").json
        assert found["kind"] == "llama2.c" and found["parameters"]["total"] == 260_032
    ggufs = sorted((shared_data / "tokenizers").rglob("*.gguf"))
    assert all(paddock("show", path).code in (0, 3) for path in ggufs[:3])
    found = paddock("show", bert, "--json").json
    assert found["family"] == "bert" and found["memory"]["cache_bytes_per_token"] == 0
    assert any("padding" in finding["text"] for finding in found["health"])
    parts = {part["name"] for part in paddock("show", t5, "--json").json["parameters"]["parts"]}
    assert {"embedding.tokens", "attention.q", "cross.k", "norms", "relative_bias", "encoder.feedforward.up"} <= parts


def test_show_counts_the_experts_that_a_token_meets(paddock: Callable, tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = paddock("show", write_model(tmp_path / "mixtral", MIXTRAL), "--json").json["parameters"]
    expert = 3 * MIXTRAL["hidden_size"] * MIXTRAL["intermediate_size"]
    assert found["total"] - found["active"] == MIXTRAL["num_hidden_layers"] * (4 - 2) * expert
    assert "of them for each token" in paddock("show", tmp_path / "mixtral").out


def test_a_tokenizer_of_another_model_is_found(paddock: Callable, bert: Path, talker: Path, tmp_path: Path) -> None:
    path = tmp_path / "mixed"
    shutil.copytree(bert, path)
    (path / "vocab.txt").unlink()
    shutil.copy(talker / "tokenizer.json", path)
    run = paddock("show", path)
    assert "fail  vocabulary: 512 pieces, but the model has 64 rows" in run.out


def test_show_finds_what_does_not_go_together(paddock: Callable, talker: Path, tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(talker, path)
    healthy = paddock("show", path)
    assert healthy.code == 0 and "ok    render: one user message renders" in healthy.out
    (path / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"bos_token_id": 7}))
    run = paddock("show", path)
    assert run.code == 0 and "fail  template:" in run.out and "warn  BOS: config.json says 7" in run.out
    for name in ("tokenizer.bin", "tokenizer.json"):
        (path / name).unlink(missing_ok=True)
    assert "warn  tokenizer: there is none" in paddock("show", path).out


def test_licence_is_not_guessed(paddock: Callable, bert: Path, tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(bert, path)
    assert paddock("show", path, "--json").json["licence"] == {"name": None, "source": None}
    assert "licence     not stated" in paddock("show", path).out
    (path / "README.md").write_text("---\ntags: [a]\nlicense: 'apache-2.0' # really\n---\n\nlicense: mit\n")
    assert paddock("show", path, "--json").json["licence"]["name"] == "apache-2.0"
    (path / "README.md").write_text("license: mit\n")
    (path / "LICENSE").write_text("...")
    assert paddock("show", path, "--json").json["licence"]["name"] == "see LICENSE"


def test_a_value_is_printed_without_defaults_and_in_lines_that_fit() -> None:
    part = spec.Attention(4, 2, 8, spec.Rope(10000.0, 8))
    assert value_text(part) == "Attention(heads=4, kv_heads=2, head_dim=8, position=Rope(theta=10000.0, width=8))"
    forward = spec.FeedForward(32, "silu", True)
    one, two = (spec.Block(part, forward, spec.RMSNorm(eps)) for eps in (1e-5, 1e-6))
    whole = spec.Architecture("x", 10, 16, 5, (one, one, one, two, two), 64)
    lines = value_text(whole).splitlines()
    assert max(map(len, lines)) <= 100 and sum("3 x Block(" in line for line in lines) == 1
    assert sum("2 x Block(" in line for line in lines) == 1 and "window" not in value_text(whole)
    assert value_record(part)["position"] == {
        "type": "Rope", "theta": 10000.0, "width": 8, "interleaved": False, "scaling": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("embedding.tokens.weight", "embedding.tokens"),
        ("blocks.12.attention.q.weight", "attention.q"),
        ("blocks.0.feedforward.experts.7.up.weight", "feedforward.up"),
        ("blocks.0.feedforward_norm.bias", "norms"),
        ("norm.weight", "norms"),
        ("head.weight", "head"),
        ("encoder.blocks.1.attention.out.bias", "encoder.attention.out"),
        ("encoder.norm.weight", "encoder.norms"),
    ],
)
def test_parts_have_the_names_of_roles(name: str, part: str) -> None:
    assert part_of(name) == part


def test_ls_lists_the_bundled_model_and_those_at_home(paddock: Callable, tmp_path: Path, bert: Path) -> None:
    shutil.copytree(bert, tmp_path / "home/models/mine")
    (tmp_path / "home/models/broken.gguf").write_bytes(b"GGUF")
    rows = {row["name"]: row for row in paddock("ls", "--json").json}
    assert rows["stories260K"]["parameters"] == 260_032 and rows["stories260K"]["path"] == str(bundled())
    assert rows["mine"]["family"] == "bert" and rows["mine"]["error"] is None
    assert rows["broken"]["family"] is None and rows["broken"]["error"]
    run = paddock("ls")
    assert run.code == 0 and len(run.out.splitlines()) == 4 and "broken:" in run.err
    assert paddock("embed", "the cat", "-m", "mine").code == 0, "a name that ls shows is a name elsewhere"


def test_ls_of_a_folder(paddock: Callable, bert: Path, t5: Path, tmp_path: Path, shared_data: Path) -> None:
    (tmp_path / "other.bin").write_bytes(b"no model")
    shutil.copytree(bert, tmp_path / "bert")
    shutil.copy(shared_data / LLAMA2C / "stories260K.bin", tmp_path)
    names = [row["name"] for row in paddock("ls", tmp_path, "--json").json]
    assert names == ["stories260K", "bert", "stories260K.bin"]
    run = paddock("ls", tmp_path / "missing")
    assert run.code == 2 and "is no folder" in run.err


def test_tokens_as_a_table_and_as_json(paddock: Callable) -> None:
    run = paddock("tokens", "Hi  né\n")
    assert run.code == 0
    shown, _, *lines = run.out.splitlines()
    assert shown.startswith("[<s>][·H][i][·]") and shown.endswith("[↵]") and "[é]" in shown
    assert lines[0].split() == ["id", "piece", "bytes"] and "control" in lines[1]
    assert "tokens for 7 characters, 8 bytes" in run.err
    found = paddock("tokens", "Hi  né\n", "--json").json
    assert found["count"] == len(found["ids"]) == len(found["tokens"])
    assert b"".join(bytes.fromhex(token["bytes"]) for token in found["tokens"]).decode() == " Hi  né\n"


def test_tokens_in_turning_colours(paddock: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = paddock("tokens", "a b c").out.splitlines()[0]
    assert shown.count("\x1b[30;46m") + shown.count("\x1b[30;43m") == 3 and "[" not in shown.replace("\x1b[", "")
    colours = [part[:5] for part in shown.split("\x1b[")[1:] if not part.startswith("0m")]
    assert all(one != two for one, two in itertools.pairwise(colours))


def test_control_tokens_are_parsed_only_where_asked(paddock: Callable) -> None:
    plain, parsed = (paddock("tokens", "</s>", *more, "--json").json for more in ([], ["--special"]))
    assert plain["count"] == 6 and parsed["ids"] == [1, 2]
    assert paddock("tokens", "</s>", "--special", "--no-bos", "--json").json["ids"] == [2]


def test_tokens_from_a_pipe_and_of_a_tokenizer_alone(paddock: Callable, shared_data: Path, tmp_path: Path) -> None:
    shutil.copy(shared_data / LLAMA2C / "tok512.bin", tmp_path / "tokenizer.bin")
    shutil.copy(shared_data / LLAMA2C / "stories260K.bin", tmp_path)
    ids = paddock("tokens", "Hi", "--json").json["ids"]
    for place in (tmp_path, tmp_path / "tokenizer.bin", tmp_path / "stories260K.bin"):
        assert paddock("tokens", "-", "-m", place, "--json", stdin="Hi\n").json["ids"] == ids
    assert paddock("tokens", "", "--json").json["ids"] == [1]
    assert paddock("tokens", terminal=True).code == 2
    assert paddock("tokens", "-", stdin=b"\xff").code == 3


def test_the_doctor_finds_this_machine_well(paddock: Callable) -> None:
    run = paddock("doctor", "--json")
    levels = {finding["about"]: finding["level"] for finding in run.json}
    assert run.code == 0 and "fail" not in levels.values()
    assert {"Python", "PyTorch", "processor", "memory", "disk", "kernels", "bundled model", "environment"} <= set(
        levels
    )


def test_the_doctor_finds_faults(paddock: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock.cli.diagnosing.STORY", "It was a dark and stormy night")
    monkeypatch.setattr("paddock.cli.diagnosing.NEEDED", ("torch", "no-such-library"))
    monkeypatch.setattr("paddock.cli.diagnosing.LITTLE_MEMORY", 10**18)
    threads = torch.get_num_threads()
    torch.set_num_threads(64)
    try:
        run = paddock("doctor")
    finally:
        torch.set_num_threads(threads)
    assert run.code == 1
    assert "fail  bundled model: tells another story" in run.out and "fail  no-such-library" in run.out
    assert "warn  memory" in run.out and "fix: set OMP_NUM_THREADS=" in run.out


def test_the_doctor_mends_the_variable_not_the_installation(paddock: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_THREADS", "many")
    run = paddock("doctor")
    assert run.code == 1 and "fix: unset PADDOCK_KERNELS and PADDOCK_THREADS" in run.out
    assert "install Paddock again" not in run.out


@pytest.mark.parametrize(
    "sizes",
    [
        {"head_dim": 2**24, "hidden_size": 2**24, "num_attention_heads": 2**20},
        {"model_type": "mixtral", "num_hidden_layers": 4096, "num_local_experts": 4096, "num_experts_per_tok": 2},
    ],
)
def test_sizes_that_no_file_holds_are_refused_unbuilt(
    paddock: Callable, storyteller: Path, tmp_path: Path, sizes: dict[str, object]
) -> None:
    path = tmp_path / "all/bad"
    shutil.copytree(storyteller, path)
    shutil.copytree(storyteller, tmp_path / "all/good")
    config = json.loads((path / "config.json").read_text()) | {"head_dim": None} | sizes
    (path / "config.json").write_text(json.dumps(config))
    run = paddock("show", path)
    assert run.code == 3 and "config.json describes" in run.err, run.err
    run = paddock("ls", tmp_path / "all", "--json")
    assert run.code == 0
    rows = {row["name"]: row for row in run.json}
    assert "config.json describes" in rows["bad"]["error"] and rows["bad"]["parameters"] is None
    assert rows["good"]["parameters"] == 260_032 and rows["good"]["error"] is None
