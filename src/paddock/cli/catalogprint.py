"""Entries of the catalogue as text: a line each, a page, a table of several. Made to fit the terminal's width."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

from paddock.catalog import comparing
from paddock.catalog.catalogue import Catalogue, Found, source_key
from paddock.catalog.comparing import Line
from paddock.catalog.filters import Row
from paddock.catalog.lineage import CHILD
from paddock.catalog.schema import Dataset, Licence, Model
from paddock.cli import output

PLAIN_WIDTH = 120  # where nobody's terminal says
GAP = 2
FIXED, LEAST = 4, 8  # the first columns of a listing are never cut, the others to no less than this
LESS_NEEDED = (5, 3, 4, 6, 1)  # columns of a listing in the order in which they are left out
NAMES_SHOWN = 24  # entries that were made of one, before "and 12 more"


def width() -> int:
    """Columns to fill: the terminal's, or PLAIN_WIDTH for files and pipes."""
    return max(60, shutil.get_terminal_size().columns) if sys.stdout.isatty() else PLAIN_WIDTH


def listing(rows: Sequence[Row], columns: int) -> str:
    """A line for each entry. Where the terminal is narrow, days of dates go, then long texts are cut with an ellipsis,
    then whole columns; names never."""
    header = ("name", "released", "commercial", "context", "sizes", "by", "licence")
    table = [_line(row) for row in rows]
    if columns < 100:
        table = [[line[0], line[1][:7], *line[2:]] for line in table]
    used = [i for i in range(len(header)) if i == 0 or any(line[i] for line in table)]
    widest = [max(output.cells(line[i]) for line in [*table, header]) for i in range(len(header))]
    least = [width if i < FIXED else min(width, LEAST) for i, width in enumerate(widest)]
    for i in LESS_NEEDED:
        if i in used and sum(least[j] + GAP for j in used) - GAP > columns:
            used.remove(i)
    widths = [widest[i] for i in used]
    _shrink(widths, sum(i < FIXED for i in used), columns - GAP * (len(used) - 1))
    cut = [[_cut(line[i], room) for i, room in zip(used, widths, strict=True)] for line in table]
    heads = [header[i] for i in used]
    return output.table(cut, heads, right=tuple(i for i, head in enumerate(heads) if head == "context"))


def _line(row: Row) -> list[str]:
    asset = row.asset
    context, sizes = "", ""
    if isinstance(asset, Model):
        longest = max((size.context or 0 for size in row.sizes), default=0) or asset.context
        context = _thousands(longest) if longest else ""
        sizes = " ".join(size.name for size in row.sizes)
    elif isinstance(asset, Dataset):
        sizes = asset.size or (f"{asset.records:,}" if asset.records else "")
    licence = asset.licence
    use = "?" if licence is None or licence.commercial is None else "yes" if licence.commercial else "no"
    return [
        asset.id,
        asset.released or "",
        use,
        context,
        sizes,
        asset.organisation,
        licence.name if isinstance(licence, Licence) else "",
    ]


def _thousands(count: int) -> str:
    """A context as people say it: 2048 as it is, 131072 as 128K."""
    if count >= 10**6:
        return f"{count >> 20}M" if count % 2**20 == 0 else f"{count / 10**6:g}M"
    return f"{count >> 10}K" if count >= 8192 and count % 1024 == 0 else str(count)


def _shrink(widths: list[int], fixed: int, room: int) -> None:
    """Takes from the widest of the columns after the first `fixed` ones until all fit, LEAST each at least."""
    while sum(widths) > room:
        widest = max(range(fixed, len(widths)), key=lambda i: widths[i], default=None)
        if widest is None or widths[widest] <= LEAST:
            return
        widths[widest] -= 1


def _cut(text: str, room: int) -> str:
    if output.cells(text) <= room:
        return text
    while output.cells(text) > room - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def exact(known: Catalogue, rows: Sequence[Row], columns: int) -> str:
    """Each size with a count that was published and worked out alike, and where it was published."""
    table = []
    for row in rows:
        for size in row.sizes:
            source = known.source(row.asset, "published", size)
            table.append([f"{row.asset.id}-{size.name}", f"{size.published:,}", source.title])
    room = columns - sum(max(output.cells(line[i]) for line in table) + GAP for i in (0, 1))
    cut = [[*line[:2], _cut(line[2], max(room, LEAST))] for line in table]
    return output.table(cut, ("size", "parameters", "published in"), right=(1,))


