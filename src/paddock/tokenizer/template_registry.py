"""Where a model's chat template comes from: what the user names, what the model's folder holds, or nothing.

Nothing is guessed. A model's name only *suggests* a bundled format, in the fix line of the refusal.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from paddock.errors import TemplateError, TokenizerError, nearest
from paddock.tokenizer.files import as_json, read_bytes
from paddock.tokenizer.template import Template
from paddock.tokenizer.template_source import MAX_SOURCE

MAX_CONFIG = 64 * 2**20
FOLDER = resources.files("paddock.tokenizer") / "templates"


@dataclass(frozen=True)
class Entry:
    """One row of the index: what is known of a bundled format without reading its template."""

    name: str
    title: str
    credit: str
    stop: tuple[str, ...]
    roles: tuple[str, ...]
    control: bool
    own_blank: bool = False
    plain_tags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    note: str = ""


@functools.lru_cache(maxsize=1)
def entries() -> dict[str, Entry]:
    """All bundled formats by name, in the order of their names."""
    index = tomllib.loads((FOLDER / "index.toml").read_text(encoding="utf-8"))
    return {
        name: Entry(name=name, **{key: _frozen(value) for key, value in row.items()})
        for name, row in sorted(index.items())
    }


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@functools.cache
def registered(name: str) -> Template:
    """The bundled template called `name` (or so by an alias). TemplateError names the nearest."""
    found = next((entry for entry in entries().values() if name == entry.name or name in entry.aliases), None)
    if found is None:
        near = nearest(name, entries())
        fix = f"did you mean {near!r}?" if near else "see `paddock template ls`"
        raise TemplateError(f"there is no bundled chat template called {name!r}", fix=fix)
    return Template(
        source=(FOLDER / f"{found.name}.jinja").read_text(encoding="utf-8"),
        name=found.name,
        stop=found.stop,
        roles=frozenset(found.roles),
        control=found.control,
        own_blank=found.own_blank,
        plain_tags=found.plain_tags,
        title=found.title,
        credit=found.credit,
        note=found.note,
        bundled=True,
    )


def suggest(model: str) -> list[str]:
    """Bundled formats that a model's name brings to mind, the most particular first; for a fix line, not for use."""
    lower = model.lower()
    scored = [
        (len(match.group()), entry.name)
        for entry in entries().values()
        for pattern in entry.models
        if (match := re.search(pattern, lower))
    ]
    return [name for _, name in sorted(scored, key=lambda pair: (-pair[0], pair[1]))]


def no_template(model: str) -> TemplateError:
    """The refusal for a model without a chat template, with what might be meant."""
    likely = suggest(model)
    hint = f"; by its name {' or '.join(likely[:2])} may be meant" if likely else ""
    return TemplateError(
        f"{model} has no chat template, and none is assumed",
        fix=f"name one with --template NAME or FILE (see `paddock template ls`){hint}",
    )


def find_template(
    source: str | Path | Mapping[str, Any] | None = None,
    *,
    template: str | Path | None = None,
    variant: str | None = None,
) -> Template | None:
    """The chat template to use, or None: the caller refuses (`no_template`) or goes on without turns.

    Order: `template` (a bundled name or a file), chat_template.jinja in the folder `source`, chat_template in its
    tokenizer_config.json (or in `source` itself where that is the parsed configuration), chat_template.json.
    variant: which of several templates (`default`, `tool_use`, ...) where a model has more than one.
    """
    if template is not None:
        return _named(template)
    if isinstance(source, Mapping):
        return _from_config(source, "tokenizer_config.json", variant)
    return None if source is None else _from_folder(Path(source), variant)


def recognised(template: Template) -> Template:
    """A model's template with what is known of the bundled format that its text is, or has in it.

    A model that was tuned in a bundled format keeps that text as its own, perhaps with settings around it. Its stops
    and blanks are then those it was tuned with.
    """
    for name in entries():
        ours = registered(name)
        if template.source == ours.source:
            return replace(ours, stop=tuple(dict.fromkeys([*ours.stop, *template.stop])))
        if ours.source.strip() in template.source:
            return replace(ours, source=template.source, name=template.name, bundled=False)
    return template


def is_bundled(name: str) -> bool:
    """Whether `name` is a bundled format's, or an alias of one."""
    return any(name == entry.name or name in entry.aliases for entry in entries().values())


def _named(template: str | Path) -> Template:
    if is_bundled(str(template)):
        return registered(str(template))
    path = Path(template)
    if isinstance(template, Path) or path.suffix in (".jinja", ".jinja2", ".txt") or path.is_file():
        return Template(_read(path, MAX_SOURCE * 4), path.name)
    return registered(str(template))


def _from_folder(folder: Path, variant: str | None) -> Template | None:
    config = _config(folder / "tokenizer_config.json")
    stop = _stop(config)
    name = "chat_template.jinja" if variant in (None, "default") else f"additional_chat_templates/{variant}.jinja"
    if (folder / name).exists():
        return recognised(Template(_read(folder / name, MAX_SOURCE * 4), name, stop=stop))
    for file, holder in (("tokenizer_config.json", config), ("chat_template.json", None)):
        found = _from_config(_config(folder / file) if holder is None else holder, file, variant, stop)
        if found is not None:
            return found
    return None


def _from_config(
    config: Mapping[str, Any], file: str, variant: str | None, stop: tuple[str, ...] | None = None
) -> Template | None:
    """The template in a parsed configuration: a string, or a list of {name, template}."""
    value = config.get("chat_template")
    stop = _stop(config) if stop is None else stop
    if value is None or value == []:
        return None
    if isinstance(value, str):
        if variant not in (None, "default"):
            raise TemplateError(f"{file} has one chat template, not one called {variant!r}")
        return Template(value, f"{file}: chat_template", stop=stop)
    if not isinstance(value, list) or not all(_is_named_template(item) for item in value):
        raise TemplateError(f"chat_template in {file} is not text", expected="a string, or a list of {name, template}")
    named = {item["name"]: item["template"] for item in value}
    wanted = variant or ("default" if "default" in named else next(iter(named)) if len(named) == 1 else None)
    if wanted not in named:
        raise TemplateError(
            f"{file} has no chat template called {wanted!r}", expected=f"one of {', '.join(sorted(named))}"
        )
    return Template(named[wanted], f"{file}: chat_template {wanted!r}", stop=stop)


def _is_named_template(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("template"), str)


def _stop(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The end-of-text token that a tokenizer_config.json names, as a string or as a token object."""
    token = config.get("eos_token")
    text = token.get("content") if isinstance(token, Mapping) else token
    return (text,) if isinstance(text, str) and text else ()


def _config(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return as_json(read_bytes(path, MAX_CONFIG), str(path))
    except TokenizerError as error:
        raise TemplateError(error.what, expected=error.expected, fix=error.fix) from None


def _read(path: Path, limit: int) -> str:
    try:
        if not path.is_file():  # a pipe would be waited for, for ever
            kind = "a folder" if path.is_dir() else "not a regular file" if path.exists() else "missing"
            raise TemplateError(f"{path} is {kind}", expected="a text file")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise TemplateError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the name
        raise TemplateError(f"{str(path)!r} is not a file name: {error}") from None
    if len(content) > limit:
        raise TemplateError(f"{path} is too large", expected=f"at most {limit} bytes")
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise TemplateError(f"{path} is not UTF-8 text: byte {error.start} cannot be read") from None
