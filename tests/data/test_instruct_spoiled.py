"""Every field of every format's records in turn made something else: only refusals come of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from example_records import CONVERSATIONS, OTHERS

from paddock.data.instruct.formats import FORMATS
from paddock.data.instruct.options import Options
from paddock.data.instruct.summary import Summary
from paddock.data.instruct.taking import Dropped, Taking
from paddock.data.reading.options import Broken

RECORDS: dict[str, list[tuple[Any, Any]]] = {**CONVERSATIONS, **OTHERS}
VALUES: list[Any] = [None, True, 7, -1.5, "", "x", [], ["a"], [[]], {}, {"a": 1}, [{}], [None], 10**30]
VALUES += [
    "Human:",
    "### Assistant:",
    "[|AI|]",
    "\n\nAssistant:",
    [{"from": "human", "value": "v"}],
    {"role": "prompter"},
]
GONE = object()


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*path, key)
        yield from spots(value[key], (*path, key))


def spoiled(record: Any, path: tuple[Any, ...], value: Any) -> Any:
    record = copy.deepcopy(record)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return record


@pytest.mark.parametrize("name", sorted(set(RECORDS) - {"oasst-messages"}))
def test_only_refusals_come_of_it(name: str) -> None:
    form, summary = FORMATS[name], Summary()
    refused = 0
    for record, _ in RECORDS[name]:
        for path in list(spots(record)):
            for value in (*VALUES, GONE):
                wrong = spoiled(record, path, value)
                for each in FORMATS.values():
                    assert each.fits(wrong) in (True, False)
                try:
                    for example in form.read(wrong, Taking(Options(synthetic=True), "here", "set")):
                        summary.add(example)
                except (Broken, Dropped) as reason:
                    assert reason.reason
                    refused += 1
    assert refused and (summary.plain["kinds"] or name == "hh"), "some are refused, and some are read all the same"


def test_tables_of_messages() -> None:
    """Whatever a message becomes, the others are put together."""
    rows = [record for record, _ in RECORDS["oasst-messages"]]
    gathered, whole = FORMATS["oasst-messages"].gathered, 0
    assert gathered is not None
    for place, row in enumerate(rows):
        for path in spots(row):
            for value in (*VALUES, GONE):
                wrong = [spoiled(row, path, value) if at == place else each for at, each in enumerate(rows)]
                taking = Taking(Options(on_error="skip"), "here", "set")
                found = list(gathered(iter(("here", each) for each in wrong), taking))
                assert len(found) + sum(taking.dropped.values()) >= 1
                whole += len(found)
    assert whole > 50
