"""The tables of docs/scale.md, from the formulas that the trainer logs. Run as a program, it writes them.

Each table stands in the page between its two marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from paddock.model.families import describe
from paddock.model.spec import Architecture
from paddock.training.scale import Piece, Sharing, memory, seconds, traffic

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
LENGTH, ROWS = 4096, 1024  # 4.2 million tokens a step, as LLaMA-2 was trained


class Device(NamedTuple):
    """bf16 operations a second, the share of them that training is taken to use, bytes a second that one device sends
    to its neighbours in the machine and out of it, bytes of memory."""

    name: str
    flops: float
    share: float
    inside: float
    outside: float
    memory: float


A100 = Device("A100", 312e12, 0.45, 300e9, 25e9, 80e9)
H100 = Device("H100", 989e12, 0.40, 450e9, 50e9, 80e9)
DEVICES = (8, 64, 256, 1024)
MODES = {
    "ddp": lambda devices: Sharing(devices, shards=False),
    "fsdp": lambda devices: Sharing(devices),
    "fsdp x tp 8": lambda devices: Sharing(devices, tensor=8),
}


def llama(width: int, blocks: int, heads: int, kv_heads: int, hidden: int) -> Architecture:
    return describe(
        {
            "model_type": "llama", "vocab_size": 32000, "hidden_size": width, "intermediate_size": hidden,
            "num_hidden_layers": blocks, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "max_position_embeddings": LENGTH,
        }
    )  # fmt: skip


MODELS = {"7 B": llama(4096, 32, 32, 32, 11008), "70 B": llama(8192, 80, 64, 8, 28672)}


def piece(architecture: Architecture, sharing: Sharing) -> Piece:
    """The largest micro-batch (a power of two) with which a step fits; one row where none does."""
    rows = 1
    while 2 * rows <= ROWS // sharing.data and fits(architecture, sharing, Piece(2 * rows, LENGTH)):
        rows *= 2
    return Piece(rows, LENGTH)


def fits(architecture: Architecture, sharing: Sharing, piece: Piece) -> bool:
    """In 80 GB, of which 8 % are left for the driver, messages and holes."""
    return memory(architecture, sharing, piece).total < 0.92 * A100.memory


def memory_table() -> Iterator[str]:
    yield "| model | GPUs | mode | rows at once | state | working | activations | in all | fits 80 GB |"
    yield "|---|--:|---|--:|--:|--:|--:|--:|---|"
    for name, architecture in MODELS.items():
        for devices in DEVICES:
            for mode, sharing in MODES.items():
                how = sharing(devices)
                at_once = piece(architecture, how)
                held = memory(architecture, how, at_once)
                parts = (f"{p / 1e9:,.1f}" for p in (held.state, held.working, held.activations, held.total))
                said = "yes" if fits(architecture, how, at_once) else "no"
                yield f"| {name} | {devices} | {mode} | {at_once.rows} | {' | '.join(parts)} | {said} |"


def speed_table() -> Iterator[str]:
    yield "| model | GPUs | A100: tokens/s | days for 10^12 tokens | H100: tokens/s | days for 10^12 tokens |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name, architecture in MODELS.items():
        for devices in DEVICES:
            cells = []
            for device in (A100, H100):
                each = seconds(architecture, LENGTH, 1, devices, device.flops, device.share)
                cells += [f"{1 / each:,.0f}", f"{1e12 * each / 86400:,.1f}"]
            yield f"| {name} | {devices} | " + " | ".join(cells) + " |"


def traffic_table() -> Iterator[str]:
    yield (
        "| model | GPUs | mode | data, GB a step | tensor, GB a step | A100: computing, s | data, s | tensor, s |"
        " H100: computing, s | data, s | tensor, s |"
    )
    yield "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for name, architecture in MODELS.items():
        for devices in DEVICES:
            for mode, sharing in MODES.items():
                how = sharing(devices)
                at_once = piece(architecture, how)
                if not fits(architecture, how, at_once):
                    continue
                sent = traffic(architecture, how, at_once, ROWS // how.data // at_once.rows)
                cells = [f"{sent.data / 1e9:,.0f}", f"{sent.tensor / 1e9:,.0f}"]
                for device in (A100, H100):
                    works = seconds(architecture, LENGTH, ROWS * LENGTH, devices, device.flops, device.share)
                    link = device.inside if devices <= 8 else device.outside
                    cells += [f"{works:,.1f}", f"{sent.data / link:,.1f}", f"{sent.tensor / device.inside:,.1f}"]
                yield f"| {name} | {devices} | {mode} | " + " | ".join(cells) + " |"


TABLES = {"memory": memory_table, "speed": speed_table, "traffic": traffic_table}


def filled(page: str) -> str:
    """The page with its tables as the formulas give them now."""
    for name, rows in TABLES.items():
        text = "\n".join(rows())
        marks = rf"(?s)(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        page, found = re.subn(marks, lambda m, t=text: f"{m[1]}{t}\n{m[2]}", page)
        assert found == 1, f"docs/scale.md has {found} places for the table {name!r}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
