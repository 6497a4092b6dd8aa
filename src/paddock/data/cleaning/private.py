"""Private data out of texts: each find is checked (Luhn, mod 97, octets), counted and replaced by what it was.

Every pattern takes time linear in the text, whatever the text: pieces are bounded, possessive, and begin only where the
character before could not have begun one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from paddock.data.cleaning.stage import Item, Outcome, Stage

Check = Callable[[str], int]  # how many characters of a match are private data: it may have taken too many; 0: none

# Lengths of IBANs by country (ISO 13616 registry).
_IBAN = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU XK",
        21: "CH CR HR LI LV", 22: "BG BH DE GB GE IE ME RS", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_PRIVATE_NETS = tuple(
    map(
        ipaddress.ip_network,
        ("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"),
    )
)
_BEGIN = "-----BEGIN "
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/=\s:,]|-(?!----))*+")  # and the headers of an encrypted key


def _all(match: str) -> int:
    return len(match)


def luhn(match: str) -> int:
    """A card number: 13 to 16 or 19 digits, the check digit right, of an issuer's range, not one digit all over."""
    digits = [int(c) for c in match if c.isdigit()]
    if len(digits) not in (13, 14, 15, 16, 19) or digits[0] not in (2, 3, 4, 5, 6) or len(set(digits)) < 2:
        return 0
    doubled = (2 * d - 9 * (d > 4) if i % 2 else d for i, d in enumerate(reversed(digits)))
    return len(match) if sum(doubled) % 10 == 0 else 0


def iban(match: str) -> int:
    """An account number as long as its country's are, whose remainder by 97 is 1 (ISO 7064)."""
    wanted, seen = _IBAN.get(match[:2], 0), 0
    for place, character in enumerate(match):
        seen += character != " "
        if seen == wanted:
            taken = match[: place + 1].replace(" ", "")
            following = match[place + 1 : place + 2]
            if following.isalnum():
                return 0
            turned = "".join(str(int(c, 36)) for c in taken[4:] + taken[:4])
            return place + 1 if int(turned) % 97 == 1 else 0
    return 0


def ipv4(match: str) -> int:
    """An address that somebody may have on the open net: four octets, none with a leading 0, not of a private range."""
    parts = match.split(".")
    if any(int(part) > 255 or (part[0] == "0" and len(part) > 1) for part in parts):
        return 0
    address = ipaddress.IPv4Address(match)
    return 0 if any(address in net for net in _PRIVATE_NETS) else len(match)


def ipv6(match: str) -> int:
    """An address of at least four groups: "12:30" is a time and "std::a" code."""
    if sum(map(bool, match.split(":"))) < 4:
        return 0
    try:
        ipaddress.IPv6Address(match)
    except ValueError:
        return 0
    return len(match)


def phone(match: str) -> int:
    """A number of 10 to 15 digits; one without a plus sign is as long as its pattern says."""
    digits = sum(map(str.isdigit, match))
    return len(match) if 8 <= digits <= 15 else 0