def page(known: Catalogue, found: Found, columns: int) -> str:
    """All of an entry, its sizes in a table, its lineage one step up and down, and its sources, numbered."""
    asset = found.asset
    numbers = {key: number for number, key in enumerate(comparing.used_sources(found), 1)}
    parts = [heading(f"{asset.name}  {found.name}" if found.name != asset.name else asset.name)]
    parts[0] += "\n" + textwrap.fill(asset.about, columns)
    rows = []
    for fact in comparing.facts(found):
        text = fact.text + (f" [{numbers[fact.source]}]" if fact.source is not None else "")
        rows.append((fact.label, text))
    parts.append(_pairs(rows, columns))
    if isinstance(asset, Model) and found.size is None and asset.sizes:
        parts.append(heading("sizes") + "\n" + _sizes(asset, numbers, columns))
        parts += _beside(asset, numbers, columns)
    notes = [*asset.notes, *(found.size.notes if found.size is not None else ())]
    if notes:
        parts.append(heading("notes") + "\n" + "\n".join(_wrapped(f"- {note}", columns, 2) for note in notes))
    if below := _made_of_it(known, found):
        parts.append(heading("what was made of it") + "\n" + _pairs(below, columns))
    lines = []
    for key, number in numbers.items():
        source = known.sources[key]
        lines.append(_wrapped(f"[{number}] {source.title} ({source.told}) {source.url}", columns, 4))
    parts.append(heading("sources") + "\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _sizes(model: Model, numbers: dict[str, int], columns: int) -> str:
    """The numbers of each size; columns that no size has are left out."""
    header = ("size", "parameters", "active", "context", "trained on", *comparing.BITS, "cache/token")
    rows = []
    for size in model.sizes:
        weights, each = comparing.weights(size), comparing.cache_per_token(size)
        rows.append(
            [
                size.name,
                f"{size.parameters:,}" if size.parameters else size.stated or "",
                f"{size.active:,}" if size.active else "",
                _thousands(size.context) if size.context else "",
                output.number(size.training_tokens) if size.training_tokens else "",
                *(output.size(weights[name]) if name in weights else "" for name in comparing.BITS),
                output.size(each) if each is not None else "",
            ]
        )
    used = [i for i in range(len(header)) if any(row[i] for row in rows)]
    text = output.table([[row[i] for i in used] for row in rows], [header[i] for i in used], tuple(range(1, len(used))))
    remarks = [_from(model, field, label, numbers) for field, label in TABLED.items()]
    if any(comparing.weights(size) for size in model.sizes):
        remarks.append(BITS_NOTE)
    return text + "\n" + _wrapped(f"({'; '.join(filter(None, remarks))})", columns, 1)


TABLED = {"parameters": "parameters", "context": "context", "training_tokens": "trained on"}
BITS_NOTE = "weights alone, at 16, 8.5 and 4.5 bits each; keys and values in 16 bits; `paddock fit` plans the rest"


BESIDE = {
    "hub": "{}",
    "hardware": "{}",
    "cost": "{}",
    "released": "released {}",
    "published": "published count {:,}",
}


def _from(model: Model, field: str, label: str, numbers: dict[str, int]) -> str:
    """The sources of a column of the table of sizes."""
    keys = dict.fromkeys(source_key(model, field, size) for size in model.sizes if getattr(size, field))
    return f"{label} {' '.join(f'[{numbers[key]}]' for key in keys)}" if keys else ""


def _beside(model: Model, numbers: dict[str, int], columns: int) -> list[str]:
    """What else is known of each size: where it lies, what it took, what was reported of it."""
    rows: list[tuple[str, str]] = []
    for size in model.sizes:
        told = []
        for field, words in BESIDE.items():
            if (value := getattr(size, field)) is not None:
                told.append(f"{words.format(value)} [{numbers[source_key(model, field, size)]}]")
        for score in size.scores:
            setting = f" ({score.setting})" if score.setting else ""
            told.append(f"{score.benchmark} {score.value:g}{setting} [{numbers[score.source]}]")
        if told or size.notes:
            rows.append((size.name, "; ".join([*told, *size.notes])))
    return [heading("of each size") + "\n" + _pairs(rows, columns)] if rows else []


def _made_of_it(known: Catalogue, found: Found) -> list[tuple[str, str]]:
    rows = []
    for kind, ids in comparing.neighbours(known, found)[1].items():
        more = f" and {len(ids) - NAMES_SHOWN} more" if len(ids) > NAMES_SHOWN else ""
        rows.append((CHILD[kind], ", ".join(ids[:NAMES_SHOWN]) + more))
    return rows


def table_of(names: Sequence[str], lines: Sequence[Line], columns: int) -> str:
    """Several entries side by side: what differs, then, apart and each said once, what is the same."""
    differ = [line for line in lines if line.differs]
    same = [(line.label, line.texts[0]) for line in lines if not line.differs]
    first = max([len(line.label) for line in differ] + [0])
    first = min(first, 24)
    each = max(12, (columns - first) // len(names) - GAP)
    text = "\n".join(_cells(["", *names], first, each, bold=True))
    for line in differ:
        text += "\n" + "\n".join(_cells([line.label, *(told or "-" for told in line.texts)], first, each))
    if same:
        text += "\n\n" + heading("the same in all") + "\n" + _pairs(same, columns)
    return text


def _cells(texts: Sequence[str], first: int, each: int, bold: bool = False) -> list[str]:
    """One row of a table as lines, each cell wrapped in its column."""
    widths = [first, *[each] * (len(texts) - 1)]
    wrapped = [textwrap.wrap(text, room) or [""] for text, room in zip(texts, widths, strict=True)]
    lines = []
    for i in range(max(map(len, wrapped))):
        row = [(cell[i] if i < len(cell) else "") for cell in wrapped]
        padded = [text + " " * (room - output.cells(text)) for text, room in zip(row, widths, strict=True)]
        line = (" " * GAP).join(padded).rstrip()
        lines.append(heading(line) if bold else line)
    return lines


def _pairs(rows: Sequence[tuple[str, str]], columns: int) -> str:
    """Labels and texts in two columns, texts wrapped."""
    first = min(max((len(label) for label, _ in rows), default=0), 28)
    lines = []
    for label, text in rows:
        body = textwrap.wrap(text, max(columns - first - GAP, 24), break_on_hyphens=False) or [""]
        if len(label) > first:
            lines.append(label)
            label = ""
        lines.append(f"{label:<{first}}{' ' * GAP}{body[0]}".rstrip())
        lines += [" " * (first + GAP) + line for line in body[1:]]
    return "\n".join(lines)


def _wrapped(text: str, columns: int, indent: int) -> str:
    return textwrap.fill(text, columns, subsequent_indent=" " * indent, break_on_hyphens=False, break_long_words=False)


def heading(text: str) -> str:
    """A line in bold where the terminal takes that."""
    return output.painted(text, "1", output.coloured(sys.stdout))
