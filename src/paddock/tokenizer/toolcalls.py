"""How a model's format spells calls of tools: told by its chat template, read from its text, forced by a grammar.

The format belongs to the template, which is what the model was trained with. A template of a model's own folder says
by its tags which format it is of; one whose tags nobody knows gets plain JSON.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paddock.errors import TemplateError
from paddock.tokenizer.callreader import MOST, CallReader, Shape, is_object
from paddock.tokenizer.template import Template
from paddock.tokenizer.tokenizer import Tokenizer

Message = dict[str, Any]
PROBE, PROBE_ID = "Paddock", "abcdefghi"
SHORT_ID = re.compile(r"[A-Za-z0-9]{9}\Z")


@dataclass(frozen=True)
class Format:
    """How calls are spelt. `shape`, `open` and `close` are those of `CallReader`.

    key: what the arguments are called. named: the name stands outside of the JSON, with `named` behind it. marks: other
    control tokens that the spelling uses. tells: what of a template's text says that it is this format; all of it.
    short_ids: its templates take no ids but those of nine letters and digits.
    """

    name: str
    shape: Shape
    tells: tuple[str, ...] = ()
    open: str = ""
    close: str = ""
    key: str = "arguments"
    named: str | None = None
    marks: tuple[str, ...] = ()
    short_ids: bool = False

    def reader(self, names: Collection[str], most: int = MOST, live: bool = False) -> CallReader:
        """What finds the calls of tools `names` in one answer. live: a grammar vouches for the calls."""
        return CallReader(self.shape, names, self.open, self.close, most, live)

    def shown(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Ids of control tokens that must be told in the text, as they are part of the spelling."""
        ids = [tokenizer.id_of(tag) for tag in (self.open, self.close, *self.marks) if tag]
        return tuple(id for id in ids if id is not None and tokenizer.is_control(id))

    def rules(self, tools: Mapping[str, Any], most: int, tag: Callable[[str], str]) -> str:
        """Rules of a Lark grammar, `calls` the first, of one to `most` calls of `tools` (their names and the JSON
        schemas of their arguments). `tag` spells a tag in that language."""
        lines = []
        for place, (name, schema) in enumerate(tools.items()):
            lines.append(f"call{place}: {self._call(name, place, tag)}")
            lines.append(f"arguments{place}: %json {json.dumps(schema, ensure_ascii=False)}")
        one = " | ".join(f"call{place}" for place in range(len(tools)))
        return "\n".join([f"calls: {self._calls(most, tag)}", f"one: {one}", *lines])

    def _call(self, name: str, place: int, tag: Callable[[str], str]) -> str:
        if self.named is None:
            before = f'{{"name": {json.dumps(name, ensure_ascii=False)}, "{self.key}": '
            return f'{_quoted(before)} arguments{place} "}}"'
        between = tag(self.named) if self.named in self.marks else _quoted(self.named)
        return f"{_quoted(name)} {between} arguments{place}"

    def _calls(self, most: int, tag: Callable[[str], str]) -> str:
        more = f"{{0,{most - 1}}}"
        if self.shape == "tagged":
            whole = f'{tag(self.open)} "\\n" one "\\n" {tag(self.close)}'
            return whole if most == 1 else f'{whole} ("\\n" {whole}){more}'
        if self.shape == "mistral" and self.named is not None:
            return f"({tag(self.open)} one){{1,{most}}}"
        if self.shape == "mistral":
            rest = "" if most == 1 else f' (", " one){more}'
            return f'{tag(self.open)} " "? "[" one{rest} "]"'
        return "one" if most == 1 or self.shape == "glm" else f'one ("; " one){more}'


# The first whose marks a template has is taken.
FORMATS = (
    Format(
        "mistral", "mistral", ("[TOOL_CALLS]", "[ARGS]"), "[TOOL_CALLS]", named="[ARGS]", marks=("[ARGS]", "[CALL_ID]"),
        short_ids=True,
    ),
    Format("mistral-list", "mistral", ("[TOOL_CALLS]",), "[TOOL_CALLS]", short_ids=True),
    Format("llama", "bare", ("<|start_header_id|>",), "<|python_tag|>", key="parameters"),
    Format("hermes", "tagged", ("<tool_call>",), "<tool_call>", "</tool_call>"),
    Format("glm", "glm", ("<|observation|>",), named="\n"),
)  # fmt: skip
PLAIN = Format("json", "bare")
OTHERS = ("<arg_key>", "<function=", "<function_calls>")  # calls with these look like one of ours, and are none


