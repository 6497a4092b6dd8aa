"""Answers held to a grammar: what may come next is what the rules say, whatever the model would rather write."""

from __future__ import annotations

import gc
import json
import os
import random
import re
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
import torch
from evil_grammars import EVIL

from paddock.engine.constraints import Constraints
from paddock.engine.engine import Engine
from paddock.engine.explain import explain
from paddock.engine.generate import Generation
from paddock.engine.grammar import KEPT, MAX_DEPTH, MAX_SOURCE, Grammar, _reason, matcher_of, vocabulary_of
from paddock.engine.grammar_check import CHECKER
from paddock.engine.request import Event, Request
from paddock.engine.runners import engine_for
from paddock.engine.sampling import Sampling
from paddock.engine.speculative import Lookup
from paddock.errors import TokenizerError, UsageError
from paddock.tokenizer import Tokenizer, load

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", None, 1.5]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, Any] = {
    "a person": PERSON,
    "a choice of objects": {
        "anyOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, "value": {"type": value}},
                "required": ["kind", "value"],
                "additionalProperties": False,
            }
            for kind, value in (("yes", "boolean"), ("nothing", "null"))
        ]
    },
    "a tree": {
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {
                    "leaf": {"type": "boolean"},
                    "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1},
                },
                "required": ["leaf"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/tree",
    },
    "patterns and formats": {
        "type": "array",
        "prefixItems": [
            {"type": "string", "pattern": "^[A-C]{2}-[0-9]+$", "maxLength": 6},
            {"type": "string", "format": "date"},
        ],
        "items": False,
        "minItems": 2,
    },
    "numbers": {
        "type": "array",
        "items": {"type": "integer", "minimum": -20, "exclusiveMaximum": 100, "multipleOf": 5},
        "minItems": 2,
        "maxItems": 3,
    },
    "any letters": {"type": "string", "minLength": 1, "maxLength": 3},
}
EXACT = {
    "choice": (Grammar.choice(["yes", "no", 'so "so" \\ /', "你好", "  two blanks"]), None),
    "regex": (Grammar("regex", r"^(a|bb){2,3}-[0-9]$"), re.compile(r"(a|bb){2,3}-[0-9]")),
    "slash and dollar": (Grammar("regex", r"a/b\$"), re.compile(r"a/b\$")),
    "lark": (Grammar("lark", 'start: "x" (A | "z"){1,3} "!"\nA: /[yY]/'), re.compile(r"x[yYz]{1,3}!")),
}


@pytest.fixture(scope="module")
def tokenizer(bundled: Any) -> Tokenizer:
    return bundled.tokenizer


def answers(engine: Engine, model: Any, requests: list[Request]) -> list[list[Event]]:
    """All at once, each request's events."""
    generations = [Generation(engine, request, model.decoder(request)) for request in requests]
    found: list[list[Event]] = [[] for _ in requests]
    left = list(range(len(requests)))
    while left:
        for place in tuple(left):
            event = next(generations[place], None)
            if event is None:
                left.remove(place)
            else:
                found[place].append(event)
    return found


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events)


# --- what comes out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMAS)
def test_fifty_answers_are_valid_json_of_their_schema(bundled: Any, name: str) -> None:
    """The model writes stories of its own accord: all of this is the grammar's work."""
    grammar = Grammar.schema(SCHEMAS[name])
    validator = jsonschema_rs.validator_for(SCHEMAS[name], validate_formats=True)
    settings = ({"seed": seed, "temperature": 1.5} for seed in range(49))
    requests = [bundled.plan("Once", 160, settings=one, grammar=grammar) for one in [*settings, {"temperature": 0}]]
    texts = []
    for events in answers(engine_for(bundled.model), bundled, requests):
        if events[-1].finish_reason == "stop":
            texts.append(text_of(events))
            validator.validate(json.loads(texts[-1]))
        else:
            assert len(events) == 160
    assert len(texts) >= 45 and len(set(texts)) >= 2


