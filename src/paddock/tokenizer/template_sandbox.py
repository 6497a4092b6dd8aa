"""Jinja in a box: what a chat template may do, and how much of it.

A chat template comes with a model from anywhere, so it is a program by a stranger. It gets the language that Hugging
Face gives it (sandboxed Jinja, trimmed blocks, loop controls, `raise_exception`, `strftime_now`, `tojson` without HTML
escapes, the `{% generation %}` tag) and less of Python:

- attributes, methods, filters and globals are allow-lists, so there is nothing to climb from a string to the system;
- every operation that can make something large from something small looks at the size first;
- nothing but text, numbers, lists and dictionaries is printed.

Time, and memory gained in small steps, cannot be bounded from inside a program: `template_worker` runs this in a
process of its own for that (`template_child`). So this file imports nothing of Paddock and nothing heavy.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Never

from jinja2 import Undefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace

from paddock.tokenizer.template_guards import (
    FILTERS,
    RefusedError,
    bounded,
    check_braces,
    check_join,
    check_replace,
    check_size,
    check_width,
    guarded_filter,
    modulo,
    plus,
    power,
    times,
    to_json,
    words,
)

HEADROOM = 40 * 2**20  # bytes of memory for one render in the process for templates by strangers, beside its messages


class RaisedError(Exception):
    """The template itself called raise_exception."""


class DeadlineError(Exception):
    """The time is up."""


# --- attributes and methods --------------------------------------------------------------------------------------

STRING_METHODS = words(
    "capitalize casefold center count endswith expandtabs find format index isalnum isalpha isascii "
    "isdecimal isdigit islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix "
    "removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase "
    "title upper zfill"
)
LOOP = words("changed cycle depth depth0 first index index0 last length nextitem previtem revindex revindex0")
ATTRIBUTES: list[tuple[type, frozenset[str]]] = [
    (str, STRING_METHODS),
    (dict, frozenset({"get", "items", "keys", "values", "copy"})),
    (list, frozenset({"index", "count", "copy"})),
    (tuple, frozenset({"index", "count"})),
    (LoopContext, LOOP),
    (Cycler, frozenset({"current", "next", "reset"})),
]
METHOD_CHECKS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill", "expandtabs"), lambda _text, *args: check_width(*args)),
    "replace": check_replace,
    "join": check_join,
}
PRINTABLE: tuple[type, ...] = (
    str,
    int,
    float,
    type(None),
    list,
    tuple,
    dict,
    range,
    type({}.keys()),
    type({}.values()),
    Undefined,
)


def printable(value: Any) -> Any:
    """What `{{ }}` may print: a function or a macro would put a memory address into the prompt."""
    if not isinstance(value, (*PRINTABLE, type({}.items()))):
        raise RefusedError(f"prints a {type(value).__name__}")
    return value


class TemplateNamespace(Namespace):
    """`namespace()`, without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        Namespace.__init__(*args, **kwargs)
        for name in dict(*args[1:], **kwargs):
            TemplateNamespace._check(name)

    def __setitem__(self, name: str, value: Any) -> None:
        TemplateNamespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: object) -> None:
        if str(name).startswith("_"):
            raise RefusedError(f"stores {name!r} in a namespace")


def make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    """`dict()`, as a function: the type itself has ways out."""
    return dict(*args, **kwargs)


def raise_exception(message: Any = "") -> None:
    raise RaisedError(" ".join(str(message).split())[:500])


STRFTIME = re.compile(r"(?:[^%]|%-?[aAbBcdHIjmMpSUwWxXyYZzfeF%])*\Z")


