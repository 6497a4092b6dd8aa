"""What a file of the catalogue may hold, and how everything else is refused: by file, entry, field, with what to do."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from catalog_toys import SHAPE

from paddock.catalog import reading
from paddock.catalog.catalogue import assemble
from paddock.catalog.reading import read
from paddock.errors import DataError

SOURCE = """
[source.paper]
title = "A paper"
url = "https://example.org/paper"
date = "2024-05"
read = "2026-11-22"
"""
MODEL = """
[[model]]
id = "toy"
name = "Toy"
organisation = "Us"
about = "A model for tests."
family = "LLaMA"
branch = "decoder"
tasks = ["base"]
method = ["pre-training"]
sources = { default = "paper" }
"""
SIZE = """
[[model.sizes]]
name = "7b"
"""


def written(folder: Path, text: str | bytes, name: str = "toy.toml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(folder: Path, text: str | bytes) -> str:
    path = written(folder, text)
    with pytest.raises(DataError) as caught:
        assemble([path])
    assert str(path) in str(caught.value)
    return str(caught.value)


def changed(line: str, to: str, text: str = SOURCE + MODEL) -> str:
    assert text.count(line) == 1
    return text.replace(line, to)


def test_a_small_file_is_read(tmp_path: Path) -> None:
    toy = assemble([written(tmp_path, SOURCE + MODEL + SIZE)]).find("TOY 7b")
    assert toy.asset.id == "toy" and toy.size is not None and toy.size.name == "7b"


def test_dates_of_toml_and_a_mark_at_the_beginning_are_taken(tmp_path: Path) -> None:
    text = "\ufeff" + changed('date = "2024-05"', "date = 2024-05-17")
    assert read(written(tmp_path, text)).source["paper"].date == "2024-05-17"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SOURCE + MODEL + "familiy = 'x'", ["model 'toy'", "familiy", "did you mean 'family'?"]),
        (SOURCE + MODEL + SIZE + "paramters = 7", ["model 'toy', size '7b', paramters", "did you mean 'parameters'?"]),
        (SOURCE + MODEL + SIZE + "parameters = '7B'", ["size '7b', parameters", "'7B' is no count", "stated"]),
        (SOURCE + MODEL + SIZE + "parameters = '7000000000'", ["size '7b', parameters", "is no count"]),
        (SOURCE + MODEL + SIZE + "parameters = true", ["True is no count"]),
        (SOURCE + MODEL + SIZE + "parameters = 0", ["size '7b', parameters: 0: input should be greater"]),
        (SOURCE + MODEL + SIZE + "parameters = 1.5", ["size '7b', parameters: 1.5"]),
        (SOURCE + MODEL + SIZE + "parameters = nan", ["size '7b', parameters"]),
        (SOURCE + MODEL + SIZE + "parameters = 99999999999999999", ["size '7b', parameters"]),
        (SOURCE + MODEL + SIZE + "parameters = 5\nactive = 6", ["size '7b'", "6 parameters are active of 5"]),
        (SOURCE + MODEL + SIZE + "hub = 'https://huggingface.co/a/b'", ["size '7b', hub", "not of the form"]),
        (SOURCE + MODEL + SIZE + "sources = { size = 'paper' }", ["size '7b'", "size, which are no fields"]),
        (SOURCE + MODEL + SIZE + "sources = { hub = 'papre' }", ["model 'toy'", "did you mean 'paper'?"]),
        (SOURCE + MODEL + SIZE + SIZE, ["model 'toy'", "two sizes are called '7b'"]),
        (SOURCE + MODEL + SIZE + "scores = [{ benchmark = 'MMLU', value = 'high', source = 'paper' }]", ["'high'"]),
        (SOURCE + MODEL + SIZE + "scores = [{ benchmark = 'MMLU', value = inf, source = 'paper' }]", ["score 'MMLU'"]),
        (SOURCE + MODEL + SIZE + "scores = [{ benchmark = 'MMLU', value = 1, source = 'x' }]", ["no source 'x'"]),
        (SOURCE + MODEL + "released = '2024-13'", ["model 'toy', released: '2024-13' is no date"]),
        (SOURCE + MODEL + "released = '2023-02-29'", ["'2023-02-29' is no date"]),
        (SOURCE + MODEL + "released = 'May 2024'", ["'May 2024' is no date"]),
        (SOURCE + MODEL + "released = 2024", ["model 'toy', released"]),
        (SOURCE + MODEL + "languages = ['english']", ["model 'toy', languages number 1", "'english' is no code"]),
        (SOURCE + MODEL + "languages = ['xx']", ["'xx' is no code"]),
        (SOURCE + MODEL + "languages = 'en'", ["model 'toy', languages: 'en' is no list"]),
        (SOURCE + MODEL + "licence = 'MIT'", ["model 'toy', licence: 'MIT' is no table"]),
        (SOURCE + MODEL + "licence = { commercial = true }", ["licence, name: is missing"]),
        (SOURCE + MODEL + "base = ['toi']", ["model 'toy'", "base names 'toi'", "did you mean 'toy'?"]),
        (SOURCE + MODEL + "base = ['toy']", ["'toy' is made of itself", "toy <- toy"]),
        (SOURCE + MODEL + "data = ['toy']", ["data names 'toy', a model", "expected a dataset"]),
        (SOURCE + MODEL + MODEL, ["'toy' is in", "already"]),
        (SOURCE + MODEL + MODEL.replace('"toy"', '"toi"'), ["'Toy' is the name of 'toi', and of 'toy' in"]),
        (SOURCE + MODEL + "aliases = ['T']" + MODEL.replace("oy", "oi") + "aliases = ['t']", ["'t' means 'toi', and"]),
        (changed('tasks = ["base"]', 'tasks = ["chatt"]'), ["'chatt' is none of those", "did you mean 'chat'?"]),
        (changed('branch = "decoder"', 'branch = "x"'), ["model 'toy', branch", "encoder-decoder"]),
        (changed('family = "LLaMA"', ""), ["model 'toy', family: is missing"]),
        (changed('id = "toy"', ""), ["model 'Toy', id: is missing"]),
        (changed('id = "toy"\nname = "Toy"', ""), ["model number 1, ", "and 1 more"]),
        (changed('id = "toy"', 'id = "Toy 1"'), ["'Toy 1' is no name"]),
        (changed('default = "paper"', 'default = "papers"'), ["there is no source 'papers'", "did you mean 'paper'?"]),
        (changed('default = "paper"', 'family = "paper"'), ["sources has no default"]),
        (changed('default = "paper"', 'default = "paper", famly = "paper"'), ["famly, which are no fields"]),
        (changed('date = "2024-05"', 'date = "2026-12"'), ["source 'paper'", "read on 2026-11-22, before that"]),
        (changed('read = "2026-11-22"', ""), ["source 'paper'", "neither noted nor read"]),
        (changed('read = "2026-11-22"', 'noted = "2023"'), ["source 'paper'", "noted on 2023, before that"]),
        (changed("https://example.org/paper", "ftp://example.org"), ["source 'paper', url", "not of the form"]),
        (changed("[source.paper]", "[source.paper.a]"), ["a key with dots stands in quotes"]),
        ("[[modle]]\n", ["modle", "did you mean 'model'?"]),
        ("model = 7", ["model: 7 is no list"]),
        ("[model]\nid = 'x'", ["model", "no list"]),
        (SOURCE + MODEL + SIZE + "config = {}", ["model 'toy', size '7b': its config", "model_type is None"]),
        (SOURCE + MODEL + SIZE + SHAPE.replace("= 8,", "= -8,"), ["size '7b': its config", "hidden_size"]),
        (SOURCE + MODEL + SIZE + SHAPE.replace("= 8,", "= 10000000000000000000,"), ["size '7b': its config"]),
        (SOURCE + MODEL + SIZE + SHAPE.replace("vocab_size", "vocab"), ["size '7b': its config"]),
        (SOURCE + MODEL + SIZE + f"parameters = 1425\n{SHAPE}", ["parameters is 1425; its config gives 1424"]),
        ("[[model]]\n" * 5001, ["5,001 tables model", "at most 5,000"]),
        ("a = 1\na = 2", ["is not TOML", "mend that line"]),
        ("[[model", ["is not TOML"]),
        (b"\xff\xfe[", ["line 1 is not UTF-8 (byte 0)", "save it as UTF-8"]),
        (b"# \n# caf\xe9", ["line 2 is not UTF-8"]),
        (b"x = '\x00'", ["is not TOML"]),
        ("x = " + "[" * 20_000, ["nested too deeply"]),
        ("x = " + "9" * 10_000, ["is not TOML"]),
        (".".join("a" * 200_000) + " = 1", ["a key of 16 parts or more"]),
        ("[" + " . ".join('"a"' * 1 for _ in range(20_000)) + "]", ["a key of 16 parts or more"]),
        ("#" * (reading.MAX_BYTES + 1), ["larger than 2 MiB"]),
    ],
    ids=range(65),
)
def test_what_a_file_must_not_hold(tmp_path: Path, text: str | bytes, said: list[str]) -> None:
    started = time.monotonic()
    message = refusal(tmp_path, text)
    assert time.monotonic() - started < 5
    for words in said:
        assert words in message
    assert len(message) < 1500


def test_texts_with_many_dots_are_no_long_keys(tmp_path: Path) -> None:
    about = "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17.18.19.20 and so on"
    text = changed("A model for tests.", about)
    assert read(written(tmp_path, text)).model[0].about == about


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.toml"):
        with pytest.raises(DataError, match=str(path)):
            read(path)


def test_three_hundred_entries_are_read_at_once(tmp_path: Path) -> None:
    """Under 0.5 s on a quiet machine."""
    entry = MODEL + SIZE
    named = [entry.replace("Toy", f"Toy {i}").replace('"toy"', f'"toy-{i}"') for i in range(300)]
    path = written(tmp_path, SOURCE + "".join(named))
    started = time.monotonic()
    assert len(assemble([path]).models) == 300
    assert time.monotonic() - started < 2
