"""What form an answer must have, from the fields by which clients ask for one.

OpenAI's `response_format`, and vLLM's `structured_outputs` and older `guided_*`: one rule for each request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paddock.engine.grammar import Grammar
from paddock.errors import UsageError, did_you_mean
from paddock.serve.refusals import BadRequest

RESPONSE_FORMAT, OUTPUTS = "response_format", "structured_outputs"
FORMATS = ("text", "json_object", "json_schema")
# What vLLM calls a rule inside of structured_outputs; outside it is guided_ and that.
RULES = ("json", "json_object", "regex", "choice", "grammar")
FIELDS = (RESPONSE_FORMAT, OUTPUTS, *(f"guided_{name}" for name in RULES))


def grammar_of(fields: Mapping[str, Any]) -> Grammar | None:
    """The grammar that `fields` of a body ask for, given as plain data; None where the answer is free.

    Raises BadRequest for rules that contradict each other or cannot be meant.
    """
    given = [name for name in FIELDS if fields.get(name) not in (None, False)]
    found = [(name, grammar) for name in given if (grammar := _read(name, fields[name])) is not None]
    if len(found) > 1:
        raise BadRequest(f"both {found[0][0]} and {found[1][0]} say what the answer must be", param=found[1][0])
    return found[0][1] if found else None


def field_of(fields: Mapping[str, Any]) -> str:
    """The name of the field that says what the answer must be."""
    return next((name for name in FIELDS if fields.get(name) not in (None, False)), RESPONSE_FORMAT)


def schema_grammar(schema: Any, param: str) -> Grammar:
    """JSON of a schema: data, or its text. Raises BadRequest."""
    if isinstance(schema, str):
        return refused_as(param, lambda: Grammar("json_schema", schema))
    if not isinstance(schema, dict):
        raise BadRequest(f"{param} is not a JSON schema", param=param, expected="an object")
    return refused_as(param, lambda: Grammar.schema(schema))


def refused_as(param: str, make: Callable[[], Grammar]) -> Grammar:
    """What `make` gives; what it refuses is said of the field `param`."""
    try:
        return make()
    except BadRequest:
        raise
    except UsageError as error:
        raise BadRequest(f"{param}: {error.what}", param=param, expected=error.expected, fix=error.fix) from None


def _read(name: str, value: Any) -> Grammar | None:
    if name == RESPONSE_FORMAT:
        return _response_format(value)
    if name == OUTPUTS:
        return _outputs(value)
    return _rule(name.removeprefix("guided_"), value, name)


def _response_format(value: Any) -> Grammar | None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return Grammar("json_object")
    if kind != "json_schema":
        raise BadRequest(
            f"{RESPONSE_FORMAT} is of type {str(kind)[:40]!r}",
            param=RESPONSE_FORMAT,
            expected=f"one of {', '.join(FORMATS)}",
            fix=did_you_mean(str(kind)[:40], FORMATS),
        )
    # Chat completions have the schema one level deeper than responses.
    holder = value.get("json_schema", value)
    schema = holder.get("schema") if isinstance(holder, Mapping) else None
    if schema is None:
        raise BadRequest(f"{RESPONSE_FORMAT} of type json_schema has no schema", param=RESPONSE_FORMAT)
    return schema_grammar(schema, RESPONSE_FORMAT)


def _outputs(value: Any) -> Grammar | None:
    if not isinstance(value, Mapping):
        raise BadRequest(f"{OUTPUTS} is not an object", param=OUTPUTS)
    given = [name for name, rule in value.items() if rule not in (None, False)]
    for name in given:
        if name not in RULES:
            raise BadRequest(
                f"{OUTPUTS} has {name[:40]!r}",
                param=OUTPUTS,
                code="unsupported_parameter",
                expected=f"one of {', '.join(RULES)}",
                fix=did_you_mean(name[:40], RULES),
            )
    if len(given) > 1:
        raise BadRequest(f"both {given[0]} and {given[1]} say what the answer must be", param=OUTPUTS)
    return _rule(given[0], value[given[0]], OUTPUTS) if given else None


def _rule(rule: str, value: Any, param: str) -> Grammar:
    if rule == "json":
        return schema_grammar(value, param)
    if rule == "json_object":
        if value is not True:
            raise BadRequest(f"{param}: json_object is not true or false", param=param)
        return Grammar("json_object")
    if rule == "choice":
        if not isinstance(value, list):
            raise BadRequest(f"{param}: choice is not a list", param=param)
        return refused_as(param, lambda: Grammar.choice(value))
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{param}: {rule} is not text", param=param)
    return refused_as(param, lambda: Grammar("regex" if rule == "regex" else "lark", value))
