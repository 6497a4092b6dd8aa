"""Private data: what is found, what is left alone, and that no text makes it slow."""

from __future__ import annotations

import time

import pytest
from cleaning_texts import apply

from paddock.data.cleaning.private import KINDS, Private, scrub

WORDS = {kind: f"<{kind}>" for kind in KINDS}


def clean(text: str) -> str:
    return scrub(text, WORDS)[0]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("mail john.doe+x@example.co.uk, or a@b.io.", "mail <email>, or <email>."),
        ("<info@example.org>;x_1@sub.example.com", "<<email>>;<email>"),
        ("call 780-800-7092 or (212) 555-0123.", "call <phone> or <phone>."),
        ("+49 30 1234567, +1 (212) 555-0123, +33 6 12 34 56 78", "<phone>, <phone>, <phone>"),
        ("手机13812345678。", "手机13812345678。"),  # letters before it: a number of something else
        ("手机: 13812345678。", "手机: <phone>。"),
        ("at 8.8.8.8, 2001:db8:85a3::8a2e:370:7334.", "at <ip>, <ip>."),
        ("card 4111 1111 1111 1111, 4111-1111-1111-1111 2020 or 378282246310005", "card <card>, <card> 2020 or <card>"),
        ("pay DE89 3704 0044 0532 0130 00 AND GB82WEST12345698765432.", "pay <iban> AND <iban>."),
        ("key " + "AKIA" + "ABCDEFGHIJKLMNOP" + " end", "key <key> end"),
        ("token=" + "gh" + "p_" + "a1" * 18 + ";", "token=<key>;"),
        ("eyJ" + "a" * 20 + "." + "eyJ" + "b" * 20 + "." + "c" * 20, "<key>"),
        (
            "a\n-----BEGIN " + "RSA PRIVATE KEY-----\nMIIE\nab+/c=\n-----END " + "RSA PRIVATE KEY-----\nafter",
            "a\n<key>\nafter",
        ),
        ("-----BEGIN " + "PRIVATE KEY-----\nMIIEabc\n\n[cut]", "<key>[cut]"),
    ],
)
def test_private_data_is_replaced(given: str, wanted: str) -> None:
    assert clean(given) == wanted


@pytest.mark.parametrize(
    "given",
    [
        "a@b, @name, user@localhost, me@x.1",
        "years 1999-2001, pages 100-200, 3.14159265358979, 1234567890, 2023-10-11 12:30:45",
        "ISBN 978-3-16-148410-0 and 0-306-40615-2",
        "10.0.0.1 127.0.0.1 192.168.1.1 1.2.3.4.5 v1.2.3.4 256.1.1.1 01.02.03.04",
        "std::vector<a>, 12:30:45, ab:cd, ::1",
        "4111 1111 1111 1112 and 0000 0000 0000 0000",  # a wrong check digit; no issuer
        "DE89 3704 0044 0532 0130 01 and XX89370400440532013000",  # a wrong remainder; no country
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "skill-based sk-learn hf_hub",
        "",
    ],
)
def test_what_only_looks_like_it_is_left_alone(given: str) -> None:
    assert clean(given) == given


def test_only_the_kinds_asked_for_and_all_are_counted() -> None:
    stage = Private(("email", "ip"), "[{kind}]")
    outcome = apply(stage, "a@b.io c@d.io 8.8.8.8 +49 30 1234567")
    assert outcome.document is not None
    assert outcome.document.text == "[EMAIL] [EMAIL] [IP] +49 30 1234567"
    assert outcome.changes == {"email": 2, "ip": 1}
    assert apply(stage, "nothing").changes == {}
    again = apply(stage, outcome.document)
    assert again.document is outcome.document


SIZE = 60_000
HOSTILE = (
    "a", "a@", "a.a@", "a@a.", "a@b.c ", "1", "1 ", "1-1 ", "1.1.", "999.1.1.1 ", "+1 ", "(2", "AA11", "AA11 ",
    "AA11A ", ":", "1:", "1:1:1:1:1 ", "eyJ", "eyJaaaaaaaaaaaaa.", "sk-", "sk-aaaaaaaaaaaaaaaaaaaaaa", "-----BEGIN ",
    "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----A", "-", "4111 1111 1111 1112 ", "\n", "é@", "字1",
)  # fmt: skip


def seconds(text: str) -> float:
    started = time.process_time()
    scrub(text, WORDS)
    return time.process_time() - started


@pytest.mark.parametrize("unit", HOSTILE)
def test_no_text_makes_it_slow(unit: str) -> None:
    text = unit * (SIZE // len(unit))
    short, long = seconds(text[: SIZE // 8]), seconds(text)
    # Eight times the text may take about eight times as long; a quadratic pattern takes 64 times.
    assert long < max(24 * short, 0.5), (short, long)
    for begun in ("a@" + text, "AA11" + text, "+1" + text, "-----BEGIN PRIVATE KEY-----" + text):
        assert seconds(begun) < max(24 * short, 0.5)
