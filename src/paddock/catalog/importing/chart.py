"""LLaMA-Cult charts: Markdown tables of project | base model | data | finetune | hardware/Cost.

A project may have several rows, a row may lack its last cells, and "same" says what the row above says.
"""

from __future__ import annotations

import re
from pathlib import Path

from paddock.catalog.importing import wording
from paddock.catalog.importing.drafts import Draft, Listed
from paddock.errors import DataError

COLUMNS = ("project", "base model", "data", "finetune", "hardware/cost")
HOME = "https://github.com/shm007g/LLaMA-Cult-and-More"
MAX_LINES = 100_000
ADDRESS = re.compile(r"\]\((https?://[^()\s<>\"]{1,290})\)")
SIZE = re.compile(r"\d{1,4}(?:\.\d{1,3})?[bm]", re.IGNORECASE)
METHODS = {  # what a cell of `finetune` says, and the method it means
    r"\bSFT\b": "supervised",
    r"\bLoRA\b": "LoRA",
    r"\bQLoRA\b": "QLoRA",
    r"\bAdapt[eo]r\b": "adapter",
    r"\bRLHF\b": "RLHF",
    r"\bDPO\b": "preference",
}


def read(text: str, path: Path, key: str) -> Listed:
    """The projects of a chart. Raises DataError where there is no table of these columns."""
    listed = Listed([], {"title": f"LLaMA-Cult-and-More, {path.name}", "url": HOME}, [])
    projects: dict[str, Draft] = {}
    columns: list[str] = []
    above: list[str] = []
    tables = 0
    for number, line in enumerate(text.splitlines(), 1):
        if number > MAX_LINES:
            raise DataError(f"{path} has more than {MAX_LINES:,} lines", expected="a chart")
        cells = _cells(line)
        if not cells:
            columns = []
        elif [cell.lower() for cell in cells[:2]] == list(COLUMNS[:2]):
            columns, above = [cell.lower() for cell in cells], []
            tables += 1
        elif columns and not set("".join(cells)) <= set("-: "):
            if len(cells) > len(columns):
                listed.remarks.append(f"{path}:{number} has {len(cells)} cells in {len(columns)} columns; left out")
                continue
            cells += [""] * (len(columns) - len(cells))
            cells = [
                old if cell.lower() == "same" and above else cell
                for cell, old in zip(cells, above or cells, strict=True)
            ]
            _row(dict(zip(columns, cells, strict=True)), f"{path}:{number}", key, projects, listed.remarks)
            above = cells
    if not tables:
        raise DataError(f"{path} has no table of {' | '.join(COLUMNS)}", expected="a LLaMA-Cult chart")
    listed.drafts = list(projects.values())
    return listed


def _cells(line: str) -> list[str]:
    """The cells of a row of a table, [] for other lines."""
    line = line.strip()
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") and line != "|" else []


def _row(cells: dict[str, str], place: str, key: str, projects: dict[str, Draft], remarks: list[str]) -> None:
    organisation, _, name = wording.plain(cells["project"], 200).rpartition("/")
    if not name.strip():
        remarks.append(f"{place} has no project; left out")
        return
    bases, sizes = _bases(wording.plain(cells["base model"], 200))
    data = wording.told(cells.get("data"))
    draft = projects.get(name.lower())
    if draft is None:
        draft = Draft("model", name.strip(), organisation.strip() or "not stated", place, key)
        draft.values = {"about": "A model that the chart lists.", "branch": "decoder"}
        if address := ADDRESS.search(cells["project"]):
            draft.values["url"] = address[1]
        projects[name.lower()] = draft
    if sizes:
        draft.values["sizes"] = [_size(size) for size in sizes]
    draft.depends |= dict.fromkeys(bases, "model")
    if data:
        notes = [*draft.values.get("notes", []), f"Data, as listed: {data}"[:600]]
        draft.values["notes"] = list(dict.fromkeys(notes))
        draft.depends |= dict.fromkeys(_named(data), "dataset")
    how = cells.get("finetune", "")
    methods = [method for pattern, method in METHODS.items() if re.search(pattern, how)]
    if methods:
        draft.values["method"] = list(dict.fromkeys([*draft.values.get("method", []), *methods]))
    hardware = wording.told(cells.get("hardware/cost"))
    if hardware and "hardware" not in draft.values:
        draft.values["hardware"] = hardware


def _bases(text: str) -> tuple[list[str], list[str]]:
    """Names of base models, and sizes of its own: "LLaMA-7B/13B" is LLaMA-7B and LLaMA-13B, "2.7B" is a size."""
    bases: list[str] = []
    sizes: list[str] = []
    for part in (part.strip() for part in re.split(r"[/,;]", text)):
        if not SIZE.fullmatch(part):
            bases += [part] if wording.told(part) else []
        elif bases and SIZE.search(bases[-1]):
            bases.append(SIZE.sub(part, bases[-1], count=1))
        else:
            sizes.append(part)
    return bases, sizes


def _size(text: str) -> dict[str, object]:
    whole, _ = wording.parameters(text)
    return {"name": text.lower(), "stated": text} | ({"parameters": whole} if whole else {})


def _named(data: str) -> list[str]:
    """What may be names of datasets in a cell: its parts, without how many there are of them."""
    parts = (part.strip() for part in re.split(r"[;,]", data))
    bare = (re.sub(r"^[~\d.,]+[kKmMbB]?\s+", "", part) for part in parts)
    return [part for part in bare if part and len(part.split()) <= 3]
