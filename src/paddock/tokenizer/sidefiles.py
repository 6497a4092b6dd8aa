"""The small files beside a vocabulary that say which tokens are special and what is put around a text.

`tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, as transformers writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from paddock.errors import TokenizerError
from paddock.tokenizer.files import MAX_PIECE, MAX_PIECES, read_json
from paddock.tokenizer.specials import MARKER, ROLES, Added, Special, Wrapping, usual_roles

NAMES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


@dataclass(frozen=True)
class SideFiles:
    """The parsed side files; an absent one is an empty mapping."""

    config: Mapping[str, Any] = field(default_factory=dict)
    special_map: Mapping[str, Any] = field(default_factory=dict)
    added: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def beside(cls, folder: Path) -> SideFiles:
        found = [read_json(folder / name) if (folder / name).exists() else {} for name in NAMES]
        return cls(*found)

    def files(self) -> dict[str, bytes]:
        """The side files that say anything, by name, as bytes."""
        values = zip(NAMES, (self.config, self.special_map, self.added), strict=True)
        return {name: json.dumps(dict(value), ensure_ascii=False, indent=2).encode() for name, value in values if value}

    def described(self, special: Special, name: str = "PreTrainedTokenizerFast") -> SideFiles:
        """The same; where there is no tokenizer_config.json, with one that holds what was found without it."""
        if self.config:
            return self
        spelled = {id: text for text, id in special.controls.items()}
        config: dict[str, Any] = {f"{role}_token": spelled[id] for role, id in special.roles.items()}
        return replace(self, config={"tokenizer_class": name, **config})

    @property
    def tokenizer_class(self) -> str:
        """The class the folder names, without transformers' old "Fast" ending; empty when it names none."""
        name = self.config.get("tokenizer_class")
        return name.removesuffix("Fast") if isinstance(name, str) else ""

    def flag(self, name: str) -> bool | None:
        """A true/false setting of tokenizer_config.json, None where it is absent or null."""
        value = self.config.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise TokenizerError(f"tokenizer_config.json: {name} is {value!r}", expected="true or false")

    def role_texts(self) -> dict[str, str]:
        """The spelling of each role that a file names; tokenizer_config.json goes before special_tokens_map.json."""
        texts = {}
        for role in ROLES:
            for source in (self.config, self.special_map):
                text = spelling(source.get(f"{role}_token"))
                if text:
                    texts[role] = text
                    break
        return texts

    def additional(self) -> list[str]:
        """Spellings of further control tokens."""
        texts: list[str] = []
        for source in (self.config, self.special_map):
            for key in ("additional_special_tokens", "extra_special_tokens"):
                value = source.get(key) or ()
                entries: Iterable[Any] = value.values() if isinstance(value, dict) else value
                if not isinstance(value, (list, tuple, dict)):
                    raise TokenizerError(f"{key} is {type(value).__name__}", expected="a list")
                texts += [text for entry in entries if (text := spelling(entry))]
        return texts

    def declared(self) -> list[Added]:
        """Added tokens with their ids: `added_tokens_decoder` of tokenizer_config.json, then added_tokens.json."""
        table = self.config.get("added_tokens_decoder") or {}
        if not isinstance(table, dict) or len(table) > MAX_PIECES:
            raise TokenizerError("tokenizer_config.json: added_tokens_decoder is not a mapping of ids to tokens")
        tokens = [parse_added(entry, id, "tokenizer_config.json") for id, entry in table.items()]
        known = {token.text for token in tokens}
        controls = {*self.role_texts().values(), *self.additional()}
        for text, id in self.added.items():
            if text not in known:
                control = text in controls or bool(MARKER.match(text))
                tokens.append(Added(as_id(id, "added_tokens.json"), text, control))
        return tokens


def spelling(entry: Any) -> str | None:
    """The text of a token given as a string or as an object with `content`."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) and entry else None


def as_id(value: Any, name: str) -> int:
    """A token id from JSON, where keys are strings of digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_PIECES:
        raise TokenizerError(f"{name}: {str(value)[:40]!r} is no token id", expected=f"0 to {MAX_PIECES - 1}")
    return value


def parse_added(entry: Any, id: Any, name: str) -> Added:
    """One entry of `added_tokens` or `added_tokens_decoder`."""
    text = spelling(entry)
    if not isinstance(entry, dict) or text is None or len(text) > MAX_PIECE:
        raise TokenizerError(f"{name}: added token {str(id)[:40]!r} has no spelling", expected="content: a string")
    control = entry.get("special") is True or bool(MARKER.match(text))
    strips = [entry.get(key) is True for key in ("lstrip", "rstrip", "single_word")]
    return Added(as_id(id, name), text, control, *strips)


def resolve(
    ids: Mapping[str, int], added: Iterable[Added], side: SideFiles, wrapping: Wrapping, roles: Mapping[str, int]
) -> Special:
    """Puts together what the files say about control tokens.

    `ids`: every spelling of the vocabulary; `wrapping` and `roles`: what the vocabulary itself says. A named role that
    the vocabulary lacks is dropped, as transformers keeps such names (an unused `<pad>`, say) in its files. Roles are
    guessed from usual spellings only where neither says anything.
    """
    texts = side.role_texts()
    named = {role: ids[text] for role, text in texts.items() if text in ids}
    controls = {token.text: token.id for token in added if token.control}
    if not texts and not roles:
        named = usual_roles(ids)
    merged = {**roles, **named}
    spell = {id: text for text, id in ids.items()}
    controls |= {text: ids[text] for text in side.additional() if text in ids}
    controls |= {spell[id]: id for id in merged.values() if id in spell}
    ends = (merged["eos"],) if "eos" in merged else ()
    return Special(merged, controls, ends, _flagged(side, wrapping, merged))


def _flagged(side: SideFiles, wrapping: Wrapping, roles: Mapping[str, int]) -> Wrapping:
    """`add_bos_token` and `add_eos_token`, where a file sets either, replace what the vocabulary says."""
    bos, eos = side.flag("add_bos_token"), side.flag("add_eos_token")
    if bos is None and eos is None:
        return wrapping
    before = (roles["bos"],) if bos and "bos" in roles else ()
    after = (roles["eos"],) if eos and "eos" in roles else ()
    return Wrapping(before, after)
