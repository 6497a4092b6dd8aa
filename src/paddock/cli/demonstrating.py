"""`paddock demo`: the first thing a newcomer sees."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from paddock.cli import output
from paddock.cli.loading import load
from paddock.cli.options import Loading

GO_ON = {
    'generate "Once upon a time" --temp 0.8': "another story",
    "chat": "tell one together",
    "show": "look inside the model",
    "chat path/to/your/model": "a Hugging Face folder or a .gguf file of your own",
    "--help": "everything else",
}


def go_on() -> str:
    """What to type next, spelt so that this shell finds the program."""
    name = "paddock" if shutil.which("paddock") else os.path.relpath(Path(sys.argv[0]))
    lines = {f"{name} {verb}": purpose for verb, purpose in GO_ON.items()}
    width = max(map(len, lines)) + 4
    return "\nGo on:\n" + "\n".join(f"  {line:<{width}}{purpose}" for line, purpose in lines.items())


def demo() -> None:
    """Streams the story that the bundled model finds likeliest, the same on every machine, and its speed."""
    model, seconds = load(Loading())
    output.note(f"The bundled model, {model.checkpoint.path.name}, tells its story:\n")
    context = model.architecture.context or 256
    count, started = 0, time.perf_counter()
    try:
        for event in model.stream("", context - 1, temperature=0):
            if event.token == model.tokenizer.bos_id:  # where its stories end, and where llama2.c stops too
                break
            output.piece(event.text)
            count += 1
    finally:
        output.result("")
    rate = count / (time.perf_counter() - started)
    output.note(f"\n{count} tokens, {rate:,.0f} tokens per second (loaded in {seconds:.2f} s)")
    output.note(go_on())
