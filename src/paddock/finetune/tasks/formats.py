"""A chat template with what a recipe says of it written into its source, so that the trained model is asked alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from paddock.errors import UsageError, did_you_mean
from paddock.tokenizer.chat import control_texts, render_marked
from paddock.tokenizer.template import Template
from paddock.tokenizer.tokenizer import Tokenizer

QUESTION, ANSWER = "First-Qx7?", "Answer-Ax7."


def with_options(template: Template, options: Mapping[str, bool | int | str | None]) -> Template:
    """The template with these of its variables set. Raises UsageError for one that it does not read."""
    if not options:
        return template
    for name in options:
        if name not in template.options:
            raise UsageError(
                f"chat template {template.name!r} does not read the option {name!r}",
                expected=f"one of: {', '.join(sorted(template.options)) or 'none'}",
                fix=did_you_mean(name, template.options),
            )
    values = "".join(f"{{%- set {name} = {_literal(value)} -%}}\n" for name, value in options.items())
    return _changed(template, values + template.source)


def with_marker(tokenizer: Tokenizer, template: Template, marker: str) -> Template:
    """The template, that begins the answer it asks for with `marker`. Raises UsageError for a control token in it."""
    spelt = next((text for text in control_texts(tokenizer) if text and text in marker), None)
    if spelt is not None:
        raise UsageError(f"the marker {marker!r} spells the control token {spelt!r}", fix="use ordinary words")
    user, assistant = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}
    asked = render_marked(tokenizer, template, [user], add_generation_prompt=True).text
    whole = render_marked(tokenizer, template, [user, assistant], add_generation_prompt=False).text
    gap = whole[len(asked) :].partition(ANSWER)[0] if whole.startswith(asked) else ""
    begun = _literal(gap + marker)
    return _changed(template, f"{template.source}{{%- if add_generation_prompt %}}{{{{- {begun} }}}}{{%- endif %}}")


def _changed(template: Template, source: str) -> Template:
    return replace(template, source=source, bundled=False)


def _literal(value: bool | int | str | None) -> str:
    """A value as Jinja writes it; its strings take JSON's escapes."""
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