_EMAIL = (
    r"(?<![\w.+%-])[A-Za-z0-9_][A-Za-z0-9_.+%-]{0,63}+@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}+)\.){1,8}[A-Za-z]{2,24}+(?![\w-])"
)
_CARD = r"(?<![\w.,+-])\d(?:[ -]?\d){12,18}(?![\w-]|[.,]\d)"
_IBAN_PATTERN = r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}+"
_V4 = r"(?<![\w.-])\d{1,3}+(?:\.\d{1,3}+){3}(?![\w-]|\.\d)"
_V6 = r"(?<![\w:.])[0-9A-Fa-f:]{6,39}+(?![\w:])"
_PHONE = (  # E.164, spaced or not; North America; mobiles of China
    r"(?<![\w.+/-])\+\d{1,3}+(?:[ .-]?\(\d{1,4}+\))?+(?:[ .-]?\d){6,14}+(?![\w-]|[.,]\d)"
    r"|(?<![\w.+/()-])(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}(?![\w-]|[.,]\d)"
    r"|(?<![\w.+/-])1[3-9]\d{9}(?![\w-]|[.,]\d)"
)
_KEY = (  # Amazon; GitHub; Slack, Google; OpenAI and others, Stripe; Hugging Face, GitLab; JSON web tokens
    r"(?<![\w-])(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"
    r"|(?<![\w-])gh[pousr]_[A-Za-z0-9]{36,255}+|(?<![\w-])github_pat_[A-Za-z0-9_]{22,255}+"
    r"|(?<![\w-])xox[abeoprs]-[A-Za-z0-9-]{10,250}+|(?<![\w-])AIza[0-9A-Za-z_-]{35}(?![\w-])"
    r"|(?<![\w-])sk-[A-Za-z0-9_-]{20,250}+|(?<![\w-])[rs]k_(?:live|test)_[A-Za-z0-9]{16,250}+"
    r"|(?<![\w-])hf_[A-Za-z0-9]{30,60}+|(?<![\w-])glpat-[A-Za-z0-9_-]{20,60}+"
    r"|(?<![\w-])eyJ[A-Za-z0-9_-]{10,4000}+\.eyJ[A-Za-z0-9_-]{10,4000}+\.[A-Za-z0-9_-]{10,4000}+"
)
# Kind: something simple that a text must have for the pattern to be worth the search, the pattern, its check. In this
# order: what was replaced is not looked at again.
_RULES: dict[str, tuple[tuple[re.Pattern[str], re.Pattern[str], Check], ...]] = {
    "key": ((re.compile("A[KS]IA|AIza|gh[pousr]_|github_pat_|xox|sk-|[rs]k_|hf_|glpat-|eyJ"), re.compile(_KEY), _all),),
    "email": ((re.compile("@"), re.compile(_EMAIL), _all),),
    "iban": ((re.compile(r"[A-Z][A-Z]\d\d ?[A-Z0-9]"), re.compile(_IBAN_PATTERN), iban),),
    "card": ((re.compile(r"\d[ -]?\d[ -]?\d[ -]?\d[ -]?\d[ -]?\d[ -]?\d[ -]?\d"), re.compile(_CARD), luhn),),
    "ip": (
        (re.compile(r"\d\.\d{1,3}\.\d"), re.compile(_V4), ipv4),
        (re.compile(r":[0-9A-Fa-f]{0,4}:"), re.compile(_V6), ipv6),
    ),
    "phone": ((re.compile(r"\+\d|\d[ .)-]{0,2}\d\d\d[ .-]?\d\d"), re.compile(_PHONE), phone),),
}
KINDS = tuple(_RULES)


def scrub(text: str, placeholders: Mapping[str, str]) -> tuple[str, dict[str, int]]:
    """The text with each kind of `placeholders` replaced by its word, and how many of each there were."""
    counts: dict[str, int] = {}
    for kind in KINDS:
        if kind not in placeholders:
            continue
        if kind == "key":
            text, counts[kind] = _without_pem(text, placeholders[kind])
        for needed, pattern, check in _RULES[kind]:
            if needed.search(text):
                text, found = _replace(text, pattern, check, placeholders[kind])
                counts[kind] = counts.get(kind, 0) + found
    return text, {kind: count for kind, count in counts.items() if count}


def _replace(text: str, pattern: re.Pattern[str], check: Check, word: str) -> tuple[str, int]:
    parts, at, count, match = [], 0, 0, pattern.search(text)
    while match:
        start, taken = match.start(), check(match[0])
        if taken:
            parts += [text[at:start], word]
            at, count = start + taken, count + 1
        # What a check left over may hold the next find.
        match = pattern.search(text, start + (taken or 1))
    return "".join([*parts, text[at:]]) if count else text, count


def _without_pem(text: str, word: str) -> tuple[str, int]:
    """Private keys in PEM, from the line that begins one to the line that ends it, or as far as it may be base64."""
    parts, at, count = [], 0, 0
    while (start := text.find(_BEGIN, at)) >= 0:
        head = text.find("-----", start + len(_BEGIN), start + 80)
        if head < 0 or "PRIVATE KEY" not in text[start:head]:
            parts.append(text[at : start + len(_BEGIN)])
            at = start + len(_BEGIN)
            continue
        label = text[start + len(_BEGIN) : head]
        body = _BASE64.match(text, head + 5)
        assert body is not None
        stop = body.end()
        if text.startswith(end := f"-----END {label}-----", stop):
            stop += len(end)
        parts += [text[at:start], word]
        at, count = stop, count + 1
    return "".join([*parts, text[at:]]), count


class Private(Stage):
    """Replaces private data of some kinds; removes nothing."""

    def __init__(self, kinds: tuple[str, ...], placeholder: str) -> None:
        self.placeholders = {kind: placeholder.replace("{kind}", kind.upper()) for kind in kinds}

    def apply(self, item: Item) -> Outcome:
        text, counts = self.scrub(item.document.text)
        if not counts:
            return Outcome(item.document)
        return Outcome(replace(item.document, text=text), changes=counts)

    def scrub(self, text: str) -> tuple[str, dict[str, int]]:
        return scrub(text, self.placeholders)
