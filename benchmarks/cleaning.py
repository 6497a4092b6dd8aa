"""Near-duplicate removal on one core: Paddock's MinHash beside datatrove's, on the same documents in the same run.

    python benchmarks/cleaning.py texts.jsonl --work ~/paddock-peers --documents 4000 --rounds 3 --json cleaning.json

Both read the documents from memory, normalise and shingle them (5 words), make their signatures, write them to disk,
sort them into buckets and find the pairs: datatrove's stages 1 (signatures) and 2 (buckets), 14 buckets of 8 hashes;
Paddock's with as many (112 permutations in 14 bands of 8), and clusters, which datatrove finds in a third stage that is
not counted. Each runs in a process of its own bound to one core, in turns; the first round warms up and is not counted.
datatrove's word tokenizer for English is spaCy's, which takes most of its time: `--splitter` gives it a tokenizer of
white space instead, the quickest it can have. It is installed under --work, never beside Paddock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("datatrove[processing]", "spacy")
BANDS, ROWS, SHINGLE = 14, 8, 5

OURS = """
import json, sys, time
from pathlib import Path
import numpy as np
from paddock.data.cleaning.near import Collect, decide
from paddock.data.cleaning.recipe import Near
from paddock.data.cleaning.stage import Item
from paddock.data.document import Document

texts = json.loads(Path(sys.argv[1]).read_text())
folder, bands, rows, shingle = Path(sys.argv[2]), *map(int, sys.argv[3:6])
asked = Near(stage="minhash", shingle=shingle, permutations=bands * rows, bands=bands, rows=rows)
items = [Item(number, Document(text, "")) for number, text in enumerate(texts)]
collect = Collect(asked)
collect.apply(items[0])
collect.learned()
started = time.perf_counter()
for item in items:
    collect.apply(item)
(folder / "learned").write_bytes(collect.learned())
signed = time.perf_counter()
decide(asked, len(items), [(folder / "learned").read_bytes()], folder)
ended = time.perf_counter()
found = np.load(folder / "near.npy").shape[1]
print(json.dumps({"signatures": signed - started, "buckets": ended - signed, "found": found}))
"""

THEIRS = """
import contextlib, io, json, sys, time
from pathlib import Path
from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.word_tokenizers import WordTokenizer
from loguru import logger

logger.remove()

class Blanks(WordTokenizer):
    def word_tokenize(self, text): return text.split()
    def sent_tokenize(self, text): return [text]
    def span_tokenize(self, text): return [(0, len(text))]

texts = json.loads(Path(sys.argv[1]).read_text())
folder, bands, rows, shingle = Path(sys.argv[2]), *map(int, sys.argv[3:6])
config = MinhashConfig(n_grams=shingle, num_buckets=bands, hashes_per_bucket=rows)
language = Blanks() if sys.argv[6] == "splitter" else "en"
documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
first = MinhashDedupSignature(str(folder / "signatures"), config, language)
first.get_signature(first.get_shingles(texts[0]))
started = time.perf_counter()
first.run(iter(documents), 0, 1)
signed = time.perf_counter()
for bucket in range(bands):
    MinhashDedupBuckets(str(folder / "signatures"), str(folder / "buckets"), config=config).run(None, bucket, bands)