@pytest.mark.parametrize("name", EXACT)
def test_other_grammars_match_whole_answers(bundled: Any, name: str) -> None:
    grammar, pattern = EXACT[name]
    for prompt in ("Once", ""):
        for seed in range(6):
            found = bundled.generate(prompt, 40, grammar=grammar, temperature=1.2, seed=seed)
            assert found.finish_reason == "stop" and found.stop_reason is None
            if pattern is None:
                assert found.text in json.loads(grammar.source)
            else:
                assert pattern.fullmatch(found.text), found.text


def test_any_object(bundled: Any) -> None:
    likely = {3 + ord(letter): 12 for letter in '"}'}  # a story of its own accord has no end
    settings = {"logit_bias": likely | {436: 12}, "temperature": 1.5}
    found = [bundled.generate("Once", 90, grammar=Grammar("json_object"), seed=seed, **settings) for seed in range(9)]
    whole = [json.loads(one.text) for one in found if one.finish_reason == "stop"]
    assert len(whole) > 4 and all(isinstance(one, dict) for one in whole)


def test_chat_and_streams_take_a_grammar(bundled: Any) -> None:
    grammar = Grammar.choice(["left", "right"])
    events = list(bundled.stream("Once", 20, grammar=grammar, temperature=0))
    assert text_of(events) == bundled.generate("Once", 20, grammar=grammar, temperature=0).text
    template = bundled.template
    try:
        from paddock.tokenizer.template_registry import registered

        bundled.template = registered("alpaca")
        assert bundled.chat([{"role": "user", "content": "?"}], 20, grammar=grammar).text in ("left", "right")
        assert text_of(list(bundled.stream_chat([{"role": "user", "content": "?"}], 20, grammar=grammar))) in (
            "left",
            "right",
        )
    finally:
        bundled.template = template


# --- what may come next ------------------------------------------------------------------------------------------


def allowed_by_hand(ids: dict[bytes, set[int]], words: list[bytes], before: bytes) -> set[int]:
    """Ids after which one of `words` can still come to be."""
    rests = [word[len(before) :] for word in words if word.startswith(before)]
    beginnings = {rest[:size] for rest in rests for size in range(1, len(rest) + 1)}
    return set().union(*(ids.get(beginning, set()) for beginning in beginnings))


