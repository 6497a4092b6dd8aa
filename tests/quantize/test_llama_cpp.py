"""llama.cpp opens every file that Paddock writes, computes the same, and writes the same text."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import paddock
from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint
from paddock.model.families import describe
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.quantize.gguf_file import write_gguf
from paddock.quantize.kinds import GGUF_KINDS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed (extra slow-oracles)"
    ),
]
RUNNER = Path(__file__).resolve().parent.parent / "checkpoint" / "llama_cpp_run.py"
IDS = [1, 17, 42, 5, 93, 8, 61, 30, 30, 77, 12]
SOURCE = [9, 71, 23, 4, 50, 88, 2]
STEPS = 60
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
SMALL = {"vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LENGTH = {"intermediate_size": 96, "max_position_embeddings": 64}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "mixtral": LLAMA
    | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 4, "num_hidden_layers": 2},
    "qwen2": LLAMA | {"model_type": "qwen2", "num_hidden_layers": 2},
    "falcon": {"model_type": "falcon", **SMALL, "multi_query": True, "new_decoder_architecture": False},
    "falcon-two-norms": {"model_type": "falcon", **SMALL, "num_kv_heads": 2, "new_decoder_architecture": True},
    "mpt": {"model_type": "mpt", "vocab_size": 96, "d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 64},
    "bloom": {"model_type": "bloom", "vocab_size": 96, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    "gpt-neox": {"model_type": "gpt_neox", **SMALL, **LENGTH},
    "gpt2": {"model_type": "gpt2", "vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "bert": {"model_type": "bert", "architectures": ["BertModel"], **SMALL, **LENGTH},
    "t5": {
        "model_type": "t5",
        "vocab_size": 96,
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 96,
        "num_layers": 2,
        "num_heads": 4,
    },
}


def llama_cpp(path: Path, what: str, ids: list[int], source: list[int]) -> Tensor:
    command = [sys.executable, str(RUNNER), str(path), what, json.dumps(ids), json.dumps(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return torch.tensor(json.loads(done.stdout))


@torch.no_grad()
def ours(path: Path, what: str, source: list[int]) -> Tensor:
    model, ids = open_checkpoint(path).model(dtype="float32"), torch.tensor([IDS])
    rest = {"memory": model.encode(torch.tensor([source]))} if source else {}
    step = Step.begin(model.architecture, ids, **rest)
    return (model.hidden(ids, step) if what == "states" else model(ids, step))[0]


def tolerance(kind: str) -> float:
    """For K-quants llama.cpp rounds activations in blocks of 256, for the others in blocks of 32."""
    return 8e-2 if kind.endswith("_k") else 5e-3 if kind == "f16" else 5e-2


def made(path: Path, config: dict[str, Any]) -> Checkpoint:
    model = Transformer(describe(config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.05)
    folder.write(path, model, config)
    return open_checkpoint(path)


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0", "q4_k"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_computes_the_same(name: str, kind: str, tmp_path: Path) -> None:
    """Below F32 llama.cpp rounds activations too, so nearness is all there is; another order of rows is far."""
    checkpoint, path = made(tmp_path / "m", CONFIGS[name]), tmp_path / "a.gguf"
    path.touch()
    write_gguf(checkpoint, path, kind)
    what, source = "states" if name == "bert" else "logits", SOURCE if name == "t5" else []
    theirs, mine = llama_cpp(path, what, IDS, source), ours(path, what, source)
    if name == "t5":  # T5 divides by the root of its width before a tied head; llama.cpp leaves that out
        theirs = theirs * 64**-0.5
    found = ((mine - theirs).norm() / theirs.norm()).item()
    print(f"{name} {kind}: {found:.1e}")
    assert found < (2e-3 if kind == "f32" else tolerance(kind))  # llama.cpp takes GELU from a table of float16


@pytest.mark.parametrize("kind", GGUF_KINDS)
def test_every_kind_of_block(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.touch()
    write_gguf(made(tmp_path / "m", LLAMA), path, kind)
    theirs, mine = llama_cpp(path, "logits", IDS, []), ours(path, "logits", [])
    found = ((mine - theirs).norm() / theirs.norm()).item()
    print(f"{kind}: {found:.1e}")
    assert found < (1e-5 if kind == "f32" else tolerance(kind))


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_the_bundled_model_writes_the_same_text(kind: str, tmp_path: Path) -> None:
    """llama.cpp scores Paddock's own greedy answer: its likeliest token must be the next one, all the way."""
    model, path = paddock.load(), tmp_path / "story.gguf"
    path.touch()
    write_gguf(model.checkpoint, path, kind, tokenizer=model.tokenizer)
    prompt = model.tokenizer.encode("Once upon a time")
    answer = list(model.generate(prompt, STEPS, temperature=0).ids)
    logits = llama_cpp(path, "logits", prompt + answer[:-1], [])
    assert logits[len(prompt) - 1 :].argmax(-1).tolist() == answer


def test_the_vocabulary_that_llama_cpp_reads_cuts_alike(tmp_path: Path) -> None:
    model, path = paddock.load(), tmp_path / "story.gguf"
    path.touch()
    write_gguf(model.checkpoint, path, "f16", tokenizer=model.tokenizer)
    text = "Once upon a time, Lily said: \u00abna\u00efve caf\u00e9\u00bb 42 times!"
    code = (
        "import sys, llama_cpp, os\n"
        "model = llama_cpp.Llama(sys.argv[1], vocab_only=True, verbose=False)\n"
        "print(model.tokenize(sys.argv[2].encode(), add_bos=True, special=False), flush=True)\n"
        "os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), text], capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout.splitlines()[-1]) == model.tokenizer.encode(text), done.stderr[-1000:]


def perplexity(windows: list[list[int]], logits: Callable[[list[int]], Tensor]) -> float:
    losses = [
        -logits(ids).double().log_softmax(-1)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0] for ids in windows
    ]
    return float(torch.cat(losses).mean().exp())


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "q4_k"])
def test_perplexity_of_real_text_is_llama_cpps(kind: str, shared_data: Path, tmp_path: Path) -> None:
    """Of the same file, within half a percent: both compute with the codes, but round activations differently."""
    model, path = paddock.load(), tmp_path / f"{kind}.gguf"
    path.touch()
    write_gguf(model.checkpoint, path, kind, tokenizer=model.tokenizer)
    text = (shared_data / "text/tinystories_sample.txt").read_text(encoding="utf-8")[600_000:602_400]
    ids = model.tokenizer.encode(text.replace("<|endoftext|>", ""), add_special=False)
    windows = [[1, *ids[at : at + 119]] for at in range(0, 480, 119)]
    opened = paddock.load(path)
    ours = perplexity(windows, opened.logits)
    theirs = perplexity(windows, lambda window: llama_cpp(path, "logits", window, []))
    assert 1 < ours < 50 and abs(theirs / ours - 1) < 0.005