def clock(now: datetime | None) -> Callable[[str], str]:
    """`strftime_now` for one render: `now` if given, else the machine's clock, as upstream."""

    def strftime_now(pattern: str) -> str:
        if not isinstance(pattern, str) or len(pattern) > 256 or not STRFTIME.match(pattern):
            raise RefusedError(f"asks for a date as {str(pattern)[:40]!r}")
        return (now or datetime.now()).strftime(pattern)

    return strftime_now


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}`, Hugging Face's mark around assistant text: its content is rendered."""

    tags = {"generation"}  # noqa: RUF012  Jinja declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class BoundedConcat(CodeGenerator):
    """Jinja's compiler, but `~` asks for the size first (the operators `+ * ** %` have a hook; this one has none)."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concatenated((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as chat templates get it. One instance serves any number of templates and threads."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    code_generator_class = BoundedConcat

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation], finalize=printable
        )
        self.binop_table.update({"+": plus, "*": times, "**": power, "%": modulo})
        self.filters = {name: guarded_filter(name, self.filters[name]) for name in sorted(FILTERS)}
        self.filters["tojson"] = guarded_filter("tojson", to_json)
        kept = {"range": self.globals["range"], "cycler": Cycler, "joiner": Joiner}
        self.globals.clear()
        self.globals.update(kept, dict=make_dict, namespace=TemplateNamespace, raise_exception=raise_exception)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, Namespace):
            return not attr.startswith("_")
        return any(isinstance(obj, kind) and attr in names for kind, names in ATTRIBUTES)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Never:
        """Jinja gives something undefined, which prints as nothing; a template that reaches for this is refused."""
        raise SecurityError(f"reads the attribute {attribute!r} of a {type(obj).__name__}, which templates do not get")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            check_braces(value.__self__)
        return wrapped

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and (check := METHOD_CHECKS.get(__obj.__name__)):
            if __obj.__name__ == "join" and args:
                args = (list(args[0]),)
            check(owner, *args, **kwargs)
        return bounded(super().call(__context, __obj, *args, **kwargs))

    @staticmethod
    def concatenated(parts: tuple[Any, ...]) -> str:
        texts = [str(part) for part in parts]
        check_size(sum(map(len, texts)))
        return "".join(texts)

    def handle_exception(self, source: str | None = None) -> Never:
        """Jinja rewrites tracebacks here, by compiling code; `line_of` finds the line without that."""
        raise  # the exception being handled: Jinja calls this from its except clauses


@functools.lru_cache(maxsize=1)
def sandbox() -> Sandbox:
    return Sandbox()


@functools.lru_cache(maxsize=64)
def compiled(source: str) -> Any:
    """The template as a program; bounded in count, as a long-lived server may see many."""
    return sandbox().from_string(source)


def render(source: str, variables: dict[str, Any], limit: int, now: datetime | None = None) -> str:
    """The rendered text, of at most `limit` characters."""
    parts: list[str] = []
    size = 0
    for part in compiled(source).generate(strftime_now=clock(now), **variables):
        size += len(part)
        if size > limit:
            raise RefusedError(f"writes more than {limit} characters for these messages")
        parts.append(part)
    return "".join(parts)


def line_of(error: BaseException) -> int | None:
    """The line of the template that was running when `error` was raised."""
    if isinstance(error, TemplateSyntaxError):
        return error.lineno
    line, trace = None, error.__traceback__
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line


def describe(error: BaseException) -> str:
    """What went wrong, as the end of a sentence that begins with the template's name and place."""
    if isinstance(error, RaisedError):
        return f"refuses these messages: {error}"
    if isinstance(error, RefusedError):
        return f"the template {error}"
    if isinstance(error, UndefinedError):
        return f"undefined: {error.message}"
    if isinstance(error, SecurityError):
        return f"the template {error.message or 'reaches outside the sandbox'}"
    if isinstance(error, TemplateSyntaxError):
        return f"syntax error: {error.message}"
    if isinstance(error, SyntaxError):  # Python's, of the code that Jinja made; its line is not the template's
        return f"cannot be compiled: {error.msg}"
    if isinstance(error, RecursionError):
        return "the template calls itself without end"
    if isinstance(error, MemoryError):
        return f"the template needs more than {HEADROOM // 2**20} MiB of memory"
    if isinstance(error, DeadlineError):
        return f"the template runs longer than {error} s"
    message = re.sub(r"0x[0-9a-fA-F]+", "0x…", str(error))[:300]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
