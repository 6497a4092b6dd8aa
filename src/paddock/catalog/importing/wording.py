"""Free text as facts: sizes, dates, licences. What is not understood is None, never guessed."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

UNITS = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
WORDS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# Digits are bounded, so that no text makes a number of a million digits.
AMOUNT = r"(?<![\w.,])(\d{1,6}(?:,\d{3}){0,4}(?:\.\d{1,6})?)[ -]?(k|m|b|t|thousand|million|billion|trillion)?\b"
PARAMETERS = re.compile(AMOUNT + r"[ -]*(active )?param(?:eter)?s?\b(?: for activation)?", re.IGNORECASE)
TOKENS = re.compile(AMOUNT + r"(?: [a-z]+)? tokens?\b", re.IGNORECASE)
RECORDS = re.compile(
    AMOUNT + r"(?: [\w()/,+-]+){0,3}? (?:examples|samples|images|documents|dialogues|conversations|pairs|prompts|"
    r"instructions|demonstrations|comparisons|records|ratings|captions|songs)\b",
    re.IGNORECASE,
)
NOTHING = {"", "unknown", "none", "n/a", "na", "unknkown", "null", "-", "?", "tbd"}
LINK = re.compile(r"\[{1,2}([^\[\]]*)\]{1,2}\s*\((?:[^()\s]|\([^()\s]*\))*\)")
DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")

# Licences by their names without case and signs: whether they allow commercial use.
ALLOWED = {
    "apache20", "apache2", "apachelicense20", "mit", "modifiedmitlicense", "bsd3clause", "bsd2clause", "ccby40",
    "ccby30", "ccbysa40", "ccbysa30", "cc010", "cc0", "odcby", "odcby10", "wtfpl", "gpl30", "gplv3", "agpl30", "llama2",
    "bigsciencerailv10", "bigsciencebloomrail10", "bigcodeopenrailm", "bigcodeopenrailmv1", "bigcodeopenrailmv10",
}  # fmt: skip
FORBIDDEN = re.compile(r"non-?commercial|\bNC\b|[- ]NC[- ]|research (?:only|licen[sc]e)|non-production", re.IGNORECASE)


def plain(value: Any, longest: int = 600) -> str:
    """A text without Markdown links and marks, control characters and line ends; of {value, explanation} the value."""
    if isinstance(value, dict):
        value = value.get("value")
    text = "" if value is None else str(value)
    text = LINK.sub(lambda match: match[1], text[: 20 * longest]).replace("**", "").replace("`", "")
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else text[: longest - 4].rstrip() + " ..."


def told(value: Any, longest: int = 600) -> str | None:
    """A text, or None where it says that nothing is known."""
    text = plain(value, longest)
    return None if text.lower().rstrip(".") in NOTHING else text


def count(digits: str, unit: str | None) -> int | None:
    """A number and its unit, exactly; None for zero and for what is beyond 10^16."""
    factor = 1 if not unit else UNITS.get(unit.lower()) or WORDS[unit.lower()]
    number = int(Decimal(digits.replace(",", "")) * factor)
    return number if 1 <= number <= 10**16 else None


def parameters(text: str) -> tuple[int | None, int | None]:
    """How many parameters a text speaks of, all and active: "61B parameters (sparse); 6.6B active parameters". A bare
    number with a unit, "306M", counts too; a range or a list of sizes does not."""
    whole: int | None = None
    active: int | None = None
    found = list(PARAMETERS.finditer(text))
    if not found:
        bare = re.fullmatch(AMOUNT, text.strip(), re.IGNORECASE)
        return (count(bare[1], bare[2]) if bare and bare[2] else None), None
    for match in found:
        number = count(match[1], match[2])
        if match[3] or match[0].endswith("activation"):
            active = number
        elif whole is not None and number != whole:
            return None, None
        else:
            whole = number
    return whole, active


def tokens(text: str) -> int | None:
    """How many tokens a text speaks of."""
    match = TOKENS.search(text)
    return count(match[1], match[2]) if match else None


def records(text: str) -> int | None:
    """How many examples, pairs, documents or the like a text speaks of, where it speaks of one number alone."""
    match = RECORDS.match(text)
    return count(match[1], match[2]) if match else None


def when(value: Any) -> str | None:
    """A date as the schema writes it: 2023, 2023-02 or 2023-02-24."""
    if isinstance(value, dict):
        value = value.get("value")
    if isinstance(value, datetime.date):  # a datetime is one too
        return value.isoformat()[:10]
    match = DATE.fullmatch(str(value).strip()) if isinstance(value, str | int) else None
    if not match:
        return None
    year, month, day = (int(part) if part else None for part in match.groups())
    try:
        datetime.date(year or 0, month or 1, day or 1)
    except ValueError:
        return None
    return "-".join([f"{year:04d}", *(f"{part:02d}" for part in (month, day) if part)])


def licences(value: Any) -> dict[str, dict[str, Any]]:
    """The fields `licence` and `licence_code` of a text such as "CC BY-NC 4.0 (model weights), GPLv3 (code)"."""
    text = told(value)
    if text is None:
        return {}
    split = re.fullmatch(r"(.+?) ?\(model weights\)(?:, *(.+?) ?\([^()]*code\))?", text)
    if not split:
        return {"licence": _licence(text)}
    named = {"licence": told(split[1]), "licence_code": told(split[2])}
    return {field: _licence(name) for field, name in named.items() if name}


def _licence(name: str) -> dict[str, Any]:
    folded = re.sub(r"[^a-z0-9]", "", name.lower())
    if folded in ALLOWED:
        return {"name": name, "commercial": True}
    return {"name": name, "commercial": False} if FORBIDDEN.search(name) else {"name": name}
