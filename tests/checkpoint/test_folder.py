"""Model folders: what a folder must hold, what an index may name, and that writing one is all or nothing."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import damage
import limits
import pytest
import tiny_folder as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.checkpoint import folder as hf
from paddock.checkpoint import safetensors
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.errors import CheckpointError, InputError, PaddockError, ResourceError

KINDS = ("safetensors", "sharded", "bin", "sharded bin")
INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def weight_map(folder: Path) -> dict[str, Any]:
    return json.loads((folder / INDEX).read_text())["weight_map"]


def change_map(folder: Path, **changes: Any) -> None:
    where = {name: shard for name, shard in (weight_map(folder) | changes).items() if shard is not ...}
    (folder / INDEX).write_text(json.dumps({"weight_map": where}))


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_holds_the_same_tensors(kind: str, tmp_path: Path) -> None:
    weights = tiny.tensors()
    tensors = hf.read_tensors(tiny.folder(tmp_path, kind, weights))
    assert tensors.keys() == weights.keys()
    assert all(torch.equal(tensors[name].load(), weight) for name, weight in weights.items())


def test_safetensors_come_before_bin(tmp_path: Path) -> None:
    tiny.folder(tmp_path, "bin", {"a": torch.zeros(1)})
    tiny.folder(tmp_path, "safetensors", {"b": torch.zeros(1)})
    assert list(hf.read_tensors(tmp_path)) == ["b"]


def test_links_into_a_download_cache(tmp_path: Path) -> None:
    real = tiny.folder(tmp_path / "blobs", "sharded")
    (tmp_path / "snapshot").mkdir()
    for path in real.iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert open_checkpoint(tmp_path / "snapshot").model()


def first(folder: Path) -> str:
    return next(iter(weight_map(folder)))


def unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def put(name: str, content: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(content)


def replace(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def rename_shard(new: Any) -> Callable[[Path], None]:
    return lambda folder: change_map(folder, **{first(folder): new})


def copy_into_both(folder: Path) -> None:
    """One tensor in both shards."""
    tensors = [{name: stored.load() for name, stored in safetensors.read(folder / shard).items()} for shard in SHARDS]
    name = next(iter(tensors[0]))
    safetensors.write(folder / SHARDS[1], tensors[1] | {name: tensors[0][name]})


def dangle(path: Path) -> None:
    path.symlink_to("nowhere")


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (unlink("config.json"), "config.json is missing"),
    "no index": (unlink(INDEX), "no weights under a known name, only model-00001"),
    "a missing shard": (unlink(SHARDS[1]), "lacks the shard model-00002"),
    "a shard that is a folder": (replace(SHARDS[0], Path.mkdir), "lacks the shard"),
    "a shard that is a pipe": (replace(SHARDS[0], os.mkfifo), "lacks the shard"),
    "a shard that leads nowhere": (replace(SHARDS[0], dangle), "lacks the shard"),
    "a shard that is empty": (put(SHARDS[0], ""), "is empty"),
    "a shard that is text": (put(SHARDS[0], "hello, world, how do you do"), "says its header is"),
    "an index that is a folder": (replace(INDEX, Path.mkdir), "not a regular file"),
    "an index that is a pipe": (replace(INDEX, os.mkfifo), "not a regular file"),
    "an index that is empty": (put(INDEX, ""), "not JSON"),
    "an index that is a list": (put(INDEX, "[]"), "a list"),
    "no weight_map": (put(INDEX, "{}"), "no weight_map"),
    "an empty weight_map": (put(INDEX, '{"weight_map": {}}'), "no weight_map"),
    "a weight_map of lists": (put(INDEX, '{"weight_map": []}'), "no weight_map"),
    "a weight_map of text": (put(INDEX, '{"weight_map": "model.safetensors"}'), "no weight_map"),
    "a shard that is a number": (rename_shard(1), "no weight_map"),
    "a shard that is null": (rename_shard(None), "no weight_map"),
    "a shard that is a list": (rename_shard([SHARDS[0]]), "no weight_map"),
    "a shard above": (rename_shard("../secret"), "names the shard '../secret'"),
    "a shard below": (rename_shard("sub/model.safetensors"), "names the shard"),
    "a shard at the root": (rename_shard("/etc/passwd"), "names the shard"),
    "a shard on another drive": (rename_shard("C:\\x"), "names the shard"),
    "a shard above, backwards": (rename_shard("..\\x"), "names the shard"),
    "a shard called nothing": (rename_shard(""), "names the shard"),
    "a shard called .": (rename_shard("."), "names the shard"),
    "a shard called ..": (rename_shard(".."), "names the shard"),
    "a hidden shard": (rename_shard(".x"), "names the shard"),
    "a shard with a NUL": (rename_shard("x\x00"), "names the shard"),
    "a shard with a line end": (rename_shard("x\n"), "names the shard"),
    "a shard with a long name": (rename_shard("x" * 201), "names the shard"),
    "a shard at an address": (rename_shard("https://example.org/x"), "names the shard"),
    "a shard that is not there": (rename_shard("other.safetensors"), "lacks the shard other"),
    "a tensor in the wrong shard": (lambda f: change_map(f, **{first(f): SHARDS[1]}), "disagree about"),
    "a tensor not in the index": (lambda f: change_map(f, **{first(f): ...}), "disagree about"),
    "a tensor only in the index": (lambda f: change_map(f, more=SHARDS[0]), "disagree about 'more'"),
    "a tensor in both shards": (copy_into_both, "disagree about"),
    "a generation_config that is a list": (put("generation_config.json", "[1]"), "a list"),
    "a generation_config that leads nowhere": (replace("generation_config.json", dangle), "a link to nothing"),
    "a generation_config that is a folder": (replace("generation_config.json", Path.mkdir), "not a regular file"),
    "a config that is a folder": (replace("config.json", Path.mkdir), "not a regular file"),
    "a config that is a pipe": (replace("config.json", os.mkfifo), "not a regular file"),
    "a config in UTF-16": (lambda f: (f / "config.json").write_text("{}", "utf-16"), "not UTF-8"),
}


@pytest.mark.parametrize("title", BROKEN)
def test_broken_folders_are_refused_with_the_reason(title: str, tmp_path: Path) -> None:
    change, reason = BROKEN[title]
    folder = tiny.folder(tmp_path / "model", "sharded")
    change(folder)
    with pytest.raises(CheckpointError, match=reason) as caught:
        open_checkpoint(folder).model()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_truncated(kind: str, tmp_path: Path) -> None:
    folder = tiny.folder(tmp_path / "model", kind)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for size in sorted({0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1}):
            path.write_bytes(whole[:size])
            with pytest.raises(InputError):
                open_checkpoint(folder).model()
        path.write_bytes(whole)
    assert open_checkpoint(folder).model()


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds no weights"):
        open_checkpoint(tmp_path)


def test_a_hundred_thousand_names_in_many_shards(tmp_path: Path) -> None:
    """Sorting names into shards takes one pass, not one per shard."""
    for number in range(300):
        safetensors.write(tmp_path / f"{number}.safetensors", {f"{number}": torch.zeros(1)})
    where = {f"{number}": f"{number}.safetensors" for number in range(300)}
    where |= {f"some.rather.long.name.{i}": f"{i % 300}.safetensors" for i in range(90_000)}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": where}))
    assert "disagree" in limits.check(hf.read_tensors, tmp_path).message


# Writing.


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_written_folder_reads_back(tmp_path: Path) -> None:
    model = tiny.model()
    hf.write(tmp_path / "new" / "model", model, tiny.CONFIG, tiny.GENERATION)
    opened = open_checkpoint(tmp_path / "new" / "model")
    assert (opened.config, opened.generation) == (tiny.CONFIG, tiny.GENERATION)
    assert same(opened.model(), model)


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    theirs = dict(right.named_parameters())
    return all(torch.equal(value, theirs[name]) for name, value in left.named_parameters())


@pytest.mark.parametrize("shard_bytes", [10**9, 2000])
def test_shards_are_written_and_read(shard_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf, "SHARD_BYTES", shard_bytes)
    model = tiny.model()
    hf.write(tmp_path, model, tiny.CONFIG)
    assert len(list(tmp_path.glob("*.safetensors"))) == (1 if shard_bytes > 2000 else 3)
    assert same(open_checkpoint(tmp_path).model(), model)


@pytest.mark.parametrize("before", KINDS)
@pytest.mark.parametrize("shard_bytes", [10**9, 2000])
def test_nothing_of_an_older_model_is_read_again(
    before: str, shard_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.folder(tmp_path, before)
    (tmp_path / "tokenizer.json").write_text("kept")
    monkeypatch.setattr(hf, "SHARD_BYTES", shard_bytes)
    model = tiny.model()
    hf.write(tmp_path, model, tiny.CONFIG)
    opened = open_checkpoint(tmp_path)
    assert same(opened.model(), model)
    assert not opened.generation
    assert (tmp_path / "tokenizer.json").read_text() == "kept"
    stale = [path.name for path in tmp_path.glob("model*") if path.name == "model.safetensors"]
    assert bool(stale) == (shard_bytes > 2000)


@pytest.mark.parametrize("kind", KINDS)
def test_saving_onto_the_folder_a_model_is_mapped_from(kind: str, tmp_path: Path) -> None:
    tiny.folder(tmp_path, kind)
    model = open_checkpoint(tmp_path).model()
    expected = [parameter.clone() for parameter in model.parameters()]
    for _ in range(2):
        hf.write(tmp_path, model, tiny.CONFIG)
    again = open_checkpoint(tmp_path).model()
    assert all(torch.equal(*pair) for pair in zip(again.parameters(), expected, strict=True))
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), expected, strict=True)), "and stays whole itself"


class Crash(BaseException):
    """The power going out: nothing catches it on purpose."""


@contextmanager
def failing(at: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The `at`-th call that changes the disk raises instead; all are listed."""
    calls: list[str] = []

    def wrap(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) - 1 == at:
                raise error
            return real(*args, **kwargs)

        patch.setattr(owner, name, call)

    with monkeypatch.context() as patch:
        for owner, name in ((os, "fsync"), (os, "open"), (Path, "replace"), (Path, "unlink"), (Path, "mkdir")):
            wrap(owner, name)
        wrap(safetensors, "save")
        yield calls


