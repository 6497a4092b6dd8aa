"""Stages that judge one document: signals, scripts, classifiers, licences, code, scores, forms of characters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from cleaning_texts import apply, cleaned, recipe, text

from paddock.checkpoint import safetensors
from paddock.data.cleaning.classify import Classifier, Language, pieces, train_classifier, train_languages
from paddock.data.cleaning.codefiles import EXTENSIONS, Code, Licence, without_header
from paddock.data.cleaning.linear import CHARACTERS, WORDS, load, train
from paddock.data.cleaning.quality import Quality, merged
from paddock.data.cleaning.questions import Questions, score
from paddock.data.cleaning.recipe import parse_recipe
from paddock.data.cleaning.scripts import NAMES, Scripts, shares
from paddock.data.cleaning.signals import PRESETS, SIGNALS, STOP_WORDS, signals
from paddock.data.cleaning.unicodeforms import Forms
from paddock.data.document import Document
from paddock.errors import DataError, PaddockError, UsageError

PROSE = """\
The old ferry left the harbour at dawn, and the people on the pier watched it go with that quiet patience which belongs
to villages by the sea. Nobody spoke of the storm to come. A boy counted gulls, his sister counted waves, and their
grandmother, who had seen four boats lost in her time, counted nothing at all but held on to the rail.

