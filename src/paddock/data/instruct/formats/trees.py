"""Message trees of Open-Assistant, nested or as flat messages, as threads, rankings or prompts."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from paddock.data.instruct.options import Options
from paddock.data.instruct.records import Conversation, Example, Message, Origin, Ranked
from paddock.data.instruct.taking import Dropped, Format, Record, Taking, text
from paddock.data.reading.options import Broken
from paddock.data.reading.records import kind
from paddock.errors import DataError

ROLES = {"prompter": "user", "user": "user", "assistant": "assistant"}
MAX_TREE = 100_000  # messages of one tree
MAX_FLAT = 2_000_000  # messages of one file
LONGEST = 500  # messages of a thread; every prompt on it may become an example of its own
OWN = ("message_id", "parent_id", "text", "role", "replies", "message_tree_id", "tree_state", "deleted")


@dataclass
class _Node:
    """One message, with what is asked of it before anything is made of it."""

    id: str
    role: str
    content: str
    record: Record
    replies: list[_Node] = field(default_factory=list)

    @functools.cached_property
    def message(self) -> Message:
        return Message(self.role, self.content)

    @property
    def rank(self) -> int | None:
        rank = self.record.get("rank")
        return rank if isinstance(rank, int) and not isinstance(rank, bool) else None


def _tree(record: Record, taking: Taking) -> Iterable[Example]:
    prompt = record.get("prompt")
    if not isinstance(prompt, Mapping):
        raise Broken(f"'prompt' is {kind(prompt)}", f"field 'prompt' is {kind(prompt)}, where a message belongs")
    _state(record.get("tree_state"), taking.options)
    return _examples(_nested(prompt), str(record.get("message_tree_id", "")), taking)


def _state(state: Any, options: Options) -> None:
    if options.tree_states and state is not None and state not in options.tree_states:
        raise Dropped(f"tree_state: {str(state)[:60]}")


def _nested(prompt: Record) -> _Node:
    """The nodes of a tree, without recursion: a thread may be longer than Python's stack."""
    root = _node(prompt, "prompt")
    todo, count = [(root, "prompt")], 1
    while todo:
        node, where = todo.pop()
        replies = node.record.get("replies") or []
        if not isinstance(replies, list):
            raise Broken("'replies' is no list", f"field '{where}.replies' is {kind(replies)}, where a list belongs")
        count += len(replies)
        if count > MAX_TREE:
            raise Broken("too many messages", f"a tree of more than {MAX_TREE:,} messages")
        for place, reply in enumerate(replies):
            inside = f"{where}.replies[{place}]"
            if not isinstance(reply, Mapping):
                raise Broken("a reply is no message", f"field '{inside}' is {kind(reply)}, where a message belongs")
            node.replies.append(_node(reply, inside))
            todo.append((node.replies[-1], inside))
    return root


def _node(record: Record, where: str) -> _Node:
    role = record.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise Broken("unknown role", f"field '{where}.role' is {str(role)[:60]!r}; expected prompter or assistant")
    if not isinstance(record.get("text"), str):
        what = kind(record.get("text"))
        raise Broken(f"'text' is {what}", f"field '{where}.text' is {what}, where text belongs")
    return _Node(str(record.get("message_id", "")), ROLES[role], record["text"], record)


def _wrong(node: _Node, above: _Node | None, options: Options) -> str | None:
    """Why a message, and with it all below it, is left out."""
    record = node.record
    if record.get("deleted") is True:
        return "deleted"
    if record.get("synthetic") is True and not options.synthetic:
        return "synthetic"
    if above is None and record.get("review_result") is False:
        return "review_result is false"
    if not node.content.strip():
        return "empty message"
    if above is None and node.role != "user":
        return "a tree that begins with an answer"
    if above is not None and node.role == above.role:
        return "roles do not alternate"
    if node.role == "assistant" and options.best is not None and (node.rank or 0) >= options.best:
        return f"rank {options.best} or worse"
    return None


