"""`paddock convert`: another format, whole or not at all, and the proof that both say the same."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from json import dumps as json_text
from pathlib import Path

import torch

from paddock.checkpoint import llama2c
from paddock.checkpoint.adapters import CONFIG as ADAPTER
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint
from paddock.checkpoint.class_heads import FILE as CLASSES
from paddock.checkpoint.delta import EXACT
from paddock.checkpoint.delta import FILE as DELTA
from paddock.checkpoint.gguf import GGUFFile
from paddock.checkpoint.gguf_write import Value
from paddock.checkpoint.weights import published
from paddock.checkpoint.writing import FULL, atomic_write
from paddock.cli import output
from paddock.cli.loading import load
from paddock.cli.options import Loading
from paddock.cli.parityprint import parity_text
from paddock.cli.vouching import LICENCE_FILES, licence
from paddock.engine import parity as gate
from paddock.engine.language_model import LanguageModel
from paddock.engine.locate import locate
from paddock.engine.merging import FILE as MERGED
from paddock.engine.parity_card import EMPTY, KEY, Parity
from paddock.engine.parity_card import FILE as PARITY
from paddock.errors import PaddockError, ResourceError, UnsupportedError, UsageError
from paddock.model.families import family
from paddock.quantize.card import FILE as CARD
from paddock.quantize.gguf_file import Written, write_gguf
from paddock.quantize.kinds import kind_named
from paddock.tokenizer import Tokenizer, write_llama2c

TOKENIZER = "tokenizer.bin"
REPORT = "please report this; nothing was written"
FILES = (".bin", ".gguf")  # targets that end so are single files
OURS = {
    CARD,
    PARITY,
    MERGED,
    DELTA,
    EXACT,
    ADAPTER,
    CLASSES,
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "README.md",
    *LICENCE_FILES,
}
OURS_ALSO = (".safetensors", ".safetensors.index.json")
POOLING = {"modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"}
POOLING_FOLDER = "1_Pooling"


def convert(
    asked: Loading, target: str, *, version: int | None, group_size: int | None, force: bool, json: bool
) -> None:
    source, goal = locate(asked.model), Path(target).expanduser()
    check_target(source, goal, force)
    if goal.suffix != ".bin" and (version is not None or group_size is not None):
        raise UsageError("--version and --group-size shape llama2.c files", fix="name a target that ends in .bin")
    output.note(f"reading {source}")
    model = in_numbers(asked)
    with scratch(goal.parent) as place:
        output.note(f"writing {goal}")
        new = place / ("new" + goal.suffix if goal.suffix in FILES else "new")
        with output.waiting(f"writing {goal.name}"):
            done = _write(model, new, asked.dtype, version or 0, group_size)
        output.note("comparing both")
        original = model if asked.dtype == "auto" else in_numbers(replace(asked, dtype="auto"))
        written, _ = load(Loading(str(new), device=asked.device, tokenizer=asked.tokenizer))
        parity = _compared(original, written, rounded=version == 2 or _type(model) != _type(original))
        keep(parity, new, done)
        _put(new, goal, force)
    if json:
        output.as_json({"source": str(source), "target": str(goal), "parity": parity})
    else:
        output.result(_said(goal, parity))


def _write(model: LanguageModel, new: Path, dtype: str, version: int, group_size: int | None) -> Written | None:
    """The model at `new`, in the format that its name asks for. Gives what a GGUF file holds."""
    if new.suffix == ".gguf":
        return _write_gguf(model, new, dtype)
    if new.suffix == ".bin":
        _write_llama2c(model, new, version, group_size)
    else:
        _write_folder(model, new)
    return None


def _compared(before: LanguageModel, after: LanguageModel, rounded: bool) -> Parity:
    """The parity of both; refused where nothing was `rounded` and yet a number is another one."""
    exact = not rounded and _type(before) == _type(after)
    parity = gate.compare(before, after, "convert", gate.exact(before, after) if exact else None)
    parity.check("what was written", REPORT)
    if exact and not parity.same_weights and (wrong := gate.altered(before.model, after.model)):
        raise PaddockError(f"{wrong[0]} was written with other numbers", fix=REPORT)
    if parity.tokens_equal is False:
        output.note("the tokenizer that was written reads some texts otherwise than the source's")
    return parity


def keep(parity: Parity, new: Path, done: Written | None) -> None:
    """Puts the card into what was written, before it takes its place; llama2.c files have no room for one."""
    if done is not None:
        done.fill(new, {KEY: parity.text()})
    elif new.is_dir():
        parity.write(new)


def in_numbers(asked: Loading, template: str | None = None) -> LanguageModel:
    """The model with its codes expanded: kernels that round a matrix's inputs would differ from what is written.

    template: a chat template to use instead of its own."""
    if asked.dtype == "auto":
        checkpoint = open_checkpoint(locate(asked.model), asked.ignore_config)
        if checkpoint.quantised:
            asked = replace(asked, dtype=str(checkpoint.dtype).removeprefix("torch."))
    return load(asked, template)[0]


def _type(model: LanguageModel) -> torch.dtype:
    return model.model.embedding.tokens.weight.dtype


def check_target(source: Path, goal: Path, force: bool) -> None:
    """Refuses a target that is the source, or is there unless `force`, or holds what `force` must not delete."""
    if goal.exists() and goal.resolve() == source.resolve():
        raise UsageError("source and target are the same", fix="name another target")
    if not goal.exists() and not goal.is_symlink():
        return
    if not force:
        raise UsageError(f"{goal} is there already", fix="--force replaces it")
    if goal.suffix in FILES and goal.is_dir():
        raise UsageError(f"{goal} is a folder", fix=f"name a file, or a folder that does not end in {goal.suffix}")
    if goal.suffix not in FILES and (foreign := _foreign(goal)):
        raise UsageError(
            f"{goal} holds more than a model ({', '.join(foreign[:3])}), which --force does not delete",
            fix="name another folder, or move those files away",
        )


def _foreign(folder: Path) -> list[str]:
    """What lies at the target and is none of a model's files."""
    if not folder.is_dir():
        return [folder.name]
    return sorted(
        path.name
        for path in folder.iterdir()
        if (path.name != POOLING_FOLDER if path.is_dir() else not _is_ours(path.name))
    )


