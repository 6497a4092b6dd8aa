"""A picture as one HTML file that asks the network for nothing: facts beside it, search, ancestors and descendants.

The page's policy allows its own script and style alone, by their hashes, so that nothing in an entry's text could run
even if it got into the document as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any

from paddock.catalog.catalogue import Catalogue
from paddock.catalog.drawing import Picture, svg_element
from paddock.catalog.lineage import CHILD, PARENT, Lineage, commercial, kind_of, released, sizes
from paddock.catalog.schema import Asset, Model

PARTS = Path(__file__).resolve().parent / "page"


def html(picture: Picture, graph: Lineage, every: Catalogue) -> str:
    """The page. graph: every entry of the picture, and those that the facts shall speak of."""
    style = (PARTS / "tree.css").read_text(encoding="utf-8")
    script = (PARTS / "tree.js").read_text(encoding="utf-8")
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'"
    facts = {
        "entries": {name: _entry(asset, every) for name, asset in graph.assets.items()},
        "edges": [
            {
                "from": edge.parent,
                "to": edge.child,
                "how": {"from": _how(PARENT, edge.kinds), "to": _how(CHILD, edge.kinds)},
            }
            for edge in graph.edges
        ],
    }
    # "<" cannot stand in the data: it could end the element.
    data = json.dumps(facts, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(picture.title)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{escape(picture.title)}</h1>
<label>Search <input type="search" autocomplete="off" spellcheck="false"></label>
<p id="count" role="status"></p>
<p>Click or Enter: what it was made of and into. Arrows: along the lines. /: search. Esc: everything.</p>
</header>
<main tabindex="-1" aria-label="The picture">
{svg_element(picture)}
</main>
<aside aria-label="Facts"><p>Point at an entry, or choose one, to read its facts and their sources.</p></aside>
<script type="application/json" id="facts">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _how(words: dict[str, str], kinds: tuple[str, ...]) -> str:
    return ", ".join(words[kind] for kind in kinds)


def _entry(asset: Asset, every: Catalogue) -> dict[str, Any]:
    """What the page tells of an entry."""
    facts = [
        ("kind", kind_of(asset)),
        ("organisation", asset.organisation),
        ("released", released(asset) or "not known"),
    ]
    if isinstance(asset, Model):
        facts += [("family", asset.family), ("branch", asset.branch), ("tasks", ", ".join(asset.tasks))]
        facts += [("method", ", ".join(asset.method)), ("sizes", _sizes(asset))]
        facts += [("context", f"{asset.context:,} tokens" if asset.context else "")]
        facts += [("training tokens", f"{asset.training_tokens:,}" if asset.training_tokens else "")]
    else:
        facts.append(("size", sizes(asset)))
    licence = asset.licence
    facts += [
        ("licence", licence.name if licence else "not known"),
        ("commercial use", commercial(asset, every.assets)),
    ]
    facts.append(("conditions", (licence.conditions if licence else None) or ""))
    facts.append(("weights" if isinstance(asset, Model) else "access", asset.access))
    keys = dict.fromkeys(asset.sources.values())
    sources = [every.sources[key] for key in keys]
    return {
        "name": asset.name,
        "kind": kind_of(asset),
        "about": asset.about,
        "facts": [(name, value) for name, value in facts if value],
        "url": asset.url,
        "notes": list(asset.notes),
        "sources": [
            {
                "title": source.title,
                "url": source.url,
                "told": source.told,
            }
            for source in sources
        ],
        "search": " ".join([asset.name, *asset.aliases, asset.id, asset.organisation]).lower(),
    }


def _sizes(model: Model) -> str:
    told = [f"{size.name} ({size.parameters:,})" if size.parameters else size.name for size in model.sizes]
    return ", ".join(told)
