"""A virtual environment for each kind of engine, made once under the work folder."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
COMPILING = 3 * 3600  # seconds that compiling llama.cpp may take


@dataclass(frozen=True)
class Environment:
    """What is installed, and a statement that runs once it is."""

    packages: tuple[str, ...]
    check: str
    settings: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


_LLAMA = ("llama-cpp-python>=0.3.16", "numpy")
_SOURCE = ("--no-cache-dir", "--no-binary", "llama-cpp-python")  # a wheel from a cache could be another variant's
ENVIRONMENTS = {
    # For this machine's own instructions, whatever the package's build would choose.
    "llama-cpp": Environment(_LLAMA, "import llama_cpp, numpy", {"CMAKE_ARGS": "-DGGML_NATIVE=ON"}, _SOURCE),
    "llama-cpp-avx2": Environment(
        _LLAMA,
        "import llama_cpp, numpy",
        {
            "CMAKE_ARGS": "-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON "
            "-DGGML_AVX512=OFF"
        },
        _SOURCE,
    ),
    "torch": Environment(
        ("torch", "transformers>=5", "safetensors", "openvino>=2026.0", "nncf>=3", "ctranslate2>=4.8"),
        "import torch, transformers, openvino, nncf, ctranslate2",
    ),
    # Training: apart from each other, for they want different versions of huggingface_hub.
    "transformers": Environment(
        ("torch", "transformers>=5", "peft>=0.14", "safetensors"), "import torch, transformers, peft, safetensors"
    ),
    "litgpt": Environment(("torch", "litgpt", "safetensors"), "import torch, safetensors.torch, litgpt.model"),
}


class NotInstalled(Exception):
    """An environment could not be made; the text says why."""


def python_of(name: str, work: Path) -> Path:
    """The interpreter of an environment, made first if need be. Raises NotInstalled."""
    wanted, folder = ENVIRONMENTS[name], work / name
    python = folder / "bin" / "python"
    if python.exists() and not _run([python, "-c", wanted.check], {}, 300):
        return python
    print(f"installing {', '.join(wanted.packages)} into {folder}", file=sys.stderr, flush=True)
    problem = _run([sys.executable, "-m", "venv", folder], {}, 300)
    if not problem:
        command = [python, "-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, *wanted.options, *wanted.packages]
        problem = _run(command, wanted.settings, COMPILING)
    if not problem:
        problem = _run([python, "-c", wanted.check], {}, 300)
    if problem:
        raise NotInstalled(f"not installed: {problem}")
    return python


def _run(command: list[object], settings: dict[str, str], limit: float) -> str | None:
    """What went wrong, or None."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=limit,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:300]
    if done.returncode == 0:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines()
    return (lines[-1] if lines else f"exit code {done.returncode}")[:300]
