"""What an answer must look like, letter by letter: JSON of a schema, a regular expression, a grammar, one of several.

    Grammar ──compile──> (cached for each tokenizer) ──matcher──> Matcher, one for each answer

A matcher says before every token which ids may come next, as a row of bits over the vocabulary, and is told which one
was chosen. The rules themselves are llguidance's. Its vocabulary is made from ours, from the bytes that each id adds
to a text, so it works for every kind of vocabulary whose pieces spell the same bytes everywhere.
"""

from __future__ import annotations

import json
import re
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper, regex_to_lark

from paddock.engine.grammar_check import CHECKER
from paddock.errors import TokenizerError, UsageError
from paddock.tokenizer import Tokenizer

Kind = Literal["json_schema", "json_object", "regex", "lark", "choice", "calls"]
MAX_SOURCE, MAX_CALLS_SOURCE = (
    16 * 1024,
    1024 * 1024,
)  # characters; calls are written by Paddock, of many tools' schemas
MAX_DEPTH = 64
KEPT, KEPT_CHARACTERS = 64, 4 * 1024 * 1024  # compiled grammars of one vocabulary
LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,  # one step takes at most some 50 ms
    "step_max_items": 50_000,
    "max_items_in_row": 2_000,
    "max_lexer_states": 20_000,
    "max_grammar_size": 200_000,
    "precompute_large_lexemes": False,
    "verbose_errors": False,
}
# One blank or none after a comma and a colon, and none elsewhere: a weak model would write blanks for ever.
JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
DEAD_END = "NoExtensionBias"  # the library's word for it
OURS = "x-guidance"  # the library's own key of a schema, which could switch its rules off


