"""How much memory opening a model takes: its weights, and little more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

MIB = 2**20

# Prints, in bytes: the most memory ever held before the model is opened, the most held after, and the weights' size.
CHILD = """
import sys, torch
torch.set_num_threads(1)
from paddock.checkpoint.checkpoint import open_checkpoint
def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
before = peak()
model = open_checkpoint(sys.argv[1]).model()
total = sum(float(p.sum()) for p in model.parameters())
print(before, peak(), sum(p.nbytes for p in model.parameters()), total)
"""


def saved(folder: Path, family: str, form: str) -> Path:
    """About 480 MB of float32 weights: a LLaMA, whose tensors are used as they lie, or a BLOOM, whose are cut up."""
    import transformers as hf

    if family == "llama":
        sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "num_attention_heads": 16}
        model = hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=8000, **sizes))
    else:
        model = hf.BloomForCausalLM(hf.BloomConfig(vocab_size=8000, hidden_size=1024, n_layer=9, n_head=16))
    model.save_pretrained(folder)
    if form == "bin":
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_opening_takes_the_weights_and_little_more(family: str, form: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, family, form)
    run = subprocess.run([sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, check=True)
    before, peak, weights = (int(word) for word in run.stdout.split()[:3])
    print(f"{family} {form}: weights {weights / MIB:.0f} MiB, before {before / MIB:.0f}, peak {peak / MIB:.0f} MiB")
    assert weights > 450 * MIB
    assert peak <= 1.15 * weights + 400e6
    assert peak - before <= 1.02 * weights + 32 * MIB  # without the room that the rule leaves for PyTorch itself
