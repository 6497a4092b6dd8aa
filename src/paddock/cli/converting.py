"""`paddock convert`: another format, whole or not at all, and the proof that both say the same."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from paddock.checkpoint import llama2c
from paddock.checkpoint.weights import published
from paddock.checkpoint.writing import FULL, atomic_write
from paddock.cli import output
from paddock.cli.loading import load
from paddock.cli.options import Loading
from paddock.cli.vouching import LICENCE_FILES
from paddock.engine.language_model import LanguageModel
from paddock.engine.locate import locate
from paddock.errors import PaddockError, ResourceError, UnsupportedError, UsageError
from paddock.model.families import family
from paddock.tokenizer import write_llama2c

PROBE = "Once upon a time"
STEPS = 16
TOLERANCE = 1e-4  # of logits, where nothing was rounded
OURS = {"config.json", "generation_config.json", "chat_template.jinja", "README.md", *LICENCE_FILES}
OURS_ALSO = (".safetensors", ".safetensors.index.json")


@dataclass(frozen=True)
class Parity:
    """Both models on the same ids. greedy_equal: how many tokens agree before the first that does not.

    A model that only reads writes none. rounded: the new format stores less than the old one.
    """

    greedy_equal: int
    greedy_steps: int
    largest_difference: float
    largest_logit: float
    rounded: bool


def convert(asked: Loading, target: str, *, version: int, group_size: int, force: bool, json: bool) -> None:
    source, goal = locate(asked.model), Path(target).expanduser()
    _check_target(source, goal, force)
    output.note(f"reading {source}")
    model, _ = load(asked)
    output.note(f"writing {goal}")
    with output.waiting(f"writing {goal.name}"):
        if goal.suffix == ".bin":
            _write_llama2c(model, goal, version, group_size, force)
        else:
            _write_folder(model, goal)
    output.note("comparing both")
    original = model if asked.dtype == "auto" else load(replace(asked, dtype="auto"))[0]
    written, _ = load(Loading(str(goal), device=asked.device, tokenizer=asked.tokenizer))
    parity = compare(original, written, rounded=goal.suffix == ".bin" and version == 2)
    if json:
        output.as_json({"source": str(source), "target": str(goal), "parity": parity})
    else:
        output.result(_said(goal, parity))
    if not parity.rounded and parity.largest_difference > TOLERANCE * max(1.0, parity.largest_logit):
        raise PaddockError(f"{goal} does not compute what {source} does", fix="keep the source, and report this")


def _check_target(source: Path, goal: Path, force: bool) -> None:
    if goal.suffix == ".gguf":
        raise UnsupportedError("GGUF files are read, not written", fix="name a folder, or a .bin file for llama2.c")
    if goal.exists() and goal.resolve() == source.resolve():
        raise UsageError("source and target are the same", fix="name another target")
    if not goal.exists() and not goal.is_symlink():
        return
    if not force:
        raise UsageError(f"{goal} is there already", fix="--force replaces it")
    if goal.suffix == ".bin" and goal.is_dir():
        raise UsageError(f"{goal} is a folder", fix="name a file, or a folder that does not end in .bin")
    if goal.suffix != ".bin" and (foreign := _foreign(goal)):
        raise UsageError(
            f"{goal} holds more than a model ({', '.join(foreign[:3])}), which --force does not delete",
            fix="name another folder, or move those files away",
        )


def _foreign(folder: Path) -> list[str]:
    """What lies at the target and is none of a model's files."""
    if not folder.is_dir():
        return [folder.name]
    return sorted(path.name for path in folder.iterdir() if path.is_dir() or not _is_ours(path.name))


