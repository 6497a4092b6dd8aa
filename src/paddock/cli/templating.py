"""`paddock template`: finds the template that is meant, and lists, shows, renders and checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddock.cli import output
from paddock.cli.messages import read_messages
from paddock.engine.locate import locate, names
from paddock.errors import UsageError
from paddock.tokenizer import Tokenizer
from paddock.tokenizer import template_check as checks
from paddock.tokenizer.chat import role_texts
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_registry import entries, find_template, is_bundled, no_template


@dataclass(frozen=True)
class Found:
    """A template, and the tokenizer of the model it belongs to, where there is one."""

    template: Template
    tokenizer: Tokenizer | None = None


def find(which: str) -> Found:
    """What a user means by a bundled name, a file or a model. TemplateError where there is no template."""
    path = Path(which).expanduser()
    if path.is_dir() or path.suffix == ".gguf" or (which in names() and not is_bundled(which)):
        return _of_model(locate(which))
    template = find_template(template=which)
    assert template is not None  # a name or a file that is none raises
    return Found(template)


def _of_model(place: Path) -> Found:
    """Without its weights or configuration: a template may be looked at before either is there."""
    from paddock.engine.opening import Beside

    beside = Beside(place, "folder" if place.is_dir() else "gguf")
    template = beside.template(None)
    if template is None:
        raise no_template(place.name)
    tokenizer = beside.tokenizer(None)
    return Found(template, tokenizer if isinstance(tokenizer, Tokenizer) else None)


def ls(json: bool) -> None:
    found = list(entries().values())
    if json:
        output.as_json(found)
        return
    rows = [[entry.name, entry.title, " ".join(map(repr, entry.stop))] for entry in found]
    output.result(output.table(rows, ("name", "for", "stops on")))


def show(which: str, json: bool) -> None:
    template = find(which).template
    known: dict[str, Any] = {
        "name": template.name,
        "title": template.title,
        "credit": template.credit,
        "note": template.note,
        "stop": list(template.stop),
        "roles": sorted(template.roles) if template.roles is not None else None,
        "options": sorted(template.options),
        "tools": template.takes_tools,
    }
    if json:
        output.as_json(known | {"source": template.source})
        return
    rows = [[name, _shown(name, value)] for name, value in known.items() if value not in ("", None, [])]
    output.result(output.table(rows) + "\n\n" + template.source)


def _shown(name: str, value: Any) -> str:
    return ", ".join(map(repr if name == "stop" else str, value)) if isinstance(value, list) else str(value)


def render(which: str, spoken: list[str], file: Path | None, system: str | None, prompt: bool, json: bool) -> None:
    """`spoken`: messages as "ROLE: TEXT", used where there is no `file` of them. `prompt`: ask for an answer."""
    found = find(which)
    messages = read_messages(file) if file else [message(text) for text in spoken]
    if system is not None:
        messages = [{"role": "system", "content": system}, *messages]
    ends: dict[str, Any] = dict(role_texts(found.tokenizer)) if found.tokenizer is not None else {}
    text = found.template.render(messages, add_generation_prompt=prompt, **ends)
    if json:
        output.as_json({"template": found.template.name, "messages": messages, "text": text})
    else:
        output.result(text, end="")


def message(text: str) -> dict[str, Any]:
    """A message from "ROLE: TEXT"."""
    role, colon, content = text.partition(":")
    if not colon or not role.strip().isidentifier():
        raise UsageError(f"the message {text[:40]!r} names no role", expected='"user: TEXT" or "assistant: TEXT"')
    return {"role": role.strip(), "content": content.removeprefix(" ")}


def check(which: str, json: bool) -> bool:
    """Prints what is found; False if a check fails."""
    found = find(which)
    findings = checks.check(found.template, found.tokenizer)
    if json:
        output.as_json(findings)
    else:
        output.painted_result(output.findings_text(findings))
        if found.tokenizer is None:
            output.note("BOS, stops and control tokens need a tokenizer: check a model that has one to include them")
    return all(finding.level != "fail" for finding in findings)
