"""What `paddock fit` says beside what fresh processes take: predicted and measured peaks of memory.

    python benchmarks/fit.py --work bench-fit                 serving, then training
    python benchmarks/fit.py --work bench-fit --part serving --only llama-1.1b

A case of serving is a random model of its shape that a process of its own loads and asks as often as the case says,
each time for an answer to the end of the context. Measured is VmHWM, the most that was resident at once: anonymous
memory and pages of files. A repacked model leaves few of those; what PyTorch runs is read where it lies in its file,
and counts as soon as it is touched, as it must be there to compute. Both parts are shown. Cases run one after another;
memory does not depend on how busy the machine is. Cases of training are in fit_training.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import shapes

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ROOT / "src" / "paddock" / "models" / "stories260K"
NEW = 8  # tokens of each answer: the rest of its context is prompt
EVERY = 0.005  # seconds between looks at a running process
CONFIGS: dict[str, dict[str, Any]] = {
    "neox-160m": {
        "model_type": "gpt_neox", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "max_position_embeddings": 2048, "vocab_size": 50304, "rotary_pct": 0.25,
        "use_parallel_residual": True, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "tie_word_embeddings": False,
    },
    "mixtral-300m": {
        "model_type": "mixtral", "hidden_size": 512, "intermediate_size": 1792, "num_hidden_layers": 12,
        "num_attention_heads": 8, "num_key_value_heads": 2, "num_local_experts": 8, "num_experts_per_tok": 2,
        "max_position_embeddings": 4096, "sliding_window": None, "vocab_size": 32000, "tie_word_embeddings": False,
    },
    "bert-110m": {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 768, "intermediate_size": 3072,
        "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 512, "type_vocab_size": 2,
        "vocab_size": 30522,
    },
    "t5-220m": {
        "model_type": "t5", "d_model": 768, "d_ff": 3072, "d_kv": 64, "num_layers": 12, "num_heads": 12,
        "vocab_size": 32128, "relative_attention_num_buckets": 32, "feed_forward_proj": "relu",
        "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
    },
    "chatglm-200m": {
        "model_type": "chatglm", "vocab_size": 130528, "hidden_size": 768, "inner_hidden_size": 3072, "num_layers": 12,
        "num_attention_heads": 12, "max_sequence_length": 2048, "layernorm_epsilon": 1e-5,
        "position_encoding_2d": True, "bos_token_id": 130004, "eos_token_id": 130005, "gmask_token_id": 130001,
        "mask_token_id": 130000, "pad_token_id": 3,
    },
    "llama-300m": {
        "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 20,
        "num_attention_heads": 16, "num_key_value_heads": 4, "max_position_embeddings": 4096, "vocab_size": 32000,
        "tie_word_embeddings": True,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One model, and how it is asked. form: as shapes.py names GGUF files, else a folder's type, or gptq."""

    shape: str
    form: str
    context: int
    texts: int = 1
    quantize: str | None = None
    dtype: str = "auto"

    @property
    def name(self) -> str:
        more = [f"--quantize {self.quantize}"] * bool(self.quantize) + [f"--dtype {self.dtype}"] * (
            self.dtype != "auto"
        )
        return " ".join([self.shape, self.form, f"{self.texts} x {self.context}", *more])


CASES = (
    Case("stories260K", "float32", 512),
    Case("110m", "bf16", 2048),
    Case("110m", "Q8_0", 1024, 4),
    Case("110m", "Q4_K_M", 512, 8),
    Case("1.1b", "bf16", 1024),
    Case("1.1b", "F16", 256),
    Case("1.1b", "Q8_0", 512, 2),
    Case("1.1b", "Q4_0", 2048),
    Case("1.1b", "Q4_K_M", 128, 16),
    Case("1.1b", "bf16", 256, quantize="q8_0"),
    Case("llama-300m", "float32", 2048),
    Case("llama-300m", "bfloat16", 1024, dtype="float32"),
    Case("llama-300m", "bfloat16", 2048, quantize="q4_k"),
    Case("llama-300m", "gptq", 2048, 2),
    Case("neox-160m", "bfloat16", 2048),
    Case("neox-160m", "float16", 512, 8),
    Case("mixtral-300m", "bfloat16", 2048),
    Case("bert-110m", "float32", 512, 16),
    Case("bert-110m", "bfloat16", 128, 4),
    Case("t5-220m", "float32", 512),
    Case("t5-220m", "bfloat16", 256, 4),
    Case("chatglm-200m", "float16", 1024),
)


