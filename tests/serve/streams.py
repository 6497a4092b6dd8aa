"""Streams of OpenAI's shape read back, and put together as clients do."""

from __future__ import annotations

import json
from typing import Any


def events(text: str) -> list[dict[str, Any]]:
    """The objects of a stream that ended well."""
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]", text[-300:]
    return [json.loads(line) for line in lines[:-1]]


def together(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """What a client that adds pieces up has in the end: choices by index, usage, and all of "paddock"."""
    choices: dict[int, dict[str, Any]] = {}
    box: dict[str, Any] = {}
    for chunk in chunks:
        for piece in chunk["choices"]:
            choice = choices.setdefault(piece["index"], {"text": "", "logprobs": None, "finish_reason": None})
            assert choice["finish_reason"] is None, "nothing comes after a finish reason"
            choice["text"] += piece.get("text") or piece.get("delta", {}).get("content") or ""
            choice["finish_reason"] = piece["finish_reason"]
            for name, items in (piece["logprobs"] or {}).items():
                if items is not None:
                    choice["logprobs"] = choice["logprobs"] or {}
                    choice["logprobs"].setdefault(name, []).extend(items)
        for name, value in chunk.get("paddock", {}).items():
            box[name] = box.get(name, []) + value if name == "tokens" else value
    ids = {(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}
    assert len(ids) == 1
    return {
        "choices": [choices[index] for index in sorted(choices)],
        "usage": chunks[-1].get("usage"),
        "timings": chunks[-1].get("timings"),
        "paddock": box,
    }


def whole_text(choice: dict[str, Any]) -> str:
    """A choice's text, chat's or a completion's."""
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    assert isinstance(text, str)
    return text