def check_every_step(tokenizer: Tokenizer, words: list[str], walks: int) -> None:
    """Walks at random through a choice of `words`; at each step every id of the vocabulary is compared."""
    tokens = tokenizer.all_bytes()
    assert all(tokens[id] == tokenizer.bytes_of(id) for id in range(0, len(tokens), 1 + len(tokens) // 500))
    by_bytes: dict[bytes, set[int]] = {}
    for id, token in enumerate(tokens):
        by_bytes.setdefault(token, set()).add(id)
    spelt = [word.encode() for word in words]
    rng = random.Random(3)
    end = len(tokens) + 5
    for _ in range(walks):
        matcher, text = matcher_of(Grammar.choice(words), tokenizer), b""
        while True:
            mask = matcher.allowed(len(tokens) + 9, (end,))
            ids = set(np.flatnonzero(mask).tolist())
            assert (end in ids) == (text in spelt) == matcher.may_end
            assert ids - {end} == allowed_by_hand(by_bytes, spelt, text)
            if not ids - {end}:
                break
            token = rng.choice(sorted(ids - {end}))
            matcher.advance(token)
            text += tokens[token]
        assert matcher.finished and text in spelt


WORDS = ["the cat", "the cats", "they", " blank", "naïve", "你好吗", "🙂", "a\nb", "the cat", "x" * 40]


def test_every_id_at_every_step(tokenizer: Tokenizer) -> None:
    check_every_step(tokenizer, WORDS, 30)


@pytest.mark.parametrize("name", ["gpt-neox/20B_tokenizer.json", "llama/tokenizer.model", "rwkv"])
def test_every_id_at_every_step_in_real_vocabularies(shared_data: Path, name: str) -> None:
    path = shared_data / "tokenizers" / name
    check_every_step(load(next(path.iterdir()) if path.is_dir() else path), WORDS, 6)


def test_word_pieces_are_refused(shared_data: Path) -> None:
    with pytest.raises(TokenizerError, match="WordPiece"):
        matcher_of(Grammar("regex", "a"), load(shared_data / "tokenizers" / "bert"))


def test_what_a_vocabulary_cannot_spell_is_refused(shared_data: Path) -> None:
    """T5's pieces have no braces."""
    t5 = load(shared_data / "tokenizers" / "t5")
    with pytest.raises(UsageError, match="can spell"):
        matcher_of(Grammar("json_object"), t5)
    matcher = matcher_of(Grammar.choice(["ab{"]), t5)
    with pytest.raises(UsageError, match="cannot spell"):
        for _ in range(3):
            matcher.advance(int(np.flatnonzero(matcher.allowed(len(t5), ()))[0]))


def test_a_blank_that_is_not_shown_is_not_written(bundled: Any) -> None:
    """At the very beginning of a text SentencePiece's first blank vanishes: what is shown must match, not what was
    chosen."""
    for seed in range(8):
        found = bundled.generate("", 20, grammar=Grammar("regex", " ?[ab]{3}"), seed=seed, temperature=2)
        assert re.fullmatch(" ?[ab]{3}", found.text), found.text
    with pytest.raises(UsageError, match="forbidden"):
        bundled.generate("", 20, grammar=Grammar("regex", " a"))
    assert bundled.generate("Once", 20, grammar=Grammar("regex", " a")).text == " a"


def test_free_text_comes_first(bundled: Any) -> None:
    behind = Grammar("regex", "[0-9]{3}", behind="he")
    opened = Grammar("regex", "[0-9]{3}", behind="he", opening="<t>")
    for seed in range(12):
        found = bundled.generate("Once", 200, grammar=behind, seed=seed)
        assert found.finish_reason == "stop" and re.fullmatch(r"(?s).*?he[0-9]{3}", found.text), found.text
        either = bundled.generate("Once", 200, grammar=opened, seed=seed)
        assert re.fullmatch(r"(?s)(<t>.*?he)?[0-9]{3}", either.text)
    control = Grammar("regex", "[0-9]", behind="<unk>")
    found = bundled.generate("Once", 60, grammar=control, logit_bias={0: 90})
    assert found.ids[0] == 0 and re.fullmatch("[0-9]", found.text)


# --- beside everything else --------------------------------------------------------------------------------------


def test_the_same_alone_in_a_crowd_in_a_small_cache_and_with_guesses(bundled: Any) -> None:
    requests = [
        bundled.plan(
            "Once upon a time " * (1 + place % 3), 70, settings={"seed": place, "temperature": 1.0}, grammar=grammar
        )
        for place, grammar in enumerate(
            [Grammar.schema(PERSON), Grammar("json_object"), Grammar("regex", "[a-z ,.]{60}"), None] * 3
        )
    ]
    alone = [text_of(answers(engine_for(bundled.model), bundled, [request])[0]) for request in requests]
    for options in ({}, {"blocks": 17, "sequences": 8, "budget": 40}):
        engine = engine_for(bundled.model, **options)
        assert [text_of(events) for events in answers(engine, bundled, requests)] == alone
        assert engine.stats.preemptions > 0 or not options
    guessed = [
        Generation(engine_for(bundled.model), request, bundled.decoder(request), Lookup(4)).completion()
        for request in requests
    ]
    assert [one.text for one in guessed] == alone
    assert sum(one.proposed_tokens for one in guessed) > sum(one.accepted_tokens for one in guessed) > 0


def test_with_other_constraints(bundled: Any) -> None:
    digits = [bundled.tokenizer.id_of(piece) for piece in "3579"] + [3 + ord(digit) for digit in "3579"]
    for seed in range(8):
        found = bundled.generate(
            "Once", 20, grammar=Grammar("regex", "[0-9]{4,}"), seed=seed, suppress_tokens=digits, min_new_tokens=7
        )
        assert re.fullmatch("[012468]{6,}", found.text) and len(found.ids) >= 7
    with pytest.raises(UsageError, match="grammar"):  # it can only end, and must not
        bundled.generate("Once", 20, grammar=Grammar.choice(["ab"]), min_new_tokens=12)
    with pytest.raises(UsageError, match="beam"):
        bundled.generate("Once", 20, grammar=Grammar.choice(["ab"]), num_beams=2)


def test_a_forced_end_is_a_cut_before_the_grammar_s_own(bundled: Any) -> None:
    for length, reason in ((3, "length"), (5, "stop")):
        found = bundled.generate("Once", 5, grammar=Grammar("regex", f"[a-b]{{{6 - length}}},*"), temperature=0)
        request = bundled.plan("Once", length, settings={"temperature": 0}, grammar=Grammar("regex", "[a-b]{3}[a-z]*"))
        object.__setattr__(request, "constraints", Constraints(forced_eos_token_id=2))
        events = answers(engine_for(bundled.model), bundled, [request])[0]
        assert events[-1].token == 2 and events[-1].finish_reason == reason
        assert found.finish_reason in ("stop", "length")


def test_a_forced_first_id_without_text_is_no_part_of_the_grammar(bundled: Any) -> None:
    request = bundled.plan("Once", 9, settings={"temperature": 0}, grammar=Grammar.choice(["ab"]))
    object.__setattr__(request, "constraints", Constraints(forced_bos_token_id=0))
    events = answers(engine_for(bundled.model), bundled, [request])[0]
    assert events[0].token == 0 and text_of(events) == "ab" and events[-1].finish_reason == "stop"


def test_the_trace_has_the_grammar_s_stage(bundled: Any) -> None:
    found = bundled.generate("Once", 9, grammar=Grammar.choice(["ab", "cd"]), trace=True, temperature=0.5, seed=1)
    rows = explain(found.traces, bundled.tokenizer)
    for row in rows:
        stage = next(stage for stage in row.stages if stage.name == "grammar")
        assert 0 < stage.survivors <= 4 and stage.removed > 400
    assert not any(s.name == "grammar" for t in bundled.generate("Once", 2, trace=True).traces for s in t.stages)


def test_without_a_tokenizer_it_is_refused(bundled: Any) -> None:
    request = Request((1, 2), 5, Sampling(temperature=0), grammar=Grammar.choice(["a"]))
    with pytest.raises(UsageError, match="tokenizer"):
        engine_for(bundled.model).task(request)


# --- strangers' grammars -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVIL)
def test_evil_grammars_neither_hang_nor_crash(tokenizer: Tokenizer, name: str) -> None:
    """Each is refused, or runs with bounded steps; the wall's clock is generous, as machines are shared."""
    kind, source = EVIL[name]
    started = time.process_time()
    steps = 0
    try:
        matcher = matcher_of(Grammar(kind, source), tokenizer)
        rng = random.Random(1)
        while steps < 60 and not matcher.finished:
            before = time.process_time()
            ids = np.flatnonzero(matcher.allowed(len(tokenizer), (2,)))
            ids = ids[ids != 2]
            if not len(ids):
                break
            matcher.advance(int(rng.choice(ids.tolist())))
            assert time.process_time() - before < 0.5
            steps += 1
    except UsageError as error:
        assert str(error) and "\n" not in error.what
    assert time.process_time() - started < 3


def test_a_grammar_that_takes_too_long_is_ended_and_remembered(tokenizer: Tokenizer) -> None:
    branches = [
        {"anyOf": [{"type": "object", "properties": {f"p{i}{j}": {"type": "string"}}} for j in range(6)]}
        for i in range(5)
    ]
    grammar = Grammar.schema({"allOf": branches})
    started = time.monotonic()
    with pytest.raises(UsageError, match=r"takes more than 1 s|schema too large"):
        matcher_of(grammar, tokenizer)
    assert time.monotonic() - started < 8
    started = time.monotonic()
    with pytest.raises(UsageError):
        matcher_of(grammar, tokenizer)
    assert time.monotonic() - started < 0.2
    assert matcher_of(Grammar.choice(["the next one"]), tokenizer)


def test_the_process_that_checks_may_be_ended_by_the_system(tokenizer: Tokenizer) -> None:
    matcher_of(Grammar.choice(["before"]), tokenizer)
    assert CHECKER.process is not None
    CHECKER.process.kill()
    CHECKER.process.wait()
    assert matcher_of(Grammar.choice(["behind"]), tokenizer)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Grammar("regex", "a" * (MAX_SOURCE + 1)), "characters"),
        (lambda: Grammar("yaml", "a"), "kind"),  # type: ignore[arg-type]
        (lambda: Grammar("json_schema", "{"), "not JSON"),
        (lambda: Grammar("json_schema", '{"minimum": NaN}'), "not JSON"),
        (lambda: Grammar("json_schema", "[1]"), "object"),
        (lambda: Grammar("json_schema", "[" * 9000), "not JSON|deeply"),
        (lambda: Grammar.schema(nested(MAX_DEPTH + 1)), "deeply"),
        (lambda: Grammar.schema({"x-guidance": {"lenient": True}}), "x-guidance"),
        (lambda: Grammar.choice([]), "choice"),
        (lambda: Grammar.choice(["a", ""]), "choice"),
        (lambda: Grammar("choice", '{"a": 1}'), "choice"),
        (lambda: Grammar("regex", "\ud800"), "surrogate"),
    ],
)
def test_what_is_no_grammar_is_refused_at_once(make: Callable[[], Grammar], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"not": schema}
    return schema