@pytest.mark.parametrize("before", ["nothing", "safetensors", "sharded"])
@pytest.mark.parametrize("shard_bytes", [10**9, 2000])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space"), Crash()], ids=["full", "cut"])
def test_a_save_that_fails_at_any_point_leaves_one_model_or_none(
    before: str, shard_bytes: int, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old model or the new one, whole, or a folder that is refused; never a mixture, never half a file."""
    monkeypatch.setattr(hf, "SHARD_BYTES", shard_bytes)
    new, master = tiny.model(), tmp_path / "before"
    if before != "nothing":
        tiny.folder(master, before)
    old = contents(master) if master.exists() else {}
    outcomes: list[str] = []
    for at in range(100):
        folder = tmp_path / str(at)
        if old:
            shutil.copytree(master, folder)
        with failing(at, error, monkeypatch) as calls:
            try:
                hf.write(folder, new, tiny.CONFIG, {"top_k": 7})
                break
            except (PaddockError, Crash) as raised:
                full = isinstance(error, OSError) and error.errno == errno.ENOSPC
                assert type(raised) is (Crash if isinstance(error, Crash) else ResourceError if full else PaddockError)
        outcomes.append(_state(folder, old, new))
        assert not list(folder.glob(".*")), "nothing temporary is left behind"
    assert len(calls) == len(outcomes) > 5, "every call was made to fail once"
    order = [outcome for i, outcome in enumerate(outcomes) if i == 0 or outcomes[i - 1] != outcome]
    assert order in (["old", "refused", "new"], ["old", "refused"]), outcomes
    assert calls.count("save") == calls[: outcomes.index("refused")].count("save") >= 1, "all is written before that"


def _state(folder: Path, old: dict[str, bytes], new: torch.nn.Module) -> str:
    if not folder.exists() or contents(folder) == old:
        return "old"
    try:
        opened = open_checkpoint(folder)
    except CheckpointError as error:
        assert "config.json is missing" in str(error)
        return "refused"
    assert same(opened.model(), new)
    assert opened.generation == {"top_k": 7}
    return "new"


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """The system refuses to let a file grow: what a full disk does, without filling one."""
    folder = tiny.folder(tmp_path / "model")
    before = contents(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        with pytest.raises(ResourceError, match="no space left"):
            hf.write(folder, tiny.model(), tiny.CONFIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert contents(folder) == before
    assert open_checkpoint(folder).model()


# Fuzzing.


def fuzz(folder: Path, seed: int) -> None:
    """Damages one file of a whole model folder, and opens and builds the model."""
    rng = random.Random(seed)
    kind = rng.choice(KINDS)
    home = folder / kind
    if not home.exists():
        tiny.folder(home, kind)
    target = rng.choice(sorted(home.iterdir()))
    whole = target.read_bytes()
    if target.suffix == ".json":
        damaged = damage.mutate(json.loads(whole), rng, rng.randint(1, 3)).encode()
    elif target.suffix == ".safetensors" and rng.random() < 0.8:
        size = int.from_bytes(whole[:8], "little")
        header = damage.mutate(json.loads(whole[8 : 8 + size]), rng, rng.randint(1, 2)).encode()
        damaged = len(header).to_bytes(8, "little") + header + whole[8 + size :]
    else:
        damaged = damage.spoil(whole, rng)
    names = sorted(path.name for path in home.iterdir())
    target.write_bytes(damaged)
    try:
        open_checkpoint(home).model()
    except PaddockError as error:
        assert len(str(error)) < 5000
    finally:
        target.write_bytes(whole)
    assert sorted(path.name for path in home.iterdir()) == names


@given(st.integers(0, 2**32))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_only_refusals_escape(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    fuzz(tmp_path_factory.getbasetemp() / "fuzzed-folders", seed)


@pytest.mark.slow
@given(st.integers(0, 2**32))
@settings(max_examples=6000, derandomize=True, deadline=None)
def test_only_refusals_escape_at_length(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    fuzz(tmp_path_factory.getbasetemp() / "fuzzed-folders", seed)


@pytest.mark.parametrize(
    ("names", "fix"),
    [
        (["b.gguf", "a.bin", "pytorch_model.bin"], "name one of the files that lie there: a.bin, b.gguf"),
        (["adapter_config.json", "adapter_model.bin"], "this is an adapter"),
        (["pytorch_model.bin"], None),
    ],
)
def test_a_folder_that_is_no_model_says_what_may_have_been_meant(
    tmp_path: Path, names: list[str], fix: str | None
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"config\.json is missing; expected a Hugging") as caught:
        open_checkpoint(tmp_path)
    assert (caught.value.fix or "").startswith(fix or "") and (caught.value.fix is None) == (fix is None)
