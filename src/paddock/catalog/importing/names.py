"""Which entry a name means, when every list spells names its own way."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping

# Other spellings, folded, of what lists depend on: what is meant, in a spelling that is looked up again.
ALIASES = {
    "commoncrawlcorpus": "common crawl",
    "githubcode": "github",
    "llama1": "llama",
    "llamav1": "llama",
    "llamav2": "llama 2",
    "metallama": "llama",
    "metallama2": "llama 2",
    "openassistant1": "oasst1",
    "openassistantconversations": "oasst1",
    "sharegpt52k": "sharegpt",
    "sharegptconversations": "sharegpt",
    "sharegptchatlogs": "sharegpt",
    "alpaca": "alpaca data",
    "52kalpaca": "alpaca data",
    "alpacadata": "alpaca dataset",
    "dolly": "databricks-dolly-15k",
    "pile": "the pile",
    "mistral": "mistral 7b",
    "mixtral": "mixtral 8x7b",
}
TRAILING = {"dataset": "dataset", "datasets": "dataset", "data": "dataset", "corpus": "dataset", "model": "model"}
SIZED = re.compile(r"[-_ ]?\d{1,4}(?:\.\d{1,3})?[bm]$", re.IGNORECASE)


def folded(name: str) -> str:
    """Letters, digits and plus signs alone, without case: "LLaMA 2" and "Llama-2" are one, "R" and "R+" are not."""
    text = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in text if c.isalnum() or c == "+") or text.strip()


def identifier(name: str) -> str:
    """An id for a name: lower-case words with dashes; what has no Latin letters gets a number of its own."""
    text = unicodedata.normalize("NFKD", name).casefold().replace("+", "-plus")
    words = re.sub(r"[^a-z0-9.]+", "-", "".join(c for c in text if not unicodedata.combining(c)))
    clean = re.sub(r"[.-]*-[.-]*|\.{2,}", "-", words).strip("-.")[:60].rstrip("-.")
    return clean or "entry-" + hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]


def spellings(name: str) -> Iterator[tuple[str, str | None]]:
    """What a name is looked up as, one after another, and the kind of asset it may then mean (None: any).

    First as it is; as an alias; without a last "dataset", which only a dataset may lack; without its size.
    """
    first = folded(name)
    yield first, None
    if first in ALIASES:
        yield folded(ALIASES[first]), "dataset" if "data" in ALIASES[first] else None
    ending = next((word for word in TRAILING if first.endswith(word) and first != word), None)
    if ending is not None:
        bare = first.removesuffix(ending)
        yield bare, TRAILING[ending]
        if bare in ALIASES:
            yield folded(ALIASES[bare]), TRAILING[ending]
    unsized = SIZED.sub("", name.strip())
    if unsized and unsized != name.strip():
        yield folded(unsized), "model"


def look_up(name: str, known: Mapping[str, list[str]], kinds: Mapping[str, str], only: str | None = None) -> list[str]:
    """The ids a name may mean, by the first of its spellings that is known; [] when none is.

    known: folded spelling -> ids. kinds: id -> kind of asset. only: the kind that is meant.
    """
    for spelt, kind in spellings(name):
        ids = [one for one in known.get(spelt, ()) if {kind, only} <= {None, kinds[one]}]
        if ids:
            return ids
    return []
