"""Questions by length: how they are made, how they are counted, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddock.engine.language_model import LanguageModel
from paddock.engine.loading import load
from paddock.errors import ContextLengthError, DataError, UsageError
from paddock.evaluate import length_plot
from paddock.evaluate.lengths import PLACES, Cell, Place, Question, ask, beyond, by_length
from paddock.evaluate.lines import ASK, HEAD, Lines
from paddock.evaluate.numeric_facts import FACTS
from paddock.evaluate.numeric_qa import NumericQA, altered, read


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def story() -> LanguageModel:
    return load()


# The lines test


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("units", [2, 10, 57, 400])
def test_a_record_holds_its_answer_where_it_is_asked_for(units: int, place: Place) -> None:
    question = Lines().question(units, place, random())
    body = question.text.removeprefix(HEAD)
    record, asked = body[: body.rindex("Which value")], body[body.rindex("Which value") :]
    lines = [line.removeprefix("line ").split(": ") for line in record.splitlines()]
    keys = [key for key, _ in lines]
    assert len(lines) == units == len(set(keys))
    at = next(i for i, key in enumerate(keys) if asked == ASK.format(key=key))
    assert lines[at][1] == question.answer
    tenth = max(1, units // 10)
    low = {"first": 0, "middle": (units - tenth) // 2, "last": units - tenth}[place]
    assert low <= at < low + tenth and question.depth == pytest.approx(at / (units - 1))


def test_the_same_seed_asks_the_same() -> None:
    one, two, other = (Lines().question(30, "middle", random(seed)) for seed in (5, 5, 6))
    assert one == two != other


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (" 4711", True),
        ("4711.\nline", True),
        (" is 4711", True),
        (" 47115", False),
        ("471 1", False),
        ("12 4711", False),
        ("", False),
        ("no idea", False),
    ],
)
def test_only_the_very_value_is_right(text: str, right: bool) -> None:
    assert Lines().right(Question("", "4711"), text) is right


def test_there_are_only_so_many_numbers() -> None:
    assert len(set(Lines(2).record(90, random())[0])) == 90
    with pytest.raises(UsageError, match="there are 90 numbers of 2 digits"):
        Lines(2).record(91, random())
    for digits in (0, 9, -1):
        with pytest.raises(UsageError):
            Lines(digits)


# Altered numbers


@pytest.mark.parametrize("place", PLACES)
def test_the_number_is_another_one_everywhere(place: Place) -> None:
    for seed in range(40):
        question = NumericQA().question(12, place, random(seed))
        document = question.text[: question.text.index("Question:")]
        assert question.known in {str(fact.known) for fact in FACTS} and question.answer != question.known
        assert f" {question.answer}" in document and question.known not in document.split()
        assert len(question.answer) == len(question.known)
        at = document.index(f" {question.answer}") / len(document)
        assert {"first": at < 0.35, "middle": 0.2 < at < 0.8, "last": at > 0.6}[place], (at, question.text)


def test_presence_counts_whole_numbers_only() -> None:
    test, question = NumericQA(), Question("", "4206", "1789")
    assert test.right(question, "It was in 4206, they say.") and test.right(question, "1789? No, 4206.")
    assert not any(test.right(question, text) for text in ("42060", "4,206", "1789", "", "14206"))


def test_marks_of_a_number_stay() -> None:
    new = altered("8,849", random())
    assert new[1] == "," and len(new) == 5 and new != "8,849" and new[0] != "0"
    assert altered("7", random(), taken=[str(i) for i in range(10) if i != 3]) == "3"
    with pytest.raises(DataError, match="no other number"):
        altered("7", random(), taken=[str(i) for i in range(10)])


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


GOOD = {
    "document": "A mill stood here. It had 12 wheels. The miller liked 12 of them. Rain fell for 40 days.",
    "question": "How many wheels had the mill?",
    "answer": "12",
}


def test_a_files_documents_are_altered_throughout(tmp_path: Path) -> None:
    other = {"document": "One day. Two days came by. There were 3 more.", "question": "How many more?", "answer": 3}
    records = read(write(tmp_path / "q.jsonl", GOOD, other))
    assert [record.answer for record in records] == ["12", "3"]
    test = NumericQA([records[0], records[1]])
    for seed in range(9):
        question = test.question(4, "first", random(seed))
        assert question.known not in question.text.replace(".", "").split()
        assert question.text.count(question.answer) >= (2 if question.known == "12" else 1)
    with pytest.raises(UsageError, match="sentences besides"):
        test.question(50, "first", random())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "a dozen"}, "expected a number"),
        ({"answer": "13"}, "does not hold the number 13"),
        ({"answer": ""}, "answer"),
        ({"answer": ["12"]}, "answer"),
        ({"question": None}, "question"),
        ({"document": "12 wheels."}, "every sentence"),
        ({"document": 7}, "document"),
    ],
)
def test_records_that_ask_nothing(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    file = write(tmp_path / "q.jsonl", GOOD, GOOD | change)
    with pytest.raises(DataError, match=said) as caught:
        read(file)
    assert "q.jsonl" in str(caught.value) and "2" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"{", b'{"document": "a", "question": "b"}', b"[" * 9000])
def test_garbage_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "q.jsonl").write_bytes(data)
    with pytest.raises(DataError):
        read(tmp_path / "q.jsonl")
    with pytest.raises(DataError):
        read(tmp_path / "none.jsonl")


# Asking


@dataclass(frozen=True)
class First:
    """Lines of which every answer is taken for right where the line stands first."""

    written: int = 12

    def question(self, units: int, place: Place, random: np.random.Generator) -> Question:
        return Lines(2).question(units, place, random)

    def right(self, question: Question, text: str) -> bool:
        return question.depth < 0.2


def test_prompts_are_as_long_as_fits_and_not_a_token_longer(story: LanguageModel) -> None:
    cells = ask(story, First(), [128, 200, 512], 3, 0)
    assert [(cell.length, cell.place) for cell in cells] == [(n, p) for n in (128, 200, 512) for p in PLACES]
    each = len(story.tokenizer.encode("line 47: 31\n", add_special=False))
    for cell in cells:
        room = cell.length - 12
        assert room - 2 * each < cell.tokens <= room, "a line more would not fit"
    assert [cell.right for cell in cells] == [3, 0, 0] * 3
    assert all(cell.recalled is None and cell.asked == 3 for cell in cells)


def test_a_right_answer_is_counted(story: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that copies: what it is asked is looked up in its own prompt."""

    class Said:
        text = ""

    def copies(ids: list[int], limit: int, **_: Any) -> Said:
        prompt = story.tokenizer.decode(ids)
        key = prompt.rsplit("line ", 1)[1].split(":")[0]
        said = Said()
        said.text = " " + prompt.split(f"line {key}: ")[1].split("\n")[0]
        return said

    monkeypatch.setattr(story, "generate", copies)
    cells = ask(story, Lines(2), [128, 256], 4, 1)
    assert [cell.accuracy for cell in cells] == [1.0] * 6 and cells[0].stderr == 0.0