def _is_ours(name: str) -> bool:
    vocabulary = name.startswith(("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "spiece"))
    return name in OURS | POOLING or name.endswith(OURS_ALSO) or vocabulary


def _write_llama2c(model: LanguageModel, new: Path, version: int, group_size: int | None) -> None:
    tensors = {item.name: item.tensor() for item in published(model.model, family(model.checkpoint.config).RULES)}
    _tokenizer_bin(model, new.with_name(TOKENIZER))
    llama2c.write(new, dict(model.checkpoint.config), tensors, version, group_size)
    if version == 2:
        output.note(f"weights in groups of {llama2c.group_of(new)}")
    elif _type(model) != torch.float32:
        output.note("llama2.c stores float32, whatever the numbers were rounded to before")


def _put(new: Path, goal: Path, force: bool) -> None:
    """What was written and compared takes its place."""
    if goal.suffix == ".gguf":
        new.replace(goal)
        return None
    if goal.suffix != ".bin":
        return put_folder(new, goal)
    vocabulary, beside = new.with_name(TOKENIZER), goal.with_name(TOKENIZER)
    written = vocabulary.read_bytes() if vocabulary.exists() else None
    if beside.exists() and beside.read_bytes() != written and (written is None or not force):
        fix = "write into another folder" + ("" if written is None else "; --force replaces it")
        raise UsageError(f"{beside} belongs to another model", fix=fix)
    new.replace(goal)
    if written is not None:
        vocabulary.replace(beside)
    return None


def _write_gguf(model: LanguageModel, new: Path, dtype: str) -> Written:
    """Plain numbers in the type that is asked for, else in that of the source; `quantize` writes the other types."""
    checkpoint = model.checkpoint
    asked = str(checkpoint.dtype).removeprefix("torch.") if dtype == "auto" else dtype
    with atomic_write(new) as part:
        return write_gguf(
            checkpoint,
            part,
            kind_named(asked),
            tokenizer=tokenizer_of(model),
            template=model.template,
            extra=licence_key(checkpoint) | {KEY: EMPTY},
        )


def tokenizer_of(model: LanguageModel) -> Tokenizer | None:
    """A note instead, where there is none."""
    try:
        return model.tokenizer
    except PaddockError as error:
        output.note(f"no tokenizer was written: {error.what}; --tokenizer PATH names one")
        return None


def licence_key(checkpoint: Checkpoint) -> dict[str, Value]:
    """The licence as a GGUF file states it, if the model states one."""
    metadata = GGUFFile(checkpoint.path).metadata if checkpoint.kind == "gguf" else None
    stated = licence(checkpoint, metadata).name
    return {} if stated is None else {"general.license": stated}


def _tokenizer_bin(model: LanguageModel, path: Path) -> None:
    """Writes tokenizer.bin; a note instead, for a vocabulary that the format cannot hold."""
    try:
        write_llama2c(path, model.tokenizer)
    except (UsageError, UnsupportedError) as error:
        output.note(f"no tokenizer.bin: {error.what}")
    except PaddockError as error:
        output.note(f"no tokenizer.bin: the source has no tokenizer ({error.what})")


def _write_folder(model: LanguageModel, new: Path) -> None:
    model.save(new)
    write_papers(model.checkpoint, new)
    tokenizer_of(model)


def put_folder(new: Path, goal: Path) -> None:
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


def write_papers(checkpoint: Checkpoint, goal: Path) -> None:
    """The licence and the model card go where the weights go; a GGUF file's licence becomes a card."""
    source = checkpoint.path
    if source.is_dir():
        for name in ("README.md", *LICENCE_FILES):
            if (source / name).is_file():
                shutil.copyfile(source / name, goal / name)
    elif checkpoint.kind == "gguf":
        stated = licence(checkpoint, GGUFFile(source).metadata).name
        if stated is not None:
            (goal / "README.md").write_text(f"---\nlicense: {json_text(stated)}\n---\n", encoding="utf-8")


@contextlib.contextmanager
def scratch(parent: Path) -> Iterator[Path]:
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


def _said(goal: Path, parity: Parity) -> str:
    lines = [f"wrote {goal}", parity_text(parity)]
    if parity.bound is None:
        lines.append("(numbers were rounded on the way, so small differences are expected)")
    return "\n".join(lines)