def test_limits_are_reached_and_not_passed(tokenizer: Tokenizer) -> None:
    assert matcher_of(Grammar("regex", "a" * MAX_SOURCE), tokenizer)
    Grammar.schema(nested(MAX_DEPTH - 1))


def test_unsupported_keywords_are_named(tokenizer: Tokenizer) -> None:
    for keyword, value in (("uniqueItems", True), ("not", {}), ("if", {}), ("contains", {}), ("dependentRequired", {})):
        with pytest.raises(UsageError, match=keyword):
            matcher_of(Grammar.schema({"type": "array", keyword: value}), tokenizer)


# --- memory ------------------------------------------------------------------------------------------------------


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def fill(tokenizer: Tokenizer, numbers: range) -> None:
    for number in numbers:
        matcher_of(Grammar.schema({"const": number}), tokenizer).allowed(len(tokenizer), (2,))


def test_many_tiny_schemas_fill_nothing(tokenizer: Tokenizer) -> None:
    fill(tokenizer, range(300))
    assert len(vocabulary_of(tokenizer)) <= KEPT
    assert vocabulary_of(tokenizer)._characters <= KEPT * 60


@pytest.mark.slow
def test_ten_thousand_tiny_schemas_fill_nothing(tokenizer: Tokenizer) -> None:
    fill(tokenizer, range(1000, 2000))
    before = resident()
    fill(tokenizer, range(2000, 12000))
    assert len(vocabulary_of(tokenizer)) <= KEPT
    assert resident() - before < 16 * 2**20