def _is_ours(name: str) -> bool:
    vocabulary = name.startswith(("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "spiece"))
    return name in OURS or name.endswith(OURS_ALSO) or vocabulary


def _write_llama2c(model: LanguageModel, goal: Path, version: int, group_size: int, force: bool) -> None:
    tensors = {item.name: item.tensor() for item in published(model.model, family(model.checkpoint.config).RULES)}
    beside = goal.parent / "tokenizer.bin"
    with _scratch(goal.parent) as scratch:
        vocabulary = _tokenizer_bin(model, scratch / "tokenizer.bin")
        foreign = beside.exists() and beside.read_bytes() != vocabulary
        if foreign and (vocabulary is None or not force):
            fix = "write into another folder" + ("" if vocabulary is None else "; --force replaces it")
            raise UsageError(f"{beside} belongs to another model", fix=fix)
        llama2c.write(goal, dict(model.checkpoint.config), tensors, version, group_size)
        if vocabulary is not None:
            with atomic_write(beside) as partial:
                partial.write_bytes(vocabulary)


def _tokenizer_bin(model: LanguageModel, scratch: Path) -> bytes | None:
    """The bytes of tokenizer.bin; None, and a note, for a vocabulary that the format cannot hold."""
    try:
        write_llama2c(scratch, model.tokenizer)
        return scratch.read_bytes()
    except (UsageError, UnsupportedError) as error:
        output.note(f"no tokenizer.bin: {error.what}")
    except PaddockError as error:
        output.note(f"no tokenizer.bin: the source has no tokenizer ({error.what})")
    return None


def _write_folder(model: LanguageModel, goal: Path) -> None:
    """Into a new folder beside the goal, which then takes its place: an interrupted run leaves the goal as it was."""
    with _scratch(goal.parent) as scratch:
        new = scratch / "new"
        model.save(new)
        _copy_papers(model.checkpoint.path, new)
        _swap(new, goal)


def _swap(new: Path, goal: Path) -> None:
    """`new` becomes `goal`. What stood there lies beside it meanwhile, and comes back if that fails."""
    old = goal.with_name(f".{goal.name}.{secrets.token_hex(4)}.replaced")
    try:
        if os.path.lexists(goal):
            goal.rename(old)
        new.rename(goal)
    except BaseException as error:
        if os.path.lexists(old) and not os.path.lexists(goal):
            try:
                old.rename(goal)
            except OSError:
                raise PaddockError(f"{goal} could not be replaced ({error})", fix=f"it is whole in {old}") from None
        raise
    if old.is_symlink():
        old.unlink()
    else:
        shutil.rmtree(old, ignore_errors=True)


def _copy_papers(source: Path, goal: Path) -> None:
    """The licence and the model card go where the weights go."""
    if not source.is_dir():
        return
    for name in ("README.md", *LICENCE_FILES):
        if (source / name).is_file():
            shutil.copyfile(source / name, goal / name)


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A folder of our own on the same disk as the goal, removed at the end whatever happens."""
    folder = parent / f".paddock-{secrets.token_hex(4)}.partial"
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        kind = ResourceError if error.errno in FULL else PaddockError
        raise kind(f"{parent} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compare(before: LanguageModel, after: LanguageModel, rounded: bool) -> Parity:
    """Runs both on the same ids. `rounded`: the new format stores less than the old one."""
    ids = _probe(before)
    rounded = rounded or before.model.embedding.tokens.weight.dtype != after.model.embedding.tokens.weight.dtype
    first, second = _outputs(before, ids), _outputs(after, ids)
    steps = equal = 0
    if before.architecture.generates:
        one, two = (model.generate(ids, STEPS, temperature=0).ids for model in (before, after))
        steps = len(one)
        equal = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    return Parity(equal, steps, float((first - second).abs().max()), float(first.abs().max()), rounded)


def _probe(model: LanguageModel) -> list[int]:
    """Ids to compare on: a text, where there is a tokenizer that knows it, else the first few of the vocabulary."""
    reader = model.architecture.encoder or model.architecture
    room = min(reader.context or 32, 32) - (STEPS if model.architecture.encoder is None else 0)
    try:
        ids = model.tokenizer.encode(PROBE)
    except PaddockError:
        ids = list(range(1, 9))
    return [id for id in ids if id < reader.vocabulary][: max(room, 1)] or [0]


def _outputs(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    """Logits where the model has a head, else its hidden states."""
    if model.architecture.encoder is not None:
        return model.logits([0], source=ids)
    if model.model.head is not None:
        return model.logits(ids)
    from paddock.model.step import Step

    rows = torch.tensor([ids], device=model.device)
    with torch.no_grad():
        return model.model.hidden(rows, Step.begin(model.architecture, rows)).float()


def _said(goal: Path, parity: Parity) -> str:
    lines = [f"wrote {goal}"]
    if parity.greedy_steps:
        lines.append(f"parity: {parity.greedy_equal} of {parity.greedy_steps} greedy tokens equal")
    lines.append(
        f"parity: logits differ by at most {parity.largest_difference:.3g} (the largest is {parity.largest_logit:.3g})"
    )
    if parity.rounded:
        lines.append("(numbers were rounded on the way, so small differences are expected)")
    return "\n".join(lines)
