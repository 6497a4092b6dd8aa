"""The same numbers on a CUDA device as on the CPU. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import paddock
from paddock.errors import ResourceError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]

VOCABULARY = 97
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {"num_key_value_heads": 2, "max_position_embeddings": 256}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", SIZES | GROUPED),
    "mistral": ("MistralForCausalLM", SIZES | GROUPED | {"sliding_window": 8}),
    "bloom": ("BloomForCausalLM", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "bert": ("BertForMaskedLM", SIZES | {"max_position_embeddings": 256}),
    "t5": ("T5ForConditionalGeneration", T5),
}
WRITERS = [name for name in ROWS if name != "bert"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import transformers

    found = {}
    for name, (kind, sizes) in ROWS.items():
        torch.manual_seed(7)
        builder = getattr(transformers, kind)
        model = builder(builder.config_class(vocab_size=VOCABULARY, **sizes)).eval()
        for parameter in model.parameters():
            parameter.data *= 3.0  # sharp opinions: equal choices mean equal logits
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
    return found


def both(folder: Path) -> tuple[Any, Any]:
    return (
        paddock.load(folder, dtype="float32", device="cpu"),
        paddock.load(folder, dtype="float32", device="cuda"),
    )


@pytest.mark.parametrize("name", ROWS)
def test_logits_equal_those_of_the_cpu(folders: dict[str, Path], name: str) -> None:
    here, there = both(folders[name])
    assert there.device.type == "cuda"
    rows = torch.randint(3, VOCABULARY, (3, 40))
    source = torch.randint(3, VOCABULARY, (3, 20)) if here.architecture.encoder else None
    result = there.logits(rows, source=source).cpu()
    torch.testing.assert_close(result, here.logits(rows, source=source), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0},
        {"num_beams": 4},
        {"temperature": 0, "repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
        {"temperature": 0.7, "top_k": 20, "seed": 3},
    ],
    ids=str,
)
def test_the_same_text_is_written(folders: dict[str, Path], name: str, settings: dict[str, Any]) -> None:
    here, there = both(folders[name])
    prompt = [1, 5, 9, 33, 7]
    assert there.generate(prompt, 24, **settings).ids == here.generate(prompt, 24, **settings).ids


def test_the_bundled_model_writes_chats_and_embeds_alike() -> None:
    here, there = (paddock.load(template="vicuna", device=device) for device in ("cpu", "cuda"))
    messages = [{"role": "user", "content": "Once upon a time"}]
    settings = {"temperature": 0}
    assert (
        there.generate("Once upon a time", 40, **settings).text
        == here.generate("Once upon a time", 40, **settings).text
    )
    assert there.chat(messages, 20, **settings).text == here.chat(messages, 20, **settings).text
    texts = ["Once upon a time", "Lily", "a dog ran away from the big red ball"]
    vectors = there.embed(texts)
    assert vectors.device.type == "cpu"
    torch.testing.assert_close(vectors, here.embed(texts), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs(folders: dict[str, Path], dtype: str) -> None:
    model = paddock.load(folders["llama"], dtype=dtype, device="cuda")
    exact = paddock.load(folders["llama"], dtype="float32", device="cpu")
    result, reference = model.logits([1, 5, 9]).cpu(), exact.logits([1, 5, 9])
    assert (result - reference).abs().max() < 0.1 * reference.abs().max()
    assert len(model.generate([1, 5, 9], 8, temperature=0, min_new_tokens=8).ids) == 8


@pytest.fixture
def crowded() -> Iterator[None]:
    """A device of which this process may have next to nothing."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_weights_that_do_not_fit_are_refused(crowded: None, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    # Megabytes, so that no piece of memory that PyTorch still holds can take them.
    LlamaForCausalLM(LlamaConfig(vocab_size=40_000, **SIZES, **GROUPED)).save_pretrained(tmp_path)
    with pytest.raises(ResourceError, match="weights"):
        paddock.load(tmp_path, device="cuda")


def test_texts_that_do_not_fit_are_refused(folders: dict[str, Path]) -> None:
    model = paddock.load(folders["t5"], device="cuda")
    with pytest.raises(ResourceError, match="GB"):
        model.generate([5], 2**31)
    assert model.generate([5], 4, temperature=0).ids
