"""A small catalogue with every kind of edge, and names a stranger could have chosen."""

from __future__ import annotations

from pathlib import Path

from paddock.catalog.catalogue import Catalogue, assemble

HOSTILE = '<script>alert(1)</script> "q" & | `x` \\ \u202eevil'
SMALL = r"""
[source.paper]
title = "A | paper <b>"
url = "https://example.org/paper?a=1&b=(2)"
date = "2023-02"
read = "2026-11-22"

[[dataset]]
id = "crawl"
name = "Crawl"
organisation = "Everybody"
about = "Pages."
kind = "text"
size = "1 TB"
sources = { default = "paper" }

[[dataset]]
id = "tales"
name = "Tales"
organisation = "Home"
released = "2023-03"
about = "Written by Old."
kind = "instructions"
made_with = ["old"]
made_from = ["crawl"]
sources = { default = "paper" }

[[model]]
id = "old"
name = "Old"
organisation = "Home"
released = "2023-02-24"
about = "The first."
family = "Old"
branch = "decoder"
tasks = ["base"]
method = ["pre-training"]
data = ["crawl"]
licence = { name = "Apache-2.0", commercial = true }
context = 2048
sources = { default = "paper" }
[[model.sizes]]
name = "7b"
parameters = 7000000000
[[model.sizes]]
name = "13b"
parameters = 13000000000

[[model]]
id = "young"
name = "Young"
aliases = ["Youngster"]
organisation = "=cmd|' /C calc'!A0"
released = "2023-05"
about = "Trained on from Old on tales that Old wrote."
access = "research"
family = "Old"
branch = "decoder"
tasks = ["chat"]
method = ["supervised"]
base = ["old"]
teachers = ["old"]
data = ["tales"]
licence = { name = "CC BY-NC 4.0", commercial = false }
sources = { default = "paper" }

[[model]]
id = "seeing"
name = '''NAME'''
organisation = "Else"
about = "Sees."
access = "closed"
family = "Seeing"
branch = "multimodal"
tasks = ["vision"]
method = ["multimodal training"]
base = ["young"]
sources = { default = "paper" }

[[application]]
id = "program"
name = "Program"
organisation = "Else"
released = "2024"
about = "Uses what sees."
uses = ["seeing", "tales"]
sources = { default = "paper" }
""".replace("NAME", HOSTILE)


def small(folder: Path) -> Catalogue:
    path = folder / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return assemble([path])
