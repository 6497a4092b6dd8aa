"""Real processes of `paddock serve`, and small models that keep one busy, for the tests of operating it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import torch
from safetensors.torch import save_file

from paddock import tokenizer
from paddock.checkpoint import folder
from paddock.engine.locate import bundled
from paddock.model.families import describe
from paddock.model.transformer import Transformer

PROGRAM = [sys.executable, "-c", "import sys; from paddock.cli import main; sys.exit(main())"]
SLOW: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 512,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 16384,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}
OWN_TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"  # a stranger's: it is rendered in a process


def write_slow(path: Path, template: bool = True) -> Path:
    """A model that takes its time, and has room for long answers. Random weights, the bundled model's vocabulary."""
    torch.manual_seed(0)
    model = Transformer(describe(SLOW))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.05)
    folder.write(path, model, SLOW)
    tokenizer.load(bundled()).save(path)
    if template:
        (path / "chat_template.jinja").write_text(OWN_TEMPLATE)
    return path


def copy_scaled(path: Path, seed: int) -> Path:
    """The bundled model with other weights."""
    shutil.copytree(bundled(), path)
    torch.manual_seed(seed)
    config = json.loads((path / "config.json").read_text())
    model = Transformer(describe(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    folder.write(path, model, config)
    return path


def write_adapter(path: Path, seed: int = 1, strength: float = 0.5) -> Path:
    """A LoRA adapter for the bundled model, as PEFT publishes one."""
    config = json.loads((bundled() / "config.json").read_text())
    width, rank = config["hidden_size"], 4
    torch.manual_seed(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, width) * strength
        tensors[f"{name}.lora_B.weight"] = torch.randn(width, rank) * strength
    path.mkdir(parents=True)
    save_file(tensors, path / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none"}
    (path / "adapter_config.json").write_text(json.dumps(about))
    return path


class Process:
    """`with Process("--port", "0") as server`: a server that is ready, ended with the block.

    ready: wait until it is. Its standard error is in `lines`, as far as it was written.
    """

    def __init__(self, *arguments: str | Path, ready: bool = True, **environment: str) -> None:
        self.arguments, self.ready, self.environment = [*map(str, arguments)], ready, environment
        self.lines: list[str] = []

    def __enter__(self) -> Process:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
        self.process = subprocess.Popen(
            [*PROGRAM, "serve", *self.arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**clean, **self.environment},
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        found = self.wait_for(lambda: re.search(r"https?://[^ ,]+", self.said))
        self.url = found[0]
        if self.ready:
            self.wait_for(lambda: "\nready" in self.said)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    @property
    def said(self) -> str:
        return "\n" + "".join(self.lines)

    def wait_for(self, found: Callable[[], Any], seconds: float = 60.0) -> Any:
        end = time.monotonic() + seconds
        while not (value := found()):
            assert self.process.poll() is None or found(), self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.01)
        return value

    def children(self) -> list[int]:
        """Processes that it started and that live."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == self.process.pid and fields[0] != "Z":
                found.append(int(stat.parent.name))
        return found

    def signal(self, number: int = signal.SIGTERM) -> float:
        """Sends it; the time it was sent at."""
        self.process.send_signal(number)
        return time.monotonic()

    def end(self, seconds: float = 60.0) -> int:
        """Its exit code."""
        code = self.process.wait(seconds)
        self.reader.join()
        return code


def ask(tokens: int, **more: Any) -> dict[str, Any]:
    """A chat that writes so many tokens."""
    messages = [{"role": "user", "content": "Once upon a time"}]
    return {"messages": messages, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, **more}


class Streaming(threading.Thread):
    """A client that reads one streamed answer: `text` so far, and the lines as they came."""

    def __init__(self, url: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(daemon=True)
        self.url, self.body, self.headers = url, {**body, "stream": True}, headers or {}
        self.lines: list[str] = []
        self.begun = threading.Event()
        self.status = 0
        self.broken: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with httpx.stream(
                "POST", f"{self.url}/v1/chat/completions", json=self.body, headers=self.headers, timeout=60
            ) as answer:
                self.status = answer.status_code
                for line in answer.iter_lines():
                    if line:
                        self.lines.append(line)
                        if '"content":"' in line:
                            self.begun.set()
        except httpx.HTTPError as error:
            self.broken = error
        finally:
            self.begun.set()

    @property
    def whole(self) -> bool:
        return bool(self.lines) and self.lines[-1] == "data: [DONE]"

    @property
    def text(self) -> str:
        chunks = [choice["delta"].get("content") or "" for event in self.events for choice in event.get("choices", ())]
        return "".join(chunks)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line.removeprefix("data: ")) for line in self.lines if line.startswith("data: {")]


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def eventually(check: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first value of `check` that is true."""
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)
    return value


def streams(server: Process, count: int, body: dict[str, Any]) -> Iterator[Streaming]:
    """So many clients, once all of them read."""
    clients = [Streaming(server.url, body) for _ in range(count)]
    for client in clients:
        assert client.begun.wait(60)
        yield client
