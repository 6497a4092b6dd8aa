"""What the engines are measured on: random weights of a shape, or a real model, in every engine's format."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import shapes


class NotMade(Exception):
    """A file could not be made; the text says why."""


@dataclass(frozen=True)
class Subject:
    """name: for the record. folder: a Hugging Face folder of real weights, or None for the random ones of a shape."""

    name: str
    vocabulary: int
    work: Path
    folder: Path | None = None

    @staticmethod
    def random(shape: str, work: Path) -> Subject:
        return Subject(shape, shapes.SHAPES[shape].vocabulary, work)

    @staticmethod
    def real(folder: Path, work: Path) -> Subject:
        """A LLaMA folder with its tokenizer. Raises OSError, ValueError or KeyError for what is none."""
        config = json.loads((folder / "config.json").read_text())
        return Subject(folder.resolve().name, int(config["vocab_size"]), work, folder.resolve())

    def file(self, form: str) -> Path:
        """The model in a format: "bf16" is a Hugging Face folder, the rest are GGUF files. Raises NotMade."""
        self.work.mkdir(parents=True, exist_ok=True)
        if self.folder is None:
            return shapes.make(self.name, self.work, [form])[form].resolve()
        if form == "bf16":  # beside what engines make of it, which must not lie beside the user's own
            link = self.work / f"{self.name}-bf16"
            if not link.exists():
                link.symlink_to(self.folder, target_is_directory=True)
            return link.absolute()
        path = self.work / f"{self.name}-{form}.gguf"
        if not path.exists():
            kind = form.lower().removesuffix("_m")
            run = "import sys; from paddock.cli import main; sys.exit(main())"
            words = ["quantize", self.folder, "--to", kind, "--output", path, "--no-card"]
            command = [sys.executable, "-c", run, *map(str, words)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                said = [line for line in done.stderr.splitlines() if line.startswith("error")]
                raise NotMade(f"no {form} file: {(said or ['exit code ' + str(done.returncode)])[0][:300]}")
        return path.resolve()
