"""`paddock perplexity`, and beside llama.cpp on the same file."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf_story
import numpy as np
import pytest

STORY = "Once upon a time, there was a little dog. He liked to run in the park and play with his ball. "


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(STORY * 8)
    return path


def test_a_file_is_scored(paddock: Callable, story: Path) -> None:
    run = paddock("perplexity", story)
    assert run.code == 0 and run.err == ""
    rows = {line.split("  ")[0]: line for line in run.out.splitlines()}
    assert list(rows) == ["perplexity", "bits per byte", "bits per token", "scored"] and " ± " in rows["perplexity"]
    piped = paddock("perplexity", "-", stdin=STORY * 8)
    assert piped.code == 0 and piped.out.splitlines()[0].startswith("perplexity")


def test_json_holds_everything(paddock: Callable, story: Path) -> None:
    one = paddock("perplexity", story, "--context", 64, "--stride", 16, "--json").json
    assert one["perplexity"] == pytest.approx(math.exp(one["nll"])) and one["stderr"] > 0
    assert (one["context"], one["stride"], one["chunks"]) == (64, 16, False)
    assert one["tokens"] == one["text_tokens"] - 1
    two = paddock("perplexity", story, "-c", 64, "--chunks", "--json").json
    assert two["chunks"] and two["windows"] == two["text_tokens"] // 64 and two["tokens"] == two["windows"] * 31
    assert "left out" in paddock("perplexity", story, "-c", 64, "--chunks").out


@pytest.mark.parametrize(
    ("content", "arguments", "code", "said"),
    [
        (b"", (), 3, "the text is empty"),
        (b"Once", ("--chunks",), 3, "at least 512"),
        (b"caf\xe9 ", (), 3, "not UTF-8: byte 3 is 0xe9"),
        (b"Once upon a time", ("-c", "1000"), 2, "at most 512"),
        (b"Once upon a time", ("--stride", "600"), 2, "less than the context"),
    ],
)
def test_what_is_refused(
    paddock: Callable, tmp_path: Path, content: bytes, arguments: tuple[str, ...], code: int, said: str
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    run = paddock("perplexity", path, *arguments)
    assert run.code == code and said in run.err and run.out == ""


def test_a_file_that_is_not_there(paddock: Callable, tmp_path: Path) -> None:
    run = paddock("perplexity", tmp_path / "none.txt")
    assert run.code == 3 and "cannot be read" in run.err


def test_encoders_have_none(paddock: Callable, bert: Path, story: Path) -> None:
    run = paddock("perplexity", story, "-m", bert)
    assert run.code == 3 and "no perplexity" in run.err


LLAMA_CPP = """
import ctypes, json, math, sys
import llama_cpp as llama
import numpy as np
path, text, n = sys.argv[1], open(sys.argv[2], "rb").read(), int(sys.argv[3])
llama.llama_backend_init()
model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
vocab = llama.llama_model_get_vocab(model)
ids = (llama.llama_token * (len(text) + 8))()
count = llama.llama_tokenize(vocab, text, len(text), ids, len(ids), True, False)
options = llama.llama_context_default_params()
options.n_ctx = options.n_batch = options.n_ubatch = n
options.n_threads = options.n_threads_batch = 1
context = llama.llama_init_from_model(model, options)
size, losses = llama.llama_vocab_n_tokens(vocab), []
for start in range(0, count - n + 1, n):
    llama.llama_memory_clear(llama.llama_get_memory(context), True)
    batch = llama.llama_batch_init(n, 0, 1)
    batch.n_tokens = n
    for at in range(n):
        batch.token[at] = ids[start + at] if at else llama.llama_vocab_bos(vocab)
        batch.pos[at], batch.n_seq_id[at], batch.logits[at] = at, 1, True
        batch.seq_id[at][0] = 0
    assert llama.llama_decode(context, batch) == 0
    for at in range(n // 2, n - 1):
        row = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, at), (size,)).astype(np.float64)
        losses.append(math.log(np.exp(row - row.max()).sum()) + row.max() - row[ids[start + at + 1]])
print(json.dumps([count, losses]), file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed (extra slow-oracles)"
)
def test_llama_cpp_gives_the_same(paddock: Callable, tmp_path: Path) -> None:
    model, text = gguf_story.write(tmp_path / "story.gguf"), tmp_path / "text.txt"
    text.write_text(STORY * 16)
    command = [sys.executable, "-c", LLAMA_CPP, str(model), str(text), "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    count, wanted = json.loads(done.stderr.strip().splitlines()[-1])
    found = paddock("perplexity", text, "-m", model, "-c", 64, "--chunks", "--json").json
    assert (found["text_tokens"], found["tokens"]) == (count, len(wanted))
    assert found["perplexity"] == pytest.approx(math.exp(np.mean(wanted)), rel=5e-4)
    print(f"paddock {found['perplexity']:.5f}, llama.cpp {math.exp(np.mean(wanted)):.5f}")
