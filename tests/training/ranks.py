"""The processes of test_parallel.py: `python ranks.py PLAN`, where PLAN is a JSON file with a list of groups.

Not a test. Starting a process with PyTorch costs seconds, so this one starts once and forks each group's processes.
What process 0 of a group saw goes to NAME.json and NAME.safetensors beside the plan; to codes.json goes of each process
its exit code, when it ended, and the processor time that it took.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
from pydantic import TypeAdapter
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from paddock.checkpoint import folder as hf
from paddock.checkpoint import safetensors
from paddock.checkpoint.held_nf4 import HeldNf4
from paddock.checkpoint.weights import Elsewhere, sketch
from paddock.data.batch import IGNORED, Batch
from paddock.data.packing import Stream
from paddock.data.preparing.causal import Causal
from paddock.data.shards import Tokens
from paddock.data.stream import BatchStream
from paddock.errors import DataError, Interrupted, PaddockError
from paddock.model.families import describe
from paddock.model.initialise import blank, first_weights, initialise
from paddock.model.linear import hold
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.training.conduct import Origin, Wishes, conduct
from paddock.training.loop import StepReport, Trainer
from paddock.training.losses import Loss, Sums, token_loss
from paddock.training.methods import Base, Method, Tuned
from paddock.training.parallel import Alone, Parallel, from_environment, state, vocabulary
from paddock.training.parallel import meeting as _  # noqa: F401 - like Dynamo, imported here once rather than in each
from paddock.training.parallel.state import local
from paddock.training.parallel.watch import leave
from paddock.training.recipe import Training
from paddock.training.run import RunFolder
from paddock.training.saving import Publish

GPT2 = {"model_type": "gpt2", "vocab_size": 61, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
LLAMA = {
    "model_type": "llama", "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
T5 = {
    "model_type": "t5", "vocab_size": 61, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0, "relative_attention_num_buckets": 8, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "tied": {**LLAMA, "tie_word_embeddings": True},
    "mixtral": {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "rare": {**LLAMA, "model_type": "mixtral", "num_local_experts": 64, "num_experts_per_tok": 1},
    "gpt2": GPT2,
    "bloom": {"model_type": "bloom", "vocab_size": 61, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "t5": T5,
    "bert": {
        "model_type": "bert", "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": 64, "architectures": ["BertForMaskedLM"],
    },
}  # fmt: skip
SGD = {"name": "sgd", "learning_rate": 3e-2, "momentum": 0.9}


@dataclass(frozen=True)
class Group:
    """Processes that do one thing together. sharing, recipe, method: keys of Parallel, Training and a method, where not
    the whole model learns. dtype: of the model that such a method is put on."""

    name: str
    scene: str = "train"
    processes: int = 2
    model: str = "llama"
    sharing: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    method: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    start: str = ""  # the group whose end is gone on from
    until: int = 0  # the step to stop after
    fail: str = ""  # what goes wrong at the third step, in the last process: read, forward, save, kill, stop; full
    limit: float = 90

    @property
    def training(self) -> Training:
        given = {"steps": 20, "optimizer": SGD, "precision": "float32", "seed": 7, **self.recipe}
        return Training.model_validate(given)


class Rows:
    """Packed documents; the rows of a batch have targets of very different number, so that ranks' shares differ."""

    def __init__(self, group: Group) -> None:
        tokens = Tokens.of([(start + i) % 61 for i in range(5 + start % 30)] for start in range(200))
        self.stream = BatchStream(Stream(tokens, 32), Causal(32), group.training.batch, seed=1)
        self.group, self.paired = group, group.model == "t5"

    def at(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        if step == 2:
            fail_here(self.group, "read")
        batch = self.stream.at(step, rank, ranks)
        targets = batch.targets.clone()
        for row in range(batch.rows):
            targets[row, 4 + 9 * ((rank + row * ranks) % 4) :] = IGNORED
        batch = replace(batch, targets=targets)
        return replace(batch, source=batch.ids[:, :7], documents=None, positions=None) if self.paired else batch


@dataclass
class Seen:
    """What a group leaves behind."""

    said: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def model_of(name: str) -> Transformer:
    return initialise(blank(sketch(describe(MODELS[name]))), 0)


def tuned_of(group: Group, parallel: Alone) -> Tuned:
    """The group's model with its method on it; of the model, processes but the main one have names and shapes."""
    config, packs = MODELS[group.model], group.method.get("name") == "qlora"
    model = model_of(group.model) if parallel.main or packs else sketch(describe(config))
    if not group.method:
        return Tuned(model, None, lambda to, done: hf.write(to, done, config), adapter=False)
    with torch.no_grad():
        for parameter in model.parameters():  # small as most begin, their gradients are nearly nothing
            parameter.mul_(4 if parameter.dim() > 1 and group.model != "t5" else 1)
    model = model.to(getattr(torch, group.dtype))
    if packs:
        in_codes(model)
    method: Any = TypeAdapter(Method).validate_python(dict(group.method))
    return method.attach(Base(model, config, {}, "tiny"), 3)


def in_codes(model: Transformer) -> None:
    """Holds a model as QLoRA does: blocks in NF4, table and head in 8 bits."""
    for name, parameter in list(model.named_parameters()):
        packed = HeldNf4(type=torch.float32).numbers(model, name, parameter)
        if packed is not None:
            hold(model.get_submodule(name.rpartition(".")[0]), "weight", packed)


def trainer_of(group: Group, parallel: Alone, tuned: Tuned) -> Trainer:
    return Trainer(
        tuned.model, Rows(group), failing(group), group.training, parallel, learns=tuned.learns, rates=tuned.rates,
        written=tuned.learns if tuned.adapter else None,
    )  # fmt: skip


def train(group: Group, parallel: Alone, folder: Path) -> Seen:
    """Losses, norms, final weights and moments."""
    heard: list[StepReport] = []
    tuned = tuned_of(group, parallel)
    trainer = trainer_of(group, parallel, tuned)
    if group.start:
        trainer.step = _restore(trainer, parallel, folder / f"{group.start}.safetensors")

    def hear(report: StepReport) -> None:
        heard.append(report)
        if group.fail == "save" and report.step == 2:
            with parallel.lending(parallel.held(trainer.model)) as fetch:
                fail_here(group, "save")
                if parallel.main:
                    fetch("norm.weight")
        if report.step == group.until:
            raise StopIteration

    with contextlib.suppress(StopIteration):
        trainer.run(hear)
    said: dict[str, Any] = {"step": trainer.step, "held": sum(local(p).numel() for p in trainer.model.parameters())}
    said |= {"losses": [r.loss for r in heard], "norms": [r.norm for r in heard], "targets": [r.targets for r in heard]}
    own = float(torch.rand(()))
    said["drawn"] = [own, parallel.totals([own])[0] - own]  # by the main process, by the others
    tensors: dict[str, Tensor] = {}
    held = parallel.held(trainer.model, trainer.optimizer)
    with parallel.lending(held) as fetch:
        if parallel.main:
            if group.method:
                whole = parallel.whole(trainer.model, fetch, trainer.written)
                tuned.write(folder / f"{group.name} written", whole)
            tensors = {name: fetch(name) for name in held if name.partition("/")[0] in trainer.learns}
    return Seen(said, tensors | {"step": torch.tensor([float(trainer.step)])})


def failing(group: Group) -> Loss:
    """The token loss, which in one process goes wrong at the third step where that is wanted."""
    calls = itertools.count()

    def loss(model: Transformer, batch: Batch, step: Step) -> Sums:
        if next(calls) == 2:
            fail_here(group, "forward")
        return token_loss(model, batch, step)

    return loss


def fail_here(group: Group, place: str) -> None:
    if int(os.environ["RANK"]) != group.processes - 1:
        return
    if group.fail == place:
        raise DataError(f"a fault planted in {place}")
    if place == "forward" and group.fail in ("kill", "stop"):
        os.kill(os.getpid(), signal.SIGKILL if group.fail == "kill" else signal.SIGSTOP)


def _restore(trainer: Trainer, parallel: Alone, path: Path) -> int:
    stored = {name: tensor.load().clone() for name, tensor in safetensors.read(path).items()}
    step = int(stored.pop("step"))
    weights = {name: tensor for name, tensor in stored.items() if "/" not in name}
    moments: dict[str, dict[str, Tensor]] = {}
    for name in stored.keys() - weights.keys():
        moments.setdefault(name.rpartition("/")[0], {})[name.rpartition("/")[2]] = stored[name]
    # Only what the main process has counts.
    given = (weights, moments) if parallel.main else ({}, {})
    parallel.restore(trainer.model, trainer.optimizer, *given, trainer.learns)
    return step


def conducted(group: Group, parallel: Alone, folder: Path) -> Seen:
    """Losses of a run that is saved and gone on with; only the main process's machine has its folder."""
    losses: list[float] = []
    tuned = tuned_of(group, parallel)
    trainer = trainer_of(group, parallel, tuned)
    run = RunFolder(folder / f"{group.start or group.name} {'here' if parallel.main else 'elsewhere'}")

    def hear(report: StepReport) -> None:
        losses.append(report.loss)
        if report.step == group.until and parallel.main:
            os.kill(os.getpid(), signal.SIGTERM)

    with contextlib.suppress(Interrupted):
        wishes = Wishes(on_save_error="continue")
        conduct(trainer, run, filling(group, tuned), Origin("x", "y"), wishes, read=tuned.read, hooks=[hear])
    return Seen({"losses": losses})


def filling(group: Group, tuned: Tuned) -> Publish:
    """Writes a model; where that is to fail, the disk is full at step 2 after a tensor was asked for."""

    def publish(folder: Path, model: Transformer) -> None:
        if group.fail == "full" and folder.name.startswith("step-000002"):
            first = next(model.parameters())
            assert isinstance(first, Elsewhere) and not first.fetch().is_meta
            raise OSError(errno.ENOSPC, "full")
        tuned.write(folder, model)

    return publish


def begun(group: Group, parallel: Alone, folder: Path) -> Seen:
    """First weights of a model that no process ever has whole."""
    model = sketch(describe(MODELS[group.model]))
    model = parallel.spread(model, first_weights(model, 0))
    held = sum(local(parameter).numel() for parameter in model.parameters())
    own = parallel.held(model)
    with parallel.lending(own) as fetch:
        whole = {name: fetch(name) for name in own} if parallel.main else {}
    return Seen({"held": held}, whole)


def vocabulary_losses(group: Group, parallel: Alone, folder: Path) -> Seen:
    """What a head says of 40 vectors, and the gradients of all it says, in float64; and the shapes of the matrices that
    the loss made. Chunks are of seven vectors."""
    architecture = describe(MODELS[group.model])
    model = initialise(blank(sketch(architecture)), 0, deviation=0.3).double()
    model = parallel.spread(model.requires_grad_())
    random = torch.Generator().manual_seed(1)
    x = torch.randn(40, architecture.width, dtype=torch.float64, generator=random, requires_grad=True)
    targets = torch.randint(architecture.vocabulary, (40,), generator=random)
    factors = torch.rand(3, 40, dtype=torch.float64, generator=random)
    vocabulary.LOGITS_AT_ONCE = 7 * 31 + 30
    assert model.head is not None
    with Shapes() as shapes:
        losses, log_sums = model.losses(x, targets)
        (losses * factors[0] + log_sums.square() * factors[1]).sum().backward()
    mean = model.mean_logits(x)
    (mean * factors[2]).sum().backward()
    with torch.no_grad():
        logits = model.logits(x)
    made = {"losses": losses, "log_sums": log_sums, "mean": mean, "logits": logits, "x": x.grad}
    made |= {f"grad/{name}": state.gathered(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    return Seen({"shapes": sorted(shapes.found)}, {name: t.detach() for name, t in made.items() if t is not None})


class Shapes(TorchDispatchMode):
    """The shapes of all matrices that were made while it lasted."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tensors = made if isinstance(made, tuple | list) else (made,)
        self.found |= {tuple(each.shape) for each in tensors if isinstance(each, Tensor) and each.dim() == 2}
        return made


SCENES: dict[str, Callable[[Group, Alone, Path], Seen]] = {
    "train": train, "conduct": conducted, "begin": begun, "vocabulary": vocabulary_losses,
}  # fmt: skip


def run(group: Group, folder: Path) -> int:
    """One process of a group, to its exit code, as the command line gives it."""
    try:
        with from_environment(Parallel.model_validate({"timeout": 20, **group.sharing})) as parallel:
            seen = SCENES[group.scene](group, parallel, folder)
            if parallel.main:
                (folder / f"{group.name}.json").write_text(json.dumps(seen.said))
                safetensors.save(folder / f"{group.name}.safetensors", seen.tensors)
    except PaddockError as error:
        sys.stderr.write(f"{os.environ.get('RANK')}: {error}\n")
        return error.exit_code
    return 0


def main(plan: Path) -> int:
    groups = [Group(**each) for each in json.loads(plan.read_text())]
    codes: dict[str, Any] = {}
    for group in groups:
        port, pids, started = free_port(), [], time.monotonic()
        for rank in range(group.processes):
            pid = os.fork()
            if pid == 0:
                os.environ.update(
                    RANK=str(rank), WORLD_SIZE=str(group.processes), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
                )
                torch.set_num_threads(1)
                code = run(group, plan.parent)
                atexit._run_exitfuncs()
                leave(code)  # Python's own end, a second of taking modules apart, is spared
            pids.append(pid)
        codes[group.name] = gathered(pids, started + group.limit)
        plan.with_name("codes.json").write_text(json.dumps(codes))
    return 0


def gathered(pids: list[int], deadline: float) -> list[tuple[int, float, float]]:
    """The exit code of each process, when it came, and its processor time; -9 for one that had to be ended."""
    ended: dict[int, tuple[int, float, float]] = {}
    began = time.monotonic()
    while len(ended) < len(pids):
        for pid in pids:
            if pid not in ended:
                done, status, used = os.wait4(pid, os.WNOHANG)
                if done:
                    code = os.waitstatus_to_exitcode(status)
                    ended[pid] = (code, time.monotonic() - began, used.ru_utime + used.ru_stime)
                elif time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                elif ended:
                    os.kill(pid, signal.SIGCONT)  # one that was stopped finds the others gone
        time.sleep(0.01)
    return [ended[pid] for pid in pids]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
