"""A real encoder-decoder: 30 Arabic words in Latin letters, greedy and with four beams, as CTranslate2 writes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import paddock

LAYERS = {"encoder_layers": 6, "decoder_layers": 6, "num_heads": 8, "d_model": 32, "d_ff": 128}
IDS = {"decoder_start_token_id": 1, "eos_token_id": 2}


@pytest.fixture(scope="module")
def aren(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[str], list[str]]:
    published = shared_data / "weights/aren-transliteration"
    folder = tmp_path_factory.mktemp("aren")
    shutil.copy(published / "model.safetensors", folder)
    source, target = (
        [*(published / f"{side}_vocabulary.txt").read_text(encoding="utf-8").splitlines(), "<unk>"]
        for side in ("source", "target")
    )
    sizes = {"source_vocab_size": len(source), "vocab_size": len(target), "positions_start": 1}
    (folder / "config.json").write_text(json.dumps({"model_type": "transformer", **LAYERS, **sizes, **IDS}))
    return paddock.load(folder), source, target


def rows(shared_data: Path) -> list[dict[str, Any]]:
    path = shared_data / "weights/aren-transliteration/reference_outputs.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_greedy_and_beam_outputs(aren: tuple[Any, list[str], list[str]], shared_data: Path) -> None:
    model, source, target = aren
    references = rows(shared_data)
    assert len(references) == 30
    for row in references:
        ids = [source.index(letter) if letter in source else source.index("<unk>") for letter in row["source"]]
        greedy = model.generate(ids, 40, temperature=0, logprobs=0)
        beam = model.generate(ids, 40, num_beams=4, length_penalty=0.0)
        assert [target[id] for id in greedy.ids] == [*row["greedy"], "</s>"]
        assert [target[id] for id in beam.ids] == [*row["beam4"], "</s>"]
        assert sum(known.logprob for known in greedy.logprobs) == pytest.approx(row["greedy_logprob"], abs=3e-4)
        assert beam.score == pytest.approx(row["beam4_logprob"], abs=3e-4)