By noon the wind had turned. Fishermen pulled their nets early; the baker closed his shutters, and the bell of the
chapel rang once by itself. When the ferry came back at night, it brought two passengers more than it had taken."""


def test_signals_of_a_text_worked_out_by_hand() -> None:
    found = signals("One two two.\n- THREE four...\n\nOne two two.\n")
    assert found["words"] == 9
    assert found["lines"] == 3
    assert found["mean_word_length"] == pytest.approx((3 + 3 + 4 + 1 + 5 + 7 + 3 + 3 + 4) / 9)
    assert found["bullet_lines"] == found["ellipsis_lines"] == pytest.approx(1 / 3)
    assert found["ended_lines"] == 1
    assert found["symbols_per_word"] == pytest.approx(1 / 9)
    assert found["words_with_letters"] == pytest.approx(8 / 9)
    assert found["capital_words"] == pytest.approx(1 / 9)
    assert found["repeated_lines"] == pytest.approx(1 / 3)
    assert found["repeated_line_characters"] == pytest.approx(12 / 39)
    assert found["repeated_paragraphs"] == 0
    assert found["top_2gram"] == pytest.approx(12 / 27)  # "one two", twice, of 27 letters in words
    assert found["different_words"] == pytest.approx(4 / 8)
    assert found["word_entropy"] == pytest.approx(
        -(0.5 * math.log(0.5) + 0.25 * math.log(0.25) + 2 / 8 * math.log(1 / 8))
    )


def test_repeated_ngrams_count_later_places_only_and_no_word_twice() -> None:
    given = "a b c d e f " * 2 + "x y z"
    assert signals(given)["repeated_5grams"] == pytest.approx(6 / 15)
    assert signals("la " * 100)["repeated_5grams"] == pytest.approx(99 / 100)
    assert signals("la " * 100)["top_2gram"] == 1
    assert signals("a b c d e f g")["repeated_5grams"] == 0


@pytest.mark.parametrize("given", ["", " \n\t", "a", "....", "\x00", "\n" * 5000, "字" * 300, "{" * 1000])
def test_signals_of_odd_texts_are_finite(given: str) -> None:
    assert signals(given).keys() == SIGNALS.keys()


def test_gopher_keeps_prose_and_names_the_first_limit_that_fails() -> None:
    stage = Quality(PRESETS["gopher"], STOP_WORDS, annotate=False)
    assert apply(stage, PROSE).document is not None
    assert apply(stage, "Buy now!").reason == "words too low"
    assert apply(stage, "zq xv " * 60).reason == "mean_word_length too low"
    assert apply(stage, "# tag " * 60 + PROSE).reason == "symbols_per_word too high"
    assert apply(stage, text(200, 1)).reason == "stop_words too low"
    assert apply(stage, (PROSE + "\n") * 3).reason == "repeated_lines too high"
    outcome = apply(stage, "2023 1999 1.5 " * 30 + PROSE)
    assert (outcome.reason, outcome.detail) == ("words_with_letters too low", "0.5431, least 0.8")


def test_own_limits_go_over_a_preset_and_annotation_removes_nothing() -> None:
    assert merged(PRESETS["gopher"], {"words": (5, 10), "stop_words": None})["words"] == (5, 10)
    assert "stop_words" not in merged(PRESETS["gopher"], {"stop_words": None})
    kept = apply(Quality({}, STOP_WORDS, annotate=True), Document("Buy!", "made:1", {"a": 1})).document
    assert kept is not None
    assert kept.meta["a"] == 1
    assert kept.meta["quality_signals"]["words"] == 1


def test_scripts_by_share_of_letters() -> None:
    assert shares("abc 紅樓夢 12") == {"latin": 0.5, "han": 0.5}
    assert shares("!? 12") == {}
    assert shares("Привет, мир") == {"cyrillic": 1.0}
    assert shares("ひらがなカタカナ") == {"kana": 1.0}
    stage = Scripts(("han", "kana"), 0.8)
    assert apply(stage, "話說天下大勢分久必合,OK").document is not None
    assert apply(stage, PROSE).reason == "script latin"
    assert apply(stage, "天下大勢 OK").reason == "scripts mixed"
    assert apply(stage, "12 + 12 = 24").reason == "no letters"
    assert len(set(NAMES)) == len(NAMES)


BOILERPLATE = "Click here to subscribe now! Cookie policy, terms of service. Add to cart. {} items in stock. Log in."


def encyclopedia(number: int) -> str:
    return (
        f"The river {text(1, number)} is a tributary of the {text(1, number + 1000)} in the province of "
        f"{text(1, number + 2000)}. "
        f"It was first described in {1700 + number} and has a length of {number + 20} kilometres."
    )


def test_a_classifier_tells_encyclopedia_from_boilerplate_and_survives_its_file(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("<|endoftext|>".join(encyclopedia(number) for number in range(60)))
    bad.write_text("<|endoftext|>".join(f"{BOILERPLATE.format(n)} {text(8, n + 500)}" for n in range(60)))
    trained = train_classifier([good], [bad])
    assert trained.held_out == 12
    assert trained.right == 1
    trained.model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    page, junk = encyclopedia(99), BOILERPLATE.format(99)
    assert again.scores(page).tolist() == trained.model.scores(page).tolist()
    stage = Classifier(again, 0.25)
    assert apply(stage, page).document is not None
    outcome = apply(stage, junk)
    assert outcome.reason == "like the bad examples"
    assert outcome.detail.startswith("P(good) 0.0")
    assert train_classifier([good], [bad]).model.weights.tobytes() == trained.model.weights.tobytes()
    texts = [encyclopedia(7), BOILERPLATE.format(3)]
    settings = {"stage": "classifier", "good": [str(good)], "bad": [str(bad)]}
    kept, manifest = cleaned(texts, tmp_path / "out", settings)
    assert kept == texts[:1]
    assert manifest["stages"][1]["classifier"]["texts"] == {"bad": 60, "good": 60}
    assert [each["file"] for each in manifest["trained_on"]] == [str(good), str(bad)]


def test_features_are_these_everywhere() -> None:
    found, weights = WORDS.of("The cat sat")
    assert found.tolist() == [115161, 209697, 232855, 257026, 257422]
    assert (weights**2).sum() == pytest.approx(1)
    assert len(CHARACTERS.of("")[0]) > 0  # its edges
    assert len(WORDS.of("...")[0]) == 0


def test_languages_are_told_apart_by_what_the_user_has(tmp_path: Path, shared_data: Path) -> None:
    pairs = shared_data / "text" / "multi30k"
    files = {}
    for name in ("en", "de"):
        source = next(path for path in sorted(pairs.iterdir()) if name in path.name and path.stat().st_size < 2**20)
        lines = source.read_text(encoding="utf-8").splitlines()
        files[name] = tmp_path / f"{name}.txt"
        files[name].write_text("\n".join(lines[:600]), encoding="utf-8")
        (tmp_path / f"{name}.held").write_text("\n".join(lines[-200:]), encoding="utf-8")
    trained = train_languages({name: [path] for name, path in files.items()})
    assert trained.model.labels == ("de", "en")
    assert trained.right is not None and trained.right > 0.95
    stage = Language(trained.model, ["de"], 0.5)
    reasons = {
        name: [apply(stage, line).reason for line in (tmp_path / f"{name}.held").read_text().splitlines()]
        for name in files
    }
    assert reasons["de"].count("") > 190
    assert reasons["en"].count("language en") > 190


def test_examples_are_cut_at_blanks() -> None:
    assert list(pieces(["aaaa bbbb cccc dddd"], 10)) == ["aaaa bbbb ", "cccc dddd"]
    assert list(pieces(["x" * 25], 10)) == ["x" * 10, "x" * 10, "x" * 5]
    assert "".join(pieces([text(500, 1)], 100)) == text(500, 1)


def test_training_refuses_what_cannot_teach(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 classes"):
        train({"a": ["x"]}, WORDS)
    with pytest.raises(UsageError, match="'b' hold no words"):
        train({"a": ["x"], "b": ["..."]}, WORDS)
    with pytest.raises(UsageError, match="does not know the language 'fr'"):
        Language(train({"de": ["der die das"], "en": ["the a an"]}, CHARACTERS).model, ["fr"], 0.5)
    with pytest.raises(UsageError, match="expected bad and good"):
        Classifier(train({"de": ["der die das"], "en": ["the a an"]}, WORDS).model, 0.5)


def test_a_classifier_file_of_another_make_is_refused(tmp_path: Path) -> None:
    import numpy as np
    import torch

    good = tmp_path / "good.safetensors"
    train({"bad": ["x y z"], "good": ["a b c"]}, CHARACTERS).model.save(good)
    held = {name: stored.load().clone() for name, stored in safetensors.read(good).items()}
    path = tmp_path / "model.safetensors"

    def refused(match: str, **changes: Any) -> None:
        safetensors.write(path, {**held, **changes})
        with pytest.raises(DataError, match=match):
            load(path)

    def said(given: str) -> torch.Tensor:
        return torch.from_numpy(np.frombuffer(given.encode(), np.uint8).copy())

    description = held["description"].numpy().tobytes().decode()
    refused("holds", other=torch.zeros(1))
    refused("not JSON", description=said("{"))
    refused("not of the format", description=said("{}"))
    refused("make no sense", description=said(description.replace('"most": 3', '"most": 300')))
    refused("make no sense", description=said(description.replace('"characters": 4000', '"characters": true')))
    refused("describes its features", description=said(description.replace('"most"', '"more"')))
    refused("has the shape", weights=torch.zeros(2, 7))
    refused("not finite", bias=torch.full((2,), float("nan")))
    path.write_bytes(good.read_bytes()[:5000])
    with pytest.raises(PaddockError):
        load(path)
    with pytest.raises(PaddockError):
        load(tmp_path / "none.safetensors")


def test_licences() -> None:
    stage = Licence(("MIT", "Apache-2.0"), unknown=False)
    for licence in ("mit", "MIT License", "apache-2.0", "Apache License 2.0"):
        assert apply(stage, Document("x", "made:1", {"license": licence})).document is not None, licence
    assert apply(stage, Document("x", "made:1", {"license": "GPL-3.0"})).reason == "licence not allowed"
    assert apply(stage, Document("x", "made:1", {"licenses": ["MIT", "GPL-3.0"]})).reason == "licence not allowed"
    assert apply(stage, "x").reason == "no licence"
    assert apply(Licence(("MIT",), unknown=True), "x").document is not None


def test_headers_of_code_come_off() -> None:
    assert without_header("/* Copyright 2020 somebody */\n\nint x;\n") == "int x;\n"
    assert without_header("/* what this does */\nint x;\n") == "/* what this does */\nint x;\n"
    assert without_header("// one\n// two\nint x; // three\n") == "int x; // three\n"
    assert without_header("#!/bin/sh\n# Copyright\n\necho\n") == "#!/bin/sh\necho\n"
    assert without_header("-- a\nSELECT 1;") == "SELECT 1;"
    assert without_header("x = 1  # no\n") == "x = 1  # no\n"
    assert without_header("/* copyright, never closed") == "/* copyright, never closed"
    assert without_header("") == ""


def test_code_rules() -> None:
    stage = Code(EXTENSIONS, 1000, 100, 0.25, 1.5, True)

    def reason(given: str, path: str | None = "src/a.py") -> str:
        return apply(stage, Document(given, "made:1", {"path": path} if path else {})).reason

    good = "def total(values):\n    return sum(value for value in values)\n"
    assert reason(good) == reason(good, None) == reason(good, "Makefile") == ""
    assert reason(good, "LICENSE.md") == "a licence text"
    assert reason(good, "server.crt") == "extension not listed"
    assert reason("x" * 1001) == "line too long"
    assert reason((f"{'word ' * 30}\n") * 3) == "lines too long"
    assert reason("!!!! ?? x\n" * 10) == "too few letters"
    assert reason("a 1 2 3 4 5 6 7 8 9\n" * 4) == "too few letters a token"
    assert reason("# only\n# this\n") == "nothing but a header"
    changed = apply(stage, "# Copyright\n" + good)
    assert changed.document is not None
    assert changed.document.text == good
    assert changed.changes == {"header": 1}


def test_scores_are_numbers_not_strings() -> None:
    assert [score(value) for value in ("9", "10", " -3 ", 4, 2.5, "x", None, True, "nan", "1e999", [])] == [
        9, 10, -3, 4, 2.5, None, None, None, None, None, None,
    ]  # fmt: skip
    stage = Questions("question_score", 3, 0, 3, True)
    answers = [{"text": f"<p>answer {n}</p>", "score": n} for n in ("9", "10", "-1", "2", "100")]
    outcome = apply(stage, Document("Why &amp; how?", "made:1", {"question_score": "10", "answers": answers}))
    assert outcome.document is not None
    assert outcome.document.text == "Q: Why & how?\n\nA: answer 100\n\nA: answer 10\n\nA: answer 9"
    assert apply(stage, Document("x", "made:1", {"question_score": "2"})).reason == "score too low"
    assert apply(stage, Document("x", "made:1", {"question_score": "many"})).reason == "score is no number"
    assert apply(stage, "x").reason == "no score"


def test_forms_of_characters() -> None:
    stage = Forms("NFC", True, True)
    outcome = apply(stage, "\ufeffcafe\u0301\r\nnext\rline\x00\u200b\tend\u2028")
    assert outcome.document is not None
    assert outcome.document.text == "café\nnext\nline\tend\n"
    assert outcome.changes == {"composed": 1, "line ends": 3, "unseen characters": 3}
    family = "👨‍👩‍👧 نمی‌خواهم"  # joiners stay
    assert apply(stage, family).document == Document(family, "made:1")
    folded = apply(Forms("NFKC", False, False), "ｆｕｌｌ\r\n").document
    assert folded is not None
    assert folded.text == "full\r\n"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "stages is missing"),
        ({"stages": []}, "at least 1 item"),
        ({"stages": [{"stage": "exat"}]}, "did you mean 'exact'"),
        ({"stages": ["exact"]}, "stage 1 is 'exact'"),
        ({"stages": [{"stage": "exact", "size": 3}]}, r"no key stage 1 \(exact\).size"),
        ({"stages": [{"stage": "minhash", "band": 3}]}, "did you mean 'bands'"),
        ({"stages": [{"stage": "minhash", "bands": 30}]}, "need 180 permutations"),
        ({"stages": [{"stage": "minhash", "threshold": 1.5}]}, "threshold is 1.5"),
        ({"stages": [{"stage": "quality", "limits": {"word": [1, 2]}}]}, "did you mean 'words'"),
        ({"stages": [{"stage": "quality", "limits": {"words": [3, 2]}}]}, "words has 3 and 2"),
        ({"stages": [{"stage": "quality", "preset": "none"}]}, "limits"),
        ({"stages": [{"stage": "classifier", "good": ["x"]}]}, "either files"),
        ({"stages": [{"stage": "language", "keep": ["en"], "files": {"en": ["x"]}}]}, "two languages"),
        ({"stages": [{"stage": "language", "keep": ["fr"], "files": {"en": ["x"], "de": ["y"]}}]}, "'fr' has none"),
        ({"stages": [{"stage": "script", "keep": ["latn"]}]}, "keep"),
        ({"stages": [{"stage": "pii", "kinds": []}]}, "kinds"),
        ({"stages": [{"stage": "exact"}], "shards": 3}, "no key shards"),
        ({"stages": [{"stage": "exact"}], "read": {"on_eror": "skip"}}, "did you mean 'on_error'"),
        ({"stages": [{"stage": "exact"}], "read": {"on_error": "perhaps"}}, "on_error='perhaps'"),
        ({"stages": [{"stage": "pii"}], "holdout": 0.1}, "would hold copies"),
    ],
)  # fmt: skip
def test_recipes_that_cannot_be_meant(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_recipe(values, "clean.yaml")


def test_a_recipes_digest_is_of_everything_it_says() -> None:
    assert recipe("exact").digest() == recipe("exact").digest()
    assert len({recipe("exact").digest(), recipe("pii").digest(), recipe("exact", chunk=5).digest()}) == 3
