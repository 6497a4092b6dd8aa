"""A chat template's source: where each token stands, and what can be refused by reading alone.

Jinja knows the line of an error and not its column. `positioned` sets every token inside a tag on a line of its own
(blanks inside tags mean nothing in Jinja, so the text that is rendered is the same) and keeps a table from these lines
back to the lines and columns of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.parser import Parser

from paddock.errors import TemplateError, nearest
from paddock.tokenizer.template_guards import MAX_WIDTH, RefusedError, check_braces, check_percent
from paddock.tokenizer.template_sandbox import sandbox

MAX_SOURCE = 256 * 1024  # characters
MAX_NODES = 12_000
MAX_TOKENS = 30_000  # blanks counted too; the largest published templates have a third of it
MAX_DEPTH = 150  # Python's own compiler stops at 200 nested brackets
MAX_RANGE = 100_000
MAX_NESTED_RANGE = 1_000_000
MAX_EXPONENT = 64

Place = tuple[int, int]  # line and column in the file, from 1


@dataclass(frozen=True)
class Source:
    """A template that may be compiled, and what reading it tells.

    `text` is the source with a token a line; `places[i]` is where line i + 1 of it stands in the file.
    `options`: variables it expects from outside. `words`: every attribute, key and string it mentions.
    `takes_parts`: it goes through the parts of a message's content itself. `reads_all`: it prints whole messages.
    """

    text: str
    places: list[Place]
    options: frozenset[str]
    words: frozenset[str]
    takes_parts: bool
    reads_all: bool


def fail(name: str, what: str, place: Place | None, fix: str | None = None) -> TemplateError:
    """The refusal of template `name`, with line and column where they are known."""
    where = f", line {place[0]}, column {place[1]}" if place else ""
    return TemplateError(f"chat template {name!r}{where}: {what}", fix=fix)


def read_source(text: str, name: str) -> Source:
    """Parses and inspects `text`; TemplateError names the line and column of what is wrong."""
    if len(text) > MAX_SOURCE:
        raise fail(name, f"has {len(text)} characters (the limit is {MAX_SOURCE})", None)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise fail(name, "holds a lone surrogate, which is not text", None, "save the file as UTF-8 again")
    spread, places = positioned(text, name)
    parser = Parser(sandbox(), spread, name)
    try:
        tree = parser.parse()
    except TemplateSyntaxError as error:
        raise fail(name, f"syntax error: {error.message}", place_of(places, error.lineno)) from None
    except RecursionError:
        place = place_of(places, parser.stream.current.lineno)
        raise fail(name, "is nested too deeply", place) from None
    except (ValueError, OverflowError, MemoryError) as error:  # a number of thousands of digits
        raise fail(name, f"cannot be read: {error}", None) from None
    return _inspect(tree, spread, places, name)


def place_of(places: list[Place], line: int | None) -> Place | None:
    return places[line - 1] if line is not None and 0 < line <= len(places) else None


def positioned(text: str, name: str) -> tuple[str, list[Place]]:
    """The source with each token inside a tag on its own line, and where each of those lines was."""
    text = re.sub(r"\r\n|\r", "\n", text)
    out: list[str] = []
    places: list[Place] = [(1, 1)]
    cursor, line, start = 0, 1, 0  # what is copied so far; its last line and where that line begins

    def copy(end: int) -> None:
        nonlocal cursor, line, start
        out.append(text[cursor:end])
        for newline in re.finditer("\n", text[cursor:end]):
            line, start = line + 1, cursor + newline.end()
            places.append((line, 1))
        cursor = end

    inside = False
    try:
        for number, (_, kind, value) in enumerate(sandbox().lexer.tokeniter(text, name)):
            if number == MAX_TOKENS:
                raise fail(name, f"is too large a program (more than {MAX_TOKENS} tokens)", (line, cursor - start + 1))
            at = text.index(value, cursor)  # what lies between is blanks that a `-` ate
            copy(at)
            if inside and kind != "whitespace" and not kind.endswith("_end"):
                out.append("\n")
                places.append((line, at - start + 1))
            copy(at + len(value))
            if kind in ("block_begin", "variable_begin"):
                inside = True
            elif kind in ("block_end", "variable_end"):
                inside = False
    except TemplateSyntaxError as error:
        message = re.sub(r" at \d+$", "", str(error.message))  # a place among all characters; ours is better
        raise fail(name, f"syntax error: {message}", (line, cursor - start + 1)) from None
    copy(len(text))
    return "".join(out), places


# --- inspection --------------------------------------------------------------------------------------------------

FORBIDDEN: dict[type[nodes.Node], str] = {
    nodes.Extends: "extends another file",
    nodes.Include: "includes another file",
    nodes.Import: "imports another file",
    nodes.FromImport: "imports another file",
    nodes.Block: "defines a block, which only means something with other files",
}
WIDE_METHODS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "indent", "batch", "slice"})
PROVIDED = frozenset({"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"})


def _walk(tree: nodes.Node) -> Iterator[tuple[nodes.Node, int]]:
    """Every node with its depth, without recursion."""
    stack = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        stack.extend((child, depth + 1) for child in node.iter_child_nodes())


def _inspect(tree: nodes.Template, spread: str, places: list[Place], name: str) -> Source:
    found: list[nodes.Node] = []
    for node, depth in _walk(tree):
        reason = _refusal(node)
        if depth > MAX_DEPTH:
            reason = "is nested too deeply"
        elif len(found) >= MAX_NODES:
            reason = f"is too large a program (more than {MAX_NODES} parts)"
        if reason:
            raise fail(name, reason, place_of(places, node.lineno))
        found.append(node)
    return Source(
        text=spread,
        places=places,
        options=_options(found),
        words=_words(found),
        takes_parts=_takes_parts(found),
        reads_all=_reads_all(found),
    )


def _refusal(node: nodes.Node) -> str | None:
    """Why a template with this node is not run at all, or None. What depends on values is left to the sandbox."""
    if type(node) in FORBIDDEN:
        return FORBIDDEN[type(node)]
    if isinstance(node, nodes.Name) and (node.name in ("self", "super") or node.name.startswith("__")):
        return f"reads {node.name!r}, which reaches Jinja's own objects"
    if isinstance(node, nodes.Getattr | nodes.Getitem):
        key = node.attr if isinstance(node, nodes.Getattr) else _constant(node.arg)
        if isinstance(key, str) and key.startswith("_"):
            return f"reads the private attribute {key!r}"
    if isinstance(node, nodes.Filter):
        return _filter_refusal(node)
    if isinstance(node, nodes.BinExpr):
        return _operator_refusal(node)
    if isinstance(node, nodes.Call):
        return _call_refusal(node)
    if isinstance(node, nodes.For) and _nested_range(node) > MAX_NESTED_RANGE:
        return f"loops more than {MAX_NESTED_RANGE} times"
    return None


def _constant(node: nodes.Node | None) -> object:
    """The value of a literal number or string, a sign before it included; None for anything else."""
    if isinstance(node, nodes.Const):
        return node.value
    if isinstance(node, nodes.Neg) and isinstance(value := _constant(node.node), int | float):
        return -value
    return None


def _numbers(arguments: list[nodes.Expr]) -> list[float]:
    return [value for node in arguments if isinstance(value := _constant(node), int | float)]


def _wide(pattern: object, braces: bool) -> str | None:
    try:
        if isinstance(pattern, str):
            (check_braces if braces else check_percent)(pattern)
    except RefusedError as error:
        return str(error)
    return None


def _filter_refusal(node: nodes.Filter) -> str | None:
    if node.name not in sandbox().filters:
        hint = nearest(node.name, sandbox().filters)
        return f"uses the filter {node.name!r}, which chat templates do not get" + (
            f" (did you mean {hint!r}?)" if hint else ""
        )
    if node.name in WIDE_METHODS and any(abs(value) > MAX_WIDTH for value in _numbers(node.args)):
        return f"asks the filter {node.name!r} for a width above {MAX_WIDTH}"
    return _wide(_constant(node.node), braces=False) if node.name == "format" else None


def _operator_refusal(node: nodes.BinExpr) -> str | None:
    if isinstance(node, nodes.Mul) and any(abs(value) > MAX_WIDTH for value in _numbers([node.left, node.right])):
        return f"multiplies by more than {MAX_WIDTH}"
    if isinstance(node, nodes.Pow) and any(abs(value) > MAX_EXPONENT for value in _numbers([node.right])):
        return f"raises to a power above {MAX_EXPONENT}"
    return _wide(_constant(node.left), braces=False) if isinstance(node, nodes.Mod) else None


def _call_refusal(node: nodes.Call) -> str | None:
    function = node.node
    if isinstance(function, nodes.Name) and function.name == "range" and _range_length(node) > MAX_RANGE:
        return f"counts a range of more than {MAX_RANGE}"
    if isinstance(function, nodes.Getattr):
        if function.attr in WIDE_METHODS and any(abs(value) > MAX_WIDTH for value in _numbers(node.args)):
            return f"asks {function.attr!r} for a width above {MAX_WIDTH}"
        if function.attr == "format":
            return _wide(_constant(function.node), braces=True)
    return None


def _range_length(node: nodes.Node) -> int:
    """How often `range(...)` of literal numbers counts; 1 for anything else."""
    if not (isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "range"):
        return 1
    numbers = [value for value in _numbers(node.args) if isinstance(value, int)]
    if not numbers or len(numbers) != len(node.args) or len(numbers) > 3 or (len(numbers) == 3 and numbers[2] == 0):
        return 1
    counted = range(*numbers)
    return (counted[-1] - counted[0]) // counted.step + 1 if counted else 0  # len() stops at 2^63


def _nested_range(node: nodes.For) -> int:
    total, pending = _range_length(node.iter), [(child, 1) for child in node.body]
    best = 1
    while pending:
        child, product = pending.pop()
        if isinstance(child, nodes.For):
            product *= _range_length(child.iter)
        best = max(best, product)
        pending.extend((grandchild, product) for grandchild in child.iter_child_nodes())
    return total * best


# --- what the template reads -------------------------------------------------------------------------------------


def _options(found: list[nodes.Node]) -> frozenset[str]:
    """Names that must come from outside: read but never set, or asked `is defined` before a default is set."""
    names = [node for node in found if isinstance(node, nodes.Name)]
    kept = {node.name for node in names if node.ctx == "load"} - {node.name for node in names if node.ctx != "load"}
    macros = {node.name for node in found if isinstance(node, nodes.Macro)}
    asked = {
        node.node.name
        for node in found
        if isinstance(node, nodes.Test) and node.name in ("defined", "undefined") and isinstance(node.node, nodes.Name)
    }
    given = {"loop", "caller", "varargs", "kwargs", "strftime_now"} | macros | set(sandbox().globals)
    return frozenset((kept | asked) - given)


def _words(found: list[nodes.Node]) -> frozenset[str]:
    attributes = {node.attr for node in found if isinstance(node, nodes.Getattr)}
    return frozenset(attributes | {str(node.value) for node in found if isinstance(node, nodes.Const)})


def _mentions_content(node: nodes.Node, names: set[str]) -> bool:
    for part, _ in _walk(node):
        if isinstance(part, nodes.Getattr) and part.attr == "content":
            return True
        if isinstance(part, nodes.Getitem) and _constant(part.arg) == "content":
            return True
        if isinstance(part, nodes.Name) and part.name in names:
            return True
    return False


def _takes_parts(found: list[nodes.Node]) -> bool:
    """Whether some loop goes through a message's content (directly, or through a variable set from it)."""
    names = {
        node.target.name
        for node in found
        if isinstance(node, nodes.Assign)
        and isinstance(node.target, nodes.Name)
        and isinstance(node.node, nodes.Getattr | nodes.Getitem)
        and _mentions_content(node.node, set())
    }
    loops = [node for node in found if isinstance(node, nodes.For)]
    return any(
        isinstance(loop.iter, nodes.Getattr | nodes.Getitem | nodes.Name) and _mentions_content(loop.iter, names)
        for loop in loops
    )


def _reads_all(found: list[nodes.Node]) -> bool:
    """Whether whole messages are printed (`message | tojson`, `message.items()`), so that every key of them counts."""
    holders = {"messages", "message", "msg"} | {
        node.target.name for node in found if isinstance(node, nodes.For) and isinstance(node.target, nodes.Name)
    }
    for node in found:
        subject = node.node if isinstance(node, nodes.Filter | nodes.Getattr) else None
        whole = isinstance(subject, nodes.Name) and subject.name in holders - {"tool", "tools", "tool_call"}
        if whole and isinstance(node, nodes.Filter) and node.name in ("tojson", "items", "dictsort", "string"):
            return True
        if whole and isinstance(node, nodes.Getattr) and node.attr in ("items", "values"):
            return True
    return False
