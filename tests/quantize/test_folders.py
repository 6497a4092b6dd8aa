"""Quantised folders: what is written is read again, as the same model but for rounding; nothing beside it is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import paddock
from paddock.checkpoint import folder as hf
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint
from paddock.engine.locate import locate
from paddock.errors import ContextLengthError, PaddockError, UnsupportedError, UsageError
from paddock.model.families import describe
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.quantize.folders import write

KINDS = ("int8", "int4", "nf4")
STORIES = (
    "Once upon a time there was a little girl named Lily. She had a red ball and she liked to throw it up high. One "
    'day the ball fell into a tree. Lily was sad. Her mom came and said, "Do not cry. I will help you." They got the '
    "ball and Lily was happy again.",
    "Tom and Ben were good friends. They went to the park to play with a big truck. Tom wanted the truck, but Ben did "
    'not want to share. "It is mine," said Ben. Tom was angry and went home. The next day Ben said he was sorry, and '
    "they played together all day long.",
    "A small dog lived in a big house. The dog was very hungry. He saw a cake on the table and jumped up. The cake "
    "fell on the floor and the dog ate it. His owner was not happy, but then she laughed and gave him some water.",
    "One day a bird could not find her nest. She asked the cat, but the cat did not know. She asked the frog, and the "
    'frog said, "Look over there, behind the hill." The bird flew fast and found her three babies. She sang a song.',
    "Anna loved to help her dad in the garden. They put seeds in the ground and gave them water every morning. After "
    'many days there was a pretty yellow flower. Anna smiled and said, "Look, dad! It is as tall as me!"',
    "It was a cold day and it began to rain. Max had no coat. He ran under a tree and waited. An old man came by with "
    "a big umbrella and took Max home. Max said thank you, and his mom made soup for everyone.",
    "There was a boy who had a toy boat. He put it in the pond and it went far away. The boy wanted to get it, but the "
    "water was too deep. A duck pushed the boat back to him. The boy was so happy that he gave the duck some bread.",
)
LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96,
    "num_hidden_layers": 2, "intermediate_size": 256, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "torch_dtype": "float32",
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 128, "n_head": 4, "n_layer": 2, "n_positions": 64, "vocab_size": 96}
NEOX = {
    "model_type": "gpt_neox", "hidden_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 96,
    "intermediate_size": 256, "max_position_embeddings": 64, "rotary_pct": 0.25,
}  # fmt: skip
MIXTRAL = LLAMA | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
T5 = {
    "model_type": "t5", "d_model": 64, "d_kv": 32, "d_ff": 128, "num_layers": 1, "num_heads": 2, "vocab_size": 96,
    "decoder_start_token_id": 0, "feed_forward_proj": "relu",
}  # fmt: skip


def checkpoint(path: Path, config: dict[str, Any], dtype: torch.dtype = torch.float32) -> Checkpoint:
    """A folder of random weights whose hidden states are of ordinary size."""
    torch.manual_seed(1)
    model = Transformer(describe(config)).requires_grad_(False)
    for name, parameter in model.named_parameters():
        spread = 0.02 if parameter.dim() < 2 else 0.5 if "embedding" in name else 0.05
        parameter.normal_(float("norm" in name and "weight" in name), spread)
    hf.write(path, model.to(dtype), config)
    return open_checkpoint(path)


def texts(count: int = 6, length: int = 64) -> list[list[int]]:
    return torch.randint(0, 96, (count, length), generator=torch.Generator().manual_seed(5)).tolist()


def logits(path: Path, ids: list[int], source: list[int] | None = None) -> torch.Tensor:
    """(tokens, vocabulary), from the numbers that the folder's codes mean, by PyTorch."""
    model, rows = open_checkpoint(path).model("float32"), torch.tensor([ids])
    with torch.no_grad():
        memory = None if source is None else model.encode(torch.tensor([source]))
        return model(rows, Step.begin(model.architecture, rows, memory=memory))[0]


def distance(a: Path, b: Path, ids: list[int], source: list[int] | None = None) -> float:
    """How far the logits of two models are apart, over their own spread."""
    first, second = (logits(path, ids, source) for path in (a, b))
    return ((first - second).std() / first.std()).item()


