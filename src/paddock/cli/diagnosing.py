"""`paddock doctor`: what works on this machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import typer

import paddock
from paddock import kernels
from paddock.cli import output
from paddock.engine.locate import bundled, home
from paddock.errors import PaddockError, UsageError
from paddock.kernels import native, system_memory
from paddock.tokenizer.template_check import Finding

STORY = "Once upon a time, there was a little girl named Lily."  # the bundled model's own greedy beginning
STORY_TOKENS = 24
NEEDED = (
    "torch", "numpy", "tokenizers", "sentencepiece", "jinja2", "typer", "rich", "fastapi", "uvicorn", "pydantic",
    "prometheus-client", "httpx", "huggingface-hub", "llguidance",
)  # fmt: skip
OPTIONAL = {
    "transformers": "an oracle of the tests",
    "gguf": "an oracle of the tests",
    "sentence-transformers": "an oracle of the tests",
    "llama-cpp-python": "an oracle of the slow tests",
}
VARIABLES = (
    "PADDOCK_HOME",
    "PADDOCK_KERNELS",
    "PADDOCK_THREADS",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NO_COLOR",
    "FORCE_COLOR",
    "TERM",
)
WANTED = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "sve")
LITTLE_MEMORY, LITTLE_DISK = 2 * 10**9, 2 * 10**9


def doctor(json: bool) -> None:
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _libraries,
        _processor,
        _accelerator,
        _memory,
        _disk,
        _kernels,
        _model,
        _variables,
    )
    findings = [finding for check in checks for finding in check()]
    if json:
        output.as_json(findings)
    else:
        output.painted_result(output.findings_text(findings))
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


def _python() -> Iterator[Finding]:
    text = f"{platform.python_version()} ({sys.executable}) on {platform.platform()}"
    yield Finding("ok" if sys.version_info >= (3, 11) else "fail", "Python", text, "install Python 3.11 or newer")
    yield Finding("ok", "Paddock", f"{paddock.__version__} in {Path(paddock.__file__).parent}")


def _libraries() -> Iterator[Finding]:
    for name in NEEDED:
        version = _version(name)
        if version is None:
            yield Finding("fail", name, "is not installed", f"pip install {name}")
        elif name == "torch":
            yield Finding("ok", "PyTorch", f"{version}, {torch.get_num_threads()} threads")
    found = [f"{name} {version}" for name in NEEDED[1:] if (version := _version(name))]
    yield Finding("ok", "libraries", ", ".join(found))
    for name, use in OPTIONAL.items():
        version = _version(name)
        yield Finding(
            "ok", name, f"{version} ({use})" if version else f"not here, and not needed to run models ({use})"
        )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> Iterator[Finding]:
    name, flags = _cpuinfo()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    having = ", ".join(flag for flag in WANTED if flag in flags) or "none of those that matter here"
    yield Finding("ok", "processor", f"{name or platform.machine()}, {cores} cores for us")
    yield Finding("ok", "instructions", f"{having}; PyTorch uses {torch.backends.cpu.get_cpu_capability()}")
    if torch.get_num_threads() > cores:
        text = f"PyTorch runs {torch.get_num_threads()} threads on {cores} cores, which slows it down"
        yield Finding("warn", "threads", text, f"set OMP_NUM_THREADS={cores}")


def _cpuinfo() -> tuple[str, set[str]]:
    """The processor's name and its flags, as Linux tells them; nothing elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor(), set()
    fields = dict(line.split(":", 1) for line in text.partition("\n\n")[0].splitlines() if ":" in line)
    known = {key.strip(): value.strip() for key, value in fields.items()}
    return known.get("model name", ""), set(known.get("flags", known.get("Features", "")).split())


def _accelerator() -> Iterator[Finding]:
    if not torch.cuda.is_available():
        yield Finding("ok", "GPU", "none that this PyTorch can use; models run on the processor")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Finding("ok", "GPU", f"cuda:{index} {properties.name}, {output.size(properties.total_memory)}")


def _memory() -> Iterator[Finding]:
    total, free = system_memory.total(), system_memory.available()
    text = f"{output.size(free)} free of {output.size(total)}"
    yield _enough(free >= LITTLE_MEMORY, "memory", text, "close other programs, or use small models")


def _disk() -> Iterator[Finding]:
    place = home()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    text = f"{output.size(free)} free where {home()} lies"
    yield _enough(free >= LITTLE_DISK, "disk", text, "make room, or set PADDOCK_HOME to another disk")


def _enough(enough: bool, about: str, text: str, fix: str) -> Finding:
    return Finding("ok", about, text) if enough else Finding("warn", about, text, fix)


def _kernels() -> Iterator[Finding]:
    """What runs the operations; what else could on this machine; and where that is not native, why and what helps."""
    try:
        chosen = kernels.chosen()
    except UsageError as error:
        fix = error.fix or f"unset {native.KERNELS} and {native.THREADS}"
        yield Finding("fail", "kernels", f"{error.what}; expected {error.expected}", fix)
        return
    missing = native.absence()
    if missing:
        yield Finding("warn", "kernels", chosen, native.FIX)
        return
    usable = native.available()
    refused = native.refused()
    others = ", ".join(name for name in native.built() if name not in (*usable, *refused))
    wider = f"; this processor cannot run {others}" if others else ""
    yield Finding("ok", "kernels", f"{chosen} ({native.KERNELS} may say {', '.join(usable)}{wider})")
    for name, why in refused.items():
        yield Finding(
            "warn", "kernels", f"{name} is not used: {why}", "the next best kernels do the work; nothing is wrong"
        )


def _model() -> Iterator[Finding]:
    """The bundled model must tell its story."""
    try:
        text = paddock.load(bundled(), device="cpu").generate("", STORY_TOKENS, temperature=0).text
    except (PaddockError, OSError) as error:
        # What the environment cannot mean is mended where `_kernels` says so.
        fix = None if isinstance(error, UsageError) else "install Paddock again"
        yield Finding("fail", "bundled model", error.what if isinstance(error, PaddockError) else str(error), fix)
        return
    if text.startswith(STORY):
        yield Finding("ok", "bundled model", f"tells its story, from {bundled()}")
    else:
        yield Finding("fail", "bundled model", f"tells another story: {text[:60]!r}", "install Paddock again")


def _variables() -> Iterator[Finding]:
    told = {name: output.printable(os.environ[name]) for name in VARIABLES if name in os.environ}
    unset = ", ".join(name for name in VARIABLES if name not in told)
    shown = ", ".join(f"{name}={value}" for name, value in told.items()) or "none of those heeded is set"
    yield Finding("ok", "environment", f"{shown} (not set: {unset})" if unset else shown)
