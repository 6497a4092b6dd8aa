"""Examples that are broken, foreign, hostile: refused with file, line and field, or counted by reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from example_records import CONVERSATIONS, node, said, step, talk

from paddock.data.instruct.options import Options
from paddock.data.instruct.reading import Report, examples, format_of
from paddock.data.instruct.records import Conversation, Labelled, Message, Origin, Pair, Text
from paddock.data.instruct.writing import write_examples
from paddock.errors import DataError, UsageError

GOOD: dict[str, Any] = {
    "alpaca": {"instruction": "a", "input": "", "output": "b"},
    "sharegpt": {"conversations": talk("a", "b")},
    "messages": {"messages": talk("a", "b", who=("user", "assistant"), keys=("role", "content"))},
    "moss": CONVERSATIONS["moss"][0][0],
    "kto": {"messages": talk("a", "b", who=("user", "assistant"), keys=("role", "content")), "label": True},
    "dpo": {"prompt": "p", "chosen": "c", "rejected": "r"},
    "oasst-trees": CONVERSATIONS["oasst-trees"][0][0],
    "pairs": {"source": "a", "target": "b"},
    "labelled": {"text": "a", "label": "b"},
    "belle-turns": {"instruction": "Human: a\nAssistant:", "output": "b"},
    "glaive": {"conversations": talk("a", "b"), "tools": "[]"},
    "hh": {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
}
TREE = GOOD["oasst-trees"]
LINE = json.dumps(GOOD["alpaca"])

# what a good record is followed by: (format, record, what the message says, the reason it is counted under)
BROKEN: list[tuple[str, Any, str, str]] = [
    ("alpaca", {"instruction": "a", "input": ""}, "no field 'output'; its fields are", "no field 'output'"),
    ("alpaca", {"instruction": "a", "output": 7}, "field 'output' is a number, where text", "'output' is a number"),
    ("alpaca", {"instruction": ["a"], "output": "b"}, "field 'instruction' is a list", "'instruction' is a list"),
    ("alpaca", {"instruction": "a", "output": "b", "input": 1}, "'input' is a number", "'input' is a number"),
    ("alpaca", {"instruction": "a", "output": "b", "history": [["x"]]}, r"'history\[0\]'", "no list of pairs"),
    ("alpaca", {"instruction": "a\ud800", "output": "b"}, "field 'instruction': .*U.D800, half", "half a character"),
    ("alpaca", ["a"], "the record is a list", "no record"),
    ("alpaca", 7, "the record is a number", "no record"),
    ("alpaca", GOOD["dpo"], "no field .*this looks like dpo .* in a file that began as alpaca", "another format"),
    ("sharegpt", {"conversations": "a"}, "field 'conversations' is a string|where a list", "'conversations' is"),
    ("sharegpt", {"conversations": ["a"]}, r"'conversations\[0\]' is", "'conversations' holds"),
    ("sharegpt", {"conversations": talk("a", "b", who=("human", "gtp"))}, r"\[1\].from' is 'gtp'.*", "unknown speaker"),
    ("sharegpt", {"conversations": [{"from": "human"}]}, r"'conversations\[0\].content' is null", "is null"),
    ("sharegpt", {"conversations": talk("a", "b", "c", who=("human", "human"))}, "", "nobody answers"),
    ("sharegpt", {"conversations": [*talk("a"), *talk("b", "c")]}, "turn 2 is of the user", "roles do not alternate"),
    ("messages", {"messages": [{"role": "user", "content": 5}]}, r"'messages\[0\].content' is a number", "a number"),
    ("messages", {"messages": [{"role": 5, "content": "x"}]}, r"field 'messages\[0\].role' is a number", "'role' is"),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, *GOOD["messages"]["messages"][1:]]},
        r"'messages\[0\].content\[0\]' is no part of type text",
        "content that is no text",
    ),
    (
        "messages",
        {
            "messages": [
                *GOOD["messages"]["messages"],
                *[{"role": "system", "content": "s"}] * 2,
                *GOOD["messages"]["messages"],
            ]
        },
        "turn 3 is of the system",
        "roles do not alternate",
    ),
    ("moss", {**GOOD["moss"], "num_turns": 3}, "'num_turns' says 3, and there are 2", "'num_turns' is wrong"),
    ("moss", {**GOOD["moss"], "chat": {"turn_x": {}}}, "field 'chat.turn_x'", "no turn"),
    ("moss", {"chat": {"turn_1": {"Human": "a"}}}, "no field 'chat.turn_1.MOSS'", "no field 'MOSS'"),
    ("moss", {"chat": {"turn_1": step("a", "b", results="r")}}, "answers no command", "results without a command"),
    ("kto", {**GOOD["kto"], "label": "good"}, "field 'label' is .*looks like messages", "another format"),
    ("dpo", {"chosen": "c", "rejected": "r"}, "no field of the prompt", "no prompt"),
    ("dpo", {"prompt": "p", "chosen": 1, "rejected": "r"}, "field 'chosen' is a number", "'chosen' is a number"),
    ("oasst-trees", {**TREE, "prompt": node("x", "robot", "t")}, "'prompt.role' is 'robot'", "unknown role"),
    (
        "oasst-trees",
        {**TREE, "prompt": node("x", "prompter", "t", node("y", "assistant", None))},  # type: ignore[arg-type]
        r"'prompt.replies\[0\].text' is null",
        "'text' is null",
    ),
    ("oasst-trees", {**TREE, "prompt": {**node("x", "prompter", "t"), "replies": 4}}, "'prompt.replies' is", "no list"),
    ("pairs", {"source": [1], "target": "b"}, "field 'source' is a list", "'source' is a list"),
    ("labelled", {"text": "a", "label": [[1]]}, "no fields of a text and its class", "no text or no label"),
    (
        "belle-turns",
        {"instruction": "x\nHuman: a\nAssistant:", "output": "b"},
        "text before its first mark.*this looks like alpaca",
        "another",
    ),
    ("belle-turns", {"instruction": "Human: a", "output": "b"}, "does not end with an assistant's mark|Alpaca", "an"),
    ("glaive", {"conversations": talk("a", "b"), "tools": "{"}, "'tools' is text that is not JSON", "not JSON"),
    (
        "glaive",
        {"conversations": [*talk("a"), {"from": "function_call", "value": "f()"}], "tools": "[]"},
        r"'conversations\[1\]' is a call that is not JSON",
        "a call that is not JSON",
    ),
    ("hh", {"chosen": "hello", "rejected": "\n\nHuman: a"}, "field 'chosen' does not begin with|preferences", ""),
]

# sound, and of no use whatever `on_error` says
USELESS: list[tuple[str, Any, str]] = [
    ("alpaca", {"instruction": "a", "output": ""}, "empty output"),
    ("alpaca", {"instruction": " ", "output": "b"}, "empty instruction"),
    ("sharegpt", {"conversations": talk("", "b")}, "an empty turn"),
    ("sharegpt", {"conversations": []}, "no messages"),
    ("messages", {"messages": [{"role": "system", "content": "s"}]}, "nobody asks"),
    ("dpo", {"prompt": "p", "chosen": "same", "rejected": "same"}, "both answers are the same"),
    ("dpo", {"prompt": "p", "chosen": "c", "rejected": " "}, "empty rejected answer"),
    ("dpo", {"prompt": "", "chosen": "c", "rejected": "r"}, "empty prompt"),
    (
        "hh",
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: z\n\nAssistant: b"},
        "the two have no prompt in common",
    ),
    ("oasst-trees", {**TREE, "tree_state": "aborted"}, "tree_state: aborted"),
    ("oasst-trees", {**TREE, "prompt": {**TREE["prompt"], "deleted": True}}, "tree: deleted"),
    ("oasst-trees", {**TREE, "prompt": {**TREE["prompt"], "review_result": False}}, "tree: review_result is false"),
    ("oasst-trees", {**TREE, "prompt": node("x", "prompter", "t")}, "tree: no answer"),
    ("pairs", {"source": "a", "target": " "}, "empty target"),
    ("labelled", {"text": "", "label": 1}, "empty text"),
]


def put(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


@pytest.mark.parametrize(("name", "record", "what", "reason"), BROKEN, ids=[f"{b[0]}-{b[3]}" for b in BROKEN])
def test_broken_records(name: str, record: Any, what: str, reason: str, tmp_path: Path) -> None:
    path = put(tmp_path / "a.json", GOOD[name], record, GOOD[name])
    if what:
        with pytest.raises(DataError, match=rf"a\.json:2: .*({what})") as caught:
            list(examples(path))
        assert caught.value.fix
    report = Report()
    found = list(examples(path, on_error="skip", report=report))
    assert len(found) == 2 and found[0] == found[1], "what is sound stays"
    assert sum(report.dropped.values()) == 1 and reason in next(iter(report.dropped))
    assert report.files[0].records == 3


@pytest.mark.parametrize(("name", "record", "reason"), USELESS, ids=[f"{b[0]}-{b[2]}" for b in USELESS])
def test_useless_records(name: str, record: Any, reason: str, tmp_path: Path) -> None:
    report = Report()
    assert len(list(examples(put(tmp_path / "a.jsonl", GOOD[name], record), report=report))) == 1
    assert dict(report.dropped) == {reason: 1}
    assert f"dropped: 1 {reason}" in report.told


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (f"{LINE}\nnonsense\n".encode(), r"a\.jsonl:2: not JSON"),
        (f"{LINE}\n".encode() + b'{"instruction": "\xff"}\n', r"a\.jsonl:2: .*not UTF-8"),
        (f'{LINE}\n{{"instruction": {"[" * 90000}'.encode(), r"a\.jsonl:2: .*(nested too deeply|not JSON)"),
        (f'{LINE}\n{{"instruction": {"[" * 300}{"]" * 300}}}\n'.encode(), r"a\.jsonl:2: nested more than 200 deep"),
        (f'{LINE}\n{{"instruction": NaN}}'.encode(), r"a\.jsonl:2: not JSON: NaN"),
        (f"[{LINE},\n{LINE}".encode(), r"a\.jsonl, line 2: not JSON: the array has no end"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "cannot be decompressed"),
        (b"PK\x03\x04" + b"\0" * 20, "is a zip archive"),
    ],
)
def test_broken_files(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=what):
        list(examples(path, "alpaca"))


def test_files_without_examples(tmp_path: Path) -> None:
    for content in ("", "\n\n", "[]"):
        (tmp_path / "a.json").write_text(content)
        report = Report()
        assert list(examples(tmp_path / "a.json", report=report)) == [] and report.told == "examples: none"
    with pytest.raises(DataError, match="there are no examples to write"):
        write_examples([], tmp_path / "b.jsonl")
    with pytest.raises(DataError, match="is not there"):
        list(examples(tmp_path / "c.json"))


def test_huge_records_are_refused_before_they_are_held(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", GOOD["alpaca"], {"instruction": "a" * 5000, "output": "b"})
    with pytest.raises(DataError, match=r"a\.jsonl:2: 5\d\d\d bytes, where 3000 are allowed"):
        list(examples(path, record_bytes=3000))
    many = put(tmp_path / "b.jsonl", {"conversations": talk(*"ab" * 5001)})
    with pytest.raises(DataError, match=r"'conversations' has 10,002 entries; 10,000 may be"):
        list(examples(many))
    marks = put(
        tmp_path / "c.jsonl", {"instruction": "Human: a\nAssistant: b\n" * 6000 + "Human: a\nAssistant:", "output": "x"}
    )
    with pytest.raises(DataError, match="more than 10,000 turns"):
        list(examples(marks))


def test_duplicates(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", *[{"id": name, **GOOD["sharegpt"]} for name in "abab"])
    report = Report()
    assert len(list(examples(path, report=report))) == 4 and report.mended["id seen before, and kept"] == 2
    report = Report()
    found = list(examples([path, path], duplicates="drop", report=report))
    assert [each.origin.id for each in found] == ["a", "b"] and report.dropped["id seen before"] == 6
    again = put(tmp_path / "b.jsonl", {"id": 7, **GOOD["sharegpt"]}, {"id": "7", **GOOD["sharegpt"]})
    assert len(list(examples(again, duplicates="drop"))) == 1, "MOSS writes ids as numbers and as text"


def test_flat_trees_need_no_order(tmp_path: Path) -> None:
    """Cycles, orphans and ids that come twice end nothing."""
    row = {"tree_state": "ready_for_export", "lang": "en"}
    root = {"message_id": "r", "text": "Q", "role": "prompter", **row}
    answer = {"message_id": "a", "parent_id": "r", "text": "A", "role": "assistant", **row}
    lost = {"message_id": "l", "parent_id": "nowhere", "text": "L", "role": "prompter", **row}
    cycle = [
        {"message_id": "x", "parent_id": "y", "text": "X", "role": "prompter", **row},
        {"message_id": "y", "parent_id": "x", "text": "Y", "role": "assistant", **row},
    ]
    report = Report()
    found = list(examples(put(tmp_path / "a.jsonl", answer, *cycle, lost, answer, root), report=report))
    assert [each.messages for each in found if isinstance(each, Conversation)] == [
        (Message("user", "Q"), Message("assistant", "A"))
    ]
    assert report.dropped == {"message: id seen before": 1, "message: its parent is not there": 1}
    chain = [root] + [
        {
            "message_id": f"{n}",
            "parent_id": str(n - 1) if n else "r",
            "text": "t",
            "role": ["assistant", "prompter"][n % 2],
        }
        for n in range(2000)
    ]
    with pytest.raises(DataError, match="a thread of more than 500 messages"):
        list(examples(put(tmp_path / "b.jsonl", *chain)))


def test_roles_may_be_let_be(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", {"conversations": [*talk("a"), *talk("b", "c")]})
    (found,) = examples(path, alternate=False)
    assert isinstance(found, Conversation)
    assert [each.content for each in found.messages] == ["a", "b", "c"]


def test_tables(tmp_path: Path) -> None:
    """Columns by their names or by what is in them; running text with a tab is no table."""
    path = tmp_path / "a.tsv"

    def read(text: str, **more: Any) -> Any:
        path.write_text(text)
        return list(examples(path, **more))

    assert read("good film\t1\nbad film\t0\n") == [Labelled(("good film",), "1"), Labelled(("bad film",), "0")]
    assert read("sentence\tlabel\ngood\t1\r\n\nbad\t0") == [Labelled(("good",), "1"), Labelled(("bad",), "0")]
    assert read("index\tsentence1\tsentence2\tlabel\n0\ta\tb\tyes\n") == [Labelled(("a", "b"), "yes")]
    assert read("ein Hund\ta dog\neine Katze\ta cat\n") == [Pair("ein Hund", "a dog"), Pair("eine Katze", "a cat")]
    assert read("stars\treview\n4.5\tnice\n", fields={"text": "review", "label": "stars"}) == [
        Labelled(("nice",), "4.5")
    ]
    assert isinstance(read("Once upon\ta time.\nThere was no table.\nNone at all.\n")[0], Text)
    with pytest.raises(DataError, match=r"a\.tsv:3: 3 columns; expected 2: text, label"):
        read("a b\t1\nc d\t0\ne\tf\t1\n" + "g h\t1\n" * 20)
    report = Report()
    assert len(read("a b\t1\nc d\t0\ne\tf\t1\n" + "g h\t1\n" * 20, on_error="skip", report=report)) == 22
    assert report.dropped == {"other columns": 1}


def test_lines_that_belong_together(tmp_path: Path) -> None:
    one, two = tmp_path / "a.en", tmp_path / "a.de"
    one.write_text("one\n\ntwo\r\nthree\n")
    two.write_text("eins\n\nzwei\n\n")
    report = Report()
    assert list(examples(one, second=two, report=report)) == [Pair("one", "eins"), Pair("two", "zwei")]
    assert report.dropped == {"empty line": 1, "empty target": 1} and report.files[0].records == 4
    two.write_text("eins\n")
    with pytest.raises(DataError, match=r"a\.de has 1 lines, and .*a\.en 4"):
        list(examples(one, second=two))
    with pytest.raises(UsageError, match="1 files of sources and 2 of targets"):
        list(examples(one, second=[two, two]))


def test_documents_are_no_examples(tmp_path: Path) -> None:
    """A crawl with scores is no set of classes."""
    for record in ({"text": "t", "score": 3.1, "url": "u"}, {"text": "t", "meta": {"source": "s"}}, {"text": "only"}):
        assert format_of(put(tmp_path / "a.jsonl", record), Options()) == "text"
    assert format_of(put(tmp_path / "a.jsonl", {"colour": "red"}), Options()) is None
    with pytest.raises(UsageError, match=r"on_error='halt'.*\n?.*stop or skip"):
        Options(on_error="halt")
    with pytest.raises(UsageError, match="best=0"):
        Options(best=0)


def test_what_a_format_cannot_hold_is_refused_or_counted(tmp_path: Path) -> None:
    talks = Conversation(tuple(Message(role, text) for role, text in said("a", "b", "c", "d")))
    tools = Conversation(talks.messages, ({"type": "function", "function": {"name": "f"}},))
    masked = Conversation((Message("user", "a"), Message("assistant", "b", learn=False)))
    marked = Conversation((Message("user", "a\nAssistant: x"), Message("assistant", "b")))
    blanks = Conversation((Message("user", " a"), Message("assistant", "b\n")))
    given = Conversation((Message("user", "a", more={"input": "i"}), Message("assistant", "b")))
    for example, to, what in [
        (talks, "dolly", "more than one turn"),
        (tools, "alpaca", "tools"),
        (masked, "sharegpt", ""),
        (masked, "guanaco", "says itself whether it is learned"),
        (marked, "belle-turns", "a mark of the format"),
        (talks, "pairs", "a conversation"),
        (talks, "dpo", "a conversation"),
        (Pair("a", "b"), "labelled", "a pair"),
        (Conversation(talks.messages[:1]), "messages", "no answer"),
        (talks, "llava", "no image"),
        (talks, "oasst-trees", "no id"),
    ]:
        if what:
            with pytest.raises(DataError, match=f"{what}.*, for which {to} has no place"):
                write_examples([example], tmp_path / "a.jsonl", to)
            assert not (tmp_path / "a.jsonl").exists(), "whole or not at all"
        written = write_examples([example, Pair("x", "y")], tmp_path / "b.jsonl", to, on_error="skip")
        assert sum(written.left_out.values()) == bool(what) + (to in ("labelled", "dpo", "llava", "oasst-trees"))
    twice = Conversation(talks.messages, origin=Origin(id="same"))
    written = write_examples([twice, twice], tmp_path / "c.jsonl", "oasst-messages", on_error="skip")
    assert written.left_out == {"an id that was there before": 1} and len(list(examples(tmp_path / "c.jsonl"))) == 1
    written = write_examples([blanks, given], tmp_path / "c.jsonl", "baize")
    assert dict(written.lost) == {"blanks at the ends of turns": 2, "input joined to its instruction": 1}
    with pytest.raises(UsageError, match=r"'massages'.*\n.*did you mean 'messages'"):
        write_examples([talks], tmp_path / "c.jsonl", "massages")
    with pytest.raises(UsageError, match="does not say what to write"):
        write_examples([talks], tmp_path / "c.doc")
    with pytest.raises(DataError, match="holds a tab or a line break"):
        write_examples([Pair("a\tb", "c")], tmp_path / "c.tsv")
    write_examples([Pair("a", "b c")], tmp_path / "d.tsv")
    assert list(examples(tmp_path / "d.tsv")) == [Pair("a", "b c")]
