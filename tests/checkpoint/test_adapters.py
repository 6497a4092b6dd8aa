"""LoRA adapters as PEFT writes them, on every way that families publish a matrix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

import paddock
from paddock.checkpoint.adapter_kinds import kind
from paddock.checkpoint.adapters import CONFIG, WEIGHTS, read_adapter
from paddock.engine.runners import engine_for
from paddock.errors import CheckpointError, PaddockError, UnsupportedError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore")  # the oracle's own
IDS = [3, 14, 15, 9, 2, 6, 5, 35, 8, 9, 7]

_LLAMA = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
}
SUBJECTS: dict[str, tuple[Any, Any, dict[str, Any], list[str]]] = {
    "llama, all linears": (
        hf.LlamaForCausalLM,
        hf.LlamaConfig,
        {**_LLAMA, "num_key_value_heads": 2},
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    ),
    "gpt2, transposed and fused": (
        hf.GPT2LMHeadModel,
        hf.GPT2Config,
        {"vocab_size": 97, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64},
        ["c_attn", "c_proj", "c_fc"],
    ),
    "gpt-neox, fused by head": (
        hf.GPTNeoXForCausalLM,
        hf.GPTNeoXConfig,
        {**_LLAMA, "num_attention_heads": 3, "max_position_embeddings": 64},
        ["query_key_value", "dense", "dense_h_to_4h"],
    ),
    "bloom": (
        hf.BloomForCausalLM,
        hf.BloomConfig,
        {"vocab_size": 97, "hidden_size": 48, "n_layer": 2, "n_head": 4},
        ["query_key_value", "dense_4h_to_h"],
    ),
    "falcon, grouped": (
        hf.FalconForCausalLM,
        hf.FalconConfig,
        {
            "vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6,
            "num_kv_heads": 2, "new_decoder_architecture": True,
        },
        ["query_key_value", "dense"],
    ),
    "qwen2, with biases": (
        hf.Qwen2ForCausalLM,
        hf.Qwen2Config,
        {**_LLAMA, "num_key_value_heads": 2},
        ["q_proj", "v_proj"],
    ),
}  # fmt: skip


def publish(folder: Path, name: str, seed: int = 0, **keys: Any) -> tuple[Path, Path, Any]:
    """A base model, an adapter on it whose B is not zero, and PEFT's model of both."""
    model_type, config_type, settings, targets = SUBJECTS[name]
    torch.manual_seed(seed)
    base = model_type(config_type(**settings)).eval()
    base.save_pretrained(folder / "base")
    config = peft.LoraConfig(r=4, lora_alpha=12, target_modules=targets, task_type="CAUSAL_LM", **keys)
    both = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for tensor_name, tensor in both.named_parameters():
            if "lora_B" in tensor_name:
                tensor.normal_(std=0.2)
    both.save_pretrained(folder / "adapter")
    return folder / "base", folder / "adapter", both


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    return publish(tmp_path_factory.mktemp("llama"), "llama, all linears")