@dataclass(frozen=True)
class Grammar:
    """What an answer must be.

    source: the text of a JSON schema; nothing (any JSON object); a regular expression of Rust's dialect that the whole
    answer matches; a grammar in llguidance's Lark dialect; a JSON list of strings. "calls" is Lark that Paddock wrote.
    behind: free text up to and with this string comes first, as a model's reasoning does. opening: that text comes only
    if the answer begins with this string. Raises UsageError for what cannot be a grammar of its kind.
    """

    kind: Kind
    source: str = ""
    behind: str = ""
    opening: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(f"a grammar of kind {str(self.kind)[:40]!r}", expected=", ".join(get_args(Kind)))
        limit = MAX_CALLS_SOURCE if self.kind == "calls" else MAX_SOURCE
        if len(self.source) > limit:
            raise UsageError(f"a grammar of {len(self.source)} characters", expected=f"at most {limit}")
        if any("\ud800" <= character <= "\udfff" for character in self.source):
            raise UsageError("the grammar holds a lone surrogate, which is not text")
        self.body()

    @classmethod
    def schema(cls, schema: Any, **options: str) -> Grammar:
        """Of a JSON schema given as data."""
        check_depth(schema, "the schema")
        return cls("json_schema", json.dumps(schema, ensure_ascii=False), **options)

    @classmethod
    def choice(cls, choices: list[str]) -> Grammar:
        """One of `choices`, exactly."""
        return cls("choice", json.dumps(choices, ensure_ascii=False))

    def body(self) -> dict[str, Any]:
        """The rules as llguidance takes them. Raises UsageError."""
        if self.kind == "json_schema":
            return {"name": "body", "json_schema": styled(self._read())}
        if self.kind == "json_object":
            return {"name": "body", "json_schema": styled({"type": "object"})}
        if self.kind == "choice":
            return {"name": "body", "lark_grammar": f"start: {_alternatives(self._read())}"}
        if self.kind == "regex":
            return {"name": "body", "lark_grammar": f"start: /{regex_to_lark(_flat(self.source), '')}/"}
        return {"name": "body", "lark_grammar": self.source}

    def _read(self) -> Any:
        try:
            value = json.loads(self.source, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise UsageError(f"the grammar of kind {self.kind} is not JSON") from None
        check_depth(value, "the schema")
        return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _flat(pattern: str) -> str:
    """The regular expression without the anchors that add nothing, as the whole answer matches it anyway."""
    pattern = pattern.removeprefix("^")
    backslashes = len(pattern) - 1 - len(pattern[:-1].rstrip("\\"))
    return pattern[:-1] if pattern.endswith("$") and backslashes % 2 == 0 else pattern


def _alternatives(choices: Any) -> str:
    if not isinstance(choices, list) or not choices or not all(isinstance(one, str) and one for one in choices):
        raise UsageError("a choice is a list of strings that are not empty, at least one")
    return " | ".join(quoted(choice) for choice in choices)


def quoted(text: str) -> str:
    """A string of the Lark dialect."""
    return json.dumps(text, ensure_ascii=False)


def styled(schema: Any) -> Any:
    """A schema with Paddock's way of writing JSON."""
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise UsageError(f"a JSON schema is {json.dumps(schema)[:40]}", expected="an object")
    if OURS in schema:
        raise UsageError(f"the schema has the key {OURS!r}, which cannot be set", fix=f"leave {OURS!r} out")
    return {**schema, OURS: JSON_STYLE}


def check_depth(value: Any, what: str, limit: int = MAX_DEPTH) -> None:
    """Raises UsageError for data nested deeper than `limit`."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            item
            for one in level
            if isinstance(one, dict | list)
            for item in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise UsageError(f"{what} is nested too deeply", expected=f"at most {limit} levels")


def symbol(tokenizer: Tokenizer, tag: str) -> str:
    """`tag` as the Lark dialect writes it: a control token of this vocabulary, or its letters."""
    id = tokenizer.id_of(tag)
    return f"<[{id}]>" if id is not None and tokenizer.is_control(id) else quoted(tag)


class Vocabulary:
    """A tokenizer as llguidance sees it, and the grammars compiled for it.

    One id more than the tokenizer has stands for the end of the answer, whatever ids end it for the model.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not tokenizer.spells_bytes:
            raise TokenizerError(
                f"a {tokenizer.kind} vocabulary spells a piece differently beside others, so no grammar can follow it",
                fix="use a model with a byte-level or SentencePiece vocabulary",
            )
        self.size = len(tokenizer)
        tokens = tokenizer.all_bytes()
        controls = [id for id in range(self.size) if tokenizer.is_control(id)]
        for id in controls:
            tokens[id] = tokenizer.piece(id).encode()
        self.controls = frozenset(controls)
        self.blank_first = np.array([token.startswith(b" ") for token in tokens])
        self.strips_blank = _strips_blank(tokenizer, tokens)
        wrapper = TokenizerWrapper(_Words([*tokens, b"<|end of the answer|>"], [*controls, self.size]))
        self.tokenizer = LLTokenizer(wrapper)
        self._compiled: OrderedDict[Grammar, LLMatcher | UsageError] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

    def compiled(self, grammar: Grammar, program: str) -> LLMatcher:
        """The matcher at its beginning, to be copied. Raises UsageError; the same again for a grammar refused once."""
        with self._lock:
            found = self._compiled.get(grammar)
            if found is not None:
                self._compiled.move_to_end(grammar)
        if found is None:
            found = self._compile(program, located=grammar.kind == "lark")
            self._keep(grammar, found)
        if isinstance(found, UsageError):
            raise UsageError(found.what, fix=found.fix)
        return found

    def _compile(self, program: str, located: bool) -> LLMatcher | UsageError:
        try:
            error = CHECKER.error(program, LIMITS)
        except UsageError as refusal:
            return refusal
        if not error:
            matcher = LLMatcher(self.tokenizer, program, log_level=0, limits=LLParserLimits(**LIMITS))
            error = matcher.get_error()
            if not matcher.is_error() and _possible(matcher):
                return matcher
        why = _reason(error, located) or "nothing that this vocabulary can spell matches it"
        return UsageError(f"the grammar cannot be used: {why}")

    def _keep(self, grammar: Grammar, found: LLMatcher | UsageError) -> None:
        with self._lock:
            if grammar not in self._compiled:
                self._characters += len(grammar.source)
            self._compiled[grammar] = found
            while len(self._compiled) > KEPT or (self._characters > KEPT_CHARACTERS and len(self._compiled) > 1):
                self._characters -= len(self._compiled.popitem(last=False)[0].source)

    def __len__(self) -> int:
        """Compiled grammars that are kept."""
        return len(self._compiled)


class Matcher:
    """Where one answer stands in its grammar."""

    def __init__(self, vocabulary: Vocabulary, matcher: LLMatcher, fresh: bool) -> None:
        self._vocabulary, self._matcher = vocabulary, matcher
        self._bare = fresh and vocabulary.strips_blank  # the text begins here, and its first blank will not be shown

    @property
    def may_end(self) -> bool:
        """Whether what was written so far is whole."""
        return self._matcher.is_accepting()

    @property
    def finished(self) -> bool:
        """Whether it is whole, and nothing may follow."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def allowed(self, size: int, ends: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of the ids below `size` may come next, (size,); `ends` end the answer. Raises UsageError."""
        known = self._vocabulary.size
        row = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        bits = np.unpackbits(row, count=known + 1, bitorder="little").view(np.bool_)
        self._check()
        mask = np.zeros(size, dtype=np.bool_)
        mask[:known] = bits[: min(known, size)]
        if self._bare:
            mask[:known] &= ~self._vocabulary.blank_first[:size]
        mask[[id for id in ends if id < size]] = bits[known]
        return mask

    def advance(self, token: int) -> None:
        """Takes the token that was chosen. Raises UsageError for one that cannot stand here."""
        self._bare = False
        self._matcher.consume_token(token)
        self._check()

    def holds_text(self, token: int) -> bool:
        """Whether `token` stands for text of its own."""
        return token < self._vocabulary.size and token not in self._vocabulary.controls

    def _check(self) -> None:
        if self._matcher.is_error():
            why = _reason(self._matcher.get_error())
            if why == DEAD_END:
                raise UsageError("the grammar asks for something that this vocabulary cannot spell")
            raise UsageError(f"the answer cannot go on by its grammar: {why}", fix="use a simpler grammar")


class _Words:
    """What llguidance asks of a tokenizer. Nothing is ever forced, so it is never asked to cut a text."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes], special: list[int]) -> None:
        self.tokens, self.special_token_ids, self.eos_token_id = tokens, special, len(tokens) - 1

    def __call__(self, text: str | bytes) -> list[int]:
        raise AssertionError("nothing is forced, so no text is cut")


_vocabularies: weakref.WeakKeyDictionary[Tokenizer, Vocabulary] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary:
    """Made once for each tokenizer. Raises TokenizerError for a kind that no grammar can follow."""
    with _making:
        found = _vocabularies.get(tokenizer)
        if found is None:
            found = _vocabularies[tokenizer] = Vocabulary(tokenizer)
        return found


def matcher_of(grammar: Grammar, tokenizer: Tokenizer, fresh: bool = False) -> Matcher:
    """A matcher at the beginning of an answer; `fresh`: no text stands before it.

    Compiling takes up to a second, and a copy of what was compiled before microseconds. Raises UsageError for a
    grammar that is wrong, too much work, or matches nothing, TokenizerError as `vocabulary_of` does.
    """
    vocabulary = vocabulary_of(tokenizer)
    return Matcher(vocabulary, vocabulary.compiled(grammar, _program(grammar, tokenizer)).deep_copy(), fresh)


def _program(grammar: Grammar, tokenizer: Tokenizer) -> str:
    """What llguidance compiles: the body, and in front of it the free text that a grammar may begin with.

    no_forcing: a text that must come is still cut into tokens as the model likes it best.
    """
    start, rules = "@body", ""
    if grammar.behind:
        tag = symbol(tokenizer, grammar.behind)
        if tag.startswith("<"):
            rules = f"\nfree: /(?s:.*)/ {tag}"
        else:
            rules = f"\nfree[lazy]: /(?s:.*){regex_to_lark(re.escape(grammar.behind), '')}/"
        opening = symbol(tokenizer, grammar.opening) if grammar.opening else ""
        start = f"({opening} free)? @body" if opening else "free @body"
    top = {"lark_grammar": f'%llguidance {{"no_forcing": true}}\nstart: {start}{rules}'}
    return json.dumps({"grammars": [top, grammar.body()]}, ensure_ascii=False)


def _strips_blank(tokenizer: Tokenizer, tokens: list[bytes]) -> bool:
    """Whether a blank at the very beginning of a text is not shown."""
    id = next((id for id, token in enumerate(tokens) if len(token) > 1 and token.startswith(b" ")), None)
    return id is not None and not tokenizer.decode([id]).startswith(" ")


def _possible(matcher: LLMatcher) -> bool:
    """Whether any token may come first."""
    beginning = matcher.deep_copy()
    return any(beginning.compute_bitmask()) and not beginning.is_error()


def _reason(error: str, located: bool = False) -> str:
    """The library's complaint in a line. `located`: with its place, where the text is the user's own."""
    if re.match(r"\s*panic\b", error, re.IGNORECASE):  # one of its own bounds broke, and says so in its own terms
        return "it is too large"
    found = re.search(r"^\s*error: (.+)$", error, re.MULTILINE)  # of a regular expression, below a picture of it
    line = found[1] if found else error.partition("\n")[0]
    return " ".join((line if located else re.sub(r"^(at )?[0-9]+\([0-9]+\): ", "", line)).split())[:300]
