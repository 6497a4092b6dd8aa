"""Deltas: base and difference give the tuned model to the bit, or it is said why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_folder
import torch
from torch import Tensor

from paddock.checkpoint import delta, safetensors
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.errors import CheckpointError, UnsupportedError

WIDE = {"vocab_size": 14}


def tuned(weights: dict[str, Tensor], rows: int = 0) -> dict[str, Tensor]:
    """As after training: most numbers near what they were, some far away, some with another sign."""
    found = {}
    for name, weight in weights.items():
        far = torch.rand(weight.shape)
        factor = torch.where(far < 0.1, 1e-6, torch.where(far < 0.2, -3.0, 1 + 0.01 * torch.randn(weight.shape)))
        new = (weight.float() * factor + 1e-3 * torch.randn(weight.shape)).to(weight.dtype)
        if rows and name in ("model.embed_tokens.weight", "lm_head.weight"):
            new = torch.cat((new, torch.randn(rows, new.shape[1]).to(new.dtype)))
        found[name] = new
    return found


def pair(path: Path, dtype: torch.dtype = torch.float32, rows: int = 0) -> tuple[Path, Path]:
    weights = tiny_folder.tensors(dtype=dtype)
    base = tiny_folder.folder(path / "base", weights=weights)
    more = {"vocab_size": 11 + rows} if rows else {}
    return base, tiny_folder.folder(path / "tuned", weights=tuned(weights, rows), **more)


def numbers(folder: Path) -> dict[str, Tensor]:
    return {name: stored.load() for name, stored in safetensors.read(folder / "model.safetensors").items()}


def made(base: Path, above: Path, folder: Path, **more: Any) -> delta.Made:
    return delta.make(open_checkpoint(base), open_checkpoint(above), folder, **more)


def same(one: Path, two: Path) -> bool:
    first, second = numbers(one), numbers(two)
    bits = {2: torch.int16, 4: torch.int32}
    return first.keys() == second.keys() and all(
        first[n].dtype == second[n].dtype
        and torch.equal(first[n].view(bits[first[n].dtype.itemsize]), second[n].view(bits[first[n].dtype.itemsize]))
        for n in first
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("values", ["alike", "far apart", "unlike", "huge"])
def test_every_pair_of_numbers_is_exact(dtype: torch.dtype, values: str) -> None:
    base = torch.randn(4000)
    above = {
        "alike": base + 1e-3 * torch.randn(4000),
        "far apart": torch.randn(4000) * torch.tensor(10.0) ** torch.randint(-30, 4, (4000,)),
        "unlike": torch.randn(4000),
        "huge": torch.randn(4000) * 6e4,
    }[values].clamp(-6.5e4, 6.5e4)
    base[0], above[0], above[1] = 0.0, -0.0, 0.0
    base, above = base.to(dtype), above.to(dtype)
    difference, at = delta.subtracted(above, base)
    again = delta.added(base, difference)
    again[at] = above[at]
    assert difference.dtype == dtype and bool(difference.isfinite().all())
    bits = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    assert torch.equal(again.view(bits), above.view(bits))
    if values == "alike" and dtype == torch.float32:
        assert len(at) < 400


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "grown"), [(0, "zeros"), (3, "zeros"), (3, "mean")])
def test_there_and_back(tmp_path: Path, dtype: torch.dtype, rows: int, grown: Any) -> None:
    base, above = pair(tmp_path, dtype, rows)
    done = made(base, above, tmp_path / "delta", grown=grown)
    assert done.rows == (11, 11 + rows) and done.corrected > 0
    assert numbers(tmp_path / "delta")["model.norm.weight"].dtype == dtype
    again = delta.apply(open_checkpoint(base), tmp_path / "delta", tmp_path / "again")
    assert again == done and same(tmp_path / "again", above)
    assert open_checkpoint(tmp_path / "again").architecture.vocabulary == 11 + rows
    assert not same(tmp_path / "delta", above)
    with pytest.raises(CheckpointError, match="holds no model but the difference"):
        open_checkpoint(tmp_path / "delta")


def test_shards_and_old_files_are_read(tmp_path: Path) -> None:
    base, above = pair(tmp_path)
    tiny_folder.folder(tmp_path / "old", "sharded bin", weights=numbers(base))
    tiny_folder.folder(tmp_path / "cut", "sharded", weights=numbers(above))
    made(tmp_path / "old", tmp_path / "cut", tmp_path / "delta")
    delta.apply(open_checkpoint(base), tmp_path / "delta", tmp_path / "again")
    assert same(tmp_path / "again", above)


@pytest.mark.parametrize("grown", ["zeros", "mean"])
def test_published_deltas_in_float16(tmp_path: Path, grown: Any) -> None:
    """As FastChat's and Alpaca's: plain differences, and new rows over zeros or the mean of the old."""
    weights = tiny_folder.tensors(dtype=torch.float16)
    base = tiny_folder.folder(tmp_path / "base", weights=weights)
    differences = {name: (0.01 * torch.randn(weight.shape)).half() for name, weight in weights.items()}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        differences[name] = torch.cat((differences[name], torch.ones(1, 8).half()))
    tiny_folder.folder(tmp_path / "delta", "bin", weights=differences, vocab_size=12)
    assert delta.apply(open_checkpoint(base), tmp_path / "delta", tmp_path / "model", grown=grown) is None
    found = numbers(tmp_path / "model")
    for name, weight in weights.items():
        assert torch.equal(found[name][: len(weight)], weight + differences[name][: len(weight)])
    mean = weights["lm_head.weight"].float().mean(0) if grown == "mean" else 0
    assert torch.equal(found["lm_head.weight"][11], (torch.ones(8) + mean).half())


def test_another_base_and_changed_files_are_refused(tmp_path: Path) -> None:
    base, above = pair(tmp_path)
    made(base, above, tmp_path / "delta")
    other = numbers(base)
    other["model.norm.weight"][3] += 1e-6
    tiny_folder.folder(tmp_path / "other", weights=other)
    with pytest.raises(CheckpointError, match="made for another base"):
        delta.apply(open_checkpoint(tmp_path / "other"), tmp_path / "delta", tmp_path / "out")
    with pytest.raises(CheckpointError, match="not the model that the delta was made of"):
        changed = numbers(tmp_path / "delta")
        changed["model.norm.weight"][3] += 1e-3
        safetensors.write(tmp_path / "delta/model.safetensors", changed)
        delta.apply(open_checkpoint(base), tmp_path / "delta", tmp_path / "out")


def _without(name: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda weights: weights.pop(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.update({"model.norm.weight": torch.ones(9)}), "shape"),
        (lambda w: w.update({"model.norm.weight": torch.full((8,), float("nan"))}), "not numbers"),
        (lambda w: w.update({"model.norm.weight": torch.ones(8, dtype=torch.int32)}), "plain numbers"),
        (lambda w: w.update({"lm_head.weight": torch.ones(10, 8)}), "or more rows"),
        (lambda w: w.update({"model.layers.2.mlp.up_proj.weight": torch.ones(12, 8)}), "has no"),
        (_without("model.norm.weight"), "has no"),
        (lambda w: w.update({"strange": torch.ones(1)}), "no tensor of a llama"),
    ],
)
def test_models_that_do_not_go_together(tmp_path: Path, change: Callable[..., Any], words: str) -> None:
    base, above = pair(tmp_path)
    weights = numbers(above)
    change(weights)
    safetensors.write(above / "model.safetensors", weights)
    with pytest.raises((CheckpointError, UnsupportedError), match=words):
        made(base, above, tmp_path / "delta")
    assert not (tmp_path / "delta" / delta.FILE).exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update({"nothing/at": torch.zeros(1, dtype=torch.int64)}),
        lambda t: t.pop(next(name for name in t if name.endswith("/is"))),
        lambda t: t.update({name: each[:-1] for name, each in t.items() if name.endswith("/is")}),
        lambda t: t.update({name: each + 10**6 for name, each in t.items() if name.endswith("/at")}),
        lambda t: t.update({name: each - 10**6 for name, each in t.items() if name.endswith("/at")}),
        lambda t: t.update({name: each.int() for name, each in t.items() if name.endswith("/at")}),
        lambda t: t.update({name: each.double() for name, each in t.items() if name.endswith("/is")}),
        lambda t: t.clear(),
    ],
)
def test_damaged_corrections(tmp_path: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    base, above = pair(tmp_path)
    made(base, above, tmp_path / "delta")
    path = tmp_path / "delta" / delta.EXACT
    found = {name: stored.load().clone() for name, stored in safetensors.read(path).items()}
    assert found
    change(found)
    safetensors.write(path, found)
    with pytest.raises(CheckpointError):
        delta.apply(open_checkpoint(base), tmp_path / "delta", tmp_path / "out")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 2}', '{"format": 1, "rows": [1, 2]}', '{"format": 1}'])
def test_damaged_words(tmp_path: Path, text: str) -> None:
    base, above = pair(tmp_path)
    made(base, above, tmp_path / "delta")
    (tmp_path / "delta" / delta.FILE).write_text(text)
    with pytest.raises(CheckpointError):
        delta.apply(open_checkpoint(base), tmp_path / "delta", tmp_path / "out")


@pytest.mark.parametrize(("key", "value"), [("grown", "ones"), ("base", 3), ("rows", 5), ("extra", 1)])
def test_words_of_the_wrong_kind(tmp_path: Path, key: str, value: Any) -> None:
    base, above = pair(tmp_path)
    made(base, above, tmp_path / "delta")
    path = tmp_path / "delta" / delta.FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(CheckpointError):
        delta.read(tmp_path / "delta")
