"""Every format of examples: told by its content, read as it was meant, and written so that it can be read again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from example_records import CONVERSATIONS, OTHERS

from paddock.data.instruct.formats import FORMATS
from paddock.data.instruct.options import Options
from paddock.data.instruct.reading import Report, examples, format_of
from paddock.data.instruct.records import Conversation, Example, Feedback, Labelled, Message, Pair, Preference, Text
from paddock.data.instruct.taking import Taking
from paddock.data.instruct.writers import WRITERS
from paddock.data.instruct.writing import write_examples
from paddock.errors import DataError, UsageError

RECORDS: dict[str, list[tuple[Any, Any]]] = {**CONVERSATIONS, **OTHERS}


def lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8")
    return path


def turns(messages: tuple[Message, ...]) -> list[tuple[str, str]]:
    return [(each.role, "|".join([each.content, *filter(None, [each.more.get("input")])])) for each in messages]


def plain(example: Example) -> Any:
    """As the table has it."""
    match example:
        case Conversation():
            return turns(example.messages)
        case Preference():
            return turns(example.prompt), example.chosen[-1].content, example.rejected[-1].content
        case Feedback():
            return turns(example.messages), example.good
        case Pair():
            return example.source, example.target
        case Labelled():
            return example.texts, example.label
        case Text():
            return example.text
    raise AssertionError(example)


def test_every_format_is_tested_and_written() -> None:
    assert set(RECORDS) == set(FORMATS) == set(WRITERS)


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("form", ["lines.json", "array.jsonl", "lines.gz"])
def test_read_by_content(name: str, form: str, tmp_path: Path) -> None:
    """Whatever the file is called: lines under the name of JSON, an array under that of lines."""
    records, expected = [record for record, _ in RECORDS[name]], [said for _, said in RECORDS[name] if said]
    path = tmp_path / form
    if form == "array.jsonl":
        path.write_text(json.dumps(records, indent=1))
    elif form == "lines.gz":
        path.write_bytes(gzip.compress(lines(tmp_path / "x", records).read_bytes()))
    else:
        lines(path, records)
    report = Report()
    found = list(examples(path, report=report))
    assert [plain(each) for each in found] == expected
    assert list(report.kept) == [name] and sum(report.kept.values()) == len(expected)
    assert format_of(path, Options()) == name
    dropped = 0 if name == "oasst-messages" else len(records) - len(expected)
    assert sum(report.dropped.values()) == dropped, report.dropped
    assert {each.origin.source for each in found} <= {"lines", "array", "C4", "WikiHow"}
    assert all(str(path) in each.origin.place for each in found)
    assert [plain(each) for each in examples(path, name)] == expected


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("end", [".jsonl.zst", ".json", ".parquet"])
def test_round_trip(name: str, end: str, tmp_path: Path) -> None:
    """What a format's writer wrote is what its reader reads, and so is where it is from."""
    first = list(examples(lines(tmp_path / "set.jsonl", [record for record, _ in RECORDS[name]]), licence="MIT"))
    written = write_examples(first, tmp_path / f"out{end}", name)
    assert (written.format, written.examples) == (name, len(first)) and not written.lost and not written.left_out
    report = Report()
    again = list(examples(tmp_path / f"out{end}", report=report))
    assert again == first and list(report.kept) == [name]
    if name in ("oasst-trees", "oasst-messages"):
        return  # a message has an origin of its own
    for one, other in zip(first, again, strict=True):
        a, b = one.origin, other.origin
        assert (a.id, a.source, a.language, a.licence, a.group) == (b.id, b.source, b.language, b.licence, b.group)
        assert dict(a.meta) == {key: value for key, value in b.meta.items() if key in a.meta}
    write_examples(again, tmp_path / f"twice{end}", name)
    assert (tmp_path / f"twice{end}").read_bytes() == (tmp_path / f"out{end}").read_bytes() or name == "phoenix"


@pytest.mark.parametrize("name", sorted(set(RECORDS) - {"text", "prompts"}))
def test_a_named_format_that_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"colour": "red", "sizes": [1]}])
    with pytest.raises(DataError, match=r"a\.jsonl:1.*(field|no text or no label|turns)"):
        list(examples(path, name))
    report = Report()
    assert list(examples(path, name, on_error="skip", report=report)) == []
    assert sum(report.dropped.values()) == 1


def test_look_alikes(tmp_path: Path) -> None:
    """Who speaks tells ShareGPT from BELLE, and where labels lie a tree from a table of messages."""
    gpt, assistant = CONVERSATIONS["sharegpt"][0][0], CONVERSATIONS["belle-conversations"][0][0]
    with pytest.raises(DataError, match=r":2: .*this looks like alpaca .*, in a file that began as sharegpt"):
        list(examples(lines(tmp_path / "a", [gpt, CONVERSATIONS["alpaca"][0][0], gpt])))
    with pytest.raises(DataError, match=r":2: .*\[1\].*looks like sharegpt .*, in a file that began as belle-conv"):
        list(examples(lines(tmp_path / "a", [assistant, gpt, assistant])))
    with pytest.raises(DataError, match=r"not belle-conversations .*'conversations\[1\].from' is 'gpt'.*ShareGPT"):
        list(examples(lines(tmp_path / "b", [gpt]), "belle-conversations"))
    both = list(examples(lines(tmp_path / "c", [assistant, gpt]), "mixed"))
    assert len(both) == 2


