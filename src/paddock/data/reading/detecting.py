"""What a file of documents is, told by its content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddock.data.reading.parsing import DECODER
from paddock.data.reading.pieces import AS_UTF8
from paddock.errors import DataError

HEAD = 2**16  # bytes looked at

JSON_SUFFIXES, LINES_SUFFIXES = {".json"}, {".jsonl", ".ndjson"}


def detect(head: bytes, path: Path) -> str:
    """text, jsonl, json or empty, from the first bytes in UTF-8 of a file.

    JSON is told from JSON lines by its content, as both go by the name of .json. Raises DataError for what is neither
    text nor JSON, and for a .json file that is none.
    """
    if head.count(b"\0") > len(head) // 8:
        raise DataError(f"{path} is no text: it holds NUL bytes", fix=f"if it is UTF-16: {AS_UTF8}")
    start = head.lstrip()
    suffixes = set(path.suffixes)
    if not start:
        return "empty"
    if start.startswith(b"{"):
        return _object(start, suffixes)
    if start.startswith(b"[") and (_begins_array(start) or suffixes & JSON_SUFFIXES):
        return "json"
    if suffixes & LINES_SUFFIXES:
        return "jsonl"  # its first line is broken, which reading says
    if suffixes & JSON_SUFFIXES:
        shown = start[:20].decode("utf-8", "replace")
        raise DataError(f"{path} is no JSON: it begins with {shown!r}", fix="--format text, if it is a text")
    return "text"


def _object(start: bytes, suffixes: set[str]) -> str:
    """JSON lines where some line is a whole object; one long or broken line goes by the file's name."""
    lines = start.split(b"\n")
    whole = lines[:-1] if len(start) >= HEAD - 64 else lines
    for line in whole[:100]:
        if _is_object(line):
            return "jsonl"
    if suffixes & LINES_SUFFIXES or (not whole and not suffixes & JSON_SUFFIXES):
        return "jsonl"
    return "json" if suffixes & JSON_SUFFIXES or start[1:].lstrip()[:1] in (b'"', b"}") else "text"


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(DECODER.decode(line.decode("utf-8", "replace")), dict)
    except (ValueError, RecursionError):
        return False


def _begins_array(start: bytes) -> bool:
    """Whether an array of records or texts begins here, and not a text with a bracket: "[Music] ..."."""
    inside = start[1:].lstrip()
    return inside[:1] in (b"{", b'"', b"]") and not (inside[:1] == b"]" and bool(inside[1:].strip()))


def shape_of(record: Any, text_field: str) -> tuple[str, str]:
    """The name of a record's shape, and the field its text is in."""
    if not isinstance(record, Mapping):
        return "texts", text_field
    keys = record.keys()
    if text_field == "text" and "text" not in keys and {"raw_content", "digest"} <= keys:
        return "cc_net (text in 'raw_content')", "raw_content"
    if text_field != "text":
        return f"text in {text_field!r}", text_field
    if "red_pajama_subset" in keys or ("meta" in keys and _is_red_pajama(record["meta"])):
        return "RedPajama v1", text_field
    if {"text", "url", "timestamp"} <= keys:
        return "C4", text_field
    if {"text", "title"} <= keys and keys & {"id", "url", "revid"}:
        return "Wikipedia", text_field
    return ("texts with meta" if "meta" in keys else "texts with fields" if len(keys) > 1 else "texts"), text_field


def _is_red_pajama(meta: Any) -> bool:
    if isinstance(meta, str):
        return meta.startswith("{") and any(f"{key}" in meta for key in ("source", "timestamp"))
    return isinstance(meta, Mapping) and {"source", "timestamp"} <= meta.keys()
