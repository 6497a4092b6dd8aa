"""Calls of tools and thoughts in a model's text: what is found does not depend on where the pieces end."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from paddock.tokenizer.callreader import CallReader, python_arguments
from paddock.tokenizer.jsontext import Malformed
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_registry import entries, registered
from paddock.tokenizer.thoughts import KNOWN, Tags, ThoughtReader, tags_of
from paddock.tokenizer.toolcalls import FORMATS, PLAIN, Format, format_of, history, short_id, wants_data

NAMES = ("f", "get_weather", "f2")
BY_NAME = {form.name: form for form in (*FORMATS, PLAIN)}
Calls = dict[int, tuple[str | None, str]]


def read(form: Format, pieces: Iterable[str], most: int = 16, live: bool = False) -> tuple[str, Calls]:
    reader = form.reader(NAMES, most, live)
    said = [*(reader.push(piece) for piece in pieces), reader.finish()]
    calls: Calls = {}
    for piece in itertools.chain.from_iterable(one.calls for one in said):
        name, arguments = calls.get(piece.index, (None, ""))
        assert (name is None) != (piece.name is None), "the name comes with the first piece, and once"
        calls[piece.index] = (name or piece.name, arguments + piece.arguments)
    assert list(calls) == list(range(len(calls)))
    return "".join(one.text for one in said), calls


def cuts(text: str) -> Iterable[list[str]]:
    """In two at every place, and letter by letter."""
    for place in range(len(text) + 1):
        yield [text[:place], text[place:]]
    yield list(text)


F = ("f", '{"a": 1}')
CASES: list[tuple[str, str, str, list[tuple[str, str]]]] = [
    ("hermes", "no calls here", "no calls here", []),
    ("hermes", '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', "", [F]),
    ("hermes", 'Let me see. <tool_call>{"name":"f","arguments":{"a": 1}}</tool_call>', "Let me see. ", [F]),
    (
        "hermes",
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n<tool_call>\n'
        '{"arguments": {"x": "}\\"</tool_call>\\\\"}, "name": "f2", "id": [1]}\n</tool_call>\n',
        "",
        [F, ("f2", '{"x": "}\\"</tool_call>\\\\"}')],
    ),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 1}}', "", [F]),
    ("hermes", '<tool_call>{"name": "f"}</tool_call> done', " done", [("f", "{}")]),
    ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [F]),
    ("hermes", '<tool_call><tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>', "<tool_call>", [F]),
    ("hermes", "  \n text", "  \n text", []),
    ("hermes", " \n", " \n", []),
    ("mistral-list", '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}]', "", [F]),
    (
        "mistral-list",
        '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}, "id": "abcdefghi"}, {"name": "f2", "arguments": {}}]',
        "",
        [F, ("f2", "{}")],
    ),
    ("mistral-list", '[[TOOL_CALLS]{"name": "f", "arguments": {"a": 1}}', "[", [F]),
    ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]f2[CALL_ID]abcdefghi[ARGS]{}', "", [F, ("f2", "{}")]),
    ("mistral", 'Yes.[TOOL_CALLS]f{"a": 1}', "Yes.", [F]),
    ("llama", '{"name": "f", "parameters": {"a": 1}}', "", [F]),
    ("llama", '\n<|python_tag|>{"name": "f", "parameters": {"a": 1}}', "", [F]),
    (
        "llama",
        '{"name": "f", "parameters": {"a": 1}}; {"name": "f2", "parameters": {}}',
        "",
        [F, ("f2", "{}")],
    ),
    ("llama", 'So: {"name": "f", "parameters": {"a": 1}}', 'So: {"name": "f", "parameters": {"a": 1}}', []),
    ("json", '{"name": "f", "arguments": {"a": 1}}', "", [F]),
    ("json", '{"answer": 1}', '{"answer": 1}', []),
    ("glm", 'f\n{"a": 1}', "", [F]),
    ("glm", '\nf2\n{"a": 1}\n', "", [("f2", '{"a": 1}')]),
    ("glm", "f2 is a function", "f2 is a function", []),
    ("glm", "f\nis one too", "f\nis one too", []),
    (
        "glm",
        'f\n```python\ntool_call(a=1, b="x", c=[True, None])\n```',
        "",
        [("f", '{"a": 1, "b": "x", "c": [true, null]}')],
    ),
    ("glm", "f\n```python\ntool_call(a=open('x'))\n```", "f\n```python\ntool_call(a=open('x'))\n```", []),
]


@pytest.mark.parametrize(("name", "text", "said", "calls"), CASES)
def test_what_is_found_wherever_the_pieces_end(name: str, text: str, said: str, calls: list[tuple[str, str]]) -> None:
    expected = (said, dict(enumerate(calls)))
    assert read(BY_NAME[name], [text]) == expected
    for pieces in cuts(text):
        assert read(BY_NAME[name], pieces) == expected, pieces
        assert read(BY_NAME[name], pieces, live=True) == expected, pieces


BROKEN = [
    '<tool_call>{"name": "g", "arguments": {}}</tool_call>',  # no such tool
    '<tool_call>{"name": "f", "arguments": {"a": 1}',
    '<tool_call>{"name": "f", "arguments": {"a": 01}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
    '<tool_call>{"name": "f", "arguments": {"a": "\n"}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": "no JSON"}</tool_call>',
    '<tool_call>{"arguments": {}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": {"a": 1,}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": {"a": "\\x"}}</tool_call>',
    "<tool_call>" + '{"name": "f", "arguments": ' + '{"a": ' * 70 + "1" + "}" * 71 + "</tool_call>",
    "<tool_call",
    "<tool_call>",
    "</tool_call>",
]


@pytest.mark.parametrize("text", BROKEN)
def test_a_call_that_is_none_is_given_back_letter_by_letter(text: str) -> None:
    for pieces in [[text], *cuts("x " + text + " y")]:
        assert read(BY_NAME["hermes"], pieces) == ("".join(pieces), {})


@pytest.mark.parametrize("name", BY_NAME)
def test_random_text_is_never_lost_and_never_depends_on_its_pieces(name: str) -> None:
    form, rng = BY_NAME[name], random.Random(name)
    whole_call = f'{{"name": "f", "{form.key}": {{"a": 1}}}}'
    parts = [
        form.open, form.close, *form.marks, whole_call, whole_call, f"{form.open}{whole_call}", '{"a": 1}', "f", "f\n",
        '{"name": "f", "', "\n", " ", "[", "]", "{", "}", ";", ", ", '"', "\\", '{"name": "g", "arguments": {}}',
        "你好", "🙂", "```python\n", "tool_call(a=1)", "```", "1", "<", "</",
    ]  # fmt: skip
    found = 0
    for _ in range(800):
        text = "".join(rng.choice(parts) for _ in range(rng.randint(1, 9)))
        places = sorted(rng.sample(range(len(text) + 1), min(len(text) + 1, 4)))
        pieces = [text[a:b] for a, b in itertools.pairwise([0, *places, len(text)])]
        for live in (False, True):
            whole = read(form, [text], live=live)
            assert read(form, pieces, live=live) == whole == read(form, list(text), live=live), text
        said, calls = read(form, pieces)
        found += len(calls)
        for _, arguments in calls.values():
            assert isinstance(json.loads(arguments), dict)
        if not calls:
            assert said == text
        else:
            assert len(said.strip()) < len(text)
        nobody = CallReader(form.shape, [], form.open, form.close)
        assert "".join(nobody.push(piece).text for piece in pieces) + nobody.finish().text == text
    assert found > 5


def test_one_call_at_most_leaves_the_second_as_text() -> None:
    call = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    for pieces in cuts(call + "\n" + call):
        assert read(BY_NAME["hermes"], pieces, most=1) == ("\n" + call, {0: F})


def test_arguments_come_as_they_are_written_where_a_grammar_vouches() -> None:
    reader = BY_NAME["hermes"].reader(NAMES, live=True)
    told = [reader.push(letter).calls for letter in '<tool_call>\n{"name": "f", "arguments": {"a": "long"']
    pieces = [piece.arguments for one in told for piece in one]
    assert len([piece for piece in pieces if piece]) == len('{"a": "long"') and "".join(pieces) == '{"a": "long"'
    assert reader.finish().text == ""  # cut off, and nothing of it said twice


def test_long_texts_take_their_time_once() -> None:
    form = BY_NAME["hermes"]
    for text in (
        '<tool_call>{"name": "' * 8000,
        '<tool_call>{"name": "f", "arguments": {"a": "' + "x" * 200_000,
        "<" * 200_000,
    ):
        started = time.process_time()
        pieces = [text[place : place + 4] for place in range(0, len(text), 4)]
        assert read(form, pieces) == (text, {})
        assert time.process_time() - started < 8


def test_python_arguments_are_plain_values() -> None:
    assert python_arguments(" tool_call(a=-1, b={'x': (1, 2)})\n") == '{"a": -1, "b": {"x": [1, 2]}}'
    for source in (
        "f(1)",
        "f(**{})",
        "f",
        "f(a=b)",
        "f(a={1})",
        "f(a=1j)",
        "(",
        "f(a=" + "(" * 500 + ")" * 500 + ")",
        "f(a=1e999)",
    ):
        with pytest.raises(Malformed):
            python_arguments(source)


# --- thoughts ----------------------------------------------------------------------------------------------------

THOUGHTS = [
    ("<think>\nwell\n\nyes\n</think>\n\nHello </think>", False, "well\n\nyes", "Hello </think>"),
    ("well</think>Hello", True, "well", "Hello"),
    ("  <think></think>\n", False, "", ""),
    ("Hello <think>no</think>", False, "", "Hello <think>no</think>"),
    ("<thin", False, "", "<thin"),
    ("", False, "", ""),
    ("\n\n", True, "", ""),
    ("<think>cut </thi", False, "cut </thi", ""),
    ("a </think", True, "a </think", ""),
    (" \n a", False, "", " \n a"),
]


@pytest.mark.parametrize(("text", "opened", "thought", "answer"), THOUGHTS)
def test_thoughts_wherever_the_pieces_end(text: str, opened: bool, thought: str, answer: str) -> None:
    for pieces in cuts(text):
        reader = ThoughtReader(KNOWN[0], opened)
        said = [*(reader.push(piece) for piece in pieces), reader.finish()]
        found = "".join(one for one, _ in said), "".join(one for _, one in said)
        assert (found[0].strip(), found[1]) == (thought.strip(), answer), pieces


def test_the_tags_are_those_of_the_template() -> None:
    assert tags_of(registered("deepseek-r1")) == Tags("<think>", "</think>")
    assert tags_of(template("{{ '[THINK]' }}")) == Tags("[THINK]", "[/THINK]")
    assert tags_of(registered("chatml")) is None


# --- templates ---------------------------------------------------------------------------------------------------


def template(source: str) -> Template:
    return Template(
        source + "{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}{% if tools %}{% endif %}", bundled=True
    )


def test_a_template_s_tags_tell_its_format() -> None:
    for source, name in (
        ("<tool_call>{{ tools }}</tool_call>", "hermes"),
        ("[AVAILABLE_TOOLS][TOOL_CALLS] [", "mistral-list"),
        ("[TOOL_CALLS]x[ARGS]", "mistral"),
        ("<|start_header_id|>", "llama"),
        ("<|observation|>", "glm"),
        ("<tool_call>x<arg_key>", "json"),
        ("<tool_call><function=", "json"),
        ("", "json"),
    ):
        assert format_of(template(source)).name == name, source


def test_no_bundled_template_takes_tools_in_a_format_nobody_reads() -> None:
    for name in entries():
        found = registered(name)
        assert not found.takes_tools or format_of(found) is not PLAIN


TURN = "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls or [] %}"
END = "{% endfor %}\n{% endfor %}{% if tools %}{% endif %}"
STYLES: dict[str, tuple[str, bool]] = {
    "tojson": (TURN + "{{ c.function.arguments | tojson }}" + END, True),
    "whole function": (TURN + "{{ c.function | tojson }}" + END, True),
    "members": (TURN + "{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}" + END, True),
    "text": (TURN + "{{ c.function.name + '\\n' + c.function.arguments }}" + END, False),
    "either": (
        TURN + "{% if c.function.arguments is string %}{{ c.function.arguments }}{% else %}"
        "{{ c.function.arguments | tojson }}{% endif %}" + END,
        True,
    ),
}


@pytest.mark.parametrize("style", STYLES)
def test_arguments_are_data_or_text_as_the_template_has_it(style: str) -> None:
    source, data = STYLES[style]
    one = Template(source, bundled=True)
    assert wants_data(one) == data
    for arguments in ('{"a": "你好"}', {"a": "你好"}):
        turns = history(one, conversation(arguments))
        found = turns[1]["tool_calls"][0]["function"]["arguments"]
        assert found == ({"a": "你好"} if data else '{"a": "你好"}')
        assert "你好" in one.render(turns)
    if style != "members":
        turns = history(one, conversation("no JSON"))
        assert turns[1]["tool_calls"][0]["function"]["arguments"] == "no JSON"


def conversation(arguments: Any) -> list[dict[str, Any]]:
    call = {"id": "call_0123456789", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0123456789", "content": "!"},
    ]


def test_ids_are_short_where_the_template_takes_no_others_and_a_tool_is_named() -> None:
    source = (
        "[TOOL_CALLS]"
        + TURN
        + "{% if c.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}{{ c.id }}{{ c | tojson }}"
        "{% endfor %}{% if m.role == 'tool' %}{{ m.tool_call_id }}{{ m.name }}{% endif %}{% endfor %}"
        "{% if tools %}{% endif %}"
    )
    one = Template(source, bundled=True)
    turns = history(one, conversation("{}"))
    assert turns[1]["tool_calls"][0]["id"] == turns[2]["tool_call_id"] == short_id("call_0123456789")
    assert turns[2]["name"] == "f" and one.render(turns)
    assert short_id("abcDEF123") == "abcDEF123" and short_id("a") != short_id("b")
    assert conversation("{}")[2].keys() == {"role", "tool_call_id", "content"}  # what came in is not changed


def test_a_template_that_knows_calls_as_turns_gets_turns() -> None:
    one = Template(
        "{% for m in messages %}<|{{ m.role }}|>{{ m.metadata or '' }}\n{{ m.content }}{% endfor %}<|observation|>",
        bundled=True,
    )
    assert one.render(history(one, conversation('{"a": 1}'))) == (
        '<|user|>\n?<|assistant|>f\n{"a": 1}<|observation|>\n!<|observation|>'
    )


def test_a_conversation_without_calls_stays_as_it_is() -> None:
    turns: Sequence[dict[str, Any]] = [{"role": "user", "content": "?"}]
    assert history(registered("chatml"), turns) == turns
    for broken in (
        ["user"],
        [None],
        [{"role": "assistant", "tool_calls": 5}],
        [{"role": "assistant", "tool_calls": [5]}],
    ):
        assert history(registered("chatml"), broken) == broken  # type: ignore[arg-type]
