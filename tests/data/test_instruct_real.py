"""The real sets: as many examples as their description counts, each that is not kept for a reason that is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddock.data.instruct.reading import Report, examples
from paddock.data.instruct.records import Conversation, Message, Preference, Ranked
from paddock.data.instruct.writing import write_examples
from paddock.tokenizer.template_registry import find_template

NO_INPUT, OPEN = "input says that there is none", "a last turn without an answer"
LIBRE = {"too similar": 848, "too short": 215, "blacklist": 109, "bad start": 1}

# file: format, records as the description of the data counts them, examples, what is dropped, what is mended
SETS: dict[str, tuple[str, int, int, dict[str, int], dict[str, int]]] = {
    "alpaca_5000.json": ("alpaca", 5000, 4998, {"empty output": 2}, {NO_INPUT: 44}),
    "alpaca_en_demo.json": ("alpaca", 999, 999, {}, {NO_INPUT: 5}),
    "alpaca_libre_v1.jsonl": ("alpaca", 1202, 1173, {"empty output": 29}, {NO_INPUT: 247}),
    "alpaca_libre_v1_raw.jsonl": (
        "alpaca-libre",
        2375,
        1173,
        {"empty output": 29, **{f"status: {name}": count for name, count in LIBRE.items()}},
        {NO_INPUT: 247},
    ),
    "alpaca_libre_v2.jsonl": ("alpaca", 1286, 1281, {"empty output": 5}, {NO_INPUT: 8}),
    "belle_eval_600.jsonl": ("question-answer", 600, 362, {"empty std_answer": 238}, {}),
    "belle_zh_seed_tasks.jsonl": ("self-instruct", 175, 175, {}, {}),
    "dolly_hhrlhf_small.jsonl": ("alpaca-prompts", 1000, 1000, {}, {}),
    "dpo_en_demo.json": ("dpo", 300, 300, {}, {}),
    "glaive_toolcall_en_demo.json": ("glaive", 300, 300, {}, {}),
    "hh_harmless_1500.jsonl": (
        "hh",
        1502,
        1498,
        {"empty chosen answer": 4},
        {"two turns of one speaker joined": 7},
    ),
    "identity.json": ("alpaca", 91, 91, {}, {}),
    "kto_en_demo.json": ("kto", 300, 300, {}, {}),
    "llava_instruct_100.json": ("llava", 100, 100, {}, {}),
    "moss_sft_sample.jsonl": ("moss", 284, 284, {}, {}),
    "oasst1_guanaco_600.jsonl": ("guanaco", 600, 600, {}, {}),
    "oasst_trees_70.jsonl": ("oasst-trees", 70, 367, {"tree: synthetic": 4}, {OPEN: 104}),
    "seed_tasks.jsonl": ("self-instruct", 175, 175, {}, {}),
    "sharegpt_dummy_conversation.json": ("sharegpt", 500, 500, {}, {}),
}


def records(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]


def test_every_set_is_in_the_table(shared_data: Path) -> None:
    assert {path.name for path in (shared_data / "instruct").iterdir()} == set(SETS)


@pytest.mark.parametrize("name", SETS)
def test_counts_and_conversion(name: str, shared_data: Path, tmp_path: Path) -> None:
    form, count, kept, dropped, mended = SETS[name]
    report = Report()
    found = list(examples(shared_data / "instruct" / name, report=report))
    (file,) = report.files
    assert (file.format, file.records, len(found)) == (form, count, kept)
    assert (dict(report.dropped), dict(report.mended)) == (dropped, mended)
    if form != "oasst-trees":
        assert kept + sum(dropped.values()) == count
    target = tmp_path / "out.jsonl"
    written = write_examples(found, target)
    assert written.examples == kept and not written.lost
    again = list(examples(target))
    assert again == found
    assert all(one.origin.id == other.origin.id for one, other in zip(found, again, strict=True))


def test_other_tasks(shared_data: Path) -> None:
    """Classes, summaries and translations."""
    text = shared_data / "text"
    assert [len(list(examples(text / "sst2" / f"{part}.tsv"))) for part in ("train", "dev")] == [6920, 872]
    labels = [each.label for each in examples(text / "sst2" / "dev.tsv")]
    assert (labels.count("1"), labels.count("0")) == (444, 428)
    assert len(list(examples(text / "scitldr" / "train.jsonl"))) == 1500
    multi = text / "multi30k"
    assert len(list(examples(multi / "train.en", second=multi / "train.de"))) == 29000
    pairs = list(examples(multi / "val.en", second=multi / "val.de"))
    lines = [(multi / f"val.{end}").read_text(encoding="utf-8").split("\n") for end in ("en", "de")]
    assert [(pair.source, pair.target) for pair in pairs] == list(zip(*lines, strict=True))[:1014]


def test_moss_is_what_its_template_writes(shared_data: Path) -> None:
    """Read and rendered by `moss-plugins`, every dialogue is the text that was published, mark for mark."""
    path = shared_data / "instruct" / "moss_sft_sample.jsonl"
    template = find_template(template="moss-plugins")
    assert template is not None
    for record, example in zip(records(path), examples(path), strict=True):
        turns = [record["chat"][f"turn_{number}"] for number in range(1, record["num_turns"] + 1)]
        published = record["meta_instruction"]
        for turn in turns:
            used = "None" not in turn["Commands"][:20]
            results = turn["Tool Responses"] if used else "<|Results|>: None<eor>\n"
            published += "".join((turn["Human"], turn["Inner Thoughts"], turn["Commands"], results, turn["MOSS"]))
        rendered = template.render([each.plain() for each in example.messages], add_generation_prompt=False)
        assert rendered.startswith(record["meta_instruction"] + "<|Human|>: ")
        assert "".join(rendered.split()) == "".join(published.split()), example.origin.place


def test_preferences_say_what_was_published(shared_data: Path) -> None:
    path = shared_data / "instruct" / "hh_harmless_1500.jsonl"
    by_place = {each.origin.place: each for each in examples(path)}
    seen = 0
    for number, record in enumerate(records(path), 1):
        example = by_place.get(f"{path}:{number}")
        if example is None:
            continue
        assert isinstance(example, Preference)
        for name, answer in (("chosen", example.chosen), ("rejected", example.rejected)):
            dialogue = [("Human" if each.role == "user" else "Assistant", each) for each in (*example.prompt, *answer)]
            text = "".join(f"\n\n{who}: {each.content}" for who, each in dialogue)
            seen += "".join(text.split()) == "".join(record[name].split())
        assert example.chosen[0] != example.rejected[0]
    assert seen >= 2 * 1498 - 7  # all but turns that were joined


Node = dict[str, Any]


def threads(node: Node, before: tuple[Node, ...] = ()) -> Iterator[tuple[Node, ...]]:
    path = (*before, node)
    if not node.get("replies"):
        yield path
    for reply in node.get("replies", []):
        yield from threads(reply, path)


def nodes(node: Node, before: tuple[Node, ...] = ()) -> Iterator[tuple[Node, ...]]:
    yield (*before, node)
    for reply in node.get("replies", []):
        yield from nodes(reply, (*before, node))


def messages(path: tuple[Node, ...]) -> tuple[Message, ...]:
    return tuple(Message("user" if each["role"] == "prompter" else "assistant", each["text"]) for each in path)


def test_trees_by_another_walk(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "instruct" / "oasst_trees_70.jsonl"
    trees = [tree["prompt"] for tree in records(path) if not tree["prompt"]["synthetic"]]
    expected = []
    for tree in trees:
        for thread in threads(tree):
            if thread[-1]["role"] == "assistant":
                expected.append(messages(thread))
            elif thread[-2]["replies"][0] is thread[-1]:
                expected.append(messages(thread[:-1]))
    found = list(examples(path))
    assert [each.messages for each in found if isinstance(each, Conversation)] == expected
    assert {each.origin.group for each in found} == {tree["message_id"] for tree in trees}
    asked = [each for tree in trees for each in nodes(tree) if each[-1]["role"] == "prompter"]
    assert [each.messages for each in examples(path, trees="prompts")] == [messages(each) for each in asked]
    ranked = list(examples(path, trees="ranked"))
    several = [each for each in asked if sum("rank" in reply for reply in each[-1]["replies"]) > 1]
    assert [each.prompt for each in ranked] == [messages(each) for each in several] and len(ranked) == 142
    for example, prompt in zip(ranked, several, strict=True):
        replies = [reply for reply in prompt[-1]["replies"] if "rank" in reply]
        assert isinstance(example, Ranked)
        assert list(example.responses) == [each["text"] for each in sorted(replies, key=lambda each: each["rank"])]
    best = list(examples(path, best=1))
    assert len(best) < len(found) and all(each.origin.meta.get("rank", 0) == 0 for each in best)
    everything = Report()
    list(examples(path, synthetic=True, report=everything))
    assert not everything.dropped
    _flat(path, found, tmp_path)


def _flat(path: Path, found: list[Any], tmp_path: Path) -> None:
    """The same trees as a table of messages, in the order of a shuffled deck, give the same threads."""
    rows = []
    for tree in records(path):
        for thread in nodes(tree["prompt"]):
            row = {key: value for key, value in thread[-1].items() if key != "replies"}
            rows.append({**row, "message_tree_id": tree["message_tree_id"], "tree_state": tree["tree_state"]})
    target = tmp_path / "flat.jsonl"
    rows.sort(key=lambda row: row["message_id"])
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = Report()
    flat = list(examples(target, report=report))
    assert report.files[0].format == "oasst-messages" and report.files[0].records == len(rows) == 797
    said = {repr(each.messages) for each in found}
    both = said & {repr(each.messages) for each in flat}
    # Which of several questions at the end is the first depends on the order; every thread without one is the same.
    assert len(both) >= 363 - 104 and report.dropped["tree: synthetic"] == 4
