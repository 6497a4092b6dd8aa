"""`paddock show`: one model, from its descriptions alone."""

from __future__ import annotations

import sys
from typing import Any

from paddock.catalog.weighing import Weights, files_of, stored_as, weigh
from paddock.checkpoint.checkpoint import Checkpoint, open_checkpoint
from paddock.cli import adapterprint, output
from paddock.cli.cardprint import card_text
from paddock.cli.options import Loading
from paddock.cli.parityprint import parity_text
from paddock.cli.valueprint import value_record, value_text
from paddock.cli.vouching import Finding, Licence, licence, template_health, tokenizer_health
from paddock.engine.adapted import is_adapter
from paddock.engine.defaults import published_defaults
from paddock.engine.locate import locate
from paddock.engine.opening import Beside
from paddock.engine.parity_card import Parity
from paddock.engine.parity_card import read as read_parity
from paddock.errors import PaddockError
from paddock.quantize.card import Card
from paddock.quantize.card import read as read_card
from paddock.tokenizer import Tokenizer
from paddock.tokenizer.template import Template

HARMLESS_DEFAULTS = {"transformers_version", "_from_model_config"}


class Facts:
    """All that is known of a checkpoint without its weights. What is broken beside them becomes a finding."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.weights: Weights = weigh(checkpoint)
        self.side = Beside.of(checkpoint)
        self.findings: list[Finding] = []
        self.tokenizer: Tokenizer | None = self._tokenizer()
        self.template: Template | None = self._template()
        self.licence: Licence = licence(checkpoint, self.side.metadata)
        self.defaults = published_defaults(checkpoint.generation, checkpoint.config)
        self.card: Card | None = self._card()
        self.parity: Parity | None = self._parity()
        if self.weights.missing:
            text = f"{len(self.weights.missing)} tensors are missing: {', '.join(self.weights.missing[:4])}"
            self.findings.append(Finding("fail", "weights", text, "download or copy the model's files again"))

    def _tokenizer(self) -> Tokenizer | None:
        try:
            found = self.side.tokenizer(None)
        except PaddockError as error:
            self.findings.append(Finding("fail", "tokenizer", error.what, error.fix))
            return None
        if not isinstance(found, Tokenizer):
            self.findings.append(Finding("warn", "tokenizer", "there is none", "name one with --tokenizer PATH"))
            return None
        self.findings += tokenizer_health(found, self.checkpoint.architecture, dict(self.checkpoint.config))
        return found

    def _template(self) -> Template | None:
        try:
            found = self.side.template(None)
        except PaddockError as error:
            self.findings.append(Finding("fail", "template", error.what, error.fix))
            return None
        if found is not None:
            self.findings += template_health(found, self.tokenizer)
        return found

    def _card(self) -> Card | None:
        try:
            return read_card(self.checkpoint.path, self.side.metadata)
        except PaddockError as error:
            self.findings.append(Finding("warn", "quality card", error.what, "quantise the model again"))
            return None

    def _parity(self) -> Parity | None:
        try:
            return read_parity(self.checkpoint.path, self.side.metadata)
        except PaddockError as error:
            self.findings.append(
                Finding("warn", "parity card", error.what, "`paddock parity` compares two models anew")
            )
            return None

    @property
    def cache_at_context(self) -> int | None:
        context = self.checkpoint.architecture.context
        return self.weights.cache_bytes_per_token * context if context is not None else None


def show(asked: Loading, json: bool) -> None:
    path = locate(asked.model)
    if is_adapter(path):
        told = adapterprint.record(path)
        output.as_json(told) if json else output.result(adapterprint.text(told), end="")
        return
    facts = Facts(open_checkpoint(path, asked.ignore_config))
    if json:
        output.as_json(_record(facts))
        return
    for part in (_head, _quality, _parity, _architecture, _parameters, _memory, _text, _defaults, _health):
        if text := part(facts):
            output.painted_result(text)


def _head(facts: Facts) -> str:
    checkpoint, weights = facts.checkpoint, facts.weights
    files = files_of(checkpoint)
    types = ", ".join(f"{count} {name}" for name, count in stored_as(checkpoint).items())
    rows = [
        ["model", checkpoint.path.name],
        ["path", output.shown_path(checkpoint.path)],
        ["family", checkpoint.architecture.family],
        ["parameters", output.number(weights.parameters) + _active(weights)],
        ["stored as", f"{checkpoint.kind}, {output.size(sum(files.values()))}, tensors: {types}"],
        ["licence", _licence(facts.licence)],
    ]
    return output.table(rows) + "\n"


def _active(weights: Weights) -> str:
    return "" if weights.active == weights.parameters else f", {output.number(weights.active)} of them for each token"


def _licence(found: Licence) -> str:
    return "not stated" if found.name is None else f"{found.name} ({found.source})"


def _quality(facts: Facts) -> str:
    return "" if facts.card is None else _heading("quality") + card_text(facts.card) + "\n"


def _parity(facts: Facts) -> str:
    return "" if facts.parity is None else _heading("parity") + parity_text(facts.parity) + "\n"


def _architecture(facts: Facts) -> str:
    return _heading("architecture") + value_text(facts.checkpoint.architecture) + "\n"


def _parameters(facts: Facts) -> str:
    total = facts.weights.parameters or 1
    rows = [
        [
            part.name,
            f"{part.tensors}",
            f"{part.parameters:,}",
            f"{part.parameters / total:.1%}",
            output.size(part.bytes),
        ]
        for part in facts.weights.parts
    ]
    tensors = sum(part.tensors for part in facts.weights.parts)
    rows.append(["total", f"{tensors}", f"{facts.weights.parameters:,}", "", output.size(facts.weights.bytes)])
    header = ("part", "tensors", "parameters", "share", "bytes")
    return _heading("parameters") + output.table(rows, header, right=(1, 2, 3, 4)) + "\n"


def _memory(facts: Facts) -> str:
    weights, context = facts.weights, facts.checkpoint.architecture.context
    types = ", ".join(f"{output.size(count)} {name}" for name, count in weights.dtypes.items())
    if facts.checkpoint.quantised:
        types += ", expanded; native kernels keep the codes, which take about what the files do"
    rows = [["weights", output.size(weights.bytes), types]]
    if weights.cache_bytes_per_token:
        rows.append(["cache, per token", output.size(weights.cache_bytes_per_token), "keys and values of all layers"])
        if facts.cache_at_context is not None:
            rows.append(["cache, full", output.size(facts.cache_at_context), f"one text of {context:,} tokens"])
            rows.append(["together", output.size(weights.bytes + facts.cache_at_context), "activations not counted"])
    return _heading("memory") + output.table(rows, right=(1,)) + "\n"


def _text(facts: Facts) -> str:
    rows = []
    if (tokenizer := facts.tokenizer) is not None:
        specials = ", ".join(f"{name} {id}" for name, id in list(tokenizer.specials.items())[:8])
        more = len(tokenizer.specials) - 8
        rows = [
            ["tokenizer", f"{tokenizer.kind}, {len(tokenizer):,} pieces, from {tokenizer.source}"],
            ["control tokens", (specials or "none") + (f" and {more} more" if more > 0 else "")],
            ["around a text", f"{_pieces(tokenizer, tokenizer.before)} ... {_pieces(tokenizer, tokenizer.after)}"],
            ["ends a text", _pieces(tokenizer, tokenizer.eos_ids)],
        ]
    template = facts.template
    rows.append(
        ["chat template", "none" if template is None else f"{template.name}, {len(template.source):,} characters"]
    )
    return _heading("text") + output.table(rows) + "\n"


def _pieces(tokenizer: Tokenizer, ids: tuple[int, ...]) -> str:
    return " ".join(map(tokenizer.piece, ids)) or "nothing"


def _defaults(facts: Facts) -> str:
    rows = [[name, str(value)] for name, value in _told(facts).items()] or [["none published", ""]]
    return _heading("generation defaults") + output.table(rows) + "\n"


def _told(facts: Facts) -> dict[str, Any]:
    return {n: v for n, v in facts.defaults.items() if v is not None and n not in HARMLESS_DEFAULTS}


def _health(facts: Facts) -> str:
    return _heading("health") + output.findings_text(facts.findings)


def _heading(text: str) -> str:
    return output.painted(text, "1", output.coloured(sys.stdout)) + "\n"


def _record(facts: Facts) -> dict[str, Any]:
    checkpoint, weights, tokenizer, template = facts.checkpoint, facts.weights, facts.tokenizer, facts.template
    return {
        "name": checkpoint.path.name,
        "path": str(checkpoint.path),
        "kind": checkpoint.kind,
        "files": files_of(checkpoint),
        "stored_as": stored_as(checkpoint),
        "family": checkpoint.architecture.family,
        "architecture": value_record(checkpoint.architecture),
        "parameters": {"total": weights.parameters, "active": weights.active, "parts": weights.parts},
        "memory": {
            "weights_bytes": weights.bytes,
            "dtypes": weights.dtypes,
            "cache_bytes_per_token": weights.cache_bytes_per_token,
            "cache_bytes_at_context": facts.cache_at_context,
            "context": checkpoint.architecture.context,
        },
        "tokenizer": tokenizer
        and {
            "kind": tokenizer.kind,
            "source": tokenizer.source,
            "pieces": len(tokenizer),
            "specials": tokenizer.specials,
            "before": tokenizer.before,
            "after": tokenizer.after,
            "ends": tokenizer.eos_ids,
        },
        "template": template and {"name": template.name, "stop": template.stop, "source": template.source},
        "generation": facts.defaults,
        "licence": facts.licence,
        "quality": facts.card,
        "parity": facts.parity,
        "health": facts.findings,
    }
