from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.engine.stopping import StopScanner

LETTERS = st.text(alphabet="ab\n", max_size=24)
STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), min_size=1, max_size=4)


def scanned(pieces: list[str], stops: list[str]) -> tuple[str, str | None, list[str]]:
    scanner = StopScanner(stops)
    shown = [scanner.push(piece) for piece in pieces]
    return "".join(shown) + scanner.finish(), scanner.found, shown


def expected(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The text up to the stop that is completed first, character by character; of several the longest."""
    for end in range(1, len(text) + 1):
        done = [stop for stop in stops if text[:end].endswith(stop)]
        if done:
            longest = max(done, key=len)
            return text[: end - len(longest)], longest
    return text, None


@settings(derandomize=True, deadline=None, max_examples=400)
@given(LETTERS, STOPS, st.lists(st.integers(0, 24), max_size=6))
def test_the_borders_of_pieces_change_nothing(text: str, stops: list[str], cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    whole, found, _ = scanned(pieces, stops)
    assert (whole, found) == expected(text, stops)
    assert scanned(list(text), stops)[:2] == (whole, found)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(LETTERS, STOPS)
def test_what_was_shown_is_never_taken_back_and_nothing_is_held_longer_than_needed(text: str, stops: list[str]) -> None:
    scanner, shown = StopScanner(stops), ""
    for place, character in enumerate(text, 1):
        shown += scanner.push(character)
        if scanner.found is not None:
            break
        assert shown + scanner.held == text[:place]
        assert not scanner.held or any(stop.startswith(scanner.held) for stop in stops)
        assert not any(stop in shown for stop in stops)


def test_a_stop_across_many_pieces() -> None:
    assert scanned(["Hello<", "|e", "nd|", "> more"], ["<|end|>"]) == ("Hello", "<|end|>", ["Hello", "", "", ""])


def test_an_unfinished_stop_is_shown_at_the_end() -> None:
    assert scanned(["a<|e"], ["<|end|>"])[0] == "a<|e"


def test_without_stops_text_passes_at_once() -> None:
    assert scanned(["a", "b"], []) == ("ab", None, ["a", "b"])