@pytest.mark.parametrize(("kind", "most"), [("int8", 0.02), ("int4", 0.25), ("nf4", 0.25)])
def test_logits_stay_near(kind: str, most: float, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a", LLAMA)
    told: list[tuple[str, int, int]] = []
    written = write(source, tmp_path / "b", kind, progress=lambda *said: told.append(said))
    found = distance(tmp_path / "a", tmp_path / "b", texts()[0])
    assert 0 < found < most
    assert written.matrices == len(told) == 14 and written.plain == ()
    assert told[-1][1:] == (written.weights, written.weights) and written.weights == 2 * (48 * 1024 + 3 * 128 * 256)
    low, high = {"int8": (8.3, 8.5), "int4": (4.3, 4.5), "nf4": (4.2, 5)}[kind]  # matrices this small have much beside
    assert low < written.bits_per_weight < high


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_reach_the_kernels_as_codes(kind: str, tmp_path: Path) -> None:
    write(checkpoint(tmp_path / "a", LLAMA), tmp_path / "b", kind)
    opened = open_checkpoint(tmp_path / "b")
    packed = {name for name, stored in opened.tensors.items() if stored.codes is not None}
    assert packed == {name for name in opened.tensors if name.endswith("_proj.weight")}
    for name in packed:
        codes = opened.tensors[name].codes
        assert codes is not None and codes.format == kind.upper()
        assert all(len(part) == opened.tensors[name].shape[0] for part in codes.load())


def test_calibration_makes_int4_better(tmp_path: Path) -> None:
    """On a trained model and text of its own kind, which is what calibration is for."""
    source, tokenizer = open_checkpoint(locate(None)), paddock.load().tokenizer
    stories = [tokenizer.encode(story) for story in STORIES]
    write(source, tmp_path / "plain", "int4")
    write(source, tmp_path / "gptq", "int4", stories[:5])

    def divergence(path: Path) -> float:
        """Mean KL of the next token's distribution, over text that calibration did not see."""
        total = 0.0
        for story in stories[5:]:
            p, q = (logits(folder, story).log_softmax(-1) for folder in (source.path, path))
            total += (p.exp() * (p - q)).sum(-1).mean().item()
        return total / len(stories[5:])

    assert divergence(tmp_path / "gptq") < 0.85 * divergence(tmp_path / "plain") < 0.1


@pytest.mark.parametrize("config", [GPT2, NEOX, MIXTRAL], ids=lambda config: config["model_type"])
@pytest.mark.parametrize(("kind", "calibrated"), [("int4", True), ("int4", False), ("nf4", False)])
def test_families_with_other_layouts(config: dict[str, Any], kind: str, calibrated: bool, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a", config)
    written = write(source, tmp_path / "b", kind, texts(3, 32) if calibrated else None)
    assert written.plain == ()
    opened = open_checkpoint(tmp_path / "b")
    assert opened.tensors.keys() == source.tensors.keys()
    quantised = [
        name for name in opened.tensors if not torch.equal(opened.tensors[name].load(), source.tensors[name].load())
    ]
    assert len(quantised) == written.matrices
    assert not [name for name in quantised if "emb" in name or "norm" in name or "head" in name or ".gate.w" in name]
    for name in quantised:
        before, after = source.tensors[name].load(), opened.tensors[name].load()
        assert (before - after).std() < 0.2 * before.std()


def test_an_encoder_decoder_is_quantised_without_calibration(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a", T5)
    write(source, tmp_path / "b", "nf4")
    assert distance(tmp_path / "a", tmp_path / "b", [0, 5, 7], source=[4, 9, 1]) < 0.3
    with pytest.raises(UnsupportedError, match="not calibrated"):
        write(source, tmp_path / "c", "int4", texts())


def test_group_follows_the_widths_and_what_does_not_fit_stays_plain(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a", LLAMA | {"hidden_size": 64, "intermediate_size": 172})
    four = write(source, tmp_path / "four", "int4")
    assert four.group == 64 and {name.split(".")[-2] for name in four.plain} == {"gate_proj", "up_proj", "down_proj"}
    settings = json.loads((tmp_path / "four" / "config.json").read_text())["quantization_config"]
    inside = [name for (name,) in settings["modules_in_block_to_quantize"]]
    assert inside == [f"self_attn.{role}_proj" for role in "koqv"]
    eight = write(source, tmp_path / "eight", "int8")
    assert {name.split(".")[-2] for name in eight.plain} == {"down_proj"}
    assert write(source, tmp_path / "nf4", "nf4").plain == ()
    for name in ("four", "eight", "nf4"):
        assert distance(tmp_path / "a", tmp_path / name, texts()[0]) < 0.3


def test_a_model_of_which_nothing_fits_is_refused_with_another_kind(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a", LLAMA | {"hidden_size": 40, "intermediate_size": 44})
    with pytest.raises(UsageError, match=r"(?s)rows have 40, 44 weights.*groups of 32.*nf4"):
        write(source, tmp_path / "b", "int4")
    assert not (tmp_path / "b").exists() and write(source, tmp_path / "b", "nf4").matrices == 14


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_stays_plain_keeps_its_type_and_every_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a", LLAMA, dtype)
    for kind in KINDS:
        write(source, tmp_path / kind, kind)
        opened = open_checkpoint(tmp_path / kind)
        for name in ("model.embed_tokens.weight", "lm_head.weight", "model.layers.1.input_layernorm.weight"):
            assert torch.equal(opened.tensors[name].load(), source.tensors[name].load())
        assert opened.dtype == dtype and dict(opened.config) == dict(source.config)


def test_everything_beside_the_weights_comes_along(tmp_path: Path) -> None:
    source = open_checkpoint(locate(None))
    for kind in KINDS:
        write(source, tmp_path / kind, kind)
        model, original = paddock.load(tmp_path / kind), paddock.load()
        text = "Once upon a time, there was a dog."
        assert model.tokenizer.encode(text) == original.tokenizer.encode(text)
        assert model.generation == original.generation and dict(model.checkpoint.config) == dict(source.config)


def test_a_folder_can_be_written_over_itself_and_over_a_plain_one(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a", LLAMA)
    write(source, tmp_path / "b", "int8")
    write(source, tmp_path / "a", "int8")
    assert distance(tmp_path / "a", tmp_path / "b", texts()[0]) == 0
    write(open_checkpoint(tmp_path / "a"), tmp_path / "a", "nf4")
    assert open_checkpoint(tmp_path / "a").quantization["quant_method"] == "bitsandbytes"  # type: ignore[index]
    assert distance(tmp_path / "b", tmp_path / "a", texts()[0]) < 0.3


def test_a_failure_leaves_the_old_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = checkpoint(tmp_path / "a", LLAMA)
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paddock.checkpoint.safetensors.save", full)
    with pytest.raises(PaddockError, match="no space left"):
        write(source, tmp_path / "a", "int4")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


@pytest.mark.parametrize(
    ("kind", "calibration", "error", "message"),
    [
        ("int5", None, UsageError, "no kind 'int5'.*did you mean"),
        ("nf4", [[1, 2]], UsageError, "nf4 is not calibrated"),
        ("int8", [[1, 2]], UsageError, "int8 is not calibrated"),
        ("int4", [], UsageError, "holds no text"),
        ("int4", [[1, 2], []], UsageError, "an empty one"),
        ("int4", [[1, 96]], UsageError, "96"),
        ("int4", [[1, -1]], UsageError, "-1"),
        ("int4", [[1] * 129], ContextLengthError, "129 tokens does not fit"),
    ],
)
def test_requests_that_cannot_be_meant(
    kind: str, calibration: Any, error: type[PaddockError], message: str, tmp_path: Path
) -> None:
    source = checkpoint(tmp_path / "a", LLAMA)
    with pytest.raises(error, match="(?s)" + message):
        write(source, tmp_path / "b", kind, calibration)
    assert not (tmp_path / "b").exists()


def test_the_same_weights_and_texts_give_the_same_bytes(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a", LLAMA)
    for name in ("b", "c"):
        write(source, tmp_path / name, "int4", texts(2, 32))
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("b", "c"))
    assert first == second


def test_configurations_say_what_other_readers_need(tmp_path: Path) -> None:
    from transformers import BitsAndBytesConfig, GPTQConfig

    source = checkpoint(tmp_path / "a", NEOX)  # whose head transformers calls by another name than its files
    write(source, tmp_path / "int4", "int4")
    found = json.loads((tmp_path / "int4" / "config.json").read_text())["quantization_config"]
    said = GPTQConfig(**found)
    assert (said.bits, said.group_size, said.sym, said.desc_act) == (4, 128, True, False)
    write(source, tmp_path / "nf4", "nf4")
    found = json.loads((tmp_path / "nf4" / "config.json").read_text())["quantization_config"]
    four = BitsAndBytesConfig.from_dict(found)
    assert four.load_in_4bit and four.bnb_4bit_quant_type == "nf4" and four.bnb_4bit_use_double_quant
    assert {"lm_head", "embed_out", "gpt_neox.embed_in"} == set(four.llm_int8_skip_modules)