ended = time.perf_counter()
data = b"".join(path.read_bytes() for path in (folder / "buckets").rglob("*.dups"))
pairs = {data[at : at + 16] for at in range(0, len(data), 16)}  # two files' and two documents' numbers
print(json.dumps({"signatures": signed - started, "buckets": ended - signed, "found": len(pairs)}))
"""


def main() -> None:
    asked = arguments()
    texts = documents(asked.files, asked.documents)
    peers = {"paddock": (sys.executable, OURS, "")}
    try:
        python = environment(asked.work / "datatrove")
        peers["datatrove"] = (str(python), THEIRS, "spacy")
        peers["datatrove, splitting at blanks"] = (str(python), THEIRS, "splitter")
    except RuntimeError as problem:
        print(f"datatrove cannot be installed: {problem}", file=sys.stderr)
    core = min(os.sched_getaffinity(0))
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "texts.json"
        source.write_text(json.dumps(texts))
        for turn in range(asked.rounds + 1):
            for name, (python_, program, how) in peers.items():
                said = measured(python_, program, how, source, core)
                print(f"round {turn} {name}: {said}", file=sys.stderr, flush=True)
                if turn:
                    taken[name].append(said)
    report(asked, texts, taken)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="JSON lines with a text, or plain text")
    parser.add_argument("--work", type=Path, required=True, help="where datatrove is installed, once")
    parser.add_argument(
        "--documents", type=int, default=4000, help="how many; texts come again, changed, if they are fewer"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def documents(files: list[Path], count: int) -> list[str]:
    """`count` documents; when the files have fewer, each comes again with its words turned round, so as to be new.

    Every twentieth is the one before it with three words changed.
    """
    sys.path.insert(0, str(ROOT / "src"))
    from paddock.data.reading import documents as read

    texts = [document.text for document in read(files)]
    turned = 0
    while len(texts) < count:
        turned += 1
        for text in texts[: count - len(texts)]:
            words = text.split()
            half = len(words) * turned // (turned + 1)
            texts.append(" ".join([*reversed(words[half:]), *reversed(words[:half])]))
    for place in range(19, count, 20):
        words = texts[place - 1].split()
        for at in (len(words) // 4, len(words) // 2, len(words) * 3 // 4):
            words[at : at + 1] = ["changed"]
        texts[place] = " ".join(words)
    return texts[:count]


def environment(folder: Path) -> Path:
    """datatrove's interpreter. Raises RuntimeError where it cannot be had."""
    python = folder / "bin" / "python"
    check = [str(python), "-c", "import datatrove.pipeline.dedup, spacy; spacy.blank('en')"]
    if python.exists() and subprocess.run(check, capture_output=True).returncode == 0:
        return python
    print(f"installing {', '.join(PACKAGES)} into {folder}", file=sys.stderr, flush=True)
    for command in (
        [sys.executable, "-m", "venv", folder],
        [python, "-m", "pip", "install", "--quiet", *PACKAGES],
        check,
    ):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1][:300])
    return python


def measured(python: str, program: str, how: str, source: Path, core: int) -> dict[str, float]:
    """One run in a process of its own, on one core with one thread."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, "-c", program, str(source), folder, str(BANDS), str(ROWS), str(SHINGLE), how],
            capture_output=True,
            text=True,
            env={**os.environ, **limits, "PYTHONPATH": str(ROOT / "src") if program is OURS else ""},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def report(asked: argparse.Namespace, texts: list[str], taken: dict[str, list[dict[str, float]]]) -> None:
    """Medians, and how many times datatrove's rate Paddock's is."""
    characters = sum(map(len, texts))
    rows: dict[str, dict[str, Any]] = {}
    for name, rounds in taken.items():
        seconds = statistics.median(each["signatures"] + each["buckets"] for each in rounds)
        rows[name] = {
            "seconds": seconds,
            "documents_per_second": len(texts) / seconds,
            "megabytes_per_second": characters / 1e6 / seconds,
            "rounds": rounds,
        }
    ours = rows["paddock"]["documents_per_second"]
    print(
        f"{len(texts)} documents, {characters / 1e6:.1f} million characters, one core, median of {asked.rounds} rounds"
    )
    for name, row in rows.items():
        rate, millions = row["documents_per_second"], row["megabytes_per_second"]
        print(f"{name:32} {rate:8.0f} documents/s {millions:7.2f} M characters/s   Paddock is {ours / rate:.1f} x")
    if asked.json:
        about = {"documents": len(texts), "characters": characters, "python": platform.python_version()}
        about |= {"load": os.getloadavg()[0], "cores": os.cpu_count()}
        asked.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
