"""Every reference id under shared/data/tokenizers, reproduced; a table counts them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import paddock
from paddock.tokenizer import Tokenizer, load, write_llama2c

Case = tuple[str, list[int]]
Real = Callable[[str], Tokenizer]

VECTORS = {
    "llama": "llama/tokenizer.model",
    "t5": "t5/tokenizer.json",
    "mistral-v1": "mistral/tokenizer.model.v1",
    "glm": "glm/cog-pretrain.model",
    "sp-test": "sentencepiece/test_model.model",
    "gpt2": "gpt2",
    "gpt-neox": "gpt-neox/20B_tokenizer.json",
    "bert": "bert/vocab.txt",
    "rwkv-world": "rwkv/rwkv_vocab_v20230424.txt",
}
# The same texts through other files of the same vocabulary.
TWINS = {
    "llama2c's tokenizer.bin": ("llama", "llama/tokenizer.bin"),
    "llama in GGUF": ("llama", "ggml-vocab/ggml-vocab-llama-spm.gguf"),
    "gpt2 in GGUF": ("gpt2", "ggml-vocab/ggml-vocab-gpt-2.gguf"),
    "bert in GGUF": ("bert", "ggml-vocab/ggml-vocab-bert-bge.gguf"),
    "t5's spiece.model": ("t5", "t5/spiece.model"),
}
GGUF = ("llama-spm", "gpt-2", "falcon", "bert-bge", "starcoder")
PROMPTS = {
    "gpt-2": "gpt2",
    "gpt-neox": "gpt-neox/20B_tokenizer.json",
}
COUNTS = {"vectors": 52, "gguf": 46, "prompts": 100}


def vectors(folder: Path, name: str) -> list[Case]:
    lines = (folder / f"vectors/{name}.jsonl").read_text("utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return [(row["text"], row["ids"]) for row in rows]


def gguf_cases(folder: Path, name: str) -> list[Case]:
    stem = folder / f"ggml-vocab/ggml-vocab-{name}.gguf"
    texts = Path(f"{stem}.inp").read_bytes().decode("utf-8").split("\n__ggml_vocab_test__\n")
    outputs = Path(f"{stem}.out").read_text("utf-8").split("\n")
    return [(text, [int(id) for id in ids.split()]) for text, ids in zip(texts, outputs, strict=True)][:46]


def prompt_cases(folder: Path, name: str) -> list[Case]:
    lines = (folder / f"ggml-prompts/{name}.txt").read_text("utf-8").split("\n")
    pairs = [line.rsplit(" => ", 1) for line in lines if line]
    return [(text, [int(id) for id in ids.split(",") if id]) for text, ids in pairs]


def suites(folder: Path) -> Iterator[tuple[str, str, list[Case], int]]:
    """(row of the table, tokenizer, cases, how many there must be)."""
    for name, path in VECTORS.items():
        yield f"vectors: {name}", path, vectors(folder, name), COUNTS["vectors"]
    for name, (cases, path) in TWINS.items():
        yield f"vectors: {name}", path, vectors(folder, cases), COUNTS["vectors"]
    for name in GGUF:
        yield f"GGUF: {name}", f"ggml-vocab/ggml-vocab-{name}.gguf", gguf_cases(folder, name), COUNTS["gguf"]
    for name, path in PROMPTS.items():
        yield f"prompts: {name}", path, prompt_cases(folder, name), COUNTS["prompts"]


def test_every_reference_id(shared_data: Path, real: Real, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for row, path, cases, expected in suites(shared_data / "tokenizers"):
        tokenizer = real(path)
        passed = sum(tokenizer.encode(text, add_special=False) == ids for text, ids in cases)
        rows.append((row, len(cases), passed, expected))
    with capsys.disabled():
        print(f"\n{'tokenizer':36}{'cases':>7}{'passed':>8}")
        for row, cases, passed, _ in rows:
            print(f"{row:36}{cases:7}{passed:8}")
        print(f"{'all':36}{sum(row[1] for row in rows):7}{sum(row[2] for row in rows):8}")
    assert len(rows) == 21
    assert all(cases == passed == expected for _, cases, passed, expected in rows)


def test_starcoder_prompts_are_cut_alike(shared_data: Path, real: Real) -> None:
    """These ids are StarCoder 1's, whose vocabulary is not here; StarCoder 2's has the same pieces under other ids.

    So each id must stand for one and the same id of the other in all 100 sentences.
    """
    tokenizer = real("ggml-vocab/ggml-vocab-starcoder.gguf")
    cases = prompt_cases(shared_data / "tokenizers", "starcoder")
    pairs = set()
    for text, ids in cases:
        pairs |= set(zip(ids, tokenizer.encode(text), strict=True))
    assert len(cases) == 100
    assert len(pairs) == len({left for left, _ in pairs}) == len({right for _, right in pairs}) == 443


# Vocabularies that keep every character, so that decoding gives the text back.
LOSSLESS = {"llama", "mistral-v1", "gpt2", "gpt-neox", "rwkv-world", "llama2c's tokenizer.bin", "llama in GGUF"}
ALL = VECTORS | {name: path for name, (_, path) in TWINS.items()}


@pytest.mark.parametrize("name", ALL)
def test_streams_join_to_the_whole_text(name: str, shared_data: Path, real: Real) -> None:
    tokenizer = real(ALL[name])
    cases = vectors(shared_data / "tokenizers", TWINS[name][0] if name in TWINS else name)
    normal = 0
    for text, ids in cases:
        stream = tokenizer.stream()
        parts = [stream.push(id) for id in ids]
        whole = tokenizer.decode(ids)
        assert "".join(parts) + stream.finish() == whole
        assert "\ufffd" not in whole or "\ufffd" in text
        normal += whole == text
    if name in LOSSLESS and name != "gpt-neox":
        assert normal == len(cases)
    assert normal > 1


@pytest.mark.parametrize("name", ["llama/tokenizer.bin", "ggml-vocab/ggml-vocab-llama-spm.gguf"])
def test_twins_of_llama_agree_on_books(name: str, shared_data: Path, real: Real) -> None:
    """The algorithms differ for U+2581 alone, which llama2c does not take for a blank."""
    model, twin = real("llama/tokenizer.model"), real(name)
    for book in ("tinyshakespeare.txt", "zh_xiyouji.txt", "wikitext2_valid.txt"):
        text = (shared_data / "text" / book).read_text("utf-8")[:100_000]
        assert twin.encode(text) == model.encode(text)
    differs = model.encode("a\u2581b") != twin.encode("a\u2581b")
    assert differs == (name == "llama/tokenizer.bin")


def test_llama2c_files_are_written_back_byte_for_byte(shared_data: Path, real: Real, tmp_path: Path) -> None:
    for name in ("llama/tokenizer.bin", "../weights/llama2c/tok512.bin"):
        write_llama2c(tmp_path / "tokenizer.bin", real(name))
        assert (tmp_path / "tokenizer.bin").read_bytes() == (shared_data / "tokenizers" / name).read_bytes()


def test_a_tokenizer_json_gives_the_published_llama2c_file(shared_data: Path, tmp_path: Path) -> None:
    """The bundled model keeps merges, not scores; their order is all that the format's scores say."""
    bundled = load(Path(paddock.__file__).parent / "models" / "stories260K")
    assert bundled.source == "tokenizer.json"
    write_llama2c(tmp_path / "tokenizer.bin", bundled)
    published = shared_data / "weights/llama2c/tok512.bin"
    assert (tmp_path / "tokenizer.bin").read_bytes() == published.read_bytes()


def test_characters_of_the_transliteration_model(shared_data: Path, real: Real) -> None:
    tokenizer = real("../weights/aren-transliteration/source_vocabulary.txt")
    lines = (shared_data / "weights/aren-transliteration/reference_outputs.jsonl").read_text("utf-8").splitlines()
    words = [json.loads(line)["source"] for line in lines]
    assert len(words) == 30
    for characters in words:
        ids = tokenizer.encode("".join(characters))
        assert [tokenizer.piece(id) for id in ids] == characters


def test_prompt_of_the_character_model(shared_data: Path, real: Real) -> None:
    reference = json.loads((shared_data / "weights/llama2c/babyllama_tok361_reference.json").read_text("utf-8"))
    tokenizer = real("../weights/llama2c/babyllama_tok361.vocab")
    assert tokenizer.encode(reference["prompt"]) == reference["prompt_token_ids"]
    assert tokenizer.decode(reference["greedy_token_ids"]) == reference["greedy_text"]