def expected(both: Any, ids: list[int] = IDS) -> torch.Tensor:
    with torch.no_grad():
        return both(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("name", SUBJECTS)
def test_logits_are_peft_s(name: str, tmp_path: Path) -> None:
    base, adapter, both = publish(tmp_path, name)
    plain = paddock.load(base, dtype="float32")
    adapted = plain.with_adapter(adapter)
    want = expected(both)
    assert (adapted.logits(IDS) - want).abs().max() < 2e-5
    assert (plain.logits(IDS) - want).abs().max() > 1e-2  # and the model below is what it was


@pytest.mark.parametrize(
    "keys", [{"use_rslora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"up_proj": 3}}]
)
def test_scales_of_other_kinds(keys: dict[str, Any], tmp_path: Path) -> None:
    base, adapter, both = publish(tmp_path, "llama, all linears", **keys)
    adapted = paddock.load(base, dtype="float32").with_adapter(adapter)
    assert (adapted.logits(IDS) - expected(both)).abs().max() < 2e-5


def test_weights_are_shared_and_engines_are_not(llama: tuple[Path, Path, Any]) -> None:
    base, adapter, both = llama
    plain = paddock.load(base, dtype="float32")
    adapted = plain.with_adapter(adapter)
    ours = dict(adapted.model.named_parameters())
    for name, parameter in plain.model.named_parameters():
        match = ours.get(name, ours.get(name.replace(".weight", ".base.weight")))
        assert match is parameter
    prompts = [IDS, IDS[:4]]
    alone = [plain.generate(ids, 12, temperature=0).ids for ids in prompts]
    theirs = [adapted.generate(ids, 12, temperature=0).ids for ids in prompts]
    assert [plain.generate(ids, 12, temperature=0).ids for ids in prompts] == alone != theirs
    greedy = both.generate(torch.tensor([IDS]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert list(theirs[0]) == greedy[0, len(IDS) :].tolist()


def test_a_quantised_base_stays_quantised(tmp_path: Path) -> None:
    model_type, config_type, settings, targets = SUBJECTS["llama, all linears"]
    SUBJECTS["wide"] = (
        model_type, config_type, {**settings, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
                                  "num_key_value_heads": 2}, targets,
    )  # fmt: skip
    try:
        base, adapter, both = publish(tmp_path, "wide")
    finally:
        del SUBJECTS["wide"]
    try:
        plain = paddock.load(base, quantize="q8_0")
    except UsageError:
        pytest.skip("no native kernels here")
    adapted = plain.with_adapter(adapter)
    assert adapted.model.blocks[0].attention.q.base.weight is plain.model.blocks[0].attention.q.weight
    assert (adapted.logits(IDS) - expected(both)).abs().max() < 0.1
    assert engine_for(adapted.model, blocks=8).runner.vocabulary == 97


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda config: config.update(peft_type="IA3"), UnsupportedError),
        (lambda config: config.update(use_dora=True), CheckpointError),
        (lambda config: config.update(modules_to_save=["lm_head"]), CheckpointError),
        (lambda config: config.update(modules_to_save="lm_head"), CheckpointError),
        (lambda config: config.update(bias="all"), UnsupportedError),
        (lambda config: config.update(a_new_thing=3), UnsupportedError),
        (lambda config: config.update(rank_pattern={"(a+)+$": 2}), UnsupportedError),
        (lambda config: config.update(rank_pattern=[1]), CheckpointError),
        (lambda config: config.update(r=8), CheckpointError),
        (lambda config: config.update(r=True), CheckpointError),
        (lambda config: config.update(lora_alpha="12"), CheckpointError),
        (lambda config: config.update(lora_alpha=None), CheckpointError),
        (lambda config: config.clear(), UnsupportedError),
    ],
)
def test_configurations_that_mean_something_else(
    llama: tuple[Path, Path, Any], tmp_path: Path, change: Callable[[dict[str, Any]], None], kind: type[PaddockError]
) -> None:
    config = json.loads((llama[1] / CONFIG).read_text())
    change(config)
    copied(llama[1], tmp_path, config=config)
    with pytest.raises(kind):
        read_adapter(tmp_path)


def _rename(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda tensors: [tensors.update({name.replace(old, new): tensors.pop(name)}) for name in list(tensors)]


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_"


@pytest.mark.parametrize(
    "change",
    [
        _rename("q_proj", "w_proj"),
        _rename("layers.0", "layers.7"),
        _rename("base_model.model.", ""),
        _rename("lora_A", "lora_embedding_A"),
        lambda tensors: tensors.pop(FIRST + "A.weight"),
        lambda tensors: tensors.clear(),
        lambda tensors: tensors.update({FIRST + "A.weight": torch.zeros(4, 47)}),
        lambda tensors: tensors.update({FIRST + "B.weight": torch.zeros(47, 4)}),
        lambda tensors: tensors.update({FIRST + "B.weight": torch.zeros(48, 3)}),
        lambda tensors: tensors.update({FIRST + "B.weight": torch.zeros(48, 4, 1)}),
        lambda tensors: tensors.update({FIRST + "B.weight": torch.full((48, 4), float("nan"))}),
        lambda tensors: tensors.update({FIRST + "B.weight": torch.zeros(48, 4, dtype=torch.int32)}),
        lambda tensors: tensors.update({"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 48)}),
    ],
)
def test_tensors_that_do_not_fit(
    llama: tuple[Path, Path, Any], tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], Any]
) -> None:
    tensors = load_file(llama[1] / WEIGHTS)
    change(tensors)
    copied(llama[1], tmp_path, tensors=tensors)
    with pytest.raises(CheckpointError):
        paddock.load(llama[0], dtype="float32").with_adapter(tmp_path)


def test_places_that_are_no_adapters(llama: tuple[Path, Path, Any], tmp_path: Path) -> None:
    model = paddock.load(llama[0])
    for path in (tmp_path, tmp_path / "nowhere", llama[0], llama[1] / CONFIG):
        with pytest.raises(CheckpointError):
            model.with_adapter(path)
    adapted = model.with_adapter(llama[1])
    with pytest.raises(UsageError, match="already"):
        adapted.with_adapter(llama[1])
    with pytest.raises(UsageError, match="adapter"):
        adapted.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def copied(source: Path, target: Path, config: Any = None, tensors: Any = None) -> None:
    text = (source / CONFIG).read_text() if config is None else json.dumps(config)
    (target / CONFIG).write_text(text)
    save_file(load_file(source / WEIGHTS) if tensors is None else tensors, target / WEIGHTS)


def test_a_whole_model_is_not_called_a_broken_adapter(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"is a whole model; expected an adapter(.|\n)*use it as the model"):
        kind(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"adapter_config\.json is missing"):
        kind(tmp_path)