def format_of(template: Template) -> Format:
    """The format of a template's model; plain JSON where its text shows none that is known."""
    source = template.source
    if any(tag in source for tag in OTHERS):
        return PLAIN
    return next((form for form in FORMATS if all(tag in source for tag in form.tells)), PLAIN)


def history(template: Template, messages: Sequence[Message]) -> list[Message]:
    """The conversation with earlier calls as the template wants them.

    Arguments are data or text, ids are short where it takes no others, a tool's answer names the tool; and a template
    that knows calls as turns of their own (GLM's, with the name as `metadata`) gets them so. Arguments that are no JSON
    object stay as they are.
    """
    if not all(isinstance(message, Mapping) for message in messages):  # which rendering them will refuse
        return list(messages)
    if not any(message.get("tool_calls") or message.get("tool_call_id") for message in messages):
        return list(messages)
    names = {call.get("id"): function.get("name") for call, function in _calls_of(messages)}
    words = template.read.words
    if "tool_calls" not in words and "metadata" in words:
        return [turn for message in messages for turn in _turns(message)]
    short, data = format_of(template).short_ids, wants_data(template)
    return [_turn(message, names, short, data) for message in messages]


def _calls_of(messages: Sequence[Message]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Every call of the conversation, and its function."""
    for message in messages:
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list | tuple) else ():
            if isinstance(call, Mapping) and isinstance(call.get("function"), Mapping):
                yield call, call["function"]


def _turns(message: Message) -> Iterator[Message]:
    if message.get("role") == "tool":
        yield {"role": "observation", "content": message.get("content") or ""}
        return
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    calls = list(_calls_of([message]))
    if rest.get("content") or not calls:
        yield rest
    for _, function in calls:
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        yield {"role": "assistant", "metadata": function.get("name"), "content": text}


def _turn(message: Message, names: Mapping[Any, Any], short: bool, data: bool) -> Message:
    turn = dict(message)
    id = turn.get("tool_call_id")
    if turn.get("role") == "tool" and turn.get("name") is None and names.get(id) is not None:
        turn["name"] = names[id]
    if short and isinstance(id, str):
        turn["tool_call_id"] = short_id(id)
    if isinstance(turn.get("tool_calls"), list | tuple):
        turn["tool_calls"] = [_earlier(call, short, data) for call in turn["tool_calls"]]
    return turn


def _earlier(call: Any, short: bool, data: bool) -> Any:
    if not isinstance(call, Mapping):
        return call
    call = dict(call)
    if short and isinstance(call.get("id"), str):
        call["id"] = short_id(call["id"])
    function = call.get("function")
    if isinstance(function, Mapping):
        function = dict(function)
        arguments = function.get("arguments")
        if data and isinstance(arguments, str) and is_object(arguments):
            function["arguments"] = json.loads(arguments)
        elif not data and isinstance(arguments, Mapping):
            function["arguments"] = json.dumps(arguments, ensure_ascii=False)
        call["function"] = function
    return call


def short_id(id: str) -> str:
    """Nine letters and digits that stand for `id`, the same each time."""
    return id if SHORT_ID.match(id) else hashlib.sha256(id.encode("utf-8", "replace")).hexdigest()[:9]


@functools.lru_cache(maxsize=64)
def wants_data(template: Template) -> bool:
    """Whether the template writes a call's arguments itself (`tojson`), or puts in a text that is JSON already.

    Found by rendering a call both ways: right is the one in which the object stands as JSON.
    """
    return _shows_object(template, {PROBE: PROBE}) or not _shows_object(template, json.dumps({PROBE: PROBE}))


def _shows_object(template: Template, arguments: Any) -> bool:
    function = {"name": "probe", "arguments": arguments}
    messages: list[Message] = [
        {"role": "user", "content": "?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": PROBE_ID, "type": "function", "function": function}],
        },
        {"role": "tool", "name": "probe", "tool_call_id": PROBE_ID, "content": "!"},
    ]
    try:
        text = template.render(messages, tools=[{"type": "function", "function": {"name": "probe"}}])
    except TemplateError:
        return False
    return re.search(rf'{{\s*"{PROBE}":\s*"{PROBE}"\s*}}', text) is not None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