def model_of(case: Case, work: Path) -> Path:
    """The case's model, made once."""
    if case.shape == "stories260K":
        return BUNDLED
    if case.shape in shapes.SHAPES:
        return shapes.make(case.shape, work, [case.form])[case.form].resolve()
    path = work / f"{case.shape}-{case.form}"
    if not (path / "config.json").exists():
        command = [sys.executable, __file__, "--make", str(path), "--shape", case.shape, "--form", case.form]
        subprocess.run(command, check=True)
    return path


def make(path: Path, shape: str, form: str) -> None:
    """Writes a folder of random weights: what `model_of` runs in a process of its own."""
    import torch

    from paddock.checkpoint import folder
    from paddock.checkpoint.checkpoint import understand
    from paddock.checkpoint.safetensors import Planned
    from paddock.checkpoint.weights import published, sketch
    from paddock.model.families import family
    from paddock.model.initialise import blank, initialise

    dtype = torch.float16 if form == "gptq" else getattr(torch, form)
    config = {**CONFIGS[shape], "torch_dtype": str(dtype).removeprefix("torch.")}
    model = initialise(blank(sketch(understand(config)).to(dtype)), 0, config, deviation=0.02)
    path.mkdir(parents=True, exist_ok=True)
    if "vocab_size" in config:
        size = shapes.Shape(shape, 1, 64, 1, 1, 64, vocabulary=config["vocab_size"])
        shapes._write_tokenizer(size, path)
    if form != "gptq":
        folder.write(path, model, config, {})
        return
    config["quantization_config"] = {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 128,
        "desc_act": False,
        "sym": True,
    }
    tensors: dict[str, Planned] = {}
    for each in published(model, family(config).RULES):
        if not each.name.endswith("_proj.weight"):
            tensors[each.name] = Planned(each.shape, each.dtype, each.tensor)
            continue
        (rows, columns), name = each.shape, each.name.removesuffix(".weight")
        groups = columns // 128
        parts = {
            "qweight": torch.randint(-(2**31), 2**31, (columns // 8, rows), dtype=torch.int32),
            "qzeros": torch.full((groups, rows // 8), 0x77777777, dtype=torch.int32),
            "scales": torch.full((groups, rows), 0.004, dtype=torch.float16),
            "g_idx": (torch.arange(columns) // 128).int(),
        }
        for part, numbers in parts.items():
            tensors[f"{name}.{part}"] = Planned(numbers.shape, numbers.dtype, lambda numbers=numbers: numbers)
    folder.write_tensors(path, config, tensors)


def ask(path: str, case: Case) -> None:
    """Loads the model and asks it: what `measure` runs in a process of its own. Prints what the process took."""
    import random

    from paddock.engine.loading import load

    model = load(path, dtype=case.dtype, quantize=case.quantize)
    architecture, draw = model.architecture, random.Random(0)
    pieces = min(architecture.vocabulary, 30000) - 1
    if not architecture.generates:
        model.reader.hidden([[draw.randrange(3, pieces) for _ in range(case.context)] for _ in range(case.texts)])
    else:
        reads = architecture.encoder is not None

        def one() -> None:
            prompt = [draw.randrange(3, pieces) for _ in range(case.context if reads else case.context - NEW)]
            if architecture.family == "chatglm":
                prompt = [*prompt[:-2], 130001, 130004]
            model.generate(prompt, max_new_tokens=NEW, temperature=0)

        threads = [threading.Thread(target=one) for _ in range(case.texts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(json.dumps(status("self")))


def status(process: str) -> dict[str, int]:
    """Bytes of a process: VmHWM and what is resident now, in its two parts."""
    found = {}
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmHWM", "RssAnon", "RssFile"):
            found[name] = int(value.split()[0]) * 1024
    return found


def measure(case: Case, path: Path) -> dict[str, int]:
    """Peaks of a fresh process: of all that was resident, and of each part."""
    command = [sys.executable, __file__, "--ask", str(path), "--case", json.dumps(asdict(case))]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    most = {"RssAnon": 0, "RssFile": 0}
    while child.poll() is None:
        try:
            now = status(str(child.pid))
        except OSError:
            break
        most = {name: max(size, now.get(name, 0)) for name, size in most.items()}
        time.sleep(EVERY)
    said, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(f"{case.name}: exit {child.returncode}")
    return {"peak": json.loads(said.splitlines()[-1])["VmHWM"], "anonymous": most["RssAnon"], "file": most["RssFile"]}


def predict(case: Case, path: Path) -> tuple[int, dict[str, int]]:
    """The plan's peak, and its bytes by role."""
    import torch

    from paddock.catalog.fit import serving, subject

    settings = serving.Settings(
        context=case.context, concurrency=case.texts, quantize=case.quantize, dtype=case.dtype,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    plan = serving.plan(subject.read(path), settings)
    roles: dict[str, int] = {}
    for part in plan.worst.components:
        roles[part.role] = roles.get(part.role, 0) + part.bytes
    return plan.peak, roles


def serving_cases(work: Path, only: str) -> list[dict[str, Any]]:
    """A record for each case of serving, printed as it is done."""
    records = []
    for case in CASES:
        if only not in case.name:
            continue
        path = model_of(case, work)
        predicted, roles = predict(case, path)
        try:
            found = measure(case, path)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            continue
        records.append(
            {"case": case.name, "predicted": predicted, **found, "error": predicted / found["peak"] - 1, "roles": roles}
        )
        print(line(records[-1]), flush=True)
    return records


def training_cases(work: Path, only: str) -> list[dict[str, Any]]:
    """The same of the runs of fit_training.py."""
    import fit_training

    (work / "models").mkdir(exist_ok=True)
    records = []
    for case in fit_training.CASES:
        if only not in case.name:
            continue
        try:
            peak = fit_training.measure(case, work)["peak"]
        except RuntimeError as error:
            print(error, file=sys.stderr)
            continue
        predicted = fit_training.predicted(case)
        records.append({"case": case.name, "predicted": predicted, "peak": peak, "error": predicted / peak - 1})
        print(line(records[-1]), flush=True)
    return records


def line(record: dict[str, Any]) -> str:
    parts = f"({record['anonymous'] / 1e6:7.0f} + {record['file'] / 1e6:6.0f})" if "anonymous" in record else " " * 18
    numbers = f"{record['predicted'] / 1e6:9.1f} {record['peak'] / 1e6:9.1f} {parts} {record['error']:+7.1%}"
    return f"{record['case']:<44} {numbers}"


def summary(records: list[dict[str, Any]]) -> str:
    """The median and the worst of the errors' sizes."""
    errors = [abs(record["error"]) for record in records]
    return f"{len(errors)} cases: median {statistics.median(errors):.1%}, worst {max(errors):.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Predicted and measured peaks of memory.")
    parser.add_argument("--work", type=Path, default=Path("bench-fit"))
    parser.add_argument("--part", choices=("serving", "training", "all"), default="all")
    parser.add_argument("--only", default="", help="cases whose name has this")
    parser.add_argument("--json", type=Path, help="write the records there")
    for hidden in ("--make", "--shape", "--form", "--ask", "--case"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.make:
        make(Path(asked.make), asked.shape, asked.form)
        return
    if asked.ask:
        ask(asked.ask, Case(**json.loads(asked.case)))
        return
    work = asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    records: dict[str, list[dict[str, Any]]] = {}
    print(f"{'case':<44} {'predicted':>9} {'measured':>9} {'(anonymous + file)':>18} {'error':>7}   MB")
    if asked.part in ("serving", "all"):
        records["serving"] = serving_cases(work, asked.only)
    if asked.part in ("training", "all"):
        records["training"] = training_cases(work, asked.only)
    for part, found in records.items():
        if found:
            print(f"{part}: {summary(found)}")
    if asked.json:
        asked.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