def test_unknown_format_and_unknown_fields(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'alpacca'.*\n.*did you mean 'alpaca'"):
        examples(tmp_path / "x", "alpacca")
    path = lines(tmp_path / "a.jsonl", [{"review": "good", "stars": 5}, {"review": "bad", "stars": 1}])
    with pytest.raises(DataError, match=r"records of no known format; the first has the fields 'review', 'stars'"):
        list(examples(path))
    named = list(examples(path, fields={"text": "review", "label": "stars"}))
    assert [plain(each) for each in named] == [(("good",), "5"), (("bad",), "1")]
    other = lines(tmp_path / "c.jsonl", [{"review": "good", "stars": 5, "text": "of something else"}])
    (named_over,) = examples(other, fields={"text": "review", "label": "stars"})
    assert named_over.origin.meta == {"own_text": "of something else"}
    deep = lines(tmp_path / "b.jsonl", [{"translation": {"de": "ja", "en": "yes"}}])
    (pair,) = examples(deep, fields={"source": "translation.de", "target": "translation.en"})
    assert plain(pair) == ("ja", "yes")
    with pytest.raises(DataError, match=r"b\.jsonl:1: no field 'translation.fr'; its fields are 'translation'"):
        list(examples(deep, fields={"text": "translation.fr"}))


def test_what_is_mended_is_counted(tmp_path: Path) -> None:
    def mended(name: str) -> dict[str, int]:
        report = Report()
        list(examples(lines(tmp_path / name, [record for record, _ in RECORDS[name]]), report=report))
        return dict(report.mended)

    assert mended("sharegpt") == {"a first turn that is not the user's": 1, "a last turn without an answer": 1}
    assert mended("alpaca-libre") == {"input says that there is none": 1} == mended("self-instruct")
    assert mended("dolly") == {"citation marks in the context": 1}
    assert mended("oasst-trees") == {"a last turn without an answer": 1}


def test_one_answer_is_no_ranking(tmp_path: Path) -> None:
    report = Report()
    path = lines(tmp_path / "a", [RECORDS["oasst-trees"][0][0]])
    assert list(examples(path, trees="ranked", report=report)) == []
    assert report.dropped == {"tree: nothing ranked": 1}


def test_rare_parts() -> None:
    """What templates read of MOSS's and Glaive's calls, masks and schemas."""

    def one(name: str, place: int) -> Any:
        return next(iter(FORMATS[name].read(RECORDS[name][place][0], Taking(Options(), "here", "set"))))

    moss = one("moss", 1)
    assert moss.messages[1].more == {"inner_thoughts": "to compute", "commands": 'Calculate("2^9")'}
    glaive = one("glaive", 0)
    call = {"type": "function", "function": {"name": "tide", "arguments": {"port": "Brest"}}}
    assert glaive.messages[1].more == {"tool_calls": [call]}
    assert glaive.tools[0]["function"]["name"] == "tide"
    learned = [message.learned for message in one("messages", 1).messages]
    assert learned == [False, False, False, False, True]
    assert one("llava", 0).origin.meta == {"image": "7.jpg"}
    assert one("guanaco", 0).origin.id == "m1" and one("guanaco", 0).origin.language == "es"
    assert one("pairs", 1).origin.meta["references"] == ["Or."]
    assert one("step-by-step", 0).origin.meta["rationale"] == "because"


def test_parquet_and_masks(tmp_path: Path) -> None:
    """Columns of structs, in which a field that only some messages have is null in the others."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    turns = [
        {"role": "developer", "content": "S", "weight": None},
        {"role": "user", "content": "Q", "weight": None},
        {"role": "assistant", "content": "A", "weight": 0},
        {"role": "user", "content": "R", "weight": None},
        {"role": "assistant", "content": "B", "weight": 1},
    ]
    parquet.write_table(pyarrow.table({"messages": [turns], "id": [3], "tools": [None]}), tmp_path / "a.parquet")
    (found,) = examples(tmp_path / "a.parquet")
    assert isinstance(found, Conversation) and found.origin.id == "3" and found.origin.place.endswith("row 1")
    assert (found.messages[0].role, found.messages[0].learn) == ("system", None)
    assert [each.learned for each in found.messages] == [False, False, False, False, True]
    assert all(not each.more for each in found.messages)
    path = lines(tmp_path / "b.jsonl", [{"messages": [{"role": "user", "content": "a", "loss": "no"}, turns[2]]}])
    with pytest.raises(DataError, match=r"field 'messages\[0\].loss' is .*, where true or false belongs"):
        list(examples(path))


def test_documents_of_crawls_are_texts(tmp_path: Path) -> None:
    path = lines(tmp_path / "cc.json", [{"raw_content": "page", "digest": "sha1:x", "url": "u", "length": 4}])
    assert [plain(each) for each in examples(path)] == ["page"]
    path.write_text("first<|endoftext|>second\n")
    path = path.rename(tmp_path / "cc.txt")
    assert [plain(each) for each in examples(path)] == ["first", "second\n"]
