"""Quantised GGUF files: which type each tensor gets, and what the model then computes."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch

import paddock
from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint
from paddock.checkpoint.gguf import GGUFFile
from paddock.errors import CheckpointError, UsageError
from paddock.model.families import describe
from paddock.model.transformer import Transformer
from paddock.quantize.gguf_file import Written, write_gguf
from paddock.quantize.kinds import GGUF_KINDS, kind_named
from paddock.quantize.mix import finer

WIDE = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}


def made(path: Path, config: dict) -> Checkpoint:
    torch.manual_seed(0)  # a module's fixture is made before conftest seeds the test
    model = Transformer(describe(config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.05)
    folder.write(path, model, config)
    return open_checkpoint(path)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return made(tmp_path_factory.mktemp("wide"), WIDE)


def written(checkpoint: Checkpoint, path: Path, kind: str) -> Written:
    path.touch()
    return write_gguf(checkpoint, path, kind)


def types(path: Path) -> dict[str, str]:
    return {name: info.type.name for name, info in GGUFFile(path).tensors.items()}


def test_medium_mix(wide: Checkpoint, tmp_path: Path) -> None:
    done = written(wide, tmp_path / "a.gguf", "q4_k")
    found = types(tmp_path / "a.gguf")
    assert found["token_embd.weight"] == found["output.weight"] == "Q6_K"
    assert found["output_norm.weight"] == found["blk.0.attn_norm.weight"] == "F32"
    for layer in range(8):
        more = "Q6_K" if layer in (0, 3, 6, 7) else "Q4_K"
        assert found[f"blk.{layer}.attn_v.weight"] == found[f"blk.{layer}.ffn_down.weight"] == more
        assert found[f"blk.{layer}.attn_q.weight"] == found[f"blk.{layer}.ffn_up.weight"] == "Q4_K"
    assert done.types == {"Q4_K": 48, "F32": 17, "Q6_K": 10} and 4.5 < done.bits_per_weight < 5.2
    assert GGUFFile(tmp_path / "a.gguf").metadata["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q4_K_M


def test_finer_layers_are_llama_cpps() -> None:
    assert [layer for layer in range(32) if finer(layer, 32)] == [
        0,
        1,
        2,
        3,
        6,
        9,
        12,
        15,
        18,
        21,
        24,
        27,
        28,
        29,
        30,
        31,
    ]


@pytest.mark.parametrize(("width", "expected"), [(64, {"Q5_0", "Q8_0", "F32"}), (48, {"F16", "F32"})])
def test_rows_that_are_no_whole_blocks_fall_back(tmp_path: Path, width: int, expected: set[str]) -> None:
    config = WIDE | {"hidden_size": width, "intermediate_size": width, "num_hidden_layers": 2}
    written(made(tmp_path / "m", config), tmp_path / "a.gguf", "q4_k")
    assert set(types(tmp_path / "a.gguf").values()) == expected


@pytest.mark.parametrize("kind", GGUF_KINDS)
def test_every_kind_is_read_by_both(wide: Checkpoint, tmp_path: Path, kind: str) -> None:
    written(wide, tmp_path / "a.gguf", kind)
    library = gguf.GGUFReader(tmp_path / "a.gguf")
    assert {t.name: t.tensor_type.name for t in library.tensors} == types(tmp_path / "a.gguf")
    ids = list(range(1, 33))
    before = paddock.load(wide.path).logits(ids)
    after = paddock.load(tmp_path / "a.gguf").logits(ids)
    error = ((after - before).norm() / before.norm()).item()
    bits = {"F32": 32, "F16": 11, "BF16": 8}.get(GGUF_KINDS[kind].base, int(kind[1]) if kind[0] == "q" else 0)
    print(f"{kind}: {error:.4f}")
    assert error < 8 * 2.0**-bits if kind != "f32" else error == 0.0


def test_experts_tied_heads_and_fused_projections(tmp_path: Path) -> None:
    config = WIDE | {"model_type": "mixtral", "num_local_experts": 8, "num_hidden_layers": 2}
    written(made(tmp_path / "m", config | {"sliding_window": None}), tmp_path / "a.gguf", "q4_k")
    found = types(tmp_path / "a.gguf")
    assert found["blk.0.attn_v.weight"] == found["blk.0.attn_k.weight"] == "Q8_0"
    assert found["blk.0.ffn_gate_inp.weight"] == "F32" and found["blk.0.ffn_up_exps.weight"] == "Q4_K"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path, value: float) -> None:
    model = Transformer(describe(WIDE))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.05)
        model.blocks[1].feedforward.down.weight[3, 5] = value
    folder.write(tmp_path / "m", model, WIDE)
    with pytest.raises(CheckpointError, match=r"blk\.1\.ffn_down\.weight holds values that are not numbers"):
        written(open_checkpoint(tmp_path / "m"), tmp_path / "a.gguf", "q8_0")


def test_importances_reach_the_matrices(wide: Checkpoint, tmp_path: Path) -> None:
    loud = {"blocks.0.attention.q": torch.rand(256).pow(4) + 1e-3}
    for name, importance in (("a", None), ("b", loud)):
        (tmp_path / name).touch()
        write_gguf(wide, tmp_path / name, "q4_0", importance=importance)
    one, two = GGUFFile(tmp_path / "a"), GGUFFile(tmp_path / "b")
    changed = [name for name in one.tensors if not torch.equal(one.tensor(name), two.tensor(name))]
    assert changed == ["blk.0.attn_q.weight"]


def test_kinds_by_other_names() -> None:
    assert [kind_named(name) for name in ("Q4_K_M", "bfloat16", "q8-0", "nf4")] == ["q4_k", "bf16", "q8_0", "nf4"]
    with pytest.raises(UsageError, match="q4_kk") as refused:
        kind_named("q4_kk")
    assert refused.value.fix == "did you mean 'q4_k'?"
