"""A small catalogue that tests know by heart."""

from __future__ import annotations

from pathlib import Path

from paddock.catalog.catalogue import Catalogue, assemble

# The shape of the bundled kind of model: 104 parameters in a table, the rest follows.
SHAPE = (
    'config = { model_type = "llama", vocab_size = 13, hidden_size = 8, intermediate_size = 16, num_hidden_layers = 2, '
    "num_attention_heads = 2, max_position_embeddings = 64, rms_norm_eps = 1e-6, tie_word_embeddings = true }"
)
COUNT = 13 * 8 + 2 * (4 * 64 + 3 * 8 * 16 + 2 * 8) + 8

TEXT = f"""
[source.paper]
title = "A paper"
url = "https://example.org/paper"
date = "2023-02"
read = "2026-11-22"

[source.card]
title = "A card"
url = "https://example.org/card"
read = "2026-11-22"

[[dataset]]
id = "pages"
name = "Pages"
organisation = "Crawlers"
released = "2022"
about = "Pages of the web."
languages = ["en"]
kind = "text"
tokens = 1000000000000
licence = {{ name = "ODC-BY" }}
sources = {{ default = "paper" }}

[[model]]
id = "ram"
name = "Ram"
aliases = ["Aries"]
organisation = "Farm One"
released = "2023-02-24"
about = "A base model."
languages = ["en", "zh"]
licence = {{ name = "Research only", commercial = false }}
licence_code = {{ name = "MIT", commercial = true }}
family = "Sheep"
branch = "decoder"
tasks = ["base"]
method = ["pre-training"]
data = ["pages"]
context = 64
tokenizer = {{ kind = "BPE", vocabulary = 13 }}
access = "research"
notes = ["It bleats."]
sources = {{ default = "paper", licence = "card" }}

[[model.sizes]]
name = "tiny"
stated = "1K"
parameters = {COUNT}
published = {COUNT}
hub = "farm/ram-tiny"
{SHAPE}
scores = [{{ benchmark = "MMLU", value = 25.5, setting = "5 shots", source = "card" }}]

[[model.sizes]]
name = "7b"
parameters = 7000000000
context = 4096
training_tokens = 2000000000000

[[model]]
id = "lamb"
name = "Lamb"
organisation = "Farm Two"
released = "2024-05"
about = "Ram, taught to talk."
languages = ["en"]
licence = {{ name = "Apache-2.0", commercial = true }}
family = "Sheep"
branch = "decoder"
tasks = ["chat", "code"]
method = ["supervised"]
base = ["ram"]
context = 64
sources = {{ default = "card" }}
[[model.sizes]]
name = "tiny"
hub = "lambs/Sweet_Lamb"
parameters = {COUNT}
{SHAPE}

[[model]]
id = "goat"
name = "Goat"
organisation = "Farm Three"
released = "2025-01-20"
about = "Another kind."
languages = ["zh", "en"]
licence = {{ name = "Goat licence", commercial = true, conditions = "not on Sundays" }}
family = "Goats"
branch = "encoder"
tasks = ["chat"]
method = ["pre-training", "supervised"]
teachers = ["lamb"]
context = 8192
access = "gated"
sources = {{ default = "card" }}
[[model.sizes]]
name = "3b"
hub = "one/twin"
parameters = 3000000000
[[model.sizes]]
name = "moe"
hub = "two/twin"
parameters = 16000000000
active = 4000000000
[[model.sizes]]
name = "unknown"

[[application]]
id = "shepherd"
name = "Shepherd"
organisation = "Farm Two"
about = "Talks with lambs."
uses = ["lamb"]
sources = {{ default = "card" }}
"""


def toys(folder: Path) -> Catalogue:
    """The catalogue above."""
    path = folder / "toys.toml"
    path.write_text(TEXT, encoding="utf-8")
    return assemble([path])
