"""How a model's token vectors become one vector per text, as its sentence-transformers files say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from paddock.checkpoint import jsonfile
from paddock.errors import CheckpointError, UnsupportedError

Mode = Literal["mean", "cls", "max", "last"]

# Spellings of sentence-transformers: one flag per mode until version 5, one word since.
FLAGS: dict[str, Mode] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
WORDS: dict[str, Mode] = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last"}
MODULES, MAX_MODULES = "modules.json", 2**16
PROMPTS, LIMITS = "config_sentence_transformers.json", "sentence_bert_config.json"


@dataclass(frozen=True)
class Pooling:
    """mode: over a text's real tokens, [CLS] and [SEP] included. normalise: to length 1. limit: most tokens of a text
    it was made for, None for the model's context. prefix: text put before each text. origin: where this was read.
    stored: the files it was read from, by their path in the folder."""

    mode: Mode = "mean"
    normalise: bool = True
    limit: int | None = None
    prefix: str = ""
    lower: bool = False
    origin: str = "default"
    stored: Mapping[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    def files(self) -> dict[str, bytes]:
        """The files, by name, that make a folder this pooling is read from again; none for the default."""
        return dict(self.stored)

    def __call__(self, hidden: Tensor, real: Tensor) -> Tensor:
        """(texts, tokens, width) with `real` (texts, tokens) bool to (texts, width) float32."""
        vectors, mask = hidden.float(), real.unsqueeze(-1)
        match self.mode:
            case "mean":
                pooled = (vectors * mask).sum(1) / mask.sum(1)
            case "max":
                pooled = vectors.masked_fill(~mask, float("-inf")).amax(1)
            case "cls":
                pooled = vectors[:, 0]
            case "last":
                rows = torch.arange(len(vectors), device=vectors.device)
                pooled = vectors[rows, real.sum(1) - 1]
        return torch.nn.functional.normalize(pooled, dim=-1) if self.normalise else pooled


def read_pooling(folder: Path) -> Pooling:
    """The pooling that a folder's modules.json describes; without one the mean, normalised.

    Raises UnsupportedError for modules or modes that Paddock does not run.
    """
    if not (folder / MODULES).is_file():
        return Pooling()
    kinds = [(str(module.get("type", "")).rsplit(".", 1)[-1], module) for module in _modules(folder / MODULES)]
    names = [kind for kind, _ in kinds]
    if names[:1] != ["Transformer"] or "Pooling" not in names or set(names) - {"Transformer", "Pooling", "Normalize"}:
        raise UnsupportedError(
            f"{MODULES} lists {', '.join(names)[:200] or 'nothing'}",
            expected="Transformer, Pooling and perhaps Normalize",
        )
    place = str(dict(kinds)["Pooling"].get("path", ""))
    if not place or "/" in place or "\\" in place or place.startswith("."):
        raise CheckpointError(f"{MODULES} puts Pooling in {place[:80]!r}", expected="a folder beside it")
    config = jsonfile.read(folder / place / "config.json")
    texts, sentence = _optional(folder / PROMPTS), _optional(folder / LIMITS)
    return Pooling(
        mode=_mode(config),
        normalise="Normalize" in names,
        limit=_limit(sentence.get("max_seq_length")),
        prefix=_prefix(texts),
        lower=sentence.get("do_lower_case") is True,
        origin=MODULES,
        stored=_stored(folder, (MODULES, f"{place}/config.json", PROMPTS, LIMITS)),
    )


def pooling_files(pooling: Pooling, width: int) -> dict[str, bytes]:
    """The files that make a folder this pooling is read from, by their path in it: those it was read from, or the same
    in sentence-transformers' words (its version 2 and later)."""
    if pooling.stored:
        return pooling.files()
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] * pooling.normalise)]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds)
    ]
    flags = {flag: mode == pooling.mode for flag, mode in FLAGS.items()}
    tables: dict[str, Any] = {
        MODULES: modules,
        "1_Pooling/config.json": {"word_embedding_dimension": width, **flags},
        LIMITS: {"max_seq_length": pooling.limit, "do_lower_case": pooling.lower},
    }
    if pooling.prefix:
        tables[PROMPTS] = {"prompts": {"default": pooling.prefix}, "default_prompt_name": "default"}
    return {name: (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode() for name, table in tables.items()}


def _stored(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """As they are: they may say more than is used here, such as prompts that are not the default."""
    try:
        return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from None


def _modules(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > MAX_MODULES:
            raise CheckpointError(f"{path} is too large", expected=f"at most {MAX_MODULES} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise CheckpointError(f"{path} cannot be read as text") from None
    modules = jsonfile.parse(f'{{"modules": {text}}}'.encode(), MODULES)["modules"]  # the reader takes objects only
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{MODULES} is not a list of modules")
    return modules


def _optional(path: Path) -> dict[str, Any]:
    return jsonfile.read(path) if path.is_file() else {}


def _mode(config: dict[str, Any]) -> Mode:
    named = config.get("pooling_mode")
    chosen = [named] if isinstance(named, str) else named
    if chosen is None:
        chosen = [flag for flag, on in config.items() if flag.startswith("pooling_mode_") and on]
    if not isinstance(chosen, list) or len(chosen) != 1 or chosen[0] not in FLAGS | WORDS:
        raise UnsupportedError(f"the pooling is {str(chosen)[:120]}", expected="one of " + ", ".join(WORDS))
    return (FLAGS | WORDS)[chosen[0]]


def _limit(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise CheckpointError(f"{LIMITS}: max_seq_length is {value!r}", expected="a whole number")
    return value


def _prefix(config: dict[str, Any]) -> str:
    name, prompts = config.get("default_prompt_name"), config.get("prompts") or {}
    if name is None:
        return ""
    if not isinstance(prompts, dict) or not isinstance(prompts.get(name), str):
        raise CheckpointError(f"{PROMPTS} has no prompt {str(name)[:80]!r}")
    return str(prompts[name])