def _examples(root: _Node, tree: str, taking: Taking) -> Iterator[Example]:
    """Threads, rankings or prompts of one tree; what is left out is counted by message."""
    options = taking.options
    if reason := _wrong(root, None, options):
        raise Dropped(f"tree: {reason}")
    make = {"threads": _threads, "ranked": _rankings, "prompts": _prompts}[options.trees]
    found = 0
    todo: list[list[_Node]] = [[root]]
    while todo:
        path = todo.pop()
        if len(path) > LONGEST:
            raise Broken("a thread too long", f"a thread of more than {LONGEST} messages")
        sound_replies = []
        for reply in path[-1].replies:
            if reason := _wrong(reply, path[-1], options):
                taking.dropped[f"message: {reason}"] += 1
            else:
                sound_replies.append(reply)
        path[-1].replies = sound_replies
        for example in make(path, tree, taking):
            found += 1
            yield example
        todo += [[*path, reply] for reply in reversed(sound_replies)]
    if not found:
        raise Dropped({"threads": "tree: no answer", "ranked": "tree: nothing ranked"}.get(options.trees, "tree"))


def _threads(path: Sequence[_Node], tree: str, taking: Taking) -> Iterator[Example]:
    """A path from the root to a leaf, ending in an answer. A question at its end is left off, once for its siblings."""
    if path[-1].replies or len(path) < 2:
        return
    if path[-1].role == "user":
        if path[-2].replies[0] is not path[-1]:
            return
        path = path[:-1]
        taking.mended["a last turn without an answer"] += 1
    yield Conversation(_messages(path), origin=_origin(path[-1], tree, taking))


def _rankings(path: Sequence[_Node], tree: str, taking: Taking) -> Iterator[Example]:
    """A path that ends in a question to which at least two answers are ranked."""
    if path[-1].role != "user":
        return
    ranked = sorted((reply for reply in path[-1].replies if reply.rank is not None), key=lambda reply: reply.rank or 0)
    if len(ranked) >= 2:
        yield Ranked(_messages(path), tuple(reply.content for reply in ranked), _origin(path[-1], tree, taking))


def _prompts(path: Sequence[_Node], tree: str, taking: Taking) -> Iterator[Example]:
    """Every path that ends in a question."""
    if path[-1].role == "user":
        yield Conversation(_messages(path), origin=_origin(path[-1], tree, taking))


def _messages(path: Sequence[_Node]) -> tuple[Message, ...]:
    return tuple(node.message for node in path)


def _origin(node: _Node, tree: str, taking: Taking) -> Origin:
    return replace(taking.origin(node.record, OWN, node.id or None), group=tree or None)


def _gathered(records: Iterator[tuple[str, Record]], taking: Taking) -> Iterator[Example]:
    """Flat messages, in whatever order, put together by their ids."""
    nodes: dict[str, _Node] = {}
    above: dict[str, str | None] = {}
    for place, record in records:
        try:
            node = _node(record, "message")
            node.id = text(record, "message_id")
        except Broken as broken:
            taking.refuse(place, broken)
            continue
        if node.id in nodes:
            taking.dropped["message: id seen before"] += 1
            continue
        if len(nodes) >= MAX_FLAT:
            raise DataError(f"{place}: more than {MAX_FLAT:,} messages", fix="split the file by tree")
        nodes[node.id] = node
        parent = record.get("parent_id")
        above[node.id] = str(parent) if parent is not None else None
    roots = []
    for name, node in nodes.items():
        parent = above[name]
        if parent is None:
            roots.append(node)
        elif parent in nodes:
            nodes[parent].replies.append(node)
        else:
            taking.dropped["message: its parent is not there"] += 1
    yield from _of_roots(roots, taking)


def _of_roots(roots: Sequence[_Node], taking: Taking) -> Iterator[Example]:
    for root in roots:
        try:
            _state(root.record.get("tree_state"), taking.options)
            yield from _examples(root, str(root.record.get("message_tree_id") or root.id), taking)
        except Dropped as dropped:
            taking.dropped[dropped.reason] += 1
        except Broken as broken:
            taking.refuse(f"{taking.place}, the tree of message {root.id[:60]}", broken)


def _flat(record: Record, taking: Taking) -> Iterable[Example]:
    """A message alone, where records of many formats are in one file."""
    raise Broken("a message of a tree", "a message of a tree among records of other formats", "read its file by itself")


FORMATS = [
    Format(
        "oasst-trees",
        "Open-Assistant's trees: message_tree_id, tree_state, prompt with replies",
        lambda record: isinstance(record.get("prompt"), Mapping) and "message_tree_id" in record,
        _tree,
    ),
    Format(
        "oasst-messages",
        "Open-Assistant's flat messages: message_id, parent_id, text, role",
        lambda record: record.keys() >= {"message_id", "text"} and record.get("role") in ("prompter", "assistant"),
        _flat,
        _gathered,
    ),
]
