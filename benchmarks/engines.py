"""Which engine runs which file in which environment, and the process it runs in."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKERS = Path(__file__).resolve().parent / "workers"


@dataclass(frozen=True, eq=False)
class Entry:
    """A row of the table: an engine on a file. `group`: what it is compared with. `file`: a format of shapes.py."""

    group: str
    engine: str
    weights: str
    file: str
    environment: str | None = None  # None: Paddock's own
    worker: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.engine} {self.weights}"

    @property
    def ours(self) -> bool:
        return self.environment is None


def _ours(group: str, weights: str, file: str, **more: Any) -> Entry:
    return Entry(group, more.pop("engine", "paddock"), weights, file, None, "paddock", **more)


def _llama(group: str, weights: str, environment: str = "llama-cpp", engine: str = "llama.cpp") -> Entry:
    return Entry(group, engine, weights, weights, environment, "llama_cpp")


def _torch(group: str, engine: str, weights: str) -> Entry:
    return Entry(group, engine, weights, "bf16", "torch", engine, {"weights": weights})


AVX2 = {"settings": {"PADDOCK_KERNELS": "avx2"}, "engine": "paddock-avx2"}
ENTRIES = (
    _ours("4-bit", "Q4_0", "Q4_0"),
    _ours("4-bit", "Q4_K_M", "Q4_K_M"),
    _llama("4-bit", "Q4_0"),
    _llama("4-bit", "Q4_K_M"),
    _torch("4-bit", "openvino", "int4"),
    _ours("8-bit", "Q8_0", "Q8_0"),
    _llama("8-bit", "Q8_0"),
    _torch("8-bit", "openvino", "int8"),
    _torch("8-bit", "ctranslate2", "int8"),
    _ours("16-bit", "bf16", "bf16", options={"dtype": "bfloat16"}),
    _llama("16-bit", "F16"),
    _llama("16-bit", "BF16"),
    _torch("16-bit", "transformers", "bf16"),
    _torch("16-bit", "openvino", "f16"),
    _ours("avx2 4-bit", "Q4_0", "Q4_0", **AVX2),
    _llama("avx2 4-bit", "Q4_0", "llama-cpp-avx2", "llama.cpp-avx2"),
    _ours("avx2 8-bit", "Q8_0", "Q8_0", **AVX2),
    _llama("avx2 8-bit", "Q8_0", "llama-cpp-avx2", "llama.cpp-avx2"),
)
GROUPS = tuple(dict.fromkeys(entry.group for entry in ENTRIES))


class Failed(Exception):
    """An engine did not do what it was asked; the text says why."""


class Process:
    """An engine at work. Every failure, a crash or silence included, comes out as Failed."""

    def __init__(self, entry: Entry, python: Path, threads: int, log: Path) -> None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PADDOCK_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, str(threads)), **entry.settings}
        environment["TOKENIZERS_PARALLELISM"] = "false"
        if entry.environment is None:
            # As in a run of `paddock`, which says so before PyTorch is loaded; some workers import torch first.
            environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self.entry = entry
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [str(python), str(WORKERS / f"{entry.worker}_worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def ask(self, limit: float, **request: Any) -> dict[str, Any]:
        """Raises Failed for an error, for a process that ended, and after `limit` seconds."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=limit)
        except (OSError, ValueError):
            raise Failed(self._ended()) from None
        except queue.Empty:
            raise Failed(f"no answer to {request['do']} in {limit:.0f} s") from None
        if not line:
            raise Failed(self._ended())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def close(self) -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if self._process.stdin:
                self._process.stdin.close()
            self._process.wait(5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        self._log.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put("")

    def _ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        said = Path(self._log.name).read_text(errors="replace").strip().splitlines()
        return f"ended with code {self._process.returncode}: {(said or [''])[-1][:300]}"


def interpreter(entry: Entry, pythons: dict[str, Path]) -> Path:
    return Path(sys.executable) if entry.environment is None else pythons[entry.environment]
