"""Writers of formats that put a whole conversation into one text, or a tree, or steps with marks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from paddock.data.instruct.formats.moss import STEPS
from paddock.data.instruct.formats.transcripts import BAIZE, BAIZE_BEGINS, BELLE, GUANACO
from paddock.data.instruct.records import Conversation, Message, Ranked
from paddock.data.instruct.writers.writer import Row, Unwritable, Writer, about, answered, plain_roles, without_input


def bare(
    messages: Sequence[Message], mark: re.Pattern[str], lost: Counter[str], apart: bool = False
) -> list[tuple[str, str]]:
    """(role, text) without the blanks around it, which a transcript cannot tell from its own. Raises Unwritable.

    apart: the last answer has a field of its own, where marks are text.
    """
    found: list[tuple[str, str]] = []
    for message in without_input(messages, lost):
        said = message.content.strip()
        lost["blanks at the ends of turns"] += said != message.content
        if mark.search(said) and not (apart and len(found) == len(messages) - 1):
            raise Unwritable("a mark of the format in the text")
        found.append((message.role, said))
    return found


def _guanaco(example: Conversation, lost: Counter[str]) -> list[Row]:
    answered(example)
    plain_roles(example, ("user", "assistant"))
    *before, (_, answer) = bare(example.messages, GUANACO, lost, apart=True)
    names = {"user": "Human", "assistant": "Assistant"}
    asked = " ".join(f"### {names[role]}: {said}" for role, said in before)
    row: Row = {"input": f"{asked} ### Assistant:", "output": answer}
    origin = about(example.origin, row, ("parent_id", "rank"))
    if "id" in origin:
        row["message_id"] = origin.pop("id")
    return [{**row, **origin}]


def _belle(example: Conversation, lost: Counter[str]) -> list[Row]:
    answered(example)
    plain_roles(example, ("user", "assistant"))
    *before, (_, answer) = bare(example.messages, BELLE, lost, apart=True)
    names = {"user": "Human", "assistant": "Assistant"}
    asked = "".join(f"{names[role]}:{said}\n" for role, said in before)
    row = {"instruction": f"{asked}Assistant:", "input": "", "output": answer}
    return [{**row, **about(example.origin, row)}]


def _baize(example: Conversation, lost: Counter[str]) -> list[Row]:
    answered(example)
    plain_roles(example, ("user", "assistant"))
    names = {"user": "Human", "assistant": "AI"}
    turns = [f"[|{names[role]}|] {said}" for role, said in bare(example.messages, BAIZE, lost)]
    preface = str(example.origin.meta.get("preface", BAIZE_BEGINS))
    row = {"input": "\n".join([preface, *turns, "[|Human|] "])}
    origin = about(example.origin, row, ("topic", "preface"))
    origin.pop("preface", None)
    return [{**row, **origin}]


def _moss(example: Conversation, lost: Counter[str]) -> list[Row]:
    answered(example)
    if example.tools:
        raise Unwritable("tools")
    messages = without_input(example.messages, lost)
    system = messages.pop(0).content if messages[0].role == "system" else ""
    turns = _in_steps(messages, lost)
    chat = {
        f"turn_{number}": {name: f"{STEPS[name][0]} {turn[name]}{STEPS[name][1]}\n" for name in STEPS}
        for number, turn in enumerate(turns, 1)
    }
    row: Row = {"meta_instruction": system, "num_turns": len(turns), "chat": chat}
    origin = about(example.origin, row, ("category",))
    if "id" in origin:
        row = {"conversation_id": origin.pop("id"), **row}
    return [{**row, **origin}]


def _in_steps(messages: Sequence[Message], lost: Counter[str]) -> list[dict[str, str]]:
    """A turn for each question: thoughts, commands, results, answer."""
    turns: list[dict[str, str]] = []
    due = "user"
    for message in messages:
        if message.role != due or message.learn is not None or set(message.more) - {"inner_thoughts", "commands"}:
            raise Unwritable("turns that are not question, command, result and answer")
        said = message.content if message.role == "tool" else message.content.strip()
        lost["blanks at the ends of turns"] += said != message.content
        if message.role == "user":
            turns.append({"Human": said, "Inner Thoughts": "None", "Commands": "None", "Tool Responses": "None"})
            due = "assistant"
        elif message.role == "tool":
            turns[-1]["Tool Responses"] = said
            due = "assistant"
        else:
            turns[-1]["Inner Thoughts"] = str(message.more.get("inner_thoughts") or turns[-1]["Inner Thoughts"])
            calls = str(message.more.get("commands") or "")
            turns[-1]["Commands" if calls else "MOSS"] = calls or said
            due = "tool" if calls else "user"
    return turns


def _nodes(example: Conversation | Ranked) -> tuple[str, list[Row]]:
    """The name of the tree, and its messages from the root on, each under the one before, but ranked ones together."""
    messages = example.prompt if isinstance(example, Ranked) else example.messages
    if isinstance(example, Conversation):
        plain_roles(example, ("user", "assistant"), inputs=False)
    name = example.origin.id
    if name is None:
        raise Unwritable("no id")
    nodes: list[Row] = []
    for place, message in enumerate(messages, 1):
        if message.role != ("assistant", "user")[place % 2] or message.more:
            raise Unwritable("turns that are not question and answer")
        own = name if place == len(messages) else f"{name}/{place}"
        nodes.append(_node(own, message.role, message.content, example, nodes[-1]["message_id"] if nodes else None))
    nodes[-1] |= {key: value for key, value in example.origin.meta.items() if key not in nodes[-1]}
    if isinstance(example, Ranked):
        for rank, answer in enumerate(example.responses):
            nodes.append({**_node(f"{name}/best{rank}", "assistant", answer, example, name), "rank": rank})
    return example.origin.group or name, nodes


def _node(name: str, role: str, content: str, example: Conversation | Ranked, above: str | None) -> Row:
    row: Row = {
        "message_id": name,
        "text": content,
        "role": "prompter" if role == "user" else "assistant",
        "lang": example.origin.language,
        "license": example.origin.licence,
        "source": example.origin.source,
        "parent_id": above,
    }
    return {key: value for key, value in row.items() if value is not None}


def _messages_of_tree(example: Conversation | Ranked, lost: Counter[str]) -> list[Row]:
    tree, nodes = _nodes(example)
    return [{**node, "message_tree_id": tree, "tree_state": "ready_for_export"} for node in nodes]


def _tree(example: Conversation | Ranked, lost: Counter[str]) -> list[Row]:
    tree, nodes = _nodes(example)
    by_id = {node["message_id"]: node for node in nodes}
    for node in nodes[1:]:
        by_id[node["parent_id"]].setdefault("replies", []).append(node)
    return [{"message_tree_id": tree, "tree_state": "ready_for_export", "prompt": nodes[0]}]


WRITERS = [
    Writer("guanaco", (Conversation,), _guanaco),
    Writer("belle-turns", (Conversation,), _belle),
    Writer("baize", (Conversation,), _baize),
    Writer("moss", (Conversation,), _moss),
    Writer("oasst-trees", (Conversation, Ranked), _tree),
    Writer("oasst-messages", (Conversation, Ranked), _messages_of_tree, unique=True),
]
