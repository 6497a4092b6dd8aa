"""Adapter folders that PEFT reads: experts, sums of adapters, the shortest names of what is meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as hf

import paddock
from paddock.checkpoint.adapters import CONFIG
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.matrices import suffixes
from paddock.engine.merging import Chosen, check_base, plain, with_adapters, write_sum
from paddock.errors import UsageError
from paddock.training.methods import Base, LoRA

pytestmark = pytest.mark.filterwarnings("ignore")  # the oracle's own
IDS = [3, 14, 15, 9, 2, 6, 5, 35]
_SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
}


def published(folder: Path, kind: str = "Llama", **more: Any) -> Any:
    torch.manual_seed(3)
    model = getattr(hf, f"{kind}ForCausalLM")(getattr(hf, f"{kind}Config")(**_SMALL, **more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
    model.save_pretrained(folder)
    return model


def adapter(base: Path, folder: Path, seed: int, **settings: Any) -> Path:
    found = open_checkpoint(base)
    tuned = LoRA(**{"rank": 3, **settings}).attach(Base(found.model("float32"), found.config, {}, "base"), seed)
    for name, parameter in tuned.model.named_parameters():
        if name.endswith(".b"):
            parameter.data.normal_(0, 0.2)
    tuned.write(folder, tuned.model)
    return folder


def by_peft(model: Any, folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return peft.PeftModel.from_pretrained(model, str(folder)).eval()(torch.tensor([IDS])).logits[0]


def test_experts_have_each_their_own(tmp_path: Path) -> None:
    """PEFT stacks what is written of each expert (from transformers 5 on), and computes the same."""
    theirs = published(tmp_path / "base", "Mixtral", num_local_experts=4, num_experts_per_tok=2)
    folder = adapter(tmp_path / "base", tmp_path / "adapter", 1)
    ours = paddock.load(tmp_path / "base", dtype="float32").with_adapter(folder).logits(IDS)
    assert (by_peft(theirs, folder) - ours).abs().max() < 1e-5
    assert (paddock.load(tmp_path / "base").logits(IDS) - ours).abs().max() > 0.1


def test_a_sum_is_one_adapter_to_peft_too(tmp_path: Path) -> None:
    theirs = published(tmp_path / "base")
    one = adapter(tmp_path / "base", tmp_path / "one", 1, roles="attention", rslora=True)
    two = adapter(tmp_path / "base", tmp_path / "two", 2, rank=5, roles="q,down", alpha=7.0)
    model = paddock.load(tmp_path / "base", dtype="float32")
    both = with_adapters(model, [Chosen.at(one, 0.6), Chosen.at(two, -1.5)])
    (tmp_path / "sum").mkdir()
    assert write_sum(tmp_path / "sum", both, [Chosen.at(one), Chosen.at(two)], "base") == 8
    told = json.loads((tmp_path / "sum" / CONFIG).read_text())
    assert told["target_modules"] == ["down_proj", "k_proj", "o_proj", "q_proj", "v_proj"]
    want = both.logits(IDS)
    assert (by_peft(theirs, tmp_path / "sum") - want).abs().max() < 2e-5
    assert (model.with_adapter(tmp_path / "sum").logits(IDS) - want).abs().max() < 2e-5
    assert (plain(both).logits(IDS) - want).abs().max() < 2e-5
    only = [with_adapters(model, [Chosen.at(each)]).logits(IDS) for each in (one, two)]
    assert min((each - want).abs().max() for each in only) > 0.1


def test_a_quantised_base_is_not_merged_into_unasked(tmp_path: Path) -> None:
    published(tmp_path / "base", hidden_act="silu")
    folder = adapter(tmp_path / "base", tmp_path / "adapter", 1)
    try:
        small = paddock.load(tmp_path / "base", quantize="q8_0")
    except UsageError:
        pytest.skip("no native kernels here")
    with pytest.raises(UsageError, match="dtype"):
        plain(small.with_adapter(folder))


def test_names_of_bases(tmp_path: Path) -> None:
    published(tmp_path / "My-Model")
    model = paddock.load(tmp_path / "My-Model")
    for base, right in (
        ("org/my-model", True),
        (str(tmp_path / "My-Model"), True),
        ("org/my-model-2", False),
        ("", True),
    ):
        folder = adapter(tmp_path / "My-Model", tmp_path / "adapter", 1, roles="q")
        config = json.loads((folder / CONFIG).read_text()) | {"base_model_name_or_path": base}
        (folder / CONFIG).write_text(json.dumps(config))
        if right:
            check_base(model, [Chosen.at(folder)], "")
        else:
            with pytest.raises(UsageError, match="was made for org/my-model-2"):
                check_base(model, [Chosen.at(folder)], "")


@pytest.mark.parametrize(
    ("wanted", "others", "ends"),
    [
        ({"a.0.q", "a.1.q"}, {"a.0.k"}, ["q"]),
        ({"a.1.q"}, {"a.0.q"}, ["1.q"]),
        ({"a.1.q", "a.11.q"}, {"a.0.q"}, ["1.q", "11.q"]),
        ({"x.out.dense"}, {"x.att.out.dense"}, ["x.out.dense"]),
        ({"q"}, {"a.q"}, ["q"]),
    ],
)
def test_the_shortest_ends_that_mean_them(wanted: set[str], others: set[str], ends: list[str]) -> None:
    assert suffixes(wanted, wanted | others) == ends
