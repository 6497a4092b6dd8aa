"""How an answer is to be written and read: calls of tools, a form it must have, a thought before it.

    fields of a dialect ──prepare──> Manner ──bound to the prompt──> grammar for the engine, reader of what it writes

What a call looks like is the business of `tokenizer/toolcalls.py`; which calls there may be is this file's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from paddock.engine.grammar import MAX_SOURCE, OURS, Grammar, check_depth, matcher_of, styled, symbol
from paddock.errors import UsageError, did_you_mean
from paddock.serve.refusals import BadRequest
from paddock.serve.registry import Served
from paddock.serve.speech import Plain, Speech, Told
from paddock.serve.structured import refused_as
from paddock.tokenizer.callreader import MOST
from paddock.tokenizer.thoughts import Tags, ThoughtReader, end_of, tags_of
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.toolcalls import Format, format_of

MAX_TOOLS = 128
NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}\Z")
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}  # arguments of a function that takes none
Tool = Mapping[str, Any]


@dataclass(frozen=True)
class Manner:
    """How one request's answer is written and read.

    tools: what the template is told of, or None. shown: control tokens that stand in the text, for `Planner.request`.
    forced: the grammar makes calls. named: of one tool that the request names; the answer then ends with "stop".
    """

    tools: tuple[dict[str, Any], ...] | None = None
    shown: tuple[int, ...] = ()
    forced: bool = False
    named: bool = False
    grammar: Grammar | None = None
    format: Format | None = None
    names: tuple[str, ...] = ()
    most: int = MOST
    thoughts: Tags | None = None

    def bound(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> tuple[Grammar | None, Callable[[], Speech]]:
        """What the answer to a rendered prompt must be, and what makes the reader of one choice. A grammar begins
        behind the thought, which stays free, unless the prompt has ended it already."""
        tags = self.thoughts
        if tags is None:
            return self.grammar, Plain if self.format is None else partial(self._speech, None)
        end = end_of(tokenizer, tuple(prompt))
        opened, grammar = end.endswith(tags.open), self.grammar
        if grammar is not None and not end.endswith(tags.close):
            grammar = replace(grammar, behind=tags.close, opening="" if opened else tags.open)
        return grammar, partial(self._speech, partial(ThoughtReader, tags, opened))

    def _speech(self, thoughts: Callable[[], ThoughtReader] | None) -> Speech:
        calls = None if self.format is None else self.format.reader(self.names, self.most, live=self.forced)
        return Told(thoughts() if thoughts else None, calls)


def prepare(
    served: Served,
    tools: Sequence[Tool] | None = None,
    tool_choice: Any = None,
    parallel: bool | None = None,
    grammar: Grammar | None = None,
    param: str = "response_format",
) -> Manner:
    """What a request's tools and form come to, for a model that chats.

    tools: as {"type": "function", "function": {"name", "description", "parameters"}}. tool_choice: "auto", "none",
    "required" or {"type": "function", "function": {"name": ...}}; with "none" the model is told of no tools.
    parallel: False for one call at most. grammar: the form of an answer that calls nothing, which the field `param`
    asked for. Raises BadRequest for what cannot be meant, and for a template that knows no tools.
    """
    template, tokenizer = served.model.template, served.model.tokenizer
    if template is None:
        return Manner()
    thoughts = tags_of(template)
    shown = () if thoughts is None else _controls(tokenizer, (thoughts.open, thoughts.close))
    if grammar is not None:
        check_compiles(grammar, tokenizer, param)
    functions = _functions(tools or ())
    word, name = _choice(tool_choice, functions)
    if not functions or word == "none":
        return Manner(grammar=grammar, thoughts=thoughts, shown=shown)
    if not template.takes_tools:
        raise BadRequest(
            f"the chat template of {served.name!r} ({template.name}) does not know tools",
            param="tools",
            code="unsupported_parameter",
            fix='leave tools out, set tool_choice to "none", or start the server with a template that reads `tools`',
        )
    form = format_of(template)
    most = 1 if parallel is False or word == "named" else MOST
    allowed = {name: functions[name]} if word == "named" else functions
    if word != "auto":
        grammar = _calls(form, allowed, most, tokenizer)
        check_compiles(grammar, tokenizer, "tools")
    elif grammar is not None:
        grammar = _calls(form, allowed, most, tokenizer, grammar)
        check_compiles(grammar, tokenizer, param)
    return Manner(
        tools=tuple(_plain(tool) for tool in tools or ()),
        shown=tuple(dict.fromkeys((*shown, *form.shown(tokenizer)))),
        forced=word != "auto",
        named=word == "named",
        grammar=grammar,
        format=form,
        names=tuple(allowed),
        most=most,
        thoughts=thoughts,
    )


def check_compiles(grammar: Grammar, tokenizer: Tokenizer, param: str) -> None:
    """Raises BadRequest of the field that asked for a grammar which cannot be used."""

    def compiled() -> Grammar:
        matcher_of(grammar, tokenizer)
        return grammar

    refused_as(param, compiled)


def _controls(tokenizer: Tokenizer, tags: Sequence[str]) -> tuple[int, ...]:
    ids = [tokenizer.id_of(tag) for tag in tags]
    return tuple(id for id in ids if id is not None and tokenizer.is_control(id))


def _functions(tools: Sequence[Tool]) -> dict[str, dict[str, Any]]:
    """The schemas of all tools' arguments by the tools' names. Raises BadRequest."""
    if len(tools) > MAX_TOOLS:
        raise BadRequest(f"there are {len(tools)} tools", param="tools", expected=f"at most {MAX_TOOLS}")
    found: dict[str, dict[str, Any]] = {}
    for place, tool in enumerate(tools):
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, Mapping):
            raise BadRequest(f"tools.{place} is no function", param="tools", expected='{"type": "function", ...}')
        name, parameters = function.get("name"), function.get("parameters")
        if not isinstance(name, str) or not NAME.match(name):
            raise BadRequest(
                f"tools.{place} has the name {str(name)[:40]!r}", param="tools", expected="letters, digits, _ - and ."
            )
        if name in found:
            raise BadRequest(f"there are two tools called {name!r}", param="tools", fix="rename one")
        found[name] = _parameters(name, parameters)
    return found


def _parameters(name: str, parameters: Any) -> dict[str, Any]:
    if parameters is None or parameters == {}:
        return NOTHING
    what = f"the parameters of {name!r}"
    if not isinstance(parameters, dict):
        raise BadRequest(f"{what} are no JSON schema", param="tools", expected="an object")
    try:
        check_depth(parameters, what)
    except UsageError as error:
        raise BadRequest(error.what, param="tools", expected=error.expected) from None
    if OURS in parameters:
        raise BadRequest(f"{what} have the key {OURS!r}, which cannot be set", param="tools")
    if (size := len(json.dumps(parameters))) > MAX_SOURCE:
        raise BadRequest(f"{what} take {size} characters", param="tools", expected=f"at most {MAX_SOURCE}")
    return parameters


def _choice(choice: Any, functions: Mapping[str, Any]) -> tuple[str, str]:
    """("auto", "none", "required" or "named", and the name)."""
    if choice is None or choice in ("auto", "none", "required"):
        if choice == "required" and not functions:
            raise BadRequest("tool_choice is required, and there are no tools", param="tool_choice")
        return choice or "auto", ""
    function = choice.get("function") if isinstance(choice, Mapping) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise BadRequest(
            f"tool_choice is {str(choice)[:60]!r}",
            param="tool_choice",
            expected='"auto", "none", "required" or {"type": "function", "function": {"name": ...}}',
        )
    if name not in functions:
        raise BadRequest(
            f"tool_choice names {name[:60]!r}, and there is no such tool",
            param="tool_choice",
            fix=did_you_mean(name[:60], functions),
        )
    return "named", name


def _plain(tool: Tool) -> dict[str, Any]:
    """A tool as templates are used to it. `strict` is for the server, not for the model."""
    function = tool["function"]
    told = {"name": function["name"], "description": function.get("description")}
    told = {name: value for name, value in told.items() if value is not None}
    return {"type": "function", "function": {**told, "parameters": function.get("parameters") or NOTHING}}


def _calls(
    form: Format, functions: Mapping[str, Any], most: int, tokenizer: Tokenizer, otherwise: Grammar | None = None
) -> Grammar:
    """A grammar of calls; or of `otherwise`, for an answer that calls nothing."""
    schemas = {
        name: styled({**schema, "type": "object"} if "type" not in schema else schema)
        for name, schema in functions.items()
    }
    rules = form.rules(schemas, most, partial(symbol, tokenizer))
    if otherwise is None:
        return Grammar("calls", f"start: calls\n{rules}")
    body = otherwise.body()
    if "json_schema" not in body:
        raise BadRequest(
            f"a {otherwise.kind} cannot be asked for where the model may call tools",
            param="tools",
            fix="use a JSON schema, leave tools out, or set tool_choice",
        )
    schema = json.dumps(body["json_schema"], ensure_ascii=False)
    return Grammar("calls", f"start: calls | form\nform: %json {schema}\n{rules}")
