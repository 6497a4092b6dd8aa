"""Grammars that were written to hang, crash or fill the memory of whoever compiles or follows them."""

from __future__ import annotations

import json
from typing import Any


def _deep(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def _objects(count: int) -> list[dict[str, Any]]:
    return [{"type": "object", "properties": {f"k{i}": {"const": i}}, "required": [f"k{i}"]} for i in range(count)]


def _ladder(depth: int) -> dict[str, Any]:
    """Each definition uses the next one twice."""
    definitions = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(depth)}
    return {"$defs": {**definitions, f"d{depth}": {"type": "string"}}, "$ref": "#/$defs/d0"}


PATTERNS = {
    "brackets": "(" * 8000 + "a" + ")" * 8000,
    "nested plus": "(a+)+$",
    "nested star": "((a*)*)*b",
    "long run": "a{1,100000}",
    "run of runs": "(a{1,1000}){1,1000}",
    "runs of runs of runs": "((a{1,100}){1,100}){1,100}",
    "lengths": "(" + "|".join("a" * size for size in range(1, 150)) + ")+",
    "far back": "(a|b)*a(a|b){18}",
    "far back, any letter": "(.*a.{12}){3}",
    "many optional": "(a?){60}a{60}",
    "many stars": "(x|y|xy)*" * 300,
    "many dots": "(.*){50}b",
    "letters": r"\p{L}{1,500}",
    "letters and digits": r"(\p{L}\p{N}?){200}",
    "word": r"\w{1,3000}",
    "all but one": "[^a]{5000}",
    "no case": "(?i)" + "abcdefgh" * 1500,
    "nothing": r"[^\s\S]",
    "back reference": r"(a)\1",
    "look ahead": "(?=a)b",
    "open": "(",
    "star": "*",
    "nul": "a\0b",
    "bytes": r"(?-u)\xff",
    "slash": "a/b\nstart: /c/",
}
SCHEMAS: dict[str, Any] = {
    "deep": _deep(30),
    "many words": {"enum": [str(number) for number in range(1500)]},
    "long text": {"type": "string", "minLength": 10**9},
    "long list": {"type": "array", "minItems": 10**9, "items": {"type": "integer"}},
    "short list": {"type": "array", "minItems": -1},
    "many members": {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(400)}},
    "many unnamed members": {"type": "object", "minProperties": 10**6},
    "itself": {"$ref": "#"},
    "a ring": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "another machine": {"$ref": "http://127.0.0.1:9/schema.json"},
    "a file": {"$ref": "file:///etc/passwd"},
    "a ladder": _ladder(24),
    "far back": {"type": "string", "pattern": "(.*a.{14}){4}"},
    "patterns": {"type": "object", "patternProperties": {f"^.*{x}.{{9}}$": {} for x in "ab"}},
    "branches": {
        "allOf": [
            {"anyOf": [{"type": "string", "minLength": i}, {"type": "string", "maxLength": i}]} for i in range(16)
        ]
    },
    "multiples": {"allOf": [{"type": "integer", "multipleOf": p} for p in (9973, 9967, 9949)]},
    "wide range": {"type": "number", "minimum": 1e-300, "maximum": 1e300},
    "one of many": {"oneOf": _objects(60)},
    "any of many": {"anyOf": _objects(100)},
}
GRAMMARS = {
    "itself twice": 'start: start start | "a"',
    "three of itself": 'start: a\na: a a a | ""',
    "brackets": "start: " + "(" * 4000 + '"a"' + ")" * 4000,
    "long run": 'start: "a"{1,100000000}',
    "run of runs": 'start: (("a"|"b"){1,1000} "c"){1,1000}',
    "stars": 'start: a*\na: "a"* "a"* "a"*',
    "doubling": "\n".join(f"r{i}: r{i + 1} r{i + 1}" for i in range(600)) + '\nr600: "a"\nstart: r0',
    "all at once": "start: T\nT: " + " & ".join(f"/(?s:.*)w{i}(?s:.*)/" for i in range(16)),
    "none of": "start: T\nT: ~/(?s:.*)(a.{12}b)(?s:.*)/ & ~/(?s:.*)(b.{12}a)(?s:.*)/",
    "no such rule": "start: b",
    "no such token": "start: <|nothing|>",
    "every token": "start: <[0-999999999]>",
    "brackets in JSON": 'start: %json {"type":' + "[" * 3000,
    "nothing": "start: \n",
    "itself by the name it has here": 'start: "a" @body?',
    "forced": '%llguidance {"no_forcing": false}\nstart: "abcdef" "ghi"',
    "any token": "start: <[*]>",
    "the end": 'start: "a" <[512]> "b"',
    "backtracking": 'start: x "!"\nx[stop="b"]: /.*/',
}
EVIL = (
    {f"regex: {name}": ("regex", source) for name, source in PATTERNS.items()}
    | {f"schema: {name}": ("json_schema", json.dumps(schema)) for name, schema in SCHEMAS.items()}
    | {f"lark: {name}": ("lark", source) for name, source in GRAMMARS.items()}
)
