"""Cleaning examples: what each stage changes, cuts and removes, and that the books say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paddock.cli.entry import run
from paddock.data.instruct.cleaning.markdown import markdown
from paddock.data.instruct.cleaning.recipe import ExampleRecipe
from paddock.data.instruct.cleaning.run import Cleaned, clean
from paddock.data.instruct.records import Conversation, Example, Message, Origin, Pair
from paddock.engine.locate import bundled
from paddock.tokenizer.load import load

PAGE = (
    '<p>Try <strong>this</strong> &amp; run it:</p><pre><div class="bar"><span>python</span><button>Copy code</button>'
    '<code class="!whitespace-pre hljs language-python">if a &lt; b:\n    print("`")\n</code></div></pre>'
    "<ol><li>one</li><li>two</li></ol>"
)


def talk(*turns: str, id: str | None = None) -> Conversation:
    """Turns of a user and an assistant."""
    roles = ("user", "assistant") * len(turns)
    return Conversation(tuple(Message(role, text) for role, text in zip(roles, turns, strict=False)), (), Origin(id=id))


def cleaned(examples: list[Example], *stages: dict[str, Any]) -> Cleaned:
    recipe = ExampleRecipe.model_validate({"of": "examples", "stages": list(stages)})
    return clean(examples, recipe, lambda model: load(bundled()))


def test_a_copied_page_becomes_markdown_with_its_code_as_it_was() -> None:
    made = markdown(PAGE)
    assert made is not None and "Copy code" not in made
    assert made.startswith("Try **this** & run it:") and "1. one\n2. two" in made
    assert '```python\nif a < b:\n    print("`")\n```' in made


@pytest.mark.parametrize(
    "text", ["a < b and c > d", "see `<p>` in\n```html\n<div>x</div>\n```", "plain *text*", "<unk>"]
)
def test_what_is_no_page_stays(text: str) -> None:
    assert markdown(text) == text


def test_a_page_of_endless_depth_is_removed_and_not_followed() -> None:
    found = cleaned([talk("hi", "<div>" * 50_000)], {"stage": "markdown"})
    assert not found.examples and found.books[0].reasons == {"HTML nested too deeply": 1}


def test_only_what_was_asked_for_is_converted() -> None:
    example = talk("why does <p>this</p> not work?", "<p>It does.</p>")
    found = cleaned([example, talk("q", "<div><button>Copy code</button></div>")], {"stage": "markdown"})
    assert [m.content for m in found.examples[0].messages] == ["why does <p>this</p> not work?", "It does."]  # type: ignore[union-attr]
    assert found.books[0].reasons == {"nothing left of its HTML": 1} and found.books[0].examples_changed == 1


def test_phrases_openings_and_lengths_remove_for_a_reason() -> None:
    examples: list[Example] = [
        talk("Who?", "As an AI language model, I ...", "and?", "x"),
        talk("Name a river", "Loire", "more", "Elbe"),
        talk("name  a river", "Loire", "others", "Rhine"),
        Pair("Name a river", "the longest of all rivers"),
        talk("As an AI language model", "fine"),
    ]
    found = cleaned(
        examples,
        {"stage": "blocked", "phrases": ["as an ai language MODEL"]},
        {"stage": "openings"},
        {"stage": "lengths", "assistant": [None, 10], "messages": [2, None]},
    )
    assert [dict(book.reasons) for book in found.books] == [
        {"blocked phrase": 1},
        {},
        {"assistant too long": 1},
    ]
    assert len(found.examples) == 3
    again = cleaned([examples[1], talk("Name a  river", "Loire", "else")], {"stage": "openings"})
    assert again.books[0].reasons == {"opening came before": 1}


def test_long_conversations_are_cut_between_exchanges() -> None:
    tokenizer = load(bundled())
    turns = [f"{'so ' * 10}{number}" for number in range(8)]
    example = Conversation((Message("system", "be kind"), *talk(*turns).messages), (), Origin(id="a"))
    found = cleaned([example, talk("hi", "ho", id="b")], {"stage": "split", "tokens": 110, "each": 2})
    pieces = [each for each in found.examples if each.origin.id != "b"]
    assert len(pieces) > 1 and [each.origin.id for each in pieces] == [f"a/{n}" for n in range(len(pieces))]
    assert {each.origin.group for each in pieces} == {"a"}
    rejoined: list[str] = []
    for piece in pieces:
        assert isinstance(piece, Conversation)
        assert [m.role for m in piece.messages[:2]] == ["system", "user"] and piece.messages[-1].role == "assistant"
        assert sum(len(tokenizer.encode(m.content, add_special=False)) + 2 for m in piece.messages) <= 110
        rejoined += [m.content for m in piece.messages[1:]]
    assert rejoined == turns
    none = cleaned([talk("so " * 500, "ho")], {"stage": "split", "tokens": 100})
    assert none.books[0].reasons == {"no exchange fits": 1}


def test_stages_of_documents_judge_all_that_is_said_and_change_each_text() -> None:
    words = "the quick brown fox jumps over a lazy dog while seven cats watch from the garden wall today"
    examples: list[Example] = [
        talk("write", f"to me@example.org: {words}"),
        talk("write", f"to me@example.org: {words}"),
        talk("write", f"to me@example.org: {words} again"),
        talk("你好", "你好，我很好"),
    ]
    found = cleaned(
        examples,
        {"stage": "exact"},
        {"stage": "minhash", "shingle": 2, "threshold": 0.6},
        {"stage": "script", "keep": ["latin"]},
        {"stage": "pii", "kinds": ["email"]},
    )
    assert [sum(book.reasons.values()) for book in found.books] == [1, 1, 1, 0]
    assert found.examples == [talk("write", f"to <EMAIL>: {words}")]
    assert found.books[-1].changes == {"email": 1}


RECIPE = "of: examples\nstages:\n  - {stage: markdown}\n  - {stage: blocked, phrases: [sorry]}\n"


def test_the_verb_writes_the_file_and_its_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chats = [
        {"id": str(n), "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": text}]}
        for n, text in enumerate([PAGE, "Sorry, no.", "yes"])
    ]
    (tmp_path / "raw.json").write_text(json.dumps(chats))
    (tmp_path / "clean.yaml").write_text(RECIPE)
    words = ["data", "clean", str(tmp_path / "raw.json"), "-r", str(tmp_path / "clean.yaml"), "-o"]
    target = tmp_path / "out.jsonl"
    assert run([*words, str(target)]) == 0
    said = capsys.readouterr().out
    assert "blocked phrase" in said and "2 examples as 2 records of messages" in said
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert (manifest["examples_in"], manifest["examples_out"]) == (3, 2)
    before = target.read_bytes()
    assert run([*words, str(target)]) == 2 and "--force" in capsys.readouterr().err
    assert run([*words, str(target), "--force", "--show-removed", "blocked phrase"]) == 0
    assert "Sorry, no." in capsys.readouterr().out and target.read_bytes() == before
    assert run([*words, str(tmp_path / "dry.jsonl"), "--dry-run", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples_in"] == 2 and not (tmp_path / "dry.jsonl").exists()


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ("[{stage: markdwon}]", "did you mean 'markdown'"),
        ("[{stage: stackexchange}]", "is for documents"),
        ("[{stage: split, tokens: 2}]", "tokens"),
        ("[{stage: lengths, user: [9, 1]}]", "least and a most"),
        ("[{stage: quality, annotate: true}]", "annotate"),
        ("[]", "stages"),
    ],
)
def test_recipes_that_cannot_be_meant_are_refused(
    stages: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (tmp_path / "clean.yaml").write_text(f"of: examples\nstages: {stages}\n")
    words = ["data", "clean", str(tmp_path / "raw.jsonl"), "-r", str(tmp_path / "clean.yaml")]
    assert run([*words, "-o", str(tmp_path / "out.jsonl")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out.jsonl").exists()
