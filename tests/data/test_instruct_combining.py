"""Sets of examples in exact proportions, without what is kept for measuring."""

from __future__ import annotations

import pytest

from paddock.data.instruct.combining import combine
from paddock.data.instruct.overlap import Protected
from paddock.data.instruct.records import Conversation, Example, Message, Origin, Pair, Text
from paddock.errors import DataError, UsageError

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def asked(question: str, answer: str, place: str = "") -> Conversation:
    return Conversation((Message("user", question), Message("assistant", answer)), origin=Origin(place))


def several(name: str, count: int) -> list[Example]:
    return [asked(f"{name} question {i}", f"{name} answer {i}") for i in range(count)]


def test_proportions_are_exact_and_nothing_comes_twice() -> None:
    sources = {"human": several("h", 10), "synthetic": several("s", 30)}
    made = combine(sources, {"human": 1, "synthetic": 2}, seed=3)
    assert dict(made.counts) == {"human": 10, "synthetic": 20}
    assert made.left_out == {"human": {}, "synthetic": {"not needed": 10}}
    assert len(set(map(repr, made.examples))) == 30
    assert sum(each.origin.source == "human" for each in made.examples) == 10
    assert [e.origin.source for e in made.examples] != ["human"] * 10 + ["synthetic"] * 20


def test_a_seed_decides_what_is_taken_and_in_which_order() -> None:
    sources = {"a": several("a", 20), "b": several("b", 20)}
    weights = {"a": 1, "b": 1}
    one, same, other = (combine(sources, weights, total=8, seed=seed).examples for seed in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize("total", [1, 7, 10, 11])
def test_a_total_is_met_to_one(total: int) -> None:
    sources = {"a": several("a", 30), "b": several("b", 30), "c": several("c", 30)}
    made = combine(sources, {"a": 1, "b": 1, "c": 5}, total=total)
    assert sum(made.counts.values()) == len(made.examples) == total
    assert all(abs(made.counts[name] - total * w / 7) < 1 for name, w in {"a": 1, "b": 1, "c": 5}.items())


def test_too_few_is_refused() -> None:
    with pytest.raises(DataError, match="a has 3 examples, and 50"):
        combine({"a": several("a", 3), "b": several("b", 300)}, {"a": 1, "b": 1}, total=100)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_that_mean_nothing_are_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="weight"):
        combine({"a": several("a", 3)}, {"a": weight})


def test_copies_and_what_is_protected_are_left_out() -> None:
    copied = several("a", 4)
    measured = asked(f"Please count: {LONG}.", "done")
    leak = asked("Something else", f"Sure! {LONG.upper()}, and on")
    made = combine(
        {"a": copied, "b": [*copied[:2], leak, *several("b", 2)]}, {"a": 1, "b": 1}, protected=Protected([measured])
    )
    assert made.left_out["b"] == {"twice": 2, "protected": 1}
    assert leak not in made.examples


def test_overlap_needs_a_run_of_words_or_an_equal_short_text() -> None:
    protected = Protected([Text(LONG), Pair("How tall is it?", "Ten metres."), asked("Hi", "Hello")])
    halves = " ".join(LONG.split()[:12])
    found = [o.number for o in protected.overlaps([Text(halves), Text("x " + LONG), Text("Hi Hello"), Text("nothing")])]
    assert found == [1]
    assert protected.shared(Pair("how TALL is it", "ten metres!")) == (1, 1)


def test_chinese_is_compared_by_characters() -> None:
    poem = "床前明月光疑是地上霜举头望明月低头思故乡"
    protected = Protected([Text(poem)])
    assert protected.shared(Text("诗云：" + poem[:13]))[0] == 1
    assert protected.shared(Text(poem[:12]))[0] == 0


def test_system_prompts_prove_nothing() -> None:
    system = Message("system", LONG)
    kept = Conversation((system, Message("user", "a b c d e"), Message("assistant", "f")))
    trained = Conversation((system, Message("user", "g h i j k"), Message("assistant", "l")))
    assert Protected([kept]).shared(trained)[0] == 0


def test_a_run_of_one_word_is_refused() -> None:
    with pytest.raises(UsageError, match="runs of 1"):
        Protected([], run=1)
