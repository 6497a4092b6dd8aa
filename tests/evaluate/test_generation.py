"""Files of generated texts scored line by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddock.cli import scoring
from paddock.errors import DataError, UsageError
from paddock.evaluate.generation import score_files


def write(path: Path, *lines: str) -> Path:
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return path


def test_outputs_beside_what_needs_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "source", "A red house. It is old.", "Two dogs run. They bark.\r")
    wanted = write(tmp_path / "wanted", "A red house.", "Two dogs run.")
    other = write(tmp_path / "other", "a house", "dogs\u2028running")  # no end of a line
    outputs = write(tmp_path / "outputs", "A red house.", "")
    found = score_files(outputs, [wanted, other], source=source)
    assert found["lead"].bleu.score == pytest.approx(100) and found["lead"].rouge.rouge_l == pytest.approx(100)
    assert found["outputs"].rouge.rouge1 == pytest.approx(50) and found["outputs"].empty == 1
    assert found["copy"].chrf < found["lead"].chrf
    scoring.texts(str(outputs), [str(wanted), str(other)], "auto", str(source), True)
    told = json.loads(capsys.readouterr().out)
    assert told["lead"]["rouge"]["rouge1"] == pytest.approx(100) and told["outputs"]["tokenization"] == "13a"
    scoring.texts(str(outputs), [str(wanted)], "13a", None, False)
    assert "ROUGE-L" in capsys.readouterr().out


def test_chinese_counts_by_characters(tmp_path: Path) -> None:
    found = score_files(write(tmp_path / "a", "我今天很喜欢这只猫"), [write(tmp_path / "b", "我今天很喜欢这只狗")])[
        "outputs"
    ]
    assert found.tokenization == "zh" and found.bleu.score > 80 and found.rouge.rouge1 == pytest.approx(100 * 8 / 9)


def test_files_that_cannot_be_scored(tmp_path: Path) -> None:
    two, three = write(tmp_path / "two", "a", "b"), write(tmp_path / "three", "a", "b", "c")
    with pytest.raises(DataError, match=r"two has 2 lines and .*three 3"):
        score_files(two, [three])
    with pytest.raises(DataError, match=r"two has 2 lines and .*three 3"):
        score_files(two, [two], source=three)
    (tmp_path / "latin").write_bytes(b"a\nb\xe9\n")
    with pytest.raises(DataError, match=r"latin, line 2 is not UTF-8: byte 0xe9"):
        score_files(two, [tmp_path / "latin"])
    with pytest.raises(DataError, match="cannot be read"):
        score_files(two, [tmp_path])
    with pytest.raises(DataError, match="is empty"):
        score_files(write(tmp_path / "none"), [write(tmp_path / "none")])
    with pytest.raises(DataError, match="line 1 has 200,000 characters"):
        score_files(write(tmp_path / "long", "x" * 200_000), [two])
    with pytest.raises(UsageError, match="--tokenization 13b") as refused:
        scoring.texts(str(two), [str(two)], "13b", None, False)
    assert "13a" in str(refused.value)