def test_large_sources_push_others_out(tokenizer: Tokenizer) -> None:
    vocabulary = vocabulary_of(tokenizer)
    for number in range(6):
        matcher_of(Grammar("calls", f'start: {"(" * 9}{" " * 900_000}"a{number}"{")" * 9}'), tokenizer)
    assert vocabulary._characters <= 4 * 2**20 + 2**20
    matcher_of(Grammar.choice(["small"]), tokenizer)
    assert len(vocabulary) >= 2


def test_a_vocabulary_goes_with_its_tokenizer() -> None:
    from paddock.engine.locate import bundled

    tokenizer = load(bundled())
    gone = weakref.ref(vocabulary_of(tokenizer))
    matcher_of(Grammar.choice(["a"]), tokenizer)
    del tokenizer
    gc.collect()
    assert gone() is None


def test_masks_are_made_without_a_loop_over_the_vocabulary(tokenizer: Tokenizer) -> None:
    """A thousand steps take less than a second, mask and choice together, on whatever machine this is."""
    matcher = matcher_of(Grammar("regex", "[a-z ]*"), tokenizer)
    scores = torch.zeros(len(tokenizer))
    started = time.process_time()
    for _ in range(1000):
        scores.numpy()[~matcher.allowed(len(tokenizer), (2,))] = -np.inf
        matcher.advance(430)
    assert time.process_time() - started < 1


def test_a_panic_of_the_library_is_not_told_in_its_words() -> None:
    assert _reason("panic: assertion failed: grammar.symbols.len() < 1000") == "it is too large"
    assert _reason("3(4): no rule named panic") == "no rule named panic"