def test_what_is_known_by_heart_is_told(story: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Said:
        text = "I know: " + ", ".join(str(fact.known) for fact in FACTS)

    monkeypatch.setattr(story, "generate", lambda *_, **__: Said())
    assert [cell.recalled for cell in ask(story, NumericQA(), [256], 2, 0)] == [2, 2, 2]
    Said.text = "I do not know."
    assert [(cell.right, cell.recalled) for cell in ask(story, NumericQA(), [256], 2, 0)] == [(0, 0)] * 3


@pytest.mark.parametrize(
    ("lengths", "questions", "said"),
    [
        ([], 1, "0 lengths"),
        ([64, 64], 1, "all different"),
        ([15], 1, "from 16"),
        ([2**21], 1, "from 16"),
        ([20], 1, "does not fit into 20 tokens"),
        ([64], 0, "0 questions"),
        ([64], 10**6, "questions"),
    ],
)
def test_what_cannot_be_asked(story: LanguageModel, lengths: list[int], questions: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ask(story, Lines(2), lengths, questions, 0)


def test_beyond_the_context_only_on_request(story: LanguageModel) -> None:
    with pytest.raises(ContextLengthError, match="reads 512"):
        ask(story, Lines(3), [520], 1, 0)
    longer = beyond(story, 520)
    assert longer.architecture.context == 520 and story.architecture.context == 512
    assert len(ask(longer, Lines(3), [520], 1, 0)) == 3
    assert beyond(story, 100) is story
    ids = list(range(3, 90))
    assert longer.logits(ids).equal(story.logits(ids)), "the same weights and positions"


def test_a_length_that_cannot_be_filled_is_refused(story: LanguageModel) -> None:
    with pytest.raises(UsageError, match=r"2000 tokens cannot be filled: .* 90 numbers of 2 digits"):
        ask(beyond(story, 2000), Lines(2), [2000], 1, 0)


def test_a_picture(tmp_path: Path) -> None:
    cells = [Cell(n, place, 10, right, n - 12.0, None) for n in (128, 256) for right, place in enumerate(PLACES)]
    for name in ("a.png", "a.svg"):
        length_plot.draw({"base": cells}, length_plot.check(tmp_path / name), "lines: $base$", trained=128)
        length_plot.draw({"base": cells, "longer": cells}, tmp_path / name, "lines")
        assert (tmp_path / name).stat().st_size > 2000
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        length_plot.check(tmp_path / "a.gif")
    assert [(length, len(row)) for length, row in by_length(cells)] == [(128, 3), (256, 3)]
